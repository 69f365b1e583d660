//! D2 and D3 on the wire: requests and responses.

use crate::{
    proxy::{Echo, Proxy, VERSIONS, headers, path, target},
    support::{
        Peer, Via, head,
        tunnel::{Pending, Resolver, loopback},
    },
};
use std::time::Duration;
use tokio::{net::TcpStream, time::Instant};
use tower_upgrade::{UpgradeLayer, datagram::ConnectUdp, tunnel::Policy};

#[tokio::test]
async fn d3_upgrade_response_announces_capsules_and_has_no_content() {
    for via in VERSIONS {
        let echo = Echo::start().await;
        let proxy = Proxy::start(via, echo.address).await;
        let flow = proxy
            .ask(&path(echo.address), &[("capsule-protocol", "?1")])
            .await;
        let mut headers = headers(&flow);
        headers.remove("date");
        let mut names: Vec<_> = headers.iter().collect();
        names.sort_unstable();
        let names: Vec<_> = names
            .into_iter()
            .map(|(name, value)| format!("{name}: {value}"))
            .collect();
        match via {
            Via::Http1 => {
                assert_eq!(flow.head.status(), 101);
                assert_eq!(
                    names,
                    [
                        "capsule-protocol: ?1",
                        "connection: upgrade",
                        "upgrade: connect-udp"
                    ]
                );
            }
            _ => {
                assert_eq!(flow.head.status(), 200);
                assert_eq!(names, ["capsule-protocol: ?1"]);
            }
        }
    }
}

#[tokio::test]
async fn d2_method_must_be_get_on_http_1_1() {
    let echo = Echo::start().await;
    let proxy = Proxy::start(Via::Http1, echo.address).await;
    for (method, status) in [("GET", 101), ("POST", 400), ("HEAD", 400), ("OPTIONS", 400)] {
        let io = TcpStream::connect(proxy.address()).await.expect("loopback");
        let mut peer = Peer::new(io);
        let request = head(&[
            &format!("{method} {} HTTP/1.1", path(echo.address)),
            "Host: test",
            "Connection: Upgrade",
            "Upgrade: connect-udp",
        ]);
        peer.send(request).await;
        assert_eq!(peer.head().await.status, status, "{method}");
    }
}

#[tokio::test]
async fn d2_host_must_be_valid() {
    let echo = Echo::start().await;
    let proxy = Proxy::start(Via::Http1, echo.address).await;
    for hosts in [&[][..], &["Host: a", "Host: b"], &["Host: a b"]] {
        let io = TcpStream::connect(proxy.address()).await.expect("loopback");
        let mut peer = Peer::new(io);
        let line = format!("GET {} HTTP/1.1", path(echo.address));
        let mut lines = vec![&*line, "Connection: Upgrade", "Upgrade: connect-udp"];
        lines.extend(hosts);
        peer.send(head(&lines)).await;
        assert_eq!(peer.head().await.status, 400, "{hosts:?}");
    }
    let proxy = Proxy::start(Via::Http2, echo.address).await;
    let refused = proxy
        .refused(&path(echo.address), &[("host", "other")])
        .await;
    assert_eq!(refused.0, 400);
}

#[tokio::test]
async fn d2_request_must_not_announce_content() {
    let echo = Echo::start().await;
    for via in VERSIONS {
        let proxy = Proxy::start(via, echo.address).await;
        for field in [("content-length", "0"), ("content-type", "text/plain")] {
            let refused = proxy.refused(&path(echo.address), &[field]).await;
            let message = "the request must not have content".to_owned();
            assert_eq!(refused, (400, message), "{via:?} {field:?}");
        }
    }
    let proxy = Proxy::start(Via::Http1, echo.address).await;
    let field = ("transfer-encoding", "chunked");
    let flow = proxy
        .ask_early(&path(echo.address), &[field], b"0\r\n\r\n")
        .await;
    assert_eq!(flow.head.status(), 400);
}

