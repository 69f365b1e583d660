//! Models of the code of tower-upgrade that threads share, in every interleaving.
//!
//! The models include the crate's source files unchanged. These files take their locks, atomics and wakers from
//! [`crate::sync`](sync), which has loom's types here: [loom](https://docs.rs/loom) runs a test once for each
//! interleaving, and for each value that a load may return by the rules of the memory model. A test fails if a thread
//! waits for ever, a count is wrong, or an IO is left over in any of them.
//!
//! The models do not include the types that other crates model: tokio's `Notify`, which has a stand-in, and the
//! `AtomicWaker` of futures-util, which loom provides. `Arc` is std's. hyper, timers and tasks are absent: a test calls
//! the functions that a task calls in `session/task.rs`, and a layer in `commit/`.

#![cfg(test)]
#![allow(dead_code)] // the models use only a part of the files
#![allow(unfulfilled_lint_expectations)] // clippy expects less of items that are not public here
#![allow(clippy::collapsible_if)] // the crate supports Rust 1.85, which has no let chains

mod sync;

// The files that are modelled.
#[path = "../../src/commit"]
mod commit {
    pub(crate) mod slot;
}
#[path = "../../src/io"]
mod io {
    pub(crate) mod box_io;
    pub(crate) mod parts;
}
mod session;

// The items that they name.
mod message {
    pub(crate) mod rejection {
        pub(crate) use tower_upgrade::Rejection;
    }
}
mod metrics {
    pub(crate) struct Labels;
}
mod negotiate {
    pub(crate) mod kind {
        pub(crate) use tower_upgrade::UpgradeKind;
    }
    pub(crate) mod protocol {
        pub(crate) use tower_upgrade::Protocol;
    }
}

mod time {
    use tokio::time::{Duration, Instant};

    pub(crate) fn after(timeout: Duration) -> Instant {
        Instant::now() + timeout
    }
}

mod gate;
mod io_slot;
mod permits;

/// For threads with too many orders: those in which a thread is interrupted three times at most, or as often as
/// `LOOM_MAX_PREEMPTIONS` says.
fn bounded(threads: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound.get_or_insert(3);
    model.check(threads);
}
