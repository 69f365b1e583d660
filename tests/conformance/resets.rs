//! S10: a reset on one side of a proxy is a reset on the other, with a boxed TCP or TLS connection on either.

use crate::{
    connect::connect_to,
    support::{
        Peer, Server, Via, clients::Scripted, offer, plain, soon, tls::Tls, tunnel::loopback,
    },
};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use std::io;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tower::{Layer as _, service_fn};
use tower_upgrade::{
    BoxIo, UpgradeLayer,
    client::Dial,
    tunnel::{ConnectProxy, ReverseProxy},
};

const VERSIONS: [Via; 2] = [Via::Http1, Via::Auto];

/// A server that boxes each connection, with or without TLS.
async fn serve(via: Via, tls: Option<&Tls>, layer: UpgradeLayer) -> Server {
    let acceptor = tls.map(|tls| tls.acceptor.clone());
    Server::start_with(via, layer.layer(service_fn(plain)), move |tcp| {
        let acceptor = acceptor.clone();
        async move {
            Ok(match acceptor {
                Some(tls) => BoxIo::over(tls.accept(tcp).await?, |tls| tls.get_ref().0),
                None => BoxIo::new(tcp),
            })
        }
    })
    .await
}

/// Opens a client connection whose request gets this status. Returns its TCP socket, also for TLS.
async fn ask(server: &Server, tls: Option<&Tls>, request: &str, status: u16) -> TcpStream {
    let mut tcp = server.connect().await;
    let Some(tls) = tls else {
        tcp.send(request).await;
        assert_eq!(tcp.head().await.status, status);
        assert_eq!(tcp.unread(), b"");
        return tcp.io;
    };
    let mut peer = tls.connect(tcp).await;
    peer.send(request).await;
    assert_eq!(peer.head().await.status, status);
    peer.io.into_inner().0
}

/// Sends `DATA`, and resets the connection.
async fn send_and_reset(mut io: TcpStream) {
    io.write_all(b"DATA").await.expect("the proxy reads");
    reset(io);
}

fn reset(io: TcpStream) {
    io.set_zero_linger().expect("a socket");
}

/// Reads to the reset.
#[track_caller]
fn expect_reset(mut io: TcpStream) -> impl Future<Output = Vec<u8>> {
    let reading = soon(async move {
        let mut received = Vec::new();
        let end = io.read_to_end(&mut received).await;
        (end.map_err(|error| error.kind()), received)
    });
    async {
        let (end, received) = reading.await;
        assert_eq!(end, Err(io::ErrorKind::ConnectionReset));
        received
    }
}

/// A tunnel through a `ConnectProxy`: the client's TCP socket and the target's.
async fn tunnel(via: Via, tls: Option<&Tls>) -> (Server, TcpStream, TcpStream) {
    let target = Scripted::start().await;
    let proxy = ConnectProxy::new(loopback(target.address.port()));
    let server = serve(via, tls, UpgradeLayer::new().connect(proxy)).await;
    let request = connect_to(&target.address.to_string(), &[]);
    let client = ask(&server, tls, &request, 200).await;
    let target = target.accept().await;
    (server, client, target.io)
}

#[tokio::test]
async fn s10_reset_by_connect_target_resets_boxed_tcp_client() {
    for via in VERSIONS {
        let (_server, client, target) = tunnel(via, None).await;
        send_and_reset(target).await;
        assert_eq!(expect_reset(client).await, b"DATA");
    }
}

#[tokio::test]
async fn s10_reset_by_connect_target_resets_the_tcp_socket_of_tls_client() {
    let tls = Tls::new();
    for via in VERSIONS {
        let (_server, client, target) = tunnel(via, Some(&tls)).await;
        send_and_reset(target).await;
        expect_reset(client).await;
    }
}

#[tokio::test]
async fn s10_reset_by_client_resets_connect_target() {
    let tls = Tls::new();
    for tls in [None, Some(&tls)] {
        for via in VERSIONS {
            let (_server, client, target) = tunnel(via, tls).await;
            reset(client);
            expect_reset(target).await;
        }
    }
}

fn https(tls: &Tls) -> HttpsConnector<HttpConnector> {
    HttpsConnectorBuilder::new()
        .with_tls_config(tls.client_config())
        .https_or_http()
        .enable_http1()
        .build()
}

fn box_io(io: MaybeHttpsStream<TokioIo<TcpStream>>) -> BoxIo {
    match io {
        MaybeHttpsStream::Http(tcp) => BoxIo::new(tcp.into_inner()),
        MaybeHttpsStream::Https(tls) => {
            BoxIo::over(tls.into_inner(), |tls| tls.get_ref().0.inner().inner())
        }
    }
}

/// A session through a `ReverseProxy`: the client's TCP socket and the backend's.
async fn session(
    client_tls: Option<&Tls>,
    backend_tls: Option<&Tls>,
) -> (Server, TcpStream, TcpStream) {
    let backend = Scripted::start().await;
    let port = backend.address.port();
    let uri = match backend_tls {
        Some(_) => format!("https://localhost:{port}"),
        None => format!("http://{}", backend.address),
    };
    let none = Tls::new();
    let dial = Dial::new(https(backend_tls.unwrap_or(&none)))
        .destination(uri.parse().expect("a URI"))
        .map_io(box_io);
    let proxy = ReverseProxy::new(dial);
    let layer = UpgradeLayer::new().any_protocol(proxy);
    let server = serve(Via::Auto, client_tls, layer).await;
    let at_backend = async {
        let mut tcp = backend.accept().await;
        let switch = "HTTP/1.1 101 Switching Protocols\r\n\
                      Connection: upgrade\r\nUpgrade: chat\r\n\r\n";
        let Some(tls) = backend_tls else {
            tcp.request_head().await;
            tcp.send(switch).await;
            return tcp.io;
        };
        let mut peer = Peer::new(tls.acceptor.accept(tcp.io).await.expect("a handshake"));
        peer.request_head().await;
        peer.send(switch).await;
        peer.io.into_inner().0
    };
    let request = offer("chat", &[]);
    let client = ask(&server, client_tls, &request, 101);
    let (client, at_backend) = soon(async { tokio::join!(client, at_backend) }).await;
    (server, client, at_backend)
}

#[tokio::test]
async fn s10_reset_by_backend_resets_client_of_reverse_proxy() {
    let tls = Tls::new();
    for client_tls in [None, Some(&tls)] {
        for backend_tls in [None, Some(&tls)] {
            let (_server, client, backend) = session(client_tls, backend_tls).await;
            reset(backend);
            expect_reset(client).await;
        }
    }
    let (_server, client, backend) = session(None, None).await;
    send_and_reset(backend).await;
    assert_eq!(expect_reset(client).await, b"DATA");
}

#[tokio::test]
async fn s10_reset_by_client_resets_backend_of_reverse_proxy() {
    let tls = Tls::new();
    for client_tls in [None, Some(&tls)] {
        for backend_tls in [None, Some(&tls)] {
            let (_server, client, backend) = session(client_tls, backend_tls).await;
            reset(client);
            expect_reset(backend).await;
        }
    }
}