#[tokio::test]
async fn d2_path_that_names_no_target_is_rejected_with_a_message() {
    for via in VERSIONS {
        let proxy = Proxy::start_with(via, ConnectUdp::new(loopback(443))).await;
        let base = "/.well-known/masque/udp";
        for (path, wrong) in [
            ("/".to_owned(), "template"),
            (format!("{base}/127.0.0.1/443"), "template"),
            (format!("{base}/127.0.0.1/443/?a"), "template"),
            (format!("{base}/127.0.0.1/0/"), "port"),
            (format!("{base}/127.0.0.1/65536/"), "port"),
            (format!("{base}/127.0.0.1/%2B443/"), "port"),
            (format!("{base}/%5B%3A%3A1%5D/443/"), "brackets"),
            (format!("{base}/a%2Fb/443/"), "host"),
            (format!("{base}//443/"), "host"),
            (format!("{base}/%ff/443/"), "host"),
            (format!("{base}/127.1/443/"), "ends in a number"),
            (format!("{base}/2130706433/443/"), "ends in a number"),
            (format!("{base}/%30x7f.1/443/"), "ends in a number"),
        ] {
            let (status, message) = proxy.refused(&path, &[]).await;
            assert_eq!(status, 400, "{path}");
            assert!(message.contains(wrong), "{path}: {message}");
        }
    }
}

#[tokio::test]
async fn d2_target_is_percent_decoded() {
    let echo = Echo::start().await;
    let port = echo.address.port();
    for via in VERSIONS {
        let resolver = Resolver::new(|name, _| {
            assert_eq!(name, "any.test");
            Ok(vec!["127.0.0.1".parse().expect("an address")])
        });
        let handler = ConnectUdp::new(loopback(port)).resolver(resolver.clone());
        let proxy = Proxy::start_with(via, handler).await;
        for host in [
            "127.0.0.1",
            "127%2E0.0.%31",
            "%3A%3Affff%3A127.0.0.1",
            "::ffff:127.0.0.1",
            "any.test",
            "%61ny%2etest",
        ] {
            let path = format!("/.well-known/masque/udp/{host}/{port}/");
            let mut flow = proxy.ask(&path, &[]).await;
            flow.assert_upgraded();
            flow.expect_echo(host.as_bytes()).await;
        }
        assert_eq!(resolver.asked(), 2);
    }
}

#[tokio::test]
async fn d2_template_is_configurable() {
    let echo = Echo::start().await;
    for via in VERSIONS {
        let handler = ConnectUdp::new(loopback(echo.address.port()))
            .template("/masque?h={target_host}&p={target_port}");
        let proxy = Proxy::start_with(via, handler).await;
        let (ip, port) = (echo.address.ip(), echo.address.port());
        let mut flow = proxy.ask(&format!("/masque?h={ip}&p={port}"), &[]).await;
        flow.assert_upgraded();
        flow.expect_echo(b"hello").await;
        assert_eq!(proxy.refused(&path(echo.address), &[]).await.0, 400);
    }
}

#[tokio::test]
async fn d2_other_protocols_and_connect_get_501() {
    let handler = ConnectUdp::new(Policy::new());
    let layer = UpgradeLayer::new()
        .protocol("echo", handler.clone())
        .connect(handler);
    let proxy = Proxy::start_layer(Via::Http1, layer).await;
    for lines in [
        &[
            "GET / HTTP/1.1",
            "Host: a",
            "Connection: upgrade",
            "Upgrade: echo",
        ][..],
        &["CONNECT a:443 HTTP/1.1", "Host: a"],
    ] {
        let io = TcpStream::connect(proxy.address()).await.expect("loopback");
        let mut peer = Peer::new(io);
        peer.send(head(lines)).await;
        assert_eq!(peer.head().await.status, 501, "{lines:?}");
    }
}

#[tokio::test]
async fn d4_target_is_denied_by_default() {
    let (_socket, address) = target().await;
    for via in VERSIONS {
        let proxy = Proxy::start_with(via, ConnectUdp::new(Policy::new())).await;
        let refused = proxy.refused(&path(address), &[]).await;
        assert_eq!(refused, (403, "this port is not allowed".to_owned()));

        let policy = Policy::new().ports([address.port()]);
        let proxy = Proxy::start_with(via, ConnectUdp::new(policy)).await;
        let refused = proxy.refused(&path(address), &[]).await;
        let message = "the address of this host is not allowed".to_owned();
        assert_eq!(refused, (403, message));
    }
}

