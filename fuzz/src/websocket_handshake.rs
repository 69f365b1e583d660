//! The opening handshake of WebSocket on HTTP/1.1, the server's side: W1 to W6.

use crate::{
    reference::{self, Head},
    wire,
};
use arbitrary::{Result, Unstructured};
use bytes::Bytes;
use http::HeaderValue;
use tower_upgrade::{UpgradeLayer, websocket::websocket};

const SPOKEN: [&str; 2] = ["chat", "superchat"];

pub fn run(data: &[u8]) {
    if let Ok((request, is_any_origin)) = request(Unstructured::new(data)) {
        check(&request, is_any_origin);
    }
}

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const HOST: &str = "test";

fn request(mut u: Unstructured) -> Result<(Vec<u8>, bool)> {
    let is_any_origin = u.arbitrary()?;
    let method = u.choose(&["GET", "GET", "GET", "POST", "HEAD"])?;
    let mut request = format!("{method} / HTTP/1.1\r\n").into_bytes();
    let fields: [(&str, &str, &[&str]); 8] = [
        ("Connection", "upgrade", &[]),
        ("Upgrade", "websocket", &["WebSocket", "websocket/13"]),
        (
            "Host",
            HOST,
            &["TEST:80", "[::1]", "test:", "ann@test", "test:8080"],
        ),
        (
            "Sec-WebSocket-Key",
            KEY,
            &["dGhlIHNhbXBsZSBub25jZR==", "AAAAAAAAAAAAAAAAAAAAAA=="],
        ),
        ("Sec-WebSocket-Version", "13", &["8", "13, 8", "013"]),
        (
            "Sec-WebSocket-Protocol",
            "chat",
            &["x, superchat ,chat", "Chat", "a b", ","],
        ),
        (
            "Origin",
            "http://test",
            &[
                "null",
                "https://test",
                "http://[0::1]",
                "http://test:8080",
                "https://test:443",
            ],
        ),
        ("Sec-WebSocket-Extensions", "permessage-deflate", &[]),
    ];
    for (name, usual, others) in fields {
        // As a rule what makes a handshake, so that one thing at a time is another.
        let lines: Vec<Vec<u8>> = match u.int_in_range(0..=15)? {
            0..=9 => vec![usual.into()],
            10 => vec![],
            11 => vec![usual.into(), usual.into()],
            12 | 13 => vec![raw(&mut u)?],
            14 => vec![raw(&mut u)?, usual.into()],
            _ if others.is_empty() => vec![usual.into()],
            _ => vec![(*u.choose(others)?).into()],
        };
        for line in lines {
            request.extend_from_slice(name.as_bytes());
            request.extend_from_slice(b": ");
            request.extend_from_slice(&line);
            request.extend_from_slice(b"\r\n");
        }
    }
    request.extend_from_slice(b"\r\n");
    Ok((request, is_any_origin))
}

/// Any value that a field may have.
fn raw(u: &mut Unstructured) -> Result<Vec<u8>> {
    let value: Vec<u8> = u.arbitrary()?;
    match HeaderValue::from_bytes(&value) {
        Ok(_) => Ok(value),
        Err(_) => Err(arbitrary::Error::IncorrectFormat),
    }
}

fn check(request: &[u8], is_any_origin: bool) {
    let mut handler = websocket(|_socket, _session| async move { Ok(()) }).subprotocols(SPOKEN);
    if is_any_origin {
        handler = handler.any_origin();
    }
    let layer = UpgradeLayer::new().protocol("websocket", handler);
    let mut read = Bytes::from(wire::exchange(layer, &[request]));
    let response = wire::Head::take(&mut read).expect("an answer");

    let head = Head::parse(request).expect("a request");
    let expected = expected(&head, is_any_origin);
    assert_eq!(response.status, expected.0);
    assert_eq!(response.get("sec-websocket-extensions"), None);
    match expected {
        (101, offer) => {
            response.assert_switch(Some(&offer));
            let key = head.get("sec-websocket-key")[0];
            let accept = tungstenite::handshake::derive_accept_key(key);
            assert_eq!(response.get("sec-websocket-accept"), Some(&*accept));
            let offered = reference::list(&head.get("sec-websocket-protocol"));
            let is_spoken = |name: &&Vec<u8>| SPOKEN.iter().any(|own| own.as_bytes() == **name);
            let subprotocol = offered.iter().find(is_spoken);
            let subprotocol = subprotocol.map(|name| std::str::from_utf8(name).expect("spoken"));
            assert_eq!(response.get("sec-websocket-protocol"), subprotocol);
        }
        (status, _) => {
            assert_eq!(response.get("sec-websocket-accept"), None);
            assert_eq!(response.get("allow"), (status == 405).then_some("GET"));
            let is_426 = status == 426;
            assert_eq!(response.get("upgrade"), is_426.then_some("websocket"));
            assert_eq!(
                response.get("sec-websocket-version"),
                is_426.then_some("13")
            );
        }
    }
}

/// The status, and of a 101 what it switches to.
fn expected(head: &Head, is_any_origin: bool) -> (u16, String) {
    let offers = head.upgrade().unwrap_or_default();
    let offer = offers.into_iter().find(|offer| offer.name == "websocket");
    let Some(offer) = offer else {
        return (204, String::new());
    };
    let has_subprotocols = reference::list(&head.get("sec-websocket-protocol"))
        .iter()
        .all(|name| reference::is_token(name));
    let status = match () {
        () if head.method != "GET" => 405,
        () if head.get("sec-websocket-version") != [b"13"] => 426,
        () if !is_key(&head.get("sec-websocket-key")) => 400,
        () if !is_any_origin && !is_same_origin(head) => 403,
        () if !has_subprotocols => 400,
        () => 101,
    };
    (status, offer.text)
}

/// One line that is the base64 of 16 bytes: 21 digits of six bits, one of two and four that are zero, two `=`.
fn is_key(lines: &[&[u8]]) -> bool {
    let [key] = lines else { return false };
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/".contains(byte);
    key.len() == 24
        && key[..21].iter().all(is_digit)
        && b"AQgw".contains(&key[21])
        && &key[22..] == b"=="
}

/// Whether there is no `Origin`, or one that has the host and the port of `Host`.
fn is_same_origin(head: &Head) -> bool {
    let origins = head.get("origin");
    let [origin] = *origins else {
        return origins.is_empty();
    };
    let hosts = head.get("host");
    let [host] = *hosts else { return false };
    let (Ok(origin), Ok(host)) = (std::str::from_utf8(origin), std::str::from_utf8(host)) else {
        return false;
    };
    let origin = origin.to_ascii_lowercase();
    let Some((scheme, origin)) = origin.split_once("://") else {
        return false;
    };
    let default = match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    };
    // `None`: no port. `Err`: what is none.
    let port = |port: Option<&str>| match port {
        None => Ok(default),
        Some(port) => port.parse::<u16>().map(Some),
    };
    let (Some(origin), Some(host)) = (
        reference::host_and_port(origin),
        reference::host_and_port(host),
    ) else {
        return false;
    };
    let host_port = port(host.1.filter(|port| !port.is_empty()));
    let (Ok(origin_port), Ok(host_port)) = (port(origin.1), host_port) else {
        return false;
    };
    (origin.0, origin_port) == (host.0, host_port)
}
