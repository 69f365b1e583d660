//! A forward proxy: CONNECT over HTTP/1.1, HTTP/2 and HTTP/3, to port 443 of any internet host, or only to the targets that
//! `--allow` lists.
//!
//! ```sh
//! cargo run --features datagram --example connect_proxy
//! curl --proxy http://127.0.0.1:3128 https://example.com/
//! ```
//!
//! With `--tls`, clients connect to the proxy over TLS. The proxy generates a self-signed certificate, and ALPN selects
//! HTTP/2 or HTTP/1.1. With `--basic-auth`, clients must authenticate:
//!
//! ```sh
//! cargo run --features datagram --example connect_proxy -- --tls --basic-auth ann:secret
//! curl --proxy https://127.0.0.1:3128 --proxy-insecure --proxy-user ann:secret https://example.com/
//! chromium --proxy-server=https://127.0.0.1:3128 --ignore-certificate-errors
//! ```
//!
//! With `--udp`, clients can also send UDP, for example HTTP/3, to the same targets (CONNECT-UDP, RFC 9298):
//!
//! ```sh
//! cargo run --features datagram --example connect_proxy -- --udp --allow 192.0.2.53:53
//! upcat --udp 192.0.2.53:53 http://127.0.0.1:3128/
//! ```
//!
//! With `--http3`, clients can also connect to the proxy over HTTP/3, on the UDP port of the same number. There
//! CONNECT-UDP uses QUIC datagrams:
//!
//! ```sh
//! cargo run --features datagram,http3 --example connect_proxy -- --udp --http3
//! ```
//!
//! The proxy does not connect to this machine or its local network, whatever name a target has. To permit a host there,
//! allow its name and its network: `--allow git.internal:22 --allow 10.1.0.0/16`. `connect_proxy --help` lists all
//! options.
//!
//! On SIGINT and SIGTERM the proxy stops accepting connections, gives tunnels 5 seconds to end, and exits.

mod support;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderValue, Request, Response, StatusCode, header};
use ipnet::IpNet;
use lexopt::ValueExt as _;
use std::{net::SocketAddr, process::ExitCode, time::Duration};
use subtle::ConstantTimeEq as _;
use support::Server;
use tower::ServiceBuilder;
use tower_http::validate_request::ValidateRequestHeaderLayer;
use tower_upgrade::{
    BoxError, Sessions, UpgradeLayer,
    datagram::ConnectUdp,
    tunnel::{ConnectProxy, Policy},
};

const USAGE: &str = "\
Usage: connect_proxy [OPTIONS]

A forward proxy for CONNECT, and with --udp for UDP. By default it connects to port 443 of any host
with a globally reachable address, which excludes loopback and private addresses.

  --listen ADDR           listen on this address (default: 127.0.0.1:3128); port 0 is any free port
  --tls                   use TLS with clients, with a self-signed certificate
  --http3                 also serve HTTP/3, on the UDP port of the same number; implies --tls;
                          requires a build with the feature http3
  --allow HOST[:PORT]     allow only this host and the hosts of other --allow options, at this port
                          (default: 443); HOST is a name, an address, or *.DOMAIN for all
                          subdomains
  --allow NETWORK/LENGTH  also connect to the addresses of this network, even if they are not
                          globally reachable; does not add to the allowed hosts
  --basic-auth USER:PASSWORD
                          require these credentials
  --udp                   also serve CONNECT-UDP to the same targets, at
                          /.well-known/masque/udp/HOST/PORT/
  --max N                 limit the number of open tunnels and UDP flows (default: 1000)
  --idle SECONDS          close a tunnel without traffic for this time (default: 600), and a UDP flow
                          for the same time, but at most 120

Exit codes: 0 shut down by a signal, 1 failed, 2 wrong usage";

