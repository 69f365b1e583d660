//! The fields that describe the client to the backend.

use crate::{
    chain::{fields, front_with_peer, proxy, send_through},
    support::{
        Via,
        clients::Scripted,
        h2::{Client, extended_connect},
        head, offer,
    },
};
use http::uri::Scheme;
use std::net::SocketAddr;
use tower_upgrade::{
    UpgradeLayer,
    tunnel::{Forwarding, ReverseProxy},
};

/// Forwarding fields in the client's request.
const CLIENT_FIELDS: &[&str] = &[
    "Forwarded: for=10.0.0.1, for=10.0.0.2;host=client.test",
    "Forwarded: for=10.0.0.3",
    "X-Forwarded-For: 10.0.0.1, 10.0.0.2",
    "X-Forwarded-For: 10.0.0.3",
    "X-Forwarded-Host: client.test",
    "X-Forwarded-Port: 1",
];

const PEER: &str = "192.0.2.7:1234";

/// Returns the forwarding fields that the backend receives when a client sends `lines`.
async fn forwarded_fields(
    configure: impl FnOnce(ReverseProxy) -> ReverseProxy,
    peer: Option<&str>,
    lines: &[&str],
) -> Vec<String> {
    let backend = Scripted::start().await;
    let proxy = configure(proxy(Via::Http1, backend.address));
    let peer: Option<SocketAddr> = peer.map(|peer| peer.parse().expect(peer));
    let (front, _) = front_with_peer(UpgradeLayer::new().any_protocol(proxy), peer).await;
    let (head, ..) = send_through(&front, &backend, &offer("chat", lines)).await;
    forwarded_lines(&head)
}

fn forwarded_lines(head: &str) -> Vec<String> {
    let is_about = |line: &&str| line.contains("forwarded");
    let lines = fields(head).into_iter().filter(is_about);
    lines.map(str::to_owned).collect()
}

#[tokio::test]
async fn client_supplied_fields_are_removed_by_default() {
    assert!(
        forwarded_fields(|proxy| proxy, Some(PEER), CLIENT_FIELDS)
            .await
            .is_empty()
    );
}

#[tokio::test]
async fn forwarded_replace_describes_the_client() {
    let replace = |proxy: ReverseProxy| proxy.forwarded(Forwarding::Replace).scheme(Scheme::HTTPS);
    let expected = ["forwarded: for=192.0.2.7;host=test;proto=https"];
    assert_eq!(
        forwarded_fields(replace, Some(PEER), CLIENT_FIELDS).await,
        expected
    );
    let expected = ["forwarded: for=\"[2001:db8::7]\";host=test;proto=https"];
    let peer = Some("[2001:db8::7]:1234");
    assert_eq!(
        forwarded_fields(replace, peer, CLIENT_FIELDS).await,
        expected
    );
    // An IPv4 address as dual-stack sockets report it.
    let expected = ["forwarded: for=192.0.2.7;host=test;proto=https"];
    let peer = Some("[::ffff:192.0.2.7]:1234");
    assert_eq!(
        forwarded_fields(replace, peer, CLIENT_FIELDS).await,
        expected
    );
    let expected = ["forwarded: for=unknown;host=test;proto=https"];
    assert_eq!(forwarded_fields(replace, None, &[]).await, expected);
    let replace = |proxy: ReverseProxy| proxy.forwarded(Forwarding::Replace);
    let expected = ["forwarded: for=192.0.2.7;host=test"];
    assert_eq!(
        forwarded_fields(replace, Some(PEER), CLIENT_FIELDS).await,
        expected
    );
}

#[tokio::test]
async fn x_forwarded_replace_describes_the_client() {
    let replace =
        |proxy: ReverseProxy| proxy.x_forwarded(Forwarding::Replace).scheme(Scheme::HTTPS);
    let client_fields = [
        CLIENT_FIELDS,
        &["X_Forwarded_For: 10.0.0.4", "x-forwarded_host: client.test"],
    ]
    .concat();
    for (peer, address) in [
        (Some(PEER), "192.0.2.7"),
        (Some("[2001:db8::7]:1234"), "2001:db8::7"),
        (None, "unknown"),
    ] {
        let expected = [
            &format!("x-forwarded-for: {address}"),
            "x-forwarded-host: test",
            "x-forwarded-proto: https",
        ];
        assert_eq!(
            forwarded_fields(replace, peer, &client_fields).await,
            expected
        );
    }
}

#[tokio::test]
async fn append_keeps_fields_of_a_trusted_proxy() {
    let append = |proxy: ReverseProxy| {
        proxy
            .forwarded(Forwarding::Append)
            .x_forwarded(Forwarding::Append)
            .scheme(Scheme::HTTP)
    };
    assert_eq!(
        forwarded_fields(append, Some(PEER), CLIENT_FIELDS).await,
        [
            "forwarded: for=10.0.0.1, for=10.0.0.2;host=client.test, for=10.0.0.3, \
             for=192.0.2.7;host=test;proto=http",
            "x-forwarded-for: 10.0.0.1, 10.0.0.2, 10.0.0.3, 192.0.2.7",
            "x-forwarded-host: client.test",
            "x-forwarded-port: 1",
            "x-forwarded-proto: http",
        ]
    );
    assert_eq!(
        forwarded_fields(append, None, &[]).await,
        [
            "forwarded: for=unknown;host=test;proto=http",
            "x-forwarded-for: unknown",
            "x-forwarded-host: test",
            "x-forwarded-proto: http",
        ]
    );
}

