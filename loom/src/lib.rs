//! What threads share in tower-upgrade, in each order in which they can go on.
//!
//! The files are the crate's own, as they are. Instead of [`crate::sync`](sync) they find one of loom's types here:
//! with these [loom](https://docs.rs/loom) runs a test once for each order, and for each value that a load may see by
//! the rules of memory. A thread that waits for what never comes, a count that is wrong, and an IO that is left over
//! in any of them make the test fail.
//!
//! Not modelled are the types within, which their own crates model: tokio's `Notify`, of which there is a stand-in, and
//! the `AtomicWaker` of futures-util, for which there is loom's. An `Arc` is std's, and hyper, timers and tasks are
//! not here: a test does by hand what a task does in `session/task.rs`, and what a layer does in `commit.rs`.

#![cfg(test)]
#![allow(dead_code)] // a model asks for less than the crate

mod sync;

// What is modelled.
#[path = "../../src/box_io.rs"]
mod box_io;
mod session;
#[path = "../../src/slot.rs"]
mod slot;
#[path = "../../src/upgraded.rs"]
mod upgraded;

// What it names.
use box_io::BoxIo;
use session::Sessions;
use tower_upgrade::{Protocol, Rejection, UpgradeKind};
use upgraded::{Parts, Upgraded};
mod metrics {
    pub(crate) struct Labels;
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
