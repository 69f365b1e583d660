//! The state of the chat: rooms with their latest messages, and members. Without IO; only [`Member::next`] is async.

use crate::messages::{FromPage, Message, Summary, ToPage};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};
use tokio::sync::mpsc;
use tower_upgrade::{SessionId, websocket::Utf8Bytes};

/// The default room, which always exists.
const LOBBY: &str = "lobby";
/// The number of messages that a room remembers.
const HISTORY: usize = 50;
const MAX_ROOMS: usize = 100;
const MAX_NAME: usize = 24;
const MAX_TEXT: usize = 2000;
/// The number of messages that may wait for one member. A slower member is disconnected.
const MAX_WAITING: usize = 256;

/// A handle to the state of the chat. Clones share the state.
#[derive(Clone, Default)]
pub(crate) struct Rooms {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    last_id: u64,
    members: BTreeMap<u64, Seat>,
    rooms: BTreeMap<String, VecDeque<Message>>,
}

/// The state of a member.
struct Seat {
    name: String,
    key: String,
    /// `None` before the session starts, and after the member was replaced.
    session: Option<SessionId>,
    room: String,
    /// `None` after the member was too slow, or was replaced.
    outbox: Option<mpsc::Sender<Event>>,
}

/// An event for a member's session.
pub(crate) enum Event {
    /// A JSON message. All its receivers share the bytes.
    Text(Utf8Bytes),
    /// The same user has connected again.
    Replaced,
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
        let (outbox, events) = mpsc::channel(MAX_WAITING);
        state.last_id += 1;
        let id = state.last_id;
        let seat = Seat {
            name: name.to_owned(),
            key: key.to_owned(),
            session: None,
            room: LOBBY.into(),
            outbox: Some(outbox),
        };
        state.members.insert(id, seat);
        Ok(Member {
            id,
            rooms: self.clone(),
            events,
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
    events: mpsc::Receiver<Event>,
}

impl Member {
    /// Starts the member's session in this room, and replaces older sessions of the same user.
    pub(crate) fn start(&self, session: SessionId, room: String) {
        let mut state = self.rooms.state();
        state.replace_others(self.id);
        if let Some(seat) = state.members.get_mut(&self.id) {
            seat.session = Some(session);
        }
        let room = match state.open(&room) {
            Ok(()) => room,
            Err(_) => LOBBY.into(),
        };
        state.join(self.id, room);
    }

    /// Waits for the next event. Returns `None` after the member was too slow.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// Handles a message from the page.
    pub(crate) fn handle(&self, text: &str) -> Result<(), serde_json::Error> {
        let mut state = self.rooms.state();
        match serde_json::from_str(text)? {
            FromPage::Join { room } => state.join(self.id, room),
            FromPage::Say { id, room, text } => state.say(self.id, id, room, text),
            FromPage::Ping => state.send(self.id, &ToPage::Pong),
        }
        Ok(())
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut state = self.rooms.state();
        if let Some(seat) = state.members.remove(&self.id) {
            if seat.session.is_some() {
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
            if *other != id && seat.session.is_some() && seat.name.to_lowercase() == name {
                seat.session = None;
                left.push(seat.room.clone());
                if let Some(outbox) = seat.outbox.take() {
                    // If the channel is full, dropping the sender ends the session.
                    let _ = outbox.try_send(Event::Replaced);
                }
            }
        }
        for room in left {
            self.send_people(&room);
        }
    }

    fn join(&mut self, id: u64, room: String) {
        if let Err(reason) = self.open(&room) {
            let message = None;
            return self.send(id, &ToPage::Error { reason, message });
        }
        let Some(seat) = self.members.get_mut(&id) else {
            return;
        };
        let left = std::mem::replace(&mut seat.room, room.clone());
        let history = self.rooms.get(&room).cloned().unwrap_or_default();
        let (room, history) = (room.as_str(), &history);
        self.send(id, &ToPage::Room { room, history });
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
            return self.send(from, &ToPage::Error { reason, message });
        }
        if let Err(reason) = self.open(&room) {
            let message = Some(id.as_str());
            return self.send(from, &ToPage::Error { reason, message });
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
            return self.send(from, &ToPage::Message(&known));
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
        let room = message.room.as_str();
        self.send_if(
            |id, seat| seat.room == room || id == from,
            &ToPage::Message(&message),
        );
    }

    /// Returns the names of the members in a room.
    fn people(&self, room: &str) -> impl Iterator<Item = &str> {
        let here = move |seat: &&Seat| seat.session.is_some() && seat.room == room;
        self.members.values().filter(here).map(|seat| &*seat.name)
    }

    fn send_people(&mut self, room: &str) {
        let people = self.people(room).collect();
        let text = ToPage::People { people }.to_json();
        self.send_text_if(|_, seat| seat.room == room, &text);
    }

    fn send_rooms(&mut self) {
        let mut rooms: BTreeMap<_, _> = self.rooms.keys().map(|room| (&**room, 0)).collect();
        for seat in self.members.values().filter(|seat| seat.session.is_some()) {
            *rooms.entry(&seat.room).or_default() += 1;
        }
        let rooms = rooms.into_iter();
        let rooms = rooms.map(|(name, people)| Summary { name, people });
        let rooms = rooms.collect();
        let text = ToPage::Rooms { rooms }.to_json();
        self.send_text_if(|_, _| true, &text);
    }

    fn send(&mut self, id: u64, message: &ToPage) {
        self.send_if(|other, _| other == id, message);
    }

    fn send_if(&mut self, filter: impl Fn(u64, &Seat) -> bool, message: &ToPage) {
        self.send_text_if(filter, &message.to_json());
    }

    /// Sends to the members that `filter` selects. Closes the channel of a member that is too slow, which ends its
    /// session.
    fn send_text_if(&mut self, filter: impl Fn(u64, &Seat) -> bool, text: &Utf8Bytes) {
        for (id, seat) in &mut self.members {
            if seat.session.is_some() && filter(*id, seat) {
                seat.outbox
                    .take_if(|outbox| outbox.try_send(Event::Text(text.clone())).is_err());
            }
        }
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests;
