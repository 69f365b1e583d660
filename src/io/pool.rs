//! Per-thread pools of idle resources.

use std::{cell::RefCell, thread::LocalKey};

/// A LIFO pool of idle buffers, pipes or codecs. The item that was used last is still in the processor's cache.
///
/// A session returns its items to the pool of its thread before it waits, and borrows other items when it has work. A
/// thread thus keeps about as many items as it has busy sessions. The pool also saves an allocation each time: for
/// large items, the allocator may map and unmap memory.
pub(crate) struct Pool<T> {
    kept: Vec<(T, usize)>,
    size: usize,
    max: usize,
}

impl<T> Pool<T> {
    /// Creates a pool whose items have a total size of at most `max`, in the unit of `give_back`.
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

    /// Keeps an item, or returns it if the pool is full.
    fn keep(&mut self, item: T, size: usize) -> Option<T> {
        if size > self.max - self.size {
            return Some(item);
        }
        self.size += size;
        self.kept.push((item, size));
        None
    }
}

/// Takes an item out of this thread's pool, if it has one.
pub(crate) fn borrow<T>(pool: &'static LocalKey<RefCell<Pool<T>>>) -> Option<T> {
    pool.try_with(|pool| pool.borrow_mut().take()).ok()?
}

/// Returns an item of this size to this thread's pool. Drops the item if the pool is full or the thread is
/// ending.
pub(crate) fn give_back<T>(pool: &'static LocalKey<RefCell<Pool<T>>>, item: T, size: usize) {
    drop(pool.try_with(|pool| pool.borrow_mut().keep(item, size)));
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 100;

    #[test]
    fn pool_limits_total_size() {
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