fn main() -> ExitCode {
    let args = match Args::parse() {
        Ok(Some(args)) => args,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("connect_proxy: {error}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("connect_proxy: {error}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn run(args: Args) -> Result<(), BoxError> {
    // Each tunnel uses two open files. If the limit cannot be raised, continue with the current limit.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let mut server = Server::bind(args.listen, args.tls, args.http3).await?;
    server.deadline = Duration::from_secs(5);

    let sessions = Sessions::builder().max(args.max).build();
    let mut layer = UpgradeLayer::new()
        .sessions(sessions.clone())
        .idle_timeout(args.idle)
        .connect(ConnectProxy::new(args.policy.clone()));
    if args.is_udp {
        // CONNECT-UDP over HTTP/2 is an extended CONNECT, which HTTP/3 always enables.
        server.http.http2().enable_connect_protocol();
        layer = layer.protocol("connect-udp", ConnectUdp::new(args.policy));
    }
    // Other requests get 405, or 426 with --udp.
    let proxy = layer.into_service();
    let app = ServiceBuilder::new()
        // Closes an HTTP/1.1 connection after a 407.
        .layer(UpgradeLayer::new())
        .layer(ValidateRequestHeaderLayer::custom(authenticate(
            args.credentials,
        )))
        .service(proxy);
    server.run(app, sessions).await
}

/// Allows requests with these credentials, or all requests if no credentials are configured.
fn authenticate<B, R: Default>(
    credentials: Option<HeaderValue>,
) -> impl FnMut(&mut Request<B>) -> Result<(), Response<R>> + Clone {
    move |request| {
        let sent = request.headers().get(header::PROXY_AUTHORIZATION);
        let is_allowed = match (&credentials, sent) {
            // In constant time: otherwise the response time reveals how much of a guess is correct.
            (Some(expected), Some(sent)) => expected.as_bytes().ct_eq(sent.as_bytes()).into(),
            (Some(_), None) => false,
            (None, _) => true,
        };
        if is_allowed {
            return Ok(());
        }
        let mut response = Response::new(R::default());
        *response.status_mut() = StatusCode::PROXY_AUTHENTICATION_REQUIRED;
        let challenge = HeaderValue::from_static("Basic realm=\"connect_proxy\"");
        let headers = response.headers_mut();
        headers.insert(header::PROXY_AUTHENTICATE, challenge);
        Err(response)
    }
}

// ---- The command line ---------------------------------------------------------------------------

struct Args {
    listen: SocketAddr,
    tls: bool,
    http3: bool,
    policy: Policy,
    credentials: Option<HeaderValue>,
    is_udp: bool,
    max: usize,
    idle: Duration,
}

impl Args {
    /// Returns `None` for `--help`.
    fn parse() -> Result<Option<Self>, BoxError> {
        let mut found = Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 3128)),
            tls: false,
            http3: false,
            policy: Policy::new(),
            credentials: None,
            is_udp: false,
            max: 1000,
            idle: Duration::from_secs(600),
        };
        let mut hosts = Vec::new();
        let mut args = lexopt::Parser::from_env();
        while let Some(arg) = args.next()? {
            match arg {
                lexopt::Arg::Long("listen") => found.listen = args.value()?.parse()?,
                lexopt::Arg::Long("tls") => found.tls = true,
                lexopt::Arg::Long("http3") => found.http3 = true,
                lexopt::Arg::Long("allow") => {
                    let allowed = args.value()?.string()?;
                    match allowed.contains('/') {
                        true => found.policy = found.policy.allow_network(network(&allowed)?),
                        false => hosts.push(allowed),
                    }
                }
                lexopt::Arg::Long("basic-auth") => {
                    found.credentials = Some(credentials(&args.value()?.string()?)?);
                }
                lexopt::Arg::Long("udp") => found.is_udp = true,
                lexopt::Arg::Long("max") => found.max = args.value()?.parse()?,
                lexopt::Arg::Long("idle") => {
                    found.idle = Duration::from_secs(args.value()?.parse()?);
                }
                lexopt::Arg::Long("help") | lexopt::Arg::Short('h') => return Ok(None),
                other => return Err(other.unexpected().into()),
            }
        }
        if !hosts.is_empty() {
            found.policy = found.policy.try_hosts(hosts)?;
        }
        Ok(Some(found))
    }
}

fn network(text: &str) -> Result<IpNet, BoxError> {
    let network = text.parse();
    network.map_err(|_| format!("{text:?} is not a network such as 10.1.0.0/16").into())
}

/// Returns the `Proxy-Authorization` value for `USER:PASSWORD` (RFC 7617).
fn credentials(user: &str) -> Result<HeaderValue, BoxError> {
    if !user.contains(':') {
        return Err("--basic-auth requires USER:PASSWORD".into());
    }
    let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(user)))?;
    value.set_sensitive(true);
    Ok(value)
}
