//! A client and a server of one connection in memory, and what a client reads.

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

/// Long enough for every timer of a server, and for none of these to be waited for: time is paused.
pub(crate) const HANG: Duration = Duration::from_secs(60 * 60);

/// After all was sent, and before the client says that it was all.
const PAUSE: Duration = Duration::from_secs(60);

/// All that a client gets that sends these segments, each of which is read before the next one is sent, and
/// shuts its side down a minute later.
///
/// Behind the layer is a service that answers 204 to everything: that it was asked can be told from a handler's 200.
///
/// # Panics
///
/// If something hangs or panics, or if a session is left.
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
                // The server may have had enough.
                if writer.write_all(segment).await.is_err() {
                    break;
                }
                // Fires when nobody has anything to do any more.
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
        // How it ended is what the client sees.
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

/// Runs something while time is paused.
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

/// A response head as it came.
pub(crate) struct Head {
    pub(crate) status: u16,
    lines: Vec<(String, Vec<u8>)>,
}

impl Head {
    /// Takes the next one off what was read. `None`: there is nothing more.
    ///
    /// # Panics
    ///
    /// If it is not HTTP, or not whole.
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

    /// A field that is there once at most. Its name is in lower case.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let mut lines = self.lines.iter().filter(|line| line.0 == name);
        let line = lines.next()?;
        assert!(lines.next().is_none(), "{name} twice");
        Some(std::str::from_utf8(&line.1).expect("text"))
    }

    /// Whether a field is there. Its name is in lower case.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.lines.iter().any(|line| line.0 == name)
    }

    /// The length of its body.
    pub(crate) fn body_length(&self) -> usize {
        assert_eq!(self.get("transfer-encoding"), None);
        match (self.status, self.get("content-length")) {
            (100..200 | 204 | 304, None) => 0,
            (_, Some(length)) => length.parse().expect("a length"),
            (_, None) => panic!("a {} without a length", self.status),
        }
    }

    /// Checks what the head of every switch is like, and this one of a switch to `protocol`: U5, C2.
    pub(crate) fn assert_switch(&self, protocol: Option<&str>) {
        assert_eq!(self.status, if protocol.is_some() { 101 } else { 200 });
        assert_eq!(self.get("upgrade"), protocol);
        // To a client that wants to close hyper says so as well.
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
