//! Heads of requests and responses.

use crate::{
    raw::{Client, DATA, End, HEADERS, extended_connect, frame, headers, section},
    server, server_fn,
    support::{h3::Server, plain},
};
use http::{Response, Version};
use http_body_util::Full;
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tower::service_fn;
use tower_upgrade::{PendingUpgrade, http3};

const H3_MESSAGE_ERROR: u64 = 0x10e;

const METHOD: (&str, &str) = (":method", "GET");
const SCHEME: (&str, &str) = (":scheme", "https");
const AUTHORITY: (&str, &str) = (":authority", "test");
const PATH: (&str, &str) = (":path", "/");

#[tokio::test]
async fn e8_malformed_request_resets_only_its_stream() {
    let server = server().await;
    let client = Client::connect(&server).await;
    let good = [METHOD, SCHEME, AUTHORITY, PATH];
    let with = |extra: &'static [(&'static str, &'static str)]| [&good[..], extra].concat();
    let connect = (":method", "CONNECT");
    for (case, fields) in [
        ("no method", vec![SCHEME, AUTHORITY, PATH]),
        ("no scheme", vec![METHOD, AUTHORITY, PATH]),
        ("no path", vec![METHOD, SCHEME, AUTHORITY]),
        ("no authority", vec![METHOD, SCHEME, PATH]),
        ("empty path", vec![METHOD, SCHEME, AUTHORITY, (":path", "")]),
        (
            "path without slash",
            vec![METHOD, SCHEME, AUTHORITY, (":path", "@other")],
        ),
        (
            "asterisk of a GET",
            vec![METHOD, SCHEME, AUTHORITY, (":path", "*")],
        ),
        (
            "empty authority",
            vec![METHOD, SCHEME, (":authority", ""), PATH],
        ),
        (
            "user",
            vec![METHOD, SCHEME, (":authority", "me@test"), PATH],
        ),
        (
            "user in host",
            vec![METHOD, SCHEME, PATH, ("host", "me@test")],
        ),
        ("two methods", vec![METHOD, METHOD, SCHEME, AUTHORITY, PATH]),
        ("two paths", vec![METHOD, SCHEME, AUTHORITY, PATH, PATH]),
        ("unknown", with(&[(":version", "3")])),
        ("status", with(&[(":status", "200")])),
        ("protocol without connect", with(&[(":protocol", "test")])),
        (
            "late pseudo-header",
            vec![METHOD, SCHEME, AUTHORITY, ("a", "b"), PATH],
        ),
        ("upper case", with(&[("Name", "value")])),
        ("space in name", with(&[("na me", "value")])),
        ("empty name", with(&[("", "value")])),
        ("line feed in value", with(&[("name", "va\nlue")])),
        ("nul in value", with(&[("name", "va\0lue")])),
        ("connection", with(&[("connection", "close")])),
        ("keep-alive", with(&[("keep-alive", "5")])),
        ("proxy-connection", with(&[("proxy-connection", "close")])),
        (
            "transfer-encoding",
            with(&[("transfer-encoding", "chunked")]),
        ),
        ("upgrade", with(&[("upgrade", "test")])),
        ("te", with(&[("te", "gzip")])),
        ("quotation mark", with(&[("na\"me", "value")])),
        ("host differs", with(&[("host", "other")])),
        ("content-length", with(&[("content-length", "-1")])),
        (
            "content-length twice",
            with(&[("content-length", "1"), ("content-length", "2")]),
        ),
        (
            "connect with path",
            vec![connect, (":authority", "test:1"), PATH],
        ),
        ("connect with scheme", vec![connect, AUTHORITY, SCHEME]),
        ("connect without authority", vec![connect]),
        (
            "extended connect without path",
            vec![connect, (":protocol", "test"), SCHEME, AUTHORITY],
        ),
    ] {
        let mut stream = client.request(&fields).await;
        assert_eq!(
            stream.frame().await,
            Err(End::Reset(H3_MESSAGE_ERROR)),
            "{case}"
        );
        assert_eq!(stream.stopped().await, Some(H3_MESSAGE_ERROR), "{case}");
    }
    client.expect_alive().await;
}

