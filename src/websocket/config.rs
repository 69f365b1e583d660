//! The settings of a WebSocket.

use super::{
    RateLimit,
    deflate::Deflate,
    handshake,
    origin::{Origin, Policy},
    reader::Limits,
};
use http::HeaderValue;
use std::{sync::Arc, time::Duration};

/// The settings of a WebSocket, on the server and on the client.
///
/// [`websocket`](super::websocket()) handlers, the `WebSocketUpgrade` extractor for axum and client requests take this
/// type in their method `config`. Clones share the lists of subprotocols and origins.
///
/// ```
/// use std::time::Duration;
/// use tower_upgrade::websocket::{WebSocketConfig, websocket};
///
/// const CONFIG: WebSocketConfig = WebSocketConfig::new()
///     .max_message_size(64 * 1024)
///     .keep_alive(Duration::from_secs(30));
///
/// let news = websocket(|_socket, _session| async { Ok(()) }).config(CONFIG);
/// let chat = websocket(|_socket, _session| async { Ok(()) })
///     .config(CONFIG.subprotocols(["chat.v2", "chat.v1"]).origins(["https://example.com"]));
/// ```
#[derive(Clone, Debug)]
#[must_use = "the settings apply to the handler, extractor or request whose `config` method takes them"]
pub struct WebSocketConfig {
    /// Marked as sensitive: a client may offer a secret as a subprotocol.
    subprotocols: Option<Arc<[HeaderValue]>>,
    server_decides: bool,
    pub(super) origins: Policy,
    pub(super) limits: Limits,
    pub(super) deflate: Option<Deflate>,
    pub(super) rate_limit: Option<RateLimit>,
    pub(super) keep_alive: Option<Duration>,
}

impl WebSocketConfig {
    /// Creates the default settings: messages of up to 1 MiB, pages of the same origin, no subprotocol, no compression,
    /// no rate limit and no pings.
    pub const fn new() -> Self {
        Self {
            subprotocols: None,
            server_decides: false,
            origins: Policy::SameOrigin,
            limits: Limits {
                message: 1024 * 1024,
            },
            deflate: None,
            rate_limit: None,
            keep_alive: None,
        }
    }

