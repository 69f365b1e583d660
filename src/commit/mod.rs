//! The commit gate: nested layers decide, the outermost one lets a session start.
//!
//! A handler that ran as soon as its 101 was made would run even if a layer around turned that 101
//! into a 403: hyper hands the connection over when it ends, whatever was sent on it. So the
//! accepted session travels outwards in the extensions of the response, and hyper's `OnUpgrade`
//! waits in a slot of the outermost layer. The two meet only if the response that leaves that layer
//! is the switch (101, or any 2xx to a CONNECT) and still carries the session.

mod slot;

use self::slot::Slot;
use crate::{
    message::{
        body::{ErasedBody, ResponseBody},
        rejection::Rejection,
    },
    negotiate::{
        kind::UpgradeKind,
        upgrade_response::{self, UpgradeResponse},
    },
    session::{
        Sessions,
        accepted::Accepted,
        held::{AnyUpgrade, HeldUpgrade},
        settings::Settings,
        task,
    },
    trace,
};
use http::{Extensions, Response, StatusCode, Version, request::Parts};
use std::sync::Arc;
use sync_wrapper::SyncWrapper;

/// The slot of the outermost layer, as it travels inwards in the request's extensions.
#[derive(Clone)]
pub(crate) struct Gate {
    slot: Arc<Slot<AnyUpgrade, UpgradeResponse>>,
    settings: Arc<Settings>,
}

impl Gate {
    /// The gate that a layer around has put into this request.
    pub(crate) fn find(extensions: &Extensions) -> Option<&Self> {
        extensions.get()
    }

    pub(crate) fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// An accepted session of a request of this gate, with the head of its upgrade response.
    pub(crate) fn pending(&self, session: Box<Accepted>, head: UpgradeResponse) -> Pending {
        Pending {
            session,
            head,
            slot: Arc::clone(&self.slot),
        }
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
        request.extensions.remove::<Self>();
        let upgrade = AnyUpgrade::take(request);
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
        let pending = response
            .extensions_mut()
            .remove::<PendingSession>()
            .and_then(|pending| pending.claim(&self.gate));
        if let Some(pending) = &pending {
            if upgrade_response::is_upgrade(self.kind, response.status()) {
                pending.head.enforce(response.headers_mut());
            }
        }
        self.pass(response, pending)
    }

    /// Looks at the response of its own layer: nobody can have changed it.
    pub(crate) fn commit_own<B>(&self, decided: Decided) -> Response<ResponseBody<B>> {
        self.pass(decided.response.map(ResponseBody::own), decided.session)
    }

    /// Starts the session with its switch, or makes sure that it never starts.
    fn pass<B>(
        &self,
        mut response: Response<ResponseBody<B>>,
        pending: Option<Pending>,
    ) -> Response<ResponseBody<B>> {
        let (upgrade, head) = self.close();
        if upgrade.is_none() && !self.ends_connection() {
            // No handler of ours was chosen: what is inside answers for itself.
            return response;
        }
        if self.ends_connection() {
            // To an HTTP/1.0 client hyper would say `keep-alive` in a later version's response.
            *response.version_mut() = self.version;
        }
        // A 101 switches nothing but an `Upgrade`; to a CONNECT it must not leave even so.
        let is_upgrade = upgrade_response::is_upgrade(self.kind, response.status());
        if let (true, Some(pending), Some(upgrade)) = (is_upgrade, pending, upgrade) {
            if !pending.session.is_late() {
                task::spawn(pending.session, upgrade);
                return response.map(|_| ResponseBody::default());
            }
            response = Sessions::stopping().into_response().map(ResponseBody::own);
        } else if is_upgrade || response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let was_made = head.is_some();
            trace::no_session(response.status(), was_made);
            response = self
                .no_session(was_made)
                .into_response()
                .map(ResponseBody::own);
        } else if let Some(head) = head {
            trace::upgrade_response_replaced(response.status());
            head.strip(response.status(), response.headers_mut());
        }
        if self.ends_connection() {
            upgrade_response::close(response.headers_mut());
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

    fn close(&self) -> (Option<HeldUpgrade>, Option<UpgradeResponse>) {
        let (upgrade, head) = self.gate.slot.close();
        let upgrade = upgrade.map(|(upgrade, timeout)| HeldUpgrade::new(upgrade, timeout));
        (upgrade, head)
    }
}

impl Drop for Outermost {
    fn drop(&mut self) {
        drop(self.close());
    }
}

/// What became of a request: its response, and the accepted session if the response is an upgrade response.
pub(crate) struct Decided {
    pub(crate) response: Response<ErasedBody>,
    pub(crate) session: Option<Pending>,
}

impl Decided {
    /// The response of an inner layer, a leaf service or an extractor: the session travels in its extensions.
    pub(crate) fn into_response(self) -> Response<ErasedBody> {
        let mut response = self.response;
        if let Some(pending) = self.session {
            response
                .extensions_mut()
                .insert(PendingSession::new(pending));
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

/// An accepted session that waits for its commit.
pub(crate) struct Pending {
    session: Box<Accepted>,
    head: UpgradeResponse,
    slot: Arc<Slot<AnyUpgrade, UpgradeResponse>>,
}

/// A [`Pending`] in the extensions of the upgrade response.
///
/// One-shot: clones are empty.
pub(crate) struct PendingSession {
    pending: Option<SyncWrapper<Pending>>,
}

impl PendingSession {
    /// Leaves the head of the upgrade response in the slot: the outermost layer compares the response that leaves
    /// with it, also if the session has been lost by then.
    fn new(pending: Pending) -> Self {
        pending.slot.set_response(pending.head.clone());
        Self {
            pending: Some(SyncWrapper::new(pending)),
        }
    }

    /// Returns the pending session, if this is no clone and the session belongs to a request of this gate.
    fn claim(self, gate: &Gate) -> Option<Pending> {
        let pending = self.pending?.into_inner();
        Arc::ptr_eq(&pending.slot, &gate.slot).then_some(pending)
    }
}

impl Clone for PendingSession {
    fn clone(&self) -> Self {
        Self { pending: None }
    }
}
