//! U: `Upgrade` on HTTP/1.1 (RFC 9110 §7.8, RFC 9112). See `request_body.rs` for request bodies and early
//! bytes.

use crate::server::{Refuse, assert_passes, connect_to_echo, echo_server};
use crate::support::{
    Server,
    handlers::{Counted, echo, run_echo},
    head, offer, plain,
};
use http::{HeaderValue, Method, StatusCode, header};
use tower::{Layer as _, service_fn};
use tower_upgrade::{
    Accept, Preference, ProtocolHandler, Rejection, Session, Unsupported, UpgradeLayer,
    UpgradeRequest, handler_fn,
};

#[tokio::test]
async fn u1_upgrade_requires_the_connection_option() {
    let (_server, mut peer) = connect_to_echo().await;
    for connection in [
        "",
        "keep-alive",
        "upgraded",
        "x-upgrade",
        "\"upgrade\"",
        "upgrade;q=1",
        "keep-alive upgrade",
    ] {
        let connection = format!("Connection: {connection}");
        let request = head(&[
            "GET /x HTTP/1.1",
            "Host: test",
            &connection,
            "Upgrade: echo",
        ]);
        assert_passes(&mut peer, &request).await;
    }
    assert_passes(
        &mut peer,
        &head(&["GET /x HTTP/1.1", "Host: test", "Upgrade: echo"]),
    )
    .await;
    assert_passes(
        &mut peer,
        &head(&["GET /x HTTP/1.1", "Host: test", "Connection: upgrade"]),
    )
    .await;
}

#[tokio::test]
async fn u1_connection_option_matches_in_any_case_and_on_any_line() {
    for connection in [
        &["Connection: upgrade"][..],
        &["Connection: Upgrade"],
        &["Connection: UPGRADE"],
        &["Connection: keep-alive, Upgrade"],
        &["Connection: keep-alive,\t upgrade ,"],
        &["Connection: keep-alive", "Connection: , upgrade"],
        &["Connection: upgrade", "Connection: keep-alive"],
    ] {
        let (_server, mut peer) = connect_to_echo().await;
        let mut lines = vec!["GET / HTTP/1.1", "Host: test", "Upgrade: echo"];
        lines.extend(connection);
        peer.send(head(&lines)).await;
        peer.head().await.assert_upgraded("echo");
        peer.expect_echo(b"hello").await;
    }
}

#[tokio::test]
async fn u2_upgrade_in_http_1_0_is_ignored() {
    let (_server, mut peer) = connect_to_echo().await;
    peer.send(head(&[
        "GET /old HTTP/1.0",
        "Connection: upgrade",
        "Upgrade: echo",
    ]))
    .await;
    let (head, body) = peer.response().await;
    head.assert_no_handshake();
    assert_eq!((head.status, body.as_str()), (200, "plain GET /old"));
    peer.expect_end().await;
}

#[tokio::test]
async fn u3_upgrade_is_a_list_over_all_lines() {
    for upgrade in [
        &["Upgrade: echo"][..],
        &["Upgrade: , foo/2 ,Echo"],
        &["Upgrade: other", "Upgrade: ECHO"],
        &["Upgrade: ", "Upgrade: \t,,other/1.0,\techo"],
    ] {
        let (_server, mut peer) = connect_to_echo().await;
        let mut lines = vec!["GET / HTTP/1.1", "Host: test", "Connection: upgrade"];
        lines.extend(upgrade);
        peer.send(head(&lines)).await;
        let head = peer.head().await;
        assert_eq!(head.status, 101, "{upgrade:?}");
        let chosen = head.get("upgrade").expect("a protocol");
        assert!(chosen.eq_ignore_ascii_case("echo"), "{upgrade:?}: {chosen}");
        peer.expect_echo(b"hello").await;
    }
}

#[tokio::test]
async fn u3_versions_compare_exactly() {
    let layer = UpgradeLayer::new()
        .protocol("Chat/1.0", echo())
        .protocol("any", echo());
    let server = echo_server(layer).await;
    for (offered, is_supported) in [
        ("chat/1.0", true),
        ("CHAT/1.0", true),
        ("chat/1", false),
        ("chat/1.00", false),
        ("chat", false),
        ("any", true),
        ("any/7", true),
        ("Any/x.Y", true),
    ] {
        let mut peer = server.connect().await;
        if is_supported {
            peer.send(offer(offered, &[])).await;
            peer.head().await.assert_upgraded(offered);
        } else {
            assert_passes(&mut peer, &offer(offered, &[])).await;
        }
    }
}

