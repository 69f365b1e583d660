//! Governs foreign upgraders: services inside the layer that upgrade with hyper's `OnUpgrade` instead of a handler.
//!
//! The layer takes the request's upgrade, as for a handler, and puts a minted `OnUpgrade` in its place. The inner
//! service's upgrade response is its decision to accept. The commit starts a session, which resolves the minted
//! `OnUpgrade` to the session's connection.

mod body;
mod io;
mod keep_alive;
mod mint;
mod websocket;

use self::{body::Lent, mint::Mint, websocket::WebSocket};
use crate::{
    commit::{Decided, Gate, is_decided},
    decide,
    error::{BoxError, BoxFuture},
    message::{
        body::ErasedBody,
        rejection::{self, Rejection},
    },
    metrics::Labels,
    negotiate::{
        self,
        answer::{Answer, answer},
        kind::UpgradeKind,
        protocol::Protocol,
        upgrade_response::{self, UpgradeResponse},
    },
    session::{
        Identity, SessionHandler, accepted::Accepted, guard::Admitted, held::HeldUpgrade,
        quiet::Quiet, span::SessionSpan, state::State,
    },
    trace,
};
use http::{Extensions, Response, StatusCode, Version, request::Parts, response};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

/// The time without bytes after which a session of an unknown protocol ends at its stop signal.
const QUIET: Duration = Duration::from_secs(1);

/// A request on its way through a foreign upgrader.
pub(crate) struct Governed {
    gate: Release,
    kind: UpgradeKind,
    version: Version,
    offered: Vec<Protocol>,
    identity: Option<Identity>,
    mint: Mint,
    body: Option<Lent>,
}

impl Governed {
    /// Prepares a request for a foreign upgrader: admits it and replaces its upgrade with a minted one.
    ///
    /// Returns `None` if the request cannot upgrade, or if its upgrade is governed already.
    pub(crate) fn begin<B>(
        gate: &mut Gate,
        kind: UpgradeKind,
        parts: &mut Parts,
        body: &mut B,
    ) -> Result<Option<Self>, Rejection>
    where
        B: http_body::Body + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let offered: Vec<_> = negotiate::offered(kind, parts)
            .map(Protocol::from)
            .collect();
        if gate.is_governed() || is_http(kind, &offered) {
            return Ok(None);
        }
        if !gate.hold(parts) {
            return Ok(None);
        }
        let body = match Lent::lend(body, gate.settings().body_timeout()) {
            Ok(body) => body,
            // Serve the request without its upgrade: HTTP allows a server to ignore `Upgrade` (RFC 9110 §7.8).
            Err(body::CannotLend) => return Ok(None),
        };
        let admitted = decide::admit(gate, parts)?;
        let Some((mint, on_upgrade)) = Mint::new() else {
            return Ok(None);
        };
        gate.govern(admitted);
        parts.extensions.insert(on_upgrade);
        Ok(Some(Self {
            gate: Release(gate.clone()),
            kind,
            version: parts.version,
            offered,
            identity: parts.extensions.get().cloned(),
            mint,
            body,
        }))
    }

    /// Creates the session if `response` accepts the upgrade. Returns any other response, without handshake headers.
    ///
    /// Resolves when the request body has been read to its end.
    pub(crate) fn conclude<B>(
        mut self: Box<Self>,
        mut response: Response<B>,
    ) -> Result<BoxFuture<Decided>, Response<B>> {
        if is_decided(&response) {
            // A handler of this crate has accepted the request.
            return Err(response);
        }
        if !upgrade_response::is_upgrade(self.kind, response.status()) {
            // A layer in between may have replaced the upgrade response and kept its headers.
            upgrade_response::strip_foreign(response.status(), response.headers_mut());
            return Err(response);
        }
        let (head, _no_body) = response.into_parts();
        Ok(Box::pin(async move {
            if let Some(mut body) = self.body.take() {
                let limit = self.gate.0.settings().body_limit();
                if let Err(unread) = body.discard(limit).await {
                    return rejection::close(unread.into(), self.version).into();
                }
            }
            self.accept(head)
        }))
    }

    fn accept(self, mut head: response::Parts) -> Decided {
        // hyper sends the version of the request, whatever the service sets.
        let version = match self.kind {
            UpgradeKind::Upgrade => Version::HTTP_11,
            UpgradeKind::Connect | UpgradeKind::ExtendedConnect => self.version,
        };
        let answer = answer(
            self.kind,
            &self.offered,
            head.status,
            version,
            &head.headers,
        );
        let protocol = match answer {
            Ok(Answer::Upgraded(protocol)) => protocol,
            Ok(Answer::Refused) => None,
            Err(broken) => {
                trace::invalid_upgrade_response(&broken);
                return Rejection::from(StatusCode::INTERNAL_SERVER_ERROR)
                    .with_source(broken)
                    .into();
            }
        };
        let upgrade = UpgradeResponse::of_response(self.kind, &head.headers);
        upgrade.enforce(&mut head.headers);
        let identity = head.extensions.get().cloned().or(self.identity);
        let session = accepted(&self.gate.0, self.kind, protocol, identity, self.mint);
        let mut response = Response::new(ErasedBody::empty());
        *response.status_mut() = head.status;
        *response.headers_mut() = head.headers;
        *response.extensions_mut() = head.extensions;
        Decided {
            response,
            session: Some(self.gate.0.pending(session, upgrade)),
        }
    }
}

