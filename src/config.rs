//! What a layer was told, and what it makes of a request's head.

use crate::{
    Preference, Protocol, Rejection, Unsupported, UpgradeKind,
    handler::ErasedHandler,
    metrics::Labels,
    negotiate::{self, Choice, choose, connect},
    time::Settings,
};
use http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts};
use std::{fmt, sync::Arc};

#[derive(Clone, Default)]
pub(crate) struct Config {
    pub(crate) protocols: Vec<(Protocol, Arc<dyn ErasedHandler>)>,
    pub(crate) connect: Vec<Arc<dyn ErasedHandler>>,
    pub(crate) preference: Preference,
    pub(crate) unsupported: Option<Unsupported>,
    pub(crate) settings: Arc<Settings>,
}

/// What becomes of an upgrade request.
pub(crate) enum Outcome {
    /// A handler decides.
    Handler {
        handler: Arc<dyn ErasedHandler>,
        protocol: Option<Protocol>,
        labels: Labels,
    },
    Refuse(Rejection),
    /// It goes to the inner service.
    Pass,
}

impl Config {
    /// Whether it can serve anything. A layer that cannot serve leaves the answer to those inside.
    pub(crate) fn has_handlers(&self) -> bool {
        !(self.protocols.is_empty() && self.connect.is_empty())
    }

    /// Picks a handler. Handlers are asked whether they want the request, which may panic.
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
            |index| self.protocols[index].1.wants(parts),
        );
        match choice {
            Choice::Chosen { index, member } => {
                let (protocol, handler) = &self.protocols[index];
                Outcome::Handler {
                    handler: Arc::clone(handler),
                    protocol: Some(protocol.as_offered(member)),
                    labels: Labels::new(kind, Some(protocol)),
                }
            }
            Choice::Declined => Outcome::Pass,
            Choice::Unsupported => self.unsupported(kind),
        }
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
        match self.connect.iter().find(|handler| handler.wants(parts)) {
            Some(handler) => Outcome::Handler {
                handler: Arc::clone(handler),
                protocol: None,
                labels: Labels::new(UpgradeKind::Connect, None),
            },
            None => Outcome::Pass,
        }
    }

    fn unsupported(&self, kind: UpgradeKind) -> Outcome {
        let (default, can_refuse) = match kind {
            // The refusal lists what is supported.
            UpgradeKind::Upgrade => (Unsupported::Pass, !self.protocols.is_empty()),
            // A layer that serves no protocol at all leaves them to those inside.
            UpgradeKind::ExtendedConnect => (Unsupported::Refuse, !self.protocols.is_empty()),
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

    /// What is supported, in the server's order, as the fields of a 426.
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

/// The fields of a 426 that say what is supported.
pub(crate) fn supported(protocols: &[&str]) -> HeaderMap {
    let list = HeaderValue::from_str(&protocols.join(", "))
        .expect("tokens, slashes, commas and spaces are a field value");
    HeaderMap::from_iter([
        (header::CONNECTION, HeaderValue::from_static("upgrade")),
        (header::UPGRADE, list),
    ])
}

/// A 426, with fields that say what is supported.
pub(crate) fn upgrade_required(supported: &HeaderMap) -> Rejection {
    let mut rejection = Rejection::new(
        StatusCode::UPGRADE_REQUIRED,
        "none of the offered protocols is supported",
    );
    for (name, value) in supported {
        rejection = rejection.header(name, value.clone());
    }
    rejection
}

pub(crate) fn not_implemented(message: &'static str) -> Rejection {
    Rejection::new(StatusCode::NOT_IMPLEMENTED, message)
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
            .field("connect", &self.connect.len())
            .field("preference", &self.preference)
            .field("unsupported", &self.unsupported)
            .field("settings", &self.settings)
            .finish()
    }
}
