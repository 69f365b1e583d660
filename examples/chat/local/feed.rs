//! The input of the store: messages, and the members on other nodes.

use super::{Local, MAX_PEOPLE, People, Topic};
use crate::{
    log::{Log, Position},
    messages::{Message, Summary, ToPage},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// The log of an open room does not end before these messages.
#[derive(Debug)]
pub(crate) struct OutOfDate;

impl Local {
    /// Sends messages that follow each other to the members in their room. Ignores messages that the room already has.
    /// Fails if the messages do not follow those of the room.
    pub(crate) fn receive(
        &self,
        epoch: &str,
        mut messages: Vec<Arc<Message>>,
    ) -> Result<(), OutOfDate> {
        let Some(room) = messages.first().map(|message| message.room.clone()) else {
            return Ok(());
        };
        let state = &mut *self.state();
        let Some(log) = state.logs.get_mut(&room) else {
            return Ok(());
        };
        if log.epoch() != epoch {
            return Err(OutOfDate);
        }
        messages.retain(|message| message.offset > log.last());
        match messages.first() {
            None => return Ok(()),
            Some(first) if first.offset != log.last() + 1 => return Err(OutOfDate),
            Some(_) => {}
        }
        for message in &messages {
            log.push(Arc::clone(message));
        }
        let (messages, room) = (&*messages, &*room);
        let topic = Topic::Room(room.to_owned());
        #[rustfmt::skip]
        state.send(&topic, &ToPage::Messages { room, epoch, messages });
        Ok(())
    }

    /// Opens a room on this node. If it is open, its members get the messages that they do not have yet.
    pub(crate) fn open(&self, room: &str, log: Log) {
        let state = &mut *self.state();
        state.is_list_changed |= state.rooms.insert(room.to_owned());
        if let Some(old) = state.logs.get(room) {
            if old.epoch() == log.epoch() && log.last() <= old.last() {
                // Messages have arrived since this log was read.
                return;
            }
            let position = Position {
                epoch: old.epoch().to_owned(),
                offset: old.last(),
            };
            let history = log.since(Some(&position));
            let (epoch, messages) = (log.epoch(), &*history.messages);
            let news = match history.missed {
                true => Some(ToPage::Room {
                    room,
                    epoch,
                    offset: log.last(),
                    history: messages,
                    missed: true,
                }),
                false if messages.is_empty() => None,
                #[rustfmt::skip]
                false => Some(ToPage::Messages { room, epoch, messages }),
            };
            if let Some(news) = news {
                state.send(&Topic::Room(room.to_owned()), &news);
            }
        }
        state.logs.insert(room.to_owned(), log);
    }

    /// Returns the positions of the open rooms.
    pub(crate) fn positions(&self) -> Vec<(String, Position)> {
        let state = self.state();
        let position = |(room, log): (&String, &Log)| {
            let position = Position {
                epoch: log.epoch().to_owned(),
                offset: log.last(),
            };
            (room.clone(), position)
        };
        state.logs.iter().map(position).collect()
    }

    pub(crate) fn set_rooms(&self, rooms: BTreeSet<String>) {
        let mut state = self.state();
        if state.rooms != rooms {
            state.rooms = rooms;
            state.is_list_changed = true;
        }
    }

    /// Sets the members on other nodes.
    pub(crate) fn set_elsewhere(&self, people: People) {
        let state = &mut *self.state();
        let rooms = people.keys().chain(state.elsewhere.keys());
        let is_changed = |room: &&String| people.get(*room) != state.elsewhere.get(*room);
        state.changed.extend(rooms.filter(is_changed).cloned());
        state.elsewhere = people;
    }

    /// Returns the members on this node.
    pub(crate) fn people(&self) -> People {
        let mut people = People::new();
        for member in self.state().active() {
            let names = people.entry(member.room.clone()).or_default();
            names.insert(member.name.clone());
        }
        people
    }

    /// Returns whether the list of all rooms has this room.
    pub(crate) fn is_listed(&self, room: &str) -> bool {
        self.state().rooms.contains(room)
    }

    pub(crate) fn is_empty(&self, room: &str) -> bool {
        !self.state().active().any(|member| member.room == room)
    }

    /// Sends the changed lists of members and rooms, and closes the rooms that have no members on this node.
    ///
    /// Called at intervals: after a node has failed, many members join within a second.
    pub(crate) fn send_lists(&self) {
        let state = &mut *self.state();
        let changed = std::mem::take(&mut state.changed);
        if changed.is_empty() && !std::mem::take(&mut state.is_list_changed) {
            return;
        }
        let mut people: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for room in &state.rooms {
            people.entry(room).or_default();
        }
        for (room, names) in &state.elsewhere {
            people.insert(room, names.iter().map(|name| &**name).collect());
        }
        let mut here = BTreeSet::new();
        for member in state.active() {
            people.entry(&member.room).or_default().insert(&member.name);
            here.insert(member.room.clone());
        }
        for room in changed.intersection(&here) {
            let names = &people[&**room];
            let count = names.len();
            let names = names.iter().copied().take(MAX_PEOPLE).collect();
            let list = ToPage::People {
                people: names,
                count,
            };
            state.send(&Topic::Room(room.clone()), &list);
        }
        let rooms = people.iter().map(|(name, names)| Summary {
            name,
            people: names.len(),
        });
        let rooms = rooms.collect();
        state.send(&Topic::All, &ToPage::Rooms { rooms });
        state.logs.retain(|room, _| here.contains(room));
    }
}
