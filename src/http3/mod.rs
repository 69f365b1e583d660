//! A server for HTTP/3 (RFC 9114) over quinn, for any tower service: the same [`UpgradeLayer`](crate::UpgradeLayer) stack
//! serves HTTP/1.1, HTTP/2 and HTTP/3.
//!
//! [`client::Http3`](crate::client::Http3) is its client side.
//!
//! ```no_run
//! use std::sync::Arc;
//! use tower_upgrade::{UpgradeLayer, http3};
//! # use tower_upgrade::handler_fn;
//!
//! # async fn example(
//! #     certificates: Vec<quinn::rustls::pki_types::CertificateDer<'static>>,
//! #     key: quinn::rustls::pki_types::PrivateKeyDer<'static>,
//! # ) -> Result<(), tower_upgrade::BoxError> {
//! # let echo = handler_fn(|_| async { Ok(()) });
//! let app = UpgradeLayer::new().protocol("echo", echo).into_service();
//!
//! let mut tls = quinn::rustls::ServerConfig::builder()
//!     .with_no_client_auth()
//!     .with_single_cert(certificates, key)?;
//! tls.alpn_protocols = vec![b"h3".to_vec()];
//! let tls = quinn::crypto::rustls::QuicServerConfig::try_from(tls)?;
//! let mut config = quinn::ServerConfig::with_crypto(Arc::new(tls));
//! config.transport_config(Arc::new(http3::transport_config()));
//! let endpoint = quinn::Endpoint::server(config, "[::]:443".parse()?)?;
//!
//! let mut listener = http3::Listener::new(endpoint);
//! while let Some(connection) = listener.accept().await {
//!     let connection = http3::Builder::new().serve_connection(connection, app.clone());
//!     tokio::spawn(async move {
//!         if let Err(error) = connection.await {
//!             eprintln!("the connection failed: {error}");
//!         }
//!     });
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Browsers learn of HTTP/3 from the field `Alt-Svc: h3=":443"` in responses over other versions. The example `echo`
//! serves all three versions of one app, with a graceful shutdown.
//!
//! # Sessions
//!
//! | over HTTP/3 | on the stream of the request |
//! |---|---|
//! | an extended CONNECT (RFC 9220), with any `:protocol` | the handler of that protocol, answered with 200 |
//! | a CONNECT (RFC 9114 §4.4) | the handler for CONNECT, answered with 200 |
//! | bytes of the session | DATA frames |
//! | the client ends its side | the end of the stream for the handler, which can still write |
//! | the handler shuts its side down, or the session ends | FIN |
//! | a session that [fails](crate::CloseReason::Failed), panics or is aborted | a reset with `H3_REQUEST_CANCELLED`, or `H3_CONNECT_ERROR` for a CONNECT, unless its protocol has an end, as WebSocket has |
//! | the client resets the stream | an error of kind [`ConnectionReset`](std::io::ErrorKind::ConnectionReset) for the handler |
//! | HTTP datagrams (RFC 9297), with the feature `datagram` | QUIC datagrams of `HttpDatagrams` |
//!
//! The end of one stream does not affect the others. A client that violates HTTP/3 loses the whole connection, as RFC 9114
//! requires: for example one that ends its stream within a frame.
//!
//! # Memory and flow control
//!
//! By default, the receive window of a connection of quinn has no limit. Use [`transport_config`], or keep its
//! proportions. [`Builder`] limits the size of heads and the time for their arrival, and closes idle connections. A
//! request body or a session that is not read stops its sender, and no other stream.
//!
//! # Shutdown
//!
//! [`Connection::graceful_shutdown`] sends GOAWAY, and closes the connection once the client has acknowledged the data of
//! all sessions, or at the deadline. Drain the sessions at the same time, as over the other versions
//! ([manual](crate::manual::stopping)). Then call `wait_idle` of the endpoint, so that the last packets leave.
//!
//! # Implementation
//!
//! The streams, their framing and the field compression are this crate's, over quinn. The alternatives in November 2026:
//!
//! | library | MSRV | license | not used because |
//! |---|---|---|---|
//! | h3 0.0.8 | 1.70 | MIT | rejects each `:protocol` other than `webtransport` and `connect-udp`; takes an empty DATA frame for the end of a stream; buffers a HEADERS frame of any length; accepts pseudo-header fields behind header fields and twice, and the fields of a connection; has no reset of one half |
//! | http3 0.2.0, a fork of h3 | 1.98 | Apache-2.0 | the MSRV; accepts four values of `:protocol` |
//! | tokio-quiche 0.20 | 1.88 | BSD-2-Clause | the MSRV; builds BoringSSL with CMake |
//! | s2n-quic 1.91 | 1.95 | Apache-2.0 | the MSRV; has no HTTP/3 |
//!
//! A layer under h3 could hide these, but would have to parse and rewrite all frames and field sections of a request before
//! h3 parses them again. Field sections use the static table of QPACK (RFC 9204) only: the settings allow no dynamic table.

mod body;
mod builder;
#[cfg(feature = "client")]
pub(crate) mod call;
mod code;
mod connection;
mod control;
#[cfg(feature = "datagram")]
mod datagrams;
mod error;
mod frame;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod head;
mod listener;
pub(crate) mod qpack;
mod request;
mod sender;
mod settings;
pub(crate) mod shared;
mod tunnel;

pub use self::{
    body::Body,
    builder::{Builder, transport_config},
    connection::Connection,
    error::{Error, ErrorKind},
    listener::Listener,
};
