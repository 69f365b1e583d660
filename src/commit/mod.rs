//! The commit gate: inner layers accept or reject, and the outermost layer starts the session.
//!
//! A session handler that started when its 101 was created would run even if an outer layer replaced the 101 by a 403:
//! hyper hands over the connection when it has finished with HTTP, whichever status was sent. Therefore the accepted
//! session travels outwards in the extensions of the response, while hyper's `OnUpgrade` waits in a slot of the
//! outermost layer. The session starts only if the response that leaves the outermost layer is an upgrade response (101,
//! or a 2xx to a CONNECT) and still carries the session.

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
        guard::Admitted,
        held::{AnyUpgrade, HeldUpgrade},
        settings::Settings,
        task,
    },
    trace,
};
use http::{Extensions, Response, StatusCode, Version, request::Parts};
use std::sync::{Arc, Mutex, PoisonError};
use sync_wrapper::SyncWrapper;

/// A handle to the slot of the outermost layer. Travels inwards in the extensions of the request.
#[derive(Clone)]
pub(crate) struct Gate {
    slot: Arc<Slot<AnyUpgrade, UpgradeResponse>>,
    settings: Arc<Settings>,
    /// The admission of a governed request.
    admission: Option<Arc<Mutex<Option<Admitted>>>>,
}

impl Gate {
    /// Returns the gate of an outer layer, if the request has passed through one.
    pub(crate) fn find(extensions: &Extensions) -> Option<&Self> {
        extensions.get()
    }

    pub(crate) fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// Combines an accepted session with the head of its upgrade response.
    pub(crate) fn pending(&self, session: Box<Accepted>, head: UpgradeResponse) -> Pending {
        Pending {
            session,
            head,
            slot: Arc::clone(&self.slot),
        }
    }

    /// Returns a gate for the sessions accepted by this layer and the layers inside it: `settings` override those of
    /// outer layers.
    pub(crate) fn with_settings(&self, settings: &Settings) -> Self {
        Self {
            slot: Arc::clone(&self.slot),
            settings: Arc::new(settings.or(&self.settings)),
            admission: self.admission.clone(),
        }
    }

    /// Marks the request as governed. The session of the request takes the admission, whoever accepts it.
    pub(crate) fn govern(&mut self, admitted: Option<Admitted>) {
        self.admission = Some(Arc::new(Mutex::new(admitted)));
    }

    pub(crate) fn is_governed(&self) -> bool {
        self.admission.is_some()
    }

    /// Takes the admission of a governed request.
    pub(crate) fn take_admitted(&self) -> Option<Admitted> {
        let mut admission = self
            .admission
            .as_ref()?
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        admission.take()
    }

    /// Moves the upgrade out of a request into the slot.
    ///
    /// Returns `false` if the server cannot hand over its connection, or if the outermost layer has already returned a
    /// response.
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

/// The outermost layer's side of the [`Gate`]. Closes the gate when dropped with the response future.
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
            admission: None,
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

    /// Returns `true` if the connection must close after a rejection: a CONNECT on HTTP/1. Bytes for the tunnel may
    /// follow the request, and the server must not parse them as another request (RFC 9931).
    pub(crate) fn ends_connection(&self) -> bool {
        self.kind == UpgradeKind::Connect && self.version <= Version::HTTP_11
    }

    /// Checks the response of the inner service, and starts the session that the response carries.
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

    /// Checks a response of this layer's own handler, which no other layer can have changed.
    pub(crate) fn commit_own<B>(&self, decided: Decided) -> Response<ResponseBody<B>> {
        self.pass(decided.response.map(ResponseBody::own), decided.session)
    }

    /// Starts the session if the response is an upgrade response, and drops the session otherwise.
    fn pass<B>(
        &self,
        mut response: Response<ResponseBody<B>>,
        pending: Option<Pending>,
    ) -> Response<ResponseBody<B>> {
        let (upgrade, head) = self.close();
        if upgrade.is_none() && !self.ends_connection() {
            // No handler of this crate was chosen: the response of the inner service passes unchanged.
            return response;
        }
        if self.ends_connection() {
            // With a response of a later version, hyper would send `keep-alive` to an HTTP/1.0 client.
            *response.version_mut() = self.version;
        }
        // A 101 must not be sent in response to a CONNECT.
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

    /// Returns the response that replaces an upgrade response without a session.
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

/// The response to a request, with the accepted session if the response is an upgrade response.
pub(crate) struct Decided {
    pub(crate) response: Response<ErasedBody>,
    pub(crate) session: Option<Pending>,
}

impl Decided {
    /// Converts to the response of an inner layer, a leaf service or an extractor, with the session in its extensions.
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

/// An accepted session before its commit.
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
    /// Stores the head of the upgrade response in the slot, so that the outermost layer can remove the handshake headers
    /// from another response even if the session was lost.
    fn new(pending: Pending) -> Self {
        pending.slot.set_response(pending.head.clone());
        Self {
            pending: Some(SyncWrapper::new(pending)),
        }
    }

    /// Returns the pending session. `None` for a clone, and for a session of another request.
    fn claim(self, gate: &Gate) -> Option<Pending> {
        let pending = self.pending?.into_inner();
        Arc::ptr_eq(&pending.slot, &gate.slot).then_some(pending)
    }
}

/// Returns `true` if a handler of this crate has accepted the request, in a layer inside or an extractor.
pub(crate) fn is_decided<B>(response: &Response<B>) -> bool {
    let pending = response.extensions().get::<PendingSession>();
    pending.is_some_and(|pending| pending.pending.is_some())
}

impl Clone for PendingSession {
    fn clone(&self) -> Self {
        Self { pending: None }
    }
}
