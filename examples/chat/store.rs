//! The state that all nodes share. [`Embedded`](crate::embedded::Embedded) holds it in the memory of a single node,
//! [`Redis`](crate::redis::Redis) in Redis.
//!
//! A store puts the messages of the rooms that are open on this node into [`Local`](crate::local::Local), each once and
//! in the order of their offsets.

use crate::{log::Position, messages::Message};
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(crate) trait Store: Send + Sync {
    /// Returns the id of this node.
    fn node(&self) -> &str;

    /// Checks that a user may have this name.
    fn check<'a>(&'a self, user: &'a User) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Gives the name to the user until [`release`](Self::release). Returns the older session of the same user, which
    /// the caller replaces.
    fn claim<'a>(&'a self, user: &'a User) -> BoxFuture<'a, Result<Option<Seat>, StoreError>>;

    /// Frees the name, unless a newer session has it.
    fn release(&self, user: &User);

    /// Creates the room unless it exists, and opens it on this node.
    fn open<'a>(&'a self, room: &'a str) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Adds a message to its room. If the room already has a message of the same sender with the same id, returns the
    /// position of that one.
    fn append(&self, message: Message) -> BoxFuture<'_, Result<Position, StoreError>>;

    /// Sends a command to another node, or to all of them.
    fn send<'a>(
        &'a self,
        node: Option<&'a str>,
        command: Command,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Returns the reports of all other nodes, for the administration page.
    fn reports(&self) -> BoxFuture<'_, Vec<Value>>;

    /// Fails while the store cannot be reached.
    fn health(&self) -> Result<(), StoreError>;

    /// Removes this node before its process ends.
    fn leave(&self) -> BoxFuture<'_, ()>;
}

/// A user who joins.
pub(crate) struct User {
    pub(crate) name: String,
    /// A secret of the user's page.
    pub(crate) key: String,
    /// The id of the member on this node.
    pub(crate) member: u64,
}

impl User {
    /// Names that differ only in case are the same.
    pub(crate) fn folded_name(&self) -> String {
        self.name.to_lowercase()
    }
}

/// A member on any node.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Seat {
    pub(crate) node: String,
    pub(crate) member: u64,
}

/// A command for another node.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Command {
    /// Close the session of a member, because its user has connected again.
    Replace(u64),
    /// Close the session with this id.
    Close(u64),
    Drain,
    /// Append a report of the sessions to this list.
    Report(String),
    /// Read the messages of the rooms that have been opened meanwhile.
    Wake,
}

/// The reason for which a request to the store failed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum StoreError {
    /// Another user has the name.
    NameTaken,
    TooManyRooms,
    /// The request may or may not have been carried out.
    Unavailable,
}

impl StoreError {
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::NameTaken => "This name is taken at the moment.",
            Self::TooManyRooms => "There are too many rooms.",
            Self::Unavailable => "The server cannot reach its storage. Try again.",
        }
    }

    pub(crate) fn may_succeed_later(self) -> bool {
        self == Self::Unavailable
    }
}
