//! A client that reuses connections to one destination.

mod state;

use self::state::{Connection, Next, State};
use super::{Body, Dial, Error, Http1, ResponseFuture, dial::Connected, error::Unsent};
use crate::{error::BoxError, message::target, negotiate, service, time};
use http::{Request, Response, Uri, Version, header};
use hyper_util::client::legacy::connect;
use std::{
    fmt,
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Instant, sleep_until};
use tower_service::Service;

const IDLE_TIMEOUT: Duration = Duration::from_secs(90);

/// An HTTP client for all requests to one destination: an upgrade gets a connection to itself, and other requests reuse
/// connections.
///
/// The pool sends each request to the [destination](Dial::destination) of its [`Dial`], which is required. The request
/// keeps its host: a `Host` field, or else the host in the URI, arrives as `Host` over HTTP/1.1 and as `:authority`
/// over HTTP/2. The host has no effect on the choice of the connection. A reverse proxy needs both: the backend sees the
/// host that the user typed, and requests for made-up hosts cannot each open a connection.
///
/// | request | connection |
/// |---|---|
/// | `Upgrade`, CONNECT, extended CONNECT | a new one, by the [`Dial`] |
/// | other, over HTTP/1.1 | the idle one that was used last, or a new one |
/// | other, over HTTP/2 | a shared one with fewer streams than the server allows (`SETTINGS_MAX_CONCURRENT_STREAMS`), or a new one |
///
/// Concurrent requests without a connection wait for one connection attempt if it may lead to HTTP/2, which they can
/// share. The pool limits neither the connections in use nor the time of a request: wrap it in tower's
/// `ConcurrencyLimit` or `Timeout`.
///
/// An HTTP/1.1 connection is idle once the response body has been read to its end. Dropping an unread body closes the
/// connection. The pool keeps at most 64 idle HTTP/1.1 connections, and closes each connection that has been idle for
/// the [`idle_timeout`](Self::idle_timeout). Dropping the last clone of the pool closes all idle connections.
///
/// If the server closes a reused connection before any part of the request was sent, the pool sends the request on
/// another connection. The pool sends no request twice.
///
/// # Errors
///
/// Without a destination, calls fail with kind [`Connector`](super::ErrorKind::Connector). Other errors are those of
/// [`Dial`]. All requests that wait for a failed connection attempt get its error.
///
/// # Panics
///
/// A call panics outside of a tokio runtime with a time driver.
///
/// # Cancel safety
///
/// Dropping the future of a call cancels the request: it closes the HTTP/1.1 connection, or resets the HTTP/2 stream.
///
/// # Examples
///
/// ```no_run
/// use hyper_util::client::legacy::connect::HttpConnector;
/// use tower::{Layer as _, Service as _};
/// use tower_upgrade::client;
///
/// # async fn example() -> Result<(), tower_upgrade::BoxError> {
/// let dial = client::Dial::new(HttpConnector::new()).destination("http://127.0.0.1:4000".parse()?);
/// let mut backend = client::Pool::new(dial);
/// let response = backend.call(http::Request::get("/users").body(client::Body::empty())?).await?;
///
/// let mut upgrades = client::UpgradeLayer::new().layer(backend);
/// let request = client::Request::get("/chat".parse()?).protocol("chat").body(client::Body::empty());
/// let session = upgrades.call(request).await?;
/// # Ok(())
/// # }
/// ```
//
// hyper-util's `legacy::Client` cannot do this. It sends the host of the URI that it connects to as `:authority`, where
// a reverse proxy has to keep the client's host. It also pools by this host: a client of the proxy could open one
// connection to the backend for each made-up `Host`.
pub struct Pool<C: Service<Uri>> {
    dial: Dial<C>,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
}

