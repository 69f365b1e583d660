//! A backend that records every byte that it receives.

use crate::support::{text, until};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// Answers each connection once. Only its client closes a connection.
pub(super) struct Recorder {
    pub(super) address: SocketAddr,
    records: Arc<Mutex<Vec<Record>>>,
    _tasks: JoinSet<()>,
}

/// The bytes read from one connection.
#[derive(Default)]
struct Record {
    bytes: Vec<u8>,
    has_ended: bool,
}

/// The bytes of the connection that `Recorder::received` makes.
const MARKER: &[u8] = b"marker";

impl Recorder {
    /// Starts a backend that sends `answer` after it has read a request head.
    pub(super) async fn start(answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("bound");
        let records: Arc<Mutex<Vec<Record>>> = Arc::default();
        let mut tasks = JoinSet::new();
        tasks.spawn({
            let records = Arc::clone(&records);
            async move {
                let mut connections = JoinSet::new();
                while let Ok((io, _)) = listener.accept().await {
                    let number = {
                        let mut records = records.lock().expect("no panic");
                        records.push(Record::default());
                        records.len() - 1
                    };
                    connections.spawn(record(io, answer, Arc::clone(&records), number));
                }
            }
        });
        Self {
            address,
            records,
            _tasks: tasks,
        }
    }

    /// Waits until all connections have ended, and returns the bytes of each.
    pub(super) async fn received(&self) -> Vec<String> {
        // The listener accepts earlier connections first.
        let mut last = TcpStream::connect(self.address).await.expect("loopback");
        last.write_all(MARKER).await.expect("loopback");
        drop(last);
        let has_ended = |records: &[Record]| {
            let is_last = |record: &Record| record.bytes == MARKER;
            records.iter().any(is_last) && records.iter().all(|record| record.has_ended)
        };
        until(|| has_ended(&self.records.lock().expect("no panic"))).await;
        let mut records = self.records.lock().expect("no panic");
        let received = records.drain(..).map(|record| text(&record.bytes));
        received
            .filter(|bytes| bytes.as_bytes() != MARKER)
            .collect()
    }
}

async fn record(
    mut io: TcpStream,
    answer: &'static str,
    records: Arc<Mutex<Vec<Record>>>,
    number: usize,
) {
    let mut buffer = vec![0; 4096];
    let mut is_answered = false;
    // A reset also ends the connection.
    while let Ok(length @ 1..) = io.read(&mut buffer).await {
        let has_head = {
            let bytes = &mut records.lock().expect("no panic")[number].bytes;
            bytes.extend(&buffer[..length]);
            bytes.windows(4).any(|window| window == b"\r\n\r\n")
        };
        if has_head && !is_answered {
            is_answered = true;
            // The test checks the answer on the client side.
            let _ = io.write_all(answer.as_bytes()).await;
        }
    }
    records.lock().expect("no panic")[number].has_ended = true;
}