#[tokio::test]
async fn u4_clients_order_decides_by_default() {
    let layer = UpgradeLayer::new()
        .protocol("a", echo())
        .protocol("b", echo());
    for (preference, chosen) in [
        (None, "b"),
        (Some(Preference::Client), "b"),
        (Some(Preference::Server), "a"),
    ] {
        let layer = match preference {
            Some(preference) => layer.clone().preference(preference),
            None => layer.clone(),
        };
        let server = echo_server(layer).await;
        let mut peer = server.connect().await;
        peer.send(offer("c, b, a", &[])).await;
        peer.head().await.assert_upgraded(chosen);
    }
}

#[tokio::test]
async fn u4_chosen_protocol_is_echoed_as_offered() {
    let layer = UpgradeLayer::new().protocol("chat", echo());
    let server = echo_server(layer).await;
    let mut peer = server.connect().await;
    peer.send(offer("x/1, cHaT/3.Beta, chat/2", &[])).await;
    peer.head().await.assert_upgraded("cHaT/3.Beta");
}

#[tokio::test]
async fn u5_upgrade_response_keeps_other_headers_of_the_handler() {
    struct Framing;
    impl ProtocolHandler for Framing {
        async fn accept(&self, _request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
            Ok(Accept::new(run_echo)
                .header("x-one", HeaderValue::from_static("1"))
                .header("x-one", HeaderValue::from_static("2"))
                .header(header::CONTENT_LENGTH, HeaderValue::from_static("5"))
                .header(
                    header::TRANSFER_ENCODING,
                    HeaderValue::from_static("chunked"),
                )
                .header(header::CONNECTION, HeaderValue::from_static("close"))
                .header(header::UPGRADE, HeaderValue::from_static("other")))
        }
    }
    let server = echo_server(UpgradeLayer::new().protocol("echo", Framing)).await;
    let mut peer = server.connect().await;
    peer.send(offer("echo", &[])).await;
    let head = peer.head().await;
    head.assert_upgraded("echo");
    assert_eq!(head.names(), ["connection", "upgrade", "x-one", "x-one"]);
    assert_eq!(head.get("connection").as_deref(), Some("upgrade"));
    assert_eq!(head.get("x-one").as_deref(), Some("1, 2"));
    peer.expect_echo(b"no byte of a body before this").await;
}

#[tokio::test]
async fn u5_layer_around_cannot_break_the_upgrade_response() {
    let layer = tower::ServiceBuilder::new()
        .layer(UpgradeLayer::new())
        .map_response(|mut response: http::Response<_>| {
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("7"));
            headers.insert(
                header::TRANSFER_ENCODING,
                HeaderValue::from_static("chunked"),
            );
            headers.insert(header::UPGRADE, HeaderValue::from_static("lie"));
            headers.remove(header::CONNECTION);
            headers.insert("x-kept", HeaderValue::from_static("yes"));
            response.map(|_| String::from("a body"))
        })
        .layer(UpgradeLayer::new().protocol("echo", echo()))
        .service(service_fn(plain));
    let server = Server::start(layer).await;
    let mut peer = server.connect().await;
    peer.send(offer("echo", &[])).await;
    let head = peer.head().await;
    head.assert_upgraded("echo");
    assert_eq!(head.get("x-kept").as_deref(), Some("yes"));
    peer.expect_echo(b"hello").await;
}

#[tokio::test]
async fn u6_unsupported_protocol_goes_to_the_inner_service() {
    let (_server, mut peer) = connect_to_echo().await;
    assert_passes(&mut peer, &offer("websocket, h2c", &[])).await;
    peer.send(offer("echo", &[])).await;
    peer.head().await.assert_upgraded("echo");
}

