//! The connection of a server.

use super::{
    body::Body,
    code, control,
    error::Error,
    request::{self, RequestLimits},
    shared::{Shared, receive_datagrams, send_left},
};
use crate::{
    error::{BoxError, BoxFuture},
    time::{self, within},
};
use futures_util::{
    future::{Either, select, try_join, try_join4},
    stream::Stream as _,
};
use http::{Request, Response};
use quinn::SendStream;
use std::{
    convert::Infallible,
    fmt,
    future::poll_fn,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use sync_wrapper::SyncWrapper;
use tokio::{sync::watch, task::JoinSet, time::Instant};
use tower_service::Service;

/// The ID in the first GOAWAY of a shutdown: requests that are on their way are still served (RFC 9114 §5.2).
const MAX_REQUEST_ID: u64 = (1 << 62) - 4;

/// The settings of a server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) limits: RequestLimits,
    pub(crate) idle_timeout: Duration,
}

/// A future that serves one QUIC connection, created by
/// [`Builder::serve_connection`](super::Builder::serve_connection).
///
/// The future resolves when the connection has closed. Each request runs in a task.
///
/// # Errors
///
/// Returns an [`Error`] if the connection is lost, if the client violates HTTP/3, or if a
/// [shutdown](Self::graceful_shutdown) exceeds its deadline. A connection that either side closes without an error is
/// `Ok`.
///
/// # Cancel safety
///
/// Dropping the future closes the connection at once, and with it its sessions. To end it in order, call
/// [`graceful_shutdown`](Self::graceful_shutdown).
#[must_use = "a connection does nothing unless polled"]
pub struct Connection {
    serve: SyncWrapper<BoxFuture<Result<(), Error>>>,
    deadline: watch::Sender<Option<Instant>>,
    connection: quinn::Connection,
}

impl Connection {
    pub(crate) fn new<S, B>(connection: quinn::Connection, service: S, settings: Settings) -> Self
    where
        S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError>,
        B: http_body::Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let deadline = watch::Sender::new(None);
        let serve = serve(connection.clone(), service, settings, deadline.subscribe());
        Self {
            serve: SyncWrapper::new(Box::pin(serve)),
            deadline,
            connection,
        }
    }

    /// Starts a graceful shutdown (RFC 9114 §5.2), which ends after `timeout` at the latest. Continue to await the
    /// connection.
    ///
    /// The client gets a GOAWAY and opens no further requests. The connection closes once all requests have been
    /// answered, all sessions have ended, and the client has acknowledged their data. At the deadline the connection
    /// closes with the remaining ones, and the future returns an error of kind [`Timeout`](super::ErrorKind::Timeout).
    ///
    /// Sessions continue: end them with [`Sessions::drain`](crate::Sessions::drain).
    pub fn graceful_shutdown(&mut self, timeout: Duration) {
        self.deadline.send_replace(Some(time::after(timeout)));
    }
}

impl Future for Connection {
    type Output = Result<(), Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.serve.get_mut().as_mut().poll(cx)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // No effect if the connection is closed.
        self.connection.close(code::NO_ERROR, b"");
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

async fn serve<S, B>(
    connection: quinn::Connection,
    service: S,
    settings: Settings,
    deadline: watch::Receiver<Option<Instant>>,
) -> Result<(), Error>
where
    S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let (shared, left) = Shared::new(connection);
    let requests = Requests::default();
    let ended = try_join(
        try_join4(
            accept(&shared, &requests, service, settings.limits),
            control::read(&shared, true, |_push_id| {}),
            shut_down(&shared, &requests, settings, deadline),
            send_left(left),
        ),
        receive_datagrams(&shared),
    );
    match ended.await {
        Err(error) if error.is_orderly_close() => Ok(()),
        Err(error) => {
            shared.violated(&error);
            Err(error)
        }
    }
}

/// The IDs of the request streams.
struct Requests {
    /// The ID after that of the last accepted request.
    next: AtomicU64,
    /// The lowest ID that is rejected: the ID in the last GOAWAY.
    limit: AtomicU64,
}

