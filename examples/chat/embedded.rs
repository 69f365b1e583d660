//! The store of a single node, in its memory.

use crate::{
    local::Local,
    log::{Log, Position},
    messages::Message,
    rooms::{LOBBY, MAX_ROOMS},
    store::{Command, Seat, Store, StoreError, User},
};
use futures_util::{FutureExt as _, future::BoxFuture};
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashMap},
    future::ready,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

const NODE: &str = "local";

pub(crate) struct Embedded {
    local: Arc<Local>,
    history: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    rooms: BTreeMap<String, Room>,
    /// By name: the key and the id of its members, the newest last.
    names: BTreeMap<String, Vec<(String, u64)>>,
}

struct Room {
    log: Log,
    /// The offsets of the messages in the log, by sender and id.
    sent: HashMap<(String, String), u64>,
}

impl Embedded {
    pub(crate) fn new(local: Arc<Local>, history: usize) -> Self {
        Self {
            local,
            history,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the room, which is new unless it exists. At the limit, a new room replaces an empty one.
    fn room<'a>(&self, state: &'a mut State, name: &str) -> Result<&'a mut Room, StoreError> {
        let rooms = &mut state.rooms;
        if !rooms.contains_key(name) {
            if rooms.len() >= MAX_ROOMS {
                let is_empty = |room: &&String| *room != LOBBY && self.local.is_empty(room);
                let empty = rooms.keys().find(is_empty).cloned();
                rooms.remove(&empty.ok_or(StoreError::TooManyRooms)?);
            }
            for name in [LOBBY, name] {
                rooms.entry(name.to_owned()).or_insert_with(|| Room {
                    log: Log::new(epoch(), 0, self.history),
                    sent: HashMap::new(),
                });
            }
            self.local.set_rooms(rooms.keys().cloned().collect());
        }
        Ok(rooms
            .get_mut(name)
            .unwrap_or_else(|| unreachable!("the room exists")))
    }

    fn check_name(&self, user: &User) -> Result<(), StoreError> {
        match self.state().names.get(&user.folded_name()) {
            Some(seats)
                if seats
                    .iter()
                    .any(|(key, _)| key.is_empty() || *key != user.key) =>
            {
                Err(StoreError::NameTaken)
            }
            _ => Ok(()),
        }
    }

    fn claim_name(&self, user: &User) -> Result<Option<Seat>, StoreError> {
        self.check_name(user)?;
        let mut state = self.state();
        let seats = state.names.entry(user.folded_name()).or_default();
        let old = seats.last().map(|(_, member)| Seat {
            node: NODE.to_owned(),
            member: *member,
        });
        seats.push((user.key.clone(), user.member));
        Ok(old)
    }

    fn append_message(&self, mut message: Message) -> Result<Position, StoreError> {
        // Under the lock, so that members receive the messages in the order of their offsets.
        let mut state = self.state();
        let Room { log, sent } = self.room(&mut state, &message.room)?;
        let key = (message.from.clone(), message.id.clone());
        let epoch = log.epoch().to_owned();
        if let Some(&offset) = sent.get(&key) {
            return Ok(Position { epoch, offset });
        }
        let offset = log.last() + 1;
        message.offset = offset;
        sent.insert(key, offset);
        let message = Arc::new(message);
        if let Some(trimmed) = log.push(Arc::clone(&message)) {
            sent.remove(&(trimmed.from.clone(), trimmed.id.clone()));
        }
        if self.local.receive(&epoch, vec![message.clone()]).is_err() {
            self.local.open(&message.room, log.clone());
        }
        Ok(Position { epoch, offset })
    }
}

impl Store for Embedded {
    fn node(&self) -> &str {
        NODE
    }

    fn check<'a>(&'a self, user: &'a User) -> BoxFuture<'a, Result<(), StoreError>> {
        ready(self.check_name(user)).boxed()
    }

    fn claim<'a>(&'a self, user: &'a User) -> BoxFuture<'a, Result<Option<Seat>, StoreError>> {
        ready(self.claim_name(user)).boxed()
    }

    fn release(&self, user: &User) {
        let mut state = self.state();
        let name = user.folded_name();
        if let Some(seats) = state.names.get_mut(&name) {
            seats.retain(|(_, member)| *member != user.member);
            if seats.is_empty() {
                state.names.remove(&name);
            }
        }
    }

    fn open<'a>(&'a self, room: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        let mut state = self.state();
        let opened = self.room(&mut state, room);
        let opened = opened.map(|found| self.local.open(room, found.log.clone()));
        ready(opened).boxed()
    }

    fn append(&self, message: Message) -> BoxFuture<'_, Result<Position, StoreError>> {
        ready(self.append_message(message)).boxed()
    }

    fn send<'a>(
        &'a self,
        _node: Option<&'a str>,
        _command: Command,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        ready(Ok(())).boxed()
    }

    fn reports(&self) -> BoxFuture<'_, Vec<Value>> {
        ready(Vec::new()).boxed()
    }

    fn health(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn leave(&self) -> BoxFuture<'_, ()> {
        ready(()).boxed()
    }
}

/// Returns a new epoch.
pub(crate) fn epoch() -> String {
    format!("{:016x}", rand::random::<u64>())
}
