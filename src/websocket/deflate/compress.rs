//! Compresses messages (RFC 7692 §7.2.1).

use super::{
    negotiate::{MAX_WINDOW_BITS, MIN_WINDOW_BITS},
    window::Window,
};
use flate2::{Compress, Compression, FlushCompress};
use std::cell::RefCell;

/// The end of a flushed stream, which is not sent.
pub(super) const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

const WINDOW_SIZES: usize = (MAX_WINDOW_BITS - MIN_WINDOW_BITS + 1) as usize;

thread_local! {
    /// The idle compressors of the thread, one for each window size: the thread compresses one message at a time.
    static IDLE: RefCell<[Option<Compress>; WINDOW_SIZES]> = const { RefCell::new([const { None }; WINDOW_SIZES]) };
}

/// Compresses the messages of one session. Between messages, only the window takes memory.
pub(super) struct Compressor {
    level: u8,
    window_bits: u8,
    min_size: usize,
    /// The window, with context takeover.
    window: Option<Window>,
}

impl Compressor {
    /// `window_bits` is from 8 to 15.
    pub(super) const fn new(
        level: u8,
        window_bits: u8,
        min_size: usize,
        window: Option<Window>,
    ) -> Self {
        Self {
            level,
            window_bits,
            min_size,
            window,
        }
    }

    /// Compresses a message, and appends the payload of the compressed message to `out`.
    ///
    /// Returns `false`, and leaves `out` as it was, if the message should be sent uncompressed: it is short, or does
    /// not become shorter.
    #[must_use]
    pub(super) fn compress(&mut self, message: &[u8], out: &mut Vec<u8>) -> bool {
        // With a window of 8 bits, the peer receives uncompressed messages, which is always legal (§6).
        if message.len() < self.min_size || self.window_bits < MIN_WINDOW_BITS {
            return false;
        }
        let start = out.len();
        let mut compress = borrow(self.window_bits);
        let is_shorter = self.compress_with(&mut compress, message, out).is_some();
        give_back(self.window_bits, compress);
        if !is_shorter {
            out.truncate(start);
            return false;
        }
        if let Some(window) = &mut self.window {
            window.push(message);
        }
        true
    }

    /// Returns `None` if the message does not become shorter.
    fn compress_with(
        &self,
        compress: &mut Compress,
        message: &[u8],
        out: &mut Vec<u8>,
    ) -> Option<()> {
        compress.reset();
        let level = Compression::new(self.level.into());
        compress.set_level(level).ok()?;
        if let Some(window) = &self.window {
            compress.set_dictionary(window.as_slice()).ok()?;
        }
        let max = out.len() + message.len() + TAIL.len();
        out.reserve(message.len() / 4 + 64);
        let mut rest = message;
        loop {
            let before = compress.total_in();
            compress
                .compress_vec(rest, out, FlushCompress::Sync)
                .ok()?;
            rest = &rest[(compress.total_in() - before) as usize..];
            if out.len() >= max {
                return None;
            }
            if out.len() < out.capacity() && rest.is_empty() {
                break;
            }
            out.reserve(64);
        }
        debug_assert!(out.ends_with(&TAIL));
        out.truncate(out.len() - TAIL.len());
        Some(())
    }
}

fn borrow(window_bits: u8) -> Compress {
    let idle = IDLE.try_with(|idle| idle.borrow_mut()[slot(window_bits)].take());
    let create = || Compress::new_with_window_bits(Compression::fast(), false, window_bits);
    idle.ok().flatten().unwrap_or_else(create)
}

fn give_back(window_bits: u8, compress: Compress) {
    // Fails if the thread is ending.
    let _ = IDLE.try_with(|idle| idle.borrow_mut()[slot(window_bits)] = Some(compress));
}

fn slot(window_bits: u8) -> usize {
    usize::from(window_bits - MIN_WINDOW_BITS)
}
