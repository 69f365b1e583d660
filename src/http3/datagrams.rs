//! QUIC datagrams of the request streams (RFC 9297 §2.1).

use super::{code, error::Error, frame::Receiver, shared::Shared};
use crate::io::{
    datagrams::{QuicDatagrams, SendError, Transport},
    varint,
};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use quinn::SendDatagramError;
use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

/// The maximum size of the received datagrams of a stream that wait for its session, in bytes.
const MAX_WAITING: usize = 64 * 1024;

/// The streams that receive datagrams, by their Quarter Stream ID.
#[derive(Default)]
pub(crate) struct Streams(Mutex<HashMap<u64, Arc<Mutex<Waiting>>>>);

/// The received datagrams of a stream.
#[derive(Default)]
struct Waiting {
    datagrams: VecDeque<Bytes>,
    size: usize,
    is_closed: bool,
    waker: Option<Waker>,
}

impl Waiting {
    /// Adds a datagram. It replaces the oldest ones if the queue is full.
    fn push(&mut self, datagram: Bytes) -> Option<Waker> {
        self.size += datagram.len();
        self.datagrams.push_back(datagram);
        while self.size > MAX_WAITING && self.datagrams.len() > 1 {
            self.pop();
        }
        self.waker.take()
    }

    fn pop(&mut self) -> Option<Bytes> {
        let datagram = self.datagrams.pop_front()?;
        self.size -= datagram.len();
        if self.datagrams.is_empty() {
            // An idle session keeps no memory of a burst.
            self.datagrams = VecDeque::new();
        }
        Some(datagram)
    }
}

/// Creates the datagrams of a request stream, for the extensions of its request.
pub(crate) fn of_stream(shared: &Arc<Shared>, stream: &Receiver) -> QuicDatagrams {
    let id = stream.id() / 4;
    let waiting = Arc::new(Mutex::new(Waiting::default()));
    lock(&shared.datagrams.0).insert(id, Arc::clone(&waiting));
    QuicDatagrams::new(StreamDatagrams {
        shared: Arc::clone(shared),
        id,
        waiting,
    })
}

/// Receives the datagrams of a connection, and passes them to their streams. Datagrams for streams that do not exist,
/// or that do not use datagrams, are dropped.
pub(crate) async fn receive(shared: &Shared) -> Result<Infallible, Error> {
    loop {
        let datagram = match shared.connection.read_datagram().await {
            Ok(datagram) => datagram,
            Err(error) => {
                for waiting in lock(&shared.datagrams.0).values() {
                    let mut waiting = lock(waiting);
                    waiting.is_closed = true;
                    if let Some(waker) = waiting.waker.take() {
                        waker.wake();
                    }
                }
                return Err(Error::connection(error));
            }
        };
        let (id, payload) = split(datagram)?;
        let waiting = lock(&shared.datagrams.0).get(&id).cloned();
        if let Some(waiting) = waiting {
            let waker = lock(&waiting).push(payload);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

/// Splits the Quarter Stream ID off.
fn split(mut datagram: Bytes) -> Result<(u64, Bytes), Error> {
    /// The largest ID of a stream is 2^62 - 1.
    const MAX_QUARTER_ID: u64 = (1 << 60) - 1;
    let invalid = || {
        let reason = "a datagram has no valid Quarter Stream ID";
        Error::fatal(code::DATAGRAM_ERROR, reason)
    };
    let (id, length) = varint::decode(&datagram).ok_or_else(invalid)?;
    if id > MAX_QUARTER_ID {
        return Err(invalid());
    }
    datagram.advance(length);
    Ok((id, datagram))
}

/// The datagrams of one stream.
struct StreamDatagrams {
    shared: Arc<Shared>,
    /// The Quarter Stream ID.
    id: u64,
    waiting: Arc<Mutex<Waiting>>,
}

impl Transport for StreamDatagrams {
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let mut waiting = lock(&self.waiting);
        match waiting.pop() {
            Some(datagram) => Poll::Ready(Some(datagram)),
            None if waiting.is_closed => Poll::Ready(None),
            None => {
                match &mut waiting.waker {
                    Some(waker) => waker.clone_from(cx.waker()),
                    None => waiting.waker = Some(cx.waker().clone()),
                }
                Poll::Pending
            }
        }
    }

    fn send(&mut self, context: &[u8], payload: &[u8]) -> Result<(), SendError> {
        // RFC 9297 §2.1.1: both sides must have sent the setting.
        if !self.shared.peer.get().is_some_and(|peer| peer.h3_datagram) {
            return Err(SendError::Unavailable);
        }
        let mut id = [0; varint::MAX_LENGTH];
        let length = varint::encode(self.id, &mut id);
        let mut datagram = BytesMut::with_capacity(length + context.len() + payload.len());
        datagram.put_slice(&id[..length]);
        datagram.put_slice(context);
        datagram.put_slice(payload);
        // quinn drops its oldest datagrams if its buffer is full.
        let sent = self.shared.connection.send_datagram(datagram.freeze());
        sent.map_err(|error| match error {
            SendDatagramError::TooLarge => SendError::TooLarge,
            SendDatagramError::UnsupportedByPeer | SendDatagramError::Disabled => {
                SendError::Unavailable
            }
            SendDatagramError::ConnectionLost(_) => SendError::Closed,
        })
    }
}

impl Drop for StreamDatagrams {
    fn drop(&mut self) {
        lock(&self.shared.datagrams.0).remove(&self.id);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d6_full_queue_drops_its_oldest_datagrams() {
        let mut waiting = Waiting::default();
        for number in 0..100 {
            waiting.push(vec![number; 1000].into());
        }
        assert!(waiting.size <= MAX_WAITING);
        let received: Vec<u8> = std::iter::from_fn(|| waiting.pop())
            .map(|datagram| datagram[0])
            .collect();
        // 65 datagrams of 1,000 bytes fit.
        assert_eq!(received, (35..100).collect::<Vec<u8>>());
        assert_eq!(waiting.size, 0);
    }
}
