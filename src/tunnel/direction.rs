//! One direction of a relay.

use super::websocket::WebSocket;
use crate::{
    io::copy::{Broken, Copy, Ends},
    session::upgraded::Upgraded,
};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};

/// The connections of a relay. An echo has only `a`.
pub(super) struct Both {
    pub(super) a: Upgraded,
    pub(super) b: Option<Upgraded>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    A,
    B,
}

impl Both {
    /// Returns an empty placeholder without connections.
    pub(super) fn gone() -> Self {
        Self {
            a: Upgraded::gone(),
            b: None,
        }
    }

    pub(super) fn get(&mut self, side: Side) -> &mut Upgraded {
        match (side, &mut self.b) {
            (Side::B, Some(b)) => b,
            _ => &mut self.a,
        }
    }
}

/// Sends the bytes of one connection to another, and shuts the other down after the first has ended.
pub(super) struct Direction {
    from: Side,
    to: Side,
    copy: Copy,
    #[cfg(target_os = "linux")]
    splicing: splicing::Splicing,
    /// `None` if the bytes are not WebSocket frames.
    websocket: Option<Box<WebSocket>>,
    is_shutting_down: bool,
    is_over: bool,
    /// The write error, if writing failed.
    pub(super) failure: Option<io::Error>,
}

impl Direction {
    pub(super) fn new(from: Side, to: Side) -> Self {
        Self {
            from,
            to,
            copy: Copy::default(),
            #[cfg(target_os = "linux")]
            splicing: splicing::Splicing::default(),
            websocket: None,
            is_shutting_down: false,
            is_over: false,
            failure: None,
        }
    }

    /// Follows the bytes as WebSocket frames.
    pub(super) fn follow_websocket(&mut self, ends: &mut Both) {
        let websocket = WebSocket::new(self.to);
        websocket.set_farewell(ends.get(self.to), false);
        self.websocket = Some(Box::new(websocket));
    }

    /// Ends a WebSocket with a close frame at the next frame boundary. Does nothing for other protocols.
    pub(super) fn close_websocket(&mut self) {
        if let Some(websocket) = &mut self.websocket {
            websocket.close();
        }
    }

    /// Returns `true` if a WebSocket was ended with a close frame.
    pub(super) fn has_closed_websocket(&self) -> bool {
        self.websocket
            .as_ref()
            .is_some_and(|websocket| websocket.is_closing())
    }

    /// Returns the number of bytes sent.
    pub(super) fn bytes(&self) -> u64 {
        self.copy.copied
    }

    /// Returns `true` if some bytes are read and not yet sent.
    pub(super) fn has_unsent(&self) -> bool {
        #[cfg(target_os = "linux")]
        if self.splicing.has_unsent() {
            return true;
        }
        self.copy.has_unwritten()
    }

    /// Returns the pending error of the sender's socket, if the sender has broken off.
    pub(super) fn sender_error(&self, ends: &mut Both) -> Option<io::Error> {
        ends.get(self.from).carrier()?.take_error().ok()?
    }

    /// Frees the unsent bytes after a write error: the other direction may continue for a long time.
    fn discard_unsent(&mut self) {
        self.copy.discard_unwritten();
        #[cfg(target_os = "linux")]
        self.splicing.discard_unsent();
    }

    /// Returns the kind of the write error if the connection has broken off.
    ///
    /// After any other write error, the read side of that connection stays open until its own end of file.
    pub(super) fn broken_off(&self) -> Option<io::ErrorKind> {
        let kind = self.failure.as_ref()?.kind();
        let is_break = matches!(
            kind,
            io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::TimedOut
        );
        is_break.then_some(kind)
    }

    /// Sends bytes until the sender has ended or the receiver accepts no more.
    ///
    /// The socket reports an error only once. If the writing direction received the error, a read from the same
    /// connection looks like end of file. `broken_off` passes the kind of that error to the reading direction.
    ///
    /// # Errors
    ///
    /// Returns the read error: the sender has broken off.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        ends: &mut Both,
        broken_off: Option<io::ErrorKind>,
    ) -> Poll<io::Result<()>> {
        if self.is_over {
            return Poll::Ready(Ok(()));
        }
        let polled = self.poll_to_end(cx, ends, broken_off);
        if let Some(websocket) = &self.websocket {
            websocket.set_farewell(ends.get(self.to), self.copy.has_unwritten());
        }
        let result = match ready!(polled) {
            Ok(()) => Ok(()),
            Err(Broken::Writer(error)) => {
                self.failure = Some(error);
                self.discard_unsent();
                Ok(())
            }
            Err(Broken::Reader(error)) => Err(error),
        };
        self.is_over = true;
        Poll::Ready(result)
    }

    fn poll_to_end(
        &mut self,
        cx: &mut Context<'_>,
        ends: &mut Both,
        broken_off: Option<io::ErrorKind>,
    ) -> Poll<Result<(), Broken>> {
        while !self.is_shutting_down {
            let has_unwritten = self.copy.has_unwritten();
            if let Some(websocket) = self.websocket.as_mut().filter(|_| !has_unwritten) {
                let to = ends.get(self.to);
                if ready!(websocket.poll_close(cx, to)).map_err(Broken::Writer)? {
                    return Poll::Ready(Ok(()));
                }
            }
            if ready!(self.poll_turn(cx, ends))? == 0 {
                if let Some(kind) = broken_off {
                    return Poll::Ready(Err(Broken::Reader(kind.into())));
                }
                self.is_shutting_down = true;
            }
        }
        let to = Pin::new(ends.get(self.to));
        to.poll_shutdown(cx).map_err(Broken::Writer)
    }

    #[cfg(not(target_os = "linux"))]
    fn poll_turn(&mut self, cx: &mut Context<'_>, ends: &mut Both) -> Poll<Result<usize, Broken>> {
        self.poll_copy(cx, ends)
    }

    fn poll_copy(&mut self, cx: &mut Context<'_>, ends: &mut Both) -> Poll<Result<usize, Broken>> {
        let mut ends = FromTo {
            ends,
            from: self.from,
            to: self.to,
            websocket: self.websocket.as_deref_mut(),
        };
        self.copy.poll_turn(cx, &mut ends)
    }
}

