//! The task that a session lives in.

use super::Session;
use crate::{
    Upgraded,
    commit::{Accepted, HeldUpgrade, UpgradeSource},
    linger,
    time::within,
    trace,
};
use futures_util::FutureExt as _;
use std::panic::AssertUnwindSafe;

/// Starts a session whose switch is about to leave.
pub(crate) fn spawn(accepted: Box<Accepted>, upgrade: HeldUpgrade) {
    if let Some(upgrade) = upgrade.into_source() {
        tokio::spawn(run(accepted, upgrade));
    }
}

async fn run(accepted: Box<Accepted>, upgrade: UpgradeSource) {
    let settings = accepted.settings;
    let protocol = accepted.protocol.clone();
    let io = match within(settings.handshake_timeout(), upgrade).await {
        Some(Ok(io)) => io,
        Some(Err(error)) => return trace::never_switched(&protocol, &*error),
        None => return trace::never_switched(&protocol, "the switch was not sent in time"),
    };

    let (io, returned) = Upgraded::owned_by_session(io);
    let mut accepted = *accepted;
    let speak = std::mem::replace(
        &mut accepted.speak,
        Box::new(|_| Box::pin(async { Ok(()) })),
    );
    let session = Session::new(accepted, io);
    let end = AssertUnwindSafe(async move { speak(session).await })
        .catch_unwind()
        .await;
    match end {
        Ok(Ok(())) => trace::session_finished(&protocol),
        Ok(Err(error)) => trace::session_failed(&protocol, &*error),
        Err(panic) => trace::session_panicked(&protocol, &trace::panic_message(&*panic)),
    }
    // The handler's future is gone, so the IO is back unless a part of it escaped into another
    // task, or the handler took it for itself.
    if let Ok(io) = returned.await {
        linger::close(io, settings.shutdown_timeout()).await;
    }
}
