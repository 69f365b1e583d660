//! The end of a session on both connections.

use crate::{
    chain::{front, proxy, scripted, send_through, serve, upgrade_response},
    support::{
        Via,
        clients::Scripted,
        h2::{Client, extended_connect},
        offer, soon, until,
    },
};
use std::time::Duration;
use tower_upgrade::{Sessions, UpgradeLayer};

#[tokio::test]
async fn half_close_of_either_side_is_forwarded() {
    let (backend, front) = scripted().await;
    for backend_first in [false, true] {
        let (_, mut client, mut at_backend) =
            send_through(&front, &backend, &offer("chat", &[])).await;
        at_backend.send(upgrade_response("chat", &[])).await;
        client.head().await.assert_upgraded("chat");
        let (first, second) = match backend_first {
            true => (&mut at_backend, &mut client),
            false => (&mut client, &mut at_backend),
        };
        first.send("last words").await;
        first.finish().await;
        assert_eq!(second.rest().await.expect("an orderly end"), b"last words");
        second.send("and an answer").await;
        assert_eq!(first.exactly(13).await, b"and an answer");
        second.finish().await;
        first.expect_end().await;
    }
}

#[tokio::test]
async fn half_close_is_forwarded_over_http2() {
    let (backend, front) = scripted().await;
    for backend_first in [false, true] {
        let mut client = Client::connect(front.connect().await).await;
        let request = extended_connect("chat").body(()).expect("a request");
        let answering = async {
            let mut at_backend = backend.accept().await;
            at_backend.request_head().await;
            at_backend.send(upgrade_response("chat", &[])).await;
            at_backend
        };
        let (answer, at_backend) =
            soon(async { tokio::join!(client.ask(request), answering) }).await;
        let (mut first, mut second) = (answer.expect_upgraded().boxed(), at_backend.boxed());
        if backend_first {
            std::mem::swap(&mut first, &mut second);
        }
        first.send("last words").await;
        first.finish().await;
        assert_eq!(second.rest().await.expect("an orderly end"), b"last words");
        second.send("and an answer").await;
        assert_eq!(first.exactly(13).await, b"and an answer");
        second.finish().await;
        first.expect_end().await;
    }
}

#[tokio::test]
async fn client_disconnect_before_response_closes_backend() {
    let (backend, front) = scripted().await;
    let (_, client, mut at_backend) = send_through(&front, &backend, &offer("chat", &[])).await;
    drop(client);
    at_backend.expect_end().await;

    let mut client = Client::connect(front.connect().await).await;
    let request = extended_connect("chat").body(()).expect("a request");
    let (response, stream) = client.send(request).await;
    let mut at_backend = backend.accept().await;
    at_backend.request_head().await;
    drop((response, stream));
    at_backend.expect_end().await;
    // The HTTP/2 connection stays open.
    assert_eq!(client.get_text("/next").await, "plain GET /next");
}

#[tokio::test]
async fn client_disconnect_during_rejection_closes_backend() {
    let (backend, front) = scripted().await;
    let (_, mut client, mut at_backend) = send_through(&front, &backend, &offer("chat", &[])).await;
    at_backend
        .send("HTTP/1.1 403 No\r\nContent-Length: 1000000\r\n\r\nno")
        .await;
    assert_eq!(client.head().await.status, 403);
    drop(client);
    at_backend.expect_end().await;
}

#[tokio::test(start_paused = true)]
async fn drain_ends_tunnels() {
    let backend = Scripted::start().await;
    let sessions = Sessions::new();
    let layer = UpgradeLayer::new()
        .sessions(sessions.clone())
        .any_protocol(proxy(Via::Http1, backend.address));
    let front = serve(layer).await;
    let (_, mut client, mut at_backend) =
        send_through(&front, &backend, &offer("chat/9", &[])).await;
    at_backend.send(upgrade_response("chat/9", &[])).await;
    client.head().await.assert_upgraded("chat/9");
    until(|| sessions.list().len() == 1).await;
    let listed = sessions.list();
    assert_eq!(listed[0].protocol().expect("a protocol"), &"chat/9");
    // The relay is silent, so it ends before its deadline.
    let report = soon(sessions.drain(Duration::from_secs(20))).await;
    let ends = (report.ended, report.aborted, report.left);
    assert_eq!(ends, (1, 0, 0), "{report}");
    client.expect_end().await;
    at_backend.expect_end().await;
    // The drained registry stays closed.
    let mut late = front.connect().await;
    late.send(offer("chat/9", &[])).await;
    assert_eq!(late.response().await.0.status, 503);
}

/// A session counts from the request to the backend on.
#[tokio::test]
async fn undecided_request_counts_as_a_session() {
    let backend = Scripted::start().await;
    let sessions = Sessions::builder().max(1).build();
    let layer = UpgradeLayer::new()
        .sessions(sessions.clone())
        .any_protocol(proxy(Via::Http1, backend.address));
    let front = serve(layer).await;
    let (_, _client, mut at_backend) = send_through(&front, &backend, &offer("chat", &[])).await;
    let mut second = front.connect().await;
    second.send(offer("chat", &[])).await;
    assert_eq!(second.response().await.0.status, 503);
    at_backend
        .send("HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")
        .await;
    until(|| sessions.is_empty()).await;
}

/// Dropping the response head does not break the tunnel.
#[tokio::test]
async fn concurrent_bulk_transfers_complete() {
    let backend = Scripted::start().await;
    let front = front(proxy(Via::Http1, backend.address)).await;
    let (_, mut client, mut at_backend) = send_through(&front, &backend, &offer("chat", &[])).await;
    let sent: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 249) as u8).collect();
    at_backend.send(upgrade_response("chat", &[])).await;
    client.head().await.assert_upgraded("chat");
    let (mut from_client, mut to_client) = tokio::io::split(client.io);
    let (mut from_backend, mut to_backend) = tokio::io::split(at_backend.io);
    let write = async |io: &mut (dyn tokio::io::AsyncWrite + Unpin + Send)| {
        use tokio::io::AsyncWriteExt as _;
        io.write_all(&sent).await.expect("an open tunnel");
        io.shutdown().await.expect("an open tunnel");
    };
    let read = async |io: &mut (dyn tokio::io::AsyncRead + Unpin + Send)| {
        use tokio::io::AsyncReadExt as _;
        let mut read = Vec::new();
        io.read_to_end(&mut read).await.expect("an orderly end");
        assert!(read == sent);
    };
    soon(async {
        tokio::join!(
            write(&mut to_client),
            write(&mut to_backend),
            read(&mut from_client),
            read(&mut from_backend),
        )
    })
    .await;
}