#[tokio::test]
async fn e8_valid_heads_are_served() {
    let server = server().await;
    let client = Client::connect(&server).await;
    for (case, fields) in [
        ("host alone", vec![METHOD, SCHEME, PATH, ("host", "test")]),
        (
            "host and authority",
            vec![METHOD, SCHEME, AUTHORITY, PATH, ("host", "test")],
        ),
        ("order", vec![PATH, AUTHORITY, SCHEME, METHOD]),
        (
            "te",
            vec![METHOD, SCHEME, AUTHORITY, PATH, ("te", "trailers")],
        ),
        (
            "obs-text",
            vec![METHOD, SCHEME, AUTHORITY, PATH, ("name", "vålue")],
        ),
        (
            "options",
            vec![(":method", "OPTIONS"), SCHEME, AUTHORITY, (":path", "*")],
        ),
    ] {
        let mut stream = client.request(&fields).await;
        let _ = stream.send.finish();
        assert_eq!(stream.status().await, 200, "{case}");
    }
}

#[tokio::test]
async fn e8_request_has_version_address_protocol_and_upgrade() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let server = server_fn({
        let seen = Arc::clone(&seen);
        move |request: http::Request<http3::Body>| {
            let extensions = request.extensions();
            let protocol = extensions.get::<hyper::ext::Protocol>();
            seen.lock().expect("no panic").push((
                request.version(),
                extensions.get::<SocketAddr>().copied(),
                protocol.map(|protocol| protocol.as_str().to_owned()),
                extensions.get::<PendingUpgrade>().is_some(),
                request.uri().to_string(),
                request.headers().get("cookie").cloned(),
            ));
            async { Ok(Response::new(Full::default())) }
        }
    })
    .await;
    let client = Client::connect(&server).await;
    let cookies = [("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")];
    let get = [
        &[METHOD, SCHEME, AUTHORITY, (":path", "/a?b")][..],
        &cookies,
    ]
    .concat();
    for fields in [&get[..], &extended_connect("any/1")] {
        let mut stream = client.request(fields).await;
        assert_eq!(stream.status().await, 200);
    }
    let mut tunnel = client.request(&crate::raw::CONNECT).await;
    assert_eq!(tunnel.status().await, 200);
    let seen = seen.lock().expect("no panic");
    let local = client.connection.local_ip();
    for (version, address, ..) in &*seen {
        assert_eq!(*version, Version::HTTP_3);
        let address = address.expect("an address");
        assert!(local.is_none_or(|local| local == address.ip()));
    }
    let targets: Vec<_> = seen
        .iter()
        .map(|(_, _, protocol, has_upgrade, uri, _)| (protocol.as_deref(), *has_upgrade, &**uri))
        .collect();
    assert_eq!(
        targets,
        [
            (None, false, "https://test/a?b"),
            (Some("any/1"), true, "https://test/"),
            (None, true, "test:1"),
        ]
    );
    assert_eq!(seen[0].5.as_ref().expect("cookies"), "a=1; b=2; c=3");
}

#[tokio::test]
async fn e8_too_large_head_is_answered_431() {
    let server = server().await;
    let client = Client::connect(&server).await;
    let large = "x".repeat(15 * 1024);
    let fields = [METHOD, SCHEME, AUTHORITY, PATH, ("a", &large)];
    let mut stream = client.request(&fields).await;
    let _ = stream.send.finish();
    assert_eq!(stream.status().await, 200);
    // Many small fields count 32 bytes each.
    let mut many = vec![METHOD, SCHEME, AUTHORITY, PATH];
    many.extend(std::iter::repeat_n(("a", "b"), 600));
    let mut stream = client.request(&many).await;
    assert_eq!(stream.status().await, 431);
    // The frame alone exceeds the limit: the server does not read it.
    let mut stream = client.open(&[HEADERS as u8, 0x80, 0x10, 0, 0]).await;
    assert_eq!(stream.status().await, 431);
    assert_eq!(stream.frame().await, Err(End::Finished));
    assert_eq!(stream.stopped().await, Some(0x100));
    client.expect_alive().await;
}

