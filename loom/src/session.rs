//! The part of `session/` that threads share.

#[path = "../../src/session/builder.rs"]
mod builder;
#[path = "../../src/session/drain.rs"]
mod drain;
#[path = "../../src/session/farewell.rs"]
pub(crate) mod farewell;
#[path = "../../src/session/guard.rs"]
pub(crate) mod guard;
#[path = "../../src/session/identity.rs"]
mod identity;
#[path = "../../src/session/info.rs"]
mod info;
#[path = "../../src/session/registry.rs"]
mod registry;
#[path = "../../src/session/state.rs"]
pub(crate) mod state;
#[path = "../../src/session/upgraded.rs"]
pub(crate) mod upgraded;

pub(crate) use self::registry::Sessions;

mod spread {
    use super::{Sessions, state::State};
    use std::{sync::Arc, time::Duration};

    /// The crate uses a timer. The models have no timers and signal at once.
    pub(super) fn spawn(registry: Sessions, sessions: Vec<Arc<State>>, _spread: Duration) {
        for state in sessions {
            state.stop_by(registry.drain_deadline());
        }
    }
}

mod settings {
    use std::time::Duration;

    /// The crate's settings name layers and callbacks. The models have no time limits.
    #[derive(Default)]
    pub(crate) struct Settings;

    impl Settings {
        pub(crate) fn idle_timeout(&self) -> Option<Duration> {
            None
        }
    }
}
