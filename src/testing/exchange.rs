//! The outcome of a request, and the expectations of a test about it.

use super::observer::Reports;
use crate::{
    message::rejection::RejectionReason,
    negotiate::{kind::UpgradeKind, protocol::Protocol},
    session::{Closed, upgraded::Upgraded},
};
use bytes::Bytes;
use http::{Response, StatusCode};
use std::{fmt, sync::Arc};

/// The outcome of a request: the response, and the client side of the session if one has started.
#[derive(Debug)]
#[must_use = "call one of the `expect_` methods to check the outcome"]
pub struct Exchange {
    pub(super) response: Response<Bytes>,
    pub(super) reason: Option<RejectionReason>,
    pub(super) upgraded: Option<Opened>,
    pub(super) reports: Reports,
}

/// An upgraded connection or stream, on the client side.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) kind: UpgradeKind,
    /// The protocol of the session, if its name is valid.
    pub(super) protocol: Option<Protocol>,
    pub(super) io: Upgraded,
}

impl Exchange {
    /// Returns the response.
    #[must_use]
    pub fn response(&self) -> &Response<Bytes> {
        &self.response
    }

    /// Returns the client side of the session that an `Upgrade` or an extended CONNECT has started.
    ///
    /// # Panics
    ///
    /// If the response does not upgrade to `protocol`.
    #[must_use]
    #[track_caller]
    pub fn expect_upgraded(self, protocol: &str) -> Upgraded {
        match self.upgraded {
            Some(upgraded) if upgraded.protocol.as_ref().is_some_and(|is| is == protocol) => {
                upgraded.io
            }
            _ => self.unexpected(&format!("an upgrade to {protocol}")),
        }
    }

    /// Returns the client side of the tunnel that a CONNECT has opened.
    ///
    /// # Panics
    ///
    /// If the CONNECT was rejected, or the request was not a CONNECT.
    #[must_use]
    #[track_caller]
    pub fn expect_connected(self) -> Upgraded {
        match self.upgraded {
            Some(upgraded) if upgraded.kind == UpgradeKind::Connect => upgraded.io,
            _ => self.unexpected("a tunnel"),
        }
    }

    /// Returns the response of a handler or an `UpgradeLayer` that rejected the request.
    ///
    /// # Panics
    ///
    /// If the request was not rejected, or was rejected with another status.
    #[track_caller]
    pub fn expect_rejected(self, status: StatusCode) -> Response<Bytes> {
        if self.reason.is_some() && self.response.status() == status {
            self.response
        } else {
            self.unexpected(&format!("a rejection with {status}"))
        }
    }

    /// Returns the response of the inner service, or of middleware that answered in its place.
    ///
    /// # Panics
    ///
    /// If the request was upgraded, or rejected by a handler or an `UpgradeLayer`.
    #[track_caller]
    pub fn expect_passed(self) -> Response<Bytes> {
        if self.reason.is_none() && self.upgraded.is_none() {
            self.response
        } else {
            self.unexpected("a response of the inner service")
        }
    }

    /// Waits for the end of the session, and returns its close reason, byte counts and duration.
    ///
    /// Call this method before [`expect_upgraded`](Self::expect_upgraded) consumes the exchange, and await the
    /// future after the action that ends the session.
    ///
    /// If the layer has an [`on_close`](crate::UpgradeLayer::on_close) callback, the callback runs before this future
    /// completes. The connection is shut down afterwards, and the session stays in its
    /// [`Sessions`](crate::Sessions) until then.
    ///
    /// # Panics
    ///
    /// The future panics if no `UpgradeLayer` has started a session: the request was rejected, passed to the inner
    /// service, or upgraded by other code.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, futures of other calls still complete.
    pub fn closed(&self) -> impl Future<Output = Arc<Closed>> + Send + use<> {
        self.reports.clone().closed(self.response.status())
    }

    #[track_caller]
    fn unexpected(&self, expected: &str) -> ! {
        let what = match (&self.upgraded, &self.reason) {
            (Some(upgraded), _) => upgraded.to_string(),
            (None, Some(reason)) => format!("a rejection ({reason})"),
            (None, None) => "a response of the inner service".to_owned(),
        };
        panic!("expected {expected}, got {what}: {:?}", self.response)
    }
}

impl fmt::Display for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.kind, &self.protocol) {
            (UpgradeKind::Connect, _) => f.write_str("a tunnel"),
            (_, Some(protocol)) => write!(f, "an upgrade to {protocol}"),
            (_, None) => f.write_str("an upgrade to no protocol"),
        }
    }
}