#[tokio::test]
async fn e8_head_arrives_in_pieces_and_behind_unknown_frames() {
    let server = server().await;
    let client = Client::connect(&server).await;
    let head = headers(&[METHOD, SCHEME, AUTHORITY, PATH]);
    // Type 0x21 is reserved for tests of extensibility (RFC 9114 §7.2.8).
    let bytes = [&frame(0x21, b"unknown")[..], &head].concat();
    let mut stream = client.open(&bytes[..1]).await;
    for byte in &bytes[1..] {
        stream.write(&[*byte]).await;
        tokio::task::yield_now().await;
    }
    let _ = stream.send.finish();
    assert_eq!(stream.status().await, 200);
    let (body, end) = stream.rest().await;
    assert_eq!((&body[..], end), (&b"plain GET /"[..], End::Finished));
}

#[tokio::test]
async fn response_has_date_and_length_and_no_connection_fields() {
    let server = server_fn(|_| async {
        let response = Response::builder()
            .status(418)
            .header("connection", "close")
            .header("keep-alive", "5")
            .header("transfer-encoding", "chunked")
            .header("upgrade", "test")
            .header("name", "value");
        Ok(response.body(Full::from("teapot")).expect("a response"))
    })
    .await;
    let client = Client::connect(&server).await;
    let mut stream = client.request(&crate::raw::GET).await;
    let head = stream.head().await;
    let mut names: Vec<&str> = head.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, [":status", "content-length", "date", "name"]);
    assert_eq!(head["content-length"], "6");
    // No body for HEAD.
    let mut stream = client
        .request(&[(":method", "HEAD"), SCHEME, AUTHORITY, PATH])
        .await;
    assert_eq!(stream.head().await["content-length"], "6");
    assert_eq!(stream.frame().await, Err(End::Finished));
}

#[tokio::test]
async fn head_timeout_resets_the_stream() {
    let server = Server::start_with(
        http3::Builder::new().head_timeout(Duration::from_millis(20)),
        http3::transport_config(),
        service_fn(plain),
    );
    let client = Client::connect(&server).await;
    let mut stream = client.open(&headers(&crate::raw::GET)[..4]).await;
    assert_eq!(stream.frame().await, Err(End::Reset(0x10d)));
}

#[tokio::test]
async fn e8_end_before_the_head_resets_the_stream() {
    let server = server().await;
    let client = Client::connect(&server).await;
    let mut stream = client.open(&frame(0x21, b"")).await;
    let _ = stream.send.finish();
    assert_eq!(stream.frame().await, Err(End::Reset(0x10d)));
    client.expect_alive().await;
}

#[tokio::test]
async fn e8_field_section_with_dynamic_references_closes_the_connection() {
    let server = server().await;
    for section in [
        &b"\x02\x00\x80"[..],
        b"\x00\x00\x80",
        b"\x00\x00\x10",
        b"\x00",
        b"",
    ] {
        let client = Client::connect(&server).await;
        let _stream = client.open(&frame(HEADERS as u8, section)).await;
        assert_eq!(client.closed().await, 0x200, "{section:?}");
    }
}

#[tokio::test]
async fn e8_frame_order_is_enforced() {
    let server = server().await;
    let head = headers(&[(":method", "POST"), SCHEME, AUTHORITY, PATH]);
    let trailers = frame(HEADERS as u8, &section(&[("a", "b")]));
    for (case, bytes, code) in [
        ("data first", frame(DATA as u8, b"x"), 0x105),
        ("settings", frame(4, b""), 0x105),
        ("goaway", [&head[..], &frame(7, b"\0")].concat(), 0x105),
        (
            "push promise",
            [&head[..], &frame(5, b"\0")].concat(),
            0x105,
        ),
        ("http/2 ping", [&head[..], &frame(6, b"")].concat(), 0x105),
        (
            "data after trailers",
            [&head[..], &trailers, &frame(DATA as u8, b"x")].concat(),
            0x105,
        ),
        (
            "three heads",
            [&head[..], &trailers, &trailers].concat(),
            0x105,
        ),
    ] {
        let server_of_bodies = server_fn(|request| async {
            use http_body_util::BodyExt as _;
            request.into_body().collect().await?;
            Ok(Response::new(Full::default()))
        })
        .await;
        let client = Client::connect(&server_of_bodies).await;
        let _stream = client.open(&bytes).await;
        assert_eq!(client.closed().await, code, "{case}");
    }
    // A truncated frame (RFC 9114 §7.1).
    let client = Client::connect(&server).await;
    let mut stream = client.open(&head[..head.len() - 1]).await;
    let _ = stream.send.finish();
    assert_eq!(client.closed().await, 0x106);
}
