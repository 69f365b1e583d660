//! `copy` behaves like `tokio::io::copy`.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tower_upgrade::copy;

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i % 251) as u8).collect()
}

#[tokio::test]
async fn everything_arrives_in_order_through_pipes_of_any_size() {
    let sent = bytes(1_000_000);
    for (reads, writes) in [
        (1 << 20, 1 << 20),
        (100, 70_000),
        (70_000, 100),
        (1_000, 1_000),
    ] {
        let (mut source, mut reader) = tokio::io::duplex(reads);
        let (mut writer, mut sink) = tokio::io::duplex(writes);
        let copying = tokio::spawn(async move { copy(&mut reader, &mut writer).await });
        let sending = tokio::spawn({
            let sent = sent.clone();
            async move { source.write_all(&sent).await }
        });
        let mut received = Vec::new();
        sink.read_to_end(&mut received).await.expect("memory");
        assert!(received == sent, "{reads} in, {writes} out");
        sending.await.expect("no panic").expect("memory");
        assert_eq!(
            copying.await.expect("no panic").expect("memory"),
            sent.len() as u64
        );
    }
}

#[tokio::test]
async fn a_write_is_flushed_before_it_waits_for_more() {
    let (mut source, mut reader) = tokio::io::duplex(64);
    let (writer, mut sink) = tokio::io::duplex(64);
    let mut writer = tokio::io::BufWriter::new(writer);
    tokio::spawn(async move { copy(&mut reader, &mut writer).await });
    for message in [&b"first"[..], b"second"] {
        source.write_all(message).await.expect("memory");
        let mut received = vec![0; message.len()];
        let read = sink.read_exact(&mut received);
        let read = tokio::time::timeout(Duration::from_secs(30), read).await;
        read.expect("it is flushed").expect("memory");
        assert_eq!(received, message);
    }
}

/// Accepts one byte of each write, and reports the write only on the second poll.
#[derive(Default)]
struct Reluctant {
    taken: Vec<u8>,
    ready: bool,
    fails_at: Option<usize>,
}

