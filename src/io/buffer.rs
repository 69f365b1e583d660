//! Large buffers, borrowed from a per-thread pool.

use crate::io::pool::{self, Pool};
use std::{
    cell::RefCell,
    ops::{Deref, DerefMut},
};

/// The size of a buffer, and thus the limit of one read.
///
/// Large buffers need few system calls, and cost nothing while a session is idle. Many programs send 64 KiB at
/// a time after a frame header: one read receives both.
pub(crate) const BYTES: usize = 72 * 1024;

/// The maximum number of unused buffers that a thread keeps.
const POOLED: usize = 4;

thread_local! {
    static POOL: RefCell<Pool<Box<[u8]>>> = const { RefCell::new(Pool::new(POOLED * BYTES)) };
}

/// A buffer that returns to the pool of its thread on drop. It is not cleared: it holds data of earlier uses.
pub(crate) struct Buffer {
    /// Empty during drop.
    bytes: Box<[u8]>,
}

impl Buffer {
    pub(crate) fn borrow() -> Self {
        let bytes = pool::borrow(&POOL);
        Self {
            bytes: bytes.unwrap_or_else(|| vec![0; BYTES].into_boxed_slice()),
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        pool::give_back(&POOL, std::mem::take(&mut self.bytes), BYTES);
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}
