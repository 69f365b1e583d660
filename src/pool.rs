//! What a thread keeps for whichever of its sessions has something to do next.

use std::{cell::RefCell, thread::LocalKey};

/// What no session needs at the moment, the last that was used first: it is in the processor's cache.
///
/// A session that waits has left here what it needs to go on, and finds it, or the like, when something comes. So
/// there is as much of it as are at work at a time, and the allocator has nothing to do for each turn, which for what
/// is large can be to take memory from the system and to give it back.
pub(crate) struct Pool<T> {
    kept: Vec<(T, usize)>,
    size: usize,
    max: usize,
}

impl<T> Pool<T> {
    /// One that keeps no more than so much: in bytes, or whatever the sizes are in.
    pub(crate) const fn new(max: usize) -> Self {
        Self {
            kept: Vec::new(),
            size: 0,
            max,
        }
    }

    fn take(&mut self) -> Option<T> {
        let (item, size) = self.kept.pop()?;
        self.size -= size;
        Some(item)
    }

    /// Keeps it, or hands it back where there is no room.
    fn keep(&mut self, item: T, size: usize) -> Option<T> {
        if size > self.max - self.size {
            return Some(item);
        }
        self.size += size;
        self.kept.push((item, size));
        None
    }
}

/// What this thread has kept, if it has any.
pub(crate) fn borrow<T>(pool: &'static LocalKey<RefCell<Pool<T>>>) -> Option<T> {
    pool.try_with(|pool| pool.borrow_mut().take()).ok()?
}

/// Leaves something of this size to this thread. It is dropped if the thread has enough, or is ending.
pub(crate) fn give_back<T>(pool: &'static LocalKey<RefCell<Pool<T>>>, item: T, size: usize) {
    drop(pool.try_with(|pool| pool.borrow_mut().keep(item, size)));
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 100;

    #[test]
    fn a_pool_has_an_end() {
        let mut pool = Pool::new(MAX);
        assert_eq!(pool.keep("too large", MAX + 1), Some("too large"));
        assert_eq!(pool.keep("one", MAX - 10), None);
        assert_eq!(pool.keep("two", 11), Some("two"));
        assert_eq!(pool.keep("three", 10), None);
        assert_eq!(pool.keep("four", 1), Some("four"));
        assert_eq!(pool.take(), Some("three"));
        assert_eq!(pool.take(), Some("one"));
        assert_eq!(pool.take(), None);
        assert_eq!(pool.keep("all", MAX), None);
    }
}
