//! A3: a governed session has a span and metrics, as the session of a handler has.

use crate::{
    support::{Peer, Server, Via, h2, spans::Spans, until, websocket::Frame},
    upgraders::{Count, axum_websocket, handshake, raw},
};
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::io::{AsyncRead, AsyncWrite};
use tower::Layer as _;
use tower_upgrade::UpgradeLayer;

/// The lengths of a masked and of an unmasked frame with the text `hello`.
const FRAME_LENGTHS: (&str, &str) = ("11", "7");

async fn echo<Io: AsyncRead + AsyncWrite + Unpin>(peer: &mut Peer<Io>) {
    peer.send(Frame::new(1, "hello").masked()).await;
    assert_eq!(Frame::read(peer).await.brief(), "1: \"hello\"");
}

#[tokio::test]
async fn a3_session_has_a_span() {
    for via in [Via::Http1, Via::Http2] {
        let (spans, _guard) = Spans::start();
        let app = UpgradeLayer::new()
            .govern()
            .layer(axum_websocket(Count::default()));
        let server = Server::start_via(via, app).await;
        let (mut peer, kind) = match via {
            Via::Http2 => {
                let mut client = h2::Client::connect(server.connect().await).await;
                let request =
                    h2::extended_connect("websocket").header("sec-websocket-version", "13");
                let answer = client.ask(request.body(()).expect("a request")).await;
                (answer.expect_upgraded().boxed(), "extended-connect")
            }
            _ => {
                let mut peer = server.connect().await;
                peer.send(handshake(&[])).await;
                peer.head().await.assert_upgraded("websocket");
                (peer.boxed(), "upgrade")
            }
        };
        echo(&mut peer).await;
        let (session, seen) = spans.only("session");
        assert_eq!(
            (&*seen.fields["kind"], &*seen.fields["protocol"]),
            (kind, "websocket")
        );
        assert!(!seen.is_closed);

        peer.finish().await;
        until(|| spans.has(|span| span.name == "session" && span.is_closed)).await;
        let (_, seen) = spans.only("session");
        assert_eq!(seen.fields["reason"], "finished");
        let bytes = (&*seen.fields["bytes_read"], &*seen.fields["bytes_written"]);
        assert_eq!(bytes, FRAME_LENGTHS);
        assert_eq!(
            spans.said_in(session),
            ["session started", "session finished"]
        );
    }
}

#[tokio::test]
async fn a3_session_is_counted_in_metrics() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let exporter = recorder.handle();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let websocket = "kind=\"upgrade\",protocol=\"websocket\"";
    let other = "kind=\"upgrade\",protocol=\"other\"";
    let assert_has = |line: &str| {
        let page = exporter.render();
        let found = page.lines().any(|found| found == line);
        assert!(found, "no {line} in\n{page}");
    };

    let govern = UpgradeLayer::new().govern();
    let server = Server::start(govern.layer(axum_websocket(Count::default()))).await;
    let mut peer = server.connect().await;
    peer.send(handshake(&[])).await;
    peer.head().await.assert_upgraded("websocket");
    echo(&mut peer).await;
    assert_has(&format!(
        "tower_upgrade_sessions_opened_total{{{websocket}}} 1"
    ));
    assert_has(&format!("tower_upgrade_sessions_open{{{websocket}}} 1"));
    peer.finish().await;
    let _ = peer.rest().await;
    let closed =
        format!("tower_upgrade_sessions_closed_total{{{websocket},reason=\"finished\"}} 1");
    until(|| exporter.render().contains(&closed)).await;
    assert_has(&format!("tower_upgrade_sessions_open{{{websocket}}} 0"));
    let (read, written) = FRAME_LENGTHS;
    for (direction, bytes) in [("read", read), ("written", written)] {
        assert_has(&format!(
            "tower_upgrade_session_bytes_total{{{websocket},direction=\"{direction}\"}} {bytes}"
        ));
    }

    // The client's text is not a label.
    let server = Server::start(govern.layer(raw(Count::default()))).await;
    let mut peer = server.connect().await;
    peer.send(crate::support::offer("my-own-protocol", &[]))
        .await;
    peer.head().await.assert_upgraded("my-own-protocol");
    assert_has(&format!("tower_upgrade_sessions_opened_total{{{other}}} 1"));
    assert!(!exporter.render().contains("my-own-protocol"));
}