#[tokio::test]
async fn u6_unsupported_protocol_gets_426_with_the_supported_ones() {
    let layer = UpgradeLayer::new()
        .protocol("b/2", echo())
        .protocol("a", echo())
        .protocol("b/2", echo())
        .unsupported(Unsupported::Refuse);
    let server = echo_server(layer).await;
    let mut peer = server.connect().await;
    peer.send(offer("c, b/1", &[])).await;
    let (head, body) = peer.response().await;
    assert_eq!(head.status, 426);
    assert_eq!(head.get("upgrade").as_deref(), Some("b/2, a"));
    assert_eq!(head.get("connection").as_deref(), Some("upgrade"));
    assert!(body.contains("supported"), "{body}");
    // Other requests pass, and the connection stays open.
    assert_passes(
        &mut peer,
        &crate::support::head(&["GET /x HTTP/1.1", "Host: test"]),
    )
    .await;
    peer.send(offer("a", &[])).await;
    peer.head().await.assert_upgraded("a");
}

#[tokio::test]
async fn u6_layer_without_protocols_refuses_no_upgrade() {
    let service = tower::ServiceBuilder::new()
        .layer(UpgradeLayer::new().unsupported(Unsupported::Refuse))
        .layer(UpgradeLayer::new().protocol("echo", echo()))
        .service(service_fn(plain));
    let server = Server::start(service).await;
    let mut peer = server.connect().await;
    assert_passes(&mut peer, &offer("other", &[])).await;
    peer.send(offer("echo", &[])).await;
    peer.head().await.assert_upgraded("echo");
}

#[tokio::test]
async fn u6_426_that_closes_lists_the_supported_protocols() {
    let layer = UpgradeLayer::new()
        .protocol("a", echo())
        .unsupported(Unsupported::Refuse);
    let server = echo_server(layer).await;
    let mut peer = server.connect().await;
    peer.send(offer("b", &["Content-Length: 100000"])).await;
    let (head, _) = peer.response().await;
    assert_eq!(
        (head.status, head.get("upgrade").as_deref()),
        (426, Some("a"))
    );
    assert_eq!(head.get("connection").as_deref(), Some("upgrade, close"));
    peer.expect_end().await;
}

#[tokio::test]
async fn u6_leaf_answers_400_on_http_2() {
    let leaf = UpgradeLayer::new().protocol("a", echo()).into_service();
    let request = http::Request::get("/")
        .version(http::Version::HTTP_2)
        .body(String::new());
    let response = tower::ServiceExt::oneshot(leaf, request.expect("a request")).await;
    let response = response.expect("infallible");
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert_eq!(response.headers().get(header::UPGRADE), None);
}

#[tokio::test]
async fn u6_leaf_answers_requests_without_a_handler_with_426() {
    let leaf = UpgradeLayer::new()
        .protocol("a", echo())
        .protocol("b", echo())
        .into_service();
    let server = Server::start(leaf).await;
    let mut peer = server.connect().await;
    for request in [head(&["GET / HTTP/1.1", "Host: test"]), offer("c", &[])] {
        peer.send(request).await;
        let (head, _) = peer.response().await;
        assert_eq!(head.status, 426);
        assert_eq!(head.get("upgrade").as_deref(), Some("a, b"));
        assert_eq!(head.get("connection").as_deref(), Some("upgrade"));
    }
    peer.send(offer("b", &[])).await;
    peer.head().await.assert_upgraded("b");
}

#[tokio::test]
async fn u10_connection_stays_open_after_a_refusal() {
    let handler = Counted::default();
    let layer = UpgradeLayer::new()
        .protocol("no", Refuse)
        .protocol("echo", handler.clone());
    let server = echo_server(layer).await;
    let mut peer = server.connect().await;
    for _ in 0..3 {
        peer.send(offer("no", &[])).await;
        let (head, body) = peer.response().await;
        head.assert_no_handshake();
        assert_eq!((head.status, body.as_str()), (403, "not you"));
        assert_passes(
            &mut peer,
            &crate::support::head(&["GET /x HTTP/1.1", "Host: test"]),
        )
        .await;
    }
    peer.send(offer("echo", &[])).await;
    peer.head().await.assert_upgraded("echo");
    peer.expect_echo(b"hello").await;
    assert_eq!((handler.accepted(), handler.started()), (1, 1));
}

