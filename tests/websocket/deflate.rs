//! W7: permessage-deflate (RFC 7692), over sockets.

mod broadcast;
#[cfg(feature = "client")]
mod client;

use crate::{
    echo, handler, listen, notes,
    support::{
        Head, Peer, Server, Via, h2, offer, plain, soon,
        websocket::{BINARY, CLOSE, CONTINUATION, FIN, Frame, PING, PONG, TEXT},
    },
};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use http::HeaderValue;
use tokio::net::TcpStream;
use tower::{Layer as _, service_fn};
use tower_upgrade::{
    ProtocolHandler, UpgradeLayer,
    websocket::{Deflate, Message, WebSocket, WebSocketConfig, WebSocketUpgrade},
};

const RSV1: u8 = 0x40;

/// `Hello`, compressed (RFC 7692 §7.2.3.1), and again with context takeover (§7.2.3.2).
const HELLO: &[u8] = b"\xf2\x48\xcd\xc9\xc9\x07\x00";
const HELLO_AGAIN: &[u8] = b"\xf2\x00\x11\x00\x00";

const DECLINED: &str = "";
const NO_TAKEOVER: &str =
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

fn config(deflate: Deflate) -> WebSocketConfig {
    WebSocketConfig::new().deflate(deflate)
}

/// Compresses all messages, with context takeover.
fn takeover() -> Deflate {
    Deflate::new().min_size(0).context_takeover(usize::MAX)
}

async fn serve<F>(via: Via, handler: WebSocketUpgrade<F>) -> Server
where
    WebSocketUpgrade<F>: ProtocolHandler,
{
    let layer = UpgradeLayer::new().protocol("websocket", handler);
    Server::start_via(via, layer.layer(service_fn(plain))).await
}

async fn serve_echo(deflate: Deflate) -> Server {
    let config = config(deflate).max_message_size(10_000);
    serve(Via::Http1, handler(echo).config(config)).await
}

/// Opens a WebSocket. Also returns the agreed extensions.
async fn open(server: &Server, offered: &str) -> (Peer<TcpStream>, String) {
    let mut peer = server.connect().await;
    let extensions = format!("Sec-WebSocket-Extensions: {offered}");
    let lines = [
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        &extensions,
    ];
    peer.send(offer("websocket", &lines)).await;
    let head: Head = peer.head().await;
    assert_eq!(head.status, 101);
    let lines = head.lines.iter();
    let answers = lines.filter(|(name, _)| name == "sec-websocket-extensions");
    let answers: Vec<_> = answers.map(|(_, value)| value.clone()).collect();
    assert!(answers.len() <= 1, "{answers:?}");
    (peer, answers.concat())
}

/// The client's side of a compressed connection, with streams that continue as long as the connection.
struct Streams {
    compress: Compress,
    decompress: Decompress,
}

impl Streams {
    fn new() -> Self {
        Self::with_level(9)
    }

    fn with_level(level: u32) -> Self {
        Self {
            compress: Compress::new(Compression::new(level), false),
            decompress: Decompress::new(false),
        }
    }

    fn compress(&mut self, message: &[u8]) -> Vec<u8> {
        let mut payload = Vec::with_capacity(2 * message.len() + 1000);
        self.compress
            .compress_vec(message, &mut payload, FlushCompress::Sync)
            .expect("space");
        payload.truncate(payload.len() - 4);
        payload
    }

    fn decompress(&mut self, payload: &[u8]) -> Vec<u8> {
        let payload = [payload, &[0, 0, 0xff, 0xff]].concat();
        let mut message = Vec::with_capacity(1_000_000);
        self.decompress
            .decompress_vec(&payload, &mut message, FlushDecompress::Sync)
            .expect("a valid stream");
        message
    }
}

fn compress(message: &[u8]) -> Vec<u8> {
    Streams::new().compress(message)
}

fn compressed(opcode: u8, payload: impl AsRef<[u8]>) -> Frame {
    Frame::part(FIN | RSV1 | opcode, payload)
}

async fn send(peer: &mut Peer<TcpStream>, frame: Frame) {
    peer.send(frame.masked()).await;
}

