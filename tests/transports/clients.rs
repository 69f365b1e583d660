//! WebSocket and UDP handlers over each version, with the client side of each.

use crate::support::{Server, Via, h3, plain, soon, tunnel::loopback};
use tokio::net::UdpSocket;
use tower::{Layer as _, Service, service_fn};
use tower_upgrade::{
    UpgradeLayer,
    client::{self, Http1, Http2, Http3},
    datagram::{ConnectUdp, UdpRequest},
    websocket::{CloseFrame, Message, WebSocketRequest, websocket},
};

/// A connected client for each version, of a server with this layer.
enum AnyClient {
    Http1(Http1),
    Http2(Http2),
    Http3(Http3),
}

const VERSIONS: [&str; 3] = ["HTTP/1.1", "HTTP/2", "HTTP/3"];

struct Servers {
    http1: Server,
    http2: Server,
    http3: h3::Server,
}

impl Servers {
    async fn start(layer: UpgradeLayer) -> Self {
        let service = layer.layer(service_fn(plain));
        let http3 = layer.layer(service_fn(plain));
        Self {
            http1: Server::start_via(Via::Http1, service.clone()).await,
            http2: Server::start_via(Via::Http2, service).await,
            http3: h3::Server::start(http3).await,
        }
    }

    async fn client(&self, version: &str) -> AnyClient {
        match version {
            "HTTP/1.1" => {
                let io = self.http1.connect().await.io;
                AnyClient::Http1(soon(Http1::handshake(io)).await.expect("HTTP"))
            }
            "HTTP/2" => {
                let io = self.http2.connect().await.io;
                AnyClient::Http2(soon(Http2::handshake(io)).await.expect("HTTP"))
            }
            _ => AnyClient::Http3(self.http3.client().await),
        }
    }
}

/// Sends messages both ways, and closes.
async fn talk<S>(client: S, version: &str)
where
    S: Service<client::Request, Response = client::Session, Error = client::Error>,
{
    let uri = "ws://test/".parse().expect("a URI");
    let connect = WebSocketRequest::new(uri).connect(client);
    let (mut socket, _) = soon(connect).await.expect(version);
    for length in [0, 1, 100, 100_000] {
        let text = "ü".repeat(length);
        soon(socket.send(Message::text(&*text)))
            .await
            .expect(version);
        let echo = soon(socket.recv())
            .await
            .expect("a message")
            .expect(version);
        assert_eq!(echo, Message::text(text), "{version}");
    }
    soon(socket.close(CloseFrame::new(1000, "")))
        .await
        .expect(version);
}

#[tokio::test]
async fn websocket_handler_serves_every_version() {
    let echo = websocket(|mut socket, _session| async move {
        while let Some(message) = socket.recv().await {
            socket.send(message?).await?;
        }
        Ok(())
    });
    let servers = Servers::start(UpgradeLayer::new().protocol("websocket", echo)).await;
    for version in VERSIONS {
        let layer = client::UpgradeLayer::new();
        match servers.client(version).await {
            AnyClient::Http1(client) => talk(layer.layer(client), version).await,
            AnyClient::Http2(client) => talk(layer.layer(client), version).await,
            AnyClient::Http3(client) => talk(layer.layer(client), version).await,
        }
    }
}

/// Sends datagrams both ways.
async fn ping<S>(client: S, target: &UdpSocket, version: &str)
where
    S: Service<client::Request, Response = client::Session, Error = client::Error>,
{
    let address = target.local_addr().expect("bound").to_string();
    let proxy = "https://test/".parse().expect("a URI");
    let request = UdpRequest::new(proxy, address.parse().expect("an authority"));
    let (mut udp, _) = soon(request.connect(client)).await.expect(version);
    for length in [0, 1, 1000] {
        soon(udp.send(vec![7; length].into())).await.expect(version);
        let mut received = [0; 2000];
        let (size, from) = soon(target.recv_from(&mut received))
            .await
            .expect("a datagram");
        assert_eq!(size, length, "{version}");
        target.send_to(&received[..size], from).await.expect("sent");
        let echo = soon(udp.recv()).await.expect("a datagram").expect(version);
        assert_eq!(echo, vec![7; length], "{version}");
    }
    soon(udp.close()).await.expect(version);
}

#[tokio::test]
async fn d6_connect_udp_serves_every_version() {
    let target = UdpSocket::bind("127.0.0.1:0").await.expect("loopback");
    let policy = loopback(target.local_addr().expect("bound").port());
    let layer = UpgradeLayer::new().protocol("connect-udp", ConnectUdp::new(policy));
    let servers = Servers::start(layer).await;
    for version in VERSIONS {
        let layer = client::UpgradeLayer::new();
        match servers.client(version).await {
            AnyClient::Http1(client) => ping(layer.layer(client), &target, version).await,
            AnyClient::Http2(client) => ping(layer.layer(client), &target, version).await,
            AnyClient::Http3(client) => ping(layer.layer(client), &target, version).await,
        }
    }
}
