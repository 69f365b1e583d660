//! Early data, and proof of the client's address: servers that the examples are not.

use super::passes;
use http::{Request, Response};
use quinn::{Endpoint, crypto::rustls::QuicServerConfig};
use std::{convert::Infallible, sync::Arc};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};
use tokio_rustls::rustls::{ServerConfig, pki_types::PrivateKeyDer};
use tower::{Layer as _, service_fn};
use tower_upgrade::{
    Session, UpgradeLayer, copy, handler_fn,
    http3::{Body, Builder, transport_config},
};

fn endpoint() -> Endpoint {
    let generated = rcgen::generate_simple_self_signed(["127.0.0.1".into()]).expect("a name");
    let key = PrivateKeyDer::try_from(generated.signing_key.serialize_der()).expect("a key");
    let mut tls = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![generated.cert.der().clone()], key)
        .expect("the key of the certificate");
    tls.alpn_protocols = vec![b"h3".to_vec()];
    tls.max_early_data_size = u32::MAX;
    let tls = QuicServerConfig::try_from(tls).expect("TLS 1.3");
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(tls));
    config.transport_config(Arc::new(transport_config()));
    let address = "127.0.0.1:0".parse().expect("an address");
    Endpoint::server(config, address).expect("a free port")
}

/// Accepts connections before their handshakes complete. With `retry`, clients must prove their address.
async fn serve(endpoint: Endpoint, retry: bool) {
    let echo = handler_fn(|session: Session| async move {
        let (mut reader, mut writer) = tokio::io::split(session.into_io());
        copy(&mut reader, &mut writer).await?;
        writer.shutdown().await?;
        Ok(())
    });
    let app = UpgradeLayer::new()
        .protocol("echo", echo.clone())
        .connect(echo)
        .layer(service_fn(notify));
    while let Some(incoming) = endpoint.accept().await {
        if retry && !incoming.remote_address_validated() {
            incoming.retry().expect("a client without a token");
            continue;
        }
        let connecting = incoming.accept().expect("a valid handshake");
        let (connection, _) = connecting.into_0rtt().expect("a server");
        tokio::spawn(Builder::new().serve_connection(connection, app.clone()));
    }
}

/// Connects to the port in the path, so that the client sees that the request was served.
async fn notify(request: Request<Body>) -> Result<Response<String>, Infallible> {
    let port = request.uri().path()[1..].parse().expect("a port");
    TcpStream::connect(("127.0.0.1", port))
        .await
        .expect("the client listens");
    Ok(Response::new(String::new()))
}

async fn case_passes(argument: &str, case: &str) {
    let endpoint = endpoint();
    let port = endpoint.local_addr().expect("bound").port().to_string();
    let server = tokio::spawn(serve(endpoint, argument == "retry"));
    passes("handshakes.py", &[argument, &port], &[case]).await;
    server.abort();
}

/// RFC 8470: an attacker can replay a request in 0-RTT.
#[tokio::test]
async fn e8_connect_in_early_data_gets_425() {
    case_passes("early", "early_data").await;
}

#[tokio::test]
async fn e8_client_that_proved_its_address_is_served() {
    case_passes("retry", "retry").await;
}
