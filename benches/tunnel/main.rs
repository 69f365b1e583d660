//! The cost of a plain TCP tunnel, compared with `tokio::io::copy_bidirectional`, and with HAProxy and nginx if
//! they are installed. Linux only.
//!
//! ```text
//! cargo bench --features tunnel --bench tunnel
//! cargo bench --features tunnel --bench tunnel -- bulk [--rounds 11] [--mebibytes 1024] [--tunnels 4]
//! cargo bench --features tunnel --bench tunnel -- pingpong [--rounds 11] [--round-trips 32000] [--sessions 64]
//! cargo bench --features tunnel --bench tunnel -- new [--rounds 11] [--handshakes 500]
//! cargo bench --features tunnel --bench tunnel -- idle [--idle 2000]
//! ```
//!
//! Each proxy, including HAProxy and nginx, is a separate process with one thread that serves all its tunnels.
//! The clients and upstream servers run in the benchmark's process, on the remaining CPUs.
//!
//! - `bulk`: one way, from a thread that writes 1 MiB at a time to a thread that discards the bytes unread.
//! - `pingpong`: echoes of 16 bytes.
//! - `new`: tunnels one after the other, each with a connection, an echo of 16 bytes, and the end on both
//!   sides.
//! - `idle`: resident bytes of an idle tunnel, after an echo of 64 bytes, and after one of 1 MiB.
//!
//! `direct` connects the ends without a proxy, and shows their rate and their CPU time. A rate close to that of
//! `direct` measures the ends more than the proxy. In that case, and with fewer than three CPUs for client,
//! proxy and server, compare CPU times instead.

use ends::{Sender, close, echo, exchange, send_all, sink};
use proxy::Proxy;
use rates::{Series, Unit, compare};
use resident::{WARM_UP, allow_open, resident_bytes, settle};
use sides::{Served, Side};
use support::{Arguments, listen, run_server, single_thread};
use tokio::{net::TcpStream, runtime::Runtime, task::JoinSet};
use tower_upgrade::BoxError;

mod ends;
mod foreign;
mod proxy;
#[allow(dead_code, reason = "instructions are not compared")]
#[path = "../support/rates.rs"]
mod rates;
#[path = "../support/resident.rs"]
mod resident;
mod sides;
#[allow(dead_code, reason = "this benchmark has other servers and clients")]
#[path = "../support/mod.rs"]
mod support;

const SMALL: [u8; 16] = [0x55; 16];
const LARGE: usize = 1024 * 1024;
const MEBIBYTE: usize = 1024 * 1024;

const GIBIBYTE: Unit = Unit {
    one: "GiB",
    many: "GiB",
    size: 1024.0 * MEBIBYTE as f64,
    time: ("s", 1e9),
};

fn main() -> Result<(), BoxError> {
    let arguments = Arguments::new();
    if !cfg!(target_os = "linux") {
        println!("tunnels are measured on Linux only");
        return Ok(());
    }
    if let Some(served) = arguments.server::<Served>()? {
        return run_server(|listener| served.serve(listener)).map_err(Into::into);
    }
    let some = ["bulk", "pingpong", "new", "idle"].map(|name| arguments.has(name));
    let [bulk, pingpong, new, idle] = match some {
        [false, false, false, false] => [true; 4],
        some => some,
    };
    let rounds = arguments.count("--rounds", 11, 1)?;
    if bulk {
        let bytes = MEBIBYTE * arguments.count("--mebibytes", 1024, 1)?;
        for tunnels in [1, arguments.count("--tunnels", 4, 2)?] {
            println!("\n{rounds} rounds of {bytes} bytes one way, in tunnels: {tunnels}");
            compare_bulk(rounds, bytes, tunnels)?;
        }
    }
    if pingpong {
        let round_trips = arguments.count("--round-trips", 32_000, 4)?;
        let tunnels = arguments.count("--sessions", 64, 2)?;
        println!("\n{rounds} rounds of {round_trips} round trips in {tunnels} tunnels");
        compare_round_trips(rounds, round_trips, tunnels)?;
    }
    if new {
        let count = arguments.count("--handshakes", 500, 4)?;
        println!("\n{rounds} rounds of {count} new tunnels");
        compare_new(rounds, count)?;
    }
    if idle {
        let tunnels = arguments.count("--idle", 2000, 10)?;
        // The proxy and this process have two sockets for each tunnel.
        allow_open(2 * tunnels)?;
        println!("\nresident bytes of an idle tunnel, of {tunnels}: after 64 bytes, after 1 MiB");
        compare_idle(tunnels)?;
    }
    Ok(())
}

fn compare_bulk(rounds: usize, bytes: usize, tunnels: usize) -> Result<(), BoxError> {
    let runtime = single_thread()?;
    let share = bytes.div_ceil(tunnels);
    let upstream = sink(share)?;
    let open = async |proxy: &Proxy| {
        let tunnels = proxy.tunnels(tunnels).await?.into_iter();
        let senders = tunnels.map(|tunnel| Sender::new(tunnel, share));
        Ok(senders.collect::<Result<Vec<_>, _>>()?)
    };
    let send = async |_: &Proxy, senders: &mut Vec<Sender>| {
        send_all(senders)?;
        Ok(share * tunnels)
    };
    let proxies = Proxies::start(upstream, tunnels)?;
    proxies.take_turns(&runtime, rounds, &GIBIBYTE, open, send)
}

