//! Upgrades a plain HTTP connection to TLS (RFC 2817), then to another protocol within TLS.
//!
//! ```sh
//! cargo run --features client --example starttls
//! ```
//!
//! Server and client run in one program, which prints each step, exits when done, and fails on an unexpected result.

use axum::serve::ListenerExt as _;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{rt::TokioExecutor, server::conn::auto, service::TowerToHyperService};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{
        AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _,
        BufReader,
    },
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::{
    TlsAcceptor, TlsConnector,
    rustls::{ClientConfig, RootCertStore, ServerConfig, pki_types::PrivateKeyDer},
};
use tower::{Layer as _, Service as _, ServiceExt as _};
use tower_upgrade::{
    Accept, BoxError, Protocol, ProtocolHandler, Rejection, Session, UpgradeLayer, UpgradeRequest,
    Upgraded, UpgradedParts, client, copy, handler_fn,
};

/// The protocol name in `Upgrade`. The TLS handshake negotiates the version.
const TLS: &str = "TLS/1.0";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    let (acceptor, connector) = tls()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(serve(listener, acceptor));

    // The certificate is for `localhost`.
    let uri = format!("http://localhost:{port}/account").parse()?;
    let io = TcpStream::connect(("127.0.0.1", port)).await?;
    visit(uri, io, connector).await
}

// ---- The server ---------------------------------------------------------------------------------

async fn serve(listener: TcpListener, acceptor: TlsAcceptor) -> std::io::Result<()> {
    // A leaf service: requests without an upgrade to TLS get 426 (RFC 2817 §4.2).
    let account = UpgradeLayer::new().protocol(TLS, StartTls { acceptor });
    let app = axum::Router::new().route_service("/account", account.into_service());
    // Otherwise each small write may wait 40 ms for the acknowledgement of the previous one.
    let listener = listener.tap_io(|tcp| drop(tcp.set_nodelay(true)));
    axum::serve(listener, app).await
}

/// Returns the service within TLS.
fn secure() -> axum::Router {
    let echo = handler_fn(|session: Session| async move {
        println!("server: an echo session, within TLS");
        let (mut reader, mut writer) = tokio::io::split(session.into_io());
        copy(&mut reader, &mut writer).await?;
        Ok(())
    });
    axum::Router::new()
        .route("/account", axum::routing::get(async || "a secret"))
        .layer(UpgradeLayer::new().protocol("echo", echo))
}

struct StartTls {
    acceptor: TlsAcceptor,
}

impl ProtocolHandler for StartTls {
    async fn accept(&self, request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        if request.method() != Method::GET {
            let rejection =
                Rejection::new(StatusCode::METHOD_NOT_ALLOWED, "upgrade to TLS with GET");
            return Err(rejection.header(header::ALLOW, HeaderValue::from_static("GET")));
        }
        let first = as_first_request(request);
        let acceptor = self.acceptor.clone();
        Ok(Accept::new(move |session: Session| async move {
            // Detach the IO from this session, which ends with this future: the `echo` session within TLS outlives it.
            let io = Upgraded::from_parts(session.into_io().into_parts());
            let io = timeout(Duration::from_secs(10), acceptor.accept(io)).await??;
            println!("server: the TLS handshake is complete");
            // The first response within TLS answers the upgrade request (RFC 2817 §3.3).
            let io = Upgraded::from_parts(UpgradedParts::new(io, first));
            let service = TowerToHyperService::new(secure());
            auto::Builder::new(TokioExecutor::new())
                .serve_connection_with_upgrades(io, service)
                .await
        }))
    }
}

