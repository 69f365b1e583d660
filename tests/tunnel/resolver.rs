//! A forward proxy: resolvers of users, and of other crates.

use crate::{
    connect::{proxy, send_connect},
    support::tunnel::{Resolver, Target, loopback},
};
use http::StatusCode;
use hyper_util::client::legacy::connect::dns::GaiResolver;
use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::lookup_host,
};
use tower::ServiceExt as _;
use tower_upgrade::{
    BoxError,
    tunnel::{ConnectProxy, Resolve},
};

/// Opens a tunnel to `host` with the resolver.
async fn expect_tunnel(host: &str, resolver: impl Resolve) {
    let target = Target::start().await;
    let port = target.address.port();
    let handler = ConnectProxy::new(loopback(port)).resolver(resolver);
    let exchange = send_connect(proxy(handler), &format!("{host}:{port}")).await;
    let mut tunnel = exchange.expect_connected();
    tunnel.write_all(b"hello").await.expect("a tunnel");
    let mut echo = [0; 5];
    tunnel.read_exact(&mut echo).await.expect("an echo");
    assert_eq!(echo, *b"hello");
}

#[tokio::test]
async fn function_of_tokio_is_a_resolver() {
    expect_tunnel("localhost", |host: String| lookup_host((host, 0))).await;
}

#[tokio::test]
async fn service_of_hyper_util_resolves_in_a_closure() {
    let resolver = GaiResolver::new();
    let resolver = move |host: String| {
        let resolver = resolver.clone();
        async move { Ok::<_, BoxError>(resolver.oneshot(host.parse()?).await?) }
    };
    expect_tunnel("localhost", resolver).await;
}

#[tokio::test]
async fn resolver_gets_the_host_as_sent_and_its_ports_are_ignored() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let resolver = {
        let asked = Arc::clone(&asked);
        move |host: String| {
            asked.lock().expect("no panic").push(host);
            async { Ok::<_, io::Error>([SocketAddr::from(([127, 0, 0, 1], 1))]) }
        }
    };
    expect_tunnel("Any.Test.", resolver).await;
    assert_eq!(*asked.lock().expect("no panic"), ["Any.Test."]);
}

#[tokio::test]
async fn shared_resolver_is_a_resolver() {
    let resolver = Arc::new(Resolver::of(&["127.0.0.1"]));
    expect_tunnel("any.test", Arc::clone(&resolver)).await;
    assert_eq!(resolver.asked(), 1);
}

#[tokio::test]
async fn addresses_of_a_closure_are_checked_by_the_policy() {
    let resolver =
        |_: String| async { Ok::<_, BoxError>([SocketAddr::from(([10, 0, 0, 1], 443))]) };
    let handler = ConnectProxy::new(loopback(443)).resolver(resolver);
    let exchange = send_connect(proxy(handler), "any.test:443").await;
    exchange.expect_rejected(StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn error_of_a_closure_is_a_bad_gateway() {
    let resolver = |_: String| async { Err::<[SocketAddr; 0], _>("the database is offline") };
    let handler = ConnectProxy::new(loopback(443)).resolver(resolver);
    let exchange = send_connect(proxy(handler), "any.test:443").await;
    let response = exchange.expect_rejected(StatusCode::BAD_GATEWAY);
    assert_eq!(*response.body(), "the host cannot be resolved");
}
