//! Three nodes of the example `chat` with Redis, behind HAProxy, while nodes and Redis fail and restart: no client misses
//! an acknowledged message, or gets one twice. Fails with a hint if Redis or HAProxy is not installed.
//!
//! | variable | default | |
//! |---|---|---|
//! | `NODES_CLIENTS` | 500 | the number of clients |
//! | `NODES_ROUNDS` | 1 | how often each node is killed and restarted |
//! | `NODES_PROGRAM` | | the program of the example, for example an optimized one |
//!
//! The long run: `NODES_CLIENTS=2000 NODES_ROUNDS=10 cargo test --release --all-features --test nodes -- --nocapture`,
//! and with ` --ignored` the measurements for the README of the example.

#![cfg(unix)]

mod client;
mod cluster;
#[path = "../peers/haproxy.rs"]
mod haproxy;
mod measure;
#[path = "../support/mod.rs"]
mod support;
mod verdict;

use client::{Clients, Socket};
use cluster::{Cluster, admin, get};
use futures_util::StreamExt as _;
use std::{
    str::FromStr,
    time::{Duration, Instant},
};
use support::soon;
use tokio::time::sleep;
use tokio_tungstenite::tungstenite::Message;

/// The number of members of a room.
const ROOM: usize = 25;

fn setting<T: FromStr>(name: &str, default: T) -> T {
    let found = std::env::var(name).ok();
    found.and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_message_is_lost_or_repeated_while_nodes_and_redis_fail() {
    let (number, rounds) = (
        setting("NODES_CLIENTS", 500),
        setting("NODES_ROUNDS", 1_usize),
    );
    let mut cluster = Cluster::start().await;
    let clients = Clients::start(cluster.address(), number, ROOM).await;
    clients.until_presence_is_right(&[]).await;
    clients.send(Duration::from_millis(500));
    sleep(Duration::from_secs(2)).await;

    for _ in 0..rounds {
        for node in 0..3 {
            // The ghost is a member on this node only, and does not reconnect.
            let name = format!("ghost-{node}");
            let ghost = client::ghost(cluster.node_address(node), &name).await;
            clients.until_presence_is_right(&[&name]).await;
            cluster.kill(node).await;
            let killed = Instant::now();
            clients.until_presence_is_right(&[]).await;
            let elapsed = killed.elapsed();
            println!("presence is right {elapsed:?} after kill -9");
            // The short run may share its machine with other tests.
            assert!(rounds == 1 || elapsed < Duration::from_secs(5));
            drop(ghost);
            cluster.start_node(node).await;
            clients.check();
        }

        cluster.kill_redis().await;
        cluster.until_health(503).await;
        clients.until_sends_fail().await;
        cluster.start_redis().await;
        cluster.until_health(200).await;
        clients.until_sends_succeed().await;
        clients.check();

        let before = clients.failed_attempts();
        for node in 0..3 {
            cluster.restart(node).await;
            clients.until_sends_succeed().await;
        }
        let failed = clients.failed_attempts() - before;
        assert_eq!(failed, 0, "attempts to connect during a rolling restart");
        clients.check();
    }

    clients.finish_sending().await;
    clients.until_all_is_received().await;
    clients.until_presence_is_right(&[]).await;
    println!("{}", clients.summary());

    clients.expect_loss();
    cluster.wipe_redis().await;
    clients.until_all_report_loss().await;
    drop(clients);
    cluster.stop().await;
}

/// Receives until a close frame, and returns its code.
async fn close_code(socket: &mut Socket) -> u16 {
    loop {
        let message = soon(socket.next()).await.expect("a message");
        if let Message::Close(frame) = message.expect("a message") {
            return frame.expect("a code").code.into();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_and_administration_span_nodes() {
    let cluster = Cluster::start().await;
    let [a, b, c] = [0, 1, 2].map(|node| cluster.node_address(node));
    let connect = |address, name| client::connect(address, name, "lobby", None);
    let mut ann = connect(a, "ann").await.expect("a session");
    let mut bob = connect(b, "bob").await.expect("a session");

    // Another page must not take the name, the same page replaces its session.
    for address in [a, b, c] {
        assert_eq!(get(address, "/api/admission?name=Ann&key=other").await, 409);
        assert_eq!(get(address, "/api/admission?name=Ann&key=ann").await, 204);
    }
    let mut again = connect(c, "ann").await.expect("a session");
    assert_eq!(close_code(&mut ann).await, 4001);
    drop(ann);
    assert_eq!(get(b, "/api/admission?name=Ann&key=other").await, 409);

    let sessions = soon(async {
        loop {
            let list = admin(a, "GET", "/admin/sessions").await;
            if list["open"] == 2 && list["nodes"] == 3 {
                return list["sessions"].as_array().expect("a list").clone();
            }
            sleep(Duration::from_millis(50)).await;
        }
    });
    let sessions = sessions.await;
    let found = sessions.iter().find(|session| session["who"] == "bob");
    let found = found.expect("the session on the other node");
    let node = found["node"].as_str().expect("a node");
    let path = format!("/admin/sessions/{node}/{}", found["id"]);
    admin(a, "DELETE", &path).await;
    assert_eq!(close_code(&mut bob).await, 4002);
    drop(bob);
    soon(async {
        while get(a, "/api/admission?name=bob&key=other").await != 204 {
            sleep(Duration::from_millis(50)).await;
        }
    })
    .await;

    admin(a, "POST", "/admin/drain").await;
    assert_eq!(close_code(&mut again).await, 1001);
    for address in [a, b, c] {
        soon(async {
            while get(address, "/ready").await != 503 {
                sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
    }
    cluster.stop().await;
}
