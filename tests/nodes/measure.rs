//! Deliveries per second and latencies, for the README of the example. Not a test: run it by hand, optimized.

use crate::{
    client::Clients,
    cluster::{Cluster, Node},
    setting,
};
use std::time::{Duration, Instant};
use tokio::time::sleep;

async fn measure(mode: &str, address: String) {
    let number = setting("NODES_CLIENTS", 500);
    let clients = Clients::start(address, number, 50).await;
    for pause in [0, 500] {
        clients.send(Duration::from_millis(pause));
        sleep(Duration::from_secs(3)).await;
        clients.clear_latencies();
        let (before, started) = (clients.deliveries(), Instant::now());
        sleep(Duration::from_secs(10)).await;
        let rate = (clients.deliveries() - before) as f64 / started.elapsed().as_secs_f64();
        let (p50, p99) = (clients.latency(50), clients.latency(99));
        println!("\n| {mode} | {number} | {pause} ms | {rate:.0} | {p50:.1} ms | {p99:.1} ms |");
    }
    clients.finish_sending().await;
    clients.until_all_is_received().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn measure_one_embedded_node() {
    let log = std::env::temp_dir().join("tower-upgrade-embedded");
    let mut node = Node::start(&[], &log).await;
    measure("embedded", node.address.clone()).await;
    node.signal("TERM").await;
    let _ = std::fs::remove_file(log);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn measure_three_nodes_with_redis() {
    let cluster = Cluster::start().await;
    measure("three nodes, Redis, HAProxy", cluster.address()).await;
    cluster.stop().await;
}
