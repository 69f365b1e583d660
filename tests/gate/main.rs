//! The commit gate: a session starts only if the outermost layer returns its upgrade response, no matter
//! how layers in between change the response.

#[path = "../support/mod.rs"]
mod support;

mod connect;
mod foreign;
mod matrix;
mod nested;
mod placement;
mod settings;
mod slot;
