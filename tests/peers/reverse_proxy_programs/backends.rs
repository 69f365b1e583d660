//! Plain requests to Node's server and to an axum app, with HTTP/1.1 and HTTP/2 on either side of the proxy.

use super::{Client, empty, field, node_server, proxy, unsized_body};
use crate::{
    process::{Example, Script},
    support::{head, soon},
};
use axum::{
    Json, Router,
    body::Body,
    extract::Request,
    http::{HeaderMap, StatusCode, header},
    response::{AppendHeaders, IntoResponse, Redirect, Response},
    routing::{any, get},
};
use bytes::Bytes;
use futures_util::stream;
use http_body_util::Full;
use serde_json::{Value, json};
use std::convert::Infallible;
use tokio::{net::TcpListener, task::JoinSet};

/// An axum app with the routes of `server.js` that these tests use.
fn axum_app(url: String) -> Router {
    let redirect = format!("{url}/head?redirected");
    Router::new()
        .route("/head", any(describe))
        .route("/echo", any(async |request: Request| request.into_body()))
        .route(
            "/redirect",
            get(async move || (StatusCode::FOUND, [(header::LOCATION, redirect)])),
        )
        .route("/relative", get(async || Redirect::temporary("../head")))
        .route(
            "/cookies",
            get(async || {
                let cookies = ["a=1; Path=/; HttpOnly", "b=2; Domain=test"];
                let cookies = cookies.map(|cookie| (header::SET_COOKIE, cookie));
                (AppendHeaders(cookies), "cookies")
            }),
        )
        .route("/tagged", get(tagged))
        .route(
            "/large",
            get(async || ([("x-large", "x".repeat(12000))], "large")),
        )
        .route(
            "/chunked",
            get(async || {
                let parts = ["one,", "two,", "three"].map(Ok::<_, Infallible>);
                Body::from_stream(stream::iter(parts))
            }),
        )
}

async fn describe(request: Request) -> Json<Value> {
    let (head, _) = request.into_parts();
    let text = |name| head.headers.get(name).map(|value| value.to_str().ok());
    let cookies = head.headers.get_all(header::COOKIE).iter();
    let cookies: Vec<_> = cookies.map(|cookie| cookie.to_str().ok()).collect();
    Json(json!({
        "method": head.method.as_str(),
        "url": head.uri.path_and_query().map(ToString::to_string),
        "cookies": cookies,
        "length": text("content-length"),
        "coding": text("transfer-encoding"),
        "large": head.headers.get("x-large").map_or(0, |value| value.len()),
    }))
}

async fn tagged(headers: HeaderMap) -> Response {
    let tag = [(header::ETAG, "\"v1\"")];
    match headers.get(header::IF_NONE_MATCH) {
        Some(known) if known == "\"v1\"" => (StatusCode::NOT_MODIFIED, tag).into_response(),
        _ => (tag, "tagged").into_response(),
    }
}

/// A proxy with its backend.
struct Route {
    name: &'static str,
    backend: String,
    is_http2: bool,
    proxy: Example,
    _node: Option<Script>,
    _axum: JoinSet<()>,
}

impl Route {
    async fn start(name: &'static str, is_http2: bool) -> Self {
        let mut axum = JoinSet::new();
        let (backend, node) = match name {
            "node" => {
                let node = node_server(if is_http2 { "http2" } else { "http1" }).await;
                (node.url.clone(), Some(node))
            }
            _ => {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
                let url = format!("http://{}", listener.local_addr().expect("bound"));
                let app = axum_app(url.clone());
                axum.spawn(async { axum::serve(listener, app).await.expect("a server") });
                (url, None)
            }
        };
        let args: &[&str] = if is_http2 { &["--http2"] } else { &[] };
        let proxy = proxy(&backend, args).await;
        Self {
            name,
            backend,
            is_http2,
            proxy,
            _node: node,
            _axum: axum,
        }
    }

    /// Returns the arguments of an assertion message.
    fn with(&self, is_http2: bool) -> String {
        let version = |is_http2| if is_http2 { "HTTP/2" } else { "HTTP/1.1" };
        format!(
            "{} to {} with {}",
            version(is_http2),
            self.name,
            version(self.is_http2)
        )
    }
}

/// Runs a check with each HTTP version of the client, and each backend with each HTTP version.
async fn on_all_routes(check: impl AsyncFn(&Route, Client, String)) {
    for (name, is_http2) in [
        ("node", false),
        ("node", true),
        ("axum", false),
        ("axum", true),
    ] {
        let route = Route::start(name, is_http2).await;
        for is_http2 in [false, true] {
            let client = Client::new(&route.proxy.url, is_http2);
            check(&route, client, route.with(is_http2)).await;
        }
        route.proxy.stop("TERM").await;
    }
}

async fn description(client: &Client, request: http::request::Builder) -> Value {
    let request = request.body(empty()).expect("a request");
    let response = client.send(request).await;
    assert_eq!(response.status(), 200);
    serde_json::from_str(response.body()).expect("JSON")
}

