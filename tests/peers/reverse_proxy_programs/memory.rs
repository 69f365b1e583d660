//! Large bodies, and peers that stop reading: the proxy holds a bounded part of a body.

use super::{Client, empty, proxy};
use crate::{
    process::Example,
    support::{Peer, clients::Scripted, head, soon},
};
use http_body_util::BodyExt as _;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::sleep,
};

/// The growth of the proxy's peak memory that these tests allow.
const LIMIT: usize = 32 << 20;

/// The length of a large body.
const LARGE: usize = 1 << 30;

/// Writes zeros, counts them, and returns when all are written.
async fn write(io: &mut TcpStream, length: usize, written: &AtomicUsize) {
    let zeros = vec![0; 64 << 10];
    while written.load(Ordering::SeqCst) < length {
        let part = zeros.len().min(length - written.load(Ordering::SeqCst));
        io.write_all(&zeros[..part]).await.expect("a connection");
        written.fetch_add(part, Ordering::SeqCst);
    }
}

async fn read(io: &mut TcpStream, length: usize) {
    let mut buffer = vec![0; 64 << 10];
    let mut left = length;
    while left > 0 {
        let part = left.min(buffer.len());
        left -= soon(io.read(&mut buffer[..part])).await.expect("data");
    }
}

fn request(method: &str, length: usize) -> String {
    let method = format!("{method} / HTTP/1.1");
    head(&[&method, "Host: test", &format!("Content-Length: {length}")])
}

fn response(length: usize) -> String {
    head(&["HTTP/1.1 200 OK", &format!("Content-Length: {length}")])
}

/// A proxy with a warmed-up connection to a backend.
struct Warm {
    proxy: Example,
    backend: Scripted,
    peak: usize,
}

impl Warm {
    async fn start() -> Self {
        let backend = Scripted::start().await;
        let proxy = proxy(&backend.uri("").to_string(), &[]).await;
        let mut client = proxy.connect().await;
        client.send(request("GET", 0)).await;
        let mut server = backend.accept().await;
        server.request_head().await;
        server.send(response(0)).await;
        client.response().await;
        let peak = proxy.peak_memory();
        Self {
            proxy,
            backend,
            peak,
        }
    }

    #[track_caller]
    fn expect_little_memory(&self) {
        let grown = self.proxy.peak_memory() - self.peak;
        assert!(grown < LIMIT, "the peak has grown by {grown} bytes");
    }

    /// Sends the request of an upload. Returns both connections.
    async fn begin_upload(&self, length: usize) -> (Peer<TcpStream>, Peer<TcpStream>) {
        let mut client = self.proxy.connect().await;
        client.send(request("POST", length)).await;
        let mut server = self.backend.accept().await;
        server.request_head().await;
        (client, server)
    }
}

#[tokio::test]
async fn large_upload_and_download_need_little_memory() {
    let length = LARGE;
    let warm = Warm::start().await;
    let (mut client, mut server) = warm.begin_upload(length).await;
    let early = server.unread().len();
    let written = AtomicUsize::new(0);
    tokio::join!(
        write(&mut client.io, length, &written),
        read(&mut server.io, length - early)
    );
    server.send(response(length)).await;
    assert_eq!(client.head().await.status, 200);
    let early = client.unread().len();
    let written = AtomicUsize::new(0);
    tokio::join!(
        write(&mut server.io, length, &written),
        read(&mut client.io, length - early)
    );
    warm.expect_little_memory();
}

/// Waits until a counter no longer grows.
async fn until_stalled(written: &AtomicUsize) -> usize {
    loop {
        let before = written.load(Ordering::SeqCst);
        // A busy machine may only make the result smaller.
        sleep(Duration::from_millis(500)).await;
        if before == written.load(Ordering::SeqCst) {
            return before;
        }
    }
}

/// More than the buffers of all sockets and of the proxy.
const STALLING: usize = 128 << 20;

#[tokio::test]
async fn client_that_stops_reading_stalls_the_backend() {
    for is_http2 in [false, true] {
        let warm = Warm::start().await;
        let client = Client::new(&warm.proxy.url, is_http2);
        let request = client.request("GET", "/").body(empty());
        let answer = async {
            let mut server = warm.backend.accept().await;
            server.request_head().await;
            server.send(response(STALLING)).await;
            server
        };
        let begun = client.begin(request.expect("a request"));
        let (response, mut server) = tokio::join!(begun, answer);
        let written = Arc::new(AtomicUsize::new(0));
        let writing = tokio::spawn({
            let written = Arc::clone(&written);
            async move { write(&mut server.io, STALLING, &written).await }
        });
        let stalled = until_stalled(&written).await;
        assert!(
            stalled < STALLING / 2,
            "the backend has sent {stalled} bytes"
        );
        warm.expect_little_memory();

        // The client gets the complete body once it reads.
        let mut body = response.into_body();
        let mut length = 0;
        while let Some(frame) = soon(body.frame()).await {
            length += frame.expect("a body").into_data().expect("data").len();
        }
        assert_eq!(length, STALLING);
        soon(writing).await.expect("no panic");
        warm.expect_little_memory();
    }
}

#[tokio::test]
async fn backend_that_stops_reading_stalls_the_client() {
    let warm = Warm::start().await;
    let (mut client, mut server) = warm.begin_upload(STALLING).await;
    let written = Arc::new(AtomicUsize::new(0));
    let writing = tokio::spawn({
        let written = Arc::clone(&written);
        async move {
            write(&mut client.io, STALLING, &written).await;
            client
        }
    });
    let stalled = until_stalled(&written).await;
    assert!(
        stalled < STALLING / 2,
        "the client has sent {stalled} bytes"
    );
    warm.expect_little_memory();
    let early = server.unread().len();
    read(&mut server.io, STALLING - early).await;
    let mut client = soon(writing).await.expect("no panic");
    server.send(response(0)).await;
    assert_eq!(client.response().await.0.status, 200);
    warm.expect_little_memory();
}
