//! The bytes with which a session ends its protocol, for handlers that the session outlives.

use crate::sync::AtomicU64;
use std::sync::atomic::Ordering;

/// The maximum length of a farewell, in bytes: a close frame of a WebSocket with a code.
const MAX: usize = 4;

/// Bytes to write before the orderly shutdown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Farewell {
    bytes: [u8; MAX],
    length: u8,
    /// Write the bytes only if the session ends its handler: at its stop signal, idle timeout or deadline.
    is_for_stop: bool,
}

impl Farewell {
    /// Creates a farewell of at most 4 bytes.
    pub(crate) const fn new(farewell: &[u8]) -> Self {
        let mut bytes = [0; MAX];
        let mut at = 0;
        while at < farewell.len() {
            bytes[at] = farewell[at];
            at += 1;
        }
        Self {
            bytes,
            length: farewell.len() as u8,
            is_for_stop: false,
        }
    }

    /// Creates a farewell for a session that ends its handler.
    pub(crate) const fn for_stop(farewell: &[u8]) -> Self {
        let mut farewell = Self::new(farewell);
        farewell.is_for_stop = true;
        farewell
    }

    fn to_number(self) -> u64 {
        let [a, b, c, d] = self.bytes;
        u64::from_be_bytes([0, 0, self.is_for_stop.into(), self.length, a, b, c, d])
    }

    fn from_number(number: u64) -> Self {
        let [_, _, flag, length, a, b, c, d] = number.to_be_bytes();
        Self {
            bytes: [a, b, c, d],
            length,
            is_for_stop: flag == 1,
        }
    }

    /// Returns the bytes to write. `is_stopped` states whether the session has ended its handler.
    pub(crate) fn bytes(&self, is_stopped: bool) -> &[u8] {
        match self.is_for_stop && !is_stopped {
            true => &[],
            false => &self.bytes[..self.length.into()],
        }
    }
}

/// A farewell that the handler's task changes, and the session's task reads.
#[derive(Default)]
pub(crate) struct AtomicFarewell(AtomicU64);

impl AtomicFarewell {
    // The return of the IO, under a lock, orders these operations.

    pub(crate) fn store(&self, farewell: Farewell) {
        self.0.store(farewell.to_number(), Ordering::Relaxed);
    }

    pub(crate) fn load(&self) -> Farewell {
        Farewell::from_number(self.0.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn farewell_is_read_as_it_was_stored() {
        assert_eq!(Farewell::from_number(0).bytes(true), b"");
        for farewell in [
            Farewell::new(&[1, 2]),
            Farewell::for_stop(&[1, 2, 3, 255]),
            Farewell::default(),
        ] {
            assert_eq!(Farewell::from_number(farewell.to_number()), farewell);
        }
        assert_eq!(Farewell::new(&[1, 2]).bytes(false), [1, 2]);
        assert_eq!(Farewell::for_stop(&[1, 2]).bytes(false), b"");
        assert_eq!(Farewell::for_stop(&[1, 2]).bytes(true), [1, 2]);
    }
}
