//! U4, U6, E1 and E3 for handlers that accept any protocol, or choose the protocol themselves.

use crate::server::assert_passes;
use crate::support::{
    Server, Via,
    h2::{Client, extended_connect},
    handlers::{echo, run_echo},
    head,
    log::Log,
    offer, plain, soon,
};
use http::StatusCode;
use std::sync::{Arc, Mutex};
use tokio::sync::mpsc;
use tower::{Layer as _, service_fn};
use tower_upgrade::{
    Accept, ProtocolHandler, Rejection, Session, Sessions, Unsupported, UpgradeLayer,
    UpgradeRequest,
};

/// Accepts with `choice`, or else with the protocol that the layer chose. Records the layer's choices.
#[derive(Clone, Default)]
struct Chooses {
    choice: Option<&'static str>,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Chooses {
    fn choosing(choice: &'static str) -> Self {
        Self {
            choice: Some(choice),
            ..Self::default()
        }
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().expect("no panic").clone()
    }
}

impl ProtocolHandler for Chooses {
    async fn accept(&self, request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        let protocol = request.protocol().expect("not a CONNECT").to_string();
        self.seen.lock().expect("no panic").push(protocol);
        let accept = Accept::new(|session: Session| async move {
            let protocol = session.protocol().expect("not a CONNECT");
            tracing::info!(%protocol, "spoken");
            run_echo(session).await
        });
        Ok(match self.choice {
            Some(choice) => accept.protocol(choice),
            None => accept,
        })
    }
}

async fn server(layer: UpgradeLayer) -> Server {
    Server::start_via(Via::Auto, layer.layer(service_fn(plain))).await
}

#[tokio::test]
async fn u4_any_protocol_handler_gets_the_first_offer() {
    let any = Chooses::default();
    let server = server(UpgradeLayer::new().any_protocol(any.clone())).await;
    let mut peer = server.connect().await;
    peer.send(offer("Chess/2, chat", &[])).await;
    peer.head().await.assert_upgraded("Chess/2");
    peer.expect_echo(b"hello").await;

    let mut client = Client::connect(server.connect().await).await;
    let request = extended_connect("go/9").body(()).expect("a request");
    let mut peer = client.ask(request).await.expect_upgraded();
    peer.expect_echo(b"hello").await;
    assert_eq!(any.seen(), ["Chess/2", "go/9"]);
}

#[tokio::test]
async fn u4_protocol_chosen_by_the_handler_is_echoed_as_offered() {
    let any = Chooses::choosing("CHAT/1");
    let server = server(UpgradeLayer::new().any_protocol(any)).await;
    let mut peer = server.connect().await;
    peer.send(offer("chat/2, , Chat/1", &[])).await;
    peer.head().await.assert_upgraded("Chat/1");
    peer.expect_echo(b"hello").await;
}

#[tokio::test]
async fn u4_protocol_chosen_by_the_handler_is_reported_everywhere() {
    let (log, _guard) = Log::start();
    let sessions = Sessions::new();
    let (closed, mut is_closed) = mpsc::unbounded_channel();
    let layer = UpgradeLayer::new()
        .sessions(sessions.clone())
        .on_close(move |end| {
            let protocol = end.protocol().map(ToString::to_string);
            closed.send(protocol).expect("the test waits");
        })
        // Handlers for a named protocol can choose another one too.
        .protocol("chat", Chooses::choosing("chess"));
    let server = server(layer).await;
    let mut peer = server.connect().await;
    peer.send(offer("chat, Chess", &[])).await;
    peer.head().await.assert_upgraded("Chess");
    peer.expect_echo(b"hello").await;
    let listed: Vec<_> = sessions.list();
    assert_eq!(listed[0].protocol().expect("a protocol").as_str(), "Chess");
    peer.finish().await;
    peer.expect_end().await;
    let told = soon(is_closed.recv()).await.expect("a report");
    assert_eq!(told.as_deref(), Some("Chess"));
    let spoken = log.lines("spoken");
    assert!(spoken[0].contains("protocol=Chess"), "{spoken:?}");
    // In the event and in its span.
    assert_eq!(spoken[0].matches("protocol=Chess").count(), 2, "{spoken:?}");
}

#[tokio::test]
async fn u4_protocol_that_was_not_offered_is_a_500() {
    let (log, _guard) = Log::start();
    for choice in ["chess", "chat", "chat/1.0", "no protocol"] {
        let any = Chooses::choosing(choice);
        let layer = UpgradeLayer::new().connect(any.clone()).any_protocol(any);
        let server = server(layer).await;
        let mut peer = server.connect().await;
        peer.send(offer("chat/2, chat/1", &[])).await;
        let (head, body) = peer.response().await;
        head.assert_no_handshake();
        assert_eq!(head.status, 500, "{choice}: {body}");
        assert!(!body.contains(choice), "{body}");
        // The client is not at fault, so the connection stays open.
        assert_passes(
            &mut peer,
            &crate::support::head(&["GET /x HTTP/1.1", "Host: test"]),
        )
        .await;

        let mut client = Client::connect(server.connect().await).await;
        let request = extended_connect("chat/2").body(()).expect("a request");
        assert_eq!(client.ask(request).await.refused().await.0, 500);
    }
    let reported = log.lines("handler accepted a protocol that was not offered");
    assert_eq!(reported.len(), 8, "{reported:?}");
}

