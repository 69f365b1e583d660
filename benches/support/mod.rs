//! The servers, the server process and the client that the benchmarks over sockets share.
//!
//! Each server runs in a separate process with one thread. So measurements of the server exclude the client,
//! and the servers do not share an allocator.

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Empty;
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use std::{
    convert::Infallible,
    fmt::Display,
    hint::black_box,
    io::{self, BufRead as _, BufReader, Read as _},
    net::{Ipv4Addr, SocketAddr},
    process::{Child, ChildStdout, Command, Stdio},
    str::FromStr,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
};
use tower::{Layer as _, Service, service_fn};
use tower_upgrade::{BoxError, Session, Sessions, UpgradeLayer, handler_fn};

/// The argument that makes the benchmark run as one of the servers.
pub(crate) const SERVER: &str = "--server";

/// The arguments of a benchmark: flags, and names followed by values.
pub(crate) struct Arguments(Vec<String>);

impl Arguments {
    pub(crate) fn new() -> Self {
        Self(std::env::args().skip(1).collect())
    }

    pub(crate) fn has(&self, flag: &str) -> bool {
        self.0.iter().any(|argument| argument == flag)
    }

    /// Whether to measure, or to run everything once as a smoke test.
    ///
    /// `cargo bench` passes `--bench`. `cargo test --benches` passes neither flag, and `cargo bench -- --test`
    /// passes both: these two are smoke tests.
    pub(crate) fn measure(&self) -> bool {
        self.has("--bench") && !self.has("--test")
    }

    /// Returns the number after `name`. Without one, returns `default`, or `smoke` in a smoke test.
    pub(crate) fn count(
        &self,
        name: &str,
        default: usize,
        smoke: usize,
    ) -> Result<usize, BoxError> {
        match self.value(name)? {
            Some(0) => Err(format!("{name} 0: nothing to measure").into()),
            Some(count) => Ok(count),
            None if self.measure() => Ok(default),
            None => Ok(smoke),
        }
    }

    /// Returns the server that this process must run, if any.
    pub(crate) fn server<T>(&self) -> Result<Option<T>, BoxError>
    where
        T: FromStr,
        T::Err: Display,
    {
        self.value(SERVER)
    }

    /// Returns the value after `name`.
    pub(crate) fn value<T>(&self, name: &str) -> Result<Option<T>, BoxError>
    where
        T: FromStr,
        T::Err: Display,
    {
        let Some(at) = self.0.iter().position(|argument| argument == name) else {
            return Ok(None);
        };
        let value = self.0.get(at + 1).ok_or(format!("{name} needs a value"))?;
        match value.parse() {
            Ok(value) => Ok(Some(value)),
            Err(error) => Err(format!("{name} {value}: {error}").into()),
        }
    }
}

/// The compared servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// hyper's `upgrade::on` and a task that copies with `tokio::io::copy`.
    Raw,
    /// `UpgradeLayer`, and a handler that copies with `tower_upgrade::copy`.
    Layer,
    /// `Layer` with a registry.
    Registry,
    /// `Layer` with a registry, an idle timeout, a lifetime and `on_close`.
    Limits,
    /// `Raw`, under an `UpgradeLayer` that governs it, with a registry.
    Governed,
}

impl Side {
    pub(crate) const ALL: [Self; 5] = [
        Self::Raw,
        Self::Layer,
        Self::Registry,
        Self::Limits,
        Self::Governed,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Layer => "layer",
            Self::Registry => "registry",
            Self::Limits => "limits",
            Self::Governed => "governed",
        }
    }

    pub(crate) async fn serve(self, listener: TcpListener) -> io::Result<()> {
        match self {
            Self::Raw => serve(listener, service_fn(upgrade_with_hyper)).await,
            Self::Governed => {
                let govern = UpgradeLayer::new().sessions(Sessions::new()).govern();
                serve(listener, govern.layer(service_fn(upgrade_with_hyper))).await
            }
            Self::Layer | Self::Registry | Self::Limits => {
                let echo = handler_fn(|session: Session| async move {
                    let (mut reader, mut writer) = tokio::io::split(session.into_io());
                    tower_upgrade::copy(&mut reader, &mut writer).await?;
                    Ok(())
                });
                let mut layer = UpgradeLayer::new().protocol("echo", echo);
                if self != Self::Layer {
                    layer = layer.sessions(Sessions::new());
                }
                if self == Self::Limits {
                    let hour = Duration::from_secs(3600);
                    layer = layer
                        .idle_timeout(hour)
                        .lifetime(24 * hour)
                        .on_close(|closed| assert!(black_box(closed).bytes_read() > 0));
                }
                serve(listener, layer.layer(service_fn(async |_| Ok(not_found())))).await
            }
        }
    }
}

impl FromStr for Side {
    type Err = BoxError;

    fn from_str(name: &str) -> Result<Self, BoxError> {
        let side = Self::ALL.into_iter().find(|side| side.name() == name);
        side.ok_or_else(|| format!("no such server: {name}").into())
    }
}

