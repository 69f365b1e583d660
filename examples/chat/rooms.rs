//! The state of the chat: rooms with their latest messages, and members. Messages go through a [`Broadcast`]: it queues
//! them, and each session writes its queue.

use crate::{
    chat::{REPLACED, TRY_AGAIN_LATER},
    messages::{FromPage, Message, Summary, ToPage},
};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};
use tower_upgrade::websocket::{
    self, Broadcast, CloseFrame, SlowConsumer, Subscription, WebSocket,
};

/// The default room, which always exists.
const LOBBY: &str = "lobby";
/// The number of messages that a room remembers.
const HISTORY: usize = 50;
const MAX_ROOMS: usize = 100;
const MAX_NAME: usize = 24;
const MAX_TEXT: usize = 2000;
/// The number of messages that may wait for one member. The session of a slower member is closed.
const MAX_WAITING: usize = 256;

/// A handle to the state of the chat. Clones share the state.
#[derive(Clone, Default)]
pub(crate) struct Rooms {
    state: Arc<Mutex<State>>,
}

struct State {
    last_id: u64,
    members: BTreeMap<u64, Seat>,
    rooms: BTreeMap<String, VecDeque<Message>>,
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

/// The state of a member.
struct Seat {
    name: String,
    key: String,
    room: String,
    /// `None` before the session starts, and after the member was replaced.
    subscriptions: Option<Subscriptions>,
}

/// Dropping them ends the messages to the member.
struct Subscriptions {
    _all: Subscription,
    _member: Subscription,
    room: Subscription,
}

/// The reason for which a name is rejected.
#[derive(Debug, PartialEq)]
pub(crate) enum NameError {
    Invalid,
    Taken,
}

impl Rooms {
    /// Checks that a name is valid and free. With the same key, a user can reclaim the name from an older session that
    /// has not ended yet.
    pub(crate) fn check_name(&self, name: &str, key: &str) -> Result<(), NameError> {
        self.state().check_name(name, key)
    }

