use super::*;
use crate::{
    io::parts::UpgradedParts,
    websocket::{ErrorKind as Kind, write_queue::SMALL},
};
use bytes::Bytes;
use proptest::prelude::*;
use std::{
    collections::VecDeque,
    io::{ErrorKind, Read, Write},
    pin::Pin,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::Wake,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tungstenite::protocol::{
    WebSocket, WebSocketConfig,
    frame::{
        Frame, FrameHeader,
        coding::{Control, Data, OpCode},
    },
};

/// A scripted IO.
#[derive(Clone, Default)]
struct Io(Arc<Mutex<Scripted>>);

#[derive(Default)]
struct Scripted {
    /// The bytes to read, in pieces. A read returns `Pending` once before each piece.
    reads: VecDeque<Vec<u8>>,
    has_waited: bool,
    is_ended: bool,
    /// The error at the end of reading. `None` is an orderly end.
    error: Option<ErrorKind>,
    is_broken: bool,
    /// How often a write is to wait.
    waits: usize,
    written: Vec<u8>,
    flushed: Vec<u8>,
}

impl Io {
    fn scripted(&self) -> MutexGuard<'_, Scripted> {
        self.0.lock().expect("no panic")
    }

    fn codec(&self, role: Role) -> Codec {
        let read_buf = Bytes::new();
        let io = self.clone();
        let limits = Limits { message: 10_000 };
        Codec::new(
            Upgraded::from_parts(UpgradedParts::new(io, read_buf)),
            role,
            limits,
            None,
        )
    }

    fn will_read(&self, bytes: impl Into<Vec<u8>>) {
        self.scripted().reads.push_back(bytes.into());
    }
}

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut scripted = self.scripted();
        if scripted.reads.is_empty() && !scripted.is_ended {
            return Poll::Pending;
        }
        if !std::mem::replace(&mut scripted.has_waited, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Some(piece) = scripted.reads.front_mut() {
            let rest = piece.split_off(piece.len().min(buf.remaining()));
            buf.put_slice(&std::mem::replace(piece, rest));
            if piece.is_empty() {
                scripted.reads.pop_front();
                scripted.has_waited = false;
            }
        } else if let Some(error) = scripted.error {
            return Poll::Ready(Err(error.into()));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut scripted = self.scripted();
        if scripted.waits > 0 {
            scripted.waits -= 1;
            return Poll::Pending;
        }
        if scripted.is_broken {
            return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
        }
        scripted.written.extend(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut scripted = self.scripted();
        let written = std::mem::take(&mut scripted.written);
        scripted.flushed.extend(written);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// How often a task was woken.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

/// A task, and how often it was woken.
fn task() -> (Waker, Arc<Wakes>) {
    let wakes = Arc::new(Wakes::default());
    (Arc::clone(&wakes).into(), wakes)
}

fn next(codec: &mut Codec) -> Poll<Option<Result<Message, Error>>> {
    codec.poll_next(&mut Context::from_waker(Waker::noop()))
}

fn frame(role: Role, opcode: OpCode, is_final: bool, payload: &[u8]) -> Vec<u8> {
    let header = FrameHeader {
        is_final,
        opcode,
        mask: (role == Role::Server).then_some([1, 2, 3, 4]),
        ..FrameHeader::default()
    };
    let mut bytes = Vec::new();
    let frame = Frame::from_payload(header, Bytes::copy_from_slice(payload));
    frame.format(&mut bytes).expect("a vector");
    bytes
}

fn ping(payload: &[u8]) -> Vec<u8> {
    frame(Role::Server, OpCode::Control(Control::Ping), true, payload)
}

/// Receives a stream in pieces to its end. Returns the messages, and the error or the end.
fn receive(role: Role, pieces: Vec<Vec<u8>>) -> Vec<String> {
    let io = Io::default();
    io.scripted().reads.extend(pieces);
    io.scripted().is_ended = true;
    let mut codec = io.codec(role);
    let mut received = Vec::new();
    let mut waits = 0;
    loop {
        match next(&mut codec) {
            Poll::Ready(Some(Ok(message))) => received.push(describe(message)),
            Poll::Ready(Some(Err(error))) => {
                received.push(format!("{:?} {:?}", error.kind(), error.close_code()));
                assert!(matches!(next(&mut codec), Poll::Ready(None)));
                return received;
            }
            Poll::Ready(None) => return received,
            Poll::Pending => {
                waits += 1;
                assert!(waits < 1_000_000, "the stream does not end");
            }
        }
    }
}

/// Describes a message. All invalid close codes are the same.
fn describe(message: Message) -> String {
    match message {
        Message::Close(Some(frame)) if matches!(frame.code, 1002 | 1014) => "Close".to_owned(),
        message => format!("{message:?}"),
    }
}

/// Receives a stream with tungstenite, in one piece.
fn receive_with_tungstenite(role: Role, stream: &[u8]) -> Vec<String> {
    struct Plain<'a>(&'a [u8]);

    impl Read for Plain<'_> {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            self.0.read(buf)
        }
    }

    impl Write for Plain<'_> {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            Ok(buf.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let config = WebSocketConfig::default()
        .max_message_size(Some(10_000))
        .max_frame_size(Some(10_000));
    let mut socket = WebSocket::from_raw_socket(Plain(stream), role, Some(config));
    let mut received = Vec::new();
    loop {
        let message = match socket.read() {
            Ok(tungstenite::Message::Text(text)) => Message::from(text.as_str()),
            Ok(tungstenite::Message::Binary(bytes)) => Message::Binary(bytes),
            Ok(tungstenite::Message::Ping(bytes)) => Message::Ping(bytes),
            Ok(tungstenite::Message::Pong(bytes)) => Message::Pong(bytes),
            Ok(tungstenite::Message::Close(frame)) => Message::Close(
                frame.map(|frame| CloseFrame::new(frame.code.into(), frame.reason.as_str())),
            ),
            Ok(tungstenite::Message::Frame(_)) => unreachable!("a socket reads messages"),
            Err(tungstenite::Error::ConnectionClosed) => return received,
            Err(error) => {
                use tungstenite::{Error::*, error::ProtocolError::ResetWithoutClosingHandshake};
                let end = match error {
                    Io(_) | Protocol(ResetWithoutClosingHandshake) => "Io None",
                    Capacity(_) => "TooLarge Some(1009)",
                    Utf8(_) => "Protocol Some(1007)",
                    _ => "Protocol Some(1002)",
                };
                received.push(end.to_owned());
                return received;
            }
        };
        received.push(describe(message));
    }
}

