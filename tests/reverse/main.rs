//! The reverse proxy: a client in front, a backend behind, and what passes between them, byte by byte.

#[path = "../support/mod.rs"]
mod support;

mod chain;
mod ends;
mod forwarded;
mod headers;
mod protocols;
mod refusals;
mod smuggling;
mod versions;
