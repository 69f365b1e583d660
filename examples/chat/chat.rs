//! The handler: admission, and messages between a session's WebSocket and the rooms.

use crate::{
    log::Position,
    rooms::{Member, NameError, Rooms},
    store::StoreError,
};
use axum::{
    extract::{Extension, Query, State},
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, Version, header, request::Parts};
use serde::Deserialize;
use std::{fmt, net::SocketAddr};
use tower_upgrade::{
    Accept, BoxError, Identity, ProtocolHandler, Rejection, Sessions, UpgradeRequest,
    websocket::{self, CloseFrame, ErrorKind, Message, WebSocket, WebSocketUpgrade},
};

// Close codes, and how the page reacts.

/// The server is stopping. The page reconnects.
const GOING_AWAY: u16 = 1001;
/// The client has sent a binary message, which the page never does.
const UNSUPPORTED: u16 = 1003;
/// The page has read too slowly, or the store is away. The page reconnects.
pub(crate) const TRY_AGAIN_LATER: u16 = 1013;
/// The same user has connected again. The page does not reconnect.
pub(crate) const REPLACED: u16 = 4001;
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
pub(crate) struct Params {
    name: String,
    /// A secret of the page, to reclaim its name at once after its connection broke.
    #[serde(default)]
    key: String,
    #[serde(default)]
    room: String,
    /// The last message of the room that the page has.
    epoch: Option<String>,
    offset: Option<u64>,
}

/// The identity of a session.
#[derive(PartialEq, Eq, Hash)]
pub(crate) struct User {
    name: String,
    /// The HTTP version of the connection.
    pub(crate) version: Version,
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)
    }
}

pub(crate) struct Refusal {
    status: StatusCode,
    message: &'static str,
}

impl Params {
    fn of(parts: &Parts) -> Result<Self, Refusal> {
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(params)) => Ok(params),
            Err(_) => Err(NameError::Invalid.into()),
        }
    }

    fn position(&self) -> Option<Position> {
        Some(Position {
            epoch: self.epoch.clone()?,
            offset: self.offset?,
        })
    }
}

impl Chat {
    /// Checks the session limits as the layer does before it calls the handler.
    fn check_limits(&self, peer: SocketAddr) -> Result<(), Refusal> {
        let sessions = self.sessions.list();
        let peers = sessions.iter().filter_map(|session| session.peer());
        let same_address = peers.filter(|other| other.ip() == peer.ip()).count();
        let message = if self.sessions.is_draining() {
            "The server is stopping."
        } else if self.sessions.len() >= self.limits.sessions {
            "The chat is full."
        } else if same_address >= self.limits.sessions_per_address {
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
    /// Checks the request here, where a refusal is still an HTTP response, and reserves the name. If the session does
    /// not start, the layer drops the session handler with its `member`, which frees the name.
    async fn accept(&self, request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        let handshake = self.upgrade.check(request)?;
        let params = Params::of(request.parts())?;
        let member = self
            .rooms
            .reserve(&params.name, &params.key)
            .await
            .map_err(Refusal::from)?;
        let sessions = self.sessions.clone();
        let identity = Identity::new(User {
            name: params.name.clone(),
            version: request.parts().version,
        });
        let accept = handshake.accept(move |socket, session| async move {
            // Free the memory of the request's extensions.
            drop(session);
            match run(socket, member, sessions, params).await {
                // A lost or slow connection is a normal end of a chat session.
                Err(error) if is_disconnect(&error) => Ok(()),
                ended => ended,
            }
        });
        // For the administration page, the log, and `on_close`.
        Ok(accept.identity(identity))
    }
}

async fn run(
    mut socket: WebSocket,
    member: Member,
    sessions: Sessions,
    params: Params,
) -> Result<(), BoxError> {
    // Without `take_stop` the socket closes with 1001 on each stop signal, also on an administrator's.
    let mut stop = socket.take_stop();
    let position = params.position();
    let started = member.start(&params.room, position.as_ref(), &socket);
    if let Err(error) = started.await {
        drop(member);
        let close = CloseFrame::new(TRY_AGAIN_LATER, error.reason());
        return Ok(socket.close(close).await?);
    }
    drop((params, position));
    let (code, reason) = loop {
        tokio::select! {
            message = socket.recv() => match message.transpose()? {
                Some(Message::Text(text)) => member.handle(&text, &socket).await?,
                Some(Message::Binary(_)) => break (UNSUPPORTED, "expected a text message"),
                // The session answers pings, and writes broadcasts.
                Some(Message::Ping(_) | Message::Pong(_)) => {}
                Some(Message::Close(_)) | None => return Ok(()),
            },
            () = &mut stop => break match sessions.is_draining() {
                true => (GOING_AWAY, "the server is stopping"),
                false => (REMOVED, "closed by an administrator"),
            },
        }
    };
    // Free the name and update the other members now: the client may take long to answer the close frame.
    drop(member);
    Ok(socket.close(CloseFrame::new(code, reason)).await?)
}

fn is_disconnect(error: &BoxError) -> bool {
    error
        .downcast_ref::<websocket::Error>()
        .is_some_and(|error| matches!(error.kind(), ErrorKind::Io | ErrorKind::TooSlow))
}

/// Responds with the reason for which the server would refuse the page's WebSocket: a page cannot read the response
/// that refuses a WebSocket.
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
    let params = Params::of(&parts)?;
    chat.check_limits(peer)?;
    chat.rooms.check_name(&params.name, &params.key).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl From<NameError> for Refusal {
    fn from(error: NameError) -> Self {
        match error {
            NameError::Invalid => Self {
                status: StatusCode::BAD_REQUEST,
                message: "A name has up to 24 letters and digits, and may have spaces, dots, hyphens \
                          and apostrophes in between.",
            },
            NameError::Store(error) => Self {
                status: match error {
                    StoreError::NameTaken => StatusCode::CONFLICT,
                    StoreError::TooManyRooms | StoreError::Unavailable => {
                        StatusCode::SERVICE_UNAVAILABLE
                    }
                },
                message: error.reason(),
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
            // Allow pages of other sites to read the reason, which is all that the response contains.
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
