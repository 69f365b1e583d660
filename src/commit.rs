//! The commit gate: nested layers decide, the outermost one lets a session start.
//!
//! A handler that ran as soon as its 101 was made would run even if a layer around turned that 101
//! into a 403: hyper hands the connection over when it ends, whatever was sent on it. So the
//! accepted session travels outwards in the extensions of the response, and hyper's `OnUpgrade`
//! waits in a slot of the outermost layer. The two meet only if the response that leaves that layer
//! is the switch (101, or any 2xx to a CONNECT) and still carries the session.

use crate::{
    BoxError, Identity, PendingUpgrade, Sessions, Upgraded,
    body::ResponseBody,
    box_io::BoxIo,
    decision::Decided,
    detach::detach,
    handler::{Accept, BoxFuture, Speak},
    linger,
    negotiate::switch::{self, Switch},
    rejection::Rejection,
    request::{UpgradeKind, UpgradeRequest},
    session::{
        guard::{Admitted, Permit},
        state::State,
        task,
    },
    slot::Slot,
    time::Settings,
    trace::{self, SessionSpan},
};
use http::{Extensions, Response, StatusCode, Version, request::Parts};
use hyper::upgrade::OnUpgrade;
use std::{
    future::poll_fn,
    panic::{self, AssertUnwindSafe},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use sync_wrapper::SyncWrapper;

/// Whether the server that sent this request can hand its connection over.
pub(crate) fn is_available(extensions: &Extensions) -> bool {
    extensions.get::<OnUpgrade>().is_some() || extensions.get::<PendingUpgrade>().is_some()
}

/// The slot of the outermost layer, as it travels inwards in the request's extensions.
#[derive(Clone)]
pub(crate) struct Gate {
    slot: Arc<Slot<AnyUpgrade, Switch>>,
    settings: Arc<Settings>,
}

impl Gate {
    /// The gate that a layer around has put into this request.
    pub(crate) fn find(extensions: &Extensions) -> Option<&Self> {
        extensions.get()
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Where `settings` say something, they hold for what this layer and those inside it decide.
    pub(crate) fn with_settings(&self, settings: &Settings) -> Self {
        Self {
            slot: Arc::clone(&self.slot),
            settings: Arc::new(settings.or(&self.settings)),
        }
    }

    /// Moves the upgrade out of a request into the slot: from here on it is this crate's to fulfil.
    ///
    /// Returns whether the slot has it. It has none where the server cannot hand over its connections,
    /// and when the outermost layer has answered already.
    pub(crate) fn hold(&self, request: &mut Parts) -> bool {
        let extensions = &mut request.extensions;
        extensions.remove::<Self>();
        let other = extensions
            .remove::<PendingUpgrade>()
            .and_then(PendingUpgrade::take);
        let hyper = extensions.remove::<OnUpgrade>();
        let upgrade = match (other, hyper) {
            (Some(other), _) => Some(AnyUpgrade::Other(SyncWrapper::new(other))),
            (None, Some(hyper)) if request.version <= Version::HTTP_11 => {
                Some(AnyUpgrade::Connection(hyper))
            }
            (None, Some(hyper)) => Some(AnyUpgrade::Stream(hyper)),
            (None, None) => None,
        };
        let timeout = self.settings.shutdown_timeout();
        self.slot.hold(upgrade, timeout).unwrap_or_else(|late| {
            drop(HeldUpgrade::new(late, timeout));
            false
        })
    }
}

/// The outermost layer's end of the [`Gate`]: dropped with the response future, it closes it.
pub(crate) struct Outermost {
    gate: Gate,
    kind: UpgradeKind,
    version: Version,
}

impl Outermost {
    pub(crate) fn new(settings: Arc<Settings>, kind: UpgradeKind, version: Version) -> Self {
        let gate = Gate {
            slot: Arc::new(Slot::new()),
            settings,
        };
        Self {
            gate,
            kind,
            version,
        }
    }

    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Whether the connection cannot go on after any response: a CONNECT on HTTP/1. Behind it there
    /// may be bytes for the tunnel, which nobody must take for a request (RFC 9931).
    pub(crate) fn ends_connection(&self) -> bool {
        self.kind == UpgradeKind::Connect && self.version <= Version::HTTP_11
    }

    /// Looks at the response of a service inside, which is about to leave.
    pub(crate) fn commit<B>(
        &self,
        mut response: Response<ResponseBody<B>>,
    ) -> Response<ResponseBody<B>> {
        let session = response
            .extensions_mut()
            .remove::<PendingSession>()
            .and_then(|pending| pending.claim(&self.gate));
        if let Some(session) = &session {
            if switch::switches(self.kind, response.status()) {
                session.switch.enforce(response.headers_mut());
            }
        }
        self.pass(response, session)
    }

    /// Looks at the response of its own layer: nobody can have changed it.
    pub(crate) fn commit_own<B>(&self, decided: Decided) -> Response<ResponseBody<B>> {
        self.pass(decided.response.map(ResponseBody::own), decided.session)
    }

    /// Starts the session with its switch, or makes sure that it never starts.
    fn pass<B>(
        &self,
        mut response: Response<ResponseBody<B>>,
        session: Option<Box<Accepted>>,
    ) -> Response<ResponseBody<B>> {
        let (upgrade, switch) = self.close();
        if upgrade.is_none() && !self.ends_connection() {
            // No handler of ours was chosen: what is inside answers for itself.
            return response;
        }
        if self.ends_connection() {
            // To an HTTP/1.0 client hyper would say `keep-alive` in a later version's response.
            *response.version_mut() = self.version;
        }
        // A 101 switches nothing but an `Upgrade`; to a CONNECT it must not leave even so.
        let switches = switch::switches(self.kind, response.status());
        if let (true, Some(session), Some(upgrade)) = (switches, session, upgrade) {
            if !session.is_late() {
                task::spawn(session, upgrade);
                return response.map(|_| ResponseBody::default());
            }
            response = Sessions::stopping().into_response().map(ResponseBody::own);
        } else if switches || response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let was_made = switch.is_some();
            trace::no_session(response.status(), was_made);
            response = self
                .no_session(was_made)
                .into_response()
                .map(ResponseBody::own);
        } else if let Some(switch) = switch {
            trace::switch_replaced(response.status());
            switch.strip(response.status(), response.headers_mut());
        }
        if self.ends_connection() {
            switch::close(response.headers_mut());
        }
        response
    }

    /// The response in place of a switch that has no session: it lost it, or never had one.
    fn no_session(&self, was_made: bool) -> Rejection {
        let message = match was_made {
            true => "the upgrade was lost on its way",
            false => "the upgrade is not supported",
        };
        match self.kind {
            UpgradeKind::Upgrade => {
                Rejection::new(StatusCode::INTERNAL_SERVER_ERROR, message).close()
            }
            UpgradeKind::Connect | UpgradeKind::ExtendedConnect => {
                Rejection::new(StatusCode::NOT_IMPLEMENTED, message)
            }
        }
    }

    fn close(&self) -> (Option<HeldUpgrade>, Option<Switch>) {
        let (upgrade, switch) = self.gate.slot.close();
        let upgrade = upgrade.map(|(upgrade, timeout)| HeldUpgrade::new(upgrade, timeout));
        (upgrade, switch)
    }
}

impl Drop for Outermost {
    fn drop(&mut self) {
        drop(self.close());
    }
}

/// An accepted session that has not started, in the extensions of the response that switches.
///
/// One-shot: clones are empty.
pub(crate) struct PendingSession {
    session: Option<SyncWrapper<Box<Accepted>>>,
}

/// What a session starts with, but for its IO.
pub(crate) struct Accepted {
    pub(crate) speak: Speak,
    pub(crate) state: Arc<State>,
    pub(crate) span: SessionSpan,
    /// None where there is no registry.
    pub(crate) permit: Option<Permit>,
    pub(crate) extensions: Extensions,
    pub(crate) request: Option<Box<Parts>>,
    pub(crate) settings: Arc<Settings>,
    /// None yet: it is in the slot until the response leaves.
    pub(crate) upgrade: HeldUpgrade,
    switch: Switch,
    slot: Arc<Slot<AnyUpgrade, Switch>>,
}

impl Accepted {
    /// Takes what it needs of the request.
    pub(crate) fn new(
        accept: Accept,
        request: &mut UpgradeRequest,
        admitted: Option<Admitted>,
        switch: Switch,
        gate: &Gate,
    ) -> Box<Self> {
        let settings = match accept.lifetime {
            Some(lifetime) => Arc::new(gate.settings.with_lifetime(lifetime)),
            None => Arc::clone(&gate.settings),
        };
        let of_layer = || request.parts.extensions.get::<Identity>().cloned();
        let identity = accept.identity.or_else(of_layer);
        let state = State::new(
            request.kind,
            request.protocol.take(),
            admitted.as_ref().and_then(|admitted| admitted.peer),
            request.labels.clone(),
            settings.idle_timeout().is_some(),
        );
        let state = Arc::new(state.with_identity(identity));
        let permit = admitted.map(|admitted| admitted.permit.enter(&state));
        let mut extensions = std::mem::take(&mut request.parts.extensions);
        detach(&mut extensions);
        Box::new(Self {
            speak: accept.speak,
            span: SessionSpan::new(&state),
            state,
            permit,
            extensions,
            request: accept.keep_request.then(|| Box::new(request.take_parts())),
            settings,
            upgrade: HeldUpgrade::none(),
            switch,
            slot: Arc::clone(&gate.slot),
        })
    }

    /// Whether a drain is over: then nobody would wait for this session.
    fn is_late(&self) -> bool {
        let permit = self.permit.as_ref();
        permit.is_some_and(|permit| permit.sessions().is_drained())
    }
}

impl PendingSession {
    /// What becomes of its response is seen when that leaves.
    pub(crate) fn new(session: Box<Accepted>) -> Self {
        session.slot.set_switch(session.switch.clone());
        Self {
            session: Some(SyncWrapper::new(session)),
        }
    }

    /// The session, if it is still in here and if it is one of this gate's requests.
    fn claim(self, gate: &Gate) -> Option<Box<Accepted>> {
        let session = self.session?.into_inner();
        Arc::ptr_eq(&session.slot, &gate.slot).then_some(session)
    }
}

impl Clone for PendingSession {
    fn clone(&self) -> Self {
        Self { session: None }
    }
}

/// The right to an upgraded connection, and a future of it.
///
/// If it is dropped unused the connection still ends in order.
pub(crate) struct HeldUpgrade {
    upgrade: Option<AnyUpgrade>,
    shutdown_timeout: Duration,
}

impl HeldUpgrade {
    fn none() -> Self {
        Self {
            upgrade: None,
            shutdown_timeout: Duration::ZERO,
        }
    }

    fn new(upgrade: AnyUpgrade, shutdown_timeout: Duration) -> Self {
        Self {
            upgrade: Some(upgrade),
            shutdown_timeout,
        }
    }
}

enum AnyUpgrade {
    /// Of hyper's HTTP/1: all of the connection.
    Connection(OnUpgrade),
    /// Of hyper's HTTP/2: one stream, which ends with its response if that is no switch.
    Stream(OnUpgrade),
    Other(SyncWrapper<BoxFuture<Result<Upgraded, BoxError>>>),
}

impl Future for HeldUpgrade {
    type Output = Result<BoxIo, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let io = match &mut self.upgrade {
            Some(AnyUpgrade::Connection(upgrade) | AnyUpgrade::Stream(upgrade)) => {
                ready!(poll_hyper(upgrade, cx))
            }
            Some(AnyUpgrade::Other(upgrade)) => {
                let io = ready!(upgrade.get_mut().as_mut().poll(cx));
                io.map(Upgraded::into_box_io)
            }
            None => Err("the upgrade was used before".into()),
        };
        self.upgrade = None;
        Poll::Ready(io)
    }
}

