//! The commit gate: whatever layers make of a switch, a session starts only if the switch leaves.

#[path = "../support/mod.rs"]
mod support;

mod connect;
mod foreign;
mod matrix;
mod nested;
mod placement;
mod settings;
mod slot;
