//! The manual: what belongs to no single item.
//!
//! - [Behaviour of the stack below](stack_below): what hyper, h2 and hyper-util do that surprises,
//!   and how to set a server up for it.
//! - [Stopping a server](stopping): the order to stop things in, and what sessions see of it.

pub mod stack_below;
pub mod stopping;
