//! The handler of the chat: admission, and messages between a session's WebSocket and the rooms.

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

// Close codes, and the page's reaction.

/// The server is stopping. The page reconnects.
const GOING_AWAY: u16 = 1001;
/// The client has sent a binary message, which the chat page does not do.
const UNSUPPORTED: u16 = 1003;
/// The page has read too slowly. It reconnects.
const TRY_AGAIN_LATER: u16 = 1013;
/// The same user has connected again. The page does not reconnect.
const REPLACED: u16 = 4001;
/// An administrator has closed the session. The page reconnects only at its user's request.
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

/// The query of a WebSocket request. A browser's WebSocket API cannot set headers.
#[derive(Deserialize)]
pub(crate) struct Ticket {
    name: String,
    /// A secret of the page, which lets it reclaim its name at once after its connection broke.
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
    /// Predicts the answer of the session limits, which the layer checks before it calls the handler.
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
    /// Checks everything here, where a refusal is still a response with a status, and takes the name. If the
    /// session never starts, the layer drops the member, which frees the name.
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
            // The session keeps the request's extensions in memory.
            drop(session);
            match talk(socket, member, sessions).await {
                // A lost connection is a normal end of a chat session.
                Err(error) if has_left(&error) => Ok(()),
                ended => ended,
            }
        });
        // For the administration page, the log, and `on_close`.
        Ok(accept.identity(identity))
    }
}

async fn talk(
    mut socket: WebSocket,
    mut member: Member,
    sessions: Sessions,
) -> Result<(), BoxError> {
    // Without `take_stop` the socket would close with 1001 for an administrator's request too.
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
                // The socket has already answered the ping.
                Some(Message::Ping(_) | Message::Pong(_)) => {}
                Some(Message::Close(_)) | None => return Ok(()),
            },
            () = &mut stop => break match sessions.is_draining() {
                true => (GOING_AWAY, "the server is about to stop"),
                false => (REMOVED, "closed by an administrator"),
            },
        }
    };
    // Free the name and tell the other members now: the client may take long to answer the close frame.
    drop(member);
    Ok(socket.close(CloseFrame::new(code, reason)).await?)
}

fn has_left(error: &BoxError) -> bool {
    error
        .downcast_ref::<websocket::Error>()
        .is_some_and(|error| error.kind() == ErrorKind::Io)
}

/// Tells a page whether its WebSocket would be accepted, and if not, why: browsers do not give a page the
/// response that refuses a WebSocket.
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
            // Lets a page of another site read the reason. The response contains nothing else.
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