struct FromTo<'a> {
    ends: &'a mut Both,
    from: Side,
    to: Side,
    websocket: Option<&'a mut WebSocket>,
}

impl Ends for FromTo<'_> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let from = self.ends.get(self.from);
        match &mut self.websocket {
            Some(websocket) => websocket.poll_read(cx, from, buf),
            None => Pin::new(from).poll_read(cx, buf),
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(self.ends.get(self.to)).poll_write(cx, buf)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.ends.get(self.to)).poll_flush(cx)
    }
}

/// Alternates between copying through a buffer and `splice(2)`, depending on the amount of data.
#[cfg(target_os = "linux")]
mod splicing {
    use super::{Both, Broken, Context, Direction, Poll, io, ready};
    use crate::io::{buffer, splice::Pipe};

    /// The number of consecutive reads that must fill the buffer before `splice` is tried.
    const FULL_READS: u8 = 4;

    /// The minimum size of a `splice`, in bytes; after a smaller one, the direction returns to copying.
    const WORTH_IT: usize = 16 * 1024;

    #[derive(Default)]
    pub(super) struct Splicing {
        /// The number of consecutive reads that filled the buffer.
        full_reads: u8,
        is_active: bool,
        /// Set after the kernel rejected `splice` for these sockets.
        is_refused: bool,
        /// The pipe, while it holds unsent bytes.
        pipe: Option<Pipe>,
    }

    impl Splicing {
        pub(super) fn has_unsent(&self) -> bool {
            self.pipe.is_some()
        }

        pub(super) fn discard_unsent(&mut self) {
            self.pipe = None;
        }

        /// Counts a read of the copy loop, and selects `splice` after `FULL_READS` full reads in a row.
        fn count(&mut self, read: usize, are_sockets: impl FnOnce() -> bool) {
            if read < buffer::BYTES {
                self.full_reads = 0;
                return;
            }
            self.full_reads += 1;
            if self.full_reads == FULL_READS {
                self.full_reads = 0;
                self.is_active = !self.is_refused && are_sockets();
            }
        }
    }

    impl Direction {
        pub(super) fn poll_turn(
            &mut self,
            cx: &mut Context<'_>,
            ends: &mut Both,
        ) -> Poll<Result<usize, Broken>> {
            if let Some(moved) = ready!(self.poll_splice(cx, ends))? {
                return Poll::Ready(Ok(moved));
            }
            let read = ready!(self.poll_copy(cx, ends))?;
            // `splice` moves bytes unseen, and the frames of a WebSocket have to be followed.
            if self.websocket.is_none() {
                self.splicing.count(read, || {
                    ends.get(self.from).as_socket().is_some()
                        && ends.get(self.to).as_socket().is_some()
                });
            }
            Poll::Ready(Ok(read))
        }

        /// Moves bytes with `splice`. Returns `None` if `splice` is not selected or does not work.
        fn poll_splice(
            &mut self,
            cx: &mut Context<'_>,
            ends: &mut Both,
        ) -> Poll<Result<Option<usize>, Broken>> {
            let mut moved = None;
            // Send the unwritten bytes of the copy buffer first.
            let is_free = self.splicing.pipe.is_none() && !self.copy.has_unwritten();
            if self.splicing.is_active && is_free {
                // Borrow the pipe only for reading: an idle tunnel holds neither a pipe nor a buffer.
                let Some(mut pipe) = Pipe::borrow() else {
                    self.splicing.is_active = false;
                    return Poll::Ready(Ok(None));
                };
                match ready!(ends.get(self.from).poll_fill(cx, &mut pipe)) {
                    // `splice` stops at a TCP urgent byte without an error. A read skips the byte and registers
                    // the waker.
                    Ok(None) => return Poll::Ready(Ok(None)),
                    Ok(Some(0)) => return Poll::Ready(Ok(Some(0))),
                    Ok(Some(filled)) => {
                        self.splicing.is_active = filled >= WORTH_IT;
                        self.splicing.pipe = Some(pipe);
                    }
                    Err(error) if is_refusal(&error) => {
                        self.splicing.is_active = false;
                        self.splicing.is_refused = true;
                        return Poll::Ready(Ok(None));
                    }
                    Err(error) => return Poll::Ready(Err(Broken::Reader(error))),
                }
            }
            while let Some(pipe) = &mut self.splicing.pipe {
                let drained = ready!(ends.get(self.to).poll_drain(cx, pipe));
                let drained = drained.map_err(Broken::Writer)?;
                self.copy.copied += drained as u64;
                moved = Some(drained);
                if pipe.is_empty() {
                    self.splicing.pipe = None;
                }
            }
            Poll::Ready(Ok(moved))
        }
    }

    /// Returns `true` if the kernel does not support `splice` for these sockets or denies it to this process.
    fn is_refusal(error: &io::Error) -> bool {
        matches!(
            error.kind(),
            io::ErrorKind::InvalidInput
                | io::ErrorKind::Unsupported
                | io::ErrorKind::PermissionDenied
        )
    }
}
