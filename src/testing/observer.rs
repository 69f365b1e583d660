//! What a test is told of the end of a session.

use crate::{Closed, time::Settings};
use http::{Extensions, StatusCode};
use std::sync::Arc;
use tokio::sync::watch;

/// Of one request: it travels inwards in the request's extensions, as far as the outermost
/// `UpgradeLayer`, and from there in the settings that hold for the session.
///
/// Neither does it make a layer the outermost one, nor does a user's `on_close` replace it.
#[derive(Clone)]
pub(crate) struct Observer {
    ended: watch::Sender<Option<Arc<Closed>>>,
}

impl Observer {
    /// Takes that of a request, if a test sent it, into the settings that hold for the request.
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

/// The test's end of it.
#[derive(Clone, Debug)]
pub(super) struct Reports {
    ended: watch::Receiver<Option<Arc<Closed>>>,
}

impl Reports {
    pub(super) fn new() -> (Observer, Self) {
        let (sender, receiver) = watch::channel(None);
        (Observer { ended: sender }, Self { ended: receiver })
    }

    /// Waits for the end of the session that began with a response of this status.
    pub(super) async fn closed(mut self, status: StatusCode) -> Arc<Closed> {
        let ended = self.ended.wait_for(Option::is_some).await;
        match ended.ok().and_then(|ended| Option::clone(&ended)) {
            Some(closed) => closed,
            None => panic!("no session of an `UpgradeLayer` came of the request, but {status}"),
        }
    }
}
