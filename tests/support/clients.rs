//! Clients that send upgrade requests, and a server with scripted answers.

use super::{Peer, soon};
use bytes::Bytes;
use http::{Response, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use std::net::SocketAddr;
use tokio::net::{TcpListener, TcpStream};
use tower::{Layer as _, Service as _, ServiceExt as _, service_fn, util::BoxCloneSyncService};
use tower_upgrade::{
    BoxError, Upgraded,
    client::{Dial, Error, ErrorKind, Request, Session, UpgradeLayer},
};

/// A boxed client.
pub type AnyClient = BoxCloneSyncService<Request, Session, Error>;

/// Returns the client layer over each kind of inner client, with its name.
pub fn clients() -> [(&'static str, AnyClient); 3] {
    let layer = UpgradeLayer::new();
    let http = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let dial = Dial::new(HttpConnector::new());
    [
        ("hyper-util", BoxCloneSyncService::new(layer.layer(http))),
        ("dial", BoxCloneSyncService::new(layer.layer(dial))),
        ("reqwest", BoxCloneSyncService::new(layer.layer(reqwest()))),
    ]
}

/// Wraps reqwest's client as the documentation shows.
fn reqwest() -> BoxCloneSyncService<http::Request<Full<Bytes>>, Response<reqwest::Body>, BoxError> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .expect("a client");
    BoxCloneSyncService::new(service_fn(move |request: http::Request<Full<Bytes>>| {
        let client = client.clone();
        async move {
            let request = request.map(reqwest::Body::wrap).try_into()?;
            let response = client.execute(request).await?;
            Ok(Response::<reqwest::Body>::from(response))
        }
    }))
}

/// A server that sends the bytes that the test gives it.
pub struct Scripted {
    listener: TcpListener,
    pub address: SocketAddr,
}

impl Scripted {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("bound");
        Self { listener, address }
    }

    pub fn uri(&self, path: &str) -> Uri {
        let uri = format!("http://{}{path}", self.address);
        uri.parse().expect("a URI")
    }

    #[track_caller]
    pub fn accept(&self) -> impl Future<Output = Peer<TcpStream>> {
        soon(async {
            let (io, _) = self.listener.accept().await.expect("loopback");
            io.set_nodelay(true).expect("a socket");
            Peer::new(io)
        })
    }

    /// Sends `request` with the client, and `answer` once the request head has arrived. Returns the client's
    /// result and the server side of the connection.
    pub async fn answer(
        &self,
        mut client: AnyClient,
        request: Request,
        answer: impl AsRef<[u8]>,
    ) -> (Result<Session, Error>, Peer<TcpStream>) {
        let server = async {
            let mut peer = self.accept().await;
            peer.request_head().await;
            peer.send(answer).await;
            peer
        };
        let asking = async { client.ready().await?.call(request).await };
        soon(async { tokio::join!(asking, server) }).await
    }
}

/// Expects a session and returns its IO as a peer.
#[track_caller]
pub fn expect_session(result: Result<Session, Error>) -> Peer<Upgraded> {
    match result {
        Ok(session) => Peer::new(session.into_io()),
        Err(error) => panic!("no session: {error:?}"),
    }
}

#[track_caller]
pub fn expect_error(result: Result<Session, Error>, kind: ErrorKind) -> Error {
    match result {
        Err(error) if error.kind() == kind => error,
        other => panic!("not {kind:?}, but {other:?}"),
    }
}

/// Expects `ErrorKind::Refused` and returns the server's response with its body.
#[track_caller]
pub fn expect_rejected(result: Result<Session, Error>) -> impl Future<Output = Response<String>> {
    let error = expect_error(result, ErrorKind::Refused);
    async move {
        let (head, body) = error.into_response().expect("a response").into_parts();
        let body = soon(body.collect()).await.expect("a body").to_bytes();
        Response::from_parts(head, super::text(&body))
    }
}
