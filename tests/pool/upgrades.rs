//! Upgrades through the pool.

use crate::{
    backend::{BOTH, Backend, exchange, get, reflect, settle},
    support::{clients::expect_session, handlers::echo, soon},
};
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_upgrade::client::{Body, Request, UpgradeLayer};

#[tokio::test(start_paused = true)]
async fn upgrade_has_its_connection() {
    for version in BOTH {
        let layer = tower_upgrade::UpgradeLayer::new()
            .protocol("echo", echo())
            .connect(echo());
        let backend = Backend::serve(version, layer.layer(service_fn(reflect)));
        let pool = backend.pool(version);
        let client = UpgradeLayer::new().layer(pool.clone());
        exchange(&pool, get("/")).await;
        let upgrade = Request::get("/".parse().expect("a URI")).protocol("echo");
        let connect = Request::connect("example.com:443".parse().expect("a target"));
        for (opened, request) in [(2, upgrade), (3, connect)] {
            let request = request.body(Body::empty());
            let session = soon(client.clone().oneshot(request)).await;
            let mut peer = expect_session(session);
            assert_eq!(backend.opened(), opened, "{version:?}");
            exchange(&pool, get("/")).await;
            peer.expect_echo(b"hello").await;
            assert_eq!(backend.opened(), opened, "{version:?}");
            drop(peer);
            settle().await;
            assert_eq!(backend.open(), 1, "{version:?}");
        }
    }
}