/// Expects a compressed message, and returns it.
async fn decompress(peer: &mut Peer<TcpStream>, streams: &mut Streams) -> Vec<u8> {
    let frame = Frame::read(peer).await;
    assert_eq!(frame.first & !0xf, FIN | RSV1, "{frame:?}");
    streams.decompress(&frame.payload)
}

#[tokio::test]
async fn w7_offers_are_negotiated() {
    let window = Deflate::new().window_bits(10);
    for (deflate, offer, answer) in [
        (Deflate::new(), "", DECLINED),
        (Deflate::new(), "permessage-deflate", NO_TAKEOVER),
        (
            Deflate::new(),
            "permessage-deflate; client_max_window_bits",
            NO_TAKEOVER,
        ),
        (takeover(), "permessage-deflate", "permessage-deflate"),
        (
            takeover(),
            "permessage-deflate; server_no_context_takeover",
            "permessage-deflate; server_no_context_takeover",
        ),
        (
            takeover(),
            "x, permessage-deflate; server_max_window_bits=8, \
             permessage-deflate; server_max_window_bits=9, permessage-deflate",
            "permessage-deflate; server_max_window_bits=9",
        ),
        (
            window.context_takeover(usize::MAX),
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate; client_max_window_bits=10",
        ),
        (takeover(), "permessage-deflate; unknown", DECLINED),
        (
            takeover(),
            "permessage-deflate; server_max_window_bits=16",
            DECLINED,
        ),
        (
            takeover(),
            "permessage-deflate; client_max_window_bits; client_max_window_bits",
            DECLINED,
        ),
        (takeover(), "permessage-deflate; =", DECLINED),
    ] {
        let server = serve_echo(deflate).await;
        let (mut peer, agreed) = open(&server, offer).await;
        assert_eq!(agreed, answer, "{offer}");
        // The session works in either case.
        send(&mut peer, Frame::new(TEXT, "a")).await;
        let echo = Frame::read(&mut peer).await;
        assert_eq!(echo.opcode(), TEXT, "{offer}");
    }
}

#[tokio::test]
async fn w7_setting_is_off_by_default() {
    let server = serve(Via::Http1, handler(echo)).await;
    let (_, agreed) = open(&server, "permessage-deflate").await;
    assert_eq!(agreed, DECLINED);
}

