//! D4 on the wire: unreachable targets.

use crate::{
    capsules::assert_failed,
    proxy::{Proxy, VERSIONS, recv_from, target},
};
use std::io::ErrorKind;

#[tokio::test]
async fn d4_icmp_error_ends_the_session() {
    for via in VERSIONS {
        let (socket, address) = target().await;
        let proxy = Proxy::start(via, address).await;
        let mut flow = proxy.open(address).await;
        flow.send(b"hello").await;
        assert_eq!(recv_from(&socket).await.0, b"hello");
        drop(socket);
        flow.send(b"nobody listens").await;
        flow.peer.expect_end().await;
        assert_failed(&proxy.closed().await, ErrorKind::ConnectionRefused);
    }
}