    /// Sets the subprotocols that the client offers or the server supports, in order of preference. The default is
    /// none.
    ///
    /// The server chooses the first supported subprotocol in the client's order. If the client offers no supported
    /// subprotocol, the handshake succeeds without one.
    ///
    /// # Panics
    ///
    /// If a subprotocol is not a token (RFC 6455 §4.1).
    #[track_caller]
    pub fn subprotocols<I>(mut self, subprotocols: I) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        self.subprotocols = Some(handshake::subprotocol_values(subprotocols).collect());
        self
    }

    /// Chooses the subprotocol by the server's order of preference instead of the client's.
    ///
    /// A client ignores this setting.
    pub const fn prefer_own_subprotocols(mut self) -> Self {
        self.server_decides = true;
        self
    }

    /// Sets the origins of pages that may open a WebSocket, such as `https://example.com`. The server rejects all other
    /// origins with 403.
    ///
    /// By default the server allows an origin whose host and port equal those of the request. If the request has a
    /// scheme, as over HTTP/2, the schemes must also be equal. A request without `Origin` does not come from a page,
    /// and is always allowed.
    ///
    /// Set the origins explicitly on a server
    ///
    /// - behind a proxy that changes `Host` or the scheme;
    /// - with TLS, where by default an `http` page may open a WebSocket over HTTP/1.1;
    /// - that trusts every client that can connect ([the manual](crate::manual::threats#cross-site-websocket-hijacking)
    ///   explains why).
    ///
    /// The check matters because a browser sends the user's cookies with a request from any page (RFC 6455 §10.2).
    ///
    /// A client ignores this setting, and sends an `Origin` only if the request sets that header.
    ///
    /// # Panics
    ///
    /// If an origin is not `scheme://host` or `scheme://host:port`.
    #[track_caller]
    pub fn origins<I>(mut self, origins: I) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let parse = |origin: I::Item| match Origin::parse(origin.as_ref()) {
            Some(origin) => origin,
            None => panic!(
                "{:?} is not an origin: expected scheme://host",
                origin.as_ref()
            ),
        };
        self.origins = Policy::List(origins.into_iter().map(parse).collect());
        self
    }

    /// Allows pages of any origin, including `null`, to open a WebSocket.
    ///
    /// Use this only for a public service that does not identify clients by a cookie or an address. A client ignores
    /// this setting.
    pub fn any_origin(mut self) -> Self {
        self.origins = Policy::Any;
        self
    }

    /// Sets the maximum size of a received message, in bytes, summed over its frames. The default is 1 MiB.
    /// The limit holds for a compressed message before and after decompression.
    ///
    /// A longer message closes the WebSocket with 1009 (RFC 6455 §7.4.1). The frame header that exceeds the limit
    /// suffices: the payload of that frame is not read. A message takes memory as it arrives, so choose a limit that the
    /// machine can afford for each session.
    pub const fn max_message_size(mut self, bytes: usize) -> Self {
        self.limits.message = bytes;
        self
    }

    /// Enables compression of messages if the peer enables it too: see [`Deflate`]. By default messages are not
    /// compressed.
    #[cfg(feature = "deflate")]
    pub const fn deflate(mut self, deflate: Deflate) -> Self {
        self.deflate = Some(deflate);
        self
    }

    /// Limits the rate at which the peer may send messages: see [`RateLimit`]. By default the rate is not limited.
    pub const fn rate_limit(mut self, limit: RateLimit) -> Self {
        self.rate_limit = Some(limit);
        self
    }

    /// Pings a peer that has been silent for `interval`, and ends the WebSocket if the peer stays silent for another
    /// `interval`. By default no pings are sent.
    ///
    /// A peer is silent if
    ///
    /// - a ping was sent, and nothing arrived for an interval; or
    /// - a [`send`](super::WebSocket::send) is blocked, and the peer read none of its bytes for an interval. A slow
    ///   reader is not silent.
    ///
    /// Then sending and receiving fail with kind [`Idle`](super::ErrorKind::Idle) in all tasks. Detection takes up to
    /// three intervals after the last sign of life from the peer.
    ///
    /// On the server, the session sends pings and checks for answers even while the handler does not use the WebSocket.
    /// The session of a silent client ends with the close reason [`Idle`](crate::CloseReason::Idle). If the handler has
    /// not ended after [`shutdown_timeout`](crate::UpgradeLayer::shutdown_timeout), the session aborts the handler.
    ///
    /// If the handler does not receive, the session reads in its place: the session answers pings, and keeps one
    /// message for the next [`recv`](super::WebSocket::recv). While that message waits, the session reads nothing more,
    /// and only a blocked write can make the client count as silent.
    ///
    /// On the client, pings are sent and checked only while a task receives from the WebSocket or sends to it.
    ///
    /// # Panics
    ///
    /// If `interval` is zero.
    #[track_caller]
    pub const fn keep_alive(mut self, interval: Duration) -> Self {
        assert!(!interval.is_zero(), "the keep-alive interval is zero");
        self.keep_alive = Some(interval);
        self
    }

    /// Returns the first supported subprotocol among the offered ones.
    pub(super) fn choose(&self, offered: &[&str]) -> Option<&HeaderValue> {
        let supported = self.subprotocol_list();
        if self.server_decides {
            let is_offered = |value: &&HeaderValue| offered.iter().any(|name| *value == name);
            supported.iter().find(is_offered)
        } else {
            offered
                .iter()
                .find_map(|name| supported.iter().find(|value| *value == name))
        }
    }

    /// Returns the subprotocols, in order of preference.
    pub(super) fn subprotocol_list(&self) -> &[HeaderValue] {
        self.subprotocols.as_deref().unwrap_or_default()
    }
}

impl Default for WebSocketConfig {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: WebSocketConfig = WebSocketConfig::new()
        .max_message_size(10)
        .keep_alive(Duration::from_secs(1))
        .rate_limit(RateLimit::new(1).burst(Duration::ZERO).close());

    #[test]
    fn settings_of_both_sides_can_be_a_constant() {
        let config = CONFIG.subprotocols(["chat"]);
        assert_eq!(config.limits.message, 10);
        assert_eq!(config.keep_alive, Some(Duration::from_secs(1)));
        assert!(config.rate_limit.is_some());
    }

    #[test]
    fn debug_output_hides_subprotocols() {
        let config = WebSocketConfig::new().subprotocols(["bearer.0123456789"]);
        assert!(!format!("{config:?}").contains("0123456789"), "{config:?}");
    }

    #[test]
    fn first_offered_subprotocol_is_chosen_unless_the_server_decides() {
        let config = WebSocketConfig::new().subprotocols(["b", "a"]);
        let offered = ["x", "a", "b"];
        assert_eq!(
            config.choose(&offered),
            Some(&HeaderValue::from_static("a"))
        );
        let config = config.prefer_own_subprotocols();
        assert_eq!(
            config.choose(&offered),
            Some(&HeaderValue::from_static("b"))
        );
        assert_eq!(config.choose(&["x"]), None);
        assert_eq!(WebSocketConfig::new().choose(&offered), None);
    }

    #[test]
    #[should_panic = "\"a b\" is not a subprotocol"]
    fn subprotocol_that_is_not_a_token_panics() {
        let _config = WebSocketConfig::new().subprotocols(["a", "a b"]);
    }

    #[test]
    #[should_panic = "\"example.com\" is not an origin"]
    fn origin_without_a_scheme_panics() {
        let _config = WebSocketConfig::new().origins(["example.com"]);
    }

    #[test]
    #[should_panic = "the keep-alive interval is zero"]
    fn keep_alive_interval_of_zero_panics() {
        let _config = WebSocketConfig::new().keep_alive(Duration::ZERO);
    }
}
