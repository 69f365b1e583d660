//! What threads share in tower-upgrade, in each order in which they can go on.
//!
//! The files are the crate's own, as they are. Instead of [`crate::sync`](sync) they find one of loom's types here:
//! with these [loom](https://docs.rs/loom) runs a test once for each order, and for each value that a load may see by
//! the rules of memory. A thread that waits for what never comes, a count that is wrong, and an IO that is left over
//! in any of them make the test fail.
//!
//! Not modelled are the types within, which their own crates model: tokio's `Notify`, of which there is a stand-in, and
//! the `AtomicWaker` of futures-util, for which there is loom's. An `Arc` is std's, and hyper, timers and tasks are
//! not here: a test does by hand what a task does in `session/task.rs`, and what a layer does in `commit/`.

#![cfg(test)]
#![allow(dead_code)] // a model asks for less than the crate

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

mod gate;
mod home;
mod permits;

/// For threads with too many orders: those in which a thread is interrupted three times at most, or as often as
/// `LOOM_MAX_PREEMPTIONS` says.
fn bounded(threads: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound.get_or_insert(3);
    model.check(threads);
}
