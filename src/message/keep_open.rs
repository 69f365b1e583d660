//! A response body that keeps its request open.

use super::{body::ErasedBody, request_body::RequestBody};
use crate::error::BoxError;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

/// The maximum length of a response that fits into the send buffer of any socket, even of a new and slow one.
const SHORT_RESPONSE: u64 = 16 * 1024;

/// The time limit for sending a longer response.
const SENDING_TIME: Duration = Duration::from_secs(10);

/// Keeps the request body alive behind a response that ends the connection, until the response is sent.
///
/// hyper hands the connection over as soon as the request body was read or dropped and the response is in hyper's
/// buffer; data that the socket has not accepted by then is lost. hyper does not report when it has sent the response,
/// so the request body of a long response is kept for [`SENDING_TIME`] after hyper has taken the whole response.
pub(crate) fn keep_open(response: ErasedBody, request: RequestBody) -> ErasedBody {
    let is_short = response
        .size_hint()
        .upper()
        .is_some_and(|size| size <= SHORT_RESPONSE);
    if is_short || request.is_end_stream() {
        return response;
    }
    ErasedBody::new(KeepOpen {
        response,
        request: Some(request),
    })
}

struct KeepOpen {
    response: ErasedBody,
    request: Option<RequestBody>,
}

impl Body for KeepOpen {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.response).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.response.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.response.size_hint()
    }
}

impl Drop for KeepOpen {
    fn drop(&mut self) {
        let (Some(request), Ok(runtime)) =
            (self.request.take(), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        runtime.spawn(async move {
            tokio::time::sleep(SENDING_TIME).await;
            drop(request);
        });
    }
}
