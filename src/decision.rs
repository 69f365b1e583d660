//! From an upgrade request to its response: the handler decides, the body is read to its end.

use crate::{
    Accept, ProtocolHandler, Rejection, RequestBody, UpgradeRequest,
    body::ErasedBody,
    commit::{Gate, PendingSession},
    linger,
    negotiate::switch::Switch,
    time::within,
    trace,
};
use futures_util::FutureExt as _;
use http::{HeaderMap, Response, StatusCode, header, request::Parts};
use http_body::Body as _;
use std::{any::Any, panic::AssertUnwindSafe, sync::Arc};

/// Asks the handler, bounded in time, and answers.
pub(crate) async fn decide<H: ProtocolHandler>(
    handler: Arc<H>,
    mut request: UpgradeRequest,
    gate: Gate,
) -> Response<ErasedBody> {
    let decision = {
        // A block of its own, so that a panic on the way to the future is caught as well.
        let accept = async { H::accept(&handler, &mut request).await };
        let accept = AssertUnwindSafe(accept).catch_unwind();
        within(gate.settings().accept_timeout(), accept).await
    };
    let decision = match decision {
        Some(Ok(decision)) => decision,
        Some(Err(panic)) => Err(panicked(&*panic)),
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
    match decision {
        Ok(accept) => match request.body.discard(gate.settings().body_limit()).await {
            Ok(()) => switch(accept, request, &gate),
            Err(unread) => Rejection::from(unread).close().into_response(),
        },
        Err(rejection) => refuse(rejection, &request.parts, request.body, &gate).await,
    }
}

/// Refuses a request. The connection can go on only if all of its body was read.
pub(crate) async fn refuse(
    rejection: Rejection,
    parts: &Parts,
    mut body: RequestBody,
    gate: &Gate,
) -> Response<ErasedBody> {
    let is_read = !owes_continue(&parts.headers, &body)
        && body.discard(gate.settings().body_limit()).await.is_ok();
    if is_read {
        rejection.into_response()
    } else {
        let response = rejection.close().into_response();
        response.map(|response| linger::keep_open(response, body))
    }
}

/// The refusal of a request whose handler panicked.
pub(crate) fn panicked(panic: &(dyn Any + Send)) -> Rejection {
    let message = trace::panic_message(panic);
    trace::handler_panicked(&message);
    Rejection::from(StatusCode::INTERNAL_SERVER_ERROR)
        .with_source(format!("the handler panicked: {message}"))
}

/// The head of the switch, with the session that it starts in its extensions.
fn switch(accept: Accept, request: UpgradeRequest, gate: &Gate) -> Response<ErasedBody> {
    let Accept {
        speak,
        headers,
        keep_request,
    } = accept;
    let switch = Switch::new(
        request.kind,
        &request.parts.headers,
        request.protocol.as_ref(),
        headers,
    );
    let mut response = Response::new(ErasedBody::empty());
    *response.status_mut() = switch.status();
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
            .get_all(header::EXPECT)
            .iter()
            .any(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}
