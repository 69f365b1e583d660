//! Synchronization primitives for the files that `loom/` checks.
//!
//! `loom/` compiles these files with another `sync` module, which explores every ordering.

pub(crate) use futures_util::task::AtomicWaker;
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU64},
};
pub(crate) use tokio::sync::Notify;
