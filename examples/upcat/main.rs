//! A netcat for HTTP upgrades: requests an upgrade, then connects the session to standard input and output.
//!
//! ```sh
//! cargo run --features datagram --example upcat -- --protocol echo http://127.0.0.1:3000/
//! ```
//!
//! With `examples/echo.rs` as the server, also started with `--tls`:
//!
//! ```sh
//! upcat --protocol echo http://127.0.0.1:3000/            # Upgrade on HTTP/1.1
//! upcat --protocol echo --http2 http://127.0.0.1:3000/    # extended CONNECT on HTTP/2
//! upcat --protocol echo --insecure https://127.0.0.1:3000/ # the version that TLS negotiates
//! upcat --connect example.com:443 http://127.0.0.1:3000/  # CONNECT
//! upcat --protocol echo --proxy http://127.0.0.1:3128 http://127.0.0.1:3000/
//! ```
//!
//! With `examples/connect_proxy.rs --udp` as the server, each line of standard input is one UDP payload:
//!
//! ```sh
//! upcat --udp 192.0.2.7:7 http://127.0.0.1:3128/          # CONNECT-UDP
//! ```
//!
//! At the end of standard input upcat shuts down its direction of the session, and prints the server's data until the
//! server ends the session. `upcat --help` lists the options and the exit codes.

mod insecure;
mod udp;

use http::{
    HeaderName, HeaderValue, Response, Uri, header,
    uri::{Authority, Scheme},
};
use http_body_util::BodyExt as _;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::{Connection, HttpConnector};
use lexopt::ValueExt as _;
use std::{error::Error, process::ExitCode, time::Duration};
use tokio::io::{self, AsyncWriteExt as _};
use tower::{Layer as _, Service, ServiceExt as _};
use tower_upgrade::{
    BoxError, Upgraded,
    client::{self, Dial, ErrorKind, Request, Session, Tunnel, UpgradeLayer},
    copy,
    datagram::{Udp, UdpRequest},
};
use udp::Framing;

const USAGE: &str = "\
Usage: upcat --protocol NAME... [OPTIONS] URL
       upcat --connect HOST:PORT [OPTIONS] URL
       upcat --udp HOST:PORT [OPTIONS] URL

Requests an upgrade from URL, and connects the session to standard input and output.

  --protocol NAME      offer a protocol, as name or name/version; repeat in order of preference
  --connect HOST:PORT  request a tunnel from the proxy at URL instead
  --udp HOST:PORT      request a UDP flow from the proxy at URL instead; each line of the input is a
                       payload, and each received payload is printed as a line
  --length-prefixed    with --udp, put the length of each payload before it, in two bytes, the high
                       byte first, as DNS over TCP does; in the input and in the output
  --wait SECONDS       with --udp, wait this long for payloads after the end of the input and after
                       the last payload (default: 2)
  --header NAME:VALUE  send this header
  --proxy URL          connect through the CONNECT proxy at this URL, which may contain credentials
                       for the proxy: http://USER:PASSWORD@HOST:PORT
  --proxy-auth VALUE   send VALUE to the proxy as Proxy-Authorization
  --insecure           accept any certificate
  --http1.1, --http2   use only this version (default: TLS negotiates; http: URLs use HTTP/1.1)

Exit codes:
  0  the session ended normally
  1  the session failed
  2  wrong usage
  3  the server could not be reached, or timed out
  4  the server or the proxy refused
  5  the server violated the protocol, or does not support the request

Some proxies, such as Squid, close the tunnel at the end of the input, which truncates the answer.";

