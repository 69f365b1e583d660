//! The plain bytes that the next message of a direction may refer to.

use std::sync::atomic::{AtomicUsize, Ordering};

/// All windows of the process.
pub(super) static WINDOWS: Windows = Windows::new();

/// Counts windows.
#[derive(Debug)]
pub(super) struct Windows {
    open: AtomicUsize,
}

impl Windows {
    pub(super) const fn new() -> Self {
        Self {
            open: AtomicUsize::new(0),
        }
    }

    /// Counts one more window, unless `max` windows are open.
    pub(super) fn acquire(&'static self, max: usize) -> Option<Permit> {
        let acquired = self
            .open
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| {
                (open < max).then_some(open + 1)
            });
        acquired.ok().map(|_| Permit { windows: self })
    }
}

/// The right to keep one window.
#[derive(Debug)]
pub(super) struct Permit {
    windows: &'static Windows,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.windows.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The last bytes of the messages of one direction (the LZ77 sliding window).
///
/// A window replaces a compressor or decompressor of the session: a codec of the pool continues the stream if the
/// window is its preset dictionary.
pub(super) struct Window {
    bytes: Vec<u8>,
    max: usize,
    _permit: Permit,
}

impl Window {
    pub(super) const fn new(bits: u8, permit: Permit) -> Self {
        Self {
            bytes: Vec::new(),
            max: 1 << bits,
            _permit: permit,
        }
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    /// Appends a message, and removes the bytes that can no longer be referred to.
    pub(super) fn push(&mut self, message: &[u8]) {
        let new = &message[message.len().saturating_sub(self.max)..];
        let old = (self.max - new.len()).min(self.bytes.len());
        self.bytes.drain(..self.bytes.len() - old);
        let size = old + new.len();
        if size > self.bytes.capacity() {
            // `Vec` would grow over `max`, which is a power of two.
            self.bytes.reserve_exact(size.next_power_of_two() - old);
        }
        self.bytes.extend_from_slice(new);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_are_limited_and_released() {
        static WINDOWS: Windows = Windows::new();
        assert!(WINDOWS.acquire(0).is_none());
        let first = WINDOWS.acquire(2).unwrap();
        let second = WINDOWS.acquire(2).unwrap();
        assert!(WINDOWS.acquire(2).is_none());
        // The count includes windows of all limits.
        let third = WINDOWS.acquire(3).unwrap();
        drop((second, third));
        let window = Window::new(9, WINDOWS.acquire(2).unwrap());
        assert!(WINDOWS.acquire(2).is_none());
        drop(window);
        assert!(WINDOWS.acquire(2).is_some());
        drop(first);
        assert_eq!(WINDOWS.open.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn window_keeps_the_last_bytes() {
        static WINDOWS: Windows = Windows::new();
        let mut window = Window::new(9, WINDOWS.acquire(1).unwrap());
        let mut all = Vec::new();
        for size in [0, 1, 100, 411, 0, 1, 511, 512, 513, 3, 2000, 510, 2] {
            let message: Vec<_> = (0..size).map(|byte| (byte + all.len()) as u8).collect();
            all.extend_from_slice(&message);
            window.push(&message);
            assert_eq!(window.as_slice(), &all[all.len().saturating_sub(512)..]);
            assert!(window.bytes.capacity() <= 512);
        }
    }

    #[test]
    fn window_grows_with_its_messages() {
        static WINDOWS: Windows = Windows::new();
        let mut window = Window::new(15, WINDOWS.acquire(1).unwrap());
        assert_eq!(window.bytes.capacity(), 0);
        window.push(&[0; 100]);
        assert_eq!(window.bytes.capacity(), 128);
    }
}
