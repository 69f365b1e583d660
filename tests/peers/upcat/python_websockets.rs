//! upcat with Python's websockets library, which checks the handshake strictly: see `chat.py`.

use super::{Upcat, upcat};
use crate::process::{Script, program};

/// Starts the server with Debian's Python, which finds Debian's library.
async fn websockets() -> Script {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/upcat/chat.py");
    Script::start(program("/usr/bin/python3", "python3-websockets").arg(script)).await
}

const WEBSOCKET: [&str; 2] = ["--protocol", "websocket"];

#[tokio::test]
async fn upcat_prints_the_refusal_of_websockets() {
    let server = websockets().await;
    let ended = upcat(&[&WEBSOCKET, &[&*server.url][..]].concat(), "unread").await;
    ended.assert_failed(4, "upcat: refused with 400 Bad Request\n");
    let why = "missing Sec-WebSocket-Key header";
    assert!(ended.stderr.contains(why), "{}", ended.stderr);
}

#[tokio::test]
async fn upcat_exchanges_websocket_frames() {
    let server = websockets().await;
    // The key of RFC 6455 §1.3.
    let handshake = [
        "--header",
        "Sec-WebSocket-Version: 13",
        "--header",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        &server.url,
    ];
    let mut upcat = Upcat::start(&[&WEBSOCKET, &handshake[..]].concat()).await;
    upcat.expect(b"\x81\x05hello").await;
    // The masked text of RFC 6455 §5.7.
    let hello = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
    upcat.exchange(hello, b"\x81\x05Hello").await;
    // A close frame with code 1000, masked with zeros, and its echo.
    let ended = upcat.finish(b"\x88\x82\0\0\0\0\x03\xe8").await;
    ended.assert_printed(b"\x88\x02\x03\xe8");
}
