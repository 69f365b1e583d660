//! The client's side: what comes of a call, over each of the clients that may be beneath.

#[path = "../support/mod.rs"]
mod support;

mod beneath;
mod dial;
mod failures;
mod http2;
mod tunnel;
