//! The clients and upstream servers of the tunnels, which run in the benchmark's process.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener as StdListener, TcpStream as StdStream},
    sync::mpsc,
    thread,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tower_upgrade::BoxError;

/// The bytes of one read or write of bulk data. Large, to keep the cost of the ends low.
const CHUNK: usize = 1024 * 1024;

/// Echoes on each connection.
pub(crate) async fn echo(listener: TcpListener) -> io::Result<()> {
    loop {
        let (mut io, _) = listener.accept().await?;
        io.set_nodelay(true)?;
        tokio::spawn(async move {
            let mut buffer = vec![0; 16 * 1024];
            loop {
                match io.read(&mut buffer).await? {
                    0 => return io.shutdown().await,
                    read => io.write_all(&buffer[..read]).await?,
                }
            }
        });
    }
}

/// Discards received bytes, and sends one byte after each `share` of them.
///
/// Each connection has a thread with blocking system calls, the cheapest way to receive.
pub(crate) fn sink(share: usize) -> io::Result<SocketAddr> {
    let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    thread::spawn(move || -> io::Result<()> {
        loop {
            let (mut io, _) = listener.accept()?;
            io.set_nodelay(true)?;
            thread::spawn(move || -> io::Result<()> {
                let mut buffer = vec![0; CHUNK];
                loop {
                    let mut left = share;
                    while left > 0 {
                        let room = left.min(CHUNK);
                        match swallow(&io, &mut buffer[..room])? {
                            0 => return Ok(()),
                            read => left -= read,
                        }
                    }
                    io.write_all(&[1])?;
                }
            });
        }
    });
    Ok(address)
}

/// The client of a sink, in a thread that sends on request.
pub(crate) struct Sender {
    go: mpsc::Sender<()>,
    done: mpsc::Receiver<io::Result<()>>,
}

impl Sender {
    pub(crate) fn new(tunnel: TcpStream, share: usize) -> io::Result<Self> {
        let tunnel = tunnel.into_std()?;
        tunnel.set_nonblocking(false)?;
        let (go, told) = mpsc::channel();
        let (tell, done) = mpsc::channel();
        thread::spawn(move || {
            let bytes = vec![0x55; CHUNK];
            while let Ok(()) = told.recv() {
                if tell.send(send(&tunnel, &bytes, share)).is_err() {
                    return;
                }
            }
        });
        Ok(Self { go, done })
    }
}

/// Sends a share and waits for the sink's byte.
fn send(mut tunnel: &StdStream, bytes: &[u8], share: usize) -> io::Result<()> {
    let mut left = share;
    while left > 0 {
        let some = left.min(bytes.len());
        tunnel.write_all(&bytes[..some])?;
        left -= some;
    }
    tunnel.read_exact(&mut [0])
}

/// Makes all senders send their shares at the same time, and waits until the shares have arrived.
pub(crate) fn send_all(senders: &[Sender]) -> Result<(), BoxError> {
    for sender in senders {
        sender.go.send(())?;
    }
    for sender in senders {
        sender.done.recv()??;
    }
    Ok(())
}

/// Sends a message, reads its echo into `answer`, and compares both.
pub(crate) async fn exchange(
    tunnel: &mut TcpStream,
    message: &[u8],
    answer: &mut [u8],
) -> io::Result<()> {
    if message.len() <= 4096 {
        tunnel.write_all(message).await?;
        tunnel.read_exact(answer).await?;
    } else {
        // Read while writing: an echo that answers before it has read all would block otherwise.
        let (mut reader, mut writer) = tunnel.split();
        tokio::try_join!(writer.write_all(message), reader.read_exact(answer))?;
    }
    if answer == message {
        Ok(())
    } else {
        Err(io::Error::other("no echo"))
    }
}

/// Shuts down the write side of a tunnel and waits for EOF.
pub(crate) async fn close(mut tunnel: TcpStream) -> io::Result<()> {
    tunnel.shutdown().await?;
    match tunnel.read(&mut [0]).await? {
        0 => Ok(()),
        _ => Err(io::Error::other("more bytes than the echo")),
    }
}

/// Discards up to a buffer full of bytes.
#[cfg(target_os = "linux")]
fn swallow(from: &StdStream, buffer: &mut [u8]) -> io::Result<usize> {
    // With `TRUNC` the kernel does not copy the bytes. On two cores that copy would dominate the measurement.
    let (_, taken) = rustix::net::recv(from, buffer, rustix::net::RecvFlags::TRUNC)?;
    Ok(taken)
}

#[cfg(not(target_os = "linux"))]
fn swallow(mut from: &StdStream, buffer: &mut [u8]) -> io::Result<usize> {
    from.read(buffer)
}
