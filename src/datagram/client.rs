//! The client side of CONNECT-UDP.

use super::{
    connect_udp::{CAPSULE_PROTOCOL, PROTOCOL, has_content},
    datagrams::HttpDatagrams,
    template::{InvalidTemplate, Template},
    udp,
};
use crate::{
    client::{Error, Request, Session},
    error::BoxError,
    negotiate::connect,
    service,
};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, StatusCode, Uri,
    header::{self, IntoHeaderName},
    response,
    uri::{Authority, PathAndQuery},
};
use std::{
    future::poll_fn,
    io,
    task::{Context, Poll, ready},
};
use tower_service::Service;

/// A request for a UDP proxy (RFC 9298), over HTTP/1.1 or HTTP/2, for any client service that supports upgrades.
///
/// ```no_run
/// use hyper_util::client::legacy::connect::HttpConnector;
/// use tower::Layer as _;
/// use tower_upgrade::{client::{Dial, UpgradeLayer}, datagram::UdpRequest};
///
/// # async fn example(query: bytes::Bytes) -> Result<(), tower_upgrade::BoxError> {
/// let mut tcp = HttpConnector::new();
/// tcp.set_nodelay(true);
/// let client = UpgradeLayer::new().layer(Dial::new(tcp));
///
/// let request = UdpRequest::new("http://proxy.example:3128".parse()?, "192.0.2.53:53".parse()?);
/// let (mut udp, _response) = request.connect(client).await?;
/// udp.send(query).await?;
/// if let Some(answer) = udp.recv().await {
///     println!("{} bytes", answer?.len());
/// }
/// # Ok(())
/// # }
/// ```
///
/// For a proxy that requires authentication, set `Proxy-Authorization` with [`header`](Self::header): a
/// [`Dial`](crate::client::Dial::destination) sends the user in a URI only with a CONNECT.
#[derive(Clone, Debug)]
pub struct UdpRequest {
    proxy: Uri,
    target: Authority,
    template: Template,
    headers: HeaderMap,
}

impl UdpRequest {
    /// Creates a request for a proxy, of which only the scheme and the authority are used, to send UDP to `target`, a
    /// host and a port.
    #[must_use]
    pub fn new(proxy: Uri, target: Authority) -> Self {
        Self {
            proxy,
            target,
            template: Template::well_known(),
            headers: HeaderMap::new(),
        }
    }

    /// Sets the path template of the proxy, as [`ConnectUdp::template`](super::ConnectUdp::template) describes. The
    /// default is `/.well-known/masque/udp/{target_host}/{target_port}/`.
    ///
    /// # Panics
    ///
    /// If `template` is invalid. See [`try_template`](Self::try_template).
    #[must_use]
    #[track_caller]
    pub fn template(self, template: &str) -> Self {
        match self.try_template(template) {
            Ok(request) => request,
            Err(error) => panic!("{error}"),
        }
    }

    /// Sets the path template like [`template`](Self::template), but returns an error instead of panicking.
    ///
    /// # Errors
    ///
    /// Returns an error if `template` is invalid.
    pub fn try_template(mut self, template: &str) -> Result<Self, InvalidTemplate> {
        self.template = template.parse()?;
        Ok(self)
    }

    /// Appends a header, such as `Proxy-Authorization`, whose value is marked as sensitive.
    ///
    /// # Panics
    ///
    /// If `name` is a `&'static str` that is not a valid header name in lower case.
    #[must_use]
    pub fn header<K: IntoHeaderName>(mut self, name: K, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        if let header::Entry::Occupied(mut credentials) =
            self.headers.entry(header::PROXY_AUTHORIZATION)
        {
            credentials
                .iter_mut()
                .for_each(|value| value.set_sensitive(true));
        }
        self
    }