#[tokio::test]
async fn d4_addresses_are_checked_after_resolution() {
    let echo = Echo::start().await;
    let path = format!("/.well-known/masque/udp/any.test/{}/", echo.address.port());
    for via in VERSIONS {
        let policy = loopback(echo.address.port());
        let handler = ConnectUdp::new(policy.clone()).resolver(Resolver::of(&["10.0.0.1", "::1"]));
        let proxy = Proxy::start_with(via, handler).await;
        assert_eq!(proxy.refused(&path, &[]).await.0, 403);

        // The proxy skips denied addresses.
        let resolver = Resolver::of(&["10.0.0.1", "::1", "127.0.0.1"]);
        let handler = ConnectUdp::new(policy.clone()).resolver(resolver);
        let proxy = Proxy::start_with(via, handler).await;
        let mut flow = proxy.ask(&path, &[]).await;
        flow.assert_upgraded();
        flow.expect_echo(b"hello").await;

        let handler = ConnectUdp::new(policy).resolver(Resolver::of(&[]));
        let proxy = Proxy::start_with(via, handler).await;
        let refused = proxy.refused(&path, &[]).await;
        assert_eq!(refused, (502, "the host cannot be resolved".to_owned()));
    }
}

/// A UDP socket cannot connect to a broadcast address without permission, as to an address without a route.
#[tokio::test]
async fn d4_address_that_the_system_refuses_is_followed_by_the_next() {
    let echo = Echo::start().await;
    let port = echo.address.port();
    let policy = loopback(port).allow_network("255.255.255.255/32".parse().expect("a network"));
    let path = format!("/.well-known/masque/udp/any.test/{port}/");

    let resolver = Resolver::of(&["255.255.255.255", "127.0.0.1"]);
    let handler = ConnectUdp::new(policy.clone()).resolver(resolver);
    let proxy = Proxy::start_with(Via::Http1, handler).await;
    let mut flow = proxy.ask(&path, &[]).await;
    flow.assert_upgraded();
    flow.expect_echo(b"hello").await;

    let handler = ConnectUdp::new(policy).resolver(Resolver::of(&["255.255.255.255"]));
    let proxy = Proxy::start_with(Via::Http1, handler).await;
    let refused = proxy.refused(&path, &[]).await;
    assert_eq!(refused, (502, "the host cannot be reached".to_owned()));
}

#[tokio::test]
async fn d4_at_most_sixteen_addresses_are_tried() {
    let echo = Echo::start().await;
    let port = echo.address.port();
    let policy = loopback(port).allow_network("255.255.255.255/32".parse().expect("a network"));
    let path = format!("/.well-known/masque/udp/any.test/{port}/");
    for (refused, status) in [(15, 101), (16, 502)] {
        let mut addresses = vec!["255.255.255.255"; refused];
        addresses.push("127.0.0.1");
        let handler = ConnectUdp::new(policy.clone()).resolver(Resolver::of(&addresses));
        let proxy = Proxy::start_with(Via::Http1, handler).await;
        assert_eq!(proxy.ask(&path, &[]).await.head.status(), status);
    }
}

/// RFC 9298 §3.1.
#[tokio::test]
async fn c6_rejection_has_the_error_in_proxy_status() {
    let handler = || ConnectUdp::new(Policy::new());
    let late = handler().connect_timeout(Duration::from_millis(1));
    for (handler, path, error) in [
        (handler(), "any.test/1/", Some("http_request_denied")),
        (
            handler(),
            "10.0.0.1/443/",
            Some("destination_ip_prohibited"),
        ),
        (
            handler().resolver(Resolver::of(&[])),
            "any.test/443/",
            Some("dns_error"),
        ),
        (
            late.resolver(Pending::default()),
            "any.test/443/",
            Some("dns_timeout"),
        ),
        (handler(), "any.test/0/", None),
    ] {
        let path = format!("/.well-known/masque/udp/{path}");
        let value = error.map(|error| format!("tower-upgrade; error={error}"));
        for via in VERSIONS {
            let proxy = Proxy::start_with(via, handler.clone()).await;
            let head = proxy.ask(&path, &[]).await.head;
            let found = head.headers().get("proxy-status");
            let found = found.map(|value| value.to_str().expect("ASCII"));
            assert_eq!(found, value.as_deref(), "{via:?} {path}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn resolving_times_out_after_ten_seconds() {
    let start = Instant::now();
    let handler = ConnectUdp::new(Policy::new()).resolver(Pending::default());
    let proxy = Proxy::start_with(Via::Http1, handler).await;
    let refused = proxy.refused("/.well-known/masque/udp/any.test/443/", &[]);
    let message = "the host cannot be resolved in time".to_owned();
    assert_eq!(refused.await, (504, message));
    assert_eq!(start.elapsed(), Duration::from_secs(10));
}
