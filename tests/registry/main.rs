//! The session registry: limits, lists, timeouts, close reasons, drain.

#[path = "../support/mod.rs"]
mod support;

mod closed;

mod drain;
mod edge_cases;
mod escaped;
mod identity;
mod limits;
mod permits;
mod times;
