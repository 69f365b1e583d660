//! A client and a server on one in-memory connection, and the client's parser of responses.

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::{sleep, timeout},
};
use tower::{Layer as _, service_fn};
use tower_upgrade::{CloseReason, Sessions, UpgradeLayer};

/// Exceeds every timer of the server. Time is paused, so the test does not wait for these timers.
pub(crate) const HANG: Duration = Duration::from_secs(60 * 60);

/// The pause between the client's last segment and the shutdown of its side.
const PAUSE: Duration = Duration::from_secs(60);

/// Returns all bytes that a client receives when it sends these segments. The server reads each segment before the
/// client sends the next one, and the client shuts its side down a minute later.
///
/// The inner service answers every request with 204, which differs from a handler's 200.
///
/// # Panics
///
/// If something hangs or panics, or if a session remains.
pub(crate) fn exchange(layer: UpgradeLayer, segments: &[&[u8]]) -> Vec<u8> {
    paused(async {
        let (client, server) = tokio::io::duplex(64 * 1024);
        let sessions = Sessions::new();
        let panics = Arc::new(Mutex::new(Vec::new()));
        let layer = layer.sessions(sessions.clone()).on_close({
            let panics = Arc::clone(&panics);
            move |closed| {
                if let CloseReason::Panicked(message) = closed.reason() {
                    panics.lock().expect("no panic").push(message.to_string());
                }
            }
        });
        let service = layer.layer(service_fn(plain));
        let connection = hyper::server::conn::http1::Builder::new()
            .half_close(true)
            .serve_connection(TokioIo::new(server), TowerToHyperService::new(service))
            .with_upgrades();
        let connection = tokio::spawn(connection);

        let (mut reader, mut writer) = tokio::io::split(client);
        let send = async {
            for segment in segments {
                // The server may already have closed the connection.
                if writer.write_all(segment).await.is_err() {
                    break;
                }
                // Fires when all tasks are idle.
                sleep(Duration::from_millis(1)).await;
            }
            sleep(PAUSE).await;
            let _ = writer.shutdown().await;
        };
        let mut read = Vec::new();
        let receive = async { reader.read_to_end(&mut read).await.expect("memory") };
        timeout(HANG, async { tokio::join!(send, receive) })
            .await
            .expect("the connection hangs");
        // Ignores the connection's result: the client sees how the connection ended.
        let _ = timeout(HANG, connection)
            .await
            .expect("the server hangs")
            .expect("the server does not panic");
        let ended = async {
            while !sessions.is_empty() {
                sleep(PAUSE).await;
            }
        };
        timeout(HANG, ended).await.expect("a session hangs");
        assert_eq!(*panics.lock().expect("no panic"), [""; 0]);
        read
    })
}

/// Runs a future while time is paused.
pub(crate) fn paused<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    runtime.expect("a runtime").block_on(future)
}

async fn plain(_: Request<Incoming>) -> Result<Response<String>, Infallible> {
    let mut response = Response::new(String::new());
    *response.status_mut() = http::StatusCode::NO_CONTENT;
    Ok(response)
}

/// A received response head.
pub(crate) struct Head {
    pub(crate) status: u16,
    lines: Vec<(String, Vec<u8>)>,
}

impl Head {
    /// Takes the next head off the received bytes. `None`: no bytes are left.
    ///
    /// # Panics
    ///
    /// If the bytes are not HTTP, or are incomplete.
    pub(crate) fn take(read: &mut Bytes) -> Option<Self> {
        if read.is_empty() {
            return None;
        }
        let mut lines = [httparse::EMPTY_HEADER; 100];
        let mut head = httparse::Response::new(&mut lines);
        let length = match head.parse(read) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => panic!("half a head: {read:?}"),
            Err(error) => panic!("{error}: {read:?}"),
        };
        let line = |line: &httparse::Header| (line.name.to_ascii_lowercase(), line.value.to_vec());
        let head = Self {
            status: head.code.expect("a whole head"),
            lines: head.headers.iter().map(line).collect(),
        };
        drop(read.split_to(length));
        Some(head)
    }

    /// Returns a field that occurs at most once. The name must be in lower case.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let mut lines = self.lines.iter().filter(|line| line.0 == name);
        let line = lines.next()?;
        assert!(lines.next().is_none(), "{name} twice");
        Some(std::str::from_utf8(&line.1).expect("text"))
    }

    /// Whether the head has a field. The name must be in lower case.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.lines.iter().any(|line| line.0 == name)
    }

    /// Returns the length of the body.
    pub(crate) fn body_length(&self) -> usize {
        assert_eq!(self.get("transfer-encoding"), None);
        match (self.status, self.get("content-length")) {
            (100..200 | 204 | 304, None) => 0,
            (_, Some(length)) => length.parse().expect("a length"),
            (_, None) => panic!("a {} without a length", self.status),
        }
    }

    /// Checks the head of an upgrade response to `protocol`: U5, C2.
    pub(crate) fn assert_upgraded(&self, protocol: Option<&str>) {
        assert_eq!(self.status, if protocol.is_some() { 101 } else { 200 });
        assert_eq!(self.get("upgrade"), protocol);
        // hyper adds this option for a client that wants to close.
        let connection = self
            .get("connection")
            .map(|line| line.trim_end_matches("close"));
        let connection = connection.map(|line| line.trim_end_matches(", "));
        match protocol {
            Some(_) => assert_eq!(connection, Some("upgrade")),
            None => assert!(matches!(connection, None | Some(""))),
        }
        assert_eq!(self.get("content-length"), None);
        assert_eq!(self.get("transfer-encoding"), None);
    }
}
