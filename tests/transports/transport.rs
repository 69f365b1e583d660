//! The transports over which a client reaches a handler.

use crate::support::{
    AnyIo, Peer, Server, Via,
    h2::{Client, connect, extended_connect},
    head, plain, text,
    tls::Tls,
};
#[cfg(all(feature = "client", feature = "http3"))]
use crate::support::{h3, soon};
use http::{HeaderName, HeaderValue, Request};
use tokio::io::{AsyncRead, AsyncWrite};
use tower::{Layer as _, service_fn};
use tower_upgrade::UpgradeLayer;

/// The kind of upgrade request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ask {
    /// `Upgrade` on HTTP/1.1, extended CONNECT on HTTP/2.
    Protocol(&'static str),
    /// CONNECT.
    Tunnel(&'static str),
}

/// A response head with the connection or stream of its session.
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) peer: Peer<Box<dyn AnyIo>>,
    body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let found = headers.find(|header| header.0 == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Expects an upgrade response and returns the client side of the session.
    #[track_caller]
    pub(crate) fn upgraded(self) -> Peer<Box<dyn AnyIo>> {
        assert!(
            matches!(self.status, 101 | 200),
            "{} {}",
            self.status,
            self.body
        );
        self.peer
    }

    /// Expects a rejection and returns its status and body.
    #[track_caller]
    pub(crate) fn refused(self) -> (u16, String) {
        assert!(!matches!(self.status, 101 | 200), "{}", self.status);
        (self.status, self.body)
    }
}

/// A server and a client that reaches it over one HTTP version, with or without TLS.
pub(crate) trait Transport: Sized {
    const NAME: &'static str;

    /// A failed session resets its stream. Over other transports it ends in order.
    const HAS_RESET: bool = false;

    async fn start(layer: UpgradeLayer) -> Self;

    /// Sends an upgrade request with a `user` header and early bytes.
    async fn ask_with(&mut self, ask: Ask, user: &str, early: &'static str) -> Answer;

    async fn ask(&mut self, ask: Ask) -> Answer {
        self.ask_with(ask, "nobody", "").await
    }
}

async fn serve(via: Via, layer: UpgradeLayer) -> Server {
    Server::start_via(via, layer.layer(service_fn(plain))).await
}

async fn serve_tls(layer: UpgradeLayer, alpn: &str) -> (Server, Tls) {
    let tls = Tls::with_alpn(&[alpn]);
    let acceptor = tls.acceptor.clone();
    let service = layer.layer(service_fn(plain));
    // `auto` detects the HTTP version, as on a server that serves both.
    let server = Server::start_with(Via::Auto, service, move |io| acceptor.accept(io)).await;
    (server, tls)
}

/// HTTP/1.1 with a new connection for each request.
pub(crate) struct Http1(Server);

impl Transport for Http1 {
    const NAME: &'static str = "HTTP/1.1";

    async fn start(layer: UpgradeLayer) -> Self {
        Self(serve(Via::Http1, layer).await)
    }

    async fn ask_with(&mut self, ask: Ask, user: &str, early: &'static str) -> Answer {
        ask_http1(self.0.connect().await, ask, user, early).await
    }
}

pub(crate) struct Http1Tls(Server, Tls);

impl Transport for Http1Tls {
    const NAME: &'static str = "HTTP/1.1 over TLS";

    async fn start(layer: UpgradeLayer) -> Self {
        let (server, tls) = serve_tls(layer, "http/1.1").await;
        Self(server, tls)
    }

    async fn ask_with(&mut self, ask: Ask, user: &str, early: &'static str) -> Answer {
        let peer = self.1.connect(self.0.connect().await).await;
        ask_http1(peer, ask, user, early).await
    }
}

async fn ask_http1<Io>(mut peer: Peer<Io>, ask: Ask, user: &str, early: &str) -> Answer
where
    Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let user = format!("User: {user}");
    let request = match ask {
        Ask::Protocol(protocol) => {
            let upgrade = format!("Upgrade: {protocol}");
            head(&[
                "GET / HTTP/1.1",
                "Host: test",
                "Connection: upgrade",
                &upgrade,
                &user,
            ])
        }
        Ask::Tunnel(target) => {
            let line = format!("CONNECT {target} HTTP/1.1");
            head(&[&line, &format!("Host: {target}"), &user])
        }
    };
    peer.send(request + early).await;
    let head = peer.head().await;
    let length = head.get("content-length");
    let length = length.map_or(0, |length| length.parse().expect("a number"));
    let body = text(&peer.exactly(length).await);
    Answer {
        status: head.status,
        headers: head.lines,
        peer: peer.boxed(),
        body,
    }
}

