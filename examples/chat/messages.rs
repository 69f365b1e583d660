//! The JSON messages between a page and the server.

use crate::log::Position;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tower_upgrade::websocket::Utf8Bytes;

/// A message from a page.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(crate) enum FromPage {
    Join {
        room: String,
        /// The last message of the room that the page has.
        #[serde(default)]
        since: Option<Position>,
    },
    Say {
        /// Chosen by the page, which resends the message if it does not know whether the first copy arrived.
        id: String,
        room: String,
        text: String,
    },
    Ping,
}

/// A message to a page.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(crate) enum ToPage<'a> {
    /// The member has joined this room, or the room has a new epoch.
    Room {
        room: &'a str,
        epoch: &'a str,
        /// The offset of the latest message of the room.
        offset: u64,
        history: &'a [Arc<Message>],
        /// The page may have missed messages.
        missed: bool,
    },
    Rooms {
        rooms: Vec<Summary<'a>>,
    },
    /// The members in the page's room.
    People {
        /// At most 200.
        people: Vec<&'a str>,
        count: usize,
    },
    /// New messages of the page's room.
    Messages {
        room: &'a str,
        epoch: &'a str,
        messages: &'a [Arc<Message>],
    },
    /// The store has the page's message.
    Sent {
        id: &'a str,
        room: &'a str,
        #[serde(flatten)]
        position: &'a Position,
    },
    Pong,
    /// A request of the page has failed.
    Error {
        reason: &'a str,
        /// The id of the refused message, if the request was one.
        #[serde(skip_serializing_if = "Option::is_none")]
        message: Option<&'a str>,
        /// The same request may succeed later.
        retry: bool,
    },
}

impl ToPage<'_> {
    pub(crate) fn to_json(&self) -> Utf8Bytes {
        match serde_json::to_string(self) {
            Ok(text) => text.into(),
            Err(error) => unreachable!("strings and numbers are always JSON: {error}"),
        }
    }
}

#[derive(Serialize)]
pub(crate) struct Summary<'a> {
    pub(crate) name: &'a str,
    pub(crate) people: usize,
}

#[derive(Clone, Deserialize, Serialize)]
pub(crate) struct Message {
    pub(crate) id: String,
    pub(crate) room: String,
    pub(crate) from: String,
    pub(crate) text: String,
    /// In milliseconds since 1970.
    pub(crate) at: u64,
    /// The position in the room, which the store assigns.
    #[serde(default)]
    pub(crate) offset: u64,
}
