//! The socket of a target, which sends and receives several datagrams at once where the system can.

use crate::io::buffer::Buffer;
use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use std::{
    io::{self, ErrorKind, IoSliceMut},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    task::{Context, Poll, ready},
};
use tokio::{io::Interest, net::UdpSocket};

/// The maximum length of datagrams that are sent at once: with its headers, an IP packet of less than 64 KiB.
const MAX_BATCH: usize = 65_000;

/// The maximum number of datagrams that Linux sends at once in all versions.
const MAX_SENT: usize = 64;

/// The maximum number of datagrams that Linux receives at once.
pub(super) const MAX_RECEIVED: usize = 128;

/// A UDP socket that sends to one address only, and receives from it only.
pub(super) struct TargetSocket {
    socket: UdpSocket,
    state: UdpSocketState,
    address: SocketAddr,
}

impl TargetSocket {
    /// Opens a socket. Sends nothing.
    pub(super) async fn connect(address: SocketAddr) -> io::Result<Self> {
        let any: SocketAddr = match address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any).await?;
        socket.connect(address).await?;
        Self::new(socket, address)
    }

    /// Wraps a socket that is connected to `address`.
    pub(super) fn new(socket: UdpSocket, address: SocketAddr) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        Ok(Self {
            socket,
            state,
            address,
        })
    }

    #[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "for Linux"))]
    pub(super) fn get_ref(&self) -> &UdpSocket {
        &self.socket
    }

    /// Receives one or more datagrams.
    pub(super) fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        mut buffer: Buffer,
    ) -> Poll<io::Result<Received>> {
        let mut meta = [RecvMeta::default()];
        loop {
            ready!(self.socket.poll_recv_ready(cx))?;
            let received = self.socket.try_io(Interest::READABLE, || {
                let mut bytes = [IoSliceMut::new(&mut buffer)];
                self.state
                    .recv((&self.socket).into(), &mut bytes, &mut meta)
            });
            match received {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                received => {
                    received?;
                    let [RecvMeta { len, stride, .. }] = meta;
                    return Poll::Ready(Ok(Received {
                        buffer,
                        length: len,
                        stride,
                    }));
                }
            }
        }
    }

    /// Sends the datagrams of a batch, and empties it.
    ///
    /// # Errors
    ///
    /// Returns an error of the system, after which the batch is also empty.
    pub(super) fn poll_send(
        &self,
        cx: &mut Context<'_>,
        batch: &mut Batch,
    ) -> Poll<io::Result<()>> {
        while let Some(filled) = &mut batch.filled {
            let rest = &filled.buffer[filled.start..filled.end];
            let at_once = filled.segment * self.state.max_gso_segments();
            let next = &rest[..rest.len().min(at_once)];
            let transmit = Transmit {
                destination: self.address,
                ecn: None,
                contents: next,
                segment_size: (next.len() > filled.segment).then_some(filled.segment),
                src_ip: None,
            };
            ready!(self.socket.poll_send_ready(cx))?;
            let sent = self.socket.try_io(Interest::WRITABLE, || {
                self.state.try_send((&self.socket).into(), &transmit)
            });
            match sent {
                Ok(()) => filled.start += next.len(),
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                // A network adapter without segmentation: sends the datagrams one by one from now on.
                Err(_) if filled.segment * self.state.max_gso_segments() < next.len() => continue,
                Err(error) => {
                    batch.filled = None;
                    return Poll::Ready(Err(error));
                }
            }
            if filled.start == filled.end {
                batch.filled = None;
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Received datagrams in one buffer, all of the same length, except the last, which can be shorter.
pub(super) struct Received {
    buffer: Buffer,
    length: usize,
    stride: usize,
}

impl Received {
    pub(super) fn payloads(&self) -> impl Iterator<Item = &[u8]> {
        let empty = (self.length == 0).then_some(&[][..]);
        let others = self.buffer[..self.length].chunks(self.stride.max(1));
        empty.into_iter().chain(others)
    }
}

/// Datagrams that are sent at once.
#[derive(Default)]
pub(super) struct Batch {
    filled: Option<Filled>,
}

/// Datagrams in one buffer, all of the same length, except the last, which can be shorter.
struct Filled {
    buffer: Buffer,
    start: usize,
    end: usize,
    segment: usize,
    has_last: bool,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.filled.is_none()
    }

    /// Returns `true` if the batch has room for this datagram, and its length fits.
    pub(super) fn accepts(&self, payload: &[u8]) -> bool {
        self.filled.as_ref().is_none_or(|filled| {
            !filled.has_last
                && (1..=filled.segment).contains(&payload.len())
                && filled.end + payload.len() <= MAX_BATCH
                && filled.end < filled.segment * MAX_SENT
        })
    }

    /// Adds a datagram that the batch accepts.
    pub(super) fn push(&mut self, payload: &[u8]) {
        let filled = self.filled.get_or_insert_with(|| Filled {
            buffer: Buffer::borrow(),
            start: 0,
            end: 0,
            segment: payload.len(),
            has_last: false,
        });
        let end = filled.end + payload.len();
        filled.buffer[filled.end..end].copy_from_slice(payload);
        filled.end = end;
        filled.has_last = payload.len() < filled.segment;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    async fn pair() -> (TargetSocket, UdpSocket) {
        let target = UdpSocket::bind("127.0.0.1:0").await.expect("loopback");
        let address = target.local_addr().expect("bound");
        let socket = TargetSocket::connect(address).await.expect("loopback");
        let from = socket.get_ref().local_addr().expect("bound");
        target.connect(from).await.expect("loopback");
        (socket, target)
    }

    async fn received(socket: &TargetSocket, count: usize) -> Vec<Vec<u8>> {
        let mut payloads = Vec::new();
        while payloads.len() < count {
            let received = poll_fn(|cx| socket.poll_recv(cx, Buffer::borrow())).await;
            let received = received.expect("datagrams");
            payloads.extend(received.payloads().map(<[u8]>::to_vec));
        }
        payloads
    }

    fn payloads(lengths: &[usize]) -> Vec<Vec<u8>> {
        let payloads = lengths.iter().enumerate();
        payloads
            .map(|(number, &length)| vec![number as u8; length])
            .collect()
    }

    #[tokio::test]
    async fn empty_datagram_is_received() {
        let (socket, target) = pair().await;
        for payload in [&b""[..], b"one", b""] {
            target.send(payload).await.expect("loopback");
            assert_eq!(received(&socket, 1).await, [payload]);
        }
    }

    /// Linux hands over a batch of the sender as one.
    #[tokio::test]
    async fn datagrams_that_arrive_at_once_are_separated() {
        let (socket, target) = pair().await;
        let sender = TargetSocket::new(target, socket.get_ref().local_addr().expect("bound"));
        let sender = sender.expect("a socket");
        let all = payloads(&[100, 100, 100, 100, 7]);
        let mut batch = Batch::default();
        for payload in &all {
            assert!(batch.accepts(payload));
            batch.push(payload);
        }
        let sent = poll_fn(|cx| sender.poll_send(cx, &mut batch)).await;
        sent.expect("loopback");
        assert!(batch.is_empty());
        assert_eq!(received(&socket, all.len()).await, all);
    }

    #[test]
    fn batch_accepts_datagrams_of_one_length_and_a_shorter_last_one() {
        let accepted = |lengths: &[usize]| {
            let mut batch = Batch::default();
            let mut count = 0;
            for payload in payloads(lengths) {
                if !batch.accepts(&payload) {
                    break;
                }
                batch.push(&payload);
                count += 1;
            }
            count
        };
        assert_eq!(accepted(&[100, 100, 101]), 2);
        assert_eq!(accepted(&[100, 100, 99, 99]), 3);
        assert_eq!(accepted(&[100, 0]), 1);
        assert_eq!(accepted(&[0, 0]), 1);
        assert_eq!(accepted(&[1; 100]), MAX_SENT);
        assert_eq!(accepted(&[1200; 100]), 54);
        assert_eq!(accepted(&[65_527, 1]), 1);
    }
}
