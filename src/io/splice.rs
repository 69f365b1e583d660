//! Bytes from socket to socket that never leave the kernel: `splice(2)` through a pipe.

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

/// What a pipe is to hold. It is as much as Linux lets everybody have (`pipe-max-size`).
const WANTED: usize = 1024 * 1024;

/// What a pipe has to hold so that it is faster than a copy. A user who has more than
/// `pipe-user-pages-soft` gets smaller ones.
const NEEDED: usize = 64 * 1024;

/// How many pipes a process has at most: what a user may have (`pipe-user-pages-soft`) is 64 of them, and
/// those whose receiver takes no more hold what is in them.
const MAX: usize = 32;

/// How many empty pipes a thread keeps for later. They count: more would leave none to the others where there are
/// many threads.
const POOLED: usize = 1;

static OPEN: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static POOL: RefCell<Pool<Ends>> = const { RefCell::new(Pool::new(POOLED)) };
}

/// A pipe that goes back to the pool of its thread when it is dropped, if it is empty.
pub(crate) struct Pipe {
    /// None when it is being dropped.
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
    /// An empty pipe. `None`: there is none to be had, or only a small one.
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

    /// Takes what a socket has received. It is for an empty pipe: a full one would look like a socket that has
    /// received nothing.
    pub(crate) fn fill(&mut self, socket: impl AsFd) -> io::Result<usize> {
        let Some(ends) = &self.ends else {
            return Ok(0);
        };
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        let filled = splice(socket, None, &ends.write, None, ends.capacity, flags)?;
        self.filled += filled;
        Ok(filled)
    }

    /// Sends what is in it.
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
        // What is still in it is nobody else's.
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
        // If it may not be larger it is as large as it is.
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
