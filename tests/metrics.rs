//! The metrics, scraped as Prometheus does.

#[path = "support/mod.rs"]
mod support;

use axum::{
    Router,
    response::Response,
    routing::{any, get},
};
use http::StatusCode;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use support::{Peer, Server, Via, handlers::run_echo, head, offer, plain, soon, text, until};
use tokio::{io::AsyncReadExt as _, net::TcpStream};
use tower::{Layer as _, service_fn};
use tower_upgrade::{
    Accept, BoxError, ProtocolHandler, Rejection, Session, Sessions, UpgradeLayer, UpgradeRequest,
    extract, handler_fn,
};

/// Ends the session as the client's byte instructs.
async fn obey(mut session: Session) -> Result<(), BoxError> {
    match session.io_mut().read_u8().await? {
        b'f' => Ok(()),
        b'p' => panic!("on purpose"),
        _ => run_echo(session).await,
    }
}

struct Refuse;

impl ProtocolHandler for Refuse {
    async fn accept(&self, _request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        Err(StatusCode::FORBIDDEN.into())
    }
}

/// Returns the exporter's page.
async fn scrape(exporter: &PrometheusHandle) -> String {
    let exporter = exporter.clone();
    let page = Router::new().route("/metrics", get(move || async move { exporter.render() }));
    let server = Server::start_via(Via::Auto, page).await;
    let mut peer = server.connect().await;
    peer.send(head(&[
        "GET /metrics HTTP/1.1",
        "Host: test",
        "Connection: close",
    ]))
    .await;
    text(&peer.rest().await.expect("a page"))
}

#[track_caller]
fn assert_has(page: &str, lines: &[&str]) {
    for line in lines {
        assert!(
            page.lines().any(|found| found == *line),
            "no {line} in\n{page}"
        );
    }
}

async fn open(server: &Server, protocol: &str, say: &str) -> Peer<TcpStream> {
    let mut peer = server.connect().await;
    peer.send(offer(protocol, &[])).await;
    peer.head().await.assert_upgraded(protocol);
    peer.send(say).await;
    peer
}

/// Returns the names of the metrics in an expression of PromQL, each with the labels that follow it in braces.
fn selectors(expression: &str) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    for rest in expression.split("tower_upgrade_").skip(1) {
        let end = rest.find(|c: char| !(c.is_ascii_lowercase() || c == '_'));
        let (name, rest) = rest.split_at(end.unwrap_or(rest.len()));
        let braces = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
        let matchers = braces.map_or("", |(matchers, _)| matchers);
        let labels = matchers.split(',').filter_map(|one| one.split_once('='));
        let labels = labels.map(|(label, _)| label.to_owned()).collect();
        found.push((format!("tower_upgrade_{name}"), labels));
    }
    found
}

