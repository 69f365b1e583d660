//! Decompresses messages (RFC 7692 §7.2.2).

use super::{compress::TAIL, window::Window};
use crate::io::pool::{self, Pool};
use flate2::{Decompress, FlushDecompress, Status};
use std::cell::RefCell;

/// The memory of a decompressor of zlib-rs, measured, in bytes.
pub(super) const DECOMPRESSOR_SIZE: usize = 47_704;

/// The maximum number of pooled bytes per thread.
const MAX_POOLED: usize = 512 * 1024;

/// The least room for more of a message, in bytes.
const MIN_ROOM: usize = 64;

/// A final block without data. Decompresses only at the start of a block, on a byte boundary.
const PROBE: [u8; 2] = [0x03, 0x00];

thread_local! {
    static POOL: RefCell<Pool<Box<Decompress>>> = const { RefCell::new(Pool::new(MAX_POOLED)) };
}

/// The reason why a message cannot be decompressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::websocket) enum Failure {
    /// The message is not the compressed form of any message.
    Corrupt,
    /// The decompressed message is longer than the limit.
    TooLarge,
}

/// Decompresses the messages of one session.
///
/// Holds a decompressor only in the middle of a message. Between messages, only the window takes memory.
pub(in crate::websocket) struct Inflater {
    decompress: Option<Box<Decompress>>,
    /// The next byte begins a stream.
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

    #[cfg(test)]
    pub(super) fn has_window(&self) -> bool {
        self.window.is_some()
    }

    /// Decompresses the next part of a message, and appends the result to `message`, which holds the decompressed
    /// message so far. It becomes little longer than `max`.
    ///
    /// # Errors
    ///
    /// After an error, no further message of the session can be decompressed.
    pub(in crate::websocket) fn inflate(
        &mut self,
        mut part: &[u8],
        message: &mut Vec<u8>,
        max: usize,
    ) -> Result<(), Failure> {
        if part.is_empty() {
            return Ok(());
        }
        let decompress = match &mut self.decompress {
            Some(decompress) => decompress,
            None => self.decompress.insert(borrow(self.window.as_ref())?),
        };
        self.is_at_start = false;
        loop {
            reserve(message, part.len(), max);
            let size = message.len();
            let before = decompress.total_in();
            let result = decompress.decompress_vec(part, message, FlushDecompress::Sync);
            let read = (decompress.total_in() - before) as usize;
            part = &part[read..];
            if message.len() > max {
                return Err(Failure::TooLarge);
            }
            let status = result.map_err(|_| Failure::Corrupt)?;
            if status == Status::StreamEnd {
                // Senders that cannot flush end each message with a final block (§7.2.3.4), and start a new stream.
                decompress.reset(false);
                self.is_at_start = part.is_empty();
                if part.is_empty() {
                    return Ok(());
                }
            } else if message.len() < message.capacity() {
                // All output fits, so all input must be used.
                return match part.is_empty() {
                    true => Ok(()),
                    false => Err(Failure::Corrupt),
                };
            } else if read == 0 && message.len() == size {
                return Err(Failure::Corrupt);
            }
        }
    }

    /// Decompresses the end of a message, after its last part.
    ///
    /// # Errors
    ///
    /// As [`inflate`](Self::inflate).
    pub(in crate::websocket) fn finish(
        &mut self,
        message: &mut Vec<u8>,
        max: usize,
    ) -> Result<(), Failure> {
        // Accept an empty payload, and a final block at the end without the octet of §7.2.3.4: zlib flushes to both.
        if !self.is_at_start {
            self.inflate(&TAIL, message, max)?;
            let size = message.len();
            // The end of a truncated message takes the tail as data.
            self.inflate(&PROBE, message, max)?;
            if !self.is_at_start || message.len() != size {
                return Err(Failure::Corrupt);
            }
        }
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
/// The window of every decompressor has 15 bits, which is enough for all peers.
fn borrow(window: Option<&Window>) -> Result<Box<Decompress>, Failure> {
    // A pooled decompressor is at the start of a stream: the end of its last message has reset it.
    let pooled = pool::borrow(&POOL);
    let mut decompress = pooled.unwrap_or_else(|| Box::new(Decompress::new(false)));
    if let Some(window) = window {
        let set = decompress.set_dictionary(window.as_slice());
        set.map_err(|_| Failure::Corrupt)?;
    }
    Ok(decompress)
}

/// Reserves room for the result of `compressed` bytes, and not for much more than `max` bytes in total.
///
/// The memory grows with the bytes that were decompressed, since the sender chooses the ratio.
fn reserve(message: &mut Vec<u8>, compressed: usize, max: usize) {
    if message.len() < message.capacity() {
        return;
    }
    let room = message
        .len()
        .max(compressed.saturating_mul(2))
        .max(MIN_ROOM);
    // One more byte reveals a message over the limit.
    let most = max.saturating_add(1).saturating_sub(message.len()).max(1);
    message.reserve_exact(room.min(most));
}

#[cfg(test)]
mod tests;