impl<C> Pool<C>
where
    C: Service<Uri> + Clone + Send + 'static,
    C::Response: hyper::rt::Read + hyper::rt::Write + connect::Connection + Send + Unpin + 'static,
    C::Future: Send,
    C::Error: Into<BoxError>,
{
    /// Creates a pool of connections that `dial` opens to its [destination](Dial::destination).
    #[must_use]
    pub fn new(dial: Dial<C>) -> Self {
        let state = State::new(dial.expects_http1(), IDLE_TIMEOUT);
        Self {
            dial,
            shared: Arc::new(Shared {
                state: Mutex::new(state),
            }),
        }
    }

    /// Sets the time after which an idle connection is closed, for all clones of the pool. The default is 90 seconds;
    /// `None` disables the limit.
    ///
    /// Set a time shorter than the server's, so that the server does not close a connection just as the pool sends a
    /// request on it: such a request fails if a part of it was sent.
    #[must_use]
    pub fn idle_timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        self.shared.lock().idle_timeout = time::limit(timeout.into());
        self
    }

    async fn send(mut self, mut request: Request<Body>) -> Result<Response<Body>, Error> {
        let destination = self.dial.prepare(&mut request)?;
        // The version of the connection decides.
        *request.version_mut() = Version::HTTP_11;
        // hyper would send it as `:protocol`, which only an extended CONNECT has.
        request.extensions_mut().remove::<hyper::ext::Protocol>();
        if !target::set_host(&mut request) {
            return Err(Error::no_host());
        }
        let uri = request.uri().clone();
        let host = request.headers().get(header::HOST).cloned();
        loop {
            let next = self.shared.lock().next();
            let (connection, is_new) = match next {
                Next::Reuse(connection) => (connection, false),
                Next::Connect => (self.connect(&destination).await?, true),
                Next::Await(attempt) => {
                    let mut connection = None;
                    let (pool, own) = (&mut self, &mut connection);
                    let destination = &destination;
                    // If this future is dropped during its attempt, another request makes the next attempt.
                    let outcome = attempt.get_or_init(|| async move {
                        let connected = pool.connect(destination).await;
                        pool.shared.lock().attempt = None;
                        connected.map(|connection| *own = Some(connection))
                    });
                    match (outcome.await, connection) {
                        (Ok(()), Some(connection)) => (connection, true),
                        (Ok(()), None) => continue,
                        (Err(error), _) => return Err(error.share()),
                    }
                }
            };
            let unsent = match self.shared.send_on(connection, request).await {
                Ok(response) => return Ok(response),
                Err(unsent) => unsent,
            };
            // A server that closes each new connection at once must not cause an endless loop.
            request = match unsent.request {
                Some(request) if !is_new => request,
                _ => return Err(unsent.error),
            };
            // The connection has changed them to the form of its version.
            *request.uri_mut() = uri.clone();
            *request.version_mut() = Version::HTTP_11;
            if let Some(host) = &host {
                request.headers_mut().insert(header::HOST, host.clone());
            }
        }
    }

    async fn connect(&mut self, destination: &Uri) -> Result<Connection, Error> {
        poll_fn(|cx| Service::<Request<Body>>::poll_ready(&mut self.dial, cx)).await?;
        let connected = self.dial.connect(destination.clone()).await?;
        let mut state = self.shared.lock();
        match connected {
            Connected::Http1(http1) => {
                state.expects_http1 = true;
                Ok(Connection::Http1(http1))
            }
            Connected::Http2(http2) => {
                state.expects_http1 = false;
                let stream = state.share(http2.clone());
                self.shared.watch(&mut state);
                Ok(Connection::Http2(http2, stream))
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a request, and returns an unsent request with the error.
    async fn send_on(
        self: &Arc<Self>,
        connection: Connection,
        request: Request<Body>,
    ) -> Result<Response<Body>, Unsent<Body>> {
        match connection {
            Connection::Http1(mut http1) => {
                let response = http1.try_send(request).await?;
                self.put_when_ready(http1);
                Ok(response.map(Body::new))
            }
            Connection::Http2(mut http2, stream) => {
                // The stream is open until both bodies have ended.
                let stream = Arc::new(stream);
                let request = request.map(|body| body.holding(Arc::clone(&stream)));
                let response = http2.try_send(request).await?;
                Ok(response.map(|body| Body::new(body).holding(stream)))
            }
        }
    }

    /// Keeps an HTTP/1.1 connection for another request once hyper is ready for one: after both bodies have ended.
    fn put_when_ready(self: &Arc<Self>, mut http1: Http1<Body>) {
        if http1.is_ready() {
            return self.put(http1);
        }
        let shared = Arc::downgrade(self);
        tokio::spawn(async move {
            // This fails once the connection has closed, as it does after its body was dropped unread.
            let ready = poll_fn(|cx| http1.poll_ready(cx)).await;
            if let (Ok(()), Some(shared)) = (ready, shared.upgrade()) {
                shared.put(http1);
            }
        });
    }

    fn put(self: &Arc<Self>, http1: Http1<Body>) {
        let mut state = self.lock();
        state.idle.put(http1, Instant::now());
        self.watch(&mut state);
    }

    /// Spawns the task that closes idle connections, unless it is running.
    fn watch(self: &Arc<Self>, state: &mut State) {
        let task = state.watch.as_ref();
        // The task has finished without a trace if its runtime was shut down.
        if task.is_none_or(|task| task.is_finished()) {
            let task = tokio::spawn(close_idle(Arc::downgrade(self)));
            state.watch = Some(task.abort_handle());
        }
    }
}

/// Closes idle connections, until the pool has none or is dropped.
async fn close_idle(shared: Weak<Shared>) {
    while let Some(shared) = shared.upgrade() {
        let next = {
            let mut state = shared.lock();
            let next = state.expire(Instant::now());
            if next.is_none() {
                state.watch = None;
            }
            next
        };
        drop(shared);
        match next {
            Some(at) => sleep_until(at).await,
            None => return,
        }
    }
}

impl<C> Service<Request<Body>> for Pool<C>
where
    C: Service<Uri> + Clone + Send + 'static,
    C::Response: hyper::rt::Read + hyper::rt::Write + connect::Connection + Send + Unpin + 'static,
    C::Future: Send,
    C::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Error;
    type Future = ResponseFuture<Response<Body>>;

    /// Returns ready: a request that reuses a connection does not need the connector.
    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if !self.dial.has_destination() {
            return ResponseFuture::error(Error::no_destination());
        }
        let kind = negotiate::kind(
            request.method(),
            request.version(),
            request.headers(),
            request.extensions(),
        );
        let mut pool = self.clone();
        ResponseFuture::new(async move {
            match kind {
                Some(_) => {
                    let response = service::call(&mut pool.dial, request).await?;
                    Ok(response.map(Body::new))
                }
                None => pool.send(request).await,
            }
        })
    }
}

impl<C: Service<Uri> + Clone> Clone for Pool<C> {
    fn clone(&self) -> Self {
        Self {
            dial: self.dial.clone(),
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<C: Service<Uri> + fmt::Debug> fmt::Debug for Pool<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("dial", &self.dial)
            .finish_non_exhaustive()
    }
}
