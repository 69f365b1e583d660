//! Decompresses messages (RFC 7692 §7.2.2).

use super::{compress::TAIL, window::Window};
use crate::io::pool::{self, Pool};
use flate2::{Decompress, FlushDecompress, Status};
use std::cell::RefCell;

/// The memory of a decompressor of zlib-rs, measured, in bytes.
const DECOMPRESSOR_SIZE: usize = 47_704;

/// The maximum number of pooled bytes per thread.
const MAX_POOLED: usize = 512 * 1024;

/// Space for the first bytes of a message. Later steps double the message.
const FIRST_STEP: usize = 1024;

/// The largest step, so that the zeroed space stays in the processor's cache.
const MAX_STEP: usize = 16 * 1024;

/// A final block without data. Decompresses only at the start of a block, on a byte boundary.
const PROBE: [u8; 2] = [0x03, 0x00];

thread_local! {
    static POOL: RefCell<Pool<Box<Decompress>>> = const { RefCell::new(Pool::new(MAX_POOLED)) };
}

/// The reason why a message cannot be decompressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The message is not the compressed form of any message.
    Corrupt,
    /// The decompressed message is longer than the limit.
    TooLarge,
}

/// Decompresses the messages of one session. Holds a decompressor only in the middle of a message; between messages,
/// only the window takes memory.
pub(super) struct Inflater {
    decompress: Option<Box<Decompress>>,
    /// The decompressor has ended a final block, or has no input yet.
    is_at_start: bool,
    /// The window, with context takeover.
    window: Option<Window>,
}

impl Inflater {
    pub(super) const fn new(window: Option<Window>) -> Self {
        Self {
            decompress: None,
            is_at_start: true,
            window,
        }
    }

    /// Decompresses the next part of a message, and appends the result to `message`, which holds the decompressed
    /// message so far and becomes at most one byte longer than `max`.
    ///
    /// # Errors
    ///
    /// After an error, no further part of the session's messages can be decompressed.
    pub(super) fn inflate(
        &mut self,
        mut part: &[u8],
        message: &mut Vec<u8>,
        max: usize,
    ) -> Result<(), Failure> {
        let decompress = match &mut self.decompress {
            Some(decompress) => decompress,
            None => self.decompress.insert(borrow(self.window.as_ref())?),
        };
        loop {
            if self.is_at_start && !part.is_empty() {
                self.is_at_start = false;
            }
            let size = message.len();
            let step = size.clamp(FIRST_STEP, MAX_STEP).min(max + 1 - size);
            reserve(message, size + step, max);
            message.resize(size + step, 0);
            let (before_in, before_out) = (decompress.total_in(), decompress.total_out());
            let result = decompress.decompress(part, &mut message[size..], FlushDecompress::Sync);
            let written = (decompress.total_out() - before_out) as usize;
            message.truncate(size + written);
            part = &part[(decompress.total_in() - before_in) as usize..];
            let status = result.map_err(|_| Failure::Corrupt)?;
            if message.len() > max {
                return Err(Failure::TooLarge);
            }
            if status == Status::StreamEnd {
                // Senders that cannot flush end each message with a final block (§7.2.3.5), and start a new stream.
                decompress.reset(false);
                self.is_at_start = true;
            }
            // A full step may have left output behind.
            if part.is_empty() && written < step {
                return Ok(());
            }
        }
    }

    /// Decompresses the end of a message, after its last part.
    ///
    /// # Errors
    ///
    /// As [`inflate`](Self::inflate).
    pub(super) fn finish(&mut self, message: &mut Vec<u8>, max: usize) -> Result<(), Failure> {
        // Accept a message that ends with a final block, without the octet of §7.2.3.5, and an empty payload.
        if !self.is_at_start {
            self.inflate(&TAIL, message, max)?;
            let size = message.len();
            // A truncated message would swallow the tail as data.
            self.inflate(&PROBE, message, max)?;
            if !self.is_at_start || message.len() != size {
                return Err(Failure::Corrupt);
            }
        }
        self.is_at_start = true;
        if let Some(decompress) = self.decompress.take() {
            pool::give_back(&POOL, decompress, DECOMPRESSOR_SIZE);
        }
        if let Some(window) = &mut self.window {
            window.push(message);
        }
        Ok(())
    }
}

/// Takes a decompressor of the pool, or creates one, and continues the stream of the window.
///
/// The window of every decompressor has 15 bits, and thus serves a peer with any window.
fn borrow(window: Option<&Window>) -> Result<Box<Decompress>, Failure> {
    let mut decompress = match pool::borrow(&POOL) {
        Some(mut decompress) => {
            decompress.reset(false);
            decompress
        }
        None => Box::new(Decompress::new(false)),
    };
    if let Some(window) = window {
        let set = decompress.set_dictionary(window.as_slice());
        set.map_err(|_| Failure::Corrupt)?;
    }
    Ok(decompress)
}

/// Reserves space for a message of `size` bytes, and not for more than `max` plus one byte.
fn reserve(message: &mut Vec<u8>, size: usize, max: usize) {
    if size > message.capacity() {
        let capacity = size.max(2 * message.capacity()).min(max + 1);
        message.reserve_exact(capacity - message.len());
    }
}