#[tokio::test]
async fn w7_examples_of_the_rfc_are_received() {
    let server = serve_echo(Deflate::new()).await;
    let (mut peer, _) = open(&server, "permessage-deflate").await;
    let ping = Frame::new(PING, "p");
    for frames in [
        vec![compressed(TEXT, HELLO)],
        // §7.2.3.1: in two frames, with a ping in between.
        vec![
            Frame::part(RSV1 | TEXT, &HELLO[..3]),
            ping,
            Frame::part(FIN | CONTINUATION, &HELLO[3..]),
        ],
        vec![
            Frame::part(RSV1 | TEXT, ""),
            Frame::part(CONTINUATION, HELLO),
            Frame::part(FIN | CONTINUATION, ""),
        ],
        vec![compressed(
            TEXT,
            b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00",
        )],
        vec![compressed(TEXT, b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00")],
        vec![compressed(
            TEXT,
            b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00",
        )],
        // An uncompressed message is legal too (§6).
        vec![Frame::new(TEXT, "Hello")],
    ] {
        let has_ping = frames.len() == 3 && frames[1].opcode() == PING;
        for frame in frames {
            for byte in frame.masked() {
                peer.send([byte]).await;
            }
        }
        if has_ping {
            assert_eq!(Frame::read(&mut peer).await, Frame::new(PONG, "p"));
        }
        // Too short to become shorter.
        assert_eq!(Frame::read(&mut peer).await, Frame::new(TEXT, "Hello"));
    }
    send(&mut peer, compressed(BINARY, [0])).await;
    assert_eq!(Frame::read(&mut peer).await, Frame::new(BINARY, ""));
}

#[tokio::test]
async fn w7_messages_are_compressed_both_ways() {
    let text = "some text, and more of some text, ".repeat(200);
    let random: Vec<_> = (0..1000).map(|_| rand::random::<u8>()).collect();
    for (deflate, offer) in [
        (Deflate::new().min_size(0), "permessage-deflate"),
        (takeover(), "permessage-deflate"),
        (takeover(), "permessage-deflate; server_no_context_takeover"),
    ] {
        let server = serve_echo(deflate).await;
        let (mut peer, agreed) = open(&server, offer).await;
        let (mut sent, mut received) = (Streams::new(), Streams::new());
        for _ in 0..3 {
            if agreed.contains("client_no") {
                sent = Streams::new();
            }
            if agreed.contains("server_no") {
                received = Streams::new();
            }
            let payload = sent.compress(text.as_bytes());
            send(&mut peer, compressed(TEXT, payload)).await;
            let echo = decompress(&mut peer, &mut received).await;
            assert!(echo == text.as_bytes(), "{offer}");
            // Without an effect on the stream.
            send(&mut peer, Frame::new(BINARY, &random)).await;
            assert_eq!(Frame::read(&mut peer).await, Frame::new(BINARY, &random));
        }
    }
}

#[tokio::test]
async fn w7_context_takeover_shortens_later_messages() {
    let message = b"a message of which no part is repeated";
    let server = serve_echo(takeover()).await;
    let (mut peer, _) = open(&server, "permessage-deflate").await;
    let mut lengths = Vec::new();
    let mut streams = Streams::new();
    let twice = message.repeat(2);
    for message in [&twice, &message.to_vec()] {
        send(&mut peer, Frame::new(TEXT, message)).await;
        let frame = Frame::read(&mut peer).await;
        assert_eq!(streams.decompress(&frame.payload), *message);
        lengths.push(frame.payload.len());
    }
    assert!(lengths[1] < 10, "{lengths:?}");
    // The peer's messages refer to its earlier ones too.
    for payload in [HELLO, HELLO_AGAIN, HELLO_AGAIN] {
        send(&mut peer, compressed(TEXT, payload)).await;
        let echo = Frame::read(&mut peer).await;
        let hello = match echo.first & RSV1 {
            0 => echo.payload,
            _ => streams.decompress(&echo.payload),
        };
        assert_eq!(hello, b"Hello");
    }
}

#[tokio::test]
async fn w7_window_of_the_server_is_limited() {
    // The end repeats the start, which lies 4 KiB behind.
    let start: Vec<_> = (0..200).map(|_| rand::random::<u8>()).collect();
    let message = [&start[..], &[0; 4096], &start].concat();
    let server = serve_echo(Deflate::new().level(9)).await;
    for (bits, expected) in [(9, 400..500), (15, 200..300)] {
        let offer = format!("permessage-deflate; server_max_window_bits={bits}");
        let (mut peer, agreed) = open(&server, &offer).await;
        let answer = format!("server_max_window_bits={bits}");
        assert!(agreed.ends_with(&answer), "{agreed}");
        send(&mut peer, Frame::new(BINARY, &message)).await;
        let frame = Frame::read(&mut peer).await;
        let length = frame.payload.len();
        assert!(expected.contains(&length), "{bits}: {length}");
        assert!(Streams::new().decompress(&frame.payload) == message);
    }
}

/// Sends frames to a server that accepts messages of up to 10,000 bytes. Returns the close code.
async fn code(offer: &str, frames: &[Frame]) -> u16 {
    let server = serve_echo(Deflate::new()).await;
    let (mut peer, _) = open(&server, offer).await;
    for frame in frames {
        send(&mut peer, frame.clone()).await;
    }
    let frame = Frame::read(&mut peer).await;
    assert_eq!(frame.opcode(), CLOSE, "{frame:?}");
    u16::from_be_bytes([frame.payload[0], frame.payload[1]])
}

#[tokio::test]
async fn w7_misplaced_rsv1_closes_with_1002() {
    let continued = [
        Frame::part(RSV1 | TEXT, &HELLO[..3]),
        Frame::part(FIN | RSV1 | CONTINUATION, &HELLO[3..]),
    ];
    let begun = [
        Frame::part(TEXT, "a"),
        Frame::part(FIN | RSV1 | CONTINUATION, HELLO),
    ];
    for (offer, frames) in [
        ("", &[compressed(TEXT, HELLO)][..]),
        ("permessage-deflate; unknown", &[compressed(TEXT, HELLO)]),
        ("permessage-deflate", &[compressed(PING, HELLO)]),
        ("permessage-deflate", &[compressed(PONG, "")]),
        ("permessage-deflate", &[compressed(CLOSE, HELLO)]),
        ("permessage-deflate", &continued),
        ("permessage-deflate", &begun),
        ("permessage-deflate", &[Frame::part(FIN | 0x20 | TEXT, "a")]),
        (
            "permessage-deflate",
            &[Frame::part(FIN | RSV1 | 0x10 | TEXT, HELLO)],
        ),
    ] {
        assert_eq!(code(offer, frames).await, 1002, "{offer} {frames:?}");
    }
}

#[tokio::test]
async fn w7_corrupt_message_closes_with_1002() {
    for payload in [
        &b"\x07"[..],
        HELLO_AGAIN,
        &HELLO[..3],
        b"\xff\xff\xff\xff",
        &[HELLO, b"\xff"].concat(),
    ] {
        let code = code("permessage-deflate", &[compressed(TEXT, payload)]).await;
        assert_eq!(code, 1002, "{payload:x?}");
    }
}

#[tokio::test]
async fn w7_text_that_is_not_utf8_closes_with_1007() {
    let payload = compress(b"a long text before \xff and a long text behind it");
    let begun = Frame::part(RSV1 | TEXT, &payload);
    for frames in [vec![compressed(TEXT, &payload)], vec![begun]] {
        assert_eq!(code("permessage-deflate", &frames).await, 1007);
    }
    let cut = compress("é".as_bytes().split_at(1).0);
    let code = code("permessage-deflate", &[compressed(TEXT, cut)]).await;
    assert_eq!(code, 1007);
}

#[tokio::test]
async fn w7_bomb_closes_with_1009() {
    let bomb = compress(&vec![0; 9_000_000]);
    assert!(bomb.len() < 10_000);
    let limit = compress(&[0; 10_001]);
    // Frames over the limit, whatever they contain.
    let long = Frame::part(FIN | RSV1 | BINARY, vec![0; 11_315]);
    let empty_blocks = b"\x00\x00\x00\xff\xff".repeat(1200);
    let long_in_parts = [
        Frame::part(RSV1 | BINARY, &empty_blocks),
        Frame::part(FIN | CONTINUATION, &empty_blocks),
    ];
    for frames in [
        &[compressed(BINARY, &bomb)][..],
        // The first part of the message suffices.
        &[Frame::part(RSV1 | BINARY, &bomb)],
        &[compressed(BINARY, &limit)],
        &[long],
        &long_in_parts,
    ] {
        assert_eq!(code("permessage-deflate", frames).await, 1009);
    }
}

#[tokio::test]
async fn w7_message_of_the_maximum_size_is_received() {
    let server = serve_echo(Deflate::new()).await;
    let (mut peer, _) = open(&server, "permessage-deflate").await;
    send(&mut peer, compressed(BINARY, compress(&[0; 10_000]))).await;
    let echo = decompress(&mut peer, &mut Streams::new()).await;
    assert!(echo == [0; 10_000]);
    // At this level zlib-rs uses fixed codes, which make the message longer.
    let random: Vec<_> = (0..10_000).map(|_| rand::random::<u8>()).collect();
    let payload = Streams::with_level(1).compress(&random);
    assert!(payload.len() > 10_400, "{}", payload.len());
    send(&mut peer, compressed(BINARY, payload)).await;
    assert_eq!(Frame::read(&mut peer).await, Frame::new(BINARY, random));
}

#[tokio::test]
async fn w7_message_or_direction_is_left_uncompressed() {
    let text = "a secret ".repeat(100);
    let sender = {
        let text = text.clone();
        move |mut socket: WebSocket| {
            let text = text.clone();
            async move {
                socket.send(text.clone()).await?;
                socket.send_uncompressed(text.clone()).await?;
                socket.send(text).await?;
                Ok(())
            }
        }
    };
    for deflate in [takeover(), takeover().receive_only()] {
        let server = serve(Via::Http1, handler(sender.clone()).config(config(deflate))).await;
        let (mut peer, agreed) = open(&server, "permessage-deflate").await;
        let mut received = Streams::new();
        for is_compressed in [true, false, true] {
            if is_compressed && deflate == takeover() {
                let message = decompress(&mut peer, &mut received).await;
                assert!(message == text.as_bytes());
            } else {
                assert_eq!(Frame::read(&mut peer).await, Frame::new(TEXT, &text));
            }
        }
        // The client need not keep a window.
        let is_receive_only = deflate != takeover();
        assert_eq!(
            agreed.contains("server_no_context_takeover"),
            is_receive_only,
            "{agreed}"
        );
    }
}

#[tokio::test]
async fn w7_short_messages_and_control_frames_are_not_compressed() {
    let handler = handler(|mut socket: WebSocket| async move {
        socket.send("a".repeat(99)).await?;
        socket.send(Message::Ping(vec![b'a'; 125].into())).await?;
        socket.send("a".repeat(100)).await?;
        Ok(())
    });
    let server = serve(
        Via::Http1,
        handler.config(config(Deflate::new().min_size(100))),
    )
    .await;
    let (mut peer, _) = open(&server, "permessage-deflate").await;
    assert_eq!(
        Frame::read(&mut peer).await,
        Frame::new(TEXT, "a".repeat(99))
    );
    assert_eq!(
        Frame::read(&mut peer).await,
        Frame::new(PING, "a".repeat(125))
    );
    let message = decompress(&mut peer, &mut Streams::new()).await;
    assert_eq!(message, [b'a'; 100]);
    assert_eq!(Frame::read(&mut peer).await, Frame::close(1000, ""));
}

#[tokio::test]
async fn w7_extended_connect_negotiates_compression() {
    let handler = handler(echo).config(config(Deflate::new()));
    let server = serve(Via::Http2, handler).await;
    let mut client = h2::Client::connect(server.connect().await).await;
    let request = h2::extended_connect("websocket")
        .header("sec-websocket-version", "13")
        .header(
            "sec-websocket-extensions",
            HeaderValue::from_static("permessage-deflate; client_max_window_bits"),
        );
    let answer = client.ask(request.body(()).expect("a request")).await;
    assert_eq!(
        answer.head.headers()["sec-websocket-extensions"],
        NO_TAKEOVER
    );
    let mut peer = answer.expect_upgraded();
    let text = "over HTTP/2 ".repeat(100);
    let frame = compressed(TEXT, compress(text.as_bytes()));
    peer.send(frame.masked()).await;
    let frame = Frame::read(&mut peer).await;
    assert_eq!(frame.first, FIN | RSV1 | TEXT);
    let message = Streams::new().decompress(&frame.payload);
    assert!(message == text.as_bytes());
}

#[tokio::test]
async fn w7_raw_handshake_never_negotiates() {
    struct Raw;
    impl ProtocolHandler for Raw {
        async fn accept(
            &self,
            request: &mut tower_upgrade::UpgradeRequest,
        ) -> Result<tower_upgrade::Accept, tower_upgrade::Rejection> {
            let upgrade = WebSocketUpgrade::new().config(config(Deflate::new()));
            let handshake = upgrade.check(request)?;
            Ok(handshake.accept_raw(|_session| async { Ok(()) }))
        }
    }
    let layer = UpgradeLayer::new().protocol("websocket", Raw);
    let server = Server::start(layer.layer(service_fn(plain))).await;
    let (_, agreed) = open(&server, "permessage-deflate").await;
    assert_eq!(agreed, DECLINED);
}

#[tokio::test]
async fn w7_long_messages_in_many_frames_are_received() {
    let (note, mut noted) = notes();
    let handler = handler(move |socket| listen(socket, note.clone())).config(config(takeover()));
    let server = serve(Via::Http1, handler).await;
    let (mut peer, _) = open(&server, "permessage-deflate").await;
    let mut streams = Streams::new();
    let message: Vec<_> = (0..900_000_u32)
        .map(|at| (at % 1000 * at % 253) as u8)
        .collect();
    for size in [1_usize, 1000, 100_000, 900_000] {
        let payload = streams.compress(&message[..size]);
        let mut first = RSV1 | BINARY;
        for part in payload.chunks(10_001) {
            send(&mut peer, Frame::part(first, part)).await;
            first = CONTINUATION;
            send(&mut peer, Frame::new(PING, "")).await;
        }
        send(&mut peer, Frame::part(FIN | CONTINUATION, "")).await;
        let received = loop {
            let received = soon(noted.recv()).await.expect("a message");
            if received != "ping" {
                break received;
            }
        };
        assert_eq!(received, format!("{size} bytes"));
    }
}
