//! `Policy`: allowed targets, and the log of rejections.

use crate::{
    connect::{proxy, send_connect},
    support::{
        log::Log,
        text,
        tunnel::{Pending, Refuses, Resolver, Target, loopback},
    },
};
use http::StatusCode;
use std::io;
use tower_upgrade::tunnel::{ConnectProxy, Policy};

/// The response reveals no resolved address. The log contains them.
#[tokio::test]
async fn resolved_addresses_appear_only_in_the_log() {
    let refuses = Refuses::new();
    let port = refuses.address.port();
    let failing = || Resolver::new(|_, _| Err(io::Error::other("10.0.0.53 is unreachable")));
    let proxies = [
        (
            ConnectProxy::new(Policy::new().ports([port]))
                .resolver(Resolver::of(&["10.1.2.3", "::1"])),
            ["any.test resolves to", "10.1.2.3", "[::1]"],
        ),
        (
            ConnectProxy::new(loopback(port)).resolver(Resolver::of(&["127.0.0.1"])),
            ["127.0.0.1", "refused", ""],
        ),
        (
            ConnectProxy::new(Policy::new().ports([port])).resolver(failing()),
            ["any.test", "10.0.0.53 is unreachable", ""],
        ),
        (
            ConnectProxy::new(Policy::new()),
            ["any.test", &port.to_string(), ""],
        ),
        (
            ConnectProxy::new(Policy::new().ports([port]))
                .connect_timeout(std::time::Duration::from_millis(1))
                .resolver(Pending::default()),
            ["any.test", "timed out after 1ms", ""],
        ),
    ];
    for (handler, logged) in proxies {
        let (log, _guard) = Log::start();
        let exchange = send_connect(proxy(handler), &format!("any.test:{port}")).await;
        let response = exchange.response();
        let revealed = format!("{:?} {}", response.headers(), text(response.body()));
        for address in ["10.", "127.", "::1", "any.test"] {
            assert!(!revealed.contains(address), "{revealed}");
        }
        let lines = log.lines("upgrade rejected");
        assert_eq!(lines.len(), 1, "{lines:?}");
        for part in logged {
            assert!(lines[0].contains(part), "{part}: {lines:?}");
        }
    }
}

/// A name with many addresses does not fill the log.
#[tokio::test]
async fn log_lists_only_some_of_many_addresses() {
    let many: Vec<String> = (0..1000).map(|n| format!("fd00::{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let handler = ConnectProxy::new(Policy::new()).resolver(Resolver::of(&many));
    let (log, _guard) = Log::start();
    let exchange = send_connect(proxy(handler), "any.test:443").await;
    exchange.expect_rejected(StatusCode::FORBIDDEN);
    let lines = log.lines("upgrade rejected");
    assert!(
        lines[0].contains("fd00::") && lines[0].len() < 500,
        "{lines:?}"
    );
}

#[tokio::test]
async fn listed_host_is_allowed_only_at_its_port() {
    let (database, other) = (Target::start().await, Target::start().await);
    let policy = Policy::new()
        .ports([])
        .hosts([
            format!("database.test:{}", database.port()),
            format!("*.other.test:{}", other.port()),
        ])
        .allow_network("127.0.0.1/32".parse().unwrap());
    let handler = ConnectProxy::new(policy).resolver(Resolver::of(&["127.0.0.1"]));
    for (host, port, is_allowed) in [
        ("database.test", database.port(), true),
        ("DATABASE.test.", database.port(), true),
        ("database.test", other.port(), false),
        ("a.b.other.test", other.port(), true),
        ("other.test", other.port(), false),
        ("127.0.0.1", database.port(), false),
    ] {
        let target = format!("{host}:{port}");
        let exchange = send_connect(proxy(handler.clone()), &target).await;
        match is_allowed {
            true => drop(exchange.expect_connected()),
            false => drop(exchange.expect_rejected(StatusCode::FORBIDDEN)),
        }
    }
}

#[test]
fn invalid_host_pattern_is_an_error() {
    let error = Policy::new().try_hosts(["fine.test", "not fine"]);
    assert!(error.unwrap_err().to_string().contains("\"not fine\""));
    assert!(Policy::new().try_hosts(["fine.test"]).is_ok());
}
