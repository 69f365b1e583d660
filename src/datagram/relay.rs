//! Relays UDP payloads between a session and a connected socket.

use super::{
    capsule,
    capsule::Malformed,
    datagrams::{self, HttpDatagrams},
    socket::{Batch, MAX_RECEIVED, Received, TargetSocket},
    udp,
};
use crate::{
    error::BoxError,
    io::buffer::{BYTES, Buffer},
    io::datagrams::Outcome,
    session::Session,
    time::{Timer, within},
};
use bytes::Bytes;
use std::{
    future::poll_fn,
    io::{self, ErrorKind},
    pin::pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
#[cfg(target_os = "linux")]
use tokio::io::Interest;
use tokio::time::Instant;

/// The maximum length of the header and the Context ID of a capsule.
const MAX_HEADER: usize = 6;

/// The room that the next datagrams may need in the buffer.
const ROOM: usize = MAX_RECEIVED * MAX_HEADER + udp::MAX_PAYLOAD;

// The buffer has room for datagrams of any length after several of the usual length.
const _: () = assert!(BYTES >= ROOM + 4 * 1500);

/// Relays until one side ends, the session is stopped, or no datagram moves for the idle timeout.
pub(super) fn relay(
    session: Session,
    socket: TargetSocket,
    idle_timeout: Duration,
) -> impl Future<Output = Result<(), BoxError>> + Send {
    let state = Arc::clone(session.state());
    let mut relay = Relay {
        datagrams: session.into(),
        batch: Batch::default(),
        blocked: None,
        is_targets_turn: false,
        idle_timeout,
        active: Instant::now(),
        timer: Timer::default(),
    };
    // Moves none of the captured values, which would reserve memory for both places.
    async move {
        let end = {
            let mut stop = pin!(state.stopping());
            let mut failure = pin!(failure(&socket));
            let end = poll_fn(|cx| {
                if stop.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Ok(End::Finished));
                }
                match relay.poll(cx, &socket) {
                    Poll::Ready(end) => Poll::Ready(end),
                    Poll::Pending => failure.as_mut().poll(cx).map(Err),
                }
            });
            end.await
        };
        match end {
            Ok(End::Finished) => {
                // Completes the capsule that is being written, if the client still reads.
                relay.datagrams.queue_mut().clear();
                let limit = state.settings().shutdown_timeout();
                within(limit, relay.datagrams.flush()).await.transpose()?;
            }
            Ok(End::Idle) => state.set_idle(),
            Err(error) => {
                // The client or the target causes the error, which needs no attention of the operator.
                state.blame_peer();
                return Err(error.into());
            }
        }
        Ok(())
    }
}

/// The end of a relay without an error.
enum End {
    Finished,
    Idle,
}

struct Relay {
    datagrams: HttpDatagrams,
    /// Payloads for the target.
    batch: Batch,
    /// A payload that waits until the batch is sent. The relay receives no more from the client meanwhile.
    blocked: Option<Bytes>,
    /// Which direction is polled first. They alternate: one direction can use up the budget of the task.
    is_targets_turn: bool,
    idle_timeout: Duration,
    /// The time at which a datagram was last relayed.
    active: Instant,
    timer: Timer,
}

impl Relay {
    fn poll(&mut self, cx: &mut Context<'_>, socket: &TargetSocket) -> Poll<io::Result<End>> {
        self.is_targets_turn = !self.is_targets_turn;
        let mut is_active = false;
        for is_to_target in [self.is_targets_turn, !self.is_targets_turn] {
            let ended = match is_to_target {
                true => self.poll_to_target(cx, socket, &mut is_active)?,
                false => self.poll_to_client(cx, socket, &mut is_active)?,
            };
            if ended.is_ready() {
                return Poll::Ready(Ok(End::Finished));
            }
        }
        if self.idle_timeout == Duration::MAX {
            return Poll::Pending;
        }
        if is_active {
            self.active = Instant::now();
        }
        match self.active.checked_add(self.idle_timeout) {
            Some(deadline) => self.timer.poll_at(cx, deadline).map(|()| Ok(End::Idle)),
            // Later than any time.
            None => Poll::Pending,
        }
    }

