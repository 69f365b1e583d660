//! A server for HTTP/3 (RFC 9114) over quinn, for any tower service: the same [`UpgradeLayer`](crate::UpgradeLayer) stack
//! serves HTTP/1.1, HTTP/2 and HTTP/3.
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
