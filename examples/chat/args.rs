//! The options of the command line.

use lexopt::ValueExt as _;
use std::{net::SocketAddr, time::Duration};
use tower_upgrade::BoxError;

pub(crate) struct Args {
    /// `--listen ADDR`, by default 127.0.0.1:3000.
    pub(crate) listen: SocketAddr,
    /// `--tls`
    pub(crate) tls: bool,
    /// `--http3`: implies `--tls`.
    pub(crate) http3: bool,
    /// `--admin-password PASSWORD`, by default a random one.
    pub(crate) admin_password: Option<String>,
    /// `--max-sessions NUMBER`, by default 10,000.
    pub(crate) max_sessions: usize,
    /// `--notice SECONDS`, by default 0: time for load balancers to notice the 503 of `/ready`.
    pub(crate) notice: Duration,
    /// `--spread SECONDS`, by default 1: time over which sessions get their stop signals, so that the pages do not all
    /// reconnect in the same second.
    pub(crate) spread: Duration,
    /// `--deadline SECONDS`, by default 10: time for sessions to end, including the notice.
    pub(crate) deadline: Duration,
    /// `--redis URL`: shares rooms, names and members with the other nodes at this Redis.
    pub(crate) redis: Option<String>,
    /// `--history NUMBER`, by default 500: the number of messages that a room remembers, at least.
    pub(crate) history: usize,
    /// `--sessions-per-address NUMBER`, by default 100.
    pub(crate) sessions_per_address: usize,
}

impl Args {
    pub(crate) fn parse() -> Result<Self, BoxError> {
        let mut found = Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 3000)),
            tls: false,
            http3: false,
            admin_password: None,
            max_sessions: 10_000,
            notice: Duration::ZERO,
            spread: Duration::from_secs(1),
            deadline: Duration::from_secs(10),
            redis: None,
            history: 500,
            sessions_per_address: 100,
        };
        let mut args = lexopt::Parser::from_env();
        while let Some(arg) = args.next()? {
            match arg {
                lexopt::Arg::Long("listen") => found.listen = args.value()?.string()?.parse()?,
                lexopt::Arg::Long("tls") => found.tls = true,
                lexopt::Arg::Long("http3") => found.http3 = true,
                lexopt::Arg::Long("admin-password") => {
                    found.admin_password = Some(args.value()?.string()?);
                }
                lexopt::Arg::Long("max-sessions") => found.max_sessions = args.value()?.parse()?,
                lexopt::Arg::Long("notice") => found.notice = seconds(&mut args)?,
                lexopt::Arg::Long("spread") => found.spread = seconds(&mut args)?,
                lexopt::Arg::Long("deadline") => found.deadline = seconds(&mut args)?,
                lexopt::Arg::Long("redis") => found.redis = Some(args.value()?.string()?),
                lexopt::Arg::Long("history") => found.history = args.value()?.parse()?,
                lexopt::Arg::Long("sessions-per-address") => {
                    found.sessions_per_address = args.value()?.parse()?;
                }
                other => return Err(other.unexpected().into()),
            }
        }
        Ok(found)
    }
}

fn seconds(args: &mut lexopt::Parser) -> Result<Duration, BoxError> {
    // A `u32`, so that adding the duration to `Instant::now()` cannot overflow.
    Ok(Duration::from_secs(args.value()?.parse::<u32>()?.into()))
}
