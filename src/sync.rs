//! What threads share things with, where the order in which they come matters.
//!
//! `loom/` has a module of its own under this name, and the files that use this one: there each order is tried.

pub(crate) use futures_util::task::AtomicWaker;
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU64},
};
pub(crate) use tokio::sync::Notify;
