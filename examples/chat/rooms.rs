//! The state of the rooms: their members and latest messages. Nothing here does IO; only
//! [`Member::next`] is async.

use serde::{Deserialize, Serialize};
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
/// The number of messages that may wait for one member. A member with more is too slow and is
/// disconnected.
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

/// A member as the rooms know it.
struct Seat {
    name: String,
    key: String,
    /// `None` until the session starts, and after the member was replaced.
    session: Option<SessionId>,
    room: String,
    /// `None` after the member was too slow, or was replaced.
    outbox: Option<mpsc::Sender<Event>>,
}

/// An event for a member's session.
pub(crate) enum Event {
    /// A JSON message. All its receivers share the bytes.
    Say(Utf8Bytes),
    /// The same user has connected again.
    Replaced,
}

/// A message from a page.
#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "lowercase")]
enum FromPage {
    Join {
        room: String,
    },
    Say {
        /// Chosen by the page, which recognizes its own message by the id, and can safely resend the message
        /// if it does not know whether the first copy arrived.
        id: String,
        room: String,
        text: String,
    },
    Ping,
}

/// A message to a page.
#[derive(Serialize)]
#[serde(tag = "is", rename_all = "lowercase")]
enum ToPage<'a> {
    /// The member has joined this room.
    Room {
        room: &'a str,
        history: &'a VecDeque<Message>,
    },
    Rooms {
        rooms: Vec<Summary<'a>>,
    },
    People {
        people: Vec<&'a str>,
    },
    Message(&'a Message),
    Pong,
    /// A request of the page has failed.
    Sorry {
        why: &'a str,
        /// The id of the refused message, if any.
        #[serde(skip_serializing_if = "Option::is_none")]
        about: Option<&'a str>,
    },
}

#[derive(Serialize)]
struct Summary<'a> {
    name: &'a str,
    people: usize,
}

#[derive(Clone, Serialize)]
struct Message {
    id: String,
    room: String,
    from: String,
    text: String,
    /// In milliseconds since 1970.
    at: u64,
}

/// The reason for which a name is refused.
#[derive(Debug, PartialEq)]
pub(crate) enum NoEntry {
    Invalid,
    Taken,
}

impl Rooms {
    /// Checks that a name is valid and free. The key proves that a returning user is the same one, whose old
    /// session may not have ended yet.
    pub(crate) fn look(&self, name: &str, key: &str) -> Result<(), NoEntry> {
        self.state().look(name, key)
    }

    /// Takes a name until the member is dropped. The member starts in the lobby.
    pub(crate) fn enter(&self, name: &str, key: &str) -> Result<Member, NoEntry> {
        let mut state = self.state();
        state.look(name, key)?;
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

/// A member of the chat. Dropping it frees the name.
pub(crate) struct Member {
    id: u64,
    rooms: Rooms,
    events: mpsc::Receiver<Event>,
}

impl Member {
    /// Starts the member's session in this room, and replaces older sessions of the same user.
    pub(crate) fn arrive(&self, session: SessionId, room: String) {
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

    /// Waits for the next event. Returns `None` if the member was too slow.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// Handles a message from the page.
    pub(crate) fn hear(&self, text: &str) -> Result<(), serde_json::Error> {
        let mut state = self.rooms.state();
        match serde_json::from_str(text)? {
            FromPage::Join { room } => state.join(self.id, room),
            FromPage::Say { id, room, text } => state.say(self.id, id, room, text),
            FromPage::Ping => state.tell(self.id, &ToPage::Pong),
        }
        Ok(())
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut state = self.rooms.state();
        if let Some(seat) = state.members.remove(&self.id) {
            if seat.session.is_some() {
                state.show_people(&seat.room);
                state.show_rooms();
            }
        }
    }
}

impl State {
    fn look(&self, name: &str, key: &str) -> Result<(), NoEntry> {
        let is_fine = |c: char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_' | '.' | '\'');
        let length = name.chars().count();
        if name.trim() != name || !(1..=MAX_NAME).contains(&length) || !name.chars().all(is_fine) {
            return Err(NoEntry::Invalid);
        }
        let name = name.to_lowercase();
        let is_taken = |seat: &Seat| seat.name.to_lowercase() == name;
        match self.members.values().find(|seat| is_taken(seat)) {
            Some(seat) if key.is_empty() || seat.key != key => Err(NoEntry::Taken),
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
                    // If the channel is full, the end of the channel closes the session instead.
                    let _ = outbox.try_send(Event::Replaced);
                }
            }
        }
        for room in left {
            self.show_people(&room);
        }
    }