impl Default for Requests {
    fn default() -> Self {
        Self {
            next: AtomicU64::new(0),
            limit: AtomicU64::new(u64::MAX),
        }
    }
}

/// Accepts requests, each in a task, until the connection ends.
async fn accept<S, B>(
    shared: &Arc<Shared>,
    requests: &Requests,
    service: S,
    limits: RequestLimits,
) -> Result<Infallible, Error>
where
    S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    // Dropping the set with the connection ends the requests.
    let mut tasks = JoinSet::new();
    let mut streams = pin!(futures_util::stream::unfold((), |()| async {
        Some((shared.connection.accept_bi().await, ()))
    }));
    poll_fn(move |cx| {
        while let Poll::Ready(Some(accepted)) = streams.as_mut().poll_next(cx) {
            let (mut send, mut recv) = accepted.map_err(Error::connection)?;
            let id = quinn::VarInt::from(send.id()).into_inner();
            if id >= requests.limit.load(Ordering::Relaxed) {
                // The client can send the request again, on another connection (RFC 9114 §4.1.1).
                let _ = send.reset(code::REQUEST_REJECTED);
                let _ = recv.stop(code::REQUEST_REJECTED);
                continue;
            }
            requests.next.store(id + 4, Ordering::Relaxed);
            let active = shared.activate();
            tasks.spawn(request::serve(
                active,
                service.clone(),
                limits,
                (send, recv),
            ));
        }
        // Free the memory of tasks that have ended.
        while let Poll::Ready(Some(_)) = tasks.poll_join_next(cx) {}
        Poll::Pending
    })
    .await
}

/// Sends the settings, waits for the shutdown or until the connection is idle, and closes the connection in order.
async fn shut_down(
    shared: &Arc<Shared>,
    requests: &Requests,
    settings: Settings,
    mut deadline: watch::Receiver<Option<Instant>>,
) -> Result<Infallible, Error> {
    let mut control =
        control::open(&shared.connection, settings.limits.max_head_size, true).await?;
    let deadline = {
        let told = pin!(deadline.wait_for(Option::is_some));
        match select(told, pin!(until_idle(shared, settings.idle_timeout))).await {
            Either::Left((deadline, _)) => deadline.ok().and_then(|deadline| *deadline),
            Either::Right(((), _)) => None,
        }
    };
    let closed = go_away(shared, requests, &mut control);
    let is_in_time = match deadline {
        Some(deadline) => {
            let rest = deadline.saturating_duration_since(Instant::now());
            within(rest, closed).await.transpose()?.is_some()
        }
        None => {
            closed.await?;
            true
        }
    };
    shared.connection.close(code::NO_ERROR, b"");
    match is_in_time {
        true => Err(Error::connection(quinn::ConnectionError::LocallyClosed)),
        false => Err(Error::timeout()),
    }
}

/// Waits until the connection has had no request and no session for `timeout`.
async fn until_idle(shared: &Shared, timeout: Duration) {
    loop {
        shared.until(false).await;
        if within(timeout, shared.until(true)).await.is_none() {
            return;
        }
    }
}

/// Sends GOAWAY, and waits for the end of all requests and sessions.
async fn go_away(
    shared: &Shared,
    requests: &Requests,
    control: &mut SendStream,
) -> Result<(), Error> {
    control::send_goaway(control, MAX_REQUEST_ID).await?;
    // Requests that the client sent before the GOAWAY arrives are served.
    let in_transit = shared.connection.rtt() * 2;
    tokio::time::sleep(in_transit).await;
    let next = requests.next.load(Ordering::Relaxed);
    requests.limit.store(next, Ordering::Relaxed);
    control::send_goaway(control, next).await?;
    // Closing the connection drops unsent data: without the GOAWAY the client does not know which requests were served.
    tokio::time::sleep(shared.connection.rtt()).await;
    shared.until(false).await;
    Ok(())
}
