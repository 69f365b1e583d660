//! The manual: what belongs to no single item.
//!
//! | to understand | |
//! |---|---|
//! | [The commit](commit) | why it is a step of its own, what it sees and what it cannot see |
//! | [Threats](threats) | whom this crate trusts, what it defends against and with which test, what is left to you |
//! | [Behaviour of the stack below](stack_below) | what hyper, h2 and hyper-util do that surprises, and how to set a server up for it |
//!
//! | to set up | |
//! |---|---|
//! | [Where to put the layer](placement) | with other layers, one by one, and in axum's routers |
//! | [Limits and timeouts](limits) | every one, with its default, and how to choose |
//! | [Coming from elsewhere](migration) | from hyper, axum, warp, hyper-tungstenite, tokio-tungstenite |
//!
//! | to run | |
//! |---|---|
//! | [Stopping a server](stopping) | the order to stop things in, and what sessions see of it |
//! | [What is logged and counted](observing) | the span of a session, events with their levels, which metrics to look at |
//! | [Scaling out](scaling) | behind nginx, HAProxy, Envoy and Kubernetes; what has to be sticky |

pub mod commit;
pub mod limits;
pub mod migration;
pub mod observing;
pub mod placement;
pub mod scaling;
pub mod stack_below;
pub mod stopping;
pub mod threats;
