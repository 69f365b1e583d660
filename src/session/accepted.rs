//! An accepted session that has not started.

use crate::session::{
    Speak, guard::Permit, held::HeldUpgrade, settings::Settings, span::SessionSpan, state::State,
};
use http::{Extensions, request::Parts};
use std::sync::Arc;

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
}

impl Accepted {
    /// Whether a drain is over: then nobody would wait for this session.
    pub(crate) fn is_late(&self) -> bool {
        let permit = self.permit.as_ref();
        permit.is_some_and(|permit| permit.sessions().is_drained())
    }
}
