//! C6 and S5: a forward proxy, the targets that it reaches and those that it does not.

use crate::connect::{SMUGGLED, connect_to, expect_refusal};
use crate::support::{
    AnyIo, Peer, Server, Via,
    h2::{Client, connect},
    head, plain, soon, text,
    tunnel::{LOOPBACK, Pending, Refuses, Resolver, Target, loopback},
};
use std::{io, time::Duration};
use tower::{Layer as _, service_fn};
use tower_upgrade::{
    UpgradeLayer,
    tunnel::{ConnectProxy, Policy},
};

const VERSIONS: [Via; 2] = [Via::Http1, Via::Http2];

async fn proxy_server(via: Via, proxy: &ConnectProxy) -> Server {
    let layer = UpgradeLayer::new().connect(proxy.clone());
    Server::start_via(via, layer.layer(service_fn(plain))).await
}

/// Asks for a tunnel, with bytes for it right behind: in one segment on HTTP/1.
async fn expect_tunnel(
    via: Via,
    server: &Server,
    target: &str,
    early: &'static str,
) -> Peer<Box<dyn AnyIo>> {
    if via == Via::Http2 {
        let mut client = Client::connect(server.connect().await).await;
        let request = connect(target).body(()).expect("a request");
        return client
            .ask_with(request, early)
            .await
            .expect_upgraded()
            .boxed();
    }
    let mut peer = server.connect().await;
    peer.send(connect_to(target, &[]) + early).await;
    let answer = peer.head().await;
    assert_eq!((answer.status, answer.names()), (200, vec![]), "{answer:?}");
    peer.boxed()
}

/// Over each version the proxy refuses, and says `message`. On HTTP/1 the connection ends.
async fn expect_rejected(proxy: &ConnectProxy, target: &str, status: u16, message: &str) {
    let server = proxy_server(Via::Http1, proxy).await;
    let mut peer = server.connect().await;
    peer.send(connect_to(target, &[]) + SMUGGLED).await;
    let (head, body) = expect_refusal(&mut peer, status).await;
    assert_eq!(body, message, "{target}");
    let proxy_status = head.get("proxy-status");
    assert_eq!(proxy_status.as_deref(), proxy_status_of(message));

    let server = proxy_server(Via::Http2, proxy).await;
    let mut client = Client::connect(server.connect().await).await;
    let request = connect(target).body(()).expect("a request");
    let refused = client.ask(request).await;
    let proxy_status = refused.head.headers().get("proxy-status");
    let proxy_status = proxy_status.map(|value| value.to_str().expect("ASCII"));
    assert_eq!(proxy_status, proxy_status_of(message));
    let refused = refused.refused().await;
    assert_eq!(refused, (status, message.to_owned()), "{target}");
    // The other streams go on.
    assert_eq!(client.get_text("/").await, "plain GET /");
}

/// Returns the value of Proxy-Status (RFC 9209) for a message, or `None` if the request is invalid.
fn proxy_status_of(message: &str) -> Option<&'static str> {
    match message {
        "this port is not allowed" | "this host is not allowed" => {
            Some("tower-upgrade; error=http_request_denied")
        }
        ADDRESS => Some("tower-upgrade; error=destination_ip_prohibited"),
        "the host cannot be resolved" => Some("tower-upgrade; error=dns_error"),
        "the host cannot be reached" => Some("tower-upgrade; error=destination_unavailable"),
        "the host cannot be reached in time" => Some("tower-upgrade; error=connection_timeout"),
        _ => None,
    }
}

const ADDRESS: &str = "the address of this host is not allowed";

#[tokio::test]
async fn c6_allowed_target_is_connected() {
    for via in VERSIONS {
        let target = Target::start().await;
        let resolver = Resolver::of(&["127.0.0.1"]);
        let proxy = ConnectProxy::new(target.policy()).resolver(resolver.clone());
        let server = proxy_server(via, &proxy).await;
        for host in ["127.0.0.1", "any.test"] {
            let authority = format!("{host}:{}", target.port());
            let mut peer = expect_tunnel(via, &server, &authority, "early").await;
            assert_eq!(text(&peer.exactly(5).await), "early");
            peer.expect_echo(b"late").await;
            peer.finish().await;
            peer.expect_end().await;
        }
        // An address is not resolved.
        assert_eq!((target.accepted(), resolver.asked()), (2, 1));
    }
}