    fn join(&mut self, id: u64, room: String) {
        if let Err(why) = self.open(&room) {
            return self.tell(id, &ToPage::Sorry { why, about: None });
        }
        let Some(seat) = self.members.get_mut(&id) else {
            return;
        };
        let left = std::mem::replace(&mut seat.room, room.clone());
        let history = self.rooms.get(&room).cloned().unwrap_or_default();
        let (room, history) = (room.as_str(), &history);
        self.tell(id, &ToPage::Room { room, history });
        if left != room {
            self.show_people(&left);
        }
        self.show_people(room);
        self.show_rooms();
    }

    /// Creates the room unless it exists. At the limit, a new room replaces an empty one.
    fn open(&mut self, room: &str) -> Result<(), &'static str> {
        let is_fine = |c: char| c == '-' || c.is_alphanumeric() && !c.is_uppercase();
        let length = room.chars().count();
        if !(1..=MAX_NAME).contains(&length) || !room.chars().all(is_fine) {
            return Err("A room’s name has up to 24 small letters, digits and hyphens.");
        }
        if !self.rooms.contains_key(room) && self.rooms.len() >= MAX_ROOMS {
            let is_empty = |room: &&String| *room != LOBBY && self.people(room).next().is_none();
            let Some(empty) = self.rooms.keys().find(is_empty).cloned() else {
                return Err("There are too many rooms already.");
            };
            self.rooms.remove(&empty);
        }
        self.rooms.entry(LOBBY.into()).or_default();
        self.rooms.entry(room.into()).or_default();
        Ok(())
    }

    fn say(&mut self, from: u64, id: String, room: String, text: String) {
        if text.trim().is_empty() || text.chars().count() > MAX_TEXT || id.len() > 64 {
            let why = "A message has between 1 and 2000 characters.";
            let about = Some(id.as_str());
            return self.tell(from, &ToPage::Sorry { why, about });
        }
        if let Err(why) = self.open(&room) {
            let about = Some(id.as_str());
            return self.tell(from, &ToPage::Sorry { why, about });
        }
        let (Some(seat), Some(history)) = (self.members.get(&from), self.rooms.get_mut(&room))
        else {
            return;
        };
        // The page resent the message, because it did not see the first copy come back.
        if let Some(known) = history
            .iter()
            .find(|known| known.id == id && known.from == seat.name)
        {
            let known = known.clone();
            return self.tell(from, &ToPage::Message(&known));
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
        self.tell_all(
            |id, seat| seat.room == room || id == from,
            &ToPage::Message(&message),
        );
    }

    /// Returns the names of the members in a room.
    fn people(&self, room: &str) -> impl Iterator<Item = &str> {
        let here = move |seat: &&Seat| seat.session.is_some() && seat.room == room;
        self.members.values().filter(here).map(|seat| &*seat.name)
    }

    fn show_people(&mut self, room: &str) {
        let people = self.people(room).collect();
        let text = to_json(&ToPage::People { people });
        self.send_all(|_, seat| seat.room == room, &text);
    }

    fn show_rooms(&mut self) {
        let mut rooms: BTreeMap<_, _> = self.rooms.keys().map(|room| (&**room, 0)).collect();
        for seat in self.members.values().filter(|seat| seat.session.is_some()) {
            *rooms.entry(&seat.room).or_default() += 1;
        }
        let rooms = rooms.into_iter();
        let rooms = rooms.map(|(name, people)| Summary { name, people });
        let text = to_json(&ToPage::Rooms {
            rooms: rooms.collect(),
        });
        self.send_all(|_, _| true, &text);
    }

    fn tell(&mut self, id: u64, what: &ToPage) {
        self.tell_all(|other, _| other == id, what);
    }

    fn tell_all(&mut self, filter: impl Fn(u64, &Seat) -> bool, what: &ToPage) {
        self.send_all(filter, &to_json(what));
    }

    /// Sends to the members that `filter` selects. A member that is too slow is disconnected: its channel ends,
    /// and with it the session.
    fn send_all(&mut self, filter: impl Fn(u64, &Seat) -> bool, text: &Utf8Bytes) {
        for (id, seat) in &mut self.members {
            if seat.session.is_some() && filter(*id, seat) {
                seat.outbox
                    .take_if(|outbox| outbox.try_send(Event::Say(text.clone())).is_err());
            }
        }
    }
}

