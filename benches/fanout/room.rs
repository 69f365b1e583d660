//! The clients: one sends, and all listen. They count bytes of raw sockets, in one thread, so that they cost little.

use rustix::{
    buffer::spare_capacity,
    event::epoll::{self, CreateFlags, EventData, EventFlags},
    net::sockopt,
};
use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// One of so many listeners is slow.
const SLOW: usize = 100;

/// Frames of one or more messages, as sent and as received.
pub(crate) struct Burst {
    sent: Vec<u8>,
    /// The bytes that each listener receives.
    received: usize,
}

impl Burst {
    /// Makes frames of `bytes` payload bytes.
    pub(crate) fn new(messages: usize, bytes: usize) -> Self {
        let header = |mask: u8| match u16::try_from(bytes) {
            Ok(length @ 0..126) => vec![0x82, mask | length as u8],
            Ok(length) => [&[0x82, mask | 126][..], &length.to_be_bytes()].concat(),
            Err(_) => [&[0x82, mask | 127][..], &(bytes as u64).to_be_bytes()].concat(),
        };
        let payload = vec![7; bytes];
        // Masked with zeros.
        let sent = [&header(0x80)[..], &[0; 4], &payload].concat();
        Self {
            sent: sent.repeat(messages),
            received: (header(0).len() + bytes) * messages,
        }
    }
}

pub(crate) struct Room {
    epoll: OwnedFd,
    /// The first one sends.
    listeners: Vec<Listener>,
    /// Open, and never read.
    slow: Vec<TcpStream>,
    /// The bytes that each listener must have received by now.
    expected: usize,
    buffer: Vec<u8>,
    events: Vec<epoll::Event>,
}

struct Listener {
    stream: TcpStream,
    received: usize,
}

impl Room {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            listeners: Vec::new(),
            slow: Vec::new(),
            expected: 0,
            buffer: vec![0; 256 * 1024],
            events: Vec::with_capacity(1024),
        })
    }

    /// Opens a session, and closes it.
    pub(crate) fn visit(server: SocketAddr) -> io::Result<()> {
        let mut stream = connect(server)?;
        // A masked close frame.
        stream.write_all(&[0x88, 0x80, 0, 0, 0, 0])?;
        stream.read_to_end(&mut Vec::new()).map(drop)
    }

    /// Opens sessions. With `has_slow`, one in a hundred is slow.
    pub(crate) fn enter(
        &mut self,
        server: SocketAddr,
        sessions: usize,
        has_slow: bool,
    ) -> io::Result<()> {
        for at in 0..sessions {
            let stream = connect(server)?;
            if has_slow && at % SLOW == SLOW - 1 {
                sockopt::set_socket_recv_buffer_size(&stream, 4096)?;
                self.slow.push(stream);
                continue;
            }
            stream.set_nonblocking(true)?;
            let data = EventData::new_u64(self.listeners.len() as u64);
            epoll::add(&self.epoll, &stream, data, EventFlags::IN)?;
            self.listeners.push(Listener {
                stream,
                received: self.expected,
            });
        }
        Ok(())
    }

    /// The number of listeners that receive each message.
    pub(crate) fn len(&self) -> usize {
        self.listeners.len()
    }

    /// Sends the messages, and returns the time until the last listener has received them.
    pub(crate) fn send(&mut self, burst: &Burst) -> io::Result<Duration> {
        self.expected += burst.received;
        let started = Instant::now();
        let mut unsent = &burst.sent[..];
        let mut behind = self.listeners.len();
        while behind > 0 {
            if !unsent.is_empty() {
                match self.listeners[0].stream.write(unsent) {
                    Ok(written) => unsent = &unsent[written..],
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
            epoll::wait(&self.epoll, spare_capacity(&mut self.events), None)?;
            for event in self.events.drain(..) {
                let listener = &mut self.listeners[event.data.u64() as usize];
                match listener.stream.read(&mut self.buffer)? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    read => listener.received += read,
                }
                behind -= usize::from(listener.received == self.expected);
            }
        }
        Ok(started.elapsed())
    }
}

/// Opens a session.
fn connect(server: SocketAddr) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(server)?;
    stream.set_nodelay(true)?;
    stream.write_all(REQUEST.as_bytes())?;
    let mut head = [0; 512];
    let mut end = 0;
    // No bytes follow the head: the room is silent.
    while !head[..end].ends_with(b"\r\n\r\n") {
        match stream.read(&mut head[end..])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => end += read,
        }
    }
    match head.starts_with(b"HTTP/1.1 101 ") {
        true => Ok(stream),
        false => Err(io::Error::other("the server did not answer 101")),
    }
}
