//! From an upgrade request to its response: calls the handler, and reads the rest of the request body.

pub(crate) mod erased;

use crate::{
    commit::{Decided, Gate},
    error::BoxFuture,
    handler::{Accept, ProtocolHandler, request::UpgradeRequest},
    message::{
        body::ErasedBody,
        keep_open::keep_open,
        rejection::{Rejection, close, panicked},
        request_body::RequestBody,
    },
    metrics,
    negotiate::{
        kind::UpgradeKind,
        upgrade_response::{self, UpgradeResponse},
    },
    panic::{self, CatchPanic},
    session::{
        Identity, Sessions, accepted::Accepted, detach::detach, guard::Admitted, held::HeldUpgrade,
        span::SessionSpan, state::State,
    },
    time::{self, within},
    trace,
};
use futures_util::future::{Either, select};
use http::{HeaderMap, Response, StatusCode, header, request::Parts};
use http_body::Body as _;
use std::{
    fmt::Display,
    pin::{Pin, pin},
    sync::Arc,
};

/// Calls the handler within its time limit, and returns the response. Catches panics of the handler and of the values
/// that its future drops.
pub(crate) fn decide<H: ProtocolHandler>(
    handler: Arc<H>,
    mut request: UpgradeRequest,
    gate: Gate,
) -> BoxFuture<Decided> {
    // An `async fn` would store its arguments twice. An `async` block stores its captures once.
    Box::pin(async move {
        match CatchPanic::new(|| ask(&*handler, &mut request, &gate)).await {
            Ok(decided) => decided,
            Err(panic) => close(panicked(&*panic), request.parts.version).into(),
        }
    })
}

async fn ask<H: ProtocolHandler>(
    handler: &H,
    request: &mut UpgradeRequest,
    gate: &Gate,
) -> Decided {
    let admitted = match admit(gate, &request.parts) {
        Ok(admitted) => admitted,
        Err(rejection) => return conclude(Err(rejection), request, None, gate).await,
    };
    let timer = metrics::Timer::start();
    let decision = {
        let accept = CatchPanic::new(|| handler.accept(request));
        let accept = pin!(within(gate.settings().accept_timeout(), accept));
        unless_drained(admitted.as_ref(), accept).await
    };
    metrics::decided(timer, &request.labels);
    let decision = match decision {
        Ok(Some(Ok(decision))) => decision,
        Ok(Some(Err(panic))) => Err(panicked(&*panic)),
        Ok(None) => Err(Rejection::new(
            StatusCode::GATEWAY_TIMEOUT,
            "the upgrade was not accepted in time",
        )),
        Err(rejection) => Err(rejection),
    };
    conclude(decision, request, admitted, gate).await
}

/// Admits the request to the registry, if the layer has one. Also checks that the runtime has timers, while the request
/// can still be rejected.
pub(crate) fn admit(gate: &Gate, request: &Parts) -> Result<Option<Admitted>, Rejection> {
    let settings = gate.settings();
    // A layer that governs the request has admitted it already.
    let admitted = gate.take_admitted().filter(|admitted| {
        let sessions = settings.sessions.as_ref();
        sessions.is_some_and(|sessions| sessions.is(admitted.permit.sessions()))
    });
    if admitted.is_some() {
        return Ok(admitted);
    }
    let admit = || {
        time::assert_runtime();
        let sessions = settings.sessions.as_ref();
        sessions.map(|sessions| sessions.admit(request)).transpose()
    };
    match panic::catch(admit) {
        Ok(admitted) => admitted,
        Err(panic) => Err(panicked(&*panic)),
    }
}

/// Waits for a decision or a request body, but not beyond the deadline of a drain.
async fn unless_drained<F: Future>(
    admitted: Option<&Admitted>,
    decision: Pin<&mut F>,
) -> Result<F::Output, Rejection> {
    let Some(admitted) = admitted else {
        return Ok(decision.await);
    };
    // Exempt from the task's budget: a handler that always exhausts it would keep the timer from firing.
    let drained = tokio::task::unconstrained(admitted.permit.sessions().drained());
    match select(decision, pin!(drained)).await {
        Either::Left((decision, _)) => Ok(decision),
        Either::Right(((), _)) => Err(Sessions::stopping()),
    }
}

/// Reads the rest of the request body, and turns the decision into a response.
pub(crate) async fn conclude(
    decision: Result<Accept, Rejection>,
    request: &mut UpgradeRequest,
    admitted: Option<Admitted>,
    gate: &Gate,
) -> Decided {
    match decision.and_then(|accept| settle(accept, request)) {
        Ok(accept) => {
            let discarded = {
                let discard = pin!(request.body.discard(gate.settings().body_limit()));
                unless_drained(admitted.as_ref(), discard).await
            };
            match discarded {
                Ok(Ok(())) => upgrade_response(accept, request, admitted, gate),
                Ok(Err(unread)) => close(unread.into(), request.parts.version).into(),
                Err(stopping) => close(stopping, request.parts.version).into(),
            }
        }
        Err(rejection) => {
            drop(admitted);
            let body = request.body.take();
            refuse(rejection, request.kind, &request.parts, body, gate).await
        }
    }
}