#[tokio::test]
async fn method_path_and_body_reach_the_backend() {
    on_all_routes(async |route, client, with| {
        for method in ["GET", "DELETE", "PATCH", "OPTIONS", "PROPFIND"] {
            let path = "/head?a=%20&b=%2F//c?d";
            let seen = description(&client, client.request(method, path)).await;
            assert_eq!(seen["method"], method, "{with}");
            assert_eq!(seen["url"], path, "{with}");
        }
        let body = Full::new(Bytes::from("known length"));
        let request = client.request("POST", "/echo").body(body);
        let response = client.send(request.expect("a request")).await;
        assert_eq!(response.body(), "known length", "{with}");

        let body = unsized_body(&["unknown ", "length"]);
        let request = client.request("PUT", "/echo").body(body);
        let response = client.send(request.expect("a request")).await;
        assert_eq!(response.body(), "unknown length", "{with}");

        let body = Full::new(Bytes::from("counted"));
        let request = client.request("POST", "/head").body(body);
        let response = client.send(request.expect("a request")).await;
        let seen: Value = serde_json::from_str(response.body()).expect("JSON");
        assert_eq!(seen["length"], "7", "{with}");
        assert_eq!(seen["coding"], Value::Null, "{with}");
        let coding = match route.is_http2 {
            true => Value::Null,
            false => "chunked".into(),
        };
        let request = client.request("POST", "/head").body(unsized_body(&["x"]));
        let response = client.send(request.expect("a request")).await;
        let seen: Value = serde_json::from_str(response.body()).expect("JSON");
        assert_eq!((&seen["length"], &seen["coding"]), (&Value::Null, &coding));
    })
    .await;
}

/// The proxy does not map URLs of the backend to its own.
#[tokio::test]
async fn location_of_redirect_is_unchanged() {
    on_all_routes(async |route, client, with| {
        let response = client.get("/redirect").await;
        assert_eq!(response.status(), 302, "{with}");
        let location = format!("{}/head?redirected", route.backend);
        assert_eq!(field(&response, "location"), location, "{with}");
        let response = client.get("/relative").await;
        assert_eq!(response.status(), 307, "{with}");
        assert_eq!(field(&response, "location"), "../head", "{with}");
    })
    .await;
}

/// HTTP/2 clients may send several lines, and an HTTP/1.1 request has one (RFC 9113 §8.2.3). Responses have one
/// line for each cookie (RFC 6265 §3).
#[tokio::test]
async fn cookies_pass_in_both_directions() {
    on_all_routes(async |_, client, with| {
        let request = client.request("GET", "/head");
        let request = request.header("cookie", "a=1").header("cookie", "b=2");
        let seen = description(&client, request).await;
        assert_eq!(seen["cookies"], json!(["a=1; b=2"]), "{with}");

        let response = client.get("/cookies").await;
        let cookies: Vec<_> = response.headers().get_all("set-cookie").iter().collect();
        assert_eq!(
            cookies,
            ["a=1; Path=/; HttpOnly", "b=2; Domain=test"],
            "{with}"
        );
    })
    .await;
}

#[tokio::test]
async fn responses_without_body_keep_their_fields() {
    on_all_routes(async |_, client, with| {
        let request = client.request("HEAD", "/tagged").body(empty());
        let response = client.send(request.expect("a request")).await;
        assert_eq!(response.status(), 200, "{with}");
        assert_eq!(field(&response, "content-length"), "6", "{with}");
        assert_eq!(field(&response, "etag"), "\"v1\"", "{with}");
        assert_eq!(response.body(), "", "{with}");

        let request = client.request("GET", "/tagged");
        let request = request.header("if-none-match", "\"v1\"").body(empty());
        let response = client.send(request.expect("a request")).await;
        assert_eq!(response.status(), 304, "{with}");
        assert_eq!(field(&response, "etag"), "\"v1\"", "{with}");
        assert_eq!(response.body(), "", "{with}");

        // The connection is still in step.
        assert_eq!(client.get("/tagged").await.body(), "tagged", "{with}");
    })
    .await;
}

#[tokio::test]
async fn large_fields_pass_in_both_directions() {
    on_all_routes(async |_, client, with| {
        let request = client.request("GET", "/head");
        let request = request.header("x-large", "x".repeat(12000));
        let seen = description(&client, request).await;
        assert_eq!(seen["large"], 12000, "{with}");
        let response = client.get("/large").await;
        assert_eq!(field(&response, "x-large").len(), 12000, "{with}");
        assert_eq!(response.body(), "large", "{with}");
    })
    .await;
}

#[tokio::test]
async fn response_of_unknown_length_is_complete() {
    on_all_routes(async |route, client, with| {
        let response = client.get("/chunked").await;
        assert_eq!(response.body(), "one,two,three", "{with}");
        let coding = match response.version() {
            http::Version::HTTP_2 => "",
            _ => "chunked",
        };
        assert_eq!(field(&response, "transfer-encoding"), coding, "{with}");

        // HTTP/1.0 has no chunks: the end of the connection ends the response.
        let mut peer = route.proxy.connect().await;
        peer.send(head(&["GET /chunked HTTP/1.0", "Host: test"]))
            .await;
        let response = peer.head().await;
        assert_eq!(response.get("transfer-encoding"), None, "{with}");
        let body = soon(peer.rest()).await.expect("an orderly end");
        assert_eq!(body, b"one,two,three", "{with}");
    })
    .await;
}