    /// Reserves a name until the member is dropped.
    pub(crate) fn reserve(&self, name: &str, key: &str) -> Result<Member, NameError> {
        let mut state = self.state();
        state.check_name(name, key)?;
        state.last_id += 1;
        let id = state.last_id;
        let seat = Seat {
            name: name.to_owned(),
            key: key.to_owned(),
            room: LOBBY.into(),
            subscriptions: None,
        };
        state.members.insert(id, seat);
        Ok(Member {
            id,
            rooms: self.clone(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A member of the chat. Dropping the member frees its name.
pub(crate) struct Member {
    id: u64,
    rooms: Rooms,
}

impl Member {
    /// Starts the member's session in this room, and replaces older sessions of the same user.
    pub(crate) fn start(&self, room: String, socket: &WebSocket) {
        let mut state = self.rooms.state();
        state.replace_others(self.id);
        let room = match state.open(&room) {
            Ok(()) => room,
            Err(_) => LOBBY.into(),
        };
        let subscribe = |topic| state.broadcast.subscribe(topic, socket);
        let subscriptions = Subscriptions {
            _all: subscribe(Topic::All),
            _member: subscribe(Topic::Member(self.id)),
            room: subscribe(Topic::Room(room.clone())),
        };
        if let Some(seat) = state.members.get_mut(&self.id) {
            seat.subscriptions = Some(subscriptions);
        }
        state.join(self.id, room, socket);
    }

    /// Handles a message from the page.
    pub(crate) fn handle(&self, text: &str, socket: &WebSocket) -> Result<(), serde_json::Error> {
        let mut state = self.rooms.state();
        let message = serde_json::from_str(text)?;
        let seat = state.members.get(&self.id);
        if seat.is_none_or(|seat| seat.subscriptions.is_none()) {
            // Replaced, while the page has not answered the close frame.
            return Ok(());
        }
        match message {
            FromPage::Join { room } => state.join(self.id, room, socket),
            FromPage::Say { id, room, text } => state.say(self.id, id, room, text),
            FromPage::Ping => state.send(Topic::Member(self.id), &ToPage::Pong),
        }
        Ok(())
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut state = self.rooms.state();
        if let Some(seat) = state.members.remove(&self.id) {
            if seat.subscriptions.is_some() {
                // This member receives nothing more.
                drop(seat.subscriptions);
                state.send_people(&seat.room);
                state.send_rooms();
            }
        }
    }
}

impl State {
    fn check_name(&self, name: &str, key: &str) -> Result<(), NameError> {
        let is_allowed = |c: char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_' | '.' | '\'');
        let length = name.chars().count();
        if name.trim() != name || !(1..=MAX_NAME).contains(&length) || !name.chars().all(is_allowed)
        {
            return Err(NameError::Invalid);
        }
        let name = name.to_lowercase();
        let is_taken = |seat: &Seat| seat.name.to_lowercase() == name;
        match self.members.values().find(|seat| is_taken(seat)) {
            Some(seat) if key.is_empty() || seat.key != key => Err(NameError::Taken),
            _ => Ok(()),
        }
    }

    fn replace_others(&mut self, id: u64) {
        let Some(name) = self.members.get(&id).map(|seat| seat.name.to_lowercase()) else {
            return;
        };
        let mut left = Vec::new();
        for (other, seat) in &mut self.members {
            if *other == id || seat.name.to_lowercase() != name {
                continue;
            }
            if let Some(subscriptions) = seat.subscriptions.take() {
                left.push((*other, seat.room.clone(), subscriptions));
            }
        }
        for (other, room, subscriptions) in left {
            let close = CloseFrame::new(REPLACED, "connected again");
            self.send_message(Topic::Member(other), websocket::Message::Close(Some(close)));
            // Queued messages are still sent.
            drop(subscriptions);
            self.send_people(&room);
        }
    }

    fn join(&mut self, id: u64, room: String, socket: &WebSocket) {
        if let Err(reason) = self.open(&room) {
            let message = None;
            return self.send(Topic::Member(id), &ToPage::Error { reason, message });
        }
        let Some(seat) = self.members.get_mut(&id) else {
            return;
        };
        let left = std::mem::replace(&mut seat.room, room.clone());
        if let Some(subscriptions) = &mut seat.subscriptions {
            let topic = Topic::Room(room.clone());
            subscriptions.room = self.broadcast.subscribe(topic, socket);
        }
        let history = self.rooms.get(&room).cloned().unwrap_or_default();
        let (room, history) = (room.as_str(), &history);
        self.send(Topic::Member(id), &ToPage::Room { room, history });
        if left != room {
            self.send_people(&left);
        }
        self.send_people(room);
        self.send_rooms();
    }

    /// Creates the room unless it exists. At the limit, a new room replaces an empty one.
    fn open(&mut self, room: &str) -> Result<(), &'static str> {
        let is_allowed = |c: char| c == '-' || c.is_alphanumeric() && !c.is_uppercase();
        let length = room.chars().count();
        if !(1..=MAX_NAME).contains(&length) || !room.chars().all(is_allowed) {
            return Err("A room name has up to 24 lowercase letters, digits and hyphens.");
        }
        if !self.rooms.contains_key(room) && self.rooms.len() >= MAX_ROOMS {
            let is_empty = |room: &&String| *room != LOBBY && self.people(room).next().is_none();
            let Some(empty) = self.rooms.keys().find(is_empty).cloned() else {
                return Err("There are too many rooms.");
            };
            self.rooms.remove(&empty);
        }
        self.rooms.entry(LOBBY.into()).or_default();
        self.rooms.entry(room.into()).or_default();
        Ok(())
    }

    fn say(&mut self, from: u64, id: String, room: String, text: String) {
        if text.trim().is_empty() || text.chars().count() > MAX_TEXT || id.len() > 64 {
            let reason = "A message has 1 to 2000 characters.";
            let message = Some(id.as_str());
            return self.send(Topic::Member(from), &ToPage::Error { reason, message });
        }
        if let Err(reason) = self.open(&room) {
            let message = Some(id.as_str());
            return self.send(Topic::Member(from), &ToPage::Error { reason, message });
        }
        let (Some(seat), Some(history)) = (self.members.get(&from), self.rooms.get_mut(&room))
        else {
            return;
        };
        // The page has resent the message: it has not received the first copy back.
        if let Some(known) = history
            .iter()
            .find(|known| known.id == id && known.from == seat.name)
        {
            let known = known.clone();
            return self.send(Topic::Member(from), &ToPage::Message(&known));
        }
        let message = Message {
            id,
            room,
            from: seat.name.clone(),
            text,
            at: now(),
        };
        if history.len() == HISTORY {
            history.pop_front();
        }
        history.push_back(message.clone());
        let is_here = seat.room == message.room;
        let text = websocket::Message::Text(ToPage::Message(&message).to_json());
        if !is_here {
            self.send_message(Topic::Member(from), text.clone());
        }
        self.send_message(Topic::Room(message.room), text);
    }

    /// Returns the names of the members in a room.
    fn people(&self, room: &str) -> impl Iterator<Item = &str> {
        let here = move |seat: &&Seat| seat.subscriptions.is_some() && seat.room == room;
        self.members.values().filter(here).map(|seat| &*seat.name)
    }

    fn send_people(&self, room: &str) {
        let people = self.people(room).collect();
        self.send(Topic::Room(room.to_owned()), &ToPage::People { people });
    }

    fn send_rooms(&self) {
        let mut rooms: BTreeMap<_, _> = self.rooms.keys().map(|room| (&**room, 0)).collect();
        for seat in self.members.values() {
            if seat.subscriptions.is_some() {
                *rooms.entry(&seat.room).or_default() += 1;
            }
        }
        let rooms = rooms.into_iter();
        let rooms = rooms.map(|(name, people)| Summary { name, people });
        let rooms = rooms.collect();
        self.send(Topic::All, &ToPage::Rooms { rooms });
    }

    fn send(&self, topic: Topic, message: &ToPage) {
        self.send_message(topic, websocket::Message::Text(message.to_json()));
    }

    fn send_message(&self, topic: Topic, message: websocket::Message) {
        if let Err(error) = self.broadcast.send(&topic, message) {
            unreachable!("texts and close frames of this server are valid: {error}");
        }
    }
}

impl Default for State {
    fn default() -> Self {
        let slow_consumer = SlowConsumer::Close(TRY_AGAIN_LATER);
        Self {
            last_id: 0,
            members: BTreeMap::new(),
            rooms: BTreeMap::new(),
            broadcast: Broadcast::new(MAX_WAITING).slow_consumer(slow_consumer),
        }
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests;
