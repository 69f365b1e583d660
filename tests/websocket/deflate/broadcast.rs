//! Compressed broadcasts.

use super::{RSV1, Streams, config, open, send, serve, takeover};
use crate::{
    handler,
    support::{
        Server, Via, until,
        websocket::{FIN, Frame, TEXT},
    },
};
use tower_upgrade::websocket::{Broadcast, Deflate, WebSocket};

const ALONE: &str = "permessage-deflate; server_no_context_takeover";
const TAKEOVER: &str = "permessage-deflate";

/// Serves listeners that echo the messages of their peers.
async fn serve_listeners(room: &Broadcast<u8>, deflate: Deflate) -> Server {
    let room = room.clone();
    let listener = handler(move |mut socket: WebSocket| {
        let room = room.clone();
        async move {
            let _subscription = room.subscribe(0, &socket);
            while let Some(message) = socket.recv().await {
                socket.send(message?).await?;
            }
            Ok(())
        }
    });
    serve(Via::Http1, listener.config(config(deflate))).await
}

#[tokio::test]
async fn w7_broadcast_is_compressed_as_each_session_agreed() {
    let room = Broadcast::new(8);
    let server = serve_listeners(&room, takeover()).await;
    let other = serve_listeners(&room, takeover().level(0)).await;
    let mut listeners = Vec::new();
    for (server, offered) in [
        (&server, ALONE),
        (&server, TAKEOVER),
        (&server, "x-unknown"),
        (&other, ALONE),
    ] {
        listeners.push((open(server, offered).await.0, Streams::new()));
    }
    until(|| room.subscriptions(&0) == 4).await;

    let message = "a broadcast, a broadcast, a broadcast";
    assert_eq!(room.send(&0, message).expect("a valid message"), 4);
    let mut payloads = Vec::new();
    for (at, (peer, streams)) in listeners.iter_mut().enumerate() {
        let frame = Frame::read(peer).await;
        // Level 0 does not shorten the message.
        if at < 2 {
            assert_eq!(frame.first, FIN | RSV1 | TEXT);
            assert!(streams.decompress(&frame.payload) == message.as_bytes());
            payloads.push(frame.payload);
        } else {
            assert_eq!(frame.first, FIN | TEXT);
            assert_eq!(frame.payload, message.as_bytes());
        }
    }
    assert_eq!(payloads[0], payloads[1], "compressed once");

    // With context takeover, a later message refers to the broadcast.
    for (at, is_short) in [(0, false), (1, true)] {
        let (peer, streams) = &mut listeners[at];
        send(peer, Frame::new(TEXT, message)).await;
        let frame = Frame::read(peer).await;
        assert_eq!(frame.first, FIN | RSV1 | TEXT);
        assert!(streams.decompress(&frame.payload) == message.as_bytes());
        assert_eq!(frame.payload.len() < 10, is_short, "{frame:?}");
    }
}

#[tokio::test]
async fn w7_short_broadcast_is_not_compressed() {
    let room = Broadcast::new(8);
    let server = serve_listeners(&room, Deflate::new()).await;
    let (mut peer, _) = open(&server, ALONE).await;
    until(|| room.subscriptions(&0) == 1).await;
    room.send(&0, "short").expect("a valid message");
    assert_eq!(Frame::read(&mut peer).await.first, FIN | TEXT);
}
