//! State that a connection shares with its streams.

#[cfg(feature = "datagram")]
use super::datagrams::Streams;
use super::{error::Error, settings::PeerSettings};
use bytes::Bytes;
use futures_util::{
    future::{Either, select},
    stream::{FuturesUnordered, StreamExt as _},
};
use quinn::{SendStream, VarInt};
use std::{
    convert::Infallible,
    future::poll_fn,
    ops::Deref,
    pin::pin,
    sync::{Arc, OnceLock},
    task::Poll,
};
use tokio::sync::{Notify, mpsc, oneshot, watch};

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
    left: mpsc::UnboundedSender<Left>,
}

/// A stream that the connection goes on with, without its session.
pub(crate) enum Left {
    /// A finished stream. Its data may still be in transit.
    Finished {
        send: SendStream,
        _active: Active,
    },
    Rest(Rest),
}

/// The rest of a frame, after the sent part. The connection writes it, since a session need not flush.
pub(crate) struct Rest {
    pub(crate) send: SendStream,
    pub(crate) bytes: Bytes,
    /// Returns the stream. If the session drops the receiver, the stream is reset with `reset_code`.
    pub(crate) back: oneshot::Sender<(SendStream, Result<(), Error>)>,
    pub(crate) reset_code: VarInt,
}

impl Rest {
    async fn write(self) {
        let Self {
            mut send,
            bytes,
            mut back,
            reset_code,
        } = self;
        let written = {
            let write = pin!(send.write_chunk(bytes));
            match select(write, pin!(back.closed())).await {
                Either::Left((written, _)) => Some(written.map_err(Error::write)),
                Either::Right(((), _)) => None,
            }
        };
        let dropped = match written {
            Some(written) => back.send((send, written)).err().map(|(send, _)| send),
            None => Some(send),
        };
        if let Some(mut send) = dropped {
            // Fails if the peer has stopped the stream.
            let _ = send.reset(reset_code);
        }
    }
}

impl Shared {
    pub(crate) fn new(connection: quinn::Connection) -> (Arc<Self>, mpsc::UnboundedReceiver<Left>) {
        let (left, received) = mpsc::unbounded_channel();
        let shared = Self {
            connection,
            peer: OnceLock::new(),
            settings_arrived: Notify::new(),
            #[cfg(feature = "datagram")]
            datagrams: Streams::default(),
            active: watch::Sender::new(0),
            left,
        };
        (Arc::new(shared), received)
    }

    /// Closes the connection if the error requires it.
    pub(crate) fn violated(&self, error: &Error) {
        if let Some((code, reason)) = error.as_fatal() {
            self.connection.close(code, reason.as_bytes());
        }
    }

    /// Passes the rest of a frame to the connection.
    pub(crate) fn write_rest(&self, rest: Rest) {
        // The connection is closed if nothing receives.
        let _ = self.left.send(Left::Rest(rest));
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
        let left = self.0.left.clone();
        // The connection is closed if nothing receives.
        let _ = left.send(Left::Finished {
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

/// Keeps finished streams until the peer has acknowledged their data, and writes the rests of frames.
pub(crate) async fn send_left(
    mut left: mpsc::UnboundedReceiver<Left>,
) -> Result<Infallible, Error> {
    let mut sending = FuturesUnordered::new();
    poll_fn(|cx| {
        while let Poll::Ready(Some(left)) = left.poll_recv(cx) {
            sending.push(async move {
                match left {
                    Left::Finished { send, _active } => {
                        // An error ends the connection elsewhere.
                        let _ = send.stopped().await;
                    }
                    Left::Rest(rest) => rest.write().await,
                }
            });
        }
        while let Poll::Ready(Some(())) = sending.poll_next_unpin(cx) {}
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
