//! One direction of a relay.

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

/// The ends of a relay. An echo has one.
pub(super) struct Both {
    pub(super) a: Upgraded,
    pub(super) b: Option<Upgraded>,
}

#[derive(Clone, Copy)]
pub(super) enum Side {
    A,
    B,
}

impl Both {
    /// Nobody's.
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

/// What arrives at one end is sent to another, which is shut down when the first has ended.
pub(super) struct Direction {
    from: Side,
    to: Side,
    copy: Copy,
    #[cfg(target_os = "linux")]
    gears: gears::Gears,
    is_shutting_down: bool,
    is_over: bool,
    /// What its writer failed with.
    pub(super) failure: Option<io::Error>,
}

impl Direction {
    pub(super) fn new(from: Side, to: Side) -> Self {
        Self {
            from,
            to,
            copy: Copy::default(),
            #[cfg(target_os = "linux")]
            gears: gears::Gears::default(),
            is_shutting_down: false,
            is_over: false,
            failure: None,
        }
    }

    /// How many bytes were sent.
    pub(super) fn bytes(&self) -> u64 {
        self.copy.copied
    }

    /// Whether something has been read that was not sent yet.
    pub(super) fn has_unsent(&self) -> bool {
        #[cfg(target_os = "linux")]
        if self.gears.has_unsent() {
            return true;
        }
        self.copy.has_unwritten()
    }

    /// What has become of the socket that it reads from, if it has broken off.
    pub(super) fn sender_error(&self, ends: &mut Both) -> Option<io::Error> {
        ends.get(self.from).carrier()?.take_error().ok()?
    }

    /// Nobody takes it, and the other direction may go on for long.
    fn discard_unsent(&mut self) {
        self.copy.discard_unwritten();
        #[cfg(target_os = "linux")]
        self.gears.discard_unsent();
    }

    /// What has become of the connection that it writes to, if it has broken off. One that takes no more
    /// may still have an end of its own.
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

    /// Goes on until there is nothing more to be sent, or nobody to send it to.
    ///
    /// An error is told once, and if it was told to who writes, the other direction reads what looks like an
    /// end: `broken_off` is what that one knows.
    ///
    /// # Errors
    ///
    /// That of the end where it reads: it has broken off.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        ends: &mut Both,
        broken_off: Option<io::ErrorKind>,
    ) -> Poll<io::Result<()>> {
        if self.is_over {
            return Poll::Ready(Ok(()));
        }
        let result = match ready!(self.poll_to_end(cx, ends, broken_off)) {
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
        };
        self.copy.poll_turn(cx, &mut ends)
    }
}

struct FromTo<'a> {
    ends: &'a mut Both,
    from: Side,
    to: Side,
}

impl Ends for FromTo<'_> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.ends.get(self.from)).poll_read(cx, buf)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(self.ends.get(self.to)).poll_write(cx, buf)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.ends.get(self.to)).poll_flush(cx)
    }
}

/// The second gear.
#[cfg(target_os = "linux")]
mod gears {
    use super::{Both, Broken, Context, Direction, Poll, io, ready};
    use crate::io::{buffer, splice::Pipe};

    /// After so many reads that filled the buffer the second gear is tried.
    const FULL_READS: u8 = 4;

    /// A turn of the second gear that moves less than this was one for the first.
    const WORTH_IT: usize = 16 * 1024;

    #[derive(Default)]
    pub(super) struct Gears {
        /// How many reads in a row filled the buffer.
        full_reads: u8,
        is_in_second: bool,
        /// These sockets, or this kernel, have no second gear.
        has_no_second: bool,
        /// What has not been sent yet.
        pipe: Option<Pipe>,
    }

    impl Gears {
        pub(super) fn has_unsent(&self) -> bool {
            self.pipe.is_some()
        }

        pub(super) fn discard_unsent(&mut self) {
            self.pipe = None;
        }

        /// Counts a turn of the first gear.
        fn count(&mut self, read: usize, are_sockets: impl FnOnce() -> bool) {
            if read < buffer::BYTES {
                self.full_reads = 0;
                return;
            }
            self.full_reads += 1;
            if self.full_reads == FULL_READS {
                self.full_reads = 0;
                self.is_in_second = !self.has_no_second && are_sockets();
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
            self.gears.count(read, || {
                ends.get(self.from).as_socket().is_some() && ends.get(self.to).as_socket().is_some()
            });
            Poll::Ready(Ok(read))
        }

        /// A turn of the second gear. `None`: it is not in, or does not work.
        fn poll_splice(
            &mut self,
            cx: &mut Context<'_>,
            ends: &mut Both,
        ) -> Poll<Result<Option<usize>, Broken>> {
            let mut moved = None;
            // What a turn of the first gear has left is sent first.
            let is_free = self.gears.pipe.is_none() && !self.copy.has_unwritten();
            if self.gears.is_in_second && is_free {
                // A tunnel that waits has none, as it has no buffer.
                let Some(mut pipe) = Pipe::borrow() else {
                    self.gears.is_in_second = false;
                    return Poll::Ready(Ok(None));
                };
                match ready!(ends.get(self.from).poll_fill(cx, &mut pipe)) {
                    // `splice` does not get past an urgent byte, and does not say so. Reading does, and knows
                    // how to wait.
                    Ok(None) => return Poll::Ready(Ok(None)),
                    Ok(Some(0)) => return Poll::Ready(Ok(Some(0))),
                    Ok(Some(filled)) => {
                        self.gears.is_in_second = filled >= WORTH_IT;
                        self.gears.pipe = Some(pipe);
                    }
                    Err(error) if is_refusal(&error) => {
                        self.gears.is_in_second = false;
                        self.gears.has_no_second = true;
                        return Poll::Ready(Ok(None));
                    }
                    Err(error) => return Poll::Ready(Err(Broken::Reader(error))),
                }
            }
            while let Some(pipe) = &mut self.gears.pipe {
                let drained = ready!(ends.get(self.to).poll_drain(cx, pipe));
                let drained = drained.map_err(Broken::Writer)?;
                self.copy.copied += drained as u64;
                moved = Some(drained);
                if pipe.is_empty() {
                    self.gears.pipe = None;
                }
            }
            Poll::Ready(Ok(moved))
        }
    }

    /// Whether the kernel does not do this for these sockets, or does not let this process.
    fn is_refusal(error: &io::Error) -> bool {
        matches!(
            error.kind(),
            io::ErrorKind::InvalidInput
                | io::ErrorKind::Unsupported
                | io::ErrorKind::PermissionDenied
        )
    }
}
