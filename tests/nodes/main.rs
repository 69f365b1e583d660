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

use client::Clients;
use cluster::Cluster;
use std::{
    str::FromStr,
    time::{Duration, Instant},
};
use tokio::time::sleep;

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
            println!("presence is right {:?} after kill -9", killed.elapsed());
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
    cluster.stop().await;
}
