//! `UpgradeRequest::authority` and `port`.

use crate::support::{Server, head, plain};
use tower::{Layer as _, service_fn};
use tower_upgrade::{Accept, ProtocolHandler, Rejection, UpgradeLayer, UpgradeRequest};

/// Rejects every request with its authority and port as the body.
struct Tell;

impl ProtocolHandler for Tell {
    async fn accept(&self, request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        let authority = request.authority()?;
        let told = format!("{authority}, port {:?}", request.port());
        Err(Rejection::new(http::StatusCode::IM_A_TEAPOT, told))
    }
}

async fn ask(target: &str, hosts: &[&str]) -> (u16, String) {
    let layer = UpgradeLayer::new().protocol("tell", Tell);
    let server = Server::start(layer.layer(service_fn(plain))).await;
    let mut peer = server.connect().await;
    let line = format!("GET {target} HTTP/1.1");
    let mut lines = vec![line.as_str(), "Connection: upgrade", "Upgrade: tell"];
    lines.extend(hosts);
    peer.send(head(&lines)).await;
    let (head, body) = peer.response().await;
    (head.status, body)
}

#[tokio::test]
async fn authority_comes_from_host() {
    for (host, told) in [
        ("Host: example.com", "example.com, port None"),
        (
            "Host: example.com:8080",
            "example.com:8080, port Some(8080)",
        ),
        ("Host: [::1]:8080", "[::1]:8080, port Some(8080)"),
        ("Host: example.com:0", "example.com:0, port None"),
    ] {
        assert_eq!(ask("/", &[host]).await, (418, told.to_owned()));
    }
}

#[tokio::test]
async fn target_takes_precedence_over_host() {
    let told = ask("http://example.com:1/x", &["Host: other:2"]).await;
    assert_eq!(told, (418, "example.com:1, port Some(1)".into()));
}

#[tokio::test]
async fn invalid_host_is_answered_400() {
    for hosts in [
        &[][..],
        &["Host:"],
        &["Host: one", "Host: two"],
        &["Host: one", "Host: one"],
        &["Host: a b"],
        &["Host: ann@example.com"],
        &["Host: example.com/path"],
        &["Host: [::1]x"],
        &["Host: [name]"],
        &["Host: :80"],
        &["Host: example.com:+80"],
        &["Host: example.com:http"],
    ] {
        let (status, body) = ask("/", hosts).await;
        assert_eq!(
            (status, body.as_str()),
            (400, "the request has no valid host"),
            "{hosts:?}"
        );
    }
    let (status, _) = ask("http://ann@example.com/", &["Host: example.com"]).await;
    assert_eq!(status, 400);
}
