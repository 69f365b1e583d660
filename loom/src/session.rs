//! The part of `session/` that threads share.

#[path = "../../src/session/drain.rs"]
mod drain;
#[path = "../../src/session/guard.rs"]
pub(crate) mod guard;
#[path = "../../src/session/registry.rs"]
mod registry;
#[path = "../../src/session/state.rs"]
pub(crate) mod state;

pub(crate) use self::registry::Sessions;

mod watch {
    pub(crate) fn far_future() -> tokio::time::Instant {
        unreachable!("no time of a model is that long")
    }
}
