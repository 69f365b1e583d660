//! tungstenite's codec and its read buffer.

use super::message::Message;
use crate::io::pool::{self, Pool};
use std::{
    cell::RefCell,
    io::{Read, Write},
    thread::LocalKey,
};
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext, frame::CloseFrame};

/// The size of one read of the codec, in bytes. The codec zeroes as many bytes before each read.
const READ_SIZE: usize = 512;

/// The maximum size of a small buffer, in bytes. A session may keep a small buffer, and a message may keep the small
/// read buffer that it is a part of.
pub(super) const SMALL: usize = 2 * 1024;

/// The maximum number of pooled bytes per thread and kind.
pub(super) const MAX_POOLED: usize = 1024 * 1024;

/// The maximum payload length of a control frame (RFC 6455 §5.5).
pub(super) const MAX_CONTROL_PAYLOAD: usize = 125;

/// Limits on received messages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Maximum size of a message, and so of each of its frames, in bytes.
    pub(super) message: usize,
}

thread_local! {
    static SERVERS: RefCell<Pool<Box<Reader>>> = const { RefCell::new(Pool::new(MAX_POOLED)) };
    static CLIENTS: RefCell<Pool<Box<Reader>>> = const { RefCell::new(Pool::new(MAX_POOLED)) };
}

/// The codec. Between messages, before any close frame, a codec has no state: sessions with the same role can exchange
/// their codecs.
pub(super) struct Reader {
    context: WebSocketContext,
    role: Role,
    /// Size of the largest message read. The read buffer grows with messages and does not shrink.
    largest: usize,
}

impl Reader {
    /// Takes a codec without state from the pool of the thread, or creates one.
    pub(super) fn borrow(role: Role, limits: Limits) -> Box<Self> {
        let set = |config: &mut WebSocketConfig| {
            config.max_message_size = Some(limits.message);
            // A frame longer than the message limit fails as soon as its header has arrived.
            config.max_frame_size = Some(limits.message.max(MAX_CONTROL_PAYLOAD));
        };
        if let Some(mut reader) = pool::borrow(pool_of(role)) {
            reader.context.set_config(set);
            return reader;
        }
        let mut config = WebSocketConfig::default()
            .read_buffer_size(READ_SIZE)
            .write_buffer_size(0);
        set(&mut config);
        Box::new(Self {
            context: WebSocketContext::new(role, Some(config)),
            role,
            largest: 0,
        })
    }

    /// Returns the codec, which has no state, to the pool of the thread.
    pub(super) fn give_back(self: Box<Self>) {
        let bytes = size_of::<Self>() + self.largest.max(READ_SIZE);
        pool::give_back(pool_of(self.role), self, bytes);
    }

    /// Reads the next message.
    pub(super) fn read(
        &mut self,
        stream: &mut (impl Read + Write),
    ) -> tungstenite::Result<Message> {
        let message = self.context.read(stream)?;
        let size = message.len();
        self.largest = self.largest.max(size);
        let message = Message::from_codec(message);
        // The message is a slice of the read buffer, and would keep the whole buffer alive.
        let is_small_part = self.largest > SMALL && size <= self.largest / 2;
        Ok(if is_small_part {
            message.detached()
        } else {
            message
        })
    }

    /// Writes the codec's answers.
    pub(super) fn flush(&mut self, stream: &mut (impl Read + Write)) -> tungstenite::Result<()> {
        self.context.flush(stream)
    }

    pub(super) fn close(
        &mut self,
        stream: &mut (impl Read + Write),
        frame: Option<CloseFrame>,
    ) -> tungstenite::Result<()> {
        self.context.close(stream, frame)
    }

    /// Returns whether the peer's close frame has arrived.
    pub(super) fn has_closed(&self) -> bool {
        !self.context.can_read()
    }
}

fn pool_of(role: Role) -> &'static LocalKey<RefCell<Pool<Box<Reader>>>> {
    match role {
        Role::Server => &SERVERS,
        Role::Client => &CLIENTS,
    }
}
