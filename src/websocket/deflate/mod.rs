//! Compression of messages: permessage-deflate (RFC 7692).

mod compress;
mod extensions;
mod inflate;
mod negotiate;
mod window;

pub(super) use self::{
    compress::{Compressor, Settings},
    inflate::{Failure, Inflater},
    negotiate::MAX_WINDOW_BITS,
};

use self::{
    negotiate::{Agreed, MIN_WINDOW_BITS, Terms},
    window::{Permit, WINDOWS, Window},
};
use http::{HeaderMap, HeaderValue, header};

/// The settings of compression (permessage-deflate, RFC 7692), for
/// [`WebSocketConfig::deflate`](super::WebSocketConfig::deflate).
///
/// ```
/// use tower_upgrade::websocket::{Deflate, WebSocketConfig};
///
/// const CONFIG: WebSocketConfig = WebSocketConfig::new().deflate(Deflate::new());
/// ```
///
/// Each peer compresses the messages that it sends. The handshake agrees on compression if both sides enable it, and
/// messages stay uncompressed otherwise. The server takes the first offer whose parameters are valid. Control frames
/// are never compressed.
///
/// Do not compress a secret together with text that an attacker chooses: the length of the message reveals the secret.
/// [The manual](crate::manual::threats#compression) explains the attack and the ways to avoid it.
///
/// # Memory
///
/// A session holds no compressor or decompressor between messages: all sessions of a thread share them. A thread keeps
/// one compressor for each window size that its sessions have agreed on (371 KiB for the largest, 245 KiB for the
/// smallest) and up to 10 decompressors of 47 KiB each. A session whose peer has sent a message in part holds a
/// decompressor.
///
/// | | memory between messages |
/// |---|---|
/// | by default | no window |
/// | with [`context_takeover`](Self::context_takeover) | up to 32 KiB for each direction, or less with [`window_bits`](Self::window_bits) |
///
/// # Time
///
/// Measured on one core with JSON messages, in microseconds per message, and the size of the result:
///
/// | message | level 1 | level 2 | level 6 | decompression | level 1, with context takeover |
/// |---|---|---|---|---|---|
/// | 128 bytes | 1.7 µs, 89 % | 4.9 µs, 85 % | 6.8 µs, 85 % | 0.4 µs | 25 µs, 34 % |
/// | 256 bytes | 1.9 µs, 67 % | 5.7 µs, 59 % | 5.9 µs, 59 % | 0.6 µs | 23 µs, 31 % |
/// | 1 KiB | 2.9 µs, 46 % | 7.8 µs, 36 % | 9.0 µs, 35 % | 1.0 µs | 24 µs, 30 % |
/// | 4 KiB | 7.0 µs, 37 % | 14 µs, 27 % | 25 µs, 25 % | 2.8 µs | 32 µs, 30 % |
/// | 64 KiB | 110 µs, 31 % | 189 µs, 23 % | 586 µs, 19 % | 38 µs | 127 µs, 30 % |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the settings apply to the `WebSocketConfig` whose `deflate` method takes them"]
pub struct Deflate {
    level: u8,
    min_size: usize,
    window_bits: u8,
    /// The maximum number of windows of the process. 0 without context takeover.
    max_windows: usize,
    is_receive_only: bool,
}

impl Deflate {
    /// Creates the default settings: level 1 for messages of at least 256 bytes, without context takeover.
    pub const fn new() -> Self {
        Self {
            level: 1,
            min_size: 256,
            window_bits: MAX_WINDOW_BITS,
            max_windows: 0,
            is_receive_only: false,
        }
    }

    /// Sets the level, from 0 (no compression) to 9 (smallest result). The default is 1, the fastest.
    ///
    /// # Panics
    ///
    /// If `level` is greater than 9.
    #[track_caller]
    pub const fn level(mut self, level: u8) -> Self {
        assert!(level <= 9, "the level of compression is greater than 9");
        self.level = level;
        self
    }

    /// Sets the size of the smallest message to compress, in bytes. The default is 256: shorter messages take time and
    /// hardly become shorter.
    ///
    /// A message that compression does not shorten is also sent uncompressed.
    pub const fn min_size(mut self, bytes: usize) -> Self {
        self.min_size = bytes;
        self
    }

    /// Lets each message refer to earlier ones, for at most `max_windows` directions of all sessions of the process.
    /// By default, and once that many windows are in use, new sessions compress each message alone.
    ///
    /// Short messages that resemble each other become much shorter. In return a session keeps the last 32 KiB that it
    /// has sent and that it has received, and compressing a message takes at least 20 µs. A session uses two windows,
    /// or one if the peer or [`receive_only`](Self::receive_only) excludes a direction. The last messages stay in
    /// memory until the session ends.
    pub const fn context_takeover(mut self, max_windows: usize) -> Self {
        self.max_windows = max_windows;
        self
    }

