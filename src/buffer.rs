//! Large buffers, borrowed for a moment from the thread.

use crate::pool::{self, Pool};
use std::{
    cell::RefCell,
    ops::{Deref, DerefMut},
};

/// What one read takes at most. Large, so that much is moved in few calls: it costs nothing
/// while there is nothing to move. Programs like to send 64 KiB, with the header of a frame before
/// it: all of that is one read.
pub(crate) const BYTES: usize = 72 * 1024;

/// How many buffers a thread keeps for later.
const POOLED: usize = 4;

thread_local! {
    static POOL: RefCell<Pool<Box<[u8]>>> = const { RefCell::new(Pool::new(POOLED * BYTES)) };
}

/// A buffer that goes back to the pool of its thread when it is dropped. It holds whatever was in it before.
pub(crate) struct Buffer {
    /// Empty when it is being dropped.
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
