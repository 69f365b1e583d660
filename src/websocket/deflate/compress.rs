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
    static IDLE: RefCell<[Option<Box<Compress>>; WINDOW_SIZES]> =
        const { RefCell::new([const { None }; WINDOW_SIZES]) };
}

/// Compresses the messages of one session. Between messages, only the window takes memory.
pub(in crate::websocket) struct Compressor {
    level: u8,
    window_bits: u8,
    min_size: usize,
    /// The window, with context takeover.
    window: Option<Window>,
}

/// The settings that decide the bytes of a compressed message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::websocket) struct Settings {
    level: u8,
    window_bits: u8,
    min_size: usize,
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

    #[cfg(test)]
    pub(super) fn has_window(&self) -> bool {
        self.window.is_some()
    }

    /// Returns the payload of the compressed message.
    ///
    /// Returns `None` if the message should be sent uncompressed: it is short, or does not become shorter.
    pub(in crate::websocket) fn compress(&mut self, message: &[u8]) -> Option<Vec<u8>> {
        let window = self.window.as_ref();
        let compressed = self.compress_after(window.map(Window::as_slice), message)?;
        self.has_sent(message);
        Some(compressed)
    }

    /// Returns the payload of the compressed message, which refers to no earlier message. Any session with the same
    /// settings can send it, and must call `has_sent`.
    pub(in crate::websocket) fn compress_alone(&self, message: &[u8]) -> Option<Vec<u8>> {
        self.compress_after(None, message)
    }

    /// Returns the settings that the result of `compress_alone` depends on.
    pub(in crate::websocket) fn settings(&self) -> Settings {
        Settings {
            level: self.level,
            window_bits: self.window_bits,
            min_size: self.min_size,
        }
    }

    /// Adds a message that was sent compressed to the window.
    pub(in crate::websocket) fn has_sent(&mut self, message: &[u8]) {
        if let Some(window) = &mut self.window {
            window.push(message);
        }
    }

    fn compress_after(&self, window: Option<&[u8]>, message: &[u8]) -> Option<Vec<u8>> {
        // A client with a limit of 8 bits sends uncompressed messages (§6): zlib has no raw stream with 8 bits.
        if message.len() < self.min_size || self.window_bits < MIN_WINDOW_BITS {
            return None;
        }
        let mut compress = borrow(self.window_bits);
        let compressed = self.compress_with(&mut compress, window, message)?;
        give_back(self.window_bits, compress);
        (compressed.len() < message.len()).then_some(compressed)
    }

    /// Compresses all of a message. zlib-rs cannot reset a compressor in the middle of a message.
    fn compress_with(
        &self,
        compress: &mut Compress,
        window: Option<&[u8]>,
        message: &[u8],
    ) -> Option<Vec<u8>> {
        compress.reset();
        let level = Compression::new(self.level.into());
        compress.set_level(level).ok()?;
        if let Some(window) = window {
            compress.set_dictionary(window).ok()?;
        }
        let mut compressed = Vec::with_capacity(message.len() / 4 + 64);
        let mut rest = message;
        loop {
            let before = compress.total_in();
            compress
                .compress_vec(rest, &mut compressed, FlushCompress::Sync)
                .ok()?;
            rest = &rest[(compress.total_in() - before) as usize..];
            if compressed.len() < compressed.capacity() && rest.is_empty() {
                break;
            }
            compressed.reserve(compressed.len());
        }
        debug_assert!(compressed.ends_with(&TAIL));
        compressed.truncate(compressed.len() - TAIL.len());
        Some(compressed)
    }
}

fn borrow(window_bits: u8) -> Box<Compress> {
    let idle = IDLE.try_with(|idle| idle.borrow_mut()[slot(window_bits)].take());
    let create = || {
        let level = Compression::fast();
        Box::new(Compress::new_with_window_bits(level, false, window_bits))
    };
    idle.ok().flatten().unwrap_or_else(create)
}

fn give_back(window_bits: u8, compress: Box<Compress>) {
    // Fails if the thread is ending.
    let _ = IDLE.try_with(|idle| idle.borrow_mut()[slot(window_bits)] = Some(compress));
}

fn slot(window_bits: u8) -> usize {
    usize::from(window_bits - MIN_WINDOW_BITS)
}

#[cfg(test)]
mod tests;
