//! The client side of a WebSocket.

use super::{WebSocket, WebSocketConfig, codec::Codec, deflate::Deflate, handshake};
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
use tower_service::Service;
use tungstenite::protocol::Role;

/// A request for a WebSocket over HTTP/1.1 (RFC 6455) or HTTP/2 (RFC 8441), for any client service that supports
/// upgrades. [`Reconnecting`](super::reconnect::Reconnecting) sends it again after a failure.
///
/// ```no_run
/// use hyper_util::client::legacy::connect::HttpConnector;
/// use tower::Layer as _;
/// use tower_upgrade::{
///     client::{Dial, UpgradeLayer},
///     websocket::{Message, WebSocketConfig, WebSocketRequest},
/// };
///
/// # async fn example() -> Result<(), tower_upgrade::BoxError> {
/// let mut tcp = HttpConnector::new();
/// tcp.set_nodelay(true);
/// let client = UpgradeLayer::new().layer(Dial::new(tcp));
///
/// let request = WebSocketRequest::new("ws://127.0.0.1:3000/chat".parse()?)
///     .config(WebSocketConfig::new().subprotocols(["chat"]));
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
    config: WebSocketConfig,
}

impl WebSocketRequest {
    /// Creates a request for a WebSocket at `uri`, whose scheme is `ws`, `wss`, `http` or `https`.
    #[must_use]
    pub fn new(uri: Uri) -> Self {
        Self {
            uri,
            headers: HeaderMap::new(),
            config: WebSocketConfig::new(),
        }
    }

    /// Sets the settings of the handshake and of the WebSocket. The default is [`WebSocketConfig::new`].
    #[must_use]
    pub fn config(mut self, config: WebSocketConfig) -> Self {
        self.config = config;
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

    /// Sends the request, and returns the WebSocket with the head of the response.
    ///
    /// # Errors
    ///
    /// - An error of the client keeps its kind, also if a layer around the client has wrapped the error.
    /// - Another error of such a layer has kind [`Timeout`](crate::client::ErrorKind::Timeout) if a time limit has
    ///   passed, and otherwise [`Transport`](crate::client::ErrorKind::Transport).
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
        let offered = self.config.subprotocol_list();
        for subprotocol in offered {
            headers.append(header::SEC_WEBSOCKET_PROTOCOL, subprotocol.clone());
        }
        // One header line, as browsers send it: many servers read only the first line.
        join::lines(headers, &header::SEC_WEBSOCKET_PROTOCOL, ", ");
        let deflate = self.config.deflate.map(Deflate::offer);
        if let Some(offer) = &deflate {
            headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, offer.value());
        }
        let session = service::call(&mut client, request).await;
        let session = session.map_err(Error::transport)?;
        let response = session.response();
        let key = (session.kind() == UpgradeKind::Upgrade).then_some(&key);
        let subprotocol = handshake::check_answer(&response.headers, key, offered)
            .map_err(|message| Error::protocol(message.into()))?
            .cloned();
        let compression = match deflate {
            Some(offer) => offer.check(&response.headers),
            None => handshake::check_no_extension(&response.headers).map(|()| None),
        };
        let compression = compression.map_err(|message| Error::protocol(message.into()))?;
        let response = response.clone();
        let limits = self.config.limits;
        let codec = Codec::new(session.into_io(), Role::Client, limits, compression);
        let socket = WebSocket::for_client(codec, &self.config, subprotocol);
        Ok((socket, response))
    }
}