/// hyper serves such requests, although RFC 9112 §3.2 requires a 400.
#[tokio::test]
async fn c1_connect_without_a_valid_host_is_rejected() {
    let target = Target::start().await;
    let authority = target.address.to_string();
    let server = proxy_server(Via::Http1, &ConnectProxy::new(target.policy())).await;
    let line = format!("CONNECT {authority} HTTP/1.1");
    for lines in [&[][..], &["Host: a", "Host: a"], &["Host: a b"]] {
        let mut peer = server.connect().await;
        let request = head(&[&[&*line], lines].concat());
        peer.send(request + SMUGGLED).await;
        let (_, body) = expect_refusal(&mut peer, 400).await;
        assert!(body.contains("`Host`"), "{body}");
    }
    let server = proxy_server(Via::Http2, &ConnectProxy::new(target.policy())).await;
    let mut client = Client::connect(server.connect().await).await;
    let request = connect(&authority).header("host", "other").body(());
    let refused = client
        .ask(request.expect("a request"))
        .await
        .refused()
        .await;
    assert_eq!(refused.0, 400, "{}", refused.1);
    assert_eq!(target.accepted(), 0);

    // The target counts, and HTTP/1.0 has no `Host`.
    let server = proxy_server(Via::Http1, &ConnectProxy::new(target.policy())).await;
    for lines in [
        [&*line, "Host: other"],
        [&*line, "Host:"],
        [&line.replace("1.1", "1.0"), "X: y"],
    ] {
        let mut peer = server.connect().await;
        peer.send(head(&lines)).await;
        assert_eq!(peer.head().await.status, 200, "{lines:?}");
        peer.expect_echo(b"hello").await;
    }
}

#[tokio::test]
async fn c6_refusing_target_is_a_502() {
    let refuses = Refuses::new();
    let proxy = ConnectProxy::new(loopback(refuses.address.port()));
    let target = refuses.address.to_string();
    expect_rejected(&proxy, &target, 502, "the host cannot be reached").await;
}

#[tokio::test]
async fn c6_unresolved_name_is_a_502() {
    let resolvers = [
        Resolver::new(|_, _| Err(io::Error::other("10.0.0.53 does not answer"))),
        Resolver::of(&[]),
    ];
    for resolver in resolvers {
        let proxy = ConnectProxy::new(Policy::new()).resolver(resolver);
        expect_rejected(&proxy, "any.test:443", 502, "the host cannot be resolved").await;
    }
    // As the operating system reports it.
    let proxy = ConnectProxy::new(Policy::new());
    expect_rejected(&proxy, "a..b:443", 502, "the host cannot be resolved").await;
}

#[tokio::test]
async fn c6_slow_target_is_a_504() {
    let proxy = ConnectProxy::new(Policy::new())
        .connect_timeout(Duration::from_millis(1))
        .resolver(Pending::default());
    let late = "the host cannot be reached in time";
    expect_rejected(&proxy, "any.test:443", 504, late).await;
}

#[tokio::test]
async fn c6_s5_denied_target_is_a_403() {
    let resolver = Resolver::of(&["10.0.0.1"]);
    let policy = Policy::new().hosts(["*.allowed.test", "127.0.0.1"]);
    let proxy = ConnectProxy::new(policy).resolver(resolver.clone());
    for (target, message) in [
        ("www.allowed.test:80", "this port is not allowed"),
        ("allowed.test:443", "this host is not allowed"),
        ("127.0.0.2:443", "this host is not allowed"),
        ("127.0.0.1:443", ADDRESS),
    ] {
        expect_rejected(&proxy, target, 403, message).await;
    }
    assert_eq!(resolver.asked(), 0);
    expect_rejected(&proxy, "www.allowed.test:443", 403, ADDRESS).await;
}

#[tokio::test]
async fn s5_by_default_only_port_443_is_allowed() {
    let target = Target::start().await;
    let network = "127.0.0.0/8".parse().expect("a network");
    let proxy = ConnectProxy::new(Policy::new().allow_network(network));
    let authority = target.address.to_string();
    expect_rejected(&proxy, &authority, 403, "this port is not allowed").await;
    assert_eq!(target.accepted(), 0);
}

#[tokio::test]
async fn s5_by_default_addresses_that_are_not_globally_reachable_are_denied() {
    let proxy = ConnectProxy::new(Policy::new());
    for address in [
        "127.0.0.1",
        "0.0.0.0",
        "10.0.0.1",
        "100.64.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "192.168.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "fd00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:7f00:1",
        "64:ff9b::127.0.0.1",
        "2002:7f00:1::",
    ] {
        let literal = match address.contains(':') {
            true => format!("[{address}]:443"),
            false => format!("{address}:443"),
        };
        expect_rejected(&proxy, &literal, 403, ADDRESS).await;

        let resolved = proxy.clone().resolver(Resolver::of(&[address]));
        expect_rejected(&resolved, "any.test:443", 403, ADDRESS).await;
    }
}

