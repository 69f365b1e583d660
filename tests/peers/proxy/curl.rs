//! curl, and the example.

use super::{allow, hello, origin, proxy};
use crate::{
    example::{Example, program},
    support::{Server, soon, text},
};
use tower::service_fn;

struct Seen {
    /// The status of the CONNECT, and the version that it was asked with.
    connect: String,
    body: String,
    headers: String,
    exit: Option<i32>,
}

async fn through(proxy: &Example, args: &[&str]) -> Seen {
    let mut curl = program("curl", "curl");
    curl.args(["--silent", "--noproxy", "", "--insecure"])
        .args(["--proxy", &proxy.url, "--proxy-insecure"])
        .args(["--dump-header", "/dev/stderr"])
        .args(["--write-out", "\n%{http_connect}"])
        .args(args)
        .stderr(std::process::Stdio::piped());
    let output = soon(curl.output()).await.expect("curl runs");
    let seen = text(&output.stdout);
    let (body, connect) = seen.rsplit_once('\n').expect("what is written out");
    Seen {
        connect: connect.to_owned(),
        body: body.to_owned(),
        headers: text(&output.stderr).to_ascii_lowercase(),
        exit: output.status.code(),
    }
}

impl Seen {
    #[track_caller]
    fn assert_went_through(&self) {
        let seen = (&*self.connect, &*self.body, self.exit);
        assert_eq!(seen, ("200", "hello from behind", Some(0)));
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
const WAYS: [&[&str]; 2] = [&[], &["--tls"]];

async fn proxy_to(origin: &Server, more: &[&str]) -> Example {
    let allow = allow("localhost", origin);
    let allow = allow.each_ref().map(String::as_str);
    proxy(&[&allow, more].concat()).await
}

/// Whether this curl can speak HTTP/2 with a proxy: since 8.1.
async fn has_http2() -> bool {
    let mut curl = program("curl", "curl");
    let output = soon(curl.args(["--help", "all"]).output()).await;
    text(&output.expect("curl runs").stdout).contains("--proxy-http2")
}

#[tokio::test]
async fn curl_goes_where_it_may() {
    let origin = origin(service_fn(hello)).await;
    for way in WAYS {
        let proxy = proxy_to(&origin, way).await;
        let seen = through(&proxy, &[&url("localhost", &origin)]).await;
        seen.assert_went_through();
        if way == ["--tls"] && has_http2().await {
            let http2 = ["--proxy-http2", &url("localhost", &origin)];
            let seen = through(&proxy, &http2).await;
            seen.assert_went_through();
            assert!(seen.headers.starts_with("http/2 200"), "{}", seen.headers);
        }

        // Not listed, though its address is the same.
        let seen = through(&proxy, &[&url("127.0.0.1", &origin)]).await;
        seen.assert_refused("403");
        assert!(seen.headers.contains("connection: close"));
        let seen = through(&proxy, &["https://localhost:1/"]).await;
        seen.assert_refused("403");
        proxy.signal("INT").await;
        let (said, complaints) = proxy.ended().await;
        assert!(said.ends_with(" 0 left\n"), "{said} {complaints}");
    }
}

#[tokio::test]
async fn curl_goes_to_no_loopback_that_is_not_allowed() {
    let origin = origin(service_fn(hello)).await;
    let target = format!("localhost:{}", origin.address.port());
    let proxy = proxy(&["--allow", &target]).await;
    let seen = through(&proxy, &[&url("localhost", &origin)]).await;
    seen.assert_refused("403");
}

#[tokio::test]
async fn curl_says_who_it_is_to_the_proxy() {
    let origin = origin(service_fn(hello)).await;
    let url = url("localhost", &origin);
    for way in WAYS {
        let auth = ["--basic-auth", "ann:secret"];
        let proxy = proxy_to(&origin, &[way, &auth].concat()).await;
        for args in [&[&*url][..], &["--proxy-user", "ann:wrong", &url]] {
            let seen = through(&proxy, args).await;
            seen.assert_refused("407");
            let challenge = "proxy-authenticate: basic realm=\"connect_proxy\"\r\n";
            assert!(seen.headers.contains(challenge), "{}", seen.headers);
        }
        for how in ["--proxy-basic", "--proxy-anyauth"] {
            let args = [how, "--proxy-user", "ann:secret", &url];
            through(&proxy, &args).await.assert_went_through();
        }
    }
}

#[tokio::test]
async fn what_is_no_connect_is_told_so() {
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
