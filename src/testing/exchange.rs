//! What a test can say of what came of its request.

use super::observer::Reports;
use crate::{Closed, Protocol, RejectionReason, UpgradeKind, Upgraded};
use bytes::Bytes;
use http::{Response, StatusCode};
use std::{fmt, sync::Arc};

/// What came of a request: the response, and the peer's end of the session if there is one.
#[derive(Debug)]
#[must_use = "say what is expected of it"]
pub struct Exchange {
    pub(super) response: Response<Bytes>,
    pub(super) reason: Option<RejectionReason>,
    pub(super) switched: Option<Switched>,
    pub(super) reports: Reports,
}

/// A connection, or a stream, that has left HTTP.
#[derive(Debug)]
pub(super) struct Switched {
    pub(super) kind: UpgradeKind,
    /// What the peer was told that it speaks, if it can be read.
    pub(super) protocol: Option<Protocol>,
    pub(super) io: Upgraded,
}

impl Exchange {
    /// The response.
    #[must_use]
    pub fn response(&self) -> &Response<Bytes> {
        &self.response
    }

    /// The peer's end of the session that an `Upgrade`, or an extended CONNECT, was answered with.
    ///
    /// # Panics
    ///
    /// If there was no switch, or not to this protocol.
    #[must_use]
    #[track_caller]
    pub fn expect_switched(self, protocol: &str) -> Upgraded {
        match self.switched {
            Some(switched) if switched.protocol.as_ref().is_some_and(|is| is == protocol) => {
                switched.io
            }
            _ => self.unexpected(&format!("a switch to {protocol}")),
        }
    }

    /// The peer's end of the session that a CONNECT was answered with.
    ///
    /// # Panics
    ///
    /// If the CONNECT was refused, or the request was none.
    #[must_use]
    #[track_caller]
    pub fn expect_connected(self) -> Upgraded {
        match self.switched {
            Some(switched) if switched.kind == UpgradeKind::Connect => switched.io,
            _ => self.unexpected("a tunnel"),
        }
    }

    /// The response of a handler, or of an `UpgradeLayer`, that refused.
    ///
    /// # Panics
    ///
    /// If nobody refused, or with another status.
    #[track_caller]
    pub fn expect_refused(self, status: StatusCode) -> Response<Bytes> {
        if self.reason.is_some() && self.response.status() == status {
            self.response
        } else {
            self.unexpected(&format!("a refusal with {status}"))
        }
    }

    /// The response of the inner service, to which the request was passed, or of a layer that
    /// answered in its place.
    ///
    /// # Panics
    ///
    /// If there was a switch, or a handler or an `UpgradeLayer` refused.
    #[track_caller]
    pub fn expect_passed(self) -> Response<Bytes> {
        if self.reason.is_none() && self.switched.is_none() {
            self.response
        } else {
            self.unexpected("a response of the inner service")
        }
    }

    /// Waits until the session has ended, and says how: the reason, the bytes, how long it was open.
    ///
    /// Ask for this before the peer's end is taken out with [`expect_switched`](Self::expect_switched), and
    /// await it after what is to end the session. The stack needs no
    /// [`on_close`](crate::UpgradeLayer::on_close) for it; one that it has is called before. The connection
    /// is shut down after it: a session is in its [`Sessions`](crate::Sessions) until then.
    ///
    /// # Panics
    ///
    /// When it is awaited, if there is no session of an `UpgradeLayer`: the request was refused or passed, or
    /// somebody else switched.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, one that was made beside it completes just the same.
    pub fn closed(&self) -> impl Future<Output = Arc<Closed>> + Send + use<> {
        self.reports.clone().closed(self.response.status())
    }

    #[track_caller]
    fn unexpected(&self, expected: &str) -> ! {
        let what = match (&self.switched, &self.reason) {
            (Some(switched), _) => switched.to_string(),
            (None, Some(reason)) => format!("a refusal ({reason})"),
            (None, None) => "a response of the inner service".to_owned(),
        };
        panic!("expected {expected}, got {what}: {:?}", self.response)
    }
}

impl fmt::Display for Switched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.kind, &self.protocol) {
            (UpgradeKind::Connect, _) => f.write_str("a tunnel"),
            (_, Some(protocol)) => write!(f, "a switch to {protocol}"),
            (_, None) => f.write_str("a switch to no protocol"),
        }
    }
}
