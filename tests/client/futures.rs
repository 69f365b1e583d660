//! The futures of the client's services.

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::HttpConnector;
use tower::{Layer as _, Service};
use tower_upgrade::{
    Upgraded,
    client::{Dial, Error, Http1, Http2, Request, ResponseFuture, Session, Tunnel, UpgradeLayer},
};

/// The future can be moved to another thread, shared in a struct that is `Sync`, and polled without pinning it first.
fn has_named_future<S, R, T>(_: &S)
where
    S: Service<R, Response = T, Error = Error, Future = ResponseFuture<T>>,
    ResponseFuture<T>: Future<Output = Result<T, Error>> + Send + Sync + Unpin + std::fmt::Debug,
{
}

#[tokio::test]
async fn services_return_one_opaque_future_type() {
    type Http = http::Request<Full<Bytes>>;
    type Response = http::Response<Incoming>;

    let dial = Dial::new(HttpConnector::new());
    has_named_future::<_, Http, Response>(&dial);
    let upgrade = UpgradeLayer::new().layer(dial);
    has_named_future::<_, Request, Session>(&upgrade);
    has_named_future::<_, http::Uri, Upgraded>(&Tunnel::new(upgrade));
    let (io, _server) = tokio::io::duplex(64);
    let http1 = Http1::handshake(io).await.expect("nothing is sent yet");
    has_named_future::<_, Http, Response>(&http1);
    // An HTTP/2 connection needs a server's settings; its type is enough here.
    let _ = has_named_future::<Http2, Http, Response>;
}

#[tokio::test]
async fn invalid_request_fails_when_its_future_is_polled() {
    let uri = "http://ann@test/".parse().expect("a URI");
    let (io, _server) = tokio::io::duplex(64);
    let mut http1 = Http1::handshake(io).await.expect("nothing is sent yet");
    let mut request = http::Request::new(Full::default());
    *request.uri_mut() = uri;
    let future = http1.call(request);
    assert_eq!(format!("{future:?}"), "ResponseFuture { .. }");
    let error = future.await.expect_err("a URI with a user");
    assert_eq!(error.kind(), tower_upgrade::client::ErrorKind::Request);
}
