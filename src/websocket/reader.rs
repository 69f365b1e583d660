//! tungstenite's codec, which reads, and the buffer that it reads into.

use super::message::Message;
use crate::io::pool::{self, Pool};
use std::{
    cell::RefCell,
    io::{Read, Write},
    thread::LocalKey,
};
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext, frame::CloseFrame};

/// What the codec reads at a time. It clears as much each time.
const READ: usize = 512;

/// How many bytes are few: a buffer of so many may stay with a session, and one that was no larger with whoever keeps
/// a message that is a part of it.
pub(super) const OWN: usize = 2 * 1024;

/// How many bytes a thread keeps of each kind.
pub(super) const POOLED: usize = 1024 * 1024;

/// How long the payload of a control frame may be (RFC 6455 §5.5).
pub(super) const CONTROL: usize = 125;

/// Limits on what a peer may send.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Bytes of a message, and so of each of its frames.
    pub(super) message: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message: 1024 * 1024,
        }
    }
}

thread_local! {
    static SERVERS: RefCell<Pool<Box<Reader>>> = const { RefCell::new(Pool::new(POOLED)) };
    static CLIENTS: RefCell<Pool<Box<Reader>>> = const { RefCell::new(Pool::new(POOLED)) };
}

/// The codec. Between messages, with no close frame sent or received, it knows nothing: then any other one is as
/// good, and it is as good for any other session.
pub(super) struct Reader {
    context: WebSocketContext,
    role: Role,
    /// The largest message that its buffer has seen. It grows with them, and does not shrink.
    largest: usize,
}

impl Reader {
    /// One that knows nothing.
    pub(super) fn borrow(role: Role, limits: Limits) -> Box<Self> {
        let set = |config: &mut WebSocketConfig| {
            config.max_message_size = Some(limits.message);
            // A frame that is longer than its message may be fails when its header has come.
            config.max_frame_size = Some(limits.message.max(CONTROL));
        };
        if let Some(mut reader) = pool::borrow(pool_of(role)) {
            reader.context.set_config(set);
            return reader;
        }
        let mut config = WebSocketConfig::default()
            .read_buffer_size(READ)
            .write_buffer_size(0);
        set(&mut config);
        Box::new(Self {
            context: WebSocketContext::new(role, Some(config)),
            role,
            largest: 0,
        })
    }

    /// Leaves it to the thread. It knows nothing any more.
    pub(super) fn give_back(self: Box<Self>) {
        let bytes = size_of::<Self>() + self.largest.max(READ);
        pool::give_back(pool_of(self.role), self, bytes);
    }

    /// The next message.
    pub(super) fn read(
        &mut self,
        stream: &mut (impl Read + Write),
    ) -> tungstenite::Result<Message> {
        let message = self.context.read(stream)?;
        let size = message.len();
        self.largest = self.largest.max(size);
        let message = Message::from_codec(message);
        // It is a part of the buffer, and whoever keeps it keeps all of that.
        let is_small_part = self.largest > OWN && size <= self.largest / 2;
        Ok(if is_small_part {
            message.detached()
        } else {
            message
        })
    }

    /// Writes what the codec answers.
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

    /// Whether the peer's close frame has come.
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