/// Runs a server until the parent process closes the standard input.
pub(crate) fn run_server(serve: impl AsyncFnOnce(TcpListener) -> io::Result<()>) -> io::Result<()> {
    single_thread()?.block_on(async {
        let listener = listen().await?;
        println!("{}", listener.local_addr()?);
        let mut stdin = tokio::io::stdin();
        let mut nothing = [0];
        tokio::select! {
            result = serve(listener) => result,
            result = stdin.read(&mut nothing) => result.map(drop),
        }
    })
}

pub(crate) async fn listen() -> io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await
}

pub(crate) fn single_thread() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// Serves connections with hyper, in the same way for all sides.
pub(crate) async fn serve<S, B>(listener: TcpListener, service: S) -> io::Result<()>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let connection = http1::Builder::new().serve_connection(
            TokioIo::new(stream),
            TowerToHyperService::new(service.clone()),
        );
        tokio::spawn(connection.with_upgrades());
    }
}

/// Upgrades with hyper alone, at the least cost: checks two headers, spawns a task, and answers 101.
///
/// The service lacks the guarantees of the layer: its task runs even if the 101 is replaced, waits for the
/// connection without a limit, swallows panics, and drops the connection without a shutdown.
async fn upgrade_with_hyper(
    mut request: Request<Incoming>,
) -> Result<Response<Empty<Bytes>>, Infallible> {
    let has = |name, expected| {
        let value = request.headers().get(name).map(HeaderValue::as_bytes);
        value.is_some_and(|value| value.eq_ignore_ascii_case(expected))
    };
    if !has(header::CONNECTION, b"upgrade".as_slice()) || !has(header::UPGRADE, b"echo") {
        return Ok(not_found());
    }
    // Take the upgrade here, so that the task does not hold the request.
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let upgraded = upgrade.await?;
        let (mut reader, mut writer) = tokio::io::split(TokioIo::new(upgraded));
        tokio::io::copy(&mut reader, &mut writer).await?;
        Ok::<_, BoxError>(())
    });
    let mut response = Response::new(Empty::new());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("echo"));
    Ok(response)
}

pub(crate) fn not_found() -> Response<Empty<Bytes>> {
    let mut response = Response::new(Empty::new());
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}

/// A server in a separate process.
pub(crate) struct ServerProcess {
    process: Child,
    stdout: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl ServerProcess {
    /// Starts this benchmark's program as a server.
    pub(crate) fn start(name: &str) -> Result<Self, BoxError> {
        let mut process = Command::new(std::env::current_exe()?)
            .args([SERVER, name])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let stdout = process.stdout.take().ok_or("the server has no output")?;
        let mut stdout = BufReader::new(stdout);
        let mut address = String::new();
        stdout.read_line(&mut address)?;
        let address = address.trim_end().parse()?;
        Ok(Self {
            process,
            stdout,
            address,
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Stops the server and returns its output.
    pub(crate) fn stop(mut self) -> Result<String, BoxError> {
        drop(self.process.stdin.take());
        let mut printed = String::new();
        self.stdout.read_to_string(&mut printed)?;
        let output = self.process.wait_with_output()?;
        printed.push_str(&String::from_utf8(output.stderr)?);
        if output.status.success() {
            Ok(printed)
        } else {
            Err(format!("the server failed: {printed}").into())
        }
    }
}

/// The client side of a session, with raw bytes over TCP to keep the client's cost low.
pub(crate) struct Client(TcpStream);

impl Client {
    pub(crate) async fn connect(server: SocketAddr) -> io::Result<Self> {
        Self::upgrade(server, "Upgrade: echo\r\n").await
    }

    /// Sends an upgrade request with these header lines, and waits for the 101.
    pub(crate) async fn upgrade(server: SocketAddr, headers: &str) -> io::Result<Self> {
        let mut stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        let request =
            format!("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut head = [0; 512];
        let mut end = 0;
        // No bytes follow the head: the server sends only echoes.
        while !head[..end].ends_with(b"\r\n\r\n") {
            let read = stream.read(&mut head[end..]).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            end += read;
        }
        if head.starts_with(b"HTTP/1.1 101 ") {
            Ok(Self(stream))
        } else {
            Err(io::Error::other("the server did not answer 101"))
        }
    }

    /// Sends a message, reads an answer into `answer`, and compares it with `expected`.
    pub(crate) async fn exchange(
        &mut self,
        message: &[u8],
        expected: &[u8],
        answer: &mut [u8],
    ) -> io::Result<()> {
        if message.len() <= 4096 {
            self.0.write_all(message).await?;
            self.0.read_exact(answer).await?;
        } else {
            // Read while writing: a server that answers before it has read all would block otherwise.
            let (mut reader, mut writer) = self.0.split();
            tokio::try_join!(writer.write_all(message), reader.read_exact(answer))?;
        }
        if answer == expected {
            Ok(())
        } else {
            Err(io::Error::other("the server did not echo"))
        }
    }

    /// Shuts down the write side and waits for EOF.
    pub(crate) async fn close(mut self) -> io::Result<()> {
        self.0.shutdown().await?;
        match self.0.read(&mut [0]).await? {
            0 => Ok(()),
            _ => Err(io::Error::other("the server sent more than the echo")),
        }
    }
}