impl AsyncWrite for Reluctant {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.ready = !self.ready;
        if self.ready {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        match self.fails_at {
            Some(at) if at == self.taken.len() => Poll::Ready(Ok(0)),
            _ => {
                self.taken.push(buf[0]);
                Poll::Ready(Ok(1))
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        panic!("the writer is not shut down")
    }
}

#[tokio::test]
async fn a_writer_that_takes_little_gets_everything_once() {
    let sent = bytes(1_000);
    let mut writer = Reluctant::default();
    assert_eq!(
        copy(&mut &sent[..], &mut writer).await.expect("memory"),
        1_000
    );
    assert!(writer.taken == sent);
}

#[tokio::test]
async fn a_writer_that_takes_nothing_is_an_error() {
    let mut writer = Reluctant {
        fails_at: Some(3),
        ..Default::default()
    };
    let error = copy(&mut &b"hello"[..], &mut writer)
        .await
        .expect_err("it took three bytes");
    assert_eq!(
        (error.kind(), &writer.taken[..]),
        (io::ErrorKind::WriteZero, &b"hel"[..])
    );
}

/// Never returns `Pending`, and fails if the copy never yields to other tasks.
struct Endless {
    reads: u32,
}

impl AsyncRead for Endless {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.reads += 1;
        assert!(self.reads < 10_000, "it keeps the thread");
        let length = buf.remaining();
        buf.put_slice(&vec![0; length]);
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn what_never_waits_lets_others_run() {
    let other = tokio::spawn(async {});
    let mut endless = Endless { reads: 0 };
    // tokio's own sink yields to other tasks, which would hide a copy that does not.
    let mut sink = Counts::default();
    tokio::select! {
        biased;
        other = other => other.expect("no panic"),
        _ = copy(&mut endless, &mut sink) => panic!("it has no end"),
    }
}

/// Reports the end once, and must not be read afterwards.
#[derive(Default)]
struct EndsOnce {
    has_ended: bool,
}

impl AsyncRead for EndsOnce {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        _buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        assert!(!self.has_ended, "read again after the end");
        self.has_ended = true;
        Poll::Ready(Ok(()))
    }
}

/// Completes a flush only on the second poll.
#[derive(Default)]
struct SlowFlush {
    was_asked: bool,
}

impl AsyncWrite for SlowFlush {
    fn poll_write(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.was_asked {
            self.was_asked = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        panic!("the writer is not shut down")
    }
}

#[tokio::test]
async fn a_reader_that_has_ended_is_left_alone() {
    let (mut reader, mut writer) = (EndsOnce::default(), SlowFlush::default());
    assert_eq!(copy(&mut reader, &mut writer).await.expect("memory"), 0);
    assert!(writer.was_asked, "the end is flushed");
}

/// Accepts every write, and counts flushes.
#[derive(Default)]
struct Counts {
    flushes: usize,
}

impl AsyncWrite for Counts {
    fn poll_write(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.flushes += 1;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        panic!("the writer is not shut down")
    }
}

#[tokio::test]
async fn what_was_written_is_flushed_once() {
    let (mut source, mut reader) = tokio::io::duplex(64);
    let mut writer = Counts::default();
    source.write_all(b"hello").await.expect("memory");
    let mut copying = Box::pin(copy(&mut reader, &mut writer));
    for _ in 0..3 {
        assert!(futures_util::poll!(&mut copying).is_pending());
    }
    drop(copying);
    assert_eq!(writer.flushes, 1);
}

#[tokio::test]
async fn the_end_is_flushed() {
    // The source does not return `Pending` between its last byte and its end.
    let (writer, mut sink) = tokio::io::duplex(64);
    let mut writer = tokio::io::BufWriter::new(writer);
    let copied = copy(&mut &b"hello"[..], &mut writer).await;
    assert_eq!(copied.expect("memory"), 5);
    let mut received = [0; 5];
    let read = futures_util::poll!(Box::pin(sink.read_exact(&mut received)));
    assert!(read.is_ready(), "it is still in the writer");
}

/// Fails when read.
struct Broken;

impl AsyncRead for Broken {
    fn poll_read(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        _buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
    }
}

#[tokio::test]
async fn an_error_of_the_reader_comes_through() {
    let error = copy(&mut Broken, &mut tokio::io::sink())
        .await
        .expect_err("it is broken");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[test]
fn a_waiting_copy_holds_no_buffer() {
    let wait = || {
        let (source, mut reader) = tokio::io::duplex(64);
        let mut copying = Box::pin(async move { copy(&mut reader, &mut tokio::io::sink()).await });
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(copying.as_mut().poll(&mut cx).is_pending());
        (source, copying)
    };
    // The first copy allocates the buffer that all later copies borrow.
    let _first = wait();
    let mut waiting = Vec::with_capacity(10);
    let info = allocation_counter::measure(|| waiting.extend((0..10).map(|_| wait())));
    let held = info.bytes_current / 10;
    assert!(held < 1024, "{held} bytes are held by a copy that waits");
}

const BUFFER: u64 = 64 * 1024;

/// A copy that has read one byte and asks `writer` to accept it.
fn polled_once(mut writer: impl AsyncWrite + Unpin) -> impl Sized {
    let (mut source, mut reader) = tokio::io::duplex(64);
    let mut cx = Context::from_waker(std::task::Waker::noop());
    let sending = std::pin::pin!(source.write_all(b"x")).poll(&mut cx);
    assert!(sending.is_ready());
    let mut copying = Box::pin(async move { copy(&mut reader, &mut writer).await });
    assert!(copying.as_mut().poll(&mut cx).is_pending());
    (source, copying)
}

/// Accepts no bytes.
struct Full;

impl AsyncWrite for Full {
    fn poll_write(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        _buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Pending
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

#[test]
fn a_buffer_goes_from_copy_to_copy() {
    let _first = polled_once(tokio::io::sink());
    let again = || {
        // Both return the buffer: a copy that has written everything and waits for more, and a copy that still uses it.
        let _waits = polled_once(tokio::io::sink());
        drop(polled_once(Full));
    };
    let info = allocation_counter::measure(|| {
        for _ in 0..10 {
            again();
        }
    });
    assert!(info.bytes_total < BUFFER, "{} bytes", info.bytes_total);
}

#[test]
fn a_thread_keeps_a_few_buffers_and_no_more() {
    let crowd = || drop((0..20).map(|_| polled_once(Full)).collect::<Vec<_>>());
    let held = allocation_counter::measure(crowd).bytes_current;
    let held = u64::try_from(held).expect("some are kept");
    assert!((2 * BUFFER..8 * BUFFER).contains(&held), "{held} bytes");
    let made = allocation_counter::measure(crowd).bytes_total;
    assert!(made < 18 * BUFFER + 20 * 4096, "{made} bytes");
}