impl Drop for HeldUpgrade {
    /// After a refusal hyper drops the connection at its end, where without an upgrade it would shut
    /// it down: the client can lose the response to a reset, and on TLS sees no close_notify. So
    /// somebody has to wait for the connection and end it. hyper keeps one upgrade for a
    /// connection, so there is one who waits: a later one replaces it.
    fn drop(&mut self) {
        let Some(AnyUpgrade::Connection(upgrade)) = self.upgrade.take() else {
            return;
        };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let timeout = self.shutdown_timeout;
        runtime.spawn(async move {
            let mut upgrade = upgrade;
            if let Ok(io) = poll_fn(|cx| poll_hyper(&mut upgrade, cx)).await {
                linger::close(io, timeout).await;
            }
        });
    }
}

fn poll_hyper(upgrade: &mut OnUpgrade, cx: &mut Context<'_>) -> Poll<Result<BoxIo, BoxError>> {
    // It panics if a clone of it was used before. Nobody inside has one, but a layer around the
    // outermost one may have sent a clone of the request.
    let upgraded = panic::catch_unwind(AssertUnwindSafe(|| Pin::new(upgrade).poll(cx)));
    match upgraded {
        Ok(upgraded) => upgraded.map(|upgraded| match upgraded {
            Ok(io) => Ok(BoxIo::from(io)),
            Err(error) => {
                if error.is_user() {
                    trace::cannot_switch(&error);
                }
                Err(error.into())
            }
        }),
        Err(_) => Poll::Ready(Err("a clone of the request has used the upgrade".into())),
    }
}
