//! socketioxide, by the text messages of Engine.IO and Socket.IO.

use axum::{Router, routing::get};
use socketioxide::{
    SocketIo,
    extract::{Data, SocketRef},
};
use tower::Layer as _;
use tower_upgrade::{Sessions, UpgradeLayer};
use tower_upgrade_foreign::{Server, Starts, Step, Upgrader, boxed, checks, exchange};

fn upgrader() -> Upgrader {
    let starts = Starts::default();
    let counted = starts.clone();
    let (layer, io) = SocketIo::new_layer();
    io.ns("/", async move |socket: SocketRef| {
        counted.add();
        socket.on(
            "message",
            async |socket: SocketRef, Data::<String>(text)| {
                let _ = socket.emit("reply", &text);
            },
        );
    });
    let router = Router::new()
        .route("/", get(|| async { "page" }))
        .layer(layer);
    Upgrader {
        service: boxed(router),
        starts,
        path: "/socket.io/?EIO=4&transport=websocket",
        subprotocol: None,
        dialogue: &[
            Step::Expect("0{"),
            Step::Send("40"),
            Step::Expect("40{"),
            Step::Send(r#"42["message","hello"]"#),
            Step::Expect(r#"42["reply","hello"]"#),
        ],
    }
}

checks!(upgrader());

/// The transport begins as HTTP polling, which the layer passes on, and upgrades to a WebSocket.
#[tokio::test]
async fn a3_polling_transport_upgrades_to_websocket() {
    let upgrader = upgrader();
    let sessions = Sessions::new();
    let layer = UpgradeLayer::new().sessions(sessions.clone()).govern();
    let server = Server::start(layer.layer(upgrader.service)).await;
    let request = |method: &str, sid: &str, body: &str| {
        format!(
            "{method} /socket.io/?EIO=4&transport=polling{sid} HTTP/1.1\r\nHost: test\r\n\
            Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let open = server.ask(request("GET", "", "")).await;
    let (_, rest) = open.split_once(r#""sid":""#).expect("an open packet");
    let (sid, _) = rest.split_once('"').expect("an id");
    let query = format!("&sid={sid}");
    let answer = server.ask(request("POST", &query, "40")).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let answer = server.ask(request("GET", &query, "")).await;
    assert!(answer.contains("40{"), "{answer}");
    assert!(sessions.is_empty());

    let path = format!("/socket.io/?EIO=4&transport=websocket{query}");
    let mut client = server.connect(&path, None).await.expect("a WebSocket");
    let steps = [
        Step::Send("2probe"),
        Step::Expect("3probe"),
        Step::Send("5"),
        Step::Send(r#"42["message","hello"]"#),
        Step::Expect(r#"42["reply","hello"]"#),
    ];
    exchange(&mut client, &steps).await;
    assert_eq!(upgrader.starts.get(), 1);
    assert_eq!(
        sessions.list()[0].protocol().expect("a protocol"),
        &"websocket"
    );
}
