//! Type-erased handlers.

use super::decide;
use crate::{
    commit::{Decided, Gate},
    error::BoxFuture,
    handler::{Accept, ProtocolHandler, request::UpgradeRequest},
    message::rejection::Rejection,
};
use http::request::Parts;
use std::{any::Any, fmt, pin::Pin, sync::Arc};

/// A handler without its type, to keep handlers of several types in one collection or field.
///
/// Clones share the handler. [`UpgradeLayer`](crate::UpgradeLayer) stores a `BoxHandler` without boxing it again.
///
/// ```
/// use tower_upgrade::{BoxHandler, Session, UpgradeLayer, copy, handler_fn};
///
/// let echo = handler_fn(|session: Session| async move {
///     let (mut reader, mut writer) = tokio::io::split(session.into_io());
///     copy(&mut reader, &mut writer).await?;
///     Ok(())
/// });
/// let discard = handler_fn(|session: Session| async move {
///     let mut reader = session.into_io();
///     copy(&mut reader, &mut tokio::io::sink()).await?;
///     Ok(())
/// });
///
/// let handlers = [
///     ("echo", BoxHandler::new(echo)),
///     ("discard", BoxHandler::new(discard)),
/// ];
/// let layer = handlers
///     .into_iter()
///     .fold(UpgradeLayer::new(), |layer, (name, handler)| layer.protocol(name, handler));
/// ```
#[derive(Clone)]
pub struct BoxHandler {
    handler: Arc<dyn ErasedHandler>,
}

impl BoxHandler {
    /// Boxes a handler. A `BoxHandler` is returned unchanged.
    pub fn new<H: ProtocolHandler>(handler: H) -> Self {
        match (&handler as &dyn Any).downcast_ref::<Self>() {
            Some(handler) => handler.clone(),
            None => Self {
                handler: Arc::new(handler),
            },
        }
    }

    /// Decides a request, in one allocation for the future.
    pub(crate) fn decide(self, request: UpgradeRequest, gate: Gate) -> BoxFuture<Decided> {
        self.handler.decide(request, gate)
    }
}

impl ProtocolHandler for BoxHandler {
    async fn accept(&self, request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        self.handler.accept(request).await
    }

    fn matches(&self, parts: &Parts) -> bool {
        self.handler.matches(parts)
    }
}

impl fmt::Debug for BoxHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoxHandler").finish_non_exhaustive()
    }
}

/// The future of [`ProtocolHandler::accept`], in a box.
type Accepting<'a> = Pin<Box<dyn Future<Output = Result<Accept, Rejection>> + Send + 'a>>;

trait ErasedHandler: Send + Sync {
    fn accept<'a>(&'a self, request: &'a mut UpgradeRequest) -> Accepting<'a>;

    fn matches(&self, parts: &Parts) -> bool;

    /// Calls the handler inside the future of the whole decision, so that the layer allocates one future, not two.
    fn decide(self: Arc<Self>, request: UpgradeRequest, gate: Gate) -> BoxFuture<Decided>;
}

impl<H: ProtocolHandler> ErasedHandler for H {
    fn accept<'a>(&'a self, request: &'a mut UpgradeRequest) -> Accepting<'a> {
        Box::pin(H::accept(self, request))
    }

    fn matches(&self, parts: &Parts) -> bool {
        H::matches(self, parts)
    }

    fn decide(self: Arc<Self>, request: UpgradeRequest, gate: Gate) -> BoxFuture<Decided> {
        decide(self, request, gate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handler::handler_fn;

    #[test]
    fn box_of_a_box_is_the_same_handler() {
        let once = BoxHandler::new(handler_fn(|_session| async { Ok(()) }));
        let twice = BoxHandler::new(once.clone());
        assert!(Arc::ptr_eq(&once.handler, &twice.handler));
    }
}
