//! Guides to topics that span several items.
//!
//! | to understand | |
//! |---|---|
//! | [The commit](commit) | the condition under which a session starts |
//! | [Threats](threats) | trust, attacks with their defences and tests, and your responsibilities |
//! | [Behaviour of the stack below](stack_below) | surprising behaviour of hyper, h2 and hyper-util, and how to configure a server for it |
//!
//! | to set up | |
//! |---|---|
//! | [Where to put the layer](placement) | the order of middleware, and axum's routers |
//! | [Limits and timeouts](limits) | each limit, its default, and how to choose a value |
//! | [Around existing code](govern) | the gate, limits and drain for axum's `ws`, socketioxide and others, unchanged |
//! | [Coming from elsewhere](migration) | moving from hyper, axum, warp, hyper-tungstenite or tokio-tungstenite |
//!
//! | to run | |
//! |---|---|
//! | [Stopping a server](stopping) | the order of steps, and the stop signal of sessions |
//! | [Events, spans and metrics](observing) | the span of a session, events with their levels, metrics worth watching |
//! | [Performance](performance) | memory, handshakes, round trips and throughput, beside other crates and proxies |
//! | [Scaling out](scaling) | behind nginx, HAProxy, Envoy and Kubernetes; sticky sessions |

pub mod commit;
pub mod govern;
pub mod limits;
pub mod migration;
pub mod observing;
pub mod performance;
pub mod placement;
pub mod scaling;
pub mod stack_below;
pub mod stopping;
pub mod threats;
