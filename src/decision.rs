//! From an upgrade request to its answer: the handler decides, the body is read, a head is made.

use crate::{
    Accept, BoxError, ProtocolHandler, Rejection, UpgradeRequest,
    body::{ErasedBody, RequestBody},
    commit::{Gate, PendingSession},
    linger,
    negotiate::switch::Switch,
    time::{Settings, within},
    trace,
};
use futures_util::FutureExt as _;
use http::{HeaderMap, Response, StatusCode, header};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

/// Asks the handler, bounded in time, and answers.
pub(crate) async fn decide<H: ProtocolHandler>(
    handler: Arc<H>,
    mut request: UpgradeRequest,
    gate: Gate,
) -> Response<ErasedBody> {
    let decision = {
        // A block of its own, so that a panic on the way to the future is caught as well.
        let accept = async { handler.accept(&mut request).await };
        let accept = AssertUnwindSafe(accept).catch_unwind();
        within(gate.settings().accept_timeout(), accept).await
    };
    let decision = match decision {
        Some(Ok(decision)) => decision,
        Some(Err(panic)) => {
            let message = trace::panic_message(&*panic);
            trace::accept_panicked(request.protocol(), &message);
            Err(Rejection::from(StatusCode::INTERNAL_SERVER_ERROR)
                .with_source(format!("the handler panicked: {message}")))
        }
        None => Err(Rejection::new(
            StatusCode::GATEWAY_TIMEOUT,
            "the upgrade was not accepted in time",
        )),
    };
    conclude(decision, request, gate).await
}

/// Reads what is left of the request and turns the decision into a response.
async fn conclude(
    decision: Result<Accept, Rejection>,
    mut request: UpgradeRequest,
    gate: Gate,
) -> Response<ErasedBody> {
    let limit = gate.settings().body_limit();
    let timeout = gate.settings().body_timeout();
    match decision {
        Ok(accept) => match discard(&mut request.body, limit, timeout).await {
            Ok(()) => switch(accept, request, &gate),
            Err(unread) => unread.into_rejection(limit).close().into_response(),
        },
        Err(rejection) => {
            refuse(
                rejection,
                &request.parts.headers,
                request.body,
                gate.settings(),
            )
            .await
        }
    }
}

/// Refuses a request. The connection can go on only if all of its body was read.
pub(crate) async fn refuse(
    rejection: Rejection,
    headers: &HeaderMap,
    mut body: RequestBody,
    settings: &Settings,
) -> Response<ErasedBody> {
    let is_read = !owes_continue(headers, &body)
        && discard(&mut body, settings.body_limit(), settings.body_timeout())
            .await
            .is_ok();
    if is_read {
        rejection.into_response()
    } else {
        let response = rejection.close().into_response();
        response.map(|response| linger::keep_open(response, body, settings.shutdown_timeout()))
    }
}

/// The head of the switch, with the session that it starts in its extensions.
fn switch(accept: Accept, request: UpgradeRequest, gate: &Gate) -> Response<ErasedBody> {
    let Accept {
        speak,
        headers,
        keep_request,
    } = accept;
    let switch = Switch::new(&request.parts.headers, &request.protocol, headers);
    let mut response = Response::new(ErasedBody::empty());
    *response.status_mut() = Switch::STATUS;
    *response.headers_mut() = switch.headers();
    let pending = PendingSession::new(speak, request, keep_request, switch, gate);
    response.extensions_mut().insert(pending);
    response
}

/// Whether the client still waits for a 100 before it sends the body. It need not be asked for a
/// body that nobody wants (RFC 9110 §10.1.1), but then it may send it or not, so that the
/// connection cannot go on.
fn owes_continue(headers: &HeaderMap, body: &RequestBody) -> bool {
    !body.is_end_stream()
        && !body.was_polled()
        && headers
            .get(header::EXPECT)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// Why the rest of a body was not read.
enum Unread {
    TooLong,
    Late,
    Broken(BoxError),
}

/// Reads the rest of a body and drops it. One that says that it is too long is not read at all.
async fn discard(body: &mut RequestBody, limit: u64, timeout: Duration) -> Result<(), Unread> {
    if body.size_hint().lower() > limit {
        return Err(Unread::TooLong);
    }
    let discard = async {
        let mut read = 0;
        while let Some(frame) = body.frame().await {
            if let Some(data) = frame.map_err(Unread::Broken)?.data_ref() {
                read += data.len() as u64;
            }
            if read > limit {
                return Err(Unread::TooLong);
            }
        }
        Ok(())
    };
    within(timeout, discard).await.unwrap_or(Err(Unread::Late))
}

impl Unread {
    fn into_rejection(self, limit: u64) -> Rejection {
        match self {
            Self::TooLong => Rejection::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("more than {limit} bytes of the request's body are left to read"),
            ),
            Self::Late => Rejection::new(
                StatusCode::REQUEST_TIMEOUT,
                "the request's body did not arrive in time",
            ),
            Self::Broken(error) => Rejection::new(
                StatusCode::BAD_REQUEST,
                "the request's body could not be read",
            )
            .with_source(error),
        }
    }
}
