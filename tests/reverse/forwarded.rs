//! The fields that describe the client to the backend.

use crate::{
    chain::{fields, front_of, proxy, seen},
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

/// The fields that a client sends about itself.
const SAID: &[&str] = &[
    "Forwarded: for=10.0.0.1, for=10.0.0.2;host=said",
    "Forwarded: for=10.0.0.3",
    "X-Forwarded-For: 10.0.0.1, 10.0.0.2",
    "X-Forwarded-For: 10.0.0.3",
    "X-Forwarded-Host: said",
    "X-Forwarded-Port: 1",
];

const PEER: &str = "192.0.2.7:1234";

/// The lines that tell of the client, of a request to this proxy, with these lines.
async fn told(
    configure: impl FnOnce(ReverseProxy) -> ReverseProxy,
    peer: Option<&str>,
    lines: &[&str],
) -> Vec<String> {
    let backend = Scripted::start().await;
    let proxy = configure(proxy(Via::Http1, backend.address));
    let peer: Option<SocketAddr> = peer.map(|peer| peer.parse().expect(peer));
    let (front, _) = front_of(UpgradeLayer::new().any_protocol(proxy), peer).await;
    let (head, ..) = seen(&front, &backend, &offer("chat", lines)).await;
    lines_of(&head)
}

fn lines_of(head: &str) -> Vec<String> {
    let is_about = |line: &&str| line.contains("forwarded");
    let lines = fields(head).into_iter().filter(is_about);
    lines.map(str::to_owned).collect()
}

#[tokio::test]
async fn what_a_client_says_is_removed() {
    assert!(told(|proxy| proxy, Some(PEER), SAID).await.is_empty());
}

#[tokio::test]
async fn what_is_known_is_said_with_forwarded() {
    let replace = |proxy: ReverseProxy| proxy.forwarded(Forwarding::Replace).scheme(Scheme::HTTPS);
    let expected = ["forwarded: for=192.0.2.7;host=test;proto=https"];
    assert_eq!(told(replace, Some(PEER), SAID).await, expected);
    let expected = ["forwarded: for=\"[2001:db8::7]\";host=test;proto=https"];
    let peer = Some("[2001:db8::7]:1234");
    assert_eq!(told(replace, peer, SAID).await, expected);
    // As a socket for both has it.
    let expected = ["forwarded: for=192.0.2.7;host=test;proto=https"];
    let peer = Some("[::ffff:192.0.2.7]:1234");
    assert_eq!(told(replace, peer, SAID).await, expected);
    let expected = ["forwarded: for=unknown;host=test;proto=https"];
    assert_eq!(told(replace, None, &[]).await, expected);
    let replace = |proxy: ReverseProxy| proxy.forwarded(Forwarding::Replace);
    let expected = ["forwarded: for=192.0.2.7;host=test"];
    assert_eq!(told(replace, Some(PEER), SAID).await, expected);
}

#[tokio::test]
async fn what_is_known_is_said_as_it_was_before() {
    let replace =
        |proxy: ReverseProxy| proxy.x_forwarded(Forwarding::Replace).scheme(Scheme::HTTPS);
    let said = [
        SAID,
        &["X_Forwarded_For: 10.0.0.4", "x-forwarded_host: said"],
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
        assert_eq!(told(replace, peer, &said).await, expected);
    }
}

#[tokio::test]
async fn what_a_trusted_proxy_says_is_kept() {
    let append = |proxy: ReverseProxy| {
        proxy
            .forwarded(Forwarding::Append)
            .x_forwarded(Forwarding::Append)
            .scheme(Scheme::HTTP)
    };
    assert_eq!(
        told(append, Some(PEER), SAID).await,
        [
            "forwarded: for=10.0.0.1, for=10.0.0.2;host=said, for=10.0.0.3, \
             for=192.0.2.7;host=test;proto=http",
            "x-forwarded-for: 10.0.0.1, 10.0.0.2, 10.0.0.3, 192.0.2.7",
            "x-forwarded-host: said",
            "x-forwarded-port: 1",
            "x-forwarded-proto: http",
        ]
    );
    assert_eq!(
        told(append, None, &[]).await,
        [
            "forwarded: for=unknown;host=test;proto=http",
            "x-forwarded-for: unknown",
            "x-forwarded-host: test",
            "x-forwarded-proto: http",
        ]
    );
}

/// Only one of the two is trusted: the other may come from the trusted proxy's client.
#[tokio::test]
async fn each_is_trusted_on_its_own() {
    let forwarded = |proxy: ReverseProxy| proxy.forwarded(Forwarding::Append);
    let told_of = told(forwarded, Some(PEER), SAID).await;
    assert_eq!(told_of.len(), 1, "{told_of:?}");
    assert!(
        told_of[0].starts_with("forwarded: for=10.0.0.1, "),
        "{told_of:?}"
    );
    let x_forwarded = |proxy: ReverseProxy| proxy.x_forwarded(Forwarding::Append);
    let told_of = told(x_forwarded, Some(PEER), SAID).await;
    assert!(
        !told_of.iter().any(|line| line.starts_with("forwarded")),
        "{told_of:?}"
    );
}

#[tokio::test]
async fn the_peer_is_where_the_server_leaves_it() {
    #[derive(Clone)]
    struct Info(SocketAddr);
    let elsewhere = |proxy: ReverseProxy| {
        proxy
            .forwarded(Forwarding::Replace)
            .peer(|extensions| extensions.get::<Info>().map(|info| info.0))
    };
    // No other field contains it.
    let expected = ["forwarded: for=unknown;host=test"];
    assert_eq!(told(elsewhere, Some(PEER), &[]).await, expected);
    let fixed = |proxy: ReverseProxy| {
        let proxy = proxy.forwarded(Forwarding::Replace);
        proxy.peer(|_| Some(SocketAddr::from(([198, 51, 100, 1], 9))))
    };
    let expected = ["forwarded: for=198.51.100.1;host=test"];
    assert_eq!(told(fixed, Some(PEER), &[]).await, expected);
}

#[tokio::test]
async fn the_scheme_is_the_clients_unless_it_is_known() {
    for (known, expected) in [(None, "http"), (Some(Scheme::HTTPS), "https")] {
        let backend = Scripted::start().await;
        let mut proxy = proxy(Via::Http1, backend.address).forwarded(Forwarding::Replace);
        if let Some(known) = known {
            proxy = proxy.scheme(known);
        }
        let layer = UpgradeLayer::new().any_protocol(proxy);
        let (front, _) = front_of(layer, Some(PEER.parse().expect("an address"))).await;
        let asking = tokio::spawn({
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
        assert_eq!(lines_of(&head), [expected]);
        asking.abort();
    }
}

#[tokio::test]
async fn a_tunnel_tells_of_the_address_alone() {
    let backend = Scripted::start().await;
    let proxy = proxy(Via::Http1, backend.address)
        .forwarded(Forwarding::Replace)
        .x_forwarded(Forwarding::Replace)
        .scheme(Scheme::HTTPS);
    let layer = UpgradeLayer::new().connect(proxy);
    let (front, _) = front_of(layer, Some(PEER.parse().expect("an address"))).await;
    let request = head(&["CONNECT example.com:443 HTTP/1.1", "Host: example.com:443"]);
    let (head, ..) = seen(&front, &backend, &request).await;
    assert_eq!(
        lines_of(&head),
        ["forwarded: for=192.0.2.7", "x-forwarded-for: 192.0.2.7"]
    );
}

/// As the documentation has it.
#[tokio::test]
async fn some_clients_are_trusted_and_others_are_not() {
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
        let (front, _) = front_of(layer, Some(peer.parse().expect(peer))).await;
        let request = offer("chat", &["X-Forwarded-For: 10.0.0.1"]);
        let (head, ..) = seen(&front, &backend, &request).await;
        assert_eq!(lines_of(&head)[0], expected);
    }
}
