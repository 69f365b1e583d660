//! curl through `examples/connect_proxy.rs`.

use super::{allow, hello, origin, proxy};
use crate::{
    process::{Example, program},
    support::{Server, soon, text},
};
use tower::service_fn;

struct Fetched {
    /// The status of the CONNECT.
    connect: String,
    body: String,
    headers: String,
    exit: Option<i32>,
}

async fn fetch(proxy: &Example, args: &[&str]) -> Fetched {
    let mut curl = program("curl", "curl");
    curl.args(["--silent", "--noproxy", "", "--insecure"])
        .args(["--proxy", &proxy.url, "--proxy-insecure"])
        .args(["--dump-header", "/dev/stderr"])
        .args(["--write-out", "\n%{http_connect}"])
        .args(args)
        .stderr(std::process::Stdio::piped());
    let output = soon(curl.output()).await.expect("curl runs");
    let seen = text(&output.stdout);
    let (body, connect) = seen.rsplit_once('\n').expect("the written-out values");
    Fetched {
        connect: connect.to_owned(),
        body: body.to_owned(),
        headers: text(&output.stderr).to_ascii_lowercase(),
        exit: output.status.code(),
    }
}

impl Fetched {
    #[track_caller]
    fn assert_fetched(&self) {
        let seen = (&*self.connect, &*self.body, self.exit);
        assert_eq!(seen, ("200", "hello from the origin", Some(0)));
    }

    #[track_caller]
    fn assert_refused(&self, status: &str) {
        let seen = (&*self.connect, &*self.body, self.exit);
        assert_eq!(seen, (status, "", Some(56)), "{}", self.headers);
    }
}

fn url(host: &str, server: &Server) -> String {
    format!("https://{host}:{}/", server.address.port())
}

/// With and without TLS to the proxy.
const PROXY_ARGS: [&[&str]; 2] = [&[], &["--tls"]];

async fn proxy_to(origin: &Server, more: &[&str]) -> Example {
    let allow = allow("localhost", origin);
    let allow = allow.each_ref().map(String::as_str);
    proxy(&[&allow, more].concat()).await
}

/// Returns whether curl supports HTTP/2 proxies: it does since 8.1.
async fn has_http2() -> bool {
    let mut curl = program("curl", "curl");
    let output = soon(curl.args(["--help", "all"]).output()).await;
    text(&output.expect("curl runs").stdout).contains("--proxy-http2")
}

#[tokio::test]
async fn curl_reaches_only_allowed_hosts() {
    let origin = origin(service_fn(hello)).await;
    for tls in PROXY_ARGS {
        let proxy = proxy_to(&origin, tls).await;
        let seen = fetch(&proxy, &[&url("localhost", &origin)]).await;
        seen.assert_fetched();
        if tls == ["--tls"] && has_http2().await {
            let http2 = ["--proxy-http2", &url("localhost", &origin)];
            let seen = fetch(&proxy, &http2).await;
            seen.assert_fetched();
            assert!(seen.headers.starts_with("http/2 200"), "{}", seen.headers);
        }

        // The host is not listed. The address of a listed host is the same.
        let seen = fetch(&proxy, &[&url("127.0.0.1", &origin)]).await;
        seen.assert_refused("403");
        assert!(seen.headers.contains("connection: close"));
        let seen = fetch(&proxy, &["https://localhost:1/"]).await;
        seen.assert_refused("403");
        proxy.signal("INT").await;
        let (stdout, stderr) = proxy.ended().await;
        assert!(stdout.ends_with(" 0 left\n"), "{stdout} {stderr}");
    }
}

#[tokio::test]
async fn loopback_target_needs_an_allowed_network() {
    let origin = origin(service_fn(hello)).await;
    let target = format!("localhost:{}", origin.address.port());
    let proxy = proxy(&["--allow", &target]).await;
    let seen = fetch(&proxy, &[&url("localhost", &origin)]).await;
    seen.assert_refused("403");
}

#[tokio::test]
async fn curl_authenticates_to_the_proxy() {
    let origin = origin(service_fn(hello)).await;
    let url = url("localhost", &origin);
    for tls in PROXY_ARGS {
        let auth = ["--basic-auth", "ann:secret"];
        let proxy = proxy_to(&origin, &[tls, &auth].concat()).await;
        for args in [&[&*url][..], &["--proxy-user", "ann:wrong", &url]] {
            let seen = fetch(&proxy, args).await;
            seen.assert_refused("407");
            let challenge = "proxy-authenticate: basic realm=\"connect_proxy\"\r\n";
            assert!(seen.headers.contains(challenge), "{}", seen.headers);
        }
        for option in ["--proxy-basic", "--proxy-anyauth"] {
            let args = [option, "--proxy-user", "ann:secret", &url];
            fetch(&proxy, &args).await.assert_fetched();
        }
    }
}

#[tokio::test]
async fn plain_request_gets_405_with_allow_connect() {
    let proxy = proxy(&[]).await;
    let mut curl = program("curl", "curl");
    let args = ["--silent", "--noproxy", "", "--include"];
    curl.args(args)
        .args(["--proxy", &proxy.url, "http://any.test/"]);
    let output = soon(curl.output()).await.expect("curl runs");
    let seen = text(&output.stdout).to_ascii_lowercase();
    assert!(seen.starts_with("http/1.1 405 "), "{seen}");
    assert!(seen.contains("allow: connect\r\n"), "{seen}");
}
