//! A reverse proxy between clients of HTTP/3 and a backend of another version.

use crate::{
    raw::{Client, DATA, End, frame},
    support::{self, Via, h3::Server, handlers::echo, plain},
};
use hyper_util::client::legacy::connect::HttpConnector;
use tower::{Layer as _, service_fn};
use tower_upgrade::{
    UpgradeLayer,
    client::{Dial, Pool},
    tunnel::ReverseProxy,
};

#[tokio::test]
async fn reverse_proxy_translates_http3_for_its_backend() {
    for via in [Via::Http1, Via::Http2] {
        let layer = UpgradeLayer::new().protocol("test", echo());
        let backend = support::Server::start_via(via, layer.layer(service_fn(plain))).await;
        let uri = format!("http://{}", backend.address)
            .parse()
            .expect("a URI");
        let dial = Dial::new(HttpConnector::new()).destination(uri);
        let proxy = ReverseProxy::new(Pool::new(match via {
            Via::Http2 => dial.http2_only(),
            _ => dial,
        }));
        let layer = UpgradeLayer::new().any_protocol(proxy.clone());
        let server = Server::start(layer.layer(proxy)).await;
        let client = Client::connect(&server).await;

        let mut session = client.extended_connect("test").await;
        session.write(&frame(DATA as u8, b"ping")).await;
        assert_eq!(session.data().await, b"ping", "{via:?}");
        session.send.finish().expect("an open stream");
        assert_eq!(session.rest().await, (Vec::new(), End::Finished), "{via:?}");

        let mut response = client.request(&crate::raw::GET).await;
        response.send.finish().expect("an open stream");
        let head = response.head().await;
        assert_eq!(head[":status"], "200", "{via:?}");
        assert!(head["via"].ends_with("tower-upgrade"), "{via:?}");
        let (body, end) = response.rest().await;
        assert_eq!((&body[..], end), (&b"plain GET /"[..], End::Finished));
    }
}
