//! The server's side of the WebSocket opening handshake on HTTP/1.1: W1 to W6.
//!
//! Each line of the input is a field of the request, or its method: the first character selects which. With a leading
//! `a`, the server accepts pages of any origin.

use crate::{
    reference::{self, Head},
    wire,
};
use bytes::Bytes;
use http::{HeaderValue, Method};
use tower_upgrade::{
    UpgradeLayer,
    websocket::{WebSocketConfig, websocket},
};

const SPOKEN: [&str; 2] = ["chat", "superchat"];

pub fn run(data: &[u8]) {
    let is_any_origin = data.starts_with(b"a");
    let mut method = Method::GET;
    let mut fields = b"Connection: upgrade\r\n".to_vec();
    for line in data.split(|byte| *byte == b'\n') {
        let Some((kind, value)) = line.split_first() else {
            continue;
        };
        let name = match kind {
            b'u' => "Upgrade",
            b'h' => "Host",
            b'k' => "Sec-WebSocket-Key",
            b'v' => "Sec-WebSocket-Version",
            b'p' => "Sec-WebSocket-Protocol",
            b'x' => "Sec-WebSocket-Extensions",
            b'o' => "Origin",
            b'm' => {
                method = match value {
                    b"CONNECT" => return,
                    value => Method::from_bytes(value).unwrap_or(method),
                };
                continue;
            }
            _ => continue,
        };
        if HeaderValue::from_bytes(value).is_ok() {
            fields.extend_from_slice(name.as_bytes());
            fields.extend_from_slice(b": ");
            fields.extend_from_slice(value);
            fields.extend_from_slice(b"\r\n");
        }
    }
    let head = format!("{method} / HTTP/1.1\r\n");
    let request = [head.as_bytes(), &fields, b"\r\n"].concat();
    if let Some(head) = Head::parse(&request) {
        check(&request, &head, is_any_origin);
    }
}

fn check(request: &[u8], head: &Head, is_any_origin: bool) {
    let mut config = WebSocketConfig::new().subprotocols(SPOKEN);
    if is_any_origin {
        config = config.any_origin();
    }
    let handler = websocket(|_socket, _session| async move { Ok(()) }).config(config);
    let layer = UpgradeLayer::new().protocol("websocket", handler);
    let mut read = Bytes::from(wire::exchange(layer, &[request]));
    let response = wire::Head::take(&mut read).expect("an answer");

    let expected = expected(head, is_any_origin);
    assert_eq!(response.status, expected.0);
    assert_eq!(response.get("sec-websocket-extensions"), None);
    match expected {
        (101, offer) => {
            response.assert_upgraded(Some(&offer));
            let key = head.get("sec-websocket-key")[0];
            let accept = tungstenite::handshake::derive_accept_key(key);
            assert_eq!(response.get("sec-websocket-accept"), Some(&*accept));
            let offered = reference::list(&head.get("sec-websocket-protocol"));
            let is_spoken = |name: &&Vec<u8>| SPOKEN.iter().any(|own| own.as_bytes() == **name);
            let subprotocol = offered.iter().find(is_spoken);
            let subprotocol =
                subprotocol.map(|name| std::str::from_utf8(name).expect("a supported subprotocol"));
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

/// The status, and for a 101 the chosen protocol.
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

/// Whether one line is the base64 of 16 bytes: 21 digits of six bits, one of two and four that are zero, two `=`.
fn is_key(lines: &[&[u8]]) -> bool {
    let [key] = lines else { return false };
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/".contains(byte);
    key.len() == 24
        && key[..21].iter().all(is_digit)
        && b"AQgw".contains(&key[21])
        && &key[22..] == b"=="
}

/// Whether `Origin` is absent, or has the host and the port of `Host`.
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
    // Only web pages are accepted (rule W5).
    let default = match scheme {
        "http" | "ws" => 80,
        "https" | "wss" => 443,
        _ => return false,
    };
    let port = |port: Option<&str>| port.map_or(Ok(default), str::parse::<u16>);
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
