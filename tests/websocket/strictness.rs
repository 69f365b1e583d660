//! Peers that break the protocol, byte by byte.

use crate::{
    echo, handler, open,
    support::websocket::{BINARY, CLOSE, CONTINUATION, FIN, Frame, PING, PONG, TEXT},
};
use tower_upgrade::websocket::WebSocketConfig;

/// The code of the close frame that a server answers with, and how the session ends.
async fn told(bytes: &[u8]) -> (u16, String) {
    let mut opened =
        open(handler(echo).config(WebSocketConfig::new().max_message_size(1000))).await;
    opened.peer.send(bytes).await;
    let frame = Frame::read(&mut opened.peer).await;
    assert_eq!(frame.opcode(), CLOSE, "{frame:?}");
    let code = u16::from_be_bytes([frame.payload[0], frame.payload[1]]);
    (code, opened.ended().await)
}

#[tokio::test]
async fn protocol_violation_closes_with_its_code() {
    let large = [b'a'; 600];
    for (what, code, frames) in [
        (
            "a frame that is not masked",
            1002,
            vec![Frame::new(TEXT, "a").unmasked()],
        ),
        (
            "a reserved bit",
            1002,
            vec![Frame::part(0xc1, "a").masked()],
        ),
        (
            "another reserved bit",
            1002,
            vec![Frame::part(0xa1, "a").masked()],
        ),
        ("a reserved opcode", 1002, vec![Frame::new(3, "a").masked()]),
        (
            "a reserved control opcode",
            1002,
            vec![Frame::new(11, "a").masked()],
        ),
        (
            "a ping in fragments",
            1002,
            vec![Frame::part(PING, "a").masked()],
        ),
        (
            "a ping of 126 bytes",
            1002,
            vec![Frame::new(PING, [0; 126]).masked()],
        ),
        (
            "a close frame of one byte",
            1002,
            vec![Frame::new(CLOSE, "a").masked()],
        ),
        (
            "a close frame in fragments",
            1002,
            vec![Frame::part(CLOSE, b"\x03\xe8").masked()],
        ),
        (
            "a close frame of 126 bytes",
            1002,
            vec![Frame::close(1000, &"a".repeat(124)).masked()],
        ),
        (
            "a close frame whose reason is no UTF-8",
            1007,
            vec![Frame::new(CLOSE, b"\x03\xe8a\xff").masked()],
        ),
        (
            "a pong in fragments, within a message",
            1002,
            vec![
                Frame::part(TEXT, "a").masked(),
                Frame::part(PONG, "b").masked(),
            ],
        ),
        (
            "a continuation of nothing",
            1002,
            vec![Frame::new(CONTINUATION, "a").masked()],
        ),
        (
            "a message within another",
            1002,
            vec![
                Frame::part(TEXT, "a").masked(),
                Frame::new(TEXT, "b").masked(),
            ],
        ),
        (
            "text that is no UTF-8",
            1007,
            vec![Frame::new(TEXT, b"a\xff").masked()],
        ),
        (
            "text that is no UTF-8, over fragments",
            1007,
            vec![
                Frame::part(TEXT, b"\xe2\x82").masked(),
                Frame::part(FIN | CONTINUATION, b"\xff").masked(),
            ],
        ),
        (
            "text that ends within a character",
            1007,
            vec![Frame::new(TEXT, b"a\xe2\x82").masked()],
        ),
        (
            "a frame that is too large",
            1009,
            vec![Frame::new(BINARY, [0; 1001]).masked()],
        ),
        (
            "a message that is too large",
            1009,
            vec![
                Frame::part(BINARY, large).masked(),
                Frame::part(FIN | CONTINUATION, large).masked(),
            ],
        ),
    ] {
        let (told, reason) = told(&frames.concat()).await;
        assert_eq!(told, code, "{what}");
        assert!(reason.starts_with("failed: "), "{what}: {reason}");
    }
}

#[tokio::test]
async fn frame_over_the_limit_closes_at_its_header() {
    let header = b"\x82\xff\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00";
    assert_eq!(told(header).await.0, 1009);
}

#[tokio::test]
async fn fragment_over_the_message_limit_closes_at_its_header() {
    let mut opened =
        open(handler(echo).config(WebSocketConfig::new().max_message_size(1000))).await;
    let frame = Frame::new(BINARY, [0; 1001]).masked();
    opened.peer.send(&frame[..8]).await;
    opened.expect(Frame::close(1009, "")).await;
}

#[tokio::test]
async fn ping_may_exceed_the_message_limit() {
    let mut opened = open(handler(echo).config(WebSocketConfig::new().max_message_size(1))).await;
    opened.send(Frame::new(PING, [b'a'; 125])).await;
    opened.expect(Frame::new(PONG, [b'a'; 125])).await;
    opened.send(Frame::new(TEXT, "ab")).await;
    opened.expect(Frame::close(1009, "")).await;
}

#[tokio::test]
async fn invalid_close_code_is_answered_with_1002() {
    for code in [0, 999, 1005, 1006, 1015, 2999, 5000] {
        let (told, reason) = told(&Frame::close(code, "").masked()).await;
        assert_eq!(told, 1002, "{code}");
        assert_eq!(reason, "finished");
    }
}

#[tokio::test]
async fn empty_fragments_do_not_count_as_bytes() {
    let mut opened = open(handler(echo).config(WebSocketConfig::new().max_message_size(1))).await;
    opened.send(Frame::part(TEXT, "")).await;
    for _ in 0..10 {
        let fragments = Frame::part(CONTINUATION, "").masked().repeat(1000);
        opened.peer.send(fragments).await;
        // It does not wait for the end of the message with this.
        opened.send(Frame::new(PING, "")).await;
        opened.expect(Frame::new(PONG, "")).await;
    }
    opened.send(Frame::part(FIN | CONTINUATION, "a")).await;
    opened.expect(Frame::new(TEXT, "a")).await;
}

#[tokio::test]
async fn violation_after_our_close_frame_sends_no_second_one() {
    let mut opened = open(handler(|_socket| async { Ok(()) })).await;
    opened.expect(Frame::close(1000, "")).await;
    opened.send(Frame::part(0xc1, "a")).await;
    assert_eq!(opened.ended().await, "finished");
}

#[tokio::test]
async fn frames_after_the_peers_close_are_ignored() {
    let mut opened = open(handler(echo)).await;
    let frames = [
        Frame::close(1000, "bye"),
        Frame::new(PING, "are you there?"),
        Frame::part(0xc1, "a"),
    ];
    opened
        .peer
        .send(frames.map(|frame| frame.masked()).concat())
        .await;
    opened.expect(Frame::close(1000, "bye")).await;
    assert_eq!(opened.ended().await, "finished");
}