/// Serializes the head of the upgrade request for the server within TLS. Omits the headers for the plain connection,
/// and those for the body, which the layer has already dropped.
fn as_first_request(request: &UpgradeRequest) -> Bytes {
    let mut head = format!("{} {} HTTP/1.1\r\n", request.method(), request.uri()).into_bytes();
    for (name, value) in request.headers() {
        let is_for_plain_connection = [
            header::CONNECTION,
            header::CONTENT_LENGTH,
            header::EXPECT,
            header::TRANSFER_ENCODING,
            header::UPGRADE,
        ]
        .contains(name);
        if !is_for_plain_connection {
            let line = [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"];
            head.extend(line.concat());
        }
    }
    head.extend(b"\r\n");
    head.into()
}

// ---- The client ---------------------------------------------------------------------------------

async fn visit(uri: Uri, io: TcpStream, connector: TlsConnector) -> Result<(), BoxError> {
    let mut clear = client::Http1::handshake(io).await?;
    println!("client: GET {uri}");
    let (status, upgrade, body) = get(&mut clear, &uri).await?;
    println!("client: {status}, Upgrade: {upgrade:?}, {body:?}");
    check(status == StatusCode::UPGRADE_REQUIRED && upgrade == TLS)?;

    // This request must not contain secrets: it goes to an unauthenticated server, in the clear.
    println!("client: the same, with Upgrade: {TLS}");
    let request = client::Request::get(uri.clone()).protocol(TLS);
    let mut client = client::UpgradeLayer::new().layer(clear);
    let session = client.ready().await?.call(request).await?;
    let chosen = session.protocol().map(Protocol::to_string);
    println!("client: 101, Upgrade: {:?}", chosen.unwrap_or_default());

    let name = uri.host().unwrap_or_default().to_owned().try_into()?;
    let mut io = connector.connect(name, session.into_io()).await?;
    let version = io.get_ref().1.protocol_version().ok_or("no TLS")?;
    println!("client: {version:?}, and the certificate is trusted");
    let body = first_response(&mut io).await?;
    println!("client: the response to the upgrade request is {body:?}");
    check(body == "a secret")?;

    // From here on, an ordinary HTTP connection.
    let mut secure = client::Http1::handshake(io).await?;
    println!("client: GET {} within TLS", uri.path());
    let (status, _, body) = get(&mut secure, &uri).await?;
    println!("client: {status}, {body:?}");
    check(status == StatusCode::OK && body == "a secret")?;

    println!("client: the same, with Upgrade: echo");
    let request = client::Request::get(uri).protocol("echo");
    let mut client = client::UpgradeLayer::new().layer(secure);
    let session = client.ready().await?.call(request).await?;
    talk(session.into_io()).await
}

/// Returns the status, the `Upgrade` header and the body.
async fn get(
    http: &mut client::Http1,
    uri: &Uri,
) -> Result<(StatusCode, String, String), BoxError> {
    let request = Request::get(uri).body(Full::default())?;
    let (head, body) = http.ready().await?.call(request).await?.into_parts();
    let upgrade = head.headers.get(header::UPGRADE);
    let upgrade = upgrade.map_or(Ok(""), HeaderValue::to_str)?.to_owned();
    let body = body.collect().await?.to_bytes().to_vec();
    Ok((head.status, upgrade, String::from_utf8(body)?))
}

/// Reads the response to the upgrade request and returns its body. hyper has not sent that request on this connection,
/// so it cannot read the response.
async fn first_response(io: impl AsyncRead + Unpin) -> Result<String, BoxError> {
    // The buffer reads no data beyond this response: the server sends the next one only on request.
    let mut io = BufReader::new(io).take(8 * 1024);
    let mut line = String::new();
    io.read_line(&mut line).await?;
    check(line == "HTTP/1.1 200 OK\r\n")?;
    let mut length = 0;
    while line != "\r\n" {
        line.clear();
        check(io.read_line(&mut line).await? > 0)?;
        if let Some(("content-length", value)) = line.to_lowercase().split_once(": ") {
            length = value.trim().parse()?;
        }
    }
    let mut body = vec![0; length];
    io.read_exact(&mut body).await?;
    Ok(String::from_utf8(body)?)
}

async fn talk(mut io: impl AsyncRead + AsyncWrite + Unpin) -> Result<(), BoxError> {
    io.write_all(b"hello").await?;
    io.shutdown().await?;
    let mut answer = String::new();
    // Fails if the server closes the connection without a close_notify.
    io.read_to_string(&mut answer).await?;
    println!("client: the server sent {answer:?}");
    check(answer == "hello")
}

#[track_caller]
fn check(is_as_expected: bool) -> Result<(), BoxError> {
    let caller = std::panic::Location::caller();
    if is_as_expected {
        Ok(())
    } else {
        Err(format!("unexpected result at {caller}").into())
    }
}

// ---- Both ---------------------------------------------------------------------------------------

/// Returns a TLS acceptor with a new certificate, and a connector that trusts only this certificate.
fn tls() -> Result<(TlsAcceptor, TlsConnector), BoxError> {
    let generated = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let certificate = generated.cert.der().clone();
    let key = PrivateKeyDer::try_from(generated.signing_key.serialize_der())?;
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone())?;
    let server = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    let client = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok((Arc::new(server).into(), Arc::new(client).into()))
}
