//! The server of a round: handlers that follow the client's instructions, correctly and incorrectly, and layers that
//! replace the handlers' responses.

use crate::support::{Server, Via, plain};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use std::{
    collections::{BTreeMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tower::{ServiceBuilder, ServiceExt as _, service_fn, util::MapResponseLayer};
use tower_upgrade::{
    Accept, BoxError, Closed, ProtocolHandler, Rejection, Session, SessionId, Sessions,
    Unsupported, UpgradeLayer, UpgradeRequest, Upgraded, copy,
};

/// A handler's actions for a request that it does not accept as a session.
pub(crate) const DECISIONS: &[&str] = &["refuse", "panic", "hang", "read-body"];

/// A handler's actions for a session.
pub(crate) const ACTS: &[&str] = &[
    "echo",
    "fail",
    "panic",
    "flood",
    "ignore",
    "heed",
    "escape",
    "hoard",
    "take",
    "give-away",
    "downcast",
];

/// An intermediate layer's actions for the upgrade response.
pub(crate) const BETWEEN: &[&str] = &["forbid", "ok", "clear", "rebuild", "panic"];

/// The message of intended panics.
pub(crate) const ON_PURPOSE: &str = "on purpose";

/// Longer than an immediate event takes, and short enough not to delay the test.
const SHORT: Duration = Duration::from_millis(50);

/// The server's records of a round.
#[derive(Default)]
pub(crate) struct Books {
    /// Upgrade responses that the outermost layer returned. Each of them opened a session.
    pub(crate) switches: AtomicUsize,
    /// Sessions whose handler was called.
    pub(crate) started: Mutex<HashSet<SessionId>>,
    /// Sessions that `on_close` has reported.
    pub(crate) closed: Mutex<HashSet<SessionId>>,
    pub(crate) reported_twice: AtomicUsize,
    pub(crate) reasons: Mutex<BTreeMap<&'static str, usize>>,
    /// Cloned into each request, each accepted session and each handler's future.
    pub(crate) token: Arc<()>,
}

impl Books {
    fn has_closed(&self, closed: &Closed) {
        if !self.closed.lock().expect("no panic").insert(closed.id()) {
            self.reported_twice.fetch_add(1, Ordering::Relaxed);
        }
        let mut reasons = self.reasons.lock().expect("no panic");
        *reasons.entry(closed.reason().as_str()).or_default() += 1;
    }
}

/// Follows the `decide` and `act` fields.
#[derive(Clone)]
struct Obeys(Arc<Books>);

impl ProtocolHandler for Obeys {
    async fn accept(&self, request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        let token = Arc::clone(&self.0.token);
        match said(request.headers(), "decide", DECISIONS) {
            "refuse" => return Err(StatusCode::FORBIDDEN.into()),
            "panic" => panic!("{ON_PURPOSE}"),
            "hang" => std::future::pending().await,
            "read-body" => drop(request.read_body(64).await?),
            _ => tokio::task::yield_now().await,
        }
        let act = said(request.headers(), "act", ACTS);
        let between = request.headers().get("between").cloned();
        let books = Arc::clone(&self.0);
        let accept = Accept::new(move |session| {
            books.started.lock().expect("no panic").insert(session.id());
            async move {
                let _token = token;
                speak(session, act).await
            }
        });
        Ok(match between {
            Some(between) => accept.header("between", between),
            None => accept,
        })
    }
}

/// Returns the client's value of a field, if it is one of these.
fn said(headers: &HeaderMap, field: &str, words: &[&'static str]) -> &'static str {
    let word = headers.get(field).and_then(|value| value.to_str().ok());
    let word = words.iter().find(|known| Some(**known) == word);
    word.copied().unwrap_or_default()
}

async fn speak(mut session: Session, act: &str) -> Result<(), BoxError> {
    match act {
        "fail" => Err(ON_PURPOSE.into()),
        "panic" => {
            session.io_mut().write_all(b"oh").await?;
            panic!("{ON_PURPOSE}");
        }
        // More than a client accepts without reading.
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
        "heed" => {
            let stop = session.stop();
            let mut io = session.into_io();
            tokio::select! {
                read = io.read_u8() => drop(read?),
                () = stop => io.write_all(b"bye").await?,
            }
            Ok(())
        }
        // One half is used and dropped in another task, the other half here.
        "escape" => {
            let (mut reader, mut writer) = tokio::io::split(session.into_io());
            tokio::spawn(
                async move { while reader.read(&mut [0; 64]).await.is_ok_and(|n| n > 0) {} },
            );
            writer.write_all(b"bye").await?;
            Ok(())
        }
        // Another task holds the whole IO, and does not use it for a while.
        "hoard" => {
            let mut io = session.into_io();
            tokio::spawn(async move {
                tokio::time::sleep(SHORT).await;
                io.write_all(b"too late").await
            });
            Ok(())
        }
        "take" => echo_by_hand(session.into_io().into_parts().io).await,
        "give-away" => {
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

/// Echoes over a connection that the session does not shut down.
async fn echo_by_hand<Io>(io: Io) -> Result<(), BoxError>
where
    Io: tokio::io::AsyncRead + tokio::io::AsyncWrite,
{
    let (mut reader, mut writer) = tokio::io::split(io);
    copy(&mut reader, &mut writer).await?;
    writer.shutdown().await?;
    Ok(())
}

/// Follows the handler's `between` field. Only this server's upgrade responses have it.
fn replace<B: Default>(mut response: Response<B>) -> Response<B> {
    match said(response.headers(), "between", BETWEEN) {
        "forbid" => *response.status_mut() = StatusCode::FORBIDDEN,
        "ok" => *response.status_mut() = StatusCode::OK,
        "clear" => response.extensions_mut().clear(),
        "rebuild" => return Response::default(),
        "panic" => panic!("{ON_PURPOSE}"),
        _ => {}
    }
    response
}

pub(crate) async fn start(sessions: &Sessions, books: &Arc<Books>) -> Server {
    let outermost = UpgradeLayer::new()
        .sessions(sessions.clone())
        .accept_timeout(SHORT)
        .body_timeout(SHORT)
        .shutdown_timeout(Duration::from_millis(200))
        .on_close({
            let books = Arc::clone(books);
            move |closed| books.has_closed(closed)
        });
    let obeys = Obeys(Arc::clone(books));
    let passes = UpgradeLayer::new().unsupported(Unsupported::Pass);
    let idles = passes.clone().idle_timeout(SHORT);
    let ages = passes.clone().lifetime(SHORT);
    let service = ServiceBuilder::new()
        .layer(outermost)
        .layer(MapResponseLayer::new(replace))
        .layer(idles.protocol("idles", obeys.clone()))
        .layer(ages.protocol("ages", obeys.clone()))
        .layer(passes.protocol("soak", obeys.clone()).connect(obeys))
        .service(service_fn(plain));

    // The outermost layer, whose counted responses go to the client.
    let books = Arc::clone(books);
    let counts = service_fn(move |mut request: Request<Incoming>| {
        let is_connect = request.method() == Method::CONNECT;
        request.extensions_mut().insert(Arc::clone(&books.token));
        let books = Arc::clone(&books);
        let answer = service.clone().oneshot(request);
        async move {
            let response = answer.await?;
            let status = response.status();
            if status == StatusCode::SWITCHING_PROTOCOLS || is_connect && status.is_success() {
                books.switches.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    Server::start_via(Via::Auto, counts).await
}
