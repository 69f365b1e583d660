//! The client side of a WebSocket.

use super::{WebSocket, codec::Codec, handshake, reader::Limits};
use crate::{
    client::{Error, Request, Session},
    error::BoxError,
    negotiate::{join, kind::UpgradeKind, websocket_key},
    service,
};
use http::{
    HeaderMap, HeaderValue, Uri,
    header::{self, IntoHeaderName},
    response,
};
use std::time::Duration;
use tower_service::Service;
use tungstenite::protocol::Role;

/// A request for a WebSocket over HTTP/1.1 (RFC 6455) or HTTP/2 (RFC 8441), for any client service that supports
/// upgrades.
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
    /// Creates a request for a WebSocket at `uri`, whose scheme is `ws`, `wss`, `http` or `https`.
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

    /// Sets the offered subprotocols, in order of preference.
    ///
    /// # Panics
    ///
    /// If a subprotocol is not a token (RFC 6455 §4.1).
    #[must_use]
    #[track_caller]
    pub fn subprotocols<I>(mut self, subprotocols: I) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        self.subprotocols = handshake::subprotocol_values(subprotocols)
            .map(|mut subprotocol| {
                // A subprotocol may be a secret, which must not appear in a log.
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

    /// Sets the longest message that the server may send, in bytes, in one frame or several. The default is 1 MiB.
    ///
    /// A longer message closes the WebSocket with 1009.
    #[must_use]
    pub fn max_message_size(mut self, bytes: usize) -> Self {
        self.limits.message = bytes;
        self
    }

    /// Pings a server that has been silent for `interval`, and ends the WebSocket if the server stays silent for
    /// another `interval`. By default the client sends no pings.
    ///
    /// Then [`recv`](WebSocket::recv) and [`send`](WebSocket::send) fail with kind [`Idle`](super::ErrorKind::Idle).
    /// The server also counts as silent while a `send` is blocked and the server reads nothing.
    ///
    /// On the client the pings depend on polling: they run only while a task receives from the WebSocket or sends to
    /// it.
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

    /// Sends the request, and returns the WebSocket with the head of the response.
    ///
    /// # Errors
    ///
    /// - The errors of the client, also through layers around it.
    /// - Any other error of such a layer has kind [`Transport`](crate::client::ErrorKind::Transport), or
    ///   [`Timeout`](crate::client::ErrorKind::Timeout).
    /// - A response with a wrong `Sec-WebSocket-Accept`, or with a subprotocol or an extension that was not offered,
    ///   has kind [`Protocol`](crate::client::ErrorKind::Protocol) (RFC 6455 §4.1).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the request.
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
        // One header line, as browsers send it: many servers read only the first line.
        join::lines(headers, &header::SEC_WEBSOCKET_PROTOCOL, ", ");
        let session = service::call(&mut client, request).await;
        let session = session.map_err(Error::transport)?;
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
