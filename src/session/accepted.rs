//! An accepted session that has not started.

use crate::session::{
    SessionHandler, guard::Permit, held::HeldUpgrade, span::SessionSpan, state::State,
};
use http::{Extensions, request::Parts};
use std::sync::Arc;

/// The data that a session starts with, except its IO.
pub(crate) struct Accepted {
    pub(crate) run: SessionHandler,
    pub(crate) state: Arc<State>,
    pub(crate) span: SessionSpan,
    /// `None` without a registry.
    pub(crate) permit: Option<Permit>,
    pub(crate) extensions: Extensions,
    pub(crate) request: Option<Box<Parts>>,
    /// Empty until the response is sent: the upgrade is in the slot until then.
    pub(crate) upgrade: HeldUpgrade,
}

impl Accepted {
    /// Returns `true` if the deadline of a drain has passed: the drain would not wait for this session.
    pub(crate) fn is_late(&self) -> bool {
        let permit = self.permit.as_ref();
        permit.is_some_and(|permit| permit.sessions().is_drained())
    }
}
