//! The operations of a session: to enter, to join a room, to say something.

use crate::{
    local::Local,
    log::Position,
    messages::{FromPage, Message, ToPage},
    store::{Command, Seat, Store, StoreError, User},
};
use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::time::{MissedTickBehavior, interval};
use tower_upgrade::websocket::WebSocket;

/// The default room, which always exists.
pub(crate) const LOBBY: &str = "lobby";
pub(crate) const MAX_ROOMS: usize = 100;
const MAX_NAME: usize = 24;
const MAX_TEXT: usize = 2000;
/// The interval at which members get lists of members and rooms that have changed.
const LISTS: Duration = Duration::from_millis(250);

/// A handle to the state of the chat. Clones share the state.
#[derive(Clone)]
pub(crate) struct Rooms {
    pub(crate) local: Arc<Local>,
    pub(crate) store: Arc<dyn Store>,
}

/// The reason for which a name is rejected.
#[derive(Debug, PartialEq)]
pub(crate) enum NameError {
    Invalid,
    Store(StoreError),
}

impl Rooms {
    /// Starts to send lists, until all clones are dropped.
    pub(crate) fn new(local: Arc<Local>, store: Arc<dyn Store>) -> Self {
        let weak = Arc::downgrade(&local);
        tokio::spawn(async move {
            let mut ticks = interval(LISTS);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while let Some(local) = weak.upgrade() {
                local.send_lists();
                drop(local);
                ticks.tick().await;
            }
        });
        Self { local, store }
    }

    /// Checks that a name is valid and free. With the same key, a user can reclaim the name from an older session that
    /// has not ended yet.
    pub(crate) async fn check_name(&self, name: &str, key: &str) -> Result<(), NameError> {
        let user = User::new(name, key, 0)?;
        self.store.check(&user).await.map_err(NameError::Store)
    }

    /// Reserves a name until the member is dropped.
    pub(crate) async fn reserve(&self, name: &str, key: &str) -> Result<Member, NameError> {
        let mut member = Member {
            user: User::new(name, key, self.local.new_id())?,
            rooms: self.clone(),
            replaces: None,
        };
        let claimed = self.store.claim(&member.user).await;
        member.replaces = claimed.map_err(NameError::Store)?;
        Ok(member)
    }
}

impl User {
    fn new(name: &str, key: &str, member: u64) -> Result<Self, NameError> {
        let is_allowed = |c: char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_' | '.' | '\'');
        let length = name.chars().count();
        if name.trim() != name || !(1..=MAX_NAME).contains(&length) || !name.chars().all(is_allowed)
        {
            return Err(NameError::Invalid);
        }
        Ok(Self {
            name: name.to_owned(),
            key: key.to_owned(),
            member,
        })
    }
}

/// A member of the chat. Dropping the member frees its name.
pub(crate) struct Member {
    user: User,
    rooms: Rooms,
    /// The session of the same user that this one replaces.
    replaces: Option<Seat>,
}

impl Member {
    /// Starts the member's session in this room, and replaces older sessions of the same user.
    pub(crate) async fn start(
        &self,
        room: &str,
        since: Option<&Position>,
        socket: &WebSocket,
    ) -> Result<(), StoreError> {
        let Rooms { local, store } = &self.rooms;
        if let Some(Seat { node, member }) = &self.replaces {
            match *node == store.node() {
                true => local.replace(*member),
                false => store.send(Some(node), Command::Replace(*member)).await?,
            }
        }
        local.add(self.user.member, &self.user.name, socket);
        let room = if is_room_name(room) { room } else { LOBBY };
        match self.join(room, since, socket).await {
            Err(StoreError::TooManyRooms) => self.join(LOBBY, None, socket).await,
            joined => joined,
        }
    }

    /// Handles a message from the page.
    pub(crate) async fn handle(
        &self,
        text: &str,
        socket: &WebSocket,
    ) -> Result<(), serde_json::Error> {
        let message = serde_json::from_str(text)?;
        let (local, id) = (&self.rooms.local, self.user.member);
        if !local.is_active(id) {
            // Replaced, while the page has not answered the close frame.
            return Ok(());
        }
        match message {
            FromPage::Join { room, .. } if !is_room_name(&room) => self.refuse(
                "A room name has up to 24 lowercase letters, digits and hyphens.",
                None,
            ),
            FromPage::Join { room, since } => {
                if let Err(error) = self.join(&room, since.as_ref(), socket).await {
                    self.fail(error, None);
                }
            }
            FromPage::Say { id, room, text } => self.say(id, room, text).await,
            FromPage::Ping => local.send(id, &ToPage::Pong),
        }
        Ok(())
    }

    async fn join(
        &self,
        room: &str,
        since: Option<&Position>,
        socket: &WebSocket,
    ) -> Result<(), StoreError> {
        let Rooms { local, store } = &self.rooms;
        let mut is_fresh = false;
        // More than once if the room is closed in between.
        while !local.join(self.user.member, room, since, is_fresh, socket) {
            store.open(room).await?;
            is_fresh = true;
        }
        Ok(())
    }

    async fn say(&self, id: String, room: String, text: String) {
        let is_valid = !text.trim().is_empty() && text.chars().count() <= MAX_TEXT;
        if !is_valid || id.len() > 64 || !is_room_name(&room) {
            return self.refuse("A message has 1 to 2000 characters.", Some(&id));
        }
        let message = Message {
            id: id.clone(),
            room: room.clone(),
            from: self.user.name.clone(),
            text,
            at: now(),
            offset: 0,
        };
        match self.rooms.store.append(message).await {
            Ok(position) => {
                let (id, room, position) = (&id, &room, &position);
                let sent = ToPage::Sent { id, room, position };
                self.rooms.local.send(self.user.member, &sent);
            }
            Err(error) => self.fail(error, Some(&id)),
        }
    }

    fn refuse(&self, reason: &str, message: Option<&str>) {
        let retry = false;
        #[rustfmt::skip]
        let error = ToPage::Error { reason, message, retry };
        self.rooms.local.send(self.user.member, &error);
    }

    fn fail(&self, error: StoreError, message: Option<&str>) {
        let (reason, retry) = (error.reason(), error.may_succeed_later());
        #[rustfmt::skip]
        let error = ToPage::Error { reason, message, retry };
        self.rooms.local.send(self.user.member, &error);
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.rooms.local.remove(self.user.member);
        self.rooms.store.release(&self.user);
    }
}

fn is_room_name(room: &str) -> bool {
    let is_allowed = |c: char| c == '-' || c.is_alphanumeric() && !c.is_uppercase();
    (1..=MAX_NAME).contains(&room.chars().count()) && room.chars().all(is_allowed)
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests;