fn to_json(what: &ToPage) -> Utf8Bytes {
    match serde_json::to_string(what) {
        Ok(text) => text.into(),
        Err(error) => unreachable!("strings and numbers are always JSON: {error}"),
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Returns a member in the lobby, without pending events.
    fn enter(rooms: &Rooms, name: &str, session: u64) -> Member {
        let mut member = rooms.enter(name, name).expect("the name is free");
        member.arrive(session.into(), LOBBY.into());
        heard(&mut member);
        member
    }

    fn heard(member: &mut Member) -> Vec<String> {
        let mut heard = Vec::new();
        while let Ok(event) = member.events.try_recv() {
            heard.push(match event {
                Event::Say(text) => text.to_string(),
                Event::Replaced => "replaced".into(),
            });
        }
        heard
    }

    fn say(member: &Member, id: &str, text: &str) {
        let said = json!({ "do": "say", "id": id, "room": LOBBY, "text": text });
        member.hear(&said.to_string()).expect("a valid message");
    }

    #[test]
    fn name_is_taken_until_the_member_is_dropped() {
        let rooms = Rooms::default();
        let ann = rooms.enter("Ann", "1").expect("the name is free");
        assert_eq!(rooms.look("ann", "2"), Err(NoEntry::Taken));
        assert_eq!(rooms.look("Ann", ""), Err(NoEntry::Taken));
        assert_eq!(rooms.look("Ann", "1"), Ok(()));
        // As if its session never started.
        drop(ann);
        assert_eq!(rooms.look("ann", "2"), Ok(()));
    }

    #[test]
    fn name_that_is_unreadable_is_refused() {
        let long = "a".repeat(MAX_NAME + 1);
        for name in ["", " ", " Ann", "Ann ", "<b>", "a\u{202e}b", "a\nb", &long] {
            assert_eq!(
                Rooms::default().look(name, ""),
                Err(NoEntry::Invalid),
                "{name:?}"
            );
        }
        for name in ["A", "Ann", "Zoë", "O'Neil Jr.", "小明", &long[1..]] {
            assert_eq!(Rooms::default().look(name, ""), Ok(()), "{name:?}");
        }
    }

    #[test]
    fn returning_member_replaces_its_old_session() {
        let rooms = Rooms::default();
        let mut before = enter(&rooms, "Ann", 1);
        let mut bob = enter(&rooms, "Bob", 2);
        let after = enter(&rooms, "Ann", 3);
        assert_eq!(
            heard(&mut before).last().map(String::as_str),
            Some("replaced")
        );
        drop(before);
        let told = heard(&mut bob).concat();
        assert!(
            told.contains(r#"{"is":"people","people":["Bob","Ann"]}"#),
            "{told}"
        );
        drop(after);
        let told = heard(&mut bob).concat();
        assert!(
            told.contains(r#"{"is":"people","people":["Bob"]}"#),
            "{told}"
        );
    }

    #[test]
    fn resent_message_is_delivered_once() {
        let rooms = Rooms::default();
        let (mut ann, mut bob) = (enter(&rooms, "Ann", 1), enter(&rooms, "Bob", 2));
        heard(&mut ann);
        say(&ann, "1", "hello");
        say(&ann, "1", "hello");
        assert_eq!(heard(&mut bob).len(), 1);
        // The sender gets it twice, as the first copy may be lost.
        assert_eq!(heard(&mut ann).len(), 2);
    }

    #[test]
    fn room_remembers_its_last_messages() {
        let rooms = Rooms::default();
        let mut ann = enter(&rooms, "Ann", 1);
        for number in 0..=HISTORY {
            say(&ann, &number.to_string(), "hello");
        }
        heard(&mut ann);
        ann.hear(r#"{ "do": "join", "room": "lobby" }"#)
            .expect("a valid message");
        let told = heard(&mut ann).concat();
        assert!(!told.contains(r#""id":"0""#));
        assert_eq!(told.matches(r#""id":"#).count(), HISTORY);
    }

    #[test]
    fn slow_member_is_disconnected() {
        let rooms = Rooms::default();
        let (mut ann, mut bob) = (enter(&rooms, "Ann", 1), enter(&rooms, "Bob", 2));
        for number in 0..=MAX_WAITING {
            say(&ann, &number.to_string(), "hello");
            heard(&mut ann);
        }
        assert_eq!(heard(&mut bob).len(), MAX_WAITING);
        let nothing_more = Err(mpsc::error::TryRecvError::Disconnected);
        assert_eq!(bob.events.try_recv().map(drop), nothing_more);
        drop(bob);
        let told = heard(&mut ann).concat();
        assert!(
            told.contains(r#"{"is":"people","people":["Ann"]}"#),
            "{told}"
        );
    }

    #[test]
    fn empty_rooms_give_way_to_new_ones() {
        let rooms = Rooms::default();
        let mut ann = enter(&rooms, "Ann", 1);
        for number in 0..2 * MAX_ROOMS {
            let join = json!({ "do": "join", "room": format!("room-{number}") });
            ann.hear(&join.to_string()).expect("a valid message");
            heard(&mut ann);
        }
        let state = rooms.state();
        assert_eq!(state.rooms.len(), MAX_ROOMS);
        assert!(state.rooms.contains_key(LOBBY));
    }
}