/// The field that is not trusted may come from the trusted proxy's client.
#[tokio::test]
async fn forwarded_and_x_forwarded_are_independent() {
    let forwarded = |proxy: ReverseProxy| proxy.forwarded(Forwarding::Append);
    let lines = forwarded_fields(forwarded, Some(PEER), CLIENT_FIELDS).await;
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].starts_with("forwarded: for=10.0.0.1, "),
        "{lines:?}"
    );
    let x_forwarded = |proxy: ReverseProxy| proxy.x_forwarded(Forwarding::Append);
    let lines = forwarded_fields(x_forwarded, Some(PEER), CLIENT_FIELDS).await;
    assert!(
        !lines.iter().any(|line| line.starts_with("forwarded")),
        "{lines:?}"
    );
}

#[tokio::test]
async fn peer_address_comes_from_the_configured_extension() {
    #[derive(Clone)]
    struct Info(SocketAddr);
    let of_info = |proxy: ReverseProxy| {
        proxy
            .forwarded(Forwarding::Replace)
            .peer(|extensions| extensions.get::<Info>().map(|info| info.0))
    };
    // The proxy does not fall back to another extension.
    let expected = ["forwarded: for=unknown;host=test"];
    assert_eq!(forwarded_fields(of_info, Some(PEER), &[]).await, expected);
    let fixed = |proxy: ReverseProxy| {
        let proxy = proxy.forwarded(Forwarding::Replace);
        proxy.peer(|_| Some(SocketAddr::from(([198, 51, 100, 1], 9))))
    };
    let expected = ["forwarded: for=198.51.100.1;host=test"];
    assert_eq!(forwarded_fields(fixed, Some(PEER), &[]).await, expected);
}

#[tokio::test]
async fn proto_is_the_request_scheme_unless_configured() {
    for (configured, expected) in [(None, "http"), (Some(Scheme::HTTPS), "https")] {
        let backend = Scripted::start().await;
        let mut proxy = proxy(Via::Http1, backend.address).forwarded(Forwarding::Replace);
        if let Some(scheme) = configured {
            proxy = proxy.scheme(scheme);
        }
        let layer = UpgradeLayer::new().any_protocol(proxy);
        let (front, _) = front_with_peer(layer, Some(PEER.parse().expect("an address"))).await;
        let requesting = tokio::spawn({
            let peer = front.connect().await;
            async move {
                let mut client = Client::connect(peer).await;
                let request = extended_connect("chat").body(()).expect("a request");
                client.ask(request).await
            }
        });
        let mut at_backend = backend.accept().await;
        let head = at_backend.request_head().await;
        let expected = format!("forwarded: for=192.0.2.7;host=test;proto={expected}");
        assert_eq!(forwarded_lines(&head), [expected]);
        requesting.abort();
    }
}

#[tokio::test]
async fn connect_forwards_only_the_client_address() {
    let backend = Scripted::start().await;
    let proxy = proxy(Via::Http1, backend.address)
        .forwarded(Forwarding::Replace)
        .x_forwarded(Forwarding::Replace)
        .scheme(Scheme::HTTPS);
    let layer = UpgradeLayer::new().connect(proxy);
    let (front, _) = front_with_peer(layer, Some(PEER.parse().expect("an address"))).await;
    let request = head(&["CONNECT example.com:443 HTTP/1.1", "Host: example.com:443"]);
    let (head, ..) = send_through(&front, &backend, &request).await;
    assert_eq!(
        forwarded_lines(&head),
        ["forwarded: for=192.0.2.7", "x-forwarded-for: 192.0.2.7"]
    );
}

/// The example of the documentation.
#[tokio::test]
async fn append_applies_only_to_matching_clients() {
    use tower_upgrade::ProtocolHandler as _;

    for (peer, expected) in [
        ("127.0.0.1:1", "x-forwarded-for: 10.0.0.1, 127.0.0.1"),
        (PEER, "x-forwarded-for: 192.0.2.7"),
    ] {
        let backend = Scripted::start().await;
        let proxy = proxy(Via::Http1, backend.address);
        let is_balancer = |request: &http::request::Parts| {
            let peer = request.extensions.get::<SocketAddr>();
            peer.is_some_and(|peer| peer.ip().is_loopback())
        };
        let trusting = proxy.clone().x_forwarded(Forwarding::Append);
        let layer = UpgradeLayer::new()
            .any_protocol(trusting.when(is_balancer))
            .any_protocol(proxy.x_forwarded(Forwarding::Replace));
        let (front, _) = front_with_peer(layer, Some(peer.parse().expect(peer))).await;
        let request = offer("chat", &["X-Forwarded-For: 10.0.0.1"]);
        let (head, ..) = send_through(&front, &backend, &request).await;
        assert_eq!(forwarded_lines(&head)[0], expected);
    }
}
