//! Metrics, recorded through the [`metrics`](https://docs.rs/metrics) facade.
//!
//! Install a recorder, such as that of `metrics-exporter-prometheus`, to export these metrics:
//!
//! | name | type | labels | description |
//! |---|---|---|---|
//! | `tower_upgrade_sessions_opened_total` | counter | `kind`, `protocol` | upgrade responses returned by the outermost layer: each opens a session |
//! | `tower_upgrade_sessions_closed_total` | counter | `kind`, `protocol`, `reason` | sessions that have ended |
//! | `tower_upgrade_sessions_open` | gauge | `kind`, `protocol` | open sessions: the difference of the two counters |
//! | `tower_upgrade_session_duration_seconds` | histogram | `kind`, `protocol`, `reason` | time that sessions were open, recorded at their end |
//! | `tower_upgrade_session_bytes_total` | counter | `kind`, `protocol`, `direction` | bytes that handlers read and wrote, added at the end of a session |
//! | `tower_upgrade_accept_duration_seconds` | histogram | `kind`, `protocol` | time that handlers took to accept or reject |
//! | `tower_upgrade_rejections_total` | counter | `status` | upgrade requests rejected by a handler or an [`UpgradeLayer`](crate::UpgradeLayer) |
//!
//! | label | values |
//! |---|---|
//! | `kind` | of [`UpgradeKind`]: `upgrade`, `connect`, `extended-connect` |
//! | `protocol` | the protocol for which the handler was registered, not the client's spelling; `other` for handlers of [any protocol](crate::UpgradeLayer::any_protocol); `connect` for a CONNECT |
//! | `reason` | of [`CloseReason`](crate::CloseReason): `finished`, `failed`, `panicked`, `idle`, `lifetime`, `drained`, `aborted`, `not-upgraded` |
//! | `direction` | `read`, `written` |
//! | `status` | the status of the response, such as `403` |
//!
//! Clients cannot choose the value of any label. Rejections by other middleware, such as a timeout, are not
//! counted.
//!
//! [`describe`] passes descriptions and units of the metrics to the recorder.

use crate::negotiate::{kind::UpgradeKind, protocol::Protocol};
use http::StatusCode;
use std::time::Duration;

/// The labels of a session's metrics. Empty without the feature `metrics`.
#[derive(Clone)]
pub(crate) struct Labels {
    #[cfg(feature = "metrics")]
    kind: UpgradeKind,
    /// The registered protocol.
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

/// The values to record at the end of a session.
#[cfg_attr(
    not(feature = "metrics"),
    expect(dead_code, reason = "without a recorder")
)]
pub(crate) struct Ended {
    pub(crate) reason: &'static str,
    pub(crate) duration: Duration,
    pub(crate) bytes_read: u64,
    pub(crate) bytes_written: u64,
}

#[cfg(not(feature = "metrics"))]
mod record {
    use super::{Ended, Labels, StatusCode};

    pub(crate) struct Timer;

    impl Timer {
        pub(crate) fn start() -> Self {
            Self
        }
    }

    pub(crate) fn decided(_timer: Timer, _labels: &Labels) {}

    pub(crate) fn rejected(_status: StatusCode) {}
    pub(crate) fn opened(_labels: &Labels) {}
    pub(crate) fn closed(_labels: &Labels, _ended: &Ended) {}
}

#[cfg(feature = "metrics")]
mod record {
    use super::{Ended, Labels, StatusCode};
    use metrics::{counter, gauge, histogram};
    use tokio::time::Instant;

    /// Measures the time that a handler takes to decide.
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

    pub(crate) fn rejected(status: StatusCode) {
        let status = status.as_str().to_owned();
        counter!("tower_upgrade_rejections_total", "status" => status).increment(1);
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

    pub(crate) fn closed(labels: &Labels, ended: &Ended) {
        let (kind, protocol) = (labels.kind(), || labels.protocol());
        let reason = ended.reason;
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
        .record(ended.duration);
        for (direction, bytes) in [("read", ended.bytes_read), ("written", ended.bytes_written)] {
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

/// Passes descriptions and units of the metrics to the installed recorder.
///
/// Call this function after installing a recorder.
#[cfg(feature = "metrics")]
pub fn describe() {
    use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
    describe_counter!(
        "tower_upgrade_sessions_opened_total",
        Unit::Count,
        "Upgrade responses returned: each opens a session."
    );
    describe_counter!(
        "tower_upgrade_sessions_closed_total",
        Unit::Count,
        "Sessions that have ended."
    );
    describe_gauge!("tower_upgrade_sessions_open", Unit::Count, "Open sessions.");
    describe_histogram!(
        "tower_upgrade_session_duration_seconds",
        Unit::Seconds,
        "Time that sessions were open."
    );
    describe_counter!(
        "tower_upgrade_session_bytes_total",
        Unit::Bytes,
        "Bytes that the handlers of ended sessions read and wrote."
    );
    describe_histogram!(
        "tower_upgrade_accept_duration_seconds",
        Unit::Seconds,
        "Time that handlers took to accept or reject."
    );
    describe_counter!(
        "tower_upgrade_rejections_total",
        Unit::Count,
        "Upgrade requests that a handler or a layer rejected."
    );
}

pub(crate) use record::{Timer, closed, decided, opened, rejected};
