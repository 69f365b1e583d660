//! The compared servers and their clients.

use crate::{
    support::{self, Client, not_found, serve},
    websockets::{self, Frame, serve_axum, serve_governed_axum, serve_websocket},
};
use bytes::Bytes;
use fastwebsockets::{FragmentCollector, OpCode};
use futures_util::{SinkExt as _, StreamExt as _};
use http::{Request, Response, StatusCode, header};
use http_body_util::{Empty, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use std::{convert::Infallible, io, net::SocketAddr, str::FromStr, sync::Arc};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tower::service_fn;
use tower_upgrade::BoxError;

/// The compared servers. hyper serves the connections of all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// hyper's `upgrade::on` and `tokio::io::copy`, which echo bytes instead of messages.
    Hyper,
    /// `UpgradeLayer`, and a handler that copies with `tower_upgrade::copy`.
    Ours,
    /// axum's `WebSocketUpgrade`.
    Axum,
    /// The same, under an `UpgradeLayer` that governs it, with a registry.
    AxumGoverned,
    HyperTungstenite,
    FastWebSockets,
    TokioWebSockets,
    /// The handler `websocket` of this crate.
    OursWebSocket,
}

impl Side {
    /// All sides. Ratios are relative to the first.
    pub(crate) const ALL: [Self; 8] = [
        Self::Hyper,
        Self::Ours,
        Self::Axum,
        Self::AxumGoverned,
        Self::HyperTungstenite,
        Self::FastWebSockets,
        Self::TokioWebSockets,
        Self::OursWebSocket,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Hyper => "hyper",
            Self::Ours => "ours",
            Self::Axum => "axum",
            Self::AxumGoverned => "axum-governed",
            Self::HyperTungstenite => "hyper-tungstenite",
            Self::FastWebSockets => "fastwebsockets",
            Self::TokioWebSockets => "tokio-websockets",
            Self::OursWebSocket => "ours-websocket",
        }
    }

    /// Returns the name in the table and in the picture.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Hyper => "hyper alone",
            Self::Ours => "tower-upgrade",
            Self::OursWebSocket => "tower-upgrade websocket",
            Self::AxumGoverned => "axum, governed",
            Self::Axum | Self::HyperTungstenite | Self::FastWebSockets | Self::TokioWebSockets => {
                self.name()
            }
        }
    }

    pub(crate) fn is_ours(self) -> bool {
        matches!(self, Self::Ours | Self::OursWebSocket)
    }

    fn is_websocket(self) -> bool {
        !matches!(self, Self::Hyper | Self::Ours)
    }

    pub(crate) async fn serve(self, listener: TcpListener) -> io::Result<()> {
        match self {
            Self::Hyper => support::Side::Raw.serve(listener).await,
            Self::Ours => support::Side::Layer.serve(listener).await,
            Self::Axum => serve_axum(listener).await,
            Self::AxumGoverned => serve_governed_axum(listener).await,
            Self::HyperTungstenite => serve(listener, service_fn(hyper_tungstenite)).await,
            Self::FastWebSockets => serve(listener, service_fn(fastwebsockets)).await,
            Self::TokioWebSockets => serve(listener, service_fn(tokio_websockets)).await,
            Self::OursWebSocket => serve_websocket(listener).await,
        }
    }

    pub(crate) async fn connect(self, server: SocketAddr) -> io::Result<Client> {
        if self.is_websocket() {
            websockets::connect(server).await
        } else {
            Client::connect(server).await
        }
    }

    /// Returns the frame that clients send. All sides get the same bytes; WebSocket servers answer without the
    /// mask.
    pub(crate) fn frame(self, bytes: usize) -> Arc<Frame> {
        Frame::new(!self.is_websocket(), bytes)
    }
}

impl FromStr for Side {
    type Err = BoxError;

    fn from_str(name: &str) -> Result<Self, BoxError> {
        let side = Self::ALL.into_iter().find(|side| side.name() == name);
        side.ok_or_else(|| format!("no such server: {name}").into())
    }
}

/// An echo as in the documentation of hyper-tungstenite.
async fn hyper_tungstenite(
    mut request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if !hyper_tungstenite::is_upgrade_request(&request) {
        return Ok(not_found().map(|_| Full::default()));
    }
    let Ok((response, upgrade)) = hyper_tungstenite::upgrade(&mut request, None) else {
        return Ok(bad_request().map(|_| Full::default()));
    };
    tokio::spawn(async move {
        let mut socket = upgrade.await?;
        while let Some(message) = socket.next().await {
            let message = message?;
            if message.is_text() || message.is_binary() {
                socket.send(message).await?;
            }
        }
        Ok::<_, BoxError>(())
    });
    Ok(response)
}

/// The echo example of fastwebsockets, without `unconstrained`, which the other sides do not use either.
async fn fastwebsockets(
    mut request: Request<Incoming>,
) -> Result<Response<Empty<Bytes>>, Infallible> {
    if !fastwebsockets::upgrade::is_upgrade_request(&request) {
        return Ok(not_found());
    }
    let Ok((response, upgrade)) = fastwebsockets::upgrade::upgrade(&mut request) else {
        return Ok(bad_request());
    };
    tokio::spawn(async move {
        let mut socket = FragmentCollector::new(upgrade.await?);
        loop {
            let frame = socket.read_frame().await?;
            match frame.opcode {
                OpCode::Close => return Ok::<_, BoxError>(()),
                OpCode::Text | OpCode::Binary => socket.write_frame(frame).await?,
                OpCode::Continuation | OpCode::Ping | OpCode::Pong => {}
            }
        }
    });
    Ok(response)
}

/// The echo of tokio-websockets, which has no handshake for hyper without more features.
async fn tokio_websockets(
    mut request: Request<Incoming>,
) -> Result<Response<Empty<Bytes>>, Infallible> {
    let Some(key) = request.headers().get(header::SEC_WEBSOCKET_KEY) else {
        return Ok(not_found());
    };
    let accept = derive_accept_key(key.as_bytes());
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let io = TokioIo::new(upgrade.await?);
        let mut socket = tokio_websockets::ServerBuilder::new().serve(io);
        while let Some(message) = socket.next().await {
            let message = message?;
            if message.is_text() || message.is_binary() {
                socket.send(message).await?;
            }
        }
        Ok::<_, BoxError>(())
    });
    let response = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_ACCEPT, accept);
    Ok(response.body(Empty::new()).expect("valid headers"))
}

fn bad_request() -> Response<Empty<Bytes>> {
    let mut response = Response::new(Empty::new());
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response
}