    /// Relays payloads to the target, until the client ends its stream.
    fn poll_to_target(
        &mut self,
        cx: &mut Context<'_>,
        socket: &TargetSocket,
        is_active: &mut bool,
    ) -> Poll<io::Result<()>> {
        loop {
            // A batch is sent before the relay waits for the client.
            if self.blocked.is_some() || !self.datagrams.has_input() {
                if !self.batch.is_empty() {
                    let sent = ready!(socket.poll_send(cx, &mut self.batch));
                    *is_active |= is_relayed(sent)?;
                }
                if let Some(payload) = self.blocked.take() {
                    self.batch.push(&payload);
                    continue;
                }
            }
            let batch = &mut self.batch;
            let add = |cx: &mut Context<'_>, datagram: datagrams::Received<'_>| {
                let Some(payload) = udp::payload(&datagram)? else {
                    return Ok(Added::Ignored);
                };
                let mut sent = None;
                if !batch.accepts(payload) {
                    match socket.poll_send(cx, batch) {
                        Poll::Ready(result) => sent = Some(result),
                        Poll::Pending => {
                            return Ok(Added::Blocked(Bytes::copy_from_slice(payload)));
                        }
                    }
                }
                batch.push(payload);
                Ok(Added::Done(sent))
            };
            let added: Result<_, Malformed> = match ready!(self.datagrams.poll_recv_with(cx, add)) {
                Some(added) => added?,
                None => return Poll::Ready(Ok(())),
            };
            match added {
                Ok(Added::Done(None)) => {}
                Ok(Added::Done(Some(sent))) => *is_active |= is_relayed(sent)?,
                Ok(Added::Blocked(payload)) => self.blocked = Some(payload),
                // No operation on the socket has used the budget of the task.
                Ok(Added::Ignored) => ready!(tokio::task::coop::poll_proceed(cx)).made_progress(),
                Err(malformed) => return Poll::Ready(Err(self.datagrams.abort(malformed))),
            }
        }
    }

    /// Relays payloads to the client. Never completes without an error.
    ///
    /// While the client does not read, datagrams of the target move to the queue, which keeps the latest ones.
    fn poll_to_client(
        &mut self,
        cx: &mut Context<'_>,
        socket: &TargetSocket,
        is_active: &mut bool,
    ) -> Poll<io::Result<()>> {
        loop {
            let is_blocked = self.datagrams.poll_flush(cx)?.is_pending();
            if is_blocked || self.datagrams.has_quic() {
                let received = ready!(poll_receive(cx, socket))?;
                for payload in received.payloads() {
                    match self.datagrams.send_quic(udp::CONTEXT, payload)? {
                        Outcome::Sent => *is_active = true,
                        Outcome::Dropped => {}
                        Outcome::NeedsCapsule => {
                            *is_active |= !is_blocked;
                            let payload = Bytes::copy_from_slice(payload);
                            self.datagrams.queue_mut().push(udp::CONTEXT, payload);
                        }
                    }
                }
                continue;
            }
            let (mut buffer, mut end) = (Buffer::borrow(), 0);
            while BYTES - end >= ROOM {
                let Poll::Ready(received) = poll_receive(cx, socket)? else {
                    break;
                };
                for payload in received.payloads() {
                    // Drops datagrams if a later version of the system receives more at once.
                    if BYTES - end >= MAX_HEADER + payload.len() {
                        end += encode(&mut buffer[end..], payload);
                    }
                }
            }
            if end == 0 {
                return Poll::Pending;
            }
            *is_active = true;
            self.datagrams.queue_mut().write_encoded(buffer, end);
        }
    }
}

/// Receives payloads from the target.
fn poll_receive(cx: &mut Context<'_>, socket: &TargetSocket) -> Poll<io::Result<Received>> {
    loop {
        let received = ready!(socket.poll_recv(cx, Buffer::borrow()));
        match received {
            Ok(received) => return Poll::Ready(Ok(received)),
            Err(error) => {
                is_relayed::<()>(Err(error))?;
            }
        }
    }
}

/// The result of adding the payload of a datagram to the batch.
enum Added {
    /// The batch before it was sent, with this result.
    Done(Option<io::Result<()>>),
    Blocked(Bytes),
    /// The datagram has another Context ID, which RFC 9298 §4 requires to drop in silence.
    Ignored,
}

/// Writes a capsule with this payload. Returns its length.
fn encode(bytes: &mut [u8], payload: &[u8]) -> usize {
    let mut end = capsule::datagram_header(udp::CONTEXT.len() + payload.len(), bytes);
    for part in [udp::CONTEXT, payload] {
        bytes[end..end + part.len()].copy_from_slice(part);
        end += part.len();
    }
    end
}

/// Waits until the system reports that the target cannot be reached.
///
/// On Linux, an ICMP message does not make a socket readable: without this, a client that only receives would wait until
/// the idle timeout.
#[cfg(target_os = "linux")]
async fn failure(socket: &TargetSocket) -> io::Error {
    let socket = socket.get_ref();
    const FAILED: Interest = Interest::ERROR;
    loop {
        let failed = match socket.ready(FAILED).await {
            // Clears the readiness if another operation has returned the error.
            Ok(_ready) => socket.try_io(FAILED, || match socket.take_error()? {
                Some(error) => Err(error),
                None => Err(ErrorKind::WouldBlock.into()),
            }),
            Err(error) => return error,
        };
        if let Err(error) = is_relayed::<()>(failed) {
            return error;
        }
    }
}