/// Compares the codec with tungstenite.
///
/// The codec is stricter: it rejects lengths that do not have the shortest form, a wrong header before the payload
/// arrives or its length is checked, and text as soon as it is not UTF-8.
fn compare(role: Role, stream: &[u8], lengths: &[usize]) -> Result<(), TestCaseError> {
    let mut received = receive(role, cut(stream, lengths));
    let mut expected = receive_with_tungstenite(role, stream);
    // tungstenite checks the frames after the peer's close frame.
    for messages in [&mut received, &mut expected] {
        if let Some(close) = messages.iter().position(|it| it.starts_with("Close")) {
            messages.truncate(close + 1);
        }
    }
    let is_later = |end: &String| end == "Io None" || end == "TooLarge Some(1009)";
    let is_later = expected.last().is_some_and(is_later);
    let is_stricter = received.last().is_some_and(|end| match end.as_str() {
        "Protocol Some(1007)" => true,
        "Protocol Some(1002)" => is_later || has_long_length(stream),
        _ => false,
    });
    if is_stricter {
        received.pop();
        prop_assert!(expected.len() >= received.len());
        expected.truncate(received.len());
    }
    prop_assert_eq!(received, expected);
    Ok(())
}

/// Returns whether a header of a frame has a longer form of its length than necessary.
fn has_long_length(stream: &[u8]) -> bool {
    let mut cursor = io::Cursor::new(stream);
    loop {
        let start = cursor.position();
        let Ok(Some((header, length))) = FrameHeader::parse(&mut cursor) else {
            return false;
        };
        if cursor.position() - start != header.len(length) as u64 {
            return true;
        }
        cursor.set_position(cursor.position().saturating_add(length));
    }
}

/// Cuts a stream into pieces of these lengths, repeated until its end.
fn cut(stream: &[u8], lengths: &[usize]) -> Vec<Vec<u8>> {
    let mut lengths = lengths.iter().cycle();
    let mut rest = stream;
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        let length = lengths.next().map_or(1, |length| (*length).min(rest.len()));
        let (piece, behind) = rest.split_at(length);
        pieces.push(piece.to_vec());
        rest = behind;
    }
    pieces
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Server), Just(Role::Client)]
}