#[tokio::test]
async fn dashboard_has_exported_metrics_and_labels() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let exporter = recorder.handle();
    let _guard = metrics::set_default_local_recorder(&recorder);
    tower_upgrade::metrics::describe();
    let sessions = Sessions::new();
    let layer = UpgradeLayer::new()
        .sessions(sessions.clone())
        .protocol("obey", handler_fn(obey))
        .protocol("refuse", Refuse);
    let server = Server::start(layer.layer(service_fn(plain))).await;
    open(&server, "obey", "f").await.expect_end().await;
    let mut refused = server.connect().await;
    refused.send(offer("refuse", &[])).await;
    assert_eq!(refused.head().await.status, 403);
    until(|| sessions.is_empty()).await;
    let page = scrape(&exporter).await;
    let has_series = |name: &str, label: &str| {
        let mut series = page.lines().filter_map(|line| line.split_once('{'));
        series.any(|(found, labels)| found == name && labels.contains(&format!("{label}=\"")))
    };

    let dashboard = include_str!("../docs/grafana.json");
    let dashboard: serde_json::Value = serde_json::from_str(dashboard).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels").iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().expect("targets"));
    let mut shown = Vec::new();
    for expression in targets.map(|target| target["expr"].as_str().expect("an expression")) {
        // The labels to sum by belong to all metrics of the expression.
        let groups = expression.split(" by (").skip(1);
        let groups = groups.filter_map(|rest| Some(rest.split_once(')')?.0.to_owned()));
        let groups: Vec<String> = groups.collect();
        for (name, labels) in selectors(expression) {
            assert!(
                page.contains(&format!("\n{name}{{")),
                "{name} is not in\n{page}"
            );
            // Prometheus adds `instance`.
            for label in labels
                .iter()
                .chain(&groups)
                .filter(|label| *label != "instance")
            {
                assert!(has_series(&name, label), "{name} has no label {label}");
            }
            shown.push(name);
        }
    }
    // The dashboard shows every metric.
    for line in page.lines().filter(|line| line.starts_with("# TYPE ")) {
        let name = line.split(' ').nth(2).expect("a name");
        assert!(
            shown.iter().any(|shown| shown.starts_with(name)),
            "{name} is not shown"
        );
    }
}

#[tokio::test]
async fn prometheus_scrape_has_all_metrics() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let exporter = recorder.handle();
    let _guard = metrics::set_default_local_recorder(&recorder);
    tower_upgrade::metrics::describe();

    let sessions = Sessions::new();
    let layer = UpgradeLayer::new()
        .sessions(sessions.clone())
        .protocol("Obey", handler_fn(obey))
        .protocol("refuse", Refuse)
        .connect(handler_fn(obey));
    let server = Server::start(layer.layer(service_fn(plain))).await;

    // The label is the registered protocol name, not the client's spelling.
    let mut finished = open(&server, "OBEY/my-own-version", "f").await;
    finished.expect_end().await;
    open(&server, "obey", "p").await.expect_end().await;
    let mut tunnel = server.connect().await;
    tunnel
        .send(head(&["CONNECT test:1 HTTP/1.1", "Host: test:1"]))
        .await;
    assert_eq!(tunnel.head().await.status, 200);
    for _ in 0..2 {
        let mut refused = server.connect().await;
        refused.send(offer("refuse", &[])).await;
        assert_eq!(refused.head().await.status, 403);
    }
    until(|| sessions.len() == 1).await;

    let page = scrape(&exporter).await;
    let upgrade = "kind=\"upgrade\",protocol=\"Obey\"";
    let connect = "kind=\"connect\",protocol=\"connect\"";
    assert_has(
        &page,
        &[
            &format!("tower_upgrade_sessions_opened_total{{{upgrade}}} 2"),
            &format!("tower_upgrade_sessions_opened_total{{{connect}}} 1"),
            &format!("tower_upgrade_sessions_open{{{upgrade}}} 0"),
            &format!("tower_upgrade_sessions_open{{{connect}}} 1"),
            &format!("tower_upgrade_sessions_closed_total{{{upgrade},reason=\"finished\"}} 1"),
            &format!("tower_upgrade_sessions_closed_total{{{upgrade},reason=\"panicked\"}} 1"),
            &format!("tower_upgrade_session_bytes_total{{{upgrade},direction=\"read\"}} 2"),
            &format!("tower_upgrade_session_bytes_total{{{upgrade},direction=\"written\"}} 0"),
            &format!(
                "tower_upgrade_session_duration_seconds_count{{{upgrade},reason=\"finished\"}} 1"
            ),
            &format!("tower_upgrade_accept_duration_seconds_count{{{upgrade}}} 2"),
            &format!("tower_upgrade_accept_duration_seconds_count{{{connect}}} 1"),
            "tower_upgrade_rejections_total{status=\"403\"} 2",
        ],
    );
    assert!(!page.contains("my-own-version"), "{page}");
    for series in page.lines().filter(|line| line.starts_with("# TYPE ")) {
        let name = series.split(' ').nth(2).expect("a name");
        assert!(page.contains(&format!("# HELP {name} ")), "{page}");
    }

    tunnel.send("echo").await;
    assert_eq!(tunnel.exactly(3).await, b"cho");
    tunnel.finish().await;
    tunnel.expect_end().await;
    until(|| sessions.is_empty()).await;
    let page = scrape(&exporter).await;
    assert_has(
        &page,
        &[
            &format!("tower_upgrade_sessions_open{{{connect}}} 0"),
            &format!("tower_upgrade_session_bytes_total{{{connect},direction=\"read\"}} 4"),
            &format!("tower_upgrade_session_bytes_total{{{connect},direction=\"written\"}} 3"),
        ],
    );
}

