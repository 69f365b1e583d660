//! Moves bytes between sockets within the kernel: `splice(2)` through a pipe.

use crate::io::pool::{self, Pool};
use rustix::pipe::{
    PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, splice,
};
use std::{
    cell::RefCell,
    io,
    os::fd::{AsFd, OwnedFd},
    sync::atomic::{AtomicUsize, Ordering},
};

/// The requested capacity of a pipe, in bytes: the default Linux limit for unprivileged users (`pipe-max-size`).
const WANTED: usize = 1024 * 1024;

/// The minimum capacity at which a pipe is faster than a copy, in bytes. Linux creates smaller pipes for a user over
/// `pipe-user-pages-soft`.
const NEEDED: usize = 64 * 1024;

/// The maximum number of pipes per process. A user's limit (`pipe-user-pages-soft`) is 64 pipes of this size, and a
/// pipe with a blocked receiver stays in use.
const MAX: usize = 32;

/// The maximum number of empty pipes that a thread pools. Pooled pipes count towards `MAX`: with many threads, a
/// larger pool would leave no pipes to the other threads.
const POOLED: usize = 1;

static OPEN: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static POOL: RefCell<Pool<Ends>> = const { RefCell::new(Pool::new(POOLED)) };
}

/// A pipe. On drop, an empty pipe returns to the pool of the thread.
pub(crate) struct Pipe {
    /// `None` during drop.
    ends: Option<Ends>,
    filled: usize,
}

/// The two ends of a pipe, which count as one of [`MAX`].
struct Ends {
    read: OwnedFd,
    write: OwnedFd,
    capacity: usize,
}

impl Pipe {
    /// Returns an empty pipe, or `None` if no pipe of at least `NEEDED` bytes is available.
    pub(crate) fn borrow() -> Option<Self> {
        let ends = pool::borrow(&POOL).or_else(Ends::open)?;
        Some(Self {
            ends: Some(ends),
            filled: 0,
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Moves received bytes from a socket into the pipe. Call this only on an empty pipe: with a full pipe, `splice`
    /// fails as if the socket had received nothing.
    pub(crate) fn fill(&mut self, socket: impl AsFd) -> io::Result<usize> {
        let Some(ends) = &self.ends else {
            return Ok(0);
        };
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        let filled = splice(socket, None, &ends.write, None, ends.capacity, flags)?;
        self.filled += filled;
        Ok(filled)
    }

    /// Moves bytes from the pipe to a socket.
    pub(crate) fn drain(&mut self, socket: impl AsFd) -> io::Result<usize> {
        let Some(ends) = &self.ends else {
            return Ok(0);
        };
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        let drained = splice(&ends.read, None, socket, None, self.filled, flags)?;
        self.filled -= drained;
        Ok(drained)
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        // Never reuse a pipe that still holds bytes of this connection.
        if let Some(ends) = self.ends.take().filter(|_| self.filled == 0) {
            pool::give_back(&POOL, ends, 1);
        }
    }
}

impl Ends {
    fn open() -> Option<Self> {
        OPEN.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| {
            (open < MAX).then_some(open + 1)
        })
        .ok()?;
        let Ok((read, write)) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK) else {
            OPEN.fetch_sub(1, Ordering::Relaxed);
            return None;
        };
        let mut ends = Self {
            read,
            write,
            capacity: 0,
        };
        // On failure the pipe keeps its size, which is checked below.
        let _ = fcntl_setpipe_size(&ends.write, WANTED);
        ends.capacity = fcntl_getpipe_size(&ends.write).ok()?;
        (ends.capacity >= NEEDED).then_some(ends)
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::Relaxed);
    }
}
