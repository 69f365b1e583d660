//! State that a connection shares with its streams.

#[cfg(feature = "datagram")]
use super::datagrams::Streams;
use super::{error::Error, settings::PeerSettings};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use quinn::SendStream;
use std::{
    convert::Infallible,
    future::poll_fn,
    ops::Deref,
    sync::{Arc, OnceLock},
    task::Poll,
};
use tokio::sync::{Notify, mpsc, watch};

/// State that a connection shares with its streams.
pub(crate) struct Shared {
    pub(crate) connection: quinn::Connection,
    /// The peer's settings, once they have arrived.
    pub(crate) peer: OnceLock<PeerSettings>,
    /// Notified once `peer` is set.
    pub(crate) settings_arrived: Notify,
    #[cfg(feature = "datagram")]
    pub(crate) datagrams: Streams,
    /// The number of open streams, except of those that only wait for acknowledgements.
    active: watch::Sender<usize>,
    finished: mpsc::UnboundedSender<Finished>,
}

/// A stream with data that may still be in transit.
pub(crate) struct Finished {
    pub(crate) send: SendStream,
    _active: Active,
}

impl Shared {
    pub(crate) fn new(
        connection: quinn::Connection,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<Finished>) {
        let (finished, received) = mpsc::unbounded_channel();
        let shared = Self {
            connection,
            peer: OnceLock::new(),
            settings_arrived: Notify::new(),
            #[cfg(feature = "datagram")]
            datagrams: Streams::default(),
            active: watch::Sender::new(0),
            finished,
        };
        (Arc::new(shared), received)
    }

    /// Closes the connection if the error requires it.
    pub(crate) fn violated(&self, error: &Error) {
        if let Some((code, reason)) = error.as_fatal() {
            self.connection.close(code, reason.as_bytes());
        }
    }

    /// Counts a stream as open until the value is dropped.
    pub(crate) fn activate(self: &Arc<Self>) -> Active {
        self.active.send_if_modified(|active| {
            *active += 1;
            *active == 1
        });
        Active(Arc::clone(self))
    }

    /// Waits until the connection has an open stream, or until it has none.
    pub(crate) async fn until(&self, is_active: bool) {
        // The sender is in `self`.
        let _ = self
            .active
            .subscribe()
            .wait_for(|active| (*active > 0) == is_active)
            .await;
    }
}

/// An open stream, or a request that is being answered.
pub(crate) struct Active(Arc<Shared>);

impl Active {
    /// Keeps the stream open until the peer has acknowledged its data. Closing the connection earlier would lose data.
    pub(crate) fn finish(self, send: SendStream) {
        let finished = self.0.finished.clone();
        // The connection is closed if nothing receives.
        let _ = finished.send(Finished {
            send,
            _active: self,
        });
    }
}

impl Deref for Active {
    type Target = Arc<Shared>;

    fn deref(&self) -> &Arc<Shared> {
        &self.0
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.send_if_modified(|active| {
            *active -= 1;
            *active == 0
        });
    }
}

/// Keeps finished streams until the peer has acknowledged their data.
pub(crate) async fn acknowledged(
    mut finished: mpsc::UnboundedReceiver<Finished>,
) -> Result<Infallible, Error> {
    let mut waiting = FuturesUnordered::new();
    poll_fn(|cx| {
        while let Poll::Ready(Some(stream)) = finished.poll_recv(cx) {
            waiting.push(async move {
                // An error ends the connection elsewhere.
                let _ = stream.send.stopped().await;
                drop(stream);
            });
        }
        while let Poll::Ready(Some(())) = waiting.poll_next_unpin(cx) {}
        Poll::Pending
    })
    .await
}

/// Receives the datagrams of the connection, until it ends.
pub(crate) async fn receive_datagrams(shared: &Shared) -> Result<Infallible, Error> {
    #[cfg(feature = "datagram")]
    return super::datagrams::receive(shared).await;
    #[cfg(not(feature = "datagram"))]
    {
        let _ = shared;
        std::future::pending().await
    }
}
