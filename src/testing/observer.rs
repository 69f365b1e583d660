//! Reports the end of a session to its test.

use crate::session::{Closed, settings::Observer};
use http::StatusCode;
use std::sync::Arc;
use tokio::sync::watch;

/// The receiver of the report, in the test.
#[derive(Clone, Debug)]
pub(super) struct Reports {
    ended: watch::Receiver<Option<Arc<Closed>>>,
}

impl Reports {
    pub(super) fn new() -> (Observer, Self) {
        let (sender, receiver) = watch::channel(None);
        let observer = Observer::new(move |closed| {
            sender.send_replace(Some(Arc::new(closed)));
        });
        (observer, Self { ended: receiver })
    }

    /// Waits for the end of the session. `status` is that of the response, for the panic message.
    pub(super) async fn closed(mut self, status: StatusCode) -> Arc<Closed> {
        let ended = self.ended.wait_for(Option::is_some).await;
        match ended.ok().and_then(|ended| Option::clone(&ended)) {
            Some(closed) => closed,
            None => panic!("no `UpgradeLayer` started a session: the response has status {status}"),
        }
    }
}
