//! Reports the end of a session to its test.

use crate::{Closed, time::Settings};
use http::{Extensions, StatusCode};
use std::sync::Arc;
use tokio::sync::watch;

/// The sender of the report, for one request.
///
/// The observer travels inwards in the extensions of the request to the outermost `UpgradeLayer`, and from
/// there in the settings of the session. It does not affect which layer is outermost, and a user's `on_close`
/// does not replace it.
#[derive(Clone)]
pub(crate) struct Observer {
    ended: watch::Sender<Option<Arc<Closed>>>,
}

impl Observer {
    /// Moves the observer of a request, if it has one, into the settings for that request.
    pub(crate) fn take_in(settings: Arc<Settings>, extensions: &mut Extensions) -> Arc<Settings> {
        match extensions.remove() {
            Some(observer) => Arc::new(Settings {
                observer: Some(observer),
                ..Settings::clone(&settings)
            }),
            None => settings,
        }
    }

    pub(crate) fn report(&self, closed: Closed) {
        self.ended.send_replace(Some(Arc::new(closed)));
    }
}

/// The receiver of the report, in the test.
#[derive(Clone, Debug)]
pub(super) struct Reports {
    ended: watch::Receiver<Option<Arc<Closed>>>,
}

impl Reports {
    pub(super) fn new() -> (Observer, Self) {
        let (sender, receiver) = watch::channel(None);
        (Observer { ended: sender }, Self { ended: receiver })
    }

    /// Waits for the end of the session. `status` is that of the response, for the panic message.
    pub(super) async fn closed(mut self, status: StatusCode) -> Arc<Closed> {
        let ended = self.ended.wait_for(Option::is_some).await;
        match ended.ok().and_then(|ended| Option::clone(&ended)) {
            Some(closed) => closed,
            None => panic!("no session of an `UpgradeLayer` came of the request, but {status}"),
        }
    }
}