#[tokio::test]
async fn u4_protocol_chosen_for_connect_is_a_500() {
    struct Wrong;
    impl ProtocolHandler for Wrong {
        async fn accept(&self, _request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
            Ok(Accept::new(run_echo).protocol("chat"))
        }
    }
    let server = server(UpgradeLayer::new().connect(Wrong).any_protocol(echo())).await;
    let mut peer = server.connect().await;
    peer.send(head(&["CONNECT test:1 HTTP/1.1", "Host: test:1"]))
        .await;
    assert_eq!(peer.response().await.0.status, 500);
    peer.expect_end().await;
}

#[tokio::test]
async fn u6_named_handlers_come_before_any_protocol() {
    let (named, any) = (Chooses::default(), Chooses::default());
    let picky = Chooses::default();
    let layer = UpgradeLayer::new()
        .any_protocol(any.clone())
        .protocol("chat", named.clone())
        .protocol("go", picky.clone().when(|_| false));
    let server = server(layer).await;
    for (offered, chosen) in [
        ("chess, chat", "chat"),
        ("chess, checkers", "chess"),
        ("go, chess", "go"),
    ] {
        let mut peer = server.connect().await;
        peer.send(offer(offered, &[])).await;
        peer.head().await.assert_upgraded(chosen);
    }
    assert_eq!(named.seen(), ["chat"]);
    assert_eq!(any.seen(), ["chess", "go"]);
    assert!(picky.seen().is_empty());
}

#[tokio::test]
async fn u6_any_protocol_handlers_are_tried_in_order() {
    let (first, second) = (Chooses::default(), Chooses::default());
    let layer = UpgradeLayer::new()
        .any_protocol(first.clone().when(|parts| parts.uri.path() == "/first"))
        .any_protocol(second.clone());
    let server = server(layer).await;
    for path in ["/first", "/other"] {
        let mut peer = server.connect().await;
        let request = offer("chat", &[]).replacen("GET /", &format!("GET {path}"), 1);
        peer.send(request).await;
        peer.head().await.assert_upgraded("chat");
    }
    assert_eq!((first.seen().len(), second.seen().len()), (1, 1));
}

#[tokio::test]
async fn u6_request_declined_by_any_protocol_handler_passes() {
    let declining = || UpgradeLayer::new().any_protocol(echo().when(|_| false));
    // Without named protocols the layer cannot send a 426, so it passes the request even with `Refuse`.
    for layer in [declining(), declining().unsupported(Unsupported::Refuse)] {
        let server = server(layer).await;
        let mut peer = server.connect().await;
        assert_passes(&mut peer, &offer("chat", &[])).await;
    }
    let named = declining()
        .protocol("chess", echo())
        .unsupported(Unsupported::Refuse);
    let server = server(named).await;
    let mut peer = server.connect().await;
    peer.send(offer("chat", &[])).await;
    let (head, _) = peer.response().await;
    assert_eq!(head.status, 426);
    assert_eq!(head.get("upgrade").as_deref(), Some("chess"));
}

#[tokio::test]
async fn e3_request_declined_by_any_protocol_handler_is_refused() {
    let declining = || UpgradeLayer::new().any_protocol(echo().when(|_| false));
    for layer in [declining(), declining().protocol("chess", echo())] {
        let server = server(layer).await;
        let mut client = Client::connect(server.connect().await).await;
        let request = extended_connect("chat").body(()).expect("a request");
        let (status, body) = client.ask(request).await.refused().await;
        assert_eq!(
            (status, body.as_str()),
            (501, "this protocol is not supported")
        );
    }
    let refusing = service_fn(|_: http::Request<hyper::body::Incoming>| async {
        let refusal = http::Response::builder().status(404).body(String::new());
        Ok::<_, std::convert::Infallible>(refusal.expect("a response"))
    });
    let layer = declining().unsupported(Unsupported::Pass);
    let server = Server::start_via(Via::Auto, layer.layer(refusing)).await;
    let mut client = Client::connect(server.connect().await).await;
    let request = extended_connect("chat").body(()).expect("a request");
    assert_eq!(client.ask(request).await.refused().await.0, 404);
}

#[tokio::test]
async fn e1_invalid_protocol_matches_no_handler() {
    let any = Chooses::default();
    let server = server(UpgradeLayer::new().any_protocol(any.clone())).await;
    let mut client = Client::connect(server.connect().await).await;
    for protocol in ["a, b", "a b", "a/b/c", ""] {
        let request = extended_connect(protocol).body(()).expect("a request");
        assert_eq!(client.ask(request).await.refused().await.0, 501);
    }
    assert!(any.seen().is_empty());
}

#[tokio::test]
async fn c4_any_protocol_handler_does_not_serve_connect() {
    let server = server(UpgradeLayer::new().any_protocol(echo())).await;
    let mut peer = server.connect().await;
    peer.send(head(&["CONNECT test:1 HTTP/1.1", "Host: test:1"]))
        .await;
    assert_eq!(peer.response().await.0.status, 501);
    peer.expect_end().await;
}

#[tokio::test]
async fn u6_any_protocol_leaf_answers_400_instead_of_426() {
    let leaf = UpgradeLayer::new().any_protocol(echo()).into_service();
    let server = Server::start(leaf).await;
    let mut peer = server.connect().await;
    peer.send(head(&["GET / HTTP/1.1", "Host: test"])).await;
    let (head, _) = peer.response().await;
    assert_eq!(head.status, StatusCode::BAD_REQUEST.as_u16());
    head.assert_no_handshake();
    peer.send(offer("chat", &[])).await;
    peer.head().await.assert_upgraded("chat");
}