/// Releases the permit of a request that was not upgraded, even if its extensions, with another gate, live on.
struct Release(Gate);

impl Drop for Release {
    fn drop(&mut self) {
        drop(self.0.take_admitted());
    }
}

/// Returns `true` if a client offers HTTP itself only. Many clients send `Upgrade: h2c` with plain requests.
fn is_http(kind: UpgradeKind, offered: &[Protocol]) -> bool {
    let is_http = |protocol: &Protocol| {
        ["h2c", "HTTP", "TLS"]
            .iter()
            .any(|name| protocol.name().eq_ignore_ascii_case(name))
    };
    kind == UpgradeKind::Upgrade && offered.iter().all(is_http)
}

fn accepted(
    gate: &Gate,
    kind: UpgradeKind,
    protocol: Option<Protocol>,
    identity: Option<Identity>,
    mint: Mint,
) -> Box<Accepted> {
    let settings = Arc::clone(gate.settings());
    let admitted: Option<Admitted> = gate.take_admitted();
    let is_websocket = protocol.as_ref().is_some_and(Protocol::is_websocket);
    // A name that the client has made up would be a label without bounds.
    let label = is_websocket.then(|| "websocket".parse().expect("`websocket` is a token"));
    let labels = Labels::new(kind, label.as_ref());
    let state = State::new(
        kind,
        protocol,
        admitted.as_ref().and_then(|admitted| admitted.peer),
        labels,
        settings,
    );
    let state = Arc::new(state.with_identity(identity));
    let permit = admitted.map(|admitted| admitted.permit.enter(&state));
    Box::new(Accepted {
        run: SessionHandler::new(move |session| {
            let state = Arc::clone(session.state());
            let keep_alive = state.settings().govern_keep_alive();
            let io = session.into_io();
            let websocket = is_websocket.then(|| WebSocket::new(&io, keep_alive));
            mint.fulfil(io, websocket);
            Box::pin(Lending {
                state,
                is_websocket,
                is_stopping: false,
                quiet: None,
            })
        }),
        span: SessionSpan::new(&state),
        state,
        permit,
        extensions: Extensions::new(),
        request: None,
        upgrade: HeldUpgrade::none(),
    })
}

/// A session whose IO the upgrader has. Completes when the upgrader drops the IO, or at the stop signal of a session
/// that it does not end.
struct Lending {
    state: Arc<State>,
    is_websocket: bool,
    is_stopping: bool,
    /// Boxed, because most sessions do not wait at their stop signal.
    quiet: Option<Box<Quiet>>,
}

impl Future for Lending {
    type Output = Result<(), BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        // Registered before the checks, so that a signal in between is not lost.
        this.state.register_task(cx);
        if !this.state.is_io_in_use() {
            return Poll::Ready(Ok(()));
        }
        if !this.state.is_stopping() {
            return Poll::Pending;
        }
        if this.is_websocket {
            if !this.is_stopping {
                this.is_stopping = true;
                // The upgrader reads a close frame, and then drops its IO.
                this.state.wake_io();
            }
            return Poll::Pending;
        }
        // The session cannot end an unknown protocol politely: it waits for a moment without bytes.
        let quiet = this.quiet.get_or_insert_default();
        let bytes = this.state.bytes_read() + this.state.bytes_written();
        quiet.poll(cx, QUIET, bytes).map(Ok)
    }
}
