//! The manual: what belongs to no single item.
//!
//! - [Behaviour of the stack below](stack_below): what hyper, h2 and hyper-util do that surprises,
//!   and how to set a server up for it.

pub mod stack_below;
