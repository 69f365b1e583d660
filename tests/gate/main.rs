//! The commit: a session starts only if its upgrade response leaves the outermost layer unchanged.

#[path = "../support/mod.rs"]
mod support;

mod connect;
mod foreign;
mod matrix;
mod nested;
mod placement;
mod settings;
mod slot;
