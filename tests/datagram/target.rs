//! D4 on the wire: unreachable targets.

use crate::{
    capsules::assert_failed,
    proxy::{Proxy, VERSIONS, recv_from, target},
    support::{log::Log, until},
};
use std::io::ErrorKind;

/// It is the target's fault, and needs no attention of the operator.
#[tokio::test]
async fn d4_icmp_error_ends_the_session_and_is_logged_at_debug() {
    for via in VERSIONS {
        let (log, _guard) = Log::start();
        let (socket, address) = target().await;
        let proxy = Proxy::start(via, address).await;
        let mut flow = proxy.open(address).await;
        flow.send(b"hello").await;
        assert_eq!(recv_from(&socket).await.0, b"hello");
        drop(socket);
        flow.send(b"closed").await;
        flow.peer.expect_end().await;
        assert_failed(&proxy.closed().await, ErrorKind::ConnectionRefused);
        until(|| !log.lines("session failed").is_empty()).await;
        let failed = log.lines("session failed");
        assert!(
            failed.len() == 1 && failed[0].contains("DEBUG"),
            "{failed:?}"
        );
    }
}
