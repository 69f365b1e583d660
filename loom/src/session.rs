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
    use tokio::time::{Duration, Instant};

    pub(crate) fn after(timeout: Duration) -> Instant {
        Instant::now() + timeout
    }
}
