//! The configuration of a layer, and its choice of a handler.

use crate::message::rejection::{not_implemented, supported, upgrade_required};
use crate::{
    decide::erased::BoxHandler,
    handler::ProtocolHandler as _,
    message::rejection::Rejection,
    metrics::Labels,
    negotiate::{
        self, Choice, Preference, Unsupported, choose, connect, kind::UpgradeKind,
        protocol::Protocol,
    },
    session::settings::Settings,
};
use http::{HeaderMap, StatusCode, request::Parts};
use std::{fmt, sync::Arc};

#[derive(Clone, Default)]
pub(crate) struct Config {
    pub(crate) protocols: Vec<(Protocol, BoxHandler)>,
    /// Handlers for requests that none of `protocols` takes.
    pub(crate) any_protocol: Vec<BoxHandler>,
    pub(crate) connect: Vec<BoxHandler>,
    pub(crate) preference: Preference,
    pub(crate) unsupported: Option<Unsupported>,
    /// Whether the layer governs foreign upgraders inside.
    pub(crate) governs: bool,
    pub(crate) settings: Arc<Settings>,
}

/// The outcome of an upgrade request at one layer.
pub(crate) enum Outcome {
    /// The handler decides.
    Handler {
        handler: BoxHandler,
        protocol: Option<Protocol>,
        /// Whether the handler was registered for any protocol.
        is_for_any: bool,
        labels: Labels,
    },
    Refuse(Rejection),
    /// The inner service gets the request.
    Pass,
}

impl Config {
    /// Whether the layer has a handler. A layer without one leaves all requests to the layers inside.
    pub(crate) fn has_handlers(&self) -> bool {
        self.has_protocols() || !self.connect.is_empty()
    }

    fn has_protocols(&self) -> bool {
        !(self.protocols.is_empty() && self.any_protocol.is_empty())
    }

    /// Chooses a handler. Calls `ProtocolHandler::matches`, which may panic.
    pub(crate) fn negotiate(&self, kind: UpgradeKind, parts: &Parts) -> Outcome {
        match kind {
            UpgradeKind::Upgrade | UpgradeKind::ExtendedConnect => self.offer(kind, parts),
            UpgradeKind::Connect => self.connect(parts),
        }
    }

    fn offer(&self, kind: UpgradeKind, parts: &Parts) -> Outcome {
        let choice = choose(
            || negotiate::offered(kind, parts),
            self.protocols.iter().map(|(protocol, _)| protocol),
            self.preference,
            |index| self.protocols[index].1.matches(parts),
        );
        if let Choice::Chosen { index, member } = choice {
            let (protocol, handler) = &self.protocols[index];
            return Outcome::Handler {
                handler: handler.clone(),
                protocol: Some(protocol.as_offered(member)),
                is_for_any: false,
                labels: Labels::new(kind, Some(protocol)),
            };
        }
        match self.any(kind, parts) {
            Some(outcome) => outcome,
            None if choice == Choice::Declined => Outcome::Pass,
            None => self.unsupported(kind),
        }
    }

    /// Returns the first `any_protocol` handler that matches the request.
    fn any(&self, kind: UpgradeKind, parts: &Parts) -> Option<Outcome> {
        // An invalid `:protocol` matches no handler.
        let first = negotiate::offered(kind, parts).next()?;
        let mut handlers = self.any_protocol.iter();
        let handler = handlers.find(|handler| handler.matches(parts))?;
        Some(Outcome::Handler {
            handler: handler.clone(),
            protocol: Some(first.into()),
            is_for_any: true,
            labels: Labels::new(kind, None),
        })
    }

    fn connect(&self, parts: &Parts) -> Outcome {
        if self.connect.is_empty() {
            return self.unsupported(UpgradeKind::Connect);
        }
        let wrong = match connect::target(&parts.uri) {
            Err(wrong) => Some(wrong),
            Ok(_) if connect::has_content(&parts.headers) => Some("a CONNECT has no content"),
            Ok(_) => None,
        };
        if let Some(wrong) = wrong {
            return Outcome::Refuse(Rejection::new(StatusCode::BAD_REQUEST, wrong));
        }
        match self.connect.iter().find(|handler| handler.matches(parts)) {
            Some(handler) => Outcome::Handler {
                handler: handler.clone(),
                protocol: None,
                is_for_any: false,
                labels: Labels::new(UpgradeKind::Connect, None),
            },
            None => Outcome::Pass,
        }
    }

    fn unsupported(&self, kind: UpgradeKind) -> Outcome {
        let (default, can_refuse) = match kind {
            // A 426 must list the supported protocols.
            UpgradeKind::Upgrade => (Unsupported::Pass, !self.protocols.is_empty()),
            // A layer without protocols leaves extended CONNECT to the layers inside.
            UpgradeKind::ExtendedConnect => (Unsupported::Refuse, self.has_protocols()),
            UpgradeKind::Connect => (Unsupported::Refuse, self.has_handlers()),
        };
        if !can_refuse || self.unsupported.unwrap_or(default) == Unsupported::Pass {
            return Outcome::Pass;
        }
        Outcome::Refuse(match kind {
            UpgradeKind::Upgrade => upgrade_required(&self.supported()),
            UpgradeKind::Connect => not_implemented("CONNECT is not supported"),
            UpgradeKind::ExtendedConnect => not_implemented("this protocol is not supported"),
        })
    }

    /// Returns the fields of a 426 that list the layer's protocols, in the order of registration.
    pub(crate) fn supported(&self) -> HeaderMap {
        let mut list: Vec<&str> = Vec::new();
        for (protocol, _) in &self.protocols {
            if !list.contains(&protocol.as_str()) {
                list.push(protocol.as_str());
            }
        }
        supported(&list)
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocols: Vec<_> = self
            .protocols
            .iter()
            .map(|(protocol, _)| protocol)
            .collect();
        f.debug_struct("UpgradeLayer")
            .field("protocols", &protocols)
            .field("any_protocol", &self.any_protocol.len())
            .field("connect", &self.connect.len())
            .field("preference", &self.preference)
            .field("unsupported", &self.unsupported)
            .field("settings", &self.settings)
            .finish()
    }
}
