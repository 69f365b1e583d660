//! Every HTTP version on the client side with every version on the backend side.

use super::{front, pool};
use crate::support::{Server, Via, h2::Client, head, soon, text};
use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::{client::legacy, rt::TokioExecutor};
use std::convert::Infallible;
use tower::{ServiceExt as _, service_fn};
use tower_upgrade::{client::Body, tunnel::ReverseProxy};

/// Answers with the request line, the host and the body.
async fn describe(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let host = match parts.uri.authority() {
        Some(authority) => authority.as_str(),
        None => parts.headers["host"].to_str().expect("a host"),
    };
    let path = parts.uri.path_and_query().expect("a path");
    let body = body.collect().await.expect("a body").to_bytes();
    let text = format!(
        "{} {path} of {host}: {}, {:?}",
        parts.method,
        text(&body),
        parts.version
    );
    Ok(Response::new(Full::new(text.into())))
}

#[tokio::test]
async fn plain_requests_work_between_http_versions() {
    for via in [Via::Http1, Via::Http2] {
        let backend = Server::start_via(via, service_fn(describe)).await;
        let front = front(ReverseProxy::new(pool(via, backend.address))).await;
        let version = match via {
            Via::Http2 => "HTTP/2.0",
            _ => "HTTP/1.1",
        };
        let expected = format!("POST /path?query of test: ping, {version}");

        let mut peer = front.connect().await;
        for _ in 0..2 {
            let request = [
                "POST /path?query HTTP/1.1",
                "Host: test",
                "Content-Length: 4",
            ];
            peer.send(head(&request) + "ping").await;
            let (head, body) = peer.response().await;
            assert_eq!((head.status, body), (200, expected.clone()));
        }

        let mut client = Client::connect(front.connect().await).await;
        for _ in 0..2 {
            let request = Request::post("http://test/path?query").version(Version::HTTP_2);
            let (response, mut body) = client.send(request.body(()).expect("a request")).await;
            body.send_data("ping".into(), true).expect("open");
            let response = soon(response).await.expect("a response");
            assert_eq!(
                response.headers()["content-length"],
                expected.len().to_string()
            );
            let mut body = response.into_body();
            let data = soon(body.data()).await.expect("one").expect("data");
            assert_eq!(text(&data), expected);
        }
    }
}

/// hyper-util's client needs a URI with an authority. Over HTTP/1.1 it keeps the client's `Host`.
#[tokio::test]
async fn hyper_util_client_works_with_a_completed_uri() {
    let backend = Server::start(service_fn(describe)).await;
    let at = backend.address;
    let http = legacy::Client::builder(TokioExecutor::new()).build_http::<Body>();
    let http = http.map_request(move |mut request: Request<Body>| {
        let uri = format!("http://{at}{}", request.uri());
        *request.uri_mut() = uri.parse().expect("a URI");
        request
    });
    let front = front(ReverseProxy::new(http)).await;
    let mut peer = front.connect().await;
    peer.send(head(&["GET /path HTTP/1.1", "Host: test"])).await;
    assert_eq!(peer.response().await.1, "GET /path of test: , HTTP/1.1");
}
