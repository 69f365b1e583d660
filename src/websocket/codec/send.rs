//! Sending: queues messages and close frames, and writes the queue.

use super::{Codec, Phase, wakers::Wakers};
use crate::websocket::{CloseFrame, Error, Message, reader::MAX_CONTROL_PAYLOAD};
use bytes::Bytes;
use futures_util::task::AtomicWaker;
use std::{
    io,
    task::{Context, Poll, ready},
};
use tungstenite::protocol::{
    Role,
    frame::{
        FrameHeader,
        coding::{Control, Data, OpCode},
    },
};

/// Queued bytes from which on `poll_ready` flushes the queue.
const FLUSH_THRESHOLD: usize = 64 * 1024;

impl Codec {
    /// Queues a message.
    pub(in crate::websocket) fn start_send(&mut self, message: Message) -> Result<(), Error> {
        self.check_idle()?;
        if self.phase != Phase::Open {
            return Err(Error::closed());
        }
        self.take_broadcasts();
        self.start_frame(message)
    }

    /// Queues a message after those that are queued already.
    pub(super) fn start_frame(&mut self, message: Message) -> Result<(), Error> {
        if self.phase != Phase::Open {
            return Err(Error::closed());
        }
        let (opcode, payload) = match message {
            Message::Text(text) => (OpCode::Data(Data::Text), text.into()),
            Message::Binary(bytes) => (OpCode::Data(Data::Binary), bytes),
            Message::Ping(bytes) => (OpCode::Control(Control::Ping), bytes),
            Message::Pong(bytes) => (OpCode::Control(Control::Pong), bytes),
            Message::Close(frame) => return self.send_close(frame),
        };
        if let OpCode::Control(_) = opcode {
            check_control(payload.len())?;
        } else if let Some(compressor) = &mut self.compressor {
            if let Some(compressed) = compressor.compress(&payload) {
                self.queue_frame(opcode, true, compressed.into());
                return Ok(());
            }
        }
        self.queue(opcode, payload);
        Ok(())
    }

    /// Queues a message, without compression.
    pub(in crate::websocket) fn start_send_uncompressed(
        &mut self,
        message: Message,
    ) -> Result<(), Error> {
        let compressor = self.compressor.take();
        let sent = self.start_send(message);
        self.compressor = compressor;
        sent
    }

    /// Queues an uncompressed frame.
    pub(super) fn queue(&mut self, opcode: OpCode, payload: Bytes) {
        self.queue_frame(opcode, false, payload);
    }

    fn queue_frame(&mut self, opcode: OpCode, is_compressed: bool, payload: Bytes) {
        let header = FrameHeader {
            rsv1: is_compressed,
            opcode,
            mask: (self.role == Role::Client).then(rand::random),
            ..FrameHeader::default()
        };
        self.out.push(header, payload);
    }

    pub(super) fn send_close(&mut self, frame: Option<CloseFrame>) -> Result<(), Error> {
        if let Some(frame) = &frame {
            if !frame.has_valid_code() {
                return Err(Error::invalid_code(frame.code));
            }
            check_control(2 + frame.reason.len())?;
        }
        self.take_broadcasts();
        // A broadcast may have been a close frame.
        if self.phase == Phase::Open {
            self.queue_close(frame.as_ref());
        }
        Ok(())
    }

    /// Queues a valid close frame.
    pub(super) fn queue_close(&mut self, frame: Option<&CloseFrame>) {
        self.phase = Phase::Closing;
        if let Some(outbox) = &self.outbox {
            outbox.close();
        }
        let payload = frame.map(|CloseFrame { code, reason }| {
            [&code.to_be_bytes()[..], reason.as_str().as_bytes()].concat()
        });
        self.queue(
            OpCode::Control(Control::Close),
            payload.unwrap_or_default().into(),
        );
    }

    /// Starts the closing handshake unless it has already started. Fails only if the frame is invalid.
    pub(in crate::websocket) fn start_close(&mut self, frame: CloseFrame) -> Result<(), Error> {
        match self.phase {
            Phase::Open => self.send_close(Some(frame)),
            Phase::Closing | Phase::Closed | Phase::Ended => Ok(()),
        }
    }

    /// Queues the message with `start` once the queue has room, and waits until it is written.
    pub(in crate::websocket) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        message: &mut Option<Message>,
        start: fn(&mut Self, Message) -> Result<(), Error>,
    ) -> Poll<Result<(), Error>> {
        if message.is_some() {
            ready!(self.poll_ready(cx))?;
        }
        if let Some(message) = message.take() {
            start(self, message)?;
        }
        self.poll_flush(cx)
    }

    /// Waits until the queue has room for another message.
    pub(in crate::websocket) fn poll_ready(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        if self.out.len() >= FLUSH_THRESHOLD || self.io.is_blocked() {
            return self.poll_flush(cx);
        }
        Poll::Ready(Ok(()))
    }

    /// Writes and flushes all queued bytes.
    pub(in crate::websocket) fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        self.check_idle()?;
        self.poll_flush_rest(cx)
    }

    /// Writes and flushes all queued bytes, also after an error.
    pub(in crate::websocket) fn poll_flush_rest(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        let flushed = ready!(self.poll_write_all(cx, |wakers| &wakers.sender));
        self.out.release();
        self.has_failed |= flushed.is_err();
        Poll::Ready(flushed.map_err(Error::io))
    }

    /// Writes as many queued bytes as the IO accepts, and wakes all waiting tasks when the queue is written. `cx` must
    /// hold a waker for all of them.
    pub(super) fn poll_write_some(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.out.is_pending() {
            return Poll::Ready(Ok(()));
        }
        let written = ready!(self.out.poll_write(cx, &mut self.io));
        self.answers = 0;
        // Another task may be waiting for this write.
        self.wakers.wake_all();
        Poll::Ready(written)
    }

    pub(super) fn poll_write_all(
        &mut self,
        cx: &mut Context<'_>,
        task: fn(&Wakers) -> &AtomicWaker,
    ) -> Poll<io::Result<()>> {
        if !self.out.is_pending() {
            return Poll::Ready(Ok(()));
        }
        let was_blocked = self.io.is_blocked();
        let mut written = self.out.poll_write(cx, &mut self.io);
        if written.is_pending() {
            task(&self.wakers).register(cx.waker());
            let waker = self.waker();
            written = self
                .out
                .poll_write(&mut Context::from_waker(&waker), &mut self.io);
        }
        let written = ready!(written);
        self.answers = 0;
        if was_blocked {
            // The IO may have woken only this task.
            self.wakers.wake_all();
        }
        Poll::Ready(written)
    }
}

fn check_control(size: usize) -> Result<(), Error> {
    match size {
        ..=MAX_CONTROL_PAYLOAD => Ok(()),
        size => Err(Error::too_long(size)),
    }
}
