//! Bytes between two connections: a relay, and the proxies made of it.

mod relay;

pub use self::relay::relay;
