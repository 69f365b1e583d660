//! The settings of a server for HTTP/3.

use super::{
    body::Body,
    connection::{Connection, Settings},
    request::RequestLimits,
};
use crate::{error::BoxError, time};
use http::{Request, Response};
use quinn::{IdleTimeout, TransportConfig, VarInt};
use std::time::Duration;
use tower_service::Service;

/// Serves HTTP/3 on QUIC connections.
#[derive(Clone, Debug)]
pub struct Builder {
    settings: Settings,
}

impl Builder {
    /// Creates a builder with the default settings.
    #[must_use]
    pub fn new() -> Self {
        Self {
            settings: Settings {
                limits: RequestLimits {
                    max_head_size: 16 * 1024,
                    head_timeout: Duration::from_secs(30),
                },
                idle_timeout: Duration::from_secs(60),
            },
        }
    }

    /// Sets the maximum size of a request head, and of the trailers of a request, in bytes: the sum of the names, the
    /// values, and 32 for each field (RFC 9114 §4.2.2).
    ///
    /// The default is 16 KiB. A larger head is answered with 431, and larger trailers reset their stream.
    #[must_use]
    pub fn max_head_size(mut self, bytes: usize) -> Self {
        self.settings.limits.max_head_size = bytes;
        self
    }

    /// Sets the time limit for the arrival of a request head, from the first byte of its stream. The stream is reset
    /// when the limit is exceeded.
    ///
    /// The default is 30 seconds; `None` disables the limit.
    #[must_use]
    pub fn head_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.settings.limits.head_timeout = time::limit(timeout.into());
        self
    }

    /// Sets the time after which a connection without requests and sessions is closed, with GOAWAY.
    ///
    /// The default is 60 seconds; `None` disables the limit. QUIC has an idle timeout, too, after which a connection is
    /// lost: with [`transport_config`], packets that keep the connection alive prevent it.
    #[must_use]
    pub fn idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.settings.idle_timeout = time::limit(timeout.into());
        self
    }

    /// Serves a connection. Await the returned [`Connection`], for example in a task.
    ///
    /// The service is called for each request, in a clone and in a task of its request. Requests have:
    ///
    /// | part | value |
    /// |---|---|
    /// | version | [`HTTP_3`](http::Version::HTTP_3) |
    /// | extension [`SocketAddr`](std::net::SocketAddr) | the client's address when the request arrived |
    /// | extension [`PendingUpgrade`](crate::PendingUpgrade) | for the method CONNECT |
    /// | extension [`hyper::ext::Protocol`] | the `:protocol` of an extended CONNECT (RFC 9220) |
    /// | extension `datagram::QuicDatagrams` (feature `datagram`) | for an extended CONNECT |
    ///
    /// The lines of a `Cookie` are joined (RFC 9114 §4.2.1). A client that sends `Expect: 100-continue` gets its 100 when
    /// the service first reads the body. `Date` is added to responses. A request in 0-RTT with an unsafe method is
    /// answered with 425 (RFC 8470), since an attacker can replay it.
    ///
    /// A client that cancels a request drops the future of the service, or the body of its response. An error of either
    /// resets the stream with `H3_INTERNAL_ERROR`.
    ///
    /// # Panics
    ///
    /// The returned future panics outside of a tokio runtime.
    pub fn serve_connection<S, B>(&self, connection: quinn::Connection, service: S) -> Connection
    where
        S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError>,
        B: http_body::Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        Connection::new(connection, service, self.settings)
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

/// Returns a transport configuration of quinn that bounds the memory of a connection.
///
/// | setting | value | quinn's default |
/// |---|---|---|
/// | concurrent requests and sessions | 100 | 100 |
/// | receive window of a stream | 256 KiB | 1.25 MB |
/// | receive window of a connection | 32 MiB | unlimited |
/// | send window of a connection | 8 MiB | 10 MB |
/// | queues of datagrams, for each direction | 256 KiB | 1.25 MB, 1 MB |
/// | unidirectional streams | 16 | 100 |
/// | a packet to keep the connection alive | every 10 seconds | none |
/// | idle timeout | 30 seconds | 30 seconds |
///
/// Sessions that do not read cannot stop the others, because the receive window of the connection exceeds the sum of the
/// windows of all streams, by more than an eighth: quinn returns the credit for read data in portions of one eighth of
/// the window, and that for ended streams in portions of one eighth of their number. Keep these ratios if you change a
/// value: for 1,000 sessions on one connection, for example, allow 1,200 streams, with 64 KiB for each and 96 MiB for the
/// connection. A stream's window limits its throughput to one window for each round trip.
#[must_use]
pub fn transport_config() -> TransportConfig {
    const STREAMS: u32 = 100;
    const STREAM_WINDOW: u32 = 256 * 1024;
    const CONNECTION_WINDOW: u32 = 32 * 1024 * 1024;
    const { assert!(CONNECTION_WINDOW / 8 * 7 > STREAMS * STREAM_WINDOW) };
    const DATAGRAMS: usize = 256 * 1024;
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS))
        .max_concurrent_uni_streams(VarInt::from_u32(16))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
        .send_window(8 * 1024 * 1024)
        .datagram_receive_buffer_size(Some(DATAGRAMS))
        .datagram_send_buffer_size(DATAGRAMS)
        .keep_alive_interval(Some(Duration::from_secs(10)))
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(30_000))));
    config
}
