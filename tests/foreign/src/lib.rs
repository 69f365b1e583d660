//! Checks of a governing layer around the WebSocket server of another crate, over a real connection.
//!
//! Each file in `tests/` starts the server of one crate as its documentation shows, and runs [`checks!`].

use axum::body::Body;
use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    runtime::Handle,
    sync::mpsc,
    time::timeout,
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{self, Message, client::IntoClientRequest as _},
};
use tower::{
    Layer as _, Service, ServiceExt as _,
    util::{BoxCloneSyncService, MapResponseLayer},
};
use tower_upgrade::{Sessions, UpgradeLayer};

/// The time limit of each wait.
const LIMIT: Duration = Duration::from_secs(20);

pub type Boxed = BoxCloneSyncService<Request<Incoming>, Response<Body>, Infallible>;
pub type Client = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// The WebSocket server of another crate.
pub struct Upgrader {
    pub service: Boxed,
    /// The number of sessions in which code of the application has run.
    pub starts: Starts,
    pub path: &'static str,
    pub subprotocol: Option<&'static str>,
    /// The messages at the start of a session. The last one is from the server.
    pub dialogue: &'static [Step],
}

/// A text message.
#[derive(Clone, Copy)]
pub enum Step {
    /// From the client.
    Send(&'static str),
    /// From the server, which contains this text.
    Expect(&'static str),
}

/// Counts the sessions that a server has started.
#[derive(Clone, Default)]
pub struct Starts(Arc<AtomicUsize>);

impl Starts {
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    pub fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// Erases the type of a service. Panics if the service fails.
pub fn boxed<S, B>(service: S) -> Boxed
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<axum::BoxError>,
    S::Future: Send,
    B: axum::body::HttpBody<Data = axum::body::Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    let service = service
        .map_response(|response| response.map(Body::new))
        .map_err(|error| -> Infallible { panic!("the service fails: {}", error.into()) });
    BoxCloneSyncService::new(service)
}

/// A hyper server on a loopback address.
pub struct Server {
    pub address: SocketAddr,
    ended: mpsc::UnboundedReceiver<()>,
}

impl Server {
    pub async fn start<S, B>(service: S) -> Self
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<axum::BoxError>,
        S::Future: Send,
        B: axum::body::HttpBody<Data = axum::body::Bytes> + Send + 'static,
        B::Error: Into<axum::BoxError>,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (sender, ended) = mpsc::unbounded_channel();
        let service = TowerToHyperService::new(boxed(service));
        tokio::spawn(async move {
            while let Ok((io, _)) = listener.accept().await {
                let (service, sender) = (service.clone(), sender.clone());
                tokio::spawn(async move {
                    let builder = Builder::new(TokioExecutor::new());
                    let connection =
                        builder.serve_connection_with_upgrades(TokioIo::new(io), service);
                    let _ = connection.await;
                    let _ = sender.send(());
                });
            }
        });
        Self { address, ended }
    }

    /// Opens a WebSocket.
    pub async fn connect(
        &self,
        path: &str,
        subprotocol: Option<&'static str>,
    ) -> Result<Client, tungstenite::Error> {
        connect(self.address, path, subprotocol).await
    }

    /// Opens a WebSocket and exchanges the first messages.
    async fn open(&self, upgrader: &Upgrader) -> Client {
        let client = self.connect(upgrader.path, upgrader.subprotocol).await;
        let mut client = client.expect("the server accepts");
        exchange(&mut client, upgrader.dialogue).await;
        client
    }

    /// Sends an opening handshake and, behind the response, the messages of the client, and leaves after `done`.
    /// Returns everything that the server sends.
    async fn converse(
        &self,
        upgrader: &Upgrader,
        connection: &str,
        done: impl Future<Output = ()>,
    ) -> String {
        let mut io = TcpStream::connect(self.address).await.expect("a server");
        let request = opening(upgrader, connection);
        io.write_all(&request).await.expect("a connection");
        let mut answer = Vec::new();
        within(io.read_buf(&mut answer)).await.expect("a response");
        for step in upgrader.dialogue {
            if let Step::Send(text) = step {
                // A server that does not start a session may have closed the connection.
                let _ = io.write_all(&text_frame(text)).await;
            }
        }
        done.await;
        let _ = io.shutdown().await;
        let _ = within(io.read_to_end(&mut answer)).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Sends a request and returns all that the server sends until it closes the connection.
    pub async fn ask(&self, request: impl AsRef<[u8]>) -> String {
        let mut io = TcpStream::connect(self.address).await.expect("a server");
        io.write_all(request.as_ref()).await.expect("a connection");
        let mut answer = Vec::new();
        within(io.read_buf(&mut answer)).await.expect("a response");
        within(io.read_to_end(&mut answer)).await.expect("an end");
        String::from_utf8_lossy(&answer).into_owned()
    }
}

/// Opens a WebSocket.
pub async fn connect(
    server: SocketAddr,
    path: &str,
    subprotocol: Option<&'static str>,
) -> Result<Client, tungstenite::Error> {
    let url = format!("ws://{server}{path}");
    let mut request = url.into_client_request().expect("a valid URL");
    if let Some(name) = subprotocol {
        let value = HeaderValue::from_static(name);
        let headers = request.headers_mut();
        headers.insert("sec-websocket-protocol", value);
    }
    Ok(within(connect_async(request)).await?.0)
}

/// Returns a text frame of a client, with a mask of zeros.
fn text_frame(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).expect("a short text");
    let head: &[u8] = match length {
        0..126 => &[0x81, 0x80 | length],
        _ => &[0x81, 0x80 | 126, 0, length],
    };
    [head, &[0; 4], text.as_bytes()].concat()
}

/// Sends and expects the messages in order.
pub async fn exchange(client: &mut Client, steps: &[Step]) {
    for step in steps {
        match *step {
            Step::Send(text) => client.send(text.into()).await.expect("an open session"),
            Step::Expect(part) => {
                // Skips other messages, such as the pings of Engine.IO.
                let is_it = |message: Message| message.to_text().expect("text").contains(part);
                while !is_it(next(client).await) {}
            }
        }
    }
}

async fn next(client: &mut Client) -> Message {
    let message = within(client.next()).await.expect("a message");
    message.expect("no error")
}

pub async fn within<F: Future>(future: F) -> F::Output {
    timeout(LIMIT, future).await.expect("in time")
}

async fn until(mut condition: impl FnMut() -> bool) {
    within(async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// Waits for the close frame, whose code it returns, and for the end of the connection.
async fn closed(mut client: Client) -> Option<u16> {
    let code = loop {
        let message = within(client.next()).await.expect("a close frame");
        match message.expect("no error before the close frame") {
            Message::Close(frame) => break frame.map(|frame| frame.code.into()),
            _ => continue,
        }
    };
    while let Some(message) = within(client.next()).await {
        message.expect("an orderly end of the connection");
    }
    code
}

pub async fn works(upgrader: Upgrader) {
    let sessions = Sessions::new();
    let layer = UpgradeLayer::new().sessions(sessions.clone()).govern();
    let server = Server::start(layer.layer(upgrader.service.clone())).await;
    let mut client = server.open(&upgrader).await;
    assert_eq!(upgrader.starts.get(), 1);
    let list = sessions.list();
    assert_eq!(list.len(), 1);
    assert_eq!(list[0].protocol().expect("a protocol"), &"websocket");
    assert!(list[0].bytes_read() > 0 && list[0].bytes_written() > 0);
    within(client.close(None)).await.expect("an open session");
    // The echo loop of axum's documentation ends without a close frame, because its own `send` fails with
    // `SendAfterClosing`. Then the session answers.
    closed(client).await;
    until(|| sessions.is_empty()).await;
}

/// Returns an opening handshake. Bytes behind it would make hyper drop the upgrade after a 403.
fn opening(upgrader: &Upgrader, connection: &str) -> Vec<u8> {
    let path = upgrader.path;
    let mut request = format!(
        "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: {connection}\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    );
    if let Some(name) = upgrader.subprotocol {
        request.push_str(&format!("Sec-WebSocket-Protocol: {name}\r\n"));
    }
    request.push_str("\r\n");
    request.into_bytes()
}

/// Turns the upgrade response into a 403, inside or without a governing layer.
fn forbid(upgrader: &Upgrader) -> Boxed {
    let layer = MapResponseLayer::new(|mut response: Response<Body>| {
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        *response.status_mut() = StatusCode::FORBIDDEN;
        response
    });
    boxed(layer.layer(upgrader.service.clone()))
}

pub async fn gate(upgrader: Upgrader) {
    let service = UpgradeLayer::new().govern().layer(forbid(&upgrader));
    let mut server = Server::start(service).await;
    tokio::task::yield_now().await;
    let tasks = Handle::current().metrics().num_alive_tasks();
    for connection in ["Upgrade", "Upgrade, close"] {
        let answer = server.converse(&upgrader, connection, async {}).await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
        assert!(!answer.contains("sec-websocket-accept"), "{answer}");
        within(server.ended.recv()).await.expect("a connection");
        // The task that waits for the upgrade ends, too.
        until(|| Handle::current().metrics().num_alive_tasks() <= tasks).await;
        assert_eq!(upgrader.starts.get(), 0);
    }
}

/// Pins the failure that the gate prevents, and that `README.md` documents.
pub async fn alone(upgrader: Upgrader) {
    let server = Server::start(forbid(&upgrader)).await;
    // With `close` hyper hands over the connection at once. The client can still send.
    let started = until(|| upgrader.starts.get() == 1);
    let answer = server.converse(&upgrader, "Upgrade, close", started).await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
}

pub async fn limit(upgrader: Upgrader) {
    let sessions = Sessions::builder().max(1).build();
    let layer = UpgradeLayer::new().sessions(sessions.clone()).govern();
    let server = Server::start(layer.layer(upgrader.service.clone())).await;
    let first = server.open(&upgrader).await;
    match server.connect(upgrader.path, upgrader.subprotocol).await {
        Err(tungstenite::Error::Http(response)) => assert_eq!(response.status(), 503),
        other => panic!("no refusal: {other:?}"),
    }
    assert_eq!(upgrader.starts.get(), 1);
    drop(first);
    until(|| sessions.is_empty()).await;
    server.open(&upgrader).await;
}

/// Drains an example of the manual that has one session.
pub async fn drain_example(sessions: &Sessions, client: Client) {
    let list = sessions.list();
    assert_eq!(list.len(), 1);
    assert_eq!(list[0].protocol().expect("a protocol"), &"websocket");
    let (report, code) = tokio::join!(sessions.drain(LIMIT), closed(client));
    assert_eq!(code, Some(1001));
    assert_eq!((report.aborted, report.left), (0, 0), "{report}");
}

pub async fn drain(upgrader: Upgrader) {
    let sessions = Sessions::new();
    let layer = UpgradeLayer::new().sessions(sessions.clone()).govern();
    let server = Server::start(layer.layer(upgrader.service.clone())).await;
    let client = server.open(&upgrader).await;
    let (report, code) = tokio::join!(sessions.drain(LIMIT), closed(client));
    assert_eq!(code, Some(1001));
    assert_eq!((report.aborted, report.left), (0, 0), "{report}");
}

/// Closes one of two sessions by its id.
pub async fn list(upgrader: Upgrader) {
    let sessions = Sessions::new();
    let layer = UpgradeLayer::new().sessions(sessions.clone()).govern();
    let server = Server::start(layer.layer(upgrader.service.clone())).await;
    let client = server.open(&upgrader).await;
    let first = sessions.list()[0].id();
    let mut other = server.open(&upgrader).await;
    assert_eq!(sessions.list().len(), 2);

    assert!(sessions.close(first, LIMIT));
    assert_eq!(closed(client).await, Some(1001));
    until(|| sessions.len() == 1).await;
    assert_ne!(sessions.list()[0].id(), first);
    assert!(!sessions.close(first, LIMIT));
    let ping = Message::Ping("other".into());
    other.send(ping).await.expect("an open session");
    let is_pong = |message: &Message| matches!(message, Message::Pong(text) if *text == "other");
    while !is_pong(&next(&mut other).await) {}
}

/// Returns a layer, and the close reasons of its sessions.
fn reporting() -> (UpgradeLayer, mpsc::UnboundedReceiver<String>) {
    let (sender, reasons) = mpsc::unbounded_channel();
    let layer = UpgradeLayer::new().govern();
    let layer = layer.on_close(move |closed: &tower_upgrade::Closed| {
        let _ = sender.send(closed.reason().as_str().to_owned());
    });
    (layer, reasons)
}

pub async fn idle_timeout(upgrader: Upgrader) {
    let (layer, mut reasons) = reporting();
    let layer = layer.idle_timeout(Duration::from_millis(300));
    let server = Server::start(layer.layer(upgrader.service.clone())).await;
    let client = server.connect(upgrader.path, upgrader.subprotocol).await;
    assert_eq!(
        closed(client.expect("the server accepts")).await,
        Some(1001)
    );
    let reason = within(reasons.recv()).await.expect("a report");
    assert_eq!(reason, "idle");
}

pub async fn lifetime(upgrader: Upgrader) {
    let (layer, mut reasons) = reporting();
    let layer = layer.lifetime(Duration::from_millis(300));
    let server = Server::start(layer.layer(upgrader.service.clone())).await;
    let client = server.connect(upgrader.path, upgrader.subprotocol).await;
    assert_eq!(
        closed(client.expect("the server accepts")).await,
        Some(1001)
    );
    let reason = within(reasons.recv()).await.expect("a report");
    assert_eq!(reason, "lifetime");
}

/// Defines the tests for the server that the function `upgrader` returns.
#[macro_export]
macro_rules! checks {
    ($upgrader:expr) => {
        #[tokio::test]
        async fn a3_session_answers_and_is_listed() {
            $crate::works($upgrader).await;
        }

        #[tokio::test]
        async fn a1_replaced_upgrade_response_starts_no_session() {
            $crate::gate($upgrader).await;
        }

        #[tokio::test]
        async fn replaced_upgrade_response_starts_ungoverned_session() {
            $crate::alone($upgrader).await;
        }

        #[tokio::test]
        async fn a3_session_over_the_limit_is_a_503() {
            $crate::limit($upgrader).await;
        }

        #[tokio::test]
        async fn a3_listed_session_is_closed_by_its_id() {
            $crate::list($upgrader).await;
        }

        #[tokio::test]
        async fn a5_drain_closes_session_with_1001() {
            $crate::drain($upgrader).await;
        }

        #[tokio::test]
        async fn a3_idle_session_is_closed() {
            $crate::idle_timeout($upgrader).await;
        }

        #[tokio::test]
        async fn a3_lifetime_closes_session_with_1001() {
            $crate::lifetime($upgrader).await;
        }
    };
}
