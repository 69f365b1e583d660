//! `examples/reverse_proxy.rs` between other programs, with plain requests and upgrades through the same proxy.

mod backends;
mod events;
mod fronts;
mod grpc;
#[cfg(target_os = "linux")]
mod memory;
mod vite;

use crate::{
    process::{Example, Script, program},
    support::soon,
};
use bytes::Bytes;
use http::{Request, Response, request};
use http_body::{Body, Frame};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::TokioExecutor,
};
use std::convert::Infallible;
use tokio::process::Command;

/// Starts the example in front of a backend.
async fn proxy(backend: &str, args: &[&str]) -> Example {
    let args = [&["--backend", backend], args].concat();
    Example::start_with("reverse_proxy", &["tunnel"], &args).await
}

fn script(name: &str) -> String {
    let folder = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/peers/reverse_proxy_programs"
    );
    format!("{folder}/{name}")
}

/// Returns a command that runs a script of this folder with Node and the libraries of Debian's packages.
fn node(name: &str) -> Command {
    let mut node = program("node", "nodejs node-ws");
    node.env("NODE_PATH", "/usr/share/nodejs").arg(script(name));
    node
}

/// Starts `server.js` with HTTP/1.1 (`http1`) or with HTTP/2 (`http2`).
async fn node_server(version: &str) -> Script {
    Script::start(node("server.js").arg(version)).await
}

/// hyper's client, with a pool of connections to one server.
struct Client {
    http: legacy::Client<HttpConnector, BoxBody<Bytes, Infallible>>,
    url: String,
}

impl Client {
    fn new(url: impl ToString, is_http2: bool) -> Self {
        let mut http = legacy::Client::builder(TokioExecutor::new());
        Self {
            http: http.http2_only(is_http2).build_http(),
            url: url.to_string(),
        }
    }

    /// Returns a request to the server with a method and a path.
    fn request(&self, method: &str, path: &str) -> request::Builder {
        let uri = format!("{}{path}", self.url);
        Request::builder().method(method).uri(uri)
    }

    /// Sends a request, and returns the response before its body.
    #[track_caller]
    fn begin<B>(&self, request: Request<B>) -> impl Future<Output = Response<Incoming>>
    where
        B: Body<Data = Bytes, Error = Infallible> + Send + Sync + 'static,
    {
        let sent = soon(self.http.request(request.map(BoxBody::new)));
        async { sent.await.expect("a response") }
    }

    /// Sends a request, and returns the response with its body.
    #[track_caller]
    fn send<B>(&self, request: Request<B>) -> impl Future<Output = Response<String>>
    where
        B: Body<Data = Bytes, Error = Infallible> + Send + Sync + 'static,
    {
        let response = self.begin(request);
        async {
            let (head, body) = response.await.into_parts();
            let body = soon(body.collect()).await.expect("a body").to_bytes();
            let body = String::from_utf8(body.into()).expect("text");
            Response::from_parts(head, body)
        }
    }

    #[track_caller]
    fn get(&self, path: &str) -> impl Future<Output = Response<String>> {
        let request = self.request("GET", path);
        self.send(request.body(empty()).expect("a request"))
    }
}

fn empty() -> Full<Bytes> {
    Full::default()
}

/// Returns a body of unknown length.
fn unsized_body(
    parts: &[&'static str],
) -> impl Body<Data = Bytes, Error = Infallible> + Send + Sync + use<> {
    let parts = parts.iter().map(|part| Ok(Frame::data((*part).into())));
    StreamBody::new(futures_util::stream::iter(parts.collect::<Vec<_>>()))
}

/// Returns a response field, or an empty string.
fn field<'a, B>(response: &'a Response<B>, name: &str) -> &'a str {
    let value = response.headers().get(name);
    value.map_or("", |value| value.to_str().expect("text"))
}
