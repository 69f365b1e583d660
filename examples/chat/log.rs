//! The latest messages of a room, and positions in them.

use crate::messages::Message;
use serde::{Deserialize, Serialize};
use std::{collections::VecDeque, sync::Arc};

/// The number of messages that a page gets when it joins without a position.
pub(crate) const SHOWN: usize = 50;

/// The last message of a room that a page has received.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Position {
    /// Changes when the room may have lost messages: offsets of different epochs cannot be compared.
    pub(crate) epoch: String,
    /// Counts the messages of the room from 1, without gaps.
    pub(crate) offset: u64,
}

#[derive(Clone)]
pub(crate) struct Log {
    epoch: String,
    /// The offset of the latest message, which may be trimmed.
    last: u64,
    /// Ordered by offset, without gaps, up to `last`.
    messages: VecDeque<Arc<Message>>,
    capacity: usize,
}

/// The answer to a page that joins.
pub(crate) struct History {
    pub(crate) messages: Vec<Arc<Message>>,
    /// The page may have missed messages that are lost, or no longer stored.
    pub(crate) missed: bool,
}

impl Log {
    /// Returns a log. Its first message will have the offset `last + 1`.
    pub(crate) fn new(epoch: String, last: u64, capacity: usize) -> Self {
        Self {
            epoch,
            last,
            messages: VecDeque::new(),
            capacity,
        }
    }

    pub(crate) fn epoch(&self) -> &str {
        &self.epoch
    }

    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// Adds the next message. Returns the message that the log no longer has room for.
    pub(crate) fn push(&mut self, message: Arc<Message>) -> Option<Arc<Message>> {
        self.last = message.offset;
        self.messages.push_back(message);
        match self.messages.len() > self.capacity {
            true => self.messages.pop_front(),
            false => None,
        }
    }

    /// Returns the messages after a position, or the latest ones.
    pub(crate) fn since(&self, position: Option<&Position>) -> History {
        let first = self.last + 1 - self.messages.len() as u64;
        let (skip, missed) = match position {
            Some(Position { epoch, offset })
                if *epoch == self.epoch && (first - 1..=self.last).contains(offset) =>
            {
                ((offset + 1 - first) as usize, false)
            }
            // All that is left. The page recognizes the messages that it has.
            Some(_) => (0, true),
            None => (self.messages.len().saturating_sub(SHOWN), false),
        };
        History {
            messages: self.messages.iter().skip(skip).cloned().collect(),
            missed,
        }
    }
}
