//! `copy` behaves as `tokio::io::copy`, and waiting copies hold no buffer.

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
async fn all_bytes_arrive_in_order_through_pipes_of_any_size() {
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
async fn write_is_flushed_before_waiting_for_more() {
    let (mut source, mut reader) = tokio::io::duplex(64);
    let (writer, mut sink) = tokio::io::duplex(64);
    let mut writer = tokio::io::BufWriter::new(writer);
    tokio::spawn(async move { copy(&mut reader, &mut writer).await });
    for message in [&b"first"[..], b"second"] {
        source.write_all(message).await.expect("memory");
        let mut received = vec![0; message.len()];
        let read = sink.read_exact(&mut received);
        let read = tokio::time::timeout(Duration::from_secs(30), read).await;
        read.expect("the write was not flushed").expect("memory");
        assert_eq!(received, message);
    }
}

/// Takes one byte of each write, after returning `Pending` once.
#[derive(Default)]
struct OneByteAtATime {
    taken: Vec<u8>,
    ready: bool,
    fails_at: Option<usize>,
}

impl AsyncWrite for OneByteAtATime {
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
async fn writer_that_takes_one_byte_at_a_time_gets_all_bytes_once() {
    let sent = bytes(1_000);
    let mut writer = OneByteAtATime::default();
    assert_eq!(
        copy(&mut &sent[..], &mut writer).await.expect("memory"),
        1_000
    );
    assert!(writer.taken == sent);
}

#[tokio::test]
async fn writer_that_takes_no_byte_is_a_write_zero_error() {
    let mut writer = OneByteAtATime {
        fails_at: Some(3),
        ..Default::default()
    };
    let error = copy(&mut &b"hello"[..], &mut writer)
        .await
        .expect_err("the writer took three bytes only");
    assert_eq!(
        (error.kind(), &writer.taken[..]),
        (io::ErrorKind::WriteZero, &b"hel"[..])
    );
}

/// Is always ready, and panics after 10,000 reads without a yield.
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
        assert!(self.reads < 10_000, "the copy never yields");
        let length = buf.remaining();
        buf.put_slice(&vec![0; length]);
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn endless_copy_yields_to_other_tasks() {
    let other = tokio::spawn(async {});
    let mut endless = Endless { reads: 0 };
    // Do not use tokio's sink, which yields regardless of the copy.
    let mut sink = Counts::default();
    tokio::select! {
        biased;
        other = other => other.expect("no panic"),
        _ = copy(&mut endless, &mut sink) => panic!("an endless copy has ended"),
    }
}

/// Returns EOF once, and panics if it is read again.
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

/// Completes a flush at the second poll.
#[derive(Default)]
struct SlowFlush {
    was_polled: bool,
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
        if !self.was_polled {
            self.was_polled = true;
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
async fn reader_is_not_polled_after_eof() {
    let (mut reader, mut writer) = (EndsOnce::default(), SlowFlush::default());
    assert_eq!(copy(&mut reader, &mut writer).await.expect("memory"), 0);
    assert!(writer.was_polled, "the writer was not flushed");
}

/// Takes all bytes and counts the flushes.
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
async fn written_bytes_are_flushed_once() {
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
async fn last_bytes_before_eof_are_flushed() {
    // The reader returns EOF right after the last byte, without `Pending` in between.
    let (writer, mut sink) = tokio::io::duplex(64);
    let mut writer = tokio::io::BufWriter::new(writer);
    let copied = copy(&mut &b"hello"[..], &mut writer).await;
    assert_eq!(copied.expect("memory"), 5);
    let mut received = [0; 5];
    let read = futures_util::poll!(Box::pin(sink.read_exact(&mut received)));
    assert!(read.is_ready(), "the bytes are still in the writer");
}

/// Fails every read.
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
async fn reader_error_is_returned() {
    let error = copy(&mut Broken, &mut tokio::io::sink())
        .await
        .expect_err("the reader fails");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[test]
fn waiting_copy_holds_no_buffer() {
    let wait = || {
        let (source, mut reader) = tokio::io::duplex(64);
        let mut copying = Box::pin(async move { copy(&mut reader, &mut tokio::io::sink()).await });
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(copying.as_mut().poll(&mut cx).is_pending());
        (source, copying)
    };
    // The first copy allocates the buffer that the others borrow.
    let _first = wait();
    let mut waiting = Vec::with_capacity(10);
    let info = allocation_counter::measure(|| waiting.extend((0..10).map(|_| wait())));
    let held = info.bytes_current / 10;
    assert!(held < 1024, "a waiting copy holds {held} bytes");
}

const BUFFER: u64 = 64 * 1024;

/// Polls a copy once, with one byte to copy.
fn polled_once(mut writer: impl AsyncWrite + Unpin) -> impl Sized {
    let (mut source, mut reader) = tokio::io::duplex(64);
    let mut cx = Context::from_waker(std::task::Waker::noop());
    let sending = std::pin::pin!(source.write_all(b"x")).poll(&mut cx);
    assert!(sending.is_ready());
    let mut copying = Box::pin(async move { copy(&mut reader, &mut writer).await });
    assert!(copying.as_mut().poll(&mut cx).is_pending());
    (source, copying)
}

/// Never takes a byte.
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
fn buffer_is_reused_by_later_copies() {
    let _first = polled_once(tokio::io::sink());
    let copy_twice = || {
        // A copy returns its buffer when it has written all bytes and waits, and when it is dropped in a write.
        let _waits = polled_once(tokio::io::sink());
        drop(polled_once(Full));
    };
    let info = allocation_counter::measure(|| {
        for _ in 0..10 {
            copy_twice();
        }
    });
    assert!(info.bytes_total < BUFFER, "{} bytes", info.bytes_total);
}

#[test]
fn thread_keeps_a_bounded_number_of_buffers() {
    let copy_20_at_once = || drop((0..20).map(|_| polled_once(Full)).collect::<Vec<_>>());
    let held = allocation_counter::measure(copy_20_at_once).bytes_current;
    let held = u64::try_from(held).expect("the thread keeps buffers");
    assert!((2 * BUFFER..8 * BUFFER).contains(&held), "{held} bytes");
    let made = allocation_counter::measure(copy_20_at_once).bytes_total;
    assert!(made < 18 * BUFFER + 20 * 4096, "{made} bytes");
}
