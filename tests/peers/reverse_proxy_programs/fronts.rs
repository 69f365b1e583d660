//! Plain requests and a WebSocket through nginx or HAProxy, the proxy, and Node's server.

use super::{Client, empty, node_server, proxy, unsized_body};
use crate::{
    process::{Example, Script},
    reverse_proxy_chains::front::{self, Balancer, Front},
    support::soon,
};
use bytes::Bytes;
use futures_util::StreamExt as _;
use http_body_util::Full;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::Value;
use tower::Layer as _;
use tower_upgrade::{
    client::{Dial, UpgradeLayer},
    websocket::{CloseFrame, Message, WebSocketRequest},
};

struct Chain {
    balancer: Balancer,
    front: Front,
    client: Client,
    _proxy: Example,
    _server: Script,
}

impl Chain {
    async fn start(balancer: Balancer) -> Self {
        let server = node_server("http1").await;
        let proxy = proxy(&server.url, &["--x-forwarded"]).await;
        let address = proxy.address().parse().expect("an address");
        let front = Front::start(balancer, address).await;
        Self {
            balancer,
            client: Client::new(format!("http://{}", front.address), false),
            front,
            _proxy: proxy,
            _server: server,
        }
    }

    /// Returns the number of the backend's connection that a request arrives on.
    async fn backend_connection(&self) -> u64 {
        let response = self.client.get("/head").await;
        let seen: Value = serde_json::from_str(response.body()).expect("JSON");
        seen["connection"].as_u64().expect("a number")
    }

    /// Sends requests whose path has a prefix, and checks their responses.
    async fn expect_plain_requests(&self, prefix: &str) {
        let balancer = self.balancer;
        let response = self.client.get(&format!("{prefix}/chunked?query")).await;
        assert_eq!(response.status(), 200, "{balancer:?}");
        assert_eq!(response.body(), "one,two,three", "{balancer:?}");
        let missing = self.client.get(&format!("{prefix}/missing")).await;
        assert_eq!(missing.status(), 404, "{balancer:?}");
        assert_eq!(missing.body(), "not found", "{balancer:?}");

        let echo = || self.client.request("POST", &format!("{prefix}/echo"));
        let text = "x".repeat(300_000);
        let request = echo().body(Full::new(Bytes::from(text.clone())));
        let response = self.client.send(request.expect("a request")).await;
        assert!(*response.body() == text, "{balancer:?}");
        let request = echo().body(unsized_body(&["one,", "two"]));
        let response = self.client.send(request.expect("a request")).await;
        assert_eq!(response.body(), "one,two", "{balancer:?}");

        let path = format!("{prefix}/tagged");
        let request = self.client.request("HEAD", &path).body(empty());
        let response = self.client.send(request.expect("a request")).await;
        assert_eq!(response.headers()["content-length"], "6", "{balancer:?}");
    }
}

#[tokio::test]
async fn plain_requests_and_websocket_pass_through_one_chain() {
    for balancer in front::ALL {
        let chain = Chain::start(balancer).await;
        let client = UpgradeLayer::new().layer(Dial::new(HttpConnector::new()));
        let url = format!("ws://{}/", chain.front.address);
        let request = WebSocketRequest::new(url.parse().expect("a URI"));
        let (mut socket, _) = soon(request.connect(client)).await.expect("a socket");
        for length in [5, 100_000] {
            chain.expect_plain_requests("").await;
            let message = Message::binary(vec![7; length]);
            soon(socket.send(message.clone())).await.expect("a socket");
            let echo = soon(socket.next()).await.expect("one").expect("a message");
            assert!(echo == message, "{balancer:?}");
        }
        let closed = soon(socket.close(CloseFrame::new(1000, "bye"))).await;
        closed.expect("an orderly end");
    }
}

/// HTTP/1.0 without keep-alive is the default of nginx before version 1.29.7.
#[tokio::test]
async fn nginx_forwards_with_http_1_0() {
    let chain = Chain::start(Balancer::Nginx).await;
    chain.expect_plain_requests("/http10").await;
}

#[tokio::test]
async fn connections_to_the_backend_are_reused() {
    for balancer in front::ALL {
        let chain = Chain::start(balancer).await;
        let mut last = 0;
        for _ in 0..20 {
            last = last.max(chain.backend_connection().await);
        }
        // A request may arrive before the previous connection is back in the pool.
        assert!(last < 10, "{balancer:?}: {last} connections");
    }
}
