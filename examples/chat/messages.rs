//! The JSON messages between a page and the server.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use tower_upgrade::websocket::Utf8Bytes;

/// A message from a page.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(crate) enum FromPage {
    Join {
        room: String,
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
    /// The member has joined this room.
    Room {
        room: &'a str,
        history: &'a VecDeque<Message>,
    },
    Rooms {
        rooms: Vec<Summary<'a>>,
    },
    /// The members in the page's room.
    People {
        people: Vec<&'a str>,
    },
    Message(&'a Message),
    Pong,
    /// A request of the page has failed.
    Error {
        reason: &'a str,
        /// The id of the refused message, if the request was one.
        #[serde(skip_serializing_if = "Option::is_none")]
        message: Option<&'a str>,
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

#[derive(Clone, Serialize)]
pub(crate) struct Message {
    pub(crate) id: String,
    pub(crate) room: String,
    pub(crate) from: String,
    pub(crate) text: String,
    /// In milliseconds since 1970.
    pub(crate) at: u64,
}
