//! A server in memory with scripted answers, for a client that connects again.

use crate::support::Peer;
use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex},
};
use tokio::{io::DuplexStream, sync::mpsc, time::Instant};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tower::{Layer as _, Service as _, service_fn};
use tower_upgrade::{
    BoxError,
    client::{Http1, UpgradeLayer},
    websocket::{
        Message, WebSocketRequest,
        reconnect::{Disconnected, Event, Reconnecting},
    },
};

/// The answer to an attempt.
#[derive(Clone, Copy)]
pub(crate) enum Answer {
    /// The connection is reset.
    Break,
    /// A response head.
    Refuse(&'static str),
    Accept,
    /// No response.
    Silence,
}

/// A server in memory. When the answers run out, it breaks the connections.
pub(crate) struct Script {
    peers: mpsc::UnboundedReceiver<Peer<DuplexStream>>,
    /// The time and the request head of each attempt.
    attempts: Arc<Mutex<Vec<(Instant, String)>>>,
}

pub(crate) fn request() -> WebSocketRequest {
    WebSocketRequest::new("ws://test/".parse().expect("a URI"))
}

/// Returns a client of a server with these answers.
pub(crate) fn script(answers: impl IntoIterator<Item = Answer>) -> (Reconnecting, Script) {
    let answers: VecDeque<_> = answers.into_iter().collect();
    let answers = Arc::new(Mutex::new(answers));
    let (accepted, peers) = mpsc::unbounded_channel();
    let attempts = Arc::new(Mutex::new(Vec::new()));
    let script = Script {
        peers,
        attempts: Arc::clone(&attempts),
    };
    let http = service_fn(move |request: http::Request<_>| {
        let answer = answers.lock().expect("no panic").pop_front();
        let accepted = accepted.clone();
        let head = format!("{:?}", request.headers());
        let attempt = (Instant::now(), head);
        attempts.lock().expect("no panic").push(attempt);
        async move {
            let (io, server) = tokio::io::duplex(1024);
            let mut peer = Peer::new(server);
            match answer.unwrap_or(Answer::Break) {
                Answer::Break => return Err(io::Error::from(io::ErrorKind::ConnectionReset).into()),
                answer => tokio::spawn(async move {
                    let head = peer.request_head().await;
                    match answer {
                        Answer::Refuse(head) => {
                            let response = format!("HTTP/1.1 {head}\r\ncontent-length: 0\r\n\r\n");
                            peer.send(response).await;
                        }
                        Answer::Accept => {
                            accept(&mut peer, &head).await;
                            let _ = accepted.send(peer);
                        }
                        _ => std::future::pending().await,
                    }
                }),
            };
            let response = Http1::handshake(io).await?.call(request).await?;
            Ok::<_, BoxError>(response)
        }
    });
    let client = UpgradeLayer::new().layer(http);
    (Reconnecting::new(client, request()), script)
}

async fn accept(peer: &mut Peer<DuplexStream>, head: &str) {
    let key = head.split("sec-websocket-key: ").nth(1).expect("a key");
    let key = key.split("\r\n").next().expect("a line");
    let accept = derive_accept_key(key.as_bytes());
    let response = "HTTP/1.1 101 S\r\nconnection: upgrade\r\nupgrade: websocket\r\n";
    let head = format!("{response}sec-websocket-accept: {accept}\r\n\r\n");
    peer.send(head).await;
}

impl Script {
    pub(crate) fn peer(&mut self) -> Peer<DuplexStream> {
        self.peers.try_recv().expect("an accepted connection")
    }

    pub(crate) fn attempts(&self) -> Vec<Instant> {
        let attempts = self.attempts.lock().expect("no panic");
        attempts.iter().map(|(at, _)| *at).collect()
    }

    pub(crate) fn heads(&self) -> Vec<String> {
        let attempts = self.attempts.lock().expect("no panic");
        attempts.iter().map(|(_, head)| head.clone()).collect()
    }
}

#[track_caller]
pub(crate) fn connected(socket: &mut Reconnecting) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        match socket.recv().await {
            Some(Event::Connected(_)) => {}
            event => panic!("{event:?} at {caller}"),
        }
    }
}

#[track_caller]
pub(crate) fn text(socket: &mut Reconnecting) -> impl Future<Output = String> {
    let caller = std::panic::Location::caller();
    async move {
        match socket.recv().await {
            Some(Event::Message(Message::Text(text))) => text.to_string(),
            event => panic!("{event:?} at {caller}"),
        }
    }
}

#[track_caller]
pub(crate) fn disconnected(socket: &mut Reconnecting) -> impl Future<Output = Disconnected> {
    let caller = std::panic::Location::caller();
    async move {
        match socket.recv().await {
            Some(Event::Disconnected(failure)) => failure,
            event => panic!("{event:?} at {caller}"),
        }
    }
}
