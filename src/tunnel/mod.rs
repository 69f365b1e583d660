//! Bytes between two connections: a relay, and the proxies made of it.

mod direction;
mod relay;
pub(crate) mod socket;
#[cfg(target_os = "linux")]
pub(crate) mod splice;

pub use self::relay::{Relay, RelayEnd, Relayed, relay};
