//! Clients that follow the protocol, and clients that break it.

use crate::{
    LIMIT,
    rng::Rng,
    server::{ACTS, BETWEEN, DECISIONS},
    support::{h2::Stream, head},
};
use bytes::Bytes;
use h2::{Reason, client::SendRequest, ext::Protocol};
use http::{Method, Request, Version};
use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};

/// How long a client waits for an echo or an end that may not come.
pub(crate) const PATIENCE: Duration = Duration::from_millis(20);

/// The request of a client, and how the client ends its session.
pub(crate) struct Plan {
    pub(crate) protocol: Option<&'static str>,
    pub(crate) fields: Vec<(&'static str, String)>,
    body: &'static str,
    /// Whether the body is malformed or truncated.
    is_body_bad: bool,
    pub(crate) end: End,
}

/// How the client ends its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Disconnects without reading the response.
    Early,
    /// Shuts down its write side after some echoes, and reads to EOF.
    Orderly,
    /// Shuts down its write side at once.
    HalfClose,
    /// Drops the connection.
    Drop,
    /// Resets the connection or stream.
    Reset,
    /// Waits for the server to end the session.
    Stay,
}

impl Plan {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        let protocol = rng.pick(&[
            Some("soak"),
            Some("soak"),
            Some("idles"),
            Some("ages"),
            None,
        ]);
        let mut fields = vec![("user", format!("user-{}", rng.below(8)))];
        if rng.one_in(8) {
            fields.push(("decide", rng.pick(DECISIONS).to_owned()));
        }
        if !rng.one_in(3) {
            fields.push(("act", rng.pick(ACTS).to_owned()));
        }
        if rng.one_in(8) {
            fields.push(("between", rng.pick(BETWEEN).to_owned()));
        }
        let body = if rng.one_in(8) && protocol.is_some() {
            "some body"
        } else {
            ""
        };
        let end = match rng.below(20) {
            0..2 => End::Early,
            2..10 => End::Orderly,
            10..12 => End::HalfClose,
            12..15 => End::Drop,
            15..18 => End::Reset,
            _ => End::Stay,
        };
        Self {
            protocol,
            fields,
            body,
            is_body_bad: rng.one_in(3),
            end,
        }
    }

    /// Returns the request for HTTP/1.1, with its body.
    fn head(&self) -> String {
        let mut lines = match self.protocol {
            Some(protocol) => vec![
                "GET / HTTP/1.1".to_owned(),
                "Connection: upgrade".to_owned(),
                format!("Upgrade: {protocol}"),
            ],
            None => vec!["CONNECT test:80 HTTP/1.1".to_owned()],
        };
        lines.push("Host: test:80".to_owned());
        lines.extend(
            self.fields
                .iter()
                .map(|(name, value)| format!("{name}: {value}")),
        );
        let mut rest = "";
        match (self.body, self.is_body_bad) {
            ("", _) => {}
            (body, false) => {
                lines.push(format!("Content-Length: {}", body.len()));
                rest = body;
            }
            (body, true) if self.fields.len() % 2 == 0 => {
                lines.push("Content-Length: 1000".to_owned());
                rest = body;
            }
            (_, true) => {
                lines.push("Transfer-Encoding: chunked".to_owned());
                rest = "no number\r\n\r\n";
            }
        }
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        head(&lines) + rest
    }

    /// Returns the request for HTTP/2, without its body.
    fn request(&self) -> Request<()> {
        let mut request = Request::builder()
            .method(Method::CONNECT)
            .version(Version::HTTP_2);
        request = match self.protocol {
            Some(protocol) => request
                .uri("http://test/path")
                .extension(Protocol::from(protocol)),
            None => request.uri("test:80"),
        };
        for (name, value) in &self.fields {
            request = request.header(*name, value);
        }
        request.body(()).expect("a request")
    }
}

/// Sends `count` requests one after the other, each on a new connection. `begun` counts them.
pub(crate) async fn http1(server: SocketAddr, mut rng: Rng, count: usize, begun: Arc<AtomicUsize>) {
    let mut open = JoinSet::new();
    for _ in 0..count {
        begun.fetch_add(1, Ordering::Relaxed);
        let plan = Plan::new(&mut rng);
        let rng = rng.fork();
        if plan.end == End::Stay {
            open.spawn(on_http1(server, plan, rng));
        } else {
            // The server may have closed the connection at any point.
            let _: io::Result<()> = on_http1(server, plan, rng).await;
        }
    }
    while let Some(ended) = open.join_next().await {
        let _: io::Result<()> = ended.expect("no panic");
    }
}

