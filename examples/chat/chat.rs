//! The chat's part of a request and of a session: who gets in, and what is passed on.

use crate::rooms::{Event, Member, NoEntry, Rooms};
use axum::{
    extract::{Extension, Query, State},
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header, request::Parts};
use serde::Deserialize;
use std::net::SocketAddr;
use tower_upgrade::{
    Accept, BoxError, Identity, ProtocolHandler, Rejection, Sessions, UpgradeRequest,
    websocket::{self, CloseFrame, ErrorKind, Message, WebSocket, WebSocketUpgrade},
};

/// The server is about to stop: the page comes back when there is another one.
const GOING_AWAY: u16 = 1001;
/// The page has sent what is no text: ours does not.
const UNSUPPORTED: u16 = 1003;
/// The page has not read for too long: it comes back.
const TRY_AGAIN_LATER: u16 = 1013;
/// The same person is here through another connection: the page stays away.
const REPLACED: u16 = 4001;
/// Somebody at `/admin` closed it: the page stays away until it is asked to come back.
const REMOVED: u16 = 4002;

#[derive(Clone)]
pub(crate) struct Chat {
    pub(crate) upgrade: WebSocketUpgrade,
    pub(crate) rooms: Rooms,
    pub(crate) sessions: Sessions,
    pub(crate) limits: Limits,
}

#[derive(Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) sessions: usize,
    pub(crate) sessions_per_address: usize,
}

/// What a page asks with, in its query: a browser's WebSocket has no headers to set.
#[derive(Deserialize)]
pub(crate) struct Ticket {
    name: String,
    /// A secret of the page, which lets it have its name back at once when its connection broke.
    #[serde(default)]
    key: String,
    #[serde(default)]
    room: String,
}

pub(crate) struct Refusal {
    status: StatusCode,
    message: &'static str,
}

impl Ticket {
    fn of(parts: &Parts) -> Result<Self, Refusal> {
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(ticket)) => Ok(ticket),
            Err(_) => Err(NoEntry::Invalid.into()),
        }
    }
}

impl Chat {
    /// What the layer would say before the handler is asked.
    fn room_for(&self, peer: SocketAddr) -> Result<(), Refusal> {
        let of_peer = |other: SocketAddr| other.ip() == peer.ip();
        let sessions = self.sessions.list();
        let same = sessions.iter().filter_map(|session| session.peer());
        let message = if self.sessions.is_draining() {
            "The server is about to stop."
        } else if self.sessions.len() >= self.limits.sessions {
            "The chat is full."
        } else if same.filter(|other| of_peer(*other)).count() >= self.limits.sessions_per_address {
            "There are too many connections from your address."
        } else {
            return Ok(());
        };
        Err(Refusal {
            status: StatusCode::SERVICE_UNAVAILABLE,
            message,
        })
    }
}

impl ProtocolHandler for Chat {
    /// Everything is decided here, while a refusal is still a response with a status. The name is taken
    /// here as well: if the switch is never sent, this drops the member, and the name is free.
    async fn accept(&self, request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        let handshake = self.upgrade.check(request)?;
        let ticket = Ticket::of(request.parts())?;
        let member = self
            .rooms
            .enter(&ticket.name, &ticket.key)
            .map_err(Refusal::from)?;
        let sessions = self.sessions.clone();
        let identity = Identity::new(ticket.name);
        let accept = handshake.accept(move |socket, session| async move {
            member.arrive(session.id(), ticket.room);
            // It would keep what the request has brought.
            drop(session);
            match talk(socket, member, sessions).await {
                // People close laptops and leave trains: that is an end like any other.
                Err(error) if has_left(&error) => Ok(()),
                ended => ended,
            }
        });
        // For the list of administrators, the log, and `on_close`.
        Ok(accept.identity(identity))
    }
}

async fn talk(
    mut socket: WebSocket,
    mut member: Member,
    sessions: Sessions,
) -> Result<(), BoxError> {
    // By itself it would close with 1001, whoever told it to stop.
    let mut stop = socket.take_stop();
    let (code, reason) = loop {
        tokio::select! {
            event = member.next() => match event {
                Some(Event::Say(text)) => socket.send(Message::Text(text)).await?,
                Some(Event::Replaced) => break (REPLACED, "you came in again"),
                None => break (TRY_AGAIN_LATER, "too slow"),
            },
            message = socket.recv() => match message.transpose()? {
                Some(Message::Text(text)) => member.hear(&text)?,
                Some(Message::Binary(_)) => break (UNSUPPORTED, "a text was expected"),
                // They have done their work.
                Some(Message::Ping(_) | Message::Pong(_)) => {}
                Some(Message::Close(_)) | None => return Ok(()),
            },
            () = &mut stop => break match sessions.is_draining() {
                true => (GOING_AWAY, "the server is about to stop"),
                false => (REMOVED, "closed by an administrator"),
            },
        }
    };
    // The name is free, and the others know, before the client has answered.
    drop(member);
    Ok(socket.close(CloseFrame::new(code, reason)).await?)
}

fn has_left(error: &BoxError) -> bool {
    error
        .downcast_ref::<websocket::Error>()
        .is_some_and(|error| error.kind() == ErrorKind::Io)
}

/// What would become of a session. A browser does not tell a page why its WebSocket was refused, so the
/// page asks here.
pub(crate) async fn admission(
    State(chat): State<Chat>,
    Extension(peer): Extension<SocketAddr>,
    parts: Parts,
) -> Result<StatusCode, Refusal> {
    chat.upgrade
        .check_origin(&parts)
        .map_err(|refusal| Refusal {
            status: refusal.status(),
            message: "This page is not part of the chat.",
        })?;
    let ticket = Ticket::of(&parts)?;
    chat.room_for(peer)?;
    chat.rooms.look(&ticket.name, &ticket.key)?;
    Ok(StatusCode::NO_CONTENT)
}

impl From<NoEntry> for Refusal {
    fn from(error: NoEntry) -> Self {
        match error {
            NoEntry::Invalid => Self {
                status: StatusCode::BAD_REQUEST,
                message: "A name has up to 24 letters and digits, and may have spaces, dots, hyphens \
                          and apostrophes in between.",
            },
            NoEntry::Taken => Self {
                status: StatusCode::CONFLICT,
                message: "Somebody else has this name at the moment.",
            },
        }
    }
}

impl From<Refusal> for Rejection {
    fn from(Refusal { status, message }: Refusal) -> Self {
        Self::new(status, message)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.message).into_response();
        let header = match self.status {
            // So that a page of another site can say what is wrong. There is nothing else to read.
            StatusCode::FORBIDDEN => (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
            StatusCode::SERVICE_UNAVAILABLE => (header::RETRY_AFTER, "5"),
            _ => return response,
        };
        let (name, value) = header;
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
        response
    }
}
