//! Other clients through `ConnectProxy`, to hosts that only the proxy can resolve or reach.

mod curl;
mod git;

use crate::{
    process::{Example, program},
    support::{Server, Via, build::build, soon, text, tls::Tls},
};
use http::{Request, Response};
use hyper::body::Incoming;
use std::convert::Infallible;
use tower::Service;

/// Starts `examples/connect_proxy.rs`.
async fn proxy(args: &[&str]) -> Example {
    Example::start_with("connect_proxy", &["datagram"], args).await
}

/// Starts an HTTPS server.
async fn origin<S>(service: S) -> Server
where
    S: Service<Request<Incoming>, Response = Response<Vec<u8>>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send + 'static,
{
    let tls = Tls::with_alpn(&["http/1.1"]);
    let service = tower::util::MapResponse::new(service, |response: Response<Vec<u8>>| {
        response.map(|body| http_body_util::Full::new(bytes::Bytes::from(body)))
    });
    Server::start_with(Via::Http1, service, move |io| {
        let acceptor = tls.acceptor.clone();
        async move { acceptor.accept(io).await }
    })
    .await
}

async fn hello(_request: Request<Incoming>) -> Result<Response<Vec<u8>>, Infallible> {
    Ok(Response::new(b"hello from the origin".to_vec()))
}

/// Returns the arguments of the proxy that allow a server on loopback.
fn allow(host: &str, server: &Server) -> [String; 4] {
    let target = format!("{host}:{}", server.address.port());
    ["--allow", &target, "--allow", "127.0.0.0/8"].map(str::to_owned)
}

#[tokio::test]
async fn node_uses_tls_in_an_http2_tunnel() {
    let origin = origin(tower::service_fn(hello)).await;
    let allow = allow("localhost", &origin);
    let mut args: Vec<&str> = allow.iter().map(String::as_str).collect();
    args.push("--tls");
    let proxy = proxy(&args).await;
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/peers/connect_proxy/tunnel.js"
    );
    let port = origin.address.port();
    for (host, seen) in [
        ("localhost", "hello from the origin"),
        ("127.0.0.1", "refused 403 this host is not allowed"),
    ] {
        let mut node = program("node", "nodejs");
        node.args([script, &proxy.url, &format!("{host}:{port}")]);
        let output = soon(node.output()).await.expect("node runs");
        assert!(output.status.success(), "{host}: {}", output.status);
        assert_eq!(text(&output.stdout).trim_end(), seen);
    }
    proxy.signal("TERM").await;
    let (stdout, stderr) = proxy.ended().await;
    assert!(stdout.ends_with(" 0 left\n"), "{stdout} {stderr}");
}

#[tokio::test]
async fn example_explains_its_arguments() {
    let proxy = build("connect_proxy", &["datagram"]).await;
    for (args, code, message) in [
        (&["--help"][..], 0, "--allow NETWORK/LENGTH"),
        (
            &["--allow", "not a host"],
            2,
            "\"not a host\" is not a host",
        ),
        (
            &["--allow", "10.0.0.0/33"],
            2,
            "\"10.0.0.0/33\" is not a network",
        ),
        (&["--basic-auth", "ann"], 2, "USER:PASSWORD"),
        (&["--loud"], 2, "--loud"),
        (
            &["--listen", "192.0.2.1:0"],
            1,
            "cannot listen on 192.0.2.1:0",
        ),
    ] {
        let output = tokio::process::Command::new(&proxy).args(args).output();
        let output = soon(output).await.expect("a started example");
        let all = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {all}");
        assert!(all.contains(message), "{args:?}: {all}");
    }
}