/// HTTP/2 with one connection for all requests.
pub(crate) struct Http2 {
    _server: Server,
    client: Client,
}

impl Transport for Http2 {
    const NAME: &'static str = "HTTP/2";

    async fn start(layer: UpgradeLayer) -> Self {
        let server = serve(Via::Http2, layer).await;
        let client = Client::connect(server.connect().await).await;
        Self {
            _server: server,
            client,
        }
    }

    async fn ask_with(&mut self, ask: Ask, user: &str, early: &'static str) -> Answer {
        ask_http2(&mut self.client, ask, user, early).await
    }
}

pub(crate) struct Http2Tls(Http2);

impl Transport for Http2Tls {
    const NAME: &'static str = "HTTP/2 over TLS";

    async fn start(layer: UpgradeLayer) -> Self {
        let (server, tls) = serve_tls(layer, "h2").await;
        let peer = tls.connect(server.connect().await).await;
        assert_eq!(peer.io.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let client = Client::connect(peer).await;
        Self(Http2 {
            _server: server,
            client,
        })
    }

    async fn ask_with(&mut self, ask: Ask, user: &str, early: &'static str) -> Answer {
        self.0.ask_with(ask, user, early).await
    }
}

async fn ask_http2(client: &mut Client, ask: Ask, user: &str, early: &'static str) -> Answer {
    let request = match ask {
        Ask::Protocol(protocol) => extended_connect(protocol),
        Ask::Tunnel(target) => connect(target),
    };
    let request: Request<()> = request.header("user", user).body(()).expect("a request");
    let answer = client.ask_with(request, early).await;
    let status = answer.head.status().as_u16();
    let field =
        |(name, value): (&HeaderName, &HeaderValue)| (name.to_string(), text(value.as_bytes()));
    let headers = answer.head.headers().iter().map(field).collect();
    let mut peer = answer.peer.boxed();
    let body = match status {
        200 => String::new(),
        _ => text(&peer.rest().await.expect("a body")),
    };
    Answer {
        status,
        headers,
        peer,
        body,
    }
}

/// HTTP/3 with one connection for all requests.
#[cfg(all(feature = "client", feature = "http3"))]
pub(crate) struct Http3 {
    _server: h3::Server,
    client: tower_upgrade::client::Http3,
}

#[cfg(all(feature = "client", feature = "http3"))]
impl Transport for Http3 {
    const NAME: &'static str = "HTTP/3";
    const HAS_RESET: bool = true;

    async fn start(layer: UpgradeLayer) -> Self {
        let server = h3::Server::start(layer.layer(service_fn(plain))).await;
        let client = server.client().await;
        Self {
            _server: server,
            client,
        }
    }

    async fn ask_with(&mut self, ask: Ask, user: &str, early: &'static str) -> Answer {
        use http_body_util::BodyExt as _;
        use tower::Service as _;
        use tower_upgrade::client;

        let request = match ask {
            Ask::Protocol(protocol) => {
                let uri = "https://test/".parse().expect("a URI");
                client::Request::get(uri).protocol(protocol)
            }
            Ask::Tunnel(target) => client::Request::connect(target.parse().expect("a target")),
        };
        let request = request.header("user", HeaderValue::from_str(user).expect("a value"));
        let mut client = client::UpgradeLayer::new().layer(self.client.clone());
        let fields = |headers: &http::HeaderMap| {
            let field = |(name, value): (&HeaderName, &HeaderValue)| {
                (name.to_string(), text(value.as_bytes()))
            };
            headers.iter().map(field).collect()
        };
        match soon(client.call(request)).await {
            Ok(session) => {
                let (status, headers) = (
                    session.response().status,
                    fields(&session.response().headers),
                );
                let mut peer = Peer::new(session.into_io());
                // The client has no way to send data before the response.
                peer.send(early).await;
                Answer {
                    status: status.as_u16(),
                    headers,
                    peer: peer.boxed(),
                    body: String::new(),
                }
            }
            Err(error) => {
                let response = error.into_response().expect("a response");
                let (head, body) = response.into_parts();
                let body = soon(body.collect()).await.expect("a body").to_bytes();
                Answer {
                    status: head.status.as_u16(),
                    headers: fields(&head.headers),
                    peer: Peer::new(tokio::io::empty()).boxed(),
                    body: text(&body),
                }
            }
        }
    }
}