fn main() -> ExitCode {
    let args = match Args::parse() {
        Ok(Some(args)) => args,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("upcat: {error}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("upcat: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(async {
        match connect(&args).await {
            Ok(Opened::Session(session)) => join(session.into_io()).await,
            Ok(Opened::Udp(udp)) => udp::exchange(*udp, args.framing, args.wait).await,
            Err(failure) => failure.explain().await,
        }
    });
    // Do not wait for the thread that reads standard input.
    runtime.shutdown_background();
    code
}

// ---- Connecting ---------------------------------------------------------------------------------

enum Asked {
    Session(Box<Request>),
    Udp(Box<UdpRequest>),
}

enum Opened {
    Session(Session),
    Udp(Box<Udp>),
}

enum Failure {
    /// Failed before the first request.
    Setup(BoxError),
    Client(client::Error),
}

impl From<client::Error> for Failure {
    fn from(error: client::Error) -> Self {
        Self::Client(error)
    }
}

/// Requests the session, through a proxy if `args` has one.
async fn connect(args: &Args) -> Result<Opened, Failure> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let Some(proxy) = args.proxy.clone() else {
        return connect_over(tcp, args).await;
    };
    let https = https(tcp, args, Version::Any).map_err(Failure::Setup)?;
    let proxy = UpgradeLayer::new().layer(Dial::new(https).destination(proxy));
    let mut tunnel = Tunnel::new(proxy);
    if let Some(credentials) = args.proxy_auth.clone() {
        tunnel = tunnel.header(header::PROXY_AUTHORIZATION, credentials);
    }
    connect_over(tunnel, args).await
}

/// Requests the session over connections from the connector `tcp`: TCP, or tunnels through a proxy.
async fn connect_over<C>(tcp: C, args: &Args) -> Result<Opened, Failure>
where
    C: Service<Uri> + Clone + Send + 'static,
    C::Response: Connection + hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
    C::Future: Send + 'static,
    C::Error: Into<BoxError>,
{
    let connector = |version| https(tcp.clone(), args, version).map_err(Failure::Setup);
    let mut dial = Dial::new(connector(args.version)?).destination(args.url.clone());
    match args.version {
        Version::Http2 => dial = dial.http2_only(),
        Version::Any => dial = dial.fallback(connector(Version::Http1)?),
        Version::Http1 => {}
    }
    let client = UpgradeLayer::new().layer(dial);
    Ok(match &args.asked {
        Asked::Session(request) => Opened::Session(client.oneshot(Request::clone(request)).await?),
        Asked::Udp(request) => {
            let (udp, _response) = UdpRequest::clone(request).connect(client).await?;
            Opened::Udp(Box::new(udp))
        }
    })
}

/// Returns a connector that uses TLS for `https:` URLs.
fn https<C>(tcp: C, args: &Args, version: Version) -> Result<HttpsConnector<C>, BoxError> {
    let is_tls = [Some(&args.url), args.proxy.as_ref()]
        .into_iter()
        .flatten()
        .any(|url| url.scheme() == Some(&Scheme::HTTPS));
    let https = HttpsConnectorBuilder::new();
    let https = match is_tls && !args.is_insecure {
        true => https.with_native_roots()?,
        // Without TLS no roots are needed, and the system may lack them.
        false => https.with_tls_config(insecure::tls()?),
    };
    let https = https.https_or_http();
    Ok(match version {
        Version::Http1 => https.enable_http1().wrap_connector(tcp),
        Version::Http2 => https.enable_http2().wrap_connector(tcp),
        Version::Any => https.enable_all_versions().wrap_connector(tcp),
    })
}

impl Failure {
    /// Prints the error, and the response if there is one. Returns the exit code.
    async fn explain(self) -> ExitCode {
        let error = match self {
            Self::Setup(error) => {
                eprintln!("upcat: {error}");
                return ExitCode::from(3);
            }
            Self::Client(error) => error,
        };
        eprintln!("upcat: {}", in_full(&error));
        let code = match error.kind() {
            ErrorKind::Request => 2,
            ErrorKind::Unreachable
            | ErrorKind::Tls
            | ErrorKind::Connector
            | ErrorKind::Transport
            | ErrorKind::Timeout => 3,
            ErrorKind::Refused | ErrorKind::ProxyRefused => 4,
            _ => 5,
        };
        if let Some(response) = error.into_response() {
            print_headers(&response);
            let body = tokio::time::timeout(Duration::from_secs(10), response.collect()).await;
            if let Ok(Ok(body)) = body {
                eprintln!("\n{}", String::from_utf8_lossy(&body.to_bytes()).trim_end());
            }
        }
        ExitCode::from(code)
    }
}

fn print_headers<B>(response: &Response<B>) {
    for (name, value) in response.headers() {
        eprintln!("{name}: {}", String::from_utf8_lossy(value.as_bytes()));
    }
}

/// Returns the messages of an error and its sources.
fn in_full(error: &dyn Error) -> String {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        message = format!("{message}: {error}");
        source = error.source();
    }
    message
}

// ---- The session --------------------------------------------------------------------------------

/// Copies in both directions until the server ends the session.
async fn join(io: Upgraded) -> ExitCode {
    let (mut reader, mut writer) = io::split(io);
    let joined = {
        let receive = async {
            let mut output = io::stdout();
            copy(&mut reader, &mut output).await?;
            output.flush().await
        };
        let send = async {
            io::copy(&mut io::stdin(), &mut writer).await?;
            writer.shutdown().await
        };
        let mut receive = std::pin::pin!(receive);
        tokio::select! {
            received = &mut receive => received,
            // The server may still send data after the end of the input, or after it stopped reading.
            sent = send => receive.await.and(match sent {
                Err(error) if stopped_reading(&error) => Ok(()),
                sent => sent,
            }),
        }
    };
    // With TLS this sends a close_notify. Ignore errors: the server may be gone.
    let _ = tokio::time::timeout(Duration::from_secs(1), writer.shutdown()).await;
    match joined {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("upcat: the session failed: {}", in_full(&error));
            ExitCode::FAILURE
        }
    }
}