/// `getaddrinfo` takes these for an address: they are refused, on a proxy that allows the address as well.
#[tokio::test]
async fn s5_odd_spelling_of_an_address_is_a_bad_request() {
    let target = Target::start().await;
    let allowed = ConnectProxy::new(target.policy());
    for host in ["127.1", "0x7f.1", "2130706433", "0177.0.0.1", "127.0.0.0x1"] {
        let authority = format!("{host}:{}", target.port());
        let message = "the host ends in a number and is not an IPv4 address";
        expect_rejected(&allowed, &authority, 400, message).await;
        assert_eq!(target.accepted(), 0, "{host}");
    }
}

#[tokio::test]
async fn s5_name_and_address_with_a_dot_at_the_end_are_judged_by_their_address() {
    let target = Target::start().await;
    let proxy = ConnectProxy::new(Policy::new().ports([target.port()]));
    let allowed = ConnectProxy::new(target.policy());
    for host in ["localhost", "127.0.0.1."] {
        let authority = format!("{host}:{}", target.port());
        for via in VERSIONS {
            let server = proxy_server(via, &allowed).await;
            let mut peer = expect_tunnel(via, &server, &authority, "").await;
            peer.expect_echo(b"hello").await;
        }
        let accepted = target.accepted();
        expect_rejected(&proxy, &authority, 403, ADDRESS).await;
        assert_eq!(target.accepted(), accepted, "{host}");
    }
}

/// Of several addresses those that are not allowed are left out, and the others are connected to.
#[cfg(target_os = "linux")] // all of 127.0.0.0/8 is there
#[tokio::test]
async fn s5_each_address_of_a_name_is_checked() {
    let denied = Target::start().await;
    let allowed = Target::start_at(([127, 0, 0, 2], denied.port()).into()).await;
    let policy = Policy::new()
        .ports([denied.port()])
        .allow_network("127.0.0.2/32".parse().expect("a network"));
    for addresses in [["127.0.0.1", "127.0.0.2"], ["127.0.0.2", "127.0.0.1"]] {
        let proxy = ConnectProxy::new(policy.clone()).resolver(Resolver::of(&addresses));
        for via in VERSIONS {
            let server = proxy_server(via, &proxy).await;
            let authority = format!("any.test:{}", denied.port());
            let mut peer = expect_tunnel(via, &server, &authority, "").await;
            peer.expect_echo(b"hello").await;
        }
    }
    assert_eq!((allowed.accepted(), denied.accepted()), (4, 0));

    // Nor is a denied one the way out when the others fail.
    drop(allowed);
    let proxy = ConnectProxy::new(policy).resolver(Resolver::of(&["127.0.0.2", "127.0.0.1"]));
    let authority = format!("any.test:{}", denied.port());
    expect_rejected(&proxy, &authority, 502, "the host cannot be reached").await;
    assert_eq!(denied.accepted(), 0);
}

/// A resolver that returns different addresses for the check and for the connection.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn s5_rebinding_name_cannot_bypass_the_policy() {
    let denied = Target::start().await;
    let allowed = Target::start_at(([127, 0, 0, 2], denied.port()).into()).await;
    let policy = Policy::new()
        .ports([denied.port()])
        .allow_network("127.0.0.2/32".parse().expect("a network"));
    for via in VERSIONS {
        let resolver = Resolver::new(|_, asked| match asked {
            0 => Ok(vec!["127.0.0.2".parse().expect("an address")]),
            _ => Ok(vec![LOOPBACK]),
        });
        let proxy = ConnectProxy::new(policy.clone()).resolver(resolver.clone());
        let server = proxy_server(via, &proxy).await;
        let authority = format!("any.test:{}", denied.port());
        let mut peer = expect_tunnel(via, &server, &authority, "").await;
        peer.expect_echo(b"hello").await;
        assert_eq!(resolver.asked(), 1);
    }
    assert_eq!((allowed.accepted(), denied.accepted()), (2, 0));
}

/// The rejection does not wait, and nothing is dialed.
#[tokio::test]
async fn s5_denied_target_is_not_dialed() {
    let target = Target::start().await;
    let policy = Policy::new().ports([target.port()]);
    let proxy = ConnectProxy::new(policy).resolver(Resolver::of(&["127.0.0.1", "::1"]));
    for host in ["127.0.0.1", "any.test", "[::ffff:127.0.0.1]"] {
        let authority = format!("{host}:{}", target.port());
        soon(expect_rejected(&proxy, &authority, 403, ADDRESS)).await;
    }
    assert_eq!(target.accepted(), 0);
}
