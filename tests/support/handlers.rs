//! Handlers that tests share.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tower_upgrade::{
    Accept, BoxError, HandlerFn, ProtocolHandler, Rejection, Session, UpgradeRequest, copy,
    handler_fn,
};

/// Echoes until the peer shuts down its write side.
pub async fn run_echo(session: Session) -> Result<(), BoxError> {
    let (mut reader, mut writer) = tokio::io::split(session.into_io());
    copy(&mut reader, &mut writer).await?;
    Ok(())
}

type Speak = std::pin::Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;

pub fn echo() -> HandlerFn<impl Fn(Session) -> Speak + Send + Sync + 'static> {
    handler_fn(|session| -> Speak { Box::pin(run_echo(session)) })
}

/// An echo handler that counts accepted and started sessions. Each holds a token from its acceptance on.
#[derive(Clone, Default)]
pub struct Counted {
    accepted: Arc<AtomicUsize>,
    started: Arc<AtomicUsize>,
    token: Arc<()>,
}

impl Counted {
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    pub fn started(&self) -> usize {
        self.started.load(Ordering::SeqCst)
    }

    /// Returns the number of sessions, pending or running, that hold the token from `accept`.
    pub fn held(&self) -> usize {
        // Subtract the tokens of this handler and of its registered clone.
        Arc::strong_count(&self.token) - 2
    }
}

impl ProtocolHandler for Counted {
    async fn accept(&self, _request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        self.accepted.fetch_add(1, Ordering::SeqCst);
        let started = Arc::clone(&self.started);
        let token = Arc::clone(&self.token);
        Ok(Accept::new(move |session| async move {
            let _token = token;
            started.fetch_add(1, Ordering::SeqCst);
            run_echo(session).await
        })
        .header("added", http::HeaderValue::from_static("by the handler")))
    }
}