/// Elsewhere, the next operation returns the error.
#[cfg(not(target_os = "linux"))]
async fn failure(_socket: &TargetSocket) -> io::Error {
    std::future::pending().await
}

/// Returns whether a datagram was sent or received.
///
/// # Errors
///
/// Returns an error if the target cannot be reached, usually after an ICMP message. Other errors concern one datagram,
/// which is dropped, as a network may do: it exceeds the MTU of the path, the system lacks buffers, or a firewall drops
/// it.
fn is_relayed<T>(result: io::Result<T>) -> io::Result<bool> {
    match result {
        Ok(_) => Ok(true),
        // The runtime is shutting down.
        Err(error) if error.raw_os_error().is_none() => Err(error),
        Err(error) => match error.kind() {
            ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionReset
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::NetworkDown
            | ErrorKind::NotConnected => Err(error),
            _ => Ok(false),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{io::parts::UpgradedParts, session::upgraded::Upgraded};
    use std::pin::Pin;
    use tokio::{
        io::{AsyncRead, AsyncReadExt as _, ReadBuf},
        net::UdpSocket,
    };

    /// A client whose capsules never end, and which is always ready.
    struct Endless;

    impl AsyncRead for Endless {
        fn poll_read(
            self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let capsule = [0, 2, 0, 7];
            while buf.remaining() >= capsule.len() {
                buf.put_slice(&capsule);
            }
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn busy_client_does_not_starve_the_target() {
        let target = UdpSocket::bind("127.0.0.1:0").await.expect("loopback");
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("loopback");
        let [to, from] = [&target, &socket].map(|socket| socket.local_addr().expect("bound"));
        socket.connect(to).await.expect("loopback");
        target.send_to(b"answer", from).await.expect("loopback");
        // The runtime has seen that the socket is readable.
        socket.readable().await.expect("loopback");
        let socket = TargetSocket::new(socket, to).expect("loopback");

        let (io, mut client) = tokio::io::duplex(100);
        let io = tokio::io::join(Endless, io);
        let mut relay = Relay {
            datagrams: Upgraded::from_parts(UpgradedParts::new(io, Bytes::new())).into(),
            batch: Batch::default(),
            blocked: None,
            is_targets_turn: false,
            idle_timeout: Duration::MAX,
            active: Instant::now(),
            timer: Timer::default(),
        };
        tokio::spawn(async move { poll_fn(|cx| relay.poll(cx, &socket)).await.map(drop) });
        let mut received = [0; 9];
        let read = client.read_exact(&mut received);
        let turns = async {
            for _ in 0..1000 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            read = read => drop(read.expect("an open stream")),
            () = turns => panic!("no datagram of the target"),
        }
        assert_eq!(&received, b"\0\x07\0answer");
    }

    #[test]
    fn d3_payload_of_any_length_gets_the_shortest_header() {
        for (length, header) in [
            (0, &[0, 1, 0][..]),
            (62, &[0, 63, 0]),
            (63, &[0, 0x40, 64, 0]),
            (16_382, &[0, 0x7f, 0xff, 0]),
            (16_383, &[0, 0x80, 0, 0x40, 0, 0]),
            (udp::MAX_PAYLOAD, &[0, 0x80, 0, 0xff, 0xf8, 0]),
        ] {
            let payload: Vec<_> = (0..length).map(|at| at as u8).collect();
            let mut bytes = vec![0xff; MAX_HEADER + length];
            let end = encode(&mut bytes, &payload);
            assert_eq!(bytes[..end], [header, &payload].concat(), "{length}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn d4_icmp_error_ends_the_relay_and_other_errors_drop_one_datagram() {
        const ECONNREFUSED: i32 = 111;
        const EHOSTUNREACH: i32 = 113;
        const EPERM: i32 = 1;
        const EMSGSIZE: i32 = 90;
        const ENOBUFS: i32 = 105;
        let is_end = |error| is_relayed::<()>(Err(error)).is_err();
        for code in [ECONNREFUSED, EHOSTUNREACH] {
            assert!(is_end(io::Error::from_raw_os_error(code)), "{code}");
        }
        for code in [EPERM, EMSGSIZE, ENOBUFS] {
            assert!(!is_end(io::Error::from_raw_os_error(code)), "{code}");
        }
        assert!(is_end(io::Error::other("the runtime is shutting down")));
    }
}
