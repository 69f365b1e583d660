//! A backend that writes down every byte it is sent.

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

/// Ends what was asked on a connection, and no connection: its client decides about that.
pub(super) struct Recorder {
    pub(super) address: SocketAddr,
    records: Arc<Mutex<Vec<Record>>>,
    _tasks: JoinSet<()>,
}

/// What was read from one connection.
#[derive(Default)]
struct Record {
    bytes: Vec<u8>,
    has_ended: bool,
}

/// What only `Recorder::seen` sends.
const MARKER: &[u8] = b"that is all";

impl Recorder {
    /// Says `answer` when it has read the head of a request.
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

    /// All that it has been sent, connection by connection, once they have ended.
    pub(super) async fn seen(&self) -> Vec<String> {
        // Who has connected before comes before.
        let mut last = TcpStream::connect(self.address).await.expect("loopback");
        last.write_all(MARKER).await.expect("loopback");
        drop(last);
        let has_ended = |records: &[Record]| {
            let is_last = |record: &Record| record.bytes == MARKER;
            records.iter().any(is_last) && records.iter().all(|record| record.has_ended)
        };
        until(|| has_ended(&self.records.lock().expect("no panic"))).await;
        let mut records = self.records.lock().expect("no panic");
        let seen = records.drain(..).map(|record| text(&record.bytes));
        seen.filter(|seen| seen.as_bytes() != MARKER).collect()
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
    // A connection that breaks off has ended too.
    while let Ok(length @ 1..) = io.read(&mut buffer).await {
        let has_head = {
            let bytes = &mut records.lock().expect("no panic")[number].bytes;
            bytes.extend(&buffer[..length]);
            bytes.windows(4).any(|window| window == b"\r\n\r\n")
        };
        if has_head && !is_answered {
            is_answered = true;
            // What becomes of it is looked at from the other end.
            let _ = io.write_all(answer.as_bytes()).await;
        }
    }
    records.lock().expect("no panic")[number].has_ended = true;
}
