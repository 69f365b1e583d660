//! The body of an upgrade request: the handler reads it, the layer discards the rest.

use crate::{
    error::BoxError,
    message::{body::ErasedBody, rejection::Rejection},
    time::within,
};
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

/// The body of an upgrade request, for its handler to read.
///
/// Implements [`Body`] with `Data = Bytes`.
///
/// The layer reads and drops the part of the body that the handler leaves unread, up to
/// [`UpgradeLayer::body_limit`](crate::UpgradeLayer::body_limit), before the connection switches protocols.
/// After an error the connection can no longer switch protocols, even if the handler ignores the error and
/// accepts.
pub struct RequestBody {
    body: ErasedBody,
    timeout: Duration,
    was_polled: bool,
    /// Set once the body can no longer be read to its end.
    failed: Option<Failed>,
}

#[derive(Clone, Copy)]
enum Failed {
    Broken,
    Late,
}

impl RequestBody {
    /// `timeout` bounds [`read`](Self::read) and [`discard`](Self::discard).
    pub(crate) fn new<B>(body: B, timeout: Duration) -> Self
    where
        B: Body + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self {
            body: ErasedBody::new(body),
            timeout,
            was_polled: false,
            failed: None,
        }
    }

    /// Takes the body, and leaves an empty one.
    pub(crate) fn take(&mut self) -> Self {
        Self {
            body: std::mem::replace(&mut self.body, ErasedBody::empty()),
            ..*self
        }
    }

    /// Returns `true` if the body has been polled.
    pub(crate) fn was_polled(&self) -> bool {
        self.was_polled
    }

    /// Reads the rest of the body.
    pub(crate) async fn read(&mut self, limit: u64) -> Result<Bytes, Unread> {
        let mut bytes = BytesMut::new();
        self.for_each(limit, |data| bytes.extend_from_slice(data))
            .await?;
        Ok(bytes.freeze())
    }

    /// Reads and drops the rest of the body.
    pub(crate) async fn discard(&mut self, limit: u64) -> Result<(), Unread> {
        self.for_each(limit, |_| {}).await
    }

    async fn for_each(&mut self, limit: u64, mut take: impl FnMut(&Bytes)) -> Result<(), Unread> {
        match self.failed {
            Some(Failed::Broken) => {
                return Err(Unread::Broken("an earlier read failed".into()));
            }
            Some(Failed::Late) => return Err(Unread::Late),
            None => {}
        }
        // Reject a declared length over the limit without polling: polling makes hyper send a 100.
        if self.size_hint().lower() > limit {
            return Err(Unread::TooLong(limit));
        }
        let timeout = self.timeout;
        let read = async {
            let mut length = 0;
            while let Some(frame) = self.frame().await {
                if let Some(data) = frame.map_err(Unread::Broken)?.data_ref() {
                    length += data.len() as u64;
                    if length > limit {
                        return Err(Unread::TooLong(limit));
                    }
                    take(data);
                }
            }
            Ok(())
        };
        match within(timeout, read).await {
            Some(result) => result,
            None => {
                self.failed = Some(Failed::Late);
                Err(Unread::Late)
            }
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.was_polled = true;
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Err(_)) = frame {
            self.failed = Some(Failed::Broken);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RequestBody")
            .field(&self.size_hint())
            .finish()
    }
}

/// The reason why a body was not read to its end.
pub(crate) enum Unread {
    TooLong(u64),
    Late,
    Broken(BoxError),
}

impl From<Unread> for Rejection {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::TooLong(limit) => Self::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the unread request body exceeds {limit} bytes"),
            ),
            Unread::Late => Self::new(
                StatusCode::REQUEST_TIMEOUT,
                "the request body did not arrive in time",
            ),
            Unread::Broken(error) => Self::new(
                StatusCode::BAD_REQUEST,
                "the request body could not be read",
            )
            .with_source(error),
        }
    }
}