#[tokio::test]
async fn sessions_of_extractors_are_counted() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let exporter = recorder.handle();
    let _guard = metrics::set_default_local_recorder(&recorder);

    async fn echo(upgrade: extract::UpgradeRequest) -> Response {
        upgrade.accept("Echo", Accept::new(run_echo)).await
    }
    async fn greet(upgrade: extract::WebSocketUpgrade) -> Response {
        upgrade.on_upgrade(|_socket| async { Ok(()) })
    }
    let app = Router::new()
        .route("/", any(echo))
        .route("/ws", any(greet))
        .layer(UpgradeLayer::new());
    let server = Server::start(app).await;
    let mut peer = open(&server, "echo", "hello").await;
    assert_eq!(peer.exactly(5).await, b"hello");
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    let opening = offer("websocket", &["Sec-WebSocket-Version: 13", key]);
    let mut socket = server.connect().await;
    socket.send(opening.replace("GET / ", "GET /ws ")).await;
    socket.head().await.assert_upgraded("websocket");

    let page = scrape(&exporter).await;
    for protocol in ["Echo", "websocket"] {
        let labels = format!("kind=\"upgrade\",protocol=\"{protocol}\"");
        assert_has(
            &page,
            &[
                &format!("tower_upgrade_sessions_opened_total{{{labels}}} 1"),
                &format!("tower_upgrade_accept_duration_seconds_count{{{labels}}} 1"),
            ],
        );
    }
}

#[tokio::test]
async fn any_protocol_is_labelled_other() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let exporter = recorder.handle();
    let _guard = metrics::set_default_local_recorder(&recorder);

    let layer = UpgradeLayer::new().any_protocol(handler_fn(obey));
    let server = Server::start(layer.layer(service_fn(plain))).await;
    for protocol in ["one", "two/2"] {
        open(&server, protocol, "f").await.expect_end().await;
    }

    let page = scrape(&exporter).await;
    let labels = "kind=\"upgrade\",protocol=\"other\"";
    assert_has(
        &page,
        &[
            &format!("tower_upgrade_sessions_opened_total{{{labels}}} 2"),
            &format!("tower_upgrade_accept_duration_seconds_count{{{labels}}} 2"),
        ],
    );
    assert!(!page.contains("two"), "{page}");
}

/// A recorder that panics when a counter is registered.
struct Full;

impl Recorder for Full {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        panic!("no room for {}", key.name())
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[tokio::test]
async fn panic_in_the_recorder_is_caught() {
    let _guard = metrics::set_default_local_recorder(&Full);
    let (sender, mut closed) = tokio::sync::mpsc::unbounded_channel();
    let layer = UpgradeLayer::new()
        .on_close(move |closed| sender.send(closed.reason().as_str()).expect("a test"))
        .protocol("echo", handler_fn(run_echo));
    let server = Server::start(layer.layer(service_fn(plain))).await;
    let mut peer = open(&server, "echo", "hello").await;
    assert_eq!(peer.exactly(5).await, b"hello");
    peer.finish().await;
    peer.expect_end().await;
    assert_eq!(soon(closed.recv()).await, Some("finished"));
}
