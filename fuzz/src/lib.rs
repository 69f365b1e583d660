//! The bodies of the fuzz targets: each a `run(data)` that panics where a rule is broken. A target is run by
//! libFuzzer (`fuzz_targets/`), and over what is in `corpus/` by an ordinary test (`tests/replay.rs`).

pub mod address;
pub mod answer;
pub mod authority;
pub mod early;
pub mod forwarded;
pub mod head;
mod reference;
pub mod tokens;
pub mod websocket_handshake;
mod wire;
