//! The cost of a WebSocket, compared with a service that echoes the same bytes with hyper alone, and with
//! axum's `WebSocketUpgrade` with its defaults. Linux only.
//!
//! The benchmark measures echoes, and resident bytes of an idle session: after the echo of a message of 64
//! bytes, and after one of 64 KiB.
//!
//! ```text
//! cargo bench --features websocket --bench websocket
//! cargo bench --features websocket --bench websocket -- [--idle 5000] [--rounds 21] [--sessions 64] [--messages 8000] [--large 2000]
//! cargo bench --features websocket --bench websocket -- --instructions [--messages 5000]
//! ```
//!
//! `handshake.rs` explains rates and instructions. The server with hyper alone is slower with long messages
//! because it reads and writes 8 KiB at a time.

use rates::{Series, Unit, compare, compare_instructions};
use resident::{WARM_UP, allow_open, resident_bytes, settle};
use std::{io, net::SocketAddr, str::FromStr, sync::Arc};
use support::{Arguments, Client, ServerProcess, listen, run_server, single_thread};
use tokio::net::TcpListener;
use tower_upgrade::BoxError;
use websockets::{Frame, echoes, serve_axum, serve_websocket};

#[path = "support/rates.rs"]
mod rates;
#[path = "support/resident.rs"]
mod resident;
mod support;
#[path = "support/websockets.rs"]
mod websockets;

const SMALL: usize = 16;
const LARGE: usize = 64 * 1024;

fn main() -> Result<(), BoxError> {
    let arguments = Arguments::new();
    if !cfg!(target_os = "linux") {
        println!("WebSockets are measured on Linux only");
        return Ok(());
    }
    if let Some(side) = arguments.server::<Side>()? {
        return run_server(|listener| side.serve(listener)).map_err(Into::into);
    }
    if let Some(side) = arguments.value("--once")? {
        let messages = arguments.count("--messages", 1, 1)?;
        let bytes = arguments.count("--bytes", SMALL, SMALL)?;
        return in_one_thread(side, messages, bytes).map_err(Into::into);
    }
    if arguments.has("--instructions") {
        let messages = arguments.count("--messages", 5000, 5000)?;
        let sides = Side::ALL.map(Side::name);
        return compare_instructions("message", sides, "--messages", messages);
    }
    let idle = arguments.count("--idle", 5000, 10)?;
    let rounds = arguments.count("--rounds", 21, 1)?;
    let sessions = arguments.count("--sessions", 64, 2)?;
    let small = arguments.count("--messages", 8000, 8)?;
    let large = arguments.count("--large", 2000, 4)?;

    allow_open(idle)?;
    println!("resident bytes of an idle session, of {idle}: after 64 bytes, after 64 KiB");
    for side in Side::ALL {
        let [fresh, worn] = bytes_per_session(side, idle)?;
        println!("    {:10} {fresh:.0}  {worn:.0}", side.name());
    }
    for (messages, bytes) in [(small, SMALL), (large, LARGE)] {
        println!(
            "\n{rounds} rounds of {messages} messages of {bytes} bytes in {sessions} sessions: \
             median (least to most)"
        );
        compare_rates(rounds, messages, bytes, sessions)?;
    }
    Ok(())
}

/// The compared servers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    /// hyper's `upgrade::on` and `tokio::io::copy`, which echo bytes instead of messages.
    Raw,
    /// This crate's `websocket` handler.
    WebSocket,
    Axum,
}

impl Side {
    const ALL: [Self; 3] = [Self::Raw, Self::WebSocket, Self::Axum];

    fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::WebSocket => "websocket",
            Self::Axum => "axum",
        }
    }

    async fn serve(self, listener: TcpListener) -> io::Result<()> {
        match self {
            Self::Raw => support::Side::Raw.serve(listener).await,
            Self::WebSocket => serve_websocket(listener).await,
            Self::Axum => serve_axum(listener).await,
        }
    }

    fn frame(self, bytes: usize) -> Arc<Frame> {
        Frame::new(self == Self::Raw, bytes)
    }

    async fn connect(self, server: SocketAddr) -> io::Result<Client> {
        match self {
            Self::Raw => Client::connect(server).await,
            Self::WebSocket | Self::Axum => websockets::connect(server).await,
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

fn bytes_per_session(side: Side, sessions: usize) -> Result<[f64; 2], BoxError> {
    let server = ServerProcess::start(side.name())?;
    let frames = [side.frame(64), side.frame(LARGE)];
    let resident = single_thread()?.block_on(async {
        for _ in 0..WARM_UP {
            let mut client = side.connect(server.address()).await?;
            for frame in &frames {
                frame.echo(&mut client, 1).await?;
            }
            client.close().await?;
        }
        settle().await;
        let before = resident_bytes(server.id())?;
        let mut clients = Vec::with_capacity(sessions);
        for _ in 0..sessions {
            clients.push(side.connect(server.address()).await?);
        }
        let mut resident = [0.0; 2];
        for (frame, resident) in frames.iter().zip(&mut resident) {
            for client in &mut clients {
                frame.echo(client, 1).await?;
            }
            settle().await;
            *resident = (resident_bytes(server.id())? - before) / sessions as f64;
        }
        Ok::<_, BoxError>(resident)
    })?;
    server.stop()?;
    Ok(resident)
}

/// Compares all sides in alternating rounds, so that other load on the machine affects all of them.
fn compare_rates(
    rounds: usize,
    messages: usize,
    bytes: usize,
    sessions: usize,
) -> Result<(), BoxError> {
    let runtime = single_thread()?;
    let mut all = Vec::new();
    for side in Side::ALL {
        let server = ServerProcess::start(side.name())?;
        let series = Series::new(side.name(), server.id());
        let mut clients = Vec::with_capacity(sessions);
        for _ in 0..sessions {
            clients.push(runtime.block_on(side.connect(server.address()))?);
        }
        all.push((series, clients, side.frame(bytes), server));
    }
    for round in 0..=rounds {
        let mut order: Vec<_> = all.iter_mut().collect();
        order.rotate_left(round % Side::ALL.len());
        for (series, clients, frame, _) in order {
            let work = echoes(clients, frame, messages.div_ceil(sessions));
            runtime.block_on(series.round(work))?;
            if round == 0 {
                series.forget();
            }
        }
    }
    compare(
        &Unit::new("message", "messages"),
        &all.iter().map(|(series, ..)| series).collect::<Vec<_>>(),
    );
    for (_, clients, _, server) in all {
        drop(clients);
        server.stop()?;
    }
    Ok(())
}

/// Runs client and server in one thread, so that they wait for each other in the same way in every run.
fn in_one_thread(side: Side, messages: usize, bytes: usize) -> io::Result<()> {
    single_thread()?.block_on(async {
        let listener = listen().await?;
        let address = listener.local_addr()?;
        tokio::spawn(side.serve(listener));
        let mut client = side.connect(address).await?;
        side.frame(bytes).echo(&mut client, messages).await
    })
}
