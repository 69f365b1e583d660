//! warp's `ws` filter.

use futures_util::StreamExt as _;
use tower_upgrade_foreign::{Starts, Step, Upgrader, boxed, checks};
use warp::Filter as _;

fn upgrader() -> Upgrader {
    let starts = Starts::default();
    let counted = starts.clone();
    let route = warp::path("echo")
        .and(warp::ws())
        .map(move |ws: warp::ws::Ws| {
            let starts = counted.clone();
            ws.on_upgrade(move |socket| async move {
                starts.add();
                let (sink, stream) = socket.split();
                let _ = stream.forward(sink).await;
            })
        });
    Upgrader {
        service: boxed(warp::service(route)),
        starts,
        path: "/echo",
        subprotocol: None,
        dialogue: &[Step::Send("hello"), Step::Expect("hello")],
    }
}

checks!(upgrader());