    /// Limits the window to `2^bits` bytes, from 9 to 15. The default is 15: 32 KiB.
    ///
    /// A smaller window takes less memory with context takeover, and makes long messages longer. The limit holds for
    /// received messages with context takeover as well. If the client cannot limit its window, the session decompresses
    /// each of its messages alone.
    ///
    /// # Panics
    ///
    /// If `bits` is not from 9 to 15.
    #[track_caller]
    pub const fn window_bits(mut self, bits: u8) -> Self {
        assert!(
            MIN_WINDOW_BITS <= bits && bits <= MAX_WINDOW_BITS,
            "the window bits are not from 9 to 15"
        );
        self.window_bits = bits;
        self
    }

    /// Sends all messages uncompressed. The peer may compress its messages.
    ///
    /// For one message, use [`WebSocket::send_uncompressed`](super::WebSocket::send_uncompressed).
    pub const fn receive_only(mut self) -> Self {
        self.is_receive_only = true;
        self
    }

    /// Negotiates with a client that sent these headers. Returns the value of `Sec-WebSocket-Extensions` for the
    /// answer.
    ///
    /// Returns `None` if the client offers no acceptable compression.
    pub(super) fn accept(self, headers: &HeaderMap) -> Option<(HeaderValue, Compression)> {
        if !headers.contains_key(header::SEC_WEBSOCKET_EXTENSIONS) {
            return None;
        }
        let windows = Permits::acquire(self);
        let (answer, agreed) = negotiate::accept(headers, windows.terms(self))?;
        Some((answer, windows.compression(self, agreed)))
    }

    /// Returns the offer of a client.
    #[cfg(feature = "client")]
    pub(super) fn offer(self) -> Offer {
        Offer {
            windows: Permits::acquire(self),
            deflate: self,
        }
    }
}

impl Default for Deflate {
    fn default() -> Self {
        Self::new()
    }
}

/// The compression of one session, as negotiated.
pub(super) struct Compression {
    /// `None` if all messages are sent uncompressed.
    pub(super) compressor: Option<Box<Compressor>>,
    pub(super) inflater: Box<Inflater>,
}

#[cfg(fuzzing)]
impl Compression {
    pub(super) fn for_fuzzing(level: u8, window_bits: u8, context_takeover: bool) -> Self {
        let max_windows = if context_takeover { usize::MAX } else { 0 };
        let deflate = Deflate::new().level(level).min_size(0);
        let deflate = deflate
            .window_bits(window_bits)
            .context_takeover(max_windows);
        let agreed = Agreed {
            own_takeover: context_takeover,
            peer_takeover: context_takeover,
            own_window_bits: window_bits,
            peer_window_bits: MAX_WINDOW_BITS,
        };
        Permits::acquire(deflate).compression(deflate, agreed)
    }
}

/// The offer of a client.
#[cfg(feature = "client")]
pub(super) struct Offer {
    windows: Permits,
    deflate: Deflate,
}

#[cfg(feature = "client")]
impl Offer {
    /// Returns the value of `Sec-WebSocket-Extensions`.
    pub(super) fn value(&self) -> HeaderValue {
        negotiate::offer(self.windows.terms(self.deflate))
    }

    /// Checks the server's answer. Returns `None` if the server chose no compression.
    ///
    /// # Errors
    ///
    /// Returns the violated requirement of RFC 6455 §9.1 or RFC 7692 §7.1.
    pub(super) fn check(self, headers: &HeaderMap) -> Result<Option<Compression>, &'static str> {
        let Self { windows, deflate } = self;
        let agreed = negotiate::check_answer(headers, windows.terms(deflate))?;
        Ok(agreed.map(|agreed| windows.compression(deflate, agreed)))
    }
}

/// The windows that a session may keep.
struct Permits {
    own: Option<Permit>,
    peer: Option<Permit>,
}

impl Permits {
    fn acquire(deflate: Deflate) -> Self {
        let acquire = || WINDOWS.acquire(deflate.max_windows);
        Self {
            own: (!deflate.is_receive_only).then(acquire).flatten(),
            peer: acquire(),
        }
    }

    fn terms(&self, deflate: Deflate) -> Terms {
        Terms {
            own_takeover: self.own.is_some(),
            peer_takeover: self.peer.is_some(),
            window_bits: deflate.window_bits,
        }
    }

    /// Returns the compression of a session that agreed on these terms.
    fn compression(self, deflate: Deflate, agreed: Agreed) -> Compression {
        let window = |permit: Option<Permit>, is_kept: bool, bits| {
            permit
                .filter(|_| is_kept)
                .map(|permit| Window::new(bits, permit))
        };
        let Deflate {
            level, min_size, ..
        } = deflate;
        let bits = agreed.own_window_bits;
        let own = window(self.own, agreed.own_takeover, bits);
        let peer = window(self.peer, agreed.peer_takeover, agreed.peer_window_bits);
        let compressor = || Box::new(Compressor::new(level, bits, min_size, own));
        Compression {
            compressor: (!deflate.is_receive_only).then(compressor),
            inflater: Box::new(Inflater::new(peer)),
        }
    }
}

#[cfg(test)]
mod tests;
