//! What is counted, through the [`metrics`](https://docs.rs/metrics) facade.
//!
//! Install a recorder, such as that of `metrics-exporter-prometheus`, and these are recorded:
//!
//! | name | type | labels | what |
//! |---|---|---|---|
//! | `tower_upgrade_sessions_opened_total` | counter | `kind`, `protocol` | sessions whose switch was let out |
//! | `tower_upgrade_sessions_closed_total` | counter | `kind`, `protocol`, `reason` | sessions that have ended |
//! | `tower_upgrade_sessions_open` | gauge | `kind`, `protocol` | the difference of the two |
//! | `tower_upgrade_session_duration_seconds` | histogram | `kind`, `protocol`, `reason` | how long they were open |
//! | `tower_upgrade_session_bytes_total` | counter | `kind`, `protocol`, `direction` | what their handlers read and wrote, when they have ended |
//! | `tower_upgrade_accept_duration_seconds` | histogram | `kind`, `protocol` | how long handlers took to decide |
//! | `tower_upgrade_refusals_total` | counter | `status` | requests that a handler or a layer refused |
//!
//! | label | values |
//! |---|---|
//! | `kind` | of [`UpgradeKind`]: `upgrade`, `connect`, `extended-connect` |
//! | `protocol` | the name that the handler was registered with, not what the client wrote; `other` with a handler for [any protocol](crate::UpgradeLayer::any_protocol); `connect` for a CONNECT |
//! | `reason` | of [`CloseReason`](crate::CloseReason): `finished`, `failed`, `panicked`, `idle`, `lifetime`, `drained`, `aborted`, `never-switched` |
//! | `direction` | `read`, `written` |
//! | `status` | `403` |
//!
//! [`describe`] tells the recorder what they are. No label holds what a client can choose freely. Refusals of layers
//! in between, such as a timeout, are theirs to count.

use crate::{Closed, Protocol, UpgradeKind};
use http::StatusCode;

/// What a session is counted under. Without the feature it is nothing.
#[derive(Clone)]
pub(crate) struct Labels {
    #[cfg(feature = "metrics")]
    kind: UpgradeKind,
    /// As it was registered.
    #[cfg(feature = "metrics")]
    protocol: Option<Protocol>,
}

#[cfg(not(feature = "metrics"))]
impl Labels {
    pub(crate) fn new(_kind: UpgradeKind, _registered: Option<&Protocol>) -> Self {
        Self {}
    }
}

#[cfg(feature = "metrics")]
impl Labels {
    pub(crate) fn new(kind: UpgradeKind, registered: Option<&Protocol>) -> Self {
        Self {
            kind,
            protocol: registered.cloned(),
        }
    }

    fn protocol(&self) -> metrics::SharedString {
        match &self.protocol {
            Some(protocol) => metrics::SharedString::from_shared(protocol.shared()),
            None if self.kind == UpgradeKind::Connect => "connect".into(),
            None => "other".into(),
        }
    }

    fn kind(&self) -> &'static str {
        self.kind.as_str()
    }
}

#[cfg(not(feature = "metrics"))]
mod record {
    use super::{Closed, Labels, StatusCode};

    pub(crate) struct Timer;

    impl Timer {
        pub(crate) fn start() -> Self {
            Self
        }
    }

    pub(crate) fn decided(_timer: Timer, _labels: &Labels) {}

    pub(crate) fn refused(_status: StatusCode) {}
    pub(crate) fn opened(_labels: &Labels) {}
    pub(crate) fn closed(_labels: &Labels, _closed: &Closed) {}
}

#[cfg(feature = "metrics")]
mod record {
    use super::{Closed, Labels, StatusCode};
    use metrics::{counter, gauge, histogram};
    use tokio::time::Instant;

    /// Of a handler that decides.
    pub(crate) struct Timer {
        started: Instant,
    }

    impl Timer {
        pub(crate) fn start() -> Self {
            Self {
                started: Instant::now(),
            }
        }
    }

    pub(crate) fn decided(timer: Timer, labels: &Labels) {
        let (kind, protocol) = (labels.kind(), labels.protocol());
        histogram!("tower_upgrade_accept_duration_seconds", "kind" => kind, "protocol" => protocol)
            .record(timer.started.elapsed());
    }

    pub(crate) fn refused(status: StatusCode) {
        let status = status.as_str().to_owned();
        counter!("tower_upgrade_refusals_total", "status" => status).increment(1);
    }

    pub(crate) fn opened(labels: &Labels) {
        let (kind, protocol) = (labels.kind(), labels.protocol());
        counter!(
            "tower_upgrade_sessions_opened_total",
            "kind" => kind,
            "protocol" => protocol.clone()
        )
        .increment(1);
        gauge!("tower_upgrade_sessions_open", "kind" => kind, "protocol" => protocol).increment(1);
    }

    pub(crate) fn closed(labels: &Labels, closed: &Closed) {
        let (kind, protocol) = (labels.kind(), || labels.protocol());
        let reason = closed.reason().as_str();
        counter!(
            "tower_upgrade_sessions_closed_total",
            "kind" => kind,
            "protocol" => protocol(),
            "reason" => reason
        )
        .increment(1);
        gauge!("tower_upgrade_sessions_open", "kind" => kind, "protocol" => protocol())
            .decrement(1);
        histogram!(
            "tower_upgrade_session_duration_seconds",
            "kind" => kind,
            "protocol" => protocol(),
            "reason" => reason
        )
        .record(closed.duration());
        for (direction, bytes) in [
            ("read", closed.bytes_read()),
            ("written", closed.bytes_written()),
        ] {
            counter!(
                "tower_upgrade_session_bytes_total",
                "kind" => kind,
                "protocol" => protocol(),
                "direction" => direction
            )
            .increment(bytes);
        }
    }
}

/// Tells the recorder that is installed what the metrics are, and in which unit, for its output to say so. Call it
/// once the recorder is there.
#[cfg(feature = "metrics")]
pub fn describe() {
    use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
    describe_counter!(
        "tower_upgrade_sessions_opened_total",
        Unit::Count,
        "Sessions whose switch was let out."
    );
    describe_counter!(
        "tower_upgrade_sessions_closed_total",
        Unit::Count,
        "Sessions that have ended."
    );
    describe_gauge!(
        "tower_upgrade_sessions_open",
        Unit::Count,
        "Sessions that are open."
    );
    describe_histogram!(
        "tower_upgrade_session_duration_seconds",
        Unit::Seconds,
        "How long sessions were open."
    );
    describe_counter!(
        "tower_upgrade_session_bytes_total",
        Unit::Bytes,
        "What the handlers of sessions that have ended read and wrote."
    );
    describe_histogram!(
        "tower_upgrade_accept_duration_seconds",
        Unit::Seconds,
        "How long handlers took to decide."
    );
    describe_counter!(
        "tower_upgrade_refusals_total",
        Unit::Count,
        "Requests for an upgrade that a handler or a layer refused."
    );
}

pub(crate) use record::{Timer, closed, decided, opened, refused};
