//! Handlers without their types.

use super::decide;
use crate::{
    commit::{Decided, Gate},
    error::BoxFuture,
    handler::{ProtocolHandler, request::UpgradeRequest},
};
use http::request::Parts;
use std::sync::Arc;

/// A handler without its type, as the layer keeps it.
pub(crate) trait ErasedHandler: Send + Sync {
    fn matches(&self, parts: &Parts) -> bool;

    /// The whole way from the request to its response, in one box.
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