/// A message in fragments, with pings between them.
fn message(role: Role) -> impl Strategy<Value = Vec<u8>> {
    let payload = prop_oneof![
        8 => prop::collection::vec(b'a'..=b'z', 0..200),
        2 => prop::collection::vec(b'a'..=b'z', SMALL..5_000),
        1 => prop::collection::vec(any::<u8>(), 0..20),
    ];
    let fragments = prop::collection::vec((payload, any::<bool>()), 1..4);
    (fragments, any::<bool>()).prop_map(move |(fragments, is_text)| {
        let last = fragments.len() - 1;
        let mut bytes = Vec::new();
        for (at, (payload, is_pinged)) in fragments.into_iter().enumerate() {
            if is_pinged {
                bytes.extend(frame(
                    role,
                    OpCode::Control(Control::Ping),
                    true,
                    &payload[..payload.len().min(125)],
                ));
            }
            let opcode = match (at, is_text) {
                (0, true) => Data::Text,
                (0, false) => Data::Binary,
                _ => Data::Continue,
            };
            bytes.extend(frame(role, OpCode::Data(opcode), at == last, &payload));
        }
        bytes
    })
}

fn stream() -> impl Strategy<Value = (Role, Vec<u8>)> {
    role().prop_flat_map(|role| {
        let close = frame(role, OpCode::Control(Control::Close), true, b"\x03\xe8bye");
        let end = prop_oneof![Just(Vec::new()), Just(close)];
        let messages = prop::collection::vec(message(role), 0..6);
        (Just(role), messages, end)
            .prop_map(|(role, messages, end)| (role, [messages.concat(), end].concat()))
    })
}

fn lengths() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![1..20_usize, 1..3_000_usize], 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn codec_receives_the_same_messages_as_tungstenite((role, stream) in stream(), lengths in lengths()) {
        compare(role, &stream, &lengths)?;
    }

    #[test]
    fn codec_receives_the_same_errors_as_tungstenite(
        (role, mut stream) in stream(),
        at in any::<prop::sample::Index>(),
        wrong in any::<u8>(),
        lengths in lengths(),
    ) {
        if !stream.is_empty() {
            let at = at.index(stream.len());
            stream[at] ^= wrong;
        }
        compare(role, &stream, &lengths)?;
    }

    #[test]
    fn codec_receives_any_bytes_as_tungstenite(
        role in role(),
        stream in prop::collection::vec(any::<u8>(), 0..300),
        lengths in lengths(),
    ) {
        compare(role, &stream, &lengths)?;
    }
}

/// The codec would queue a pong for each ping.
#[test]
fn peer_that_reads_no_pongs_is_not_read_further() {
    let io = Io::default();
    io.scripted().waits = usize::MAX;
    let mut codec = io.codec(Role::Server);
    let mut answered = 0;
    for _ in 0..100_000 {
        io.will_read(ping(&[7; 125]));
        for _ in 0..2 {
            answered += usize::from(next(&mut codec).is_ready());
        }
    }
    assert!((100..1_000).contains(&answered), "{answered}");
    // The codec continues once the peer reads.
    io.scripted().waits = 0;
    for _ in 0..200_000 {
        answered += usize::from(next(&mut codec).is_ready());
    }
    assert_eq!(answered, 100_000);
    assert_eq!(io.scripted().flushed.len(), 100_000 * 127);
}

/// The IO becomes ready between two polls of one task, and wakes only this task.
#[test]
fn finished_write_wakes_the_other_task() {
    let io = Io::default();
    let mut codec = io.codec(Role::Server);
    let (sender, wakes) = task();
    io.scripted().waits = usize::MAX;
    codec.start_send("hello".into()).expect("it is open");
    let flushed = codec.poll_flush(&mut Context::from_waker(&sender));
    assert!(flushed.is_pending());
    io.scripted().waits = 1;
    assert!(next(&mut codec).is_pending());
    assert_eq!(io.scripted().flushed, b"\x81\x05hello");
    assert_eq!(wakes.0.load(Relaxed), 1);
}

#[test]
fn unsolicited_pong_does_not_replace_an_answer() {
    let io = Io::default();
    io.will_read(ping(b"a"));
    let mut codec = io.codec(Role::Server);
    assert!(next(&mut codec).is_pending());
    assert!(next(&mut codec).is_ready());
    let beat = Message::Pong("b".into());
    codec.start_send(beat).expect("it is open");
    assert!(next(&mut codec).is_pending());
    assert_eq!(io.scripted().flushed, b"\x8a\x01a\x8a\x01b");
}

