//! The IO that tungstenite's codec reads from and writes to.

use crate::{
    session::upgraded::Upgraded,
    websocket::{frames::Frames, write_queue::WriteQueue},
};
use std::{
    io::{self, ErrorKind, Read, Write},
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, ReadBuf};

/// Blocking IO for the codec: reads from the frames and writes answers to the queue. Returns `WouldBlock` when pending.
pub(super) struct Link<'a, 'c> {
    pub(super) io: &'a mut Frames<Upgraded>,
    pub(super) cx: &'a mut Context<'c>,
    pub(super) out: &'a mut WriteQueue,
}

impl Read for Link<'_, '_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut buf = ReadBuf::new(buf);
        match Pin::new(&mut *self.io).poll_read(self.cx, &mut buf) {
            Poll::Ready(Ok(())) => Ok(buf.filled().len()),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => Err(ErrorKind::WouldBlock.into()),
        }
    }
}

impl Write for Link<'_, '_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.out.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