/// Applies the handler's choice of protocol. Rejects the request with 500 if the client did not offer the protocol.
fn settle(mut accept: Accept, request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
    let protocol = match accept.protocol.take() {
        None => return Ok(accept),
        Some(Ok(protocol)) => protocol,
        // No client can offer it.
        Some(Err(invalid)) => return Err(not_offered(&invalid, invalid.to_string())),
    };
    // Keep the client's spelling.
    let offered = request.offered().find(|offered| *offered == protocol);
    if offered.is_none() {
        return Err(not_offered(
            &protocol,
            format!("{protocol} was not offered"),
        ));
    }
    request.protocol = offered;
    Ok(accept)
}

/// Reports the handler's mistake, and rejects the request with 500.
fn not_offered(protocol: &dyn Display, source: String) -> Rejection {
    trace::not_offered(protocol);
    Rejection::from(StatusCode::INTERNAL_SERVER_ERROR).with_source(source)
}

/// Rejects a request. An HTTP/1 connection stays open only if the whole request body was read.
pub(crate) async fn refuse(
    mut rejection: Rejection,
    kind: UpgradeKind,
    parts: &Parts,
    mut body: RequestBody,
    gate: &Gate,
) -> Decided {
    let status = rejection.status();
    if upgrade_response::is_upgrade(kind, status) || status == StatusCode::SWITCHING_PROTOCOLS {
        trace::rejection_is_upgrade(status);
        rejection = StatusCode::INTERNAL_SERVER_ERROR.into();
    }
    let is_read = match kind {
        // A CONNECT carries no content, and its connection closes: do not wait for a body.
        UpgradeKind::Connect => body.is_end_stream(),
        UpgradeKind::Upgrade | UpgradeKind::ExtendedConnect => {
            !owes_continue(&parts.headers, &body)
                && body.discard(gate.settings().body_limit()).await.is_ok()
        }
    };
    if is_read {
        return rejection.into();
    }
    let mut decided = Decided::from(close(rejection, parts.version));
    decided.response = decided.response.map(|response| keep_open(response, body));
    decided
}

/// Creates the upgrade response and its session.
pub(crate) fn upgrade_response(
    mut accept: Accept,
    request: &mut UpgradeRequest,
    admitted: Option<Admitted>,
    gate: &Gate,
) -> Decided {
    let headers = std::mem::take(&mut accept.headers);
    let head = UpgradeResponse::new(
        request.kind,
        &request.parts.headers,
        request.protocol.as_ref(),
        headers,
    );
    let mut response = Response::new(ErasedBody::empty());
    *response.status_mut() = head.status();
    *response.headers_mut() = head.headers();
    let session = accepted(accept, request, admitted, gate);
    Decided {
        response,
        session: Some(gate.pending(session, head)),
    }
}

/// Returns `true` if the client still waits for a 100 before sending the body.
///
/// A server need not send a 100 for a body that it does not read (RFC 9110 §10.1.1). The client may then send
/// the body or not, so the connection cannot be used again.
fn owes_continue(headers: &HeaderMap, body: &RequestBody) -> bool {
    !body.is_end_stream()
        && !body.was_polled()
        && headers
            .get_all(header::EXPECT)
            .iter()
            .any(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// Creates the accepted session from parts of the request.
fn accepted(
    accept: Accept,
    request: &mut UpgradeRequest,
    admitted: Option<Admitted>,
    gate: &Gate,
) -> Box<Accepted> {
    let settings = match accept.lifetime {
        Some(lifetime) => Arc::new(gate.settings().with_lifetime(lifetime)),
        None => Arc::clone(gate.settings()),
    };
    let of_layer = || request.parts.extensions.get::<Identity>().cloned();
    let identity = accept.identity.or_else(of_layer);
    let state = State::new(
        request.kind,
        request.protocol.take(),
        admitted.as_ref().and_then(|admitted| admitted.peer),
        request.labels.clone(),
        settings,
    );
    let state = Arc::new(state.with_identity(identity));
    let permit = admitted.map(|admitted| admitted.permit.enter(&state));
    let mut extensions = std::mem::take(&mut request.parts.extensions);
    detach(&mut extensions);
    Box::new(Accepted {
        run: accept.run,
        span: SessionSpan::new(&state),
        state,
        permit,
        extensions,
        request: accept.keep_request.then(|| Box::new(request.take_parts())),
        upgrade: HeldUpgrade::none(),
    })
}
