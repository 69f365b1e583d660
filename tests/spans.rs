//! The span of a session, and the span of its request, as a subscriber sees them.

#[path = "support/mod.rs"]
mod support;

use std::time::Duration;
use support::{
    Server, Via,
    h2::{Client, extended_connect},
    offer, plain, soon,
    spans::Spans,
    until,
};
use tokio::io::AsyncReadExt as _;
use tower::{Layer as _, ServiceBuilder, service_fn};
use tower_http::trace::TraceLayer;
use tower_upgrade::{Session, SessionId, UpgradeLayer, handler_fn};

/// A server inside a `TraceLayer`, whose sessions log their id and end at the first byte.
async fn start(via: Via, ids: tokio::sync::mpsc::UnboundedSender<SessionId>) -> Server {
    let brief = handler_fn(move |mut session: Session| {
        let ids = ids.clone();
        async move {
            tracing::info!("the handler's own words");
            ids.send(session.id())?;
            session.io_mut().read_u8().await?;
            Ok(())
        }
    });
    let service = ServiceBuilder::new()
        .layer(UpgradeLayer::new())
        .layer(TraceLayer::new_for_http())
        .layer(UpgradeLayer::new().protocol("brief", brief))
        .service(service_fn(plain));
    Server::start_via(via, service).await
}

#[tokio::test]
async fn session_span_follows_from_request_span_without_holding_it() {
    for via in [Via::Http1, Via::Http2] {
        let (spans, _guard) = Spans::start();
        let (sender, mut ids) = tokio::sync::mpsc::unbounded_channel();
        let server = start(via, sender).await;
        let mut peer = match via {
            Via::Http2 => {
                let mut client = Client::connect(server.connect().await).await;
                let request = extended_connect("brief/1").body(()).expect("a request");
                client.ask(request).await.expect_upgraded().boxed()
            }
            _ => {
                let mut peer = server.connect().await;
                peer.send(offer("brief/1", &[])).await;
                peer.head().await.assert_upgraded("brief/1");
                peer.boxed()
            }
        };
        let id = soon(ids.recv()).await.expect("a session");

        // The session goes on, and the request's span is closed already.
        until(|| spans.has(|span| span.name == "request" && span.is_closed)).await;
        let (request, _) = spans.only("request");
        let (session, seen) = spans.only("session");
        assert!(!seen.is_closed);
        assert_eq!((seen.parent, seen.follows), (None, vec![request]));
        assert_eq!(seen.fields["id"], id.to_string());
        assert_eq!(seen.fields["protocol"], "brief/1");
        let kind = if via == Via::Http2 {
            "extended-connect"
        } else {
            "upgrade"
        };
        assert_eq!(seen.fields["kind"], kind);
        assert_eq!(seen.fields.get("reason"), None);
        assert_eq!(
            spans.said_in(session),
            ["session started", "the handler's own words"]
        );

        peer.send(b"x").await;
        peer.finish().await;
        peer.expect_end().await;
        until(|| spans.has(|span| span.name == "session" && span.is_closed)).await;
        let (_, seen) = spans.only("session");
        assert_eq!(seen.fields["reason"], "finished");
        assert_eq!(
            (&*seen.fields["bytes_read"], &*seen.fields["bytes_written"]),
            ("1", "0")
        );
        assert!(seen.fields.contains_key("duration"));
        assert_eq!(
            spans.said_in(session).last().map(String::as_str),
            Some("session finished")
        );
    }
}

#[tokio::test]
async fn session_that_does_not_start_closes_its_span() {
    let (spans, _guard) = Spans::start();
    let service = ServiceBuilder::new()
        .layer(UpgradeLayer::new())
        .map_response(|mut response: http::Response<_>| {
            *response.status_mut() = http::StatusCode::FORBIDDEN;
            response
        })
        .layer(UpgradeLayer::new().protocol("echo", support::handlers::echo()))
        .service(service_fn(plain));
    let server = Server::start(service).await;
    let mut peer = server.connect().await;
    peer.send(offer("echo", &[])).await;
    assert_eq!(peer.head().await.status, 403);
    let (session, seen) = spans.only("session");
    assert!(seen.is_closed);
    assert_eq!(spans.said_in(session), [""; 0]);
}

/// The request's span is that of the innermost layer: where the handler was chosen.
#[tokio::test]
async fn rejection_is_reported_in_the_request_span() {
    let (spans, _guard) = Spans::start();
    let service = TraceLayer::new_for_http().layer(
        UpgradeLayer::new()
            .protocol("hang", handler_fn(|_session| async { Ok(()) }))
            .sessions(tower_upgrade::Sessions::builder().max(0).build())
            .accept_timeout(Duration::from_secs(1))
            .layer(service_fn(plain)),
    );
    let server = Server::start(service).await;
    let mut peer = server.connect().await;
    peer.send(offer("hang", &[])).await;
    assert_eq!(peer.head().await.status, 503);
    let (request, _) = spans.only("request");
    assert!(
        spans
            .said_in(request)
            .contains(&"upgrade rejected".to_owned())
    );
    assert!(!spans.has(|span| span.name == "session"));
}
