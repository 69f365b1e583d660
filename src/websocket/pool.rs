//! What a thread keeps for whichever of its sessions has a message next.

use std::{cell::RefCell, thread::LocalKey};

/// How many bytes are few: a buffer of so many may stay with a session, and one that was no larger with whoever keeps
/// a message that is a part of it.
pub(super) const OWN: usize = 2 * 1024;

/// How many bytes a thread keeps in one pool.
const BYTES: usize = 1024 * 1024;

/// What no session needs at the moment, the last that was used first: it is in the processor's cache.
///
/// A session that waits has left here what it needs for a message, and finds it, or the like, when one comes. So
/// there is as much of it as messages are on their way at a time, and the allocator has nothing to do for each, which
/// for large ones can be to take memory from the system and to give it back.
pub(super) struct Pool<T> {
    kept: Vec<(T, usize)>,
    bytes: usize,
}

impl<T> Pool<T> {
    pub(super) const fn new() -> Self {
        Self {
            kept: Vec::new(),
            bytes: 0,
        }
    }

    fn take(&mut self) -> Option<T> {
        let (item, bytes) = self.kept.pop()?;
        self.bytes -= bytes;
        Some(item)
    }

    /// Keeps it, or hands it back where there is no room.
    fn keep(&mut self, item: T, bytes: usize) -> Option<T> {
        if bytes > BYTES - self.bytes {
            return Some(item);
        }
        self.bytes += bytes;
        self.kept.push((item, bytes));
        None
    }
}

/// What this thread has kept, if it has any.
pub(super) fn borrow<T>(pool: &'static LocalKey<RefCell<Pool<T>>>) -> Option<T> {
    pool.try_with(|pool| pool.borrow_mut().take()).ok()?
}

/// Leaves something of so many bytes to this thread. It is dropped if the thread has enough, or is ending.
pub(super) fn give_back<T>(pool: &'static LocalKey<RefCell<Pool<T>>>, item: T, bytes: usize) {
    drop(pool.try_with(|pool| pool.borrow_mut().keep(item, bytes)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_has_an_end() {
        let mut pool = Pool::new();
        assert_eq!(pool.keep("too large", BYTES + 1), Some("too large"));
        assert_eq!(pool.keep("one", BYTES - 10), None);
        assert_eq!(pool.keep("two", 11), Some("two"));
        assert_eq!(pool.keep("three", 10), None);
        assert_eq!(pool.keep("four", 1), Some("four"));
        assert_eq!(pool.take(), Some("three"));
        assert_eq!(pool.take(), Some("one"));
        assert_eq!(pool.take(), None);
        assert_eq!(pool.keep("all", BYTES), None);
    }
}