fn compare_round_trips(rounds: usize, count: usize, tunnels: usize) -> Result<(), BoxError> {
    let runtime = single_thread()?;
    let upstream = runtime.block_on(listen())?;
    let proxies = Proxies::start(upstream.local_addr()?, tunnels)?;
    runtime.spawn(echo(upstream));
    let share = count.div_ceil(tunnels);
    let open = async |proxy: &Proxy| Ok(proxy.tunnels(tunnels).await?);
    let talk = async |_: &Proxy, tunnels: &mut Vec<TcpStream>| {
        let mut talking = JoinSet::new();
        for mut tunnel in tunnels.drain(..) {
            talking.spawn(async move {
                for _ in 0..share {
                    exchange(&mut tunnel, &SMALL, &mut [0; SMALL.len()]).await?;
                }
                Ok::<_, BoxError>(tunnel)
            });
        }
        while let Some(tunnel) = talking.join_next().await {
            tunnels.push(tunnel??);
        }
        Ok(share * tunnels.len())
    };
    let unit = Unit::new("round trip", "round trips");
    proxies.take_turns(&runtime, rounds, &unit, open, talk)
}

fn compare_new(rounds: usize, count: usize) -> Result<(), BoxError> {
    let runtime = single_thread()?;
    let upstream = runtime.block_on(listen())?;
    let proxies = Proxies::start(upstream.local_addr()?, 1)?;
    runtime.spawn(echo(upstream));
    let make = async |proxy: &Proxy, (): &mut ()| {
        come_and_go(proxy, count).await?;
        Ok(count)
    };
    let unit = Unit::new("new tunnel", "new tunnels");
    proxies.take_turns(&runtime, rounds, &unit, async |_: &Proxy| Ok(()), make)
}

/// Opens and closes `count` tunnels, one after the other.
async fn come_and_go(proxy: &Proxy, count: usize) -> Result<(), BoxError> {
    for _ in 0..count {
        let mut tunnel = proxy.tunnel().await?;
        exchange(&mut tunnel, &SMALL, &mut [0; SMALL.len()]).await?;
        close(tunnel).await?;
    }
    Ok(())
}

/// All installed proxies, with the same upstream.
struct Proxies {
    started: Vec<(Side, Proxy)>,
    missing: Vec<Side>,
}

impl Proxies {
    fn start(upstream: std::net::SocketAddr, tunnels: usize) -> Result<Self, BoxError> {
        let mut proxies = Self {
            started: Vec::new(),
            missing: Vec::new(),
        };
        for side in Side::ALL {
            match Proxy::start(side, upstream, tunnels)? {
                Some(proxy) => proxies.started.push((side, proxy)),
                None => proxies.missing.push(side),
            }
        }
        Ok(proxies)
    }

    /// Compares all sides in alternating rounds, so that other load on the machine affects all of them, and
    /// prints the results.
    fn take_turns<T>(
        self,
        runtime: &Runtime,
        rounds: usize,
        unit: &Unit,
        open: impl AsyncFn(&Proxy) -> Result<T, BoxError>,
        work: impl AsyncFn(&Proxy, &mut T) -> Result<usize, BoxError>,
    ) -> Result<(), BoxError> {
        let mut all = Vec::new();
        for (side, proxy) in self.started {
            let tunnels = runtime.block_on(open(&proxy))?;
            all.push((Series::new(side.name(), proxy.id()), tunnels, proxy));
        }
        for round in 0..=rounds {
            let mut order: Vec<_> = all.iter_mut().collect();
            let first = round % order.len();
            order.rotate_left(first);
            for (series, tunnels, proxy) in order {
                runtime.block_on(series.round(work(proxy, tunnels)))?;
                if round == 0 {
                    series.forget();
                }
            }
        }
        compare(
            unit,
            &all.iter().map(|(series, ..)| series).collect::<Vec<_>>(),
        );
        not_installed(&self.missing);
        for (_, tunnels, proxy) in all {
            drop(tunnels);
            proxy.stop()?;
        }
        Ok(())
    }
}

fn not_installed(sides: &[Side]) {
    for side in sides {
        println!("    {:14} not installed", side.name());
    }
}

fn compare_idle(tunnels: usize) -> Result<(), BoxError> {
    let mut missing = Vec::new();
    let mut first = None;
    for side in Side::ALL {
        if side == Side::Direct {
            continue;
        }
        let Some([fresh, worn]) = bytes_per_tunnel(side, tunnels)? else {
            missing.push(side);
            continue;
        };
        let first = *first.get_or_insert(fresh);
        let name = side.name();
        println!("    {name:14} {fresh:.0}  {worn:.0}  {:.3}", fresh / first);
    }
    not_installed(&missing);
    Ok(())
}

fn bytes_per_tunnel(side: Side, count: usize) -> Result<Option<[f64; 2]>, BoxError> {
    single_thread()?.block_on(async {
        let upstream = listen().await?;
        let Some(proxy) = Proxy::start(side, upstream.local_addr()?, count)? else {
            return Ok(None);
        };
        tokio::spawn(echo(upstream));
        come_and_go(&proxy, WARM_UP).await?;
        settle().await;
        let before = resident_bytes(proxy.id())?;
        let mut tunnels = proxy.tunnels(count).await?;
        let mut resident = [0.0; 2];
        for (bytes, resident) in [64, LARGE].into_iter().zip(&mut resident) {
            let (message, mut answer) = (vec![0x55; bytes], vec![0; bytes]);
            for tunnel in &mut tunnels {
                answer.fill(0);
                exchange(tunnel, &message, &mut answer).await?;
            }
            settle().await;
            *resident = (resident_bytes(proxy.id())? - before) / count as f64;
        }
        drop(tunnels);
        proxy.stop()?;
        Ok(Some(resident))
    })
}
