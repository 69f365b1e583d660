//! Synchronization primitives, for state with orderings that `loom/` checks.
//!
//! `loom/` compiles the files that use this module with another `sync` module, which tries every ordering.

pub(crate) use futures_util::task::AtomicWaker;
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU64},
};
pub(crate) use tokio::sync::Notify;
