//! Behaviour of hyper, h2, hyper-util and quinn that may surprise users of this crate.
//!
//! These tests pin the stack below, not this crate. If one fails, upstream has changed: the comment above
//! the test names the section of the manual (`src/manual/stack_below.rs`) to update.

#[path = "../support/mod.rs"]
mod support;

mod client;
mod connection;
mod flow;
mod graceful;
mod half_close;
mod hand_over;
mod http2;
mod http2_end;
#[cfg(all(feature = "client", feature = "http3"))]
mod quic;