#[test]
fn answer_to_a_close_frame_is_flushed() {
    for has_to_wait in [false, true] {
        let io = Io::default();
        let close = OpCode::Control(Control::Close);
        io.will_read(frame(Role::Server, close, true, b""));
        let mut codec = io.codec(Role::Server);
        assert!(next(&mut codec).is_pending());
        assert!(matches!(next(&mut codec), Poll::Ready(Some(Ok(_)))));
        io.scripted().waits = 2 * usize::from(has_to_wait);
        while !matches!(next(&mut codec), Poll::Ready(None)) {}
        let flushed = codec.poll_flush(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(flushed, Poll::Ready(Ok(()))));
        assert_eq!(io.scripted().flushed, b"\x88\x00", "{has_to_wait}");
    }
}

/// Many servers end a connection over TLS without a `close_notify`.
#[test]
fn connection_may_end_with_an_error_after_both_close_frames() {
    for (payload, ending) in [(&b""[..], "None"), (b"a", "Some(Protocol)")] {
        let io = Io::default();
        let close = OpCode::Control(Control::Close);
        io.will_read(frame(Role::Client, close, true, payload));
        io.scripted().is_ended = true;
        io.scripted().error = Some(ErrorKind::UnexpectedEof);
        let mut codec = io.codec(Role::Client);
        codec
            .start_close(CloseFrame::new(1000, ""))
            .expect("an open one");
        let ended = loop {
            match next(&mut codec) {
                Poll::Ready(None) => break None,
                Poll::Ready(Some(Err(error))) => break Some(error.kind()),
                _ => {}
            }
        };
        assert_eq!(format!("{ended:?}"), ending);
    }
}

#[test]
fn second_error_is_not_reported() {
    let io = Io::default();
    io.will_read(*b"\x83\x80mask");
    io.scripted().waits = 2;
    io.scripted().is_broken = true;
    let mut codec = io.codec(Role::Server);
    assert!(next(&mut codec).is_pending());
    assert!(matches!(next(&mut codec), Poll::Ready(Some(Err(_)))));
    assert!(matches!(next(&mut codec), Poll::Ready(None)));
}

#[test]
fn many_small_messages_leave_no_large_buffer() {
    let io = Io::default();
    let mut codec = io.codec(Role::Server);
    for _ in 0..1_000 {
        codec.start_send("hello".into()).expect("it is open");
    }
    assert!(next(&mut codec).is_pending());
    assert!(codec.out.capacity() <= SMALL);
}

/// A handler that only sends does not wait for a message.
#[test]
fn sender_releases_the_buffer_of_a_large_message() {
    let io = Io::default();
    let mut codec = io.codec(Role::Server);
    let message = Message::binary(vec![0; 100_000]);
    codec.start_send(message).expect("it is open");
    let flushed = codec.poll_flush(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(flushed, Poll::Ready(Ok(()))));
    assert!(codec.out.capacity() <= SMALL);
}

#[test]
fn frame_over_the_message_limit_is_an_error() {
    let io = Io::default();
    io.will_read(*b"\x82\xfe\x13\x88mask");
    let mut codec = io.codec(Role::Server);
    codec.reader = Reader::new(Role::Server, Limits { message: 1_000 }, None);
    assert!(next(&mut codec).is_pending());
    match next(&mut codec) {
        Poll::Ready(Some(Err(error))) => assert_eq!(error.kind(), Kind::TooLarge),
        other => panic!("{other:?}"),
    }
}

#[test]
fn long_control_frame_is_not_sent() {
    let io = Io::default();
    let mut codec = io.codec(Role::Server);
    let reason = "a".repeat(124);
    for message in [
        Message::Ping(vec![0; 126].into()),
        Message::Pong(vec![0; 126].into()),
        Message::Close(Some(CloseFrame::new(1000, reason.as_str()))),
    ] {
        let error = codec.start_send(message).expect_err("it is too long");
        assert_eq!(error.kind(), Kind::TooLarge);
    }
    let reason = &reason[1..];
    let close = Message::Close(Some(CloseFrame::new(1000, reason)));
    codec.start_send(close).expect("it is open");
    assert!(next(&mut codec).is_pending());
    assert_eq!(io.scripted().flushed.len(), 127);
}