#[tokio::test]
async fn u10_pipelined_request_after_a_refusal_is_answered() {
    let server = echo_server(UpgradeLayer::new().protocol("no", Refuse)).await;
    let mut peer = server.connect().await;
    peer.send(offer("no", &[]) + &head(&["GET /next HTTP/1.1", "Host: test"]))
        .await;
    assert_eq!(peer.response().await.0.status, 403);
    assert_eq!(peer.response().await.1, "plain GET /next");
}

#[tokio::test]
async fn u11_any_method_may_upgrade() {
    let server = echo_server(UpgradeLayer::new().protocol("echo", echo())).await;
    for method in [
        "GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "HEAD", "PROPFIND",
    ] {
        let mut peer = server.connect().await;
        peer.send(offer("echo", &[]).replacen("GET", method, 1))
            .await;
        peer.head().await.assert_upgraded("echo");
        peer.expect_echo(method.as_bytes()).await;
    }
}

#[tokio::test]
async fn u11_handler_may_restrict_the_method() {
    struct OnlyGet;
    impl ProtocolHandler for OnlyGet {
        async fn accept(&self, request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
            if request.method() != Method::GET {
                return Err(Rejection::from(StatusCode::METHOD_NOT_ALLOWED)
                    .header(header::ALLOW, HeaderValue::from_static("GET")));
            }
            Ok(Accept::new(run_echo))
        }
    }
    let server = echo_server(UpgradeLayer::new().protocol("echo", OnlyGet)).await;
    let mut peer = server.connect().await;
    peer.send(offer("echo", &[]).replacen("GET", "PUT", 1))
        .await;
    let (head, _) = peer.response().await;
    assert_eq!(
        (head.status, head.get("allow").as_deref()),
        (405, Some("GET"))
    );
    peer.send(offer("echo", &[])).await;
    peer.head().await.assert_upgraded("echo");
}

#[tokio::test]
async fn u12_malformed_upgrade_is_a_plain_request() {
    let (_server, mut peer) = connect_to_echo().await;
    for upgrade in [
        "echo;q=1",
        "echo, /1",
        "echo/",
        "echo/1/2",
        "echo other",
        "\"echo\"",
        ", ,",
        "ech\u{f6}, echo",
    ] {
        assert_passes(&mut peer, &offer(upgrade, &[])).await;
    }
    // All lines of the header form one list, so one malformed line invalidates it.
    assert_passes(&mut peer, &offer("echo", &["Upgrade: (echo)"])).await;
}

#[tokio::test]
async fn u14_any_token_can_be_registered() {
    // hyper serves HTTP/1.1 again on the session's IO, with an upgrade layer.
    let http_again = handler_fn(|session: Session| async move {
        // Take the IO out of the session: the inner session outlives this handler.
        let io = hyper_util::rt::TokioIo::new(session.into_io().into_parts().io);
        let layer = UpgradeLayer::new().protocol("echo", echo());
        let service = hyper_util::service::TowerToHyperService::new(layer.layer(service_fn(plain)));
        hyper::server::conn::http1::Builder::new()
            .serve_connection(io, service)
            .with_upgrades()
            .await?;
        Ok(())
    });
    for token in ["h2c", "TLS/1.0", "HTTP/2.0", "http/1.1"] {
        let layer = UpgradeLayer::new().protocol(token, http_again.clone());
        let server = echo_server(layer).await;
        let mut peer = server.connect().await;
        peer.send(offer(token, &[])).await;
        peer.head().await.assert_upgraded(token);
        assert_passes(&mut peer, &head(&["GET /inside HTTP/1.1", "Host: test"])).await;
        peer.send(offer("echo", &[])).await;
        peer.head().await.assert_upgraded("echo");
        peer.expect_echo(b"twice upgraded").await;
        peer.finish().await;
        peer.expect_end().await;
    }

    // hyper's HTTP/1.1 takes an HTTP/2 preface for a malformed request.
    let server = echo_server(UpgradeLayer::new().protocol("h2c", http_again)).await;
    let mut peer = server.connect().await;
    peer.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    // hyper closes the connection without a response.
    peer.expect_end().await;
}
