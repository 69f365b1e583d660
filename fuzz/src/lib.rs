//! The bodies of the fuzz targets: each is a `run(data)` that panics when a rule is broken. libFuzzer runs the targets
//! (`fuzz_targets/`), and an ordinary test (`tests/replay.rs`) runs them over the inputs in `corpus/`.

pub mod address;
pub mod answer;
pub mod authority;
pub mod capsules;
pub mod deflate;
pub mod early;
pub mod forwarded;
pub mod frames;
pub mod head;
pub mod http3;
pub mod messages;
mod parts;
pub mod qpack;
mod reference;
pub mod tokens;
pub mod websocket_handshake;
mod wire;
