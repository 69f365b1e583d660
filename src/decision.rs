//! From an upgrade request to its response: the handler decides, the body is read to its end.

use crate::{
    Accept, ProtocolHandler, Rejection, RequestBody, Sessions, UpgradeKind, UpgradeRequest,
    body::ErasedBody,
    commit::{Accepted, Gate, PendingSession},
    handler::BoxFuture,
    linger, metrics,
    negotiate::switch::{self, Switch},
    session::guard::Admitted,
    time::{self, Settings, within},
    trace,
};
use futures_util::{
    FutureExt as _,
    future::{Either, select},
};
use http::{HeaderMap, Response, StatusCode, Version, header, request::Parts};
use http_body::Body as _;
use std::{
    any::Any,
    panic::{self, AssertUnwindSafe},
    pin::{Pin, pin},
    sync::Arc,
};

/// A response, and the session that it starts if it is a switch.
pub(crate) struct Decided {
    pub(crate) response: Response<ErasedBody>,
    pub(crate) session: Option<Box<Accepted>>,
}

impl Decided {
    /// For the layers around: the session is in the extensions of its switch.
    pub(crate) fn into_response(self) -> Response<ErasedBody> {
        let mut response = self.response;
        if let Some(session) = self.session {
            response
                .extensions_mut()
                .insert(PendingSession::new(session));
        }
        response
    }
}

impl From<Rejection> for Decided {
    fn from(rejection: Rejection) -> Self {
        Self {
            response: rejection.into_response(),
            session: None,
        }
    }
}

/// Asks the handler, bounded in time, and answers, also if something panics that its future drops.
pub(crate) fn decide<H: ProtocolHandler>(
    handler: Arc<H>,
    mut request: UpgradeRequest,
    gate: Gate,
) -> BoxFuture<Decided> {
    // What a block takes in stays where it is; the arguments of an `async fn` would be there twice.
    Box::pin(async move {
        let answer = AssertUnwindSafe(ask(&*handler, &mut request, &gate)).catch_unwind();
        match answer.await {
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
    let admitted = match admit(gate.settings(), &request.parts) {
        Ok(admitted) => admitted,
        Err(rejection) => return conclude(Err(rejection), request, None, gate).await,
    };
    let timer = metrics::Timer::start();
    let decision = {
        // A block of its own, so that a panic on the way to the future is caught as well.
        let accept = async { handler.accept(request).await };
        let accept = AssertUnwindSafe(accept).catch_unwind();
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

/// Asks the registry, if there is one. That a session could not run here is found out as well, while there is an
/// answer to be had.
pub(crate) fn admit(settings: &Settings, request: &Parts) -> Result<Option<Admitted>, Rejection> {
    let admit = || {
        time::assert_runtime();
        let sessions = settings.sessions.as_ref();
        sessions.map(|sessions| sessions.admit(request)).transpose()
    };
    match panic::catch_unwind(AssertUnwindSafe(admit)) {
        Ok(admitted) => admitted,
        Err(panic) => Err(panicked(&*panic)),
    }
}

/// Waits for a decision, or for the request, no longer than a drain does.
async fn unless_drained<F: Future>(
    admitted: Option<&Admitted>,
    decision: Pin<&mut F>,
) -> Result<F::Output, Rejection> {
    let Some(admitted) = admitted else {
        return Ok(decision.await);
    };
    // Not bound by the budget of the task: who always spends it would keep the timer from firing.
    let drained = tokio::task::unconstrained(admitted.permit.sessions().drained());
    match select(decision, pin!(drained)).await {
        Either::Left((decision, _)) => Ok(decision),
        Either::Right(((), _)) => Err(Sessions::stopping()),
    }
}

/// Reads what is left of the request and turns the decision into a response.
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
                Ok(Ok(())) => switch(accept, request, admitted, gate),
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

/// Lets the handler have its own choice of the protocol, if it is the client's as well.
fn settle(mut accept: Accept, request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
    let Some(protocol) = accept.protocol.take() else {
        return Ok(accept);
    };
    // As it was offered, whatever the handler writes.
    let offered = request.offered().find(|offered| *offered == protocol);
    if offered.is_none() {
        trace::not_offered(&protocol);
        let rejection = Rejection::from(StatusCode::INTERNAL_SERVER_ERROR);
        return Err(rejection.with_source(format!("{protocol} was not offered")));
    }
    request.protocol = offered;
    Ok(accept)
}

/// Refuses a request. A connection of HTTP/1 can go on only if all of its body was read.
pub(crate) async fn refuse(
    mut rejection: Rejection,
    kind: UpgradeKind,
    parts: &Parts,
    mut body: RequestBody,
    gate: &Gate,
) -> Decided {
    let status = rejection.status();
    if switch::switches(kind, status) || status == StatusCode::SWITCHING_PROTOCOLS {
        trace::refusal_is_a_switch(status);
        rejection = StatusCode::INTERNAL_SERVER_ERROR.into();
    }
    let is_read = match kind {
        // It has no content, and its connection does not go on: nothing is worth waiting for.
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
    decided.response = decided
        .response
        .map(|response| linger::keep_open(response, body));
    decided
}

/// Lets a connection of HTTP/1 end after the refusal. Later versions have streams, which end anyway.
pub(crate) fn close(rejection: Rejection, version: Version) -> Rejection {
    match version <= Version::HTTP_11 {
        true => rejection.close(),
        false => rejection,
    }
}

/// The refusal of a request whose handler panicked.
pub(crate) fn panicked(panic: &(dyn Any + Send)) -> Rejection {
    let message = trace::panic_message(panic);
    trace::handler_panicked(&message);
    Rejection::from(StatusCode::INTERNAL_SERVER_ERROR)
        .with_source(format!("the handler panicked: {message}"))
}

/// The head of the switch, with the session that it starts.
pub(crate) fn switch(
    mut accept: Accept,
    request: &mut UpgradeRequest,
    admitted: Option<Admitted>,
    gate: &Gate,
) -> Decided {
    let headers = std::mem::take(&mut accept.headers);
    let switch = Switch::new(
        request.kind,
        &request.parts.headers,
        request.protocol.as_ref(),
        headers,
    );
    let mut response = Response::new(ErasedBody::empty());
    *response.status_mut() = switch.status();
    *response.headers_mut() = switch.headers();
    let session = Accepted::new(accept, request, admitted, switch, gate);
    Decided {
        response,
        session: Some(session),
    }
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
