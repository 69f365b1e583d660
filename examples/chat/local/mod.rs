//! The part of the chat on this node: its members, and the rooms that they are in. Messages go through a [`Broadcast`]:
//! it queues them, and each session writes its queue.

mod feed;

use crate::{
    chat::{REPLACED, TRY_AGAIN_LATER},
    log::{Log, Position},
    messages::ToPage,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};
use tower_upgrade::websocket::{
    self, Broadcast, CloseFrame, SlowConsumer, Subscription, WebSocket,
};

/// The number of messages that may wait for one member. The session of a slower member is closed.
pub(crate) const MAX_WAITING: usize = 256;
/// The number of names in a list of the members of a room.
const MAX_PEOPLE: usize = 200;

/// The names of members, by room.
pub(crate) type People = BTreeMap<String, BTreeSet<String>>;

pub(crate) struct Local {
    state: Mutex<State>,
}

struct State {
    last_id: u64,
    members: BTreeMap<u64, Member>,
    /// The rooms that are open on this node: copies of their logs.
    logs: BTreeMap<String, Log>,
    /// The names of all rooms.
    rooms: BTreeSet<String>,
    /// The members on other nodes.
    elsewhere: People,
    /// The rooms with a changed list of members.
    changed: BTreeSet<String>,
    is_list_changed: bool,
    /// Messages are sent under the lock of the state, so that all members receive them in the order of its changes.
    broadcast: Broadcast<Topic>,
}

/// The receivers of a message.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Topic {
    All,
    Room(String),
    Member(u64),
}

struct Member {
    name: String,
    room: String,
    /// `None` after the member was replaced. Dropping them ends the messages to the member.
    subscriptions: Option<Subscriptions>,
}

struct Subscriptions {
    _all: Subscription,
    _member: Subscription,
    /// `None` until the member joins a room.
    room: Option<Subscription>,
}

impl Local {
    pub(crate) fn new() -> Self {
        let slow_consumer = SlowConsumer::Close(TRY_AGAIN_LATER);
        let state = State {
            last_id: 0,
            members: BTreeMap::new(),
            logs: BTreeMap::new(),
            rooms: BTreeSet::new(),
            elsewhere: People::new(),
            changed: BTreeSet::new(),
            is_list_changed: false,
            broadcast: Broadcast::new(MAX_WAITING).slow_consumer(slow_consumer),
        };
        Self {
            state: Mutex::new(state),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn new_id(&self) -> u64 {
        let mut state = self.state();
        state.last_id += 1;
        state.last_id
    }

    /// Adds a member, who has not joined a room yet.
    pub(crate) fn add(&self, id: u64, name: &str, socket: &WebSocket) {
        let mut state = self.state();
        let subscribe = |topic| state.broadcast.subscribe(topic, socket);
        let subscriptions = Subscriptions {
            _all: subscribe(Topic::All),
            _member: subscribe(Topic::Member(id)),
            room: None,
        };
        let member = Member {
            name: name.to_owned(),
            room: String::new(),
            subscriptions: Some(subscriptions),
        };
        state.members.insert(id, member);
    }

    pub(crate) fn remove(&self, id: u64) {
        let mut state = self.state();
        if let Some(member) = state.members.remove(&id) {
            state.changed.insert(member.room);
        }
    }

    /// Returns whether the member has not been replaced.
    pub(crate) fn is_active(&self, id: u64) -> bool {
        let state = self.state();
        let member = state.members.get(&id);
        member.is_some_and(|member| member.subscriptions.is_some())
    }

    /// Ends the messages to a member, because its user has connected again, and closes the session.
    pub(crate) fn replace(&self, id: u64) {
        let mut state = self.state();
        let Some(member) = state.members.get_mut(&id) else {
            return;
        };
        // Queued messages are still sent.
        let subscriptions = member.subscriptions.take();
        let room = member.room.clone();
        state.changed.insert(room);
        let close = CloseFrame::new(REPLACED, "connected again");
        state.send_message(&Topic::Member(id), websocket::Message::Close(Some(close)));
        drop(subscriptions);
    }

    /// Moves a member into a room, and sends the messages since `position`.
    ///
    /// Returns false if the room is not open, or if this node may not have all messages yet: unless `is_fresh`, a
    /// position that the log does not have may be one of another node that is ahead.
    pub(crate) fn join(
        &self,
        id: u64,
        room: &str,
        position: Option<&Position>,
        is_fresh: bool,
        socket: &WebSocket,
    ) -> bool {
        let state = &mut *self.state();
        let Some(log) = state.logs.get(room) else {
            return false;
        };
        let history = log.since(position);
        if history.missed && !is_fresh {
            return false;
        }
        let Some(member) = state.members.get_mut(&id) else {
            return true;
        };
        let Some(subscriptions) = &mut member.subscriptions else {
            return true;
        };
        let topic = Topic::Room(room.to_owned());
        subscriptions.room = Some(state.broadcast.subscribe(topic, socket));
        let left = std::mem::replace(&mut member.room, room.to_owned());
        state.changed.extend([left, room.to_owned()]);
        // All later messages of the room follow: no message is added while the state is locked.
        let answer = ToPage::Room {
            room,
            epoch: log.epoch(),
            offset: log.last(),
            history: &history.messages,
            missed: history.missed,
        };
        state.send(&Topic::Member(id), &answer);
        true
    }

    pub(crate) fn send(&self, id: u64, message: &ToPage) {
        self.state().send(&Topic::Member(id), message);
    }
}

impl State {
    /// Returns the members who are in a room.
    fn active(&self) -> impl Iterator<Item = &Member> {
        let is_active =
            |member: &&Member| member.subscriptions.is_some() && !member.room.is_empty();
        self.members.values().filter(is_active)
    }

    fn send(&self, topic: &Topic, message: &ToPage) {
        self.send_message(topic, websocket::Message::Text(message.to_json()));
    }

    fn send_message(&self, topic: &Topic, message: websocket::Message) {
        if let Err(error) = self.broadcast.send(topic, message) {
            unreachable!("texts and close frames of this server are valid: {error}");
        }
    }
}
