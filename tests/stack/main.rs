//! What hyper, h2 and hyper-util do that surprises users of this crate.
//!
//! These tests pin the stack below, not this crate. Where one fails, upstream has changed: the
//! comment above it names the section of the manual (`src/manual/stack_below.rs`) to change.

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
