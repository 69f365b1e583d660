//! The task that a session lives in.

use super::Session;
use crate::{
    Upgraded,
    commit::{Accepted, HeldUpgrade},
    linger,
    time::within,
    trace,
};
use futures_util::FutureExt as _;
use std::panic::AssertUnwindSafe;

/// Starts a session whose switch is about to leave.
pub(crate) fn spawn(accepted: Box<Accepted>, upgrade: HeldUpgrade) {
    tokio::spawn(run(accepted, upgrade));
}

/// What is alive here while the handler speaks is what an idle session costs, so it is little: the
/// handler's future in its box, and what the end needs. The waits before and after have boxes of
/// their own, which are there only while they last.
async fn run(accepted: Box<Accepted>, upgrade: HeldUpgrade) {
    let shutdown_timeout = accepted.settings.shutdown_timeout();
    let upgrade_of = trace::UpgradeOf::new(accepted.kind, accepted.protocol.clone());
    let handshake = within(accepted.settings.handshake_timeout(), upgrade);
    let io = match Box::pin(handshake).await {
        Some(Ok(io)) => io,
        Some(Err(error)) => return trace::never_switched(&upgrade_of, &error),
        None => return trace::never_switched(&upgrade_of, &"the switch was not sent in time"),
    };

    let (io, returned) = Upgraded::owned_by_session(io);
    let end = match Session::start(accepted, io) {
        Ok(speaking) => AssertUnwindSafe(speaking).catch_unwind().await,
        Err(panic) => Err(panic),
    };
    match end {
        Ok(Ok(())) => trace::session_finished(&upgrade_of),
        Ok(Err(error)) => trace::session_failed(&upgrade_of, &*error),
        Err(panic) => trace::session_panicked(&upgrade_of, &trace::panic_message(&*panic)),
    }
    // The handler's future is gone, so the IO is back unless a part of it escaped into another
    // task, or the handler took it for itself.
    if let Ok(io) = returned.await {
        Box::pin(linger::close(io, shutdown_timeout)).await;
    }
}
