//! The client's side.

use super::{WebSocket, codec::Codec, handshake, reader::Limits};
use crate::{
    client::{Error, Request, Session},
    error::BoxError,
    negotiate::{join, kind::UpgradeKind, websocket_key},
};
use http::{
    HeaderMap, HeaderValue, Uri,
    header::{self, IntoHeaderName},
    response,
};
use std::{future::poll_fn, time::Duration};
use tower_service::Service;
use tungstenite::protocol::Role;

/// Asks for a WebSocket, over any client that asks for upgrades: HTTP/1.1 (RFC 6455) or HTTP/2 (RFC 8441).
///
/// ```no_run
/// use hyper_util::client::legacy::connect::HttpConnector;
/// use tower::Layer as _;
/// use tower_upgrade::{
///     client::{Dial, UpgradeLayer},
///     websocket::{Message, WebSocketRequest},
/// };
///
/// # async fn example() -> Result<(), tower_upgrade::BoxError> {
/// let mut tcp = HttpConnector::new();
/// tcp.set_nodelay(true);
/// let client = UpgradeLayer::new().layer(Dial::new(tcp));
///
/// let request = WebSocketRequest::new("ws://127.0.0.1:3000/chat".parse()?).subprotocols(["chat"]);
/// let (mut socket, _response) = request.connect(client).await?;
/// socket.send("hello").await?;
/// while let Some(message) = socket.recv().await {
///     if let Message::Text(text) = message? {
///         println!("{text}");
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct WebSocketRequest {
    uri: Uri,
    headers: HeaderMap,
    subprotocols: Vec<HeaderValue>,
    limits: Limits,
    keep_alive: Option<Duration>,
}

impl WebSocketRequest {
    /// Asks for a WebSocket at `uri`, whose scheme is `ws`, `wss`, `http` or `https`.
    #[must_use]
    pub fn new(uri: Uri) -> Self {
        Self {
            uri,
            headers: HeaderMap::new(),
            subprotocols: Vec::new(),
            limits: Limits::default(),
            keep_alive: None,
        }
    }

    /// Offers subprotocols, the most wanted first.
    ///
    /// # Panics
    ///
    /// If one is no token (RFC 6455 §4.1).
    #[must_use]
    #[track_caller]
    pub fn subprotocols<I>(mut self, subprotocols: I) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        self.subprotocols = handshake::subprotocol_values(subprotocols)
            .map(|mut subprotocol| {
                // It may be a secret: it is not to be seen in a log.
                subprotocol.set_sensitive(true);
                subprotocol
            })
            .collect();
        self
    }

    /// Appends a header, such as `Authorization` or `Origin`.
    ///
    /// # Panics
    ///
    /// If `name` is a `&'static str` that is not a valid header name in lower case.
    #[must_use]
    pub fn header<K: IntoHeaderName>(mut self, name: K, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }

    /// Sets the longest message that the server may send, in bytes, in one frame or several. The default is 1 MiB. A
    /// longer message ends the WebSocket with 1009.
    #[must_use]
    pub fn max_message_size(mut self, bytes: usize) -> Self {
        self.limits.message = bytes;
        self
    }

    /// Pings a server that has been silent for `interval`, and gives it up if it stays silent for as long again: then
    /// [`recv`](WebSocket::recv) and [`send`](WebSocket::send) fail with kind [`Idle`](super::ErrorKind::Idle). A blocked
    /// `send` of which the server takes nothing counts as silence. By default there are no pings.
    ///
    /// On the client this works while the WebSocket is received from or sent to.
    ///
    /// # Panics
    ///
    /// If `interval` is zero.
    #[must_use]
    #[track_caller]
    pub fn keep_alive(mut self, interval: Duration) -> Self {
        assert!(!interval.is_zero(), "the interval of pings is zero");
        self.keep_alive = Some(interval);
        self
    }

    /// Asks, and returns the WebSocket with the head of the response.
    ///
    /// # Errors
    ///
    /// Those of the client, also through a layer around it; another error of such a layer is of kind
    /// [`Transport`](crate::client::ErrorKind::Transport), or [`Timeout`](crate::client::ErrorKind::Timeout). An answer whose `Sec-WebSocket-Accept` is wrong, or with a subprotocol or an
    /// extension that was not offered, is of kind [`Protocol`](crate::client::ErrorKind::Protocol) (RFC 6455
    /// §4.1).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped the request is cancelled.
    pub async fn connect<S>(self, mut client: S) -> Result<(WebSocket, response::Parts), Error>
    where
        S: Service<Request, Response = Session>,
        S::Error: Into<BoxError>,
    {
        let key = websocket_key::random_key();
        let mut request = Request::get(self.uri).protocol("websocket");
        let headers = request.http_mut().headers_mut();
        *headers = self.headers;
        headers.insert(
            header::SEC_WEBSOCKET_VERSION,
            HeaderValue::from_static(handshake::VERSION),
        );
        headers.insert(header::SEC_WEBSOCKET_KEY, key.clone());
        for subprotocol in &self.subprotocols {
            headers.append(header::SEC_WEBSOCKET_PROTOCOL, subprotocol.clone());
        }
        // One line, as browsers send it: many servers read no more than the first.
        join::lines(headers, &header::SEC_WEBSOCKET_PROTOCOL, ", ");
        let ready = poll_fn(|cx| client.poll_ready(cx)).await;
        ready.map_err(Error::transport)?;
        let session = client.call(request).await.map_err(Error::transport)?;
        let response = session.response();
        let key = (session.kind() == UpgradeKind::Upgrade).then_some(&key);
        let subprotocol = handshake::check_answer(&response.headers, key, &self.subprotocols)
            .map_err(|message| Error::protocol(message.into()))?
            .cloned();
        let response = response.clone();
        let codec = Codec::new(session.into_io(), Role::Client, self.limits);
        let socket = WebSocket::of_client(codec, self.keep_alive, subprotocol);
        Ok((socket, response))
    }
}
