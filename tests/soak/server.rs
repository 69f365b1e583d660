//! The server of a round: handlers that behave or misbehave as request headers say, and layers that replace their
//! responses.

use crate::support::{Server, Via, plain};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::Body;
use std::{
    collections::{BTreeMap, HashSet},
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tower::{Service, ServiceBuilder, ServiceExt as _, service_fn, util::MapResponseLayer};
use tower_upgrade::{
    Accept, BoxError, Closed, ProtocolHandler, Rejection, Session, SessionId, Sessions,
    Unsupported, UpgradeLayer, UpgradeRequest, Upgraded, copy,
};

/// Values of the header `decide`: actions in `accept` other than just accepting.
pub(crate) const DECISIONS: &[&str] = &["refuse", "panic", "hang", "read-body"];

/// Values of the header `act`: actions in the session.
pub(crate) const ACTS: &[&str] = &[
    "echo",
    "fail",
    "panic",
    "flood",
    "ignore",
    "obey-stop",
    "move-reader",
    "keep-io",
    "take-parts",
    "move-parts",
    "downcast",
];

/// Values of the header `between`: how a layer in between changes the upgrade response.
pub(crate) const BETWEEN: &[&str] = &["forbid", "ok", "clear", "rebuild", "panic"];

/// The message of intended panics.
pub(crate) const ON_PURPOSE: &str = "on purpose";

/// Longer than any immediate action takes, and short enough for a test to wait.
const SHORT: Duration = Duration::from_millis(50);

/// The server's records of a round.
#[derive(Default)]
pub(crate) struct Ledger {
    /// The upgrade responses that the outermost layer has returned, one for each opened session.
    pub(crate) upgrade_responses: AtomicUsize,
    /// Sessions that called their handler.
    pub(crate) started: Mutex<HashSet<SessionId>>,
    /// Sessions that `on_close` has reported.
    pub(crate) closed: Mutex<HashSet<SessionId>>,
    pub(crate) reported_twice: AtomicUsize,
    pub(crate) reasons: Mutex<BTreeMap<&'static str, usize>>,
    /// Every request, `accept` future and accepted session holds a clone.
    pub(crate) token: Arc<()>,
}

impl Ledger {
    fn record(&self, closed: &Closed) {
        if !self.closed.lock().expect("no panic").insert(closed.id()) {
            self.reported_twice.fetch_add(1, Ordering::Relaxed);
        }
        let mut reasons = self.reasons.lock().expect("no panic");
        *reasons.entry(closed.reason().as_str()).or_default() += 1;
    }
}

/// Acts as the headers `decide` and `act` say.
#[derive(Clone)]
struct ConfiguredByHeaders(Arc<Ledger>);

impl ProtocolHandler for ConfiguredByHeaders {
    async fn accept(&self, request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        let token = Arc::clone(&self.0.token);
        match header_word(request.headers(), "decide", DECISIONS) {
            "refuse" => return Err(StatusCode::FORBIDDEN.into()),
            "panic" => panic!("{ON_PURPOSE}"),
            "hang" => std::future::pending().await,
            "read-body" => drop(request.read_body(64).await?),
            _ => tokio::task::yield_now().await,
        }
        let act = header_word(request.headers(), "act", ACTS);
        let between = request.headers().get("between").cloned();
        let ledger = Arc::clone(&self.0);
        let accept = Accept::new(move |session| {
            ledger
                .started
                .lock()
                .expect("no panic")
                .insert(session.id());
            async move {
                let _token = token;
                run_session(session, act).await
            }
        });
        Ok(match between {
            Some(between) => accept.header("between", between),
            None => accept,
        })
    }
}

/// Returns the value of a header if it is one of `words`, and an empty string otherwise.
fn header_word(headers: &HeaderMap, field: &str, words: &[&'static str]) -> &'static str {
    let word = headers.get(field).and_then(|value| value.to_str().ok());
    let word = words.iter().find(|known| Some(**known) == word);
    word.copied().unwrap_or_default()
}

async fn run_session(mut session: Session, act: &str) -> Result<(), BoxError> {
    match act {
        "fail" => Err(ON_PURPOSE.into()),
        "panic" => {
            session.io_mut().write_all(b"oh").await?;
            panic!("{ON_PURPOSE}");
        }
        // More than fits into the buffers of a client that does not read.
        "flood" => {
            for _ in 0..64 {
                session.io_mut().write_all(&[0; 16 * 1024]).await?;
            }
            Ok(())
        }
        "ignore" => {
            let _io = session.into_io();
            std::future::pending().await
        }
        "obey-stop" => {
            let stop = session.stop();
            let mut io = session.into_io();
            tokio::select! {
                read = io.read_u8() => drop(read?),
                () = stop => io.write_all(b"bye").await?,
            }
            Ok(())
        }
        // Another task uses and drops the read half.
        "move-reader" => {
            let (mut reader, mut writer) = tokio::io::split(session.into_io());
            tokio::spawn(
                async move { while reader.read(&mut [0; 64]).await.is_ok_and(|n| n > 0) {} },
            );
            writer.write_all(b"bye").await?;
            Ok(())
        }
        // Another task holds the IO, and uses it after the session has ended.
        "keep-io" => {
            let mut io = session.into_io();
            tokio::spawn(async move {
                tokio::time::sleep(SHORT).await;
                io.write_all(b"too late").await
            });
            Ok(())
        }
        "take-parts" => echo_by_hand(session.into_io().into_parts().io).await,
        "move-parts" => {
            let io = session.into_io().into_parts().io;
            tokio::spawn(tokio::time::timeout(SHORT, echo_by_hand(io)));
            Ok(())
        }
        "downcast" => match session.into_io().downcast::<tokio::net::TcpStream>() {
            Ok(parts) => echo_by_hand(parts.io).await,
            Err(io) => echo(io).await,
        },
        _ => echo(session.into_io()).await,
    }
}

async fn echo(io: Upgraded) -> Result<(), BoxError> {
    let (mut reader, mut writer) = tokio::io::split(io);
    copy(&mut reader, &mut writer).await?;
    Ok(())
}

/// Echoes and shuts down the connection: the session cannot shut down an IO that was taken out of it.
async fn echo_by_hand<Io>(io: Io) -> Result<(), BoxError>
where
    Io: tokio::io::AsyncRead + tokio::io::AsyncWrite,
{
    let (mut reader, mut writer) = tokio::io::split(io);
    copy(&mut reader, &mut writer).await?;
    writer.shutdown().await?;
    Ok(())
}

/// Changes the response as its header `between` says, which only an accepting handler sets.
fn replace<B: Default>(mut response: Response<B>) -> Response<B> {
    match header_word(response.headers(), "between", BETWEEN) {
        "forbid" => *response.status_mut() = StatusCode::FORBIDDEN,
        "ok" => *response.status_mut() = StatusCode::OK,
        "clear" => response.extensions_mut().clear(),
        "rebuild" => return Response::default(),
        "panic" => panic!("{ON_PURPOSE}"),
        _ => {}
    }
    response
}

/// Returns the service of a round, for the requests of one of the servers.
pub(crate) fn service<B>(
    sessions: &Sessions,
    ledger: &Arc<Ledger>,
) -> impl Service<
    Request<B>,
    Response = Response<impl Body<Data: Send, Error: Into<BoxError>> + Send + 'static>,
    Error = Infallible,
    Future: Send + 'static,
> + Clone
+ Send
+ 'static
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    let outermost = UpgradeLayer::new()
        .sessions(sessions.clone())
        .accept_timeout(SHORT)
        .body_timeout(SHORT)
        .shutdown_timeout(Duration::from_millis(200))
        .on_close({
            let ledger = Arc::clone(ledger);
            move |closed| ledger.record(closed)
        });
    let handler = ConfiguredByHeaders(Arc::clone(ledger));
    let passes = UpgradeLayer::new().unsupported(Unsupported::Pass);
    let idles = passes.clone().idle_timeout(SHORT);
    let ages = passes.clone().lifetime(SHORT);
    let service = ServiceBuilder::new()
        .layer(outermost)
        .layer(MapResponseLayer::new(replace))
        .layer(idles.protocol("idles", handler.clone()))
        .layer(ages.protocol("ages", handler.clone()))
        .layer(passes.protocol("soak", handler.clone()).connect(handler))
        .service(service_fn(plain));

    // Outside all layers: count the upgrade responses that the client gets.
    let ledger = Arc::clone(ledger);
    service_fn(move |mut request: Request<B>| {
        let is_connect = request.method() == Method::CONNECT;
        request.extensions_mut().insert(Arc::clone(&ledger.token));
        let ledger = Arc::clone(&ledger);
        let answer = service.clone().oneshot(request);
        async move {
            let response = answer.await?;
            let status = response.status();
            if status == StatusCode::SWITCHING_PROTOCOLS || is_connect && status.is_success() {
                ledger.upgrade_responses.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<_, Infallible>(response)
        }
    })
}

/// Starts a server for HTTP/1.1 and HTTP/2.
pub(crate) async fn start(sessions: &Sessions, ledger: &Arc<Ledger>) -> Server {
    Server::start_via(Via::Auto, service(sessions, ledger)).await
}
