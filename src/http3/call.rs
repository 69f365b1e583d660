//! One call of a client: a request, and the response to it.

use super::{
    body::{Body, Expected},
    code, control,
    error::Error,
    frame::{self, FrameReader, Receiver},
    head,
    sender::Sender,
    shared::{Shared, receive_datagrams, send_left},
    tunnel::Tunnel,
};
use crate::{
    error::BoxError,
    io::box_io::BoxIo,
    session::{pending_upgrade::PendingUpgrade, upgraded::Upgraded},
};
use bytes::{BufMut as _, BytesMut};
use futures_util::future::{Either, select, try_join4};
use http::{Method, Request, Response, StatusCode, Version};
use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::watch;

/// The maximum size of a response head and of trailers, in bytes as RFC 9114 §4.2.2 counts them.
const MAX_HEAD_SIZE: usize = 64 * 1024;

/// The connection of a client. Clones share it. It closes after the last clone is dropped and the last stream has ended.
#[derive(Clone)]
pub(crate) struct ClientConnection {
    pub(crate) shared: Arc<Shared>,
    /// The ID in the last GOAWAY of the server.
    limit: Arc<AtomicU64>,
    /// Dropped with the last clone.
    _open: Arc<watch::Sender<()>>,
}

impl ClientConnection {
    /// Starts HTTP/3 on a connection, and waits for the server's SETTINGS. A spawned task runs the connection.
    pub(crate) async fn start(connection: quinn::Connection) -> Result<Self, Error> {
        let (shared, left) = Shared::new(connection);
        let limit = Arc::new(AtomicU64::new(u64::MAX));
        let open = Arc::new(watch::Sender::new(()));
        let mut is_open = open.subscribe();
        let mut run = tokio::spawn({
            let (shared, limit) = (Arc::clone(&shared), Arc::clone(&limit));
            async move {
                let close = async {
                    let _control = control::open(&shared.connection, MAX_HEAD_SIZE, false).await?;
                    // Fails once the last sender is dropped.
                    while is_open.changed().await.is_ok() {}
                    shared.until(false).await;
                    shared.connection.close(code::NO_ERROR, b"");
                    Err::<std::convert::Infallible, _>(Error::connection(
                        quinn::ConnectionError::LocallyClosed,
                    ))
                };
                let read = control::read(&shared, false, |id| limit.store(id, Ordering::Relaxed));
                let ended = try_join4(read, close, send_left(left), receive_datagrams(&shared));
                match ended.await {
                    Err(error) => {
                        shared.violated(&error);
                        error
                    }
                }
            }
        });
        {
            let arrived = pin!(settings(&shared));
            if let Either::Right((ended, _)) = select(arrived, &mut run).await {
                return Err(ended
                    .unwrap_or_else(|_| Error::connection(quinn::ConnectionError::LocallyClosed)));
            }
        }
        Ok(Self {
            shared,
            limit,
            _open: open,
        })
    }

    /// Returns an error if the connection is closed, or if the server accepts no further requests.
    pub(crate) fn check(&self) -> Result<(), Error> {
        match self.shared.connection.close_reason() {
            Some(reason) => Err(Error::connection(reason)),
            None if self.limit.load(Ordering::Relaxed) != u64::MAX => Err(Error::going_away()),
            None => Ok(()),
        }
    }

    /// Sends a request, and returns the response once its head has arrived. The body of the request may take longer.
    ///
    /// A response that upgrades the stream has a `PendingUpgrade`.
    pub(crate) async fn call<B>(self, request: Request<B>) -> Result<Response<Body>, Error>
    where
        B: http_body::Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        self.check()?;
        let (send, receive) = self
            .shared
            .connection
            .open_bi()
            .await
            .map_err(Error::connection)?;
        let active = self.shared.activate();
        let (parts, body) = request.into_parts();
        let is_connect = parts.method == Method::CONNECT;
        #[cfg(feature = "datagram")]
        let is_extended = parts.extensions.get::<hyper::ext::Protocol>().is_some();
        let mut receive = Receiver::new(receive);
        receive.set_drop_code(code::REQUEST_CANCELLED);
        #[cfg(feature = "datagram")]
        let datagrams = is_extended.then(|| super::datagrams::of_stream(&self.shared, &receive));
        let mut frames = FrameReader::new(receive);
        let mut sender = Sender::new(send, code::REQUEST_CANCELLED);
        sender.headers(&head::encode_request(&parts)).await?;
        let sender = if is_connect {
            Some(sender)
        } else if body.is_end_stream() {
            sender.finish(active.activate());
            None
        } else {
            let active = active.activate();
            tokio::spawn(async move {
                // An error of the body resets the stream, so that the server does not take the request for complete.
                if sender.body(body).await.is_ok() {
                    sender.finish(active);
                }
            });
            None
        };

        let (status, headers) = match response_head(&mut frames).await {
            Ok(head) => head,
            Err(error) => {
                self.shared.violated(&error);
                frames.source_mut().stop(error.reset_code());
                return Err(error);
            }
        };
        let content_length = head::content_length(&headers)?;
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status;
        *response.version_mut() = Version::HTTP_3;
        *response.headers_mut() = headers;
        match sender.and_then(|sender| match status.is_success() {
            true => sender.into_stream(),
            // The server reads no further.
            false => None,
        }) {
            Some(send) => {
                let tunnel = Tunnel::new(frames, send, active, code::REQUEST_CANCELLED);
                let upgraded = Upgraded::from_box_io(BoxIo::resettable(tunnel));
                let extensions = response.extensions_mut();
                extensions.insert(PendingUpgrade::new(std::future::ready(Ok(upgraded))));
                #[cfg(feature = "datagram")]
                if let Some(datagrams) = datagrams {
                    extensions.insert(datagrams);
                }
            }
            None => {
                let has_content = parts.method != Method::HEAD
                    && !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
                *response.body_mut() = Body::new(
                    frames,
                    Arc::clone(&self.shared),
                    Expected {
                        content_length: content_length.filter(|_| has_content),
                        max_trailers: MAX_HEAD_SIZE,
                        on_read: None,
                    },
                );
            }
        }
        Ok(response)
    }
}

/// Waits for the settings of the server.
async fn settings(shared: &Shared) {
    let mut arrived = pin!(shared.settings_arrived.notified());
    // Register before the check: the task runs in another thread.
    arrived.as_mut().enable();
    if shared.peer.get().is_none() {
        arrived.await;
    }
}

/// Reads the head of the final response. Interim responses are skipped.
async fn response_head(frames: &mut FrameReader) -> Result<(StatusCode, http::HeaderMap), Error> {
    loop {
        match poll_fn(|cx| frames.poll_next(cx)).await? {
            Some(frame::HEADERS) => {}
            Some(kind) if frame::is_unknown(kind) => continue,
            Some(_) => {
                let reason = "a response does not start with HEADERS";
                return Err(Error::fatal(code::FRAME_UNEXPECTED, reason));
            }
            None => return Err(Error::malformed("the stream ended before the response")),
        }
        if frames.remaining() > MAX_HEAD_SIZE as u64 {
            return Err(Error::malformed("the head of the response is too large"));
        }
        let mut section = BytesMut::new();
        while let Some(bytes) = poll_fn(|cx| frames.poll_payload(cx, usize::MAX)).await? {
            section.put(bytes);
        }
        let (status, headers) = head::decode_response(&section, MAX_HEAD_SIZE)?;
        if !status.is_informational() {
            return Ok((status, headers));
        }
    }
}