async fn on_http1(server: SocketAddr, plan: Plan, mut rng: Rng) -> io::Result<()> {
    let mut io = TcpStream::connect(server).await?;
    io.set_nodelay(true)?;
    if plan.end == End::Reset {
        #[allow(deprecated, reason = "a linger time of zero does not block")]
        io.set_linger(Some(Duration::ZERO))?;
    }
    let head = plan.head();
    if rng.one_in(50) {
        // Disconnect in the middle of the head.
        return io.write_all(&head.as_bytes()[..head.len() / 2]).await;
    }
    io.write_all(head.as_bytes()).await?;
    if plan.end == End::Early {
        return Ok(());
    }
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let byte = io.read_u8();
        answer.push(timeout(LIMIT, byte).await.expect("a response or EOF")?);
    }
    let upgrade_response = match plan.protocol {
        Some(_) => b"HTTP/1.1 101",
        None => b"HTTP/1.1 200",
    };
    if !answer.starts_with(upgrade_response) {
        return Ok(());
    }
    exchange(&mut io, plan.end, &mut rng).await
}

/// Sends `count` requests on one connection, about 16 at a time.
pub(crate) async fn http2(server: SocketAddr, mut rng: Rng, count: usize, begun: Arc<AtomicUsize>) {
    let io = TcpStream::connect(server).await.expect("loopback");
    io.set_nodelay(true).expect("a socket");
    let handshake = h2::client::Builder::new()
        // An unread stream must not block the others.
        .initial_connection_window_size(64 * 1024 * 1024)
        .handshake(io);
    let (requests, connection) = handshake.await.expect("a handshake");
    let connection = tokio::spawn(connection);
    let aborts_connection = rng.one_in(3);

    let mut streams = JoinSet::new();
    for _ in 0..count {
        begun.fetch_add(1, Ordering::Relaxed);
        let plan = Plan::new(&mut rng);
        streams.spawn(on_http2(requests.clone(), plan, rng.fork()));
        while streams.len() > 16 {
            let ended = tokio::select! {
                ended = streams.join_next() => ended,
                // Every open stream may wait for the server.
                () = tokio::time::sleep(PATIENCE) => break,
            };
            let _: Result<(), BoxError> = ended.expect("an open stream").expect("no panic");
        }
    }
    if aborts_connection {
        connection.abort();
    }
    drop(requests);
    while let Some(ended) = streams.join_next().await {
        let _: Result<(), BoxError> = ended.expect("no panic");
    }
    let _ = timeout(LIMIT, connection)
        .await
        .expect("the connection ends");
}

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

async fn on_http2(requests: SendRequest<Bytes>, plan: Plan, mut rng: Rng) -> Result<(), BoxError> {
    let mut requests = timeout(LIMIT, requests.ready())
        .await
        .expect("a free stream")?;
    if plan.protocol.is_some() {
        // The settings arrive with the server's first frame.
        while !requests.is_extended_connect_protocol_enabled() {
            requests = requests.ready().await?;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    let (response, mut send) = requests.send_request(plan.request(), false)?;
    drop(requests);
    if !plan.body.is_empty() {
        send.send_data(plan.body.into(), false)?;
    }
    if plan.end == End::Early {
        if rng.one_in(2) {
            send.send_reset(Reason::CANCEL);
        }
        return Ok(());
    }
    let (head, recv) = timeout(LIMIT, response)
        .await
        .expect("a response")?
        .into_parts();
    if head.status != http::StatusCode::OK {
        return Ok(());
    }
    let mut io = Stream::new(send, recv);
    exchange(&mut io, plan.end, &mut rng).await?;
    if plan.end == End::Reset {
        io.send
            .send_reset(rng.pick(&[Reason::CANCEL, Reason::NO_ERROR, Reason::INTERNAL_ERROR]));
    }
    Ok(())
}

/// Runs the client side of a session. The handler need not be an echo.
pub(crate) async fn exchange<Io>(io: &mut Io, end: End, rng: &mut Rng) -> io::Result<()>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let messages = if end == End::HalfClose {
        0
    } else {
        rng.below(4)
    };
    for _ in 0..messages {
        let message = vec![b'x'; 1 + rng.below(2000)];
        io.write_all(&message).await?;
        let mut answer = vec![0; message.len()];
        if let Ok(read) = timeout(PATIENCE, io.read_exact(&mut answer)).await {
            read?;
        }
    }
    match end {
        End::Early | End::Drop | End::Reset => return Ok(()),
        End::Orderly | End::HalfClose => {
            io.shutdown().await?;
            if rng.one_in(2) {
                // The server may close its side only during the drain.
                let _ = timeout(PATIENCE, read_to_end(io)).await;
                return Ok(());
            }
        }
        End::Stay => {}
    }
    let ended = timeout(LIMIT, read_to_end(io)).await;
    ended.expect("every session ends")
}

async fn read_to_end<Io: AsyncRead + Unpin>(io: &mut Io) -> io::Result<()> {
    let mut buffer = [0; 4096];
    while io.read(&mut buffer).await? > 0 {}
    Ok(())
}
