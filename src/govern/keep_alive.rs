//! Pings to the client of a governed WebSocket, between the upgrader's frames.

use crate::{
    frames::Frames,
    io::read::poll_read_at_most,
    session::upgraded::Upgraded,
    time::{Timer, after},
};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead as _, AsyncWrite as _, ReadBuf},
    time::Instant,
};

/// The payload that distinguishes the pings of this crate from those of the upgrader.
const PAYLOAD: [u8; 4] = [0xf0, 0x75, 0x70, 0x0d];

/// A ping from a server.
const PING: &[u8] = &[0x89, 4, PAYLOAD[0], PAYLOAD[1], PAYLOAD[2], PAYLOAD[3]];

/// The length of the client's pong, with its mask.
const PONG_LENGTH: usize = 10;

/// Pings a silent client, removes its pongs, and ends the session if the client stays silent.
pub(super) struct KeepAlive {
    interval: Duration,
    timer: Timer,
    /// The byte counts of the session at the last check.
    read: u64,
    written: u64,
    is_pinged: bool,
    /// The rest of a ping that is partly written.
    unwritten: &'static [u8],
    /// A pong has not arrived yet.
    is_awaited: bool,
    /// The bytes of a frame that may be the pong. Empty unless the pong is awaited.
    held: [u8; PONG_LENGTH],
    length: u8,
}

impl KeepAlive {
    pub(super) fn new(interval: Duration) -> Self {
        Self {
            interval,
            timer: Timer::default(),
            read: 0,
            written: 0,
            is_pinged: false,
            unwritten: &[],
            is_awaited: false,
            held: [0; PONG_LENGTH],
            length: 0,
        }
    }

    /// Returns `true` if a ping is partly written.
    pub(super) fn is_in_ping(&self) -> bool {
        !self.unwritten.is_empty() && self.unwritten.len() < PING.len()
    }

    /// Checks the client once per interval. Resolves to an error if the client is silent: the session then ends.
    ///
    /// `is_blocked` states whether a write of the upgrader is pending.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut Upgraded,
        frames: &Frames,
        is_blocked: bool,
    ) -> Poll<io::Error> {
        if !self.timer.is_armed() {
            self.timer.arm(after(self.interval));
        }
        loop {
            // An error also fails the upgrader's own operations.
            let _: Poll<io::Result<()>> = self.poll_ping(cx, io);
            ready!(self.timer.poll(cx));
            self.timer.arm(after(self.interval));
            let Some(session) = io.session() else {
                return Poll::Pending;
            };
            let (read, written) = (session.bytes_read(), session.bytes_written());
            let has_read = std::mem::replace(&mut self.read, read) != read;
            let has_written = std::mem::replace(&mut self.written, written) != written;
            let can_ping = frames.is_between() && !frames.has_closed() && !is_blocked;
            if has_read || !can_ping && has_written {
                self.is_pinged = false;
            } else if self.is_pinged {
                session.set_idle();
                session.stop_by(Instant::now());
                let message = "the client does not answer a ping";
                return Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, message));
            } else {
                // Without room for a ping, the client has one more interval to read.
                self.is_pinged = true;
                if can_ping {
                    self.unwritten = PING;
                    self.is_awaited = true;
                }
            }
        }
    }

    /// Writes the rest of a ping.
    pub(super) fn poll_ping(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut Upgraded,
    ) -> Poll<io::Result<()>> {
        if self.unwritten.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while !self.unwritten.is_empty() {
            match ready!(Pin::new(&mut *io).poll_write(cx, self.unwritten))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.unwritten = &self.unwritten[written..],
            }
        }
        if let Some(session) = io.session() {
            self.written = session.bytes_written();
        }
        let _: Poll<io::Result<()>> = Pin::new(io).poll_flush(cx);
        Poll::Ready(Ok(()))
    }

    /// Returns `true` if reads have to look for the pong.
    pub(super) fn is_filtering(&self) -> bool {
        self.is_awaited
    }

    /// Reads for the upgrader, up to the next frame boundary. Removes the pong.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut Upgraded,
        frames: &mut Frames,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut is_ended = false;
        loop {
            let held = &self.held[..self.length.into()];
            if held.is_empty() && !frames.is_between() {
                return poll_follow(frames.at_most(), cx, io, frames, buf);
            }
            let may_be_pong = frames.is_between() && begins_pong(held);
            if !may_be_pong || is_ended {
                self.give(frames, buf);
                return Poll::Ready(Ok(()));
            }
            if held.len() == PONG_LENGTH {
                self.is_awaited = false;
                self.length = 0;
                return poll_follow(usize::MAX, cx, io, frames, buf);
            }
            let mut rest = ReadBuf::new(&mut self.held[self.length.into()..]);
            ready!(Pin::new(&mut *io).poll_read(cx, &mut rest))?;
            is_ended = rest.filled().is_empty();
            self.length += rest.filled().len() as u8;
        }
    }

    /// Gives held bytes to the upgrader, up to the next frame boundary.
    fn give(&mut self, frames: &mut Frames, buf: &mut ReadBuf<'_>) {
        let length = usize::from(self.length).min(buf.remaining());
        let mut given = 0;
        while given < length {
            frames.follow(&self.held[given..=given]);
            given += 1;
            if frames.is_between() {
                break;
            }
        }
        buf.put_slice(&self.held[..given]);
        self.held.copy_within(given.., 0);
        self.length -= given as u8;
    }
}

/// Reads at most `limit` bytes, and follows their frames.
fn poll_follow(
    limit: usize,
    cx: &mut Context<'_>,
    io: &mut Upgraded,
    frames: &mut Frames,
    buf: &mut ReadBuf<'_>,
) -> Poll<io::Result<()>> {
    let before = buf.filled().len();
    ready!(poll_read_at_most(limit, Pin::new(io), cx, buf))?;
    frames.follow(&buf.filled()[before..]);
    Poll::Ready(Ok(()))
}

/// Returns `true` if a pong of this crate's ping may begin with these bytes.
fn begins_pong(bytes: &[u8]) -> bool {
    bytes.iter().enumerate().all(|(at, byte)| match at {
        0 => *byte == 0x8a,
        1 => *byte == 0x84,
        2..6 => true,
        _ => byte ^ bytes[at - 4] == PAYLOAD[at - 6],
    })
}