/// Returns whether an HTTP/2 server has reset the stream with `NO_ERROR` after its last data: it has stopped reading,
/// which is not a failure (RFC 9113 §8.1).
fn stopped_reading(error: &io::Error) -> bool {
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            return error.reason() == Some(h2::Reason::NO_ERROR);
        }
        source = error.source();
    }
    false
}

// ---- The command line ---------------------------------------------------------------------------

struct Args {
    url: Uri,
    asked: Asked,
    framing: Framing,
    wait: Duration,
    proxy: Option<Uri>,
    proxy_auth: Option<HeaderValue>,
    is_insecure: bool,
    version: Version,
}

#[derive(Clone, Copy)]
enum Version {
    Http1,
    Http2,
    Any,
}

impl Args {
    /// Returns `None` for `--help`.
    fn parse() -> Result<Option<Self>, BoxError> {
        let mut protocols: Vec<String> = Vec::new();
        let mut headers = Vec::new();
        let mut target: Option<Authority> = None;
        let mut udp: Option<Authority> = None;
        let mut framing = Framing::Lines;
        let mut wait = Duration::from_secs(2);
        let mut url = None;
        let mut proxy = None;
        let mut proxy_auth = None;
        let mut is_insecure = false;
        let mut version = Version::Any;

        let mut args = lexopt::Parser::from_env();
        while let Some(arg) = args.next()? {
            match arg {
                lexopt::Arg::Long("protocol") => protocols.push(args.value()?.string()?),
                lexopt::Arg::Long("connect") => target = Some(args.value()?.parse()?),
                lexopt::Arg::Long("udp") => udp = Some(args.value()?.parse()?),
                lexopt::Arg::Long("length-prefixed") => framing = Framing::LengthPrefixed,
                lexopt::Arg::Long("wait") => {
                    wait = Duration::from_secs_f64(args.value()?.parse()?);
                }
                lexopt::Arg::Long("header") => {
                    headers.push(parse_header(&args.value()?.string()?)?)
                }
                lexopt::Arg::Long("proxy") => proxy = Some(parse_url(&args.value()?.string()?)?),
                lexopt::Arg::Long("proxy-auth") => proxy_auth = Some(args.value()?.parse()?),
                lexopt::Arg::Long("insecure") => is_insecure = true,
                lexopt::Arg::Long("http1.1") => version = Version::Http1,
                lexopt::Arg::Long("http2") => version = Version::Http2,
                lexopt::Arg::Long("help") | lexopt::Arg::Short('h') => return Ok(None),
                lexopt::Arg::Value(value) if url.is_none() => {
                    url = Some(parse_url(&value.string()?)?);
                }
                other => return Err(other.unexpected().into()),
            }
        }
        let url = url.ok_or("a URL is missing")?;
        let asked = match (target, udp) {
            (None, None) if protocols.is_empty() => {
                return Err("--protocol, --connect or --udp is missing".into());
            }
            (Some(_), Some(_)) => return Err("--connect and --udp exclude each other".into()),
            (Some(_), None) | (None, Some(_)) if !protocols.is_empty() => {
                return Err(
                    "--connect and --udp exclude --protocol; to use a proxy, give --proxy".into(),
                );
            }
            (None, Some(target)) => {
                let request = UdpRequest::new(url.clone(), target);
                let add = |request: UdpRequest, (name, value): (HeaderName, _)| {
                    request.header(name, value)
                };
                Asked::Udp(Box::new(headers.into_iter().fold(request, add)))
            }
            (target, None) => {
                let mut request = match target {
                    Some(target) => Request::connect(target),
                    None => Request::get(url.clone()),
                };
                for protocol in protocols {
                    request = request.try_protocol(&protocol)?;
                }
                for (name, value) in headers {
                    request = request.header(name, value);
                }
                Asked::Session(Box::new(request))
            }
        };
        Ok(Some(Self {
            url,
            asked,
            framing,
            wait,
            proxy,
            proxy_auth,
            is_insecure,
            version,
        }))
    }
}

fn parse_header(text: &str) -> Result<(HeaderName, HeaderValue), BoxError> {
    let (name, value) = text.split_once(':').ok_or("--header requires NAME:VALUE")?;
    Ok((name.trim().parse()?, value.trim().parse()?))
}

fn parse_url(text: &str) -> Result<Uri, BoxError> {
    let url: Uri = text.parse()?;
    match url.scheme_str() {
        Some("http" | "https") => Ok(url),
        _ => Err(format!("{text} is not a URL with http: or https:").into()),
    }
}
