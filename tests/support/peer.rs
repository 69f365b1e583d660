//! A peer that sends and reads raw bytes.

use super::{Head, soon};
use std::{future::Future, io};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// A client that sends raw bytes and checks every byte that it receives.
pub struct Peer<Io> {
    pub io: Io,
    read: Vec<u8>,
}

/// An IO that can be boxed.
pub trait AnyIo: AsyncRead + AsyncWrite + Send + Unpin {}

impl<Io: AsyncRead + AsyncWrite + Send + Unpin> AnyIo for Io {}

impl<Io: AsyncRead + AsyncWrite + Unpin> Peer<Io> {
    pub fn new(io: Io) -> Self {
        Self {
            io,
            read: Vec::new(),
        }
    }

    /// Boxes the IO.
    pub fn boxed(self) -> Peer<Box<dyn AnyIo>>
    where
        Io: Send + 'static,
    {
        Peer {
            io: Box::new(self.io),
            read: self.read,
        }
    }

    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> impl Future<Output = ()> {
        let bytes = bytes.as_ref().to_vec();
        soon(async move {
            self.io.write_all(&bytes).await.expect("peer can write");
            self.io.flush().await.expect("peer can flush");
        })
    }

    /// Reads the next response head.
    #[track_caller]
    pub fn head(&mut self) -> impl Future<Output = Head> {
        let caller = std::panic::Location::caller();
        soon(async move {
            loop {
                if let Some(end) = find(&self.read, b"\r\n\r\n") {
                    let head = self.read.drain(..end + 4).collect::<Vec<_>>();
                    return Head::parse(&head);
                }
                if !self.fill().await.expect("peer can read") {
                    panic!(
                        "no head, asked for at {caller}, only {:?}",
                        text(&self.read)
                    );
                }
            }
        })
    }

    /// Reads the next request head as text.
    #[track_caller]
    pub fn request_head(&mut self) -> impl Future<Output = String> {
        let caller = std::panic::Location::caller();
        soon(async move {
            loop {
                if let Some(end) = find(&self.read, b"\r\n\r\n") {
                    return text(&self.read.drain(..end + 4).collect::<Vec<_>>());
                }
                let more = self.fill().await.expect("peer can read");
                assert!(more, "no head, asked for at {caller}");
            }
        })
    }

    /// Returns the bytes that were received but not returned yet.
    pub fn unread(&self) -> &[u8] {
        &self.read
    }

    /// Reads the next response, which must have a `Content-Length`.
    #[track_caller]
    pub fn response(&mut self) -> impl Future<Output = (Head, String)> {
        soon(async move {
            let head = self.head().await;
            let length = head
                .get("content-length")
                .expect("a length")
                .parse()
                .expect("a number");
            let body = self.exactly(length).await;
            (head, text(&body))
        })
    }

    #[track_caller]
    pub fn exactly(&mut self, length: usize) -> impl Future<Output = Vec<u8>> {
        let caller = std::panic::Location::caller();
        soon(async move {
            while self.read.len() < length {
                if !self.fill().await.expect("peer can read") {
                    panic!("EOF, asked at {caller}, only {:?}", text(&self.read));
                }
            }
            self.read.drain(..length).collect()
        })
    }

    /// Reads exactly `length` bytes, or returns none if the connection has ended.
    pub async fn up_to(&mut self, length: usize) -> Vec<u8> {
        let ended = self.read.is_empty() && !soon(self.fill()).await.expect("peer can read");
        if ended {
            Vec::new()
        } else {
            self.exactly(length).await
        }
    }

    /// Reads to EOF. A reset is an error.
    #[track_caller]
    pub fn rest(&mut self) -> impl Future<Output = io::Result<Vec<u8>>> {
        soon(async move {
            while self.fill().await? {}
            Ok(std::mem::take(&mut self.read))
        })
    }

    /// Expects EOF without further bytes and without a reset.
    #[track_caller]
    pub fn expect_end(&mut self) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        let rest = self.rest();
        async move {
            match rest.await {
                Ok(rest) => assert!(rest.is_empty(), "at {caller}: {:?}", text(&rest)),
                Err(error) => panic!("no orderly end, asked at {caller}: {error}"),
            }
        }
    }

    #[track_caller]
    pub fn finish(&mut self) -> impl Future<Output = ()> {
        soon(async move { self.io.shutdown().await.expect("peer can shut down") })
    }

    /// Writes the bytes and expects to read them back.
    #[track_caller]
    pub fn expect_echo(&mut self, bytes: &[u8]) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        let bytes = bytes.to_vec();
        async move {
            self.send(&bytes).await;
            let echo = self.exactly(bytes.len()).await;
            assert_eq!(text(&echo), text(&bytes), "at {caller}");
        }
    }

    async fn fill(&mut self) -> io::Result<bool> {
        Ok(self.io.read_buf(&mut self.read).await? > 0)
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