    /// Sends the request, and returns the UDP flow with the head of the response.
    ///
    /// # Errors
    ///
    /// - If the target is not a host and a port from 1 to 65535, or the proxy has no scheme or host, the error has kind
    ///   [`Request`](crate::client::ErrorKind::Request).
    /// - An error of the client keeps its kind, also if a layer around the client has wrapped the error.
    ///   [`Refused`](crate::client::ErrorKind::Refused) has the response of the proxy.
    /// - Another error of such a layer has kind [`Timeout`](crate::client::ErrorKind::Timeout) if a time limit has
    ///   passed, and otherwise [`Transport`](crate::client::ErrorKind::Transport).
    /// - A response with `Content-Length`, `Content-Type` or `Transfer-Encoding`, or with the status 204, 205 or 206,
    ///   has kind [`Protocol`](crate::client::ErrorKind::Protocol) (RFC 9297 §3.2).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the request.
    pub async fn connect<S>(self, mut client: S) -> Result<(Udp, response::Parts), Error>
    where
        S: Service<Request, Response = Session>,
        S::Error: Into<BoxError>,
    {
        if !connect::is_host_and_port(&self.target) || connect::port(&self.target).is_none() {
            return Err(Error::request(
                "the target must be a host and a port from 1 to 65535",
            ));
        }
        let path = PathAndQuery::try_from(self.template.expand(&self.target));
        let mut uri = self.proxy.into_parts();
        uri.path_and_query = path.ok();
        let uri = Uri::from_parts(uri)
            .map_err(|_| Error::request("the URI of the proxy has no scheme or no host"))?;
        let mut request = Request::get(uri).protocol(PROTOCOL);
        let headers = request.http_mut().headers_mut();
        *headers = self.headers;
        let (name, value) = CAPSULE_PROTOCOL;
        headers.insert(name, value);
        let session = service::call(&mut client, request).await;
        let session = session.map_err(Error::transport)?;
        let response = session.response().clone();
        let is_without_content = matches!(
            response.status,
            StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::PARTIAL_CONTENT
        );
        if is_without_content || has_content(&response.headers) {
            let message = "the response is not valid for capsules";
            return Err(Error::protocol(message.into()));
        }
        let datagrams = HttpDatagrams::from(session);
        Ok((Udp { datagrams }, response))
    }
}

/// A UDP flow to one target through a proxy, created by [`UdpRequest::connect`].
///
/// The methods send and receive UDP payloads. [`HttpDatagrams`] describes the queue and the errors: here, a payload of
/// more than 65,527 bytes is also an error, for either side.
#[derive(Debug)]
pub struct Udp {
    datagrams: HttpDatagrams,
}

impl Udp {
    /// Receives the next UDP payload, and writes waiting payloads meanwhile.
    ///
    /// Returns `None` once the proxy has ended the flow, and after an error.
    ///
    /// # Errors
    ///
    /// Returns an error if the connection fails, or if the proxy violates the protocol.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no payload.
    pub async fn recv(&mut self) -> Option<io::Result<Bytes>> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Polls [`recv`](Self::recv).
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        loop {
            let Some(datagram) = ready!(self.datagrams.poll_recv(cx)?) else {
                return Poll::Ready(None);
            };
            match udp::payload(&datagram) {
                Ok(Some(payload)) => return Poll::Ready(Some(Ok(datagram.slice_ref(payload)))),
                // A datagram with another Context ID.
                Ok(None) => {}
                Err(malformed) => return Poll::Ready(Some(Err(self.datagrams.abort(malformed)))),
            }
        }
    }

    /// Sends a UDP payload: adds it to the queue, and writes as much of the queue as the connection accepts.
    ///
    /// The future completes when it is first polled.
    ///
    /// # Errors
    ///
    /// Returns an error if the connection fails, or of kind [`InvalidInput`](io::ErrorKind::InvalidInput) if `payload` is
    /// longer than 65,527 bytes.
    pub async fn send(&mut self, mut payload: Bytes) -> io::Result<()> {
        poll_fn(|cx| Poll::Ready(self.start_send(cx, std::mem::take(&mut payload)))).await
    }

    /// Sends a UDP payload like [`send`](Self::send), and registers the current task to be woken when the connection
    /// accepts more bytes.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`send`](Self::send).
    pub fn start_send(&mut self, cx: &mut Context<'_>, payload: Bytes) -> io::Result<()> {
        if payload.len() > udp::MAX_PAYLOAD {
            let message = "the UDP payload is too long";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        self.datagrams.start_send_in(cx, udp::CONTEXT, payload)
    }

    /// Writes all waiting payloads, and flushes the connection.
    ///
    /// # Errors
    ///
    /// Returns an error if the connection fails.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no payload.
    pub async fn flush(&mut self) -> io::Result<()> {
        self.datagrams.flush().await
    }

    /// Polls [`flush`](Self::flush).
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.datagrams.poll_flush(cx)
    }

    /// Writes all waiting payloads, and ends the flow: the proxy closes its socket.
    ///
    /// # Errors
    ///
    /// Returns an error if the connection fails.
    ///
    /// # Cancel safety
    ///
    /// Call `close` again if the future was dropped.
    pub async fn close(&mut self) -> io::Result<()> {
        self.datagrams.close().await
    }

    /// Returns the number of payloads that were not sent because the queue was full.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.datagrams.dropped()
    }
}
