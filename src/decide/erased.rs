//! Type-erased handlers.

use super::decide;
use crate::{
    commit::{Decided, Gate},
    error::BoxFuture,
    handler::{ProtocolHandler, request::UpgradeRequest},
};
use http::request::Parts;
use std::sync::Arc;

/// A type-erased [`ProtocolHandler`], as the layer stores it.
pub(crate) trait ErasedHandler: Send + Sync {
    fn matches(&self, parts: &Parts) -> bool;

    /// Decides on a request. One box holds the whole future.
    fn decide(self: Arc<Self>, request: UpgradeRequest, gate: Gate) -> BoxFuture<Decided>;
}

impl<H: ProtocolHandler> ErasedHandler for H {
    fn matches(&self, parts: &Parts) -> bool {
        H::matches(self, parts)
    }

    fn decide(self: Arc<Self>, request: UpgradeRequest, gate: Gate) -> BoxFuture<Decided> {
        decide(self, request, gate)
    }
}
