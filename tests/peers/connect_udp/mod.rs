//! QUIC through `ConnectUdp`: aioquic with a client of CONNECT-UDP in Python and with upcat, and libcurl with its own. A
//! load of numbered datagrams.

use crate::{
    process::{Example, Script, python},
    support::build::build,
};

/// Starts the server of the script. Returns its port.
async fn server(script: &str) -> (Script, String) {
    let mut server = Script::spawn(&mut python("connect_udp", script, &["server"]));
    let port = server.next_line().await.expect("a port");
    (server, port)
}

/// Starts a proxy that allows `target`.
async fn proxy(target: &str, args: &[&str]) -> Example {
    let allow = ["--udp", "--allow", target, "--allow", "127.0.0.0/8"];
    Example::start_with("connect_proxy", &["datagram"], &[&allow, args].concat()).await
}

/// Returns the arguments of a client in Python for each way through the proxy at `url`: with a raw request, and with
/// upcat.
async fn paths(url: &str, target: &str) -> [Vec<String>; 3] {
    let port = url.rsplit(':').next().expect("a port");
    let port = port.trim_end_matches('/');
    let upcat = build("upcat", &["datagram"]).await;
    let upcat = upcat.to_str().expect("UTF-8");
    let piped = ["--udp", target, "--length-prefixed", url];
    [
        &[port][..],
        &[&[upcat], &piped[..]].concat(),
        &[&[upcat, "--http2"], &piped[..]].concat(),
    ]
    .map(|path| path.iter().map(|&argument| argument.to_owned()).collect())
}

#[tokio::test]
async fn quic_passes_through_the_proxy() {
    let (_server, port) = server("quic.py").await;
    let target = format!("127.0.0.1:{port}");
    let proxy = proxy(&target, &[]).await;
    for path in paths(&proxy.url, &target).await {
        let mut client =
            Script::spawn(python("connect_udp", "quic.py", &["client", &port]).args(&path));
        for case in ["handshake", "stream", "datagrams"] {
            let line = client.next_line().await;
            assert_eq!(line.as_deref(), Some(case), "{path:?}");
        }
        assert_eq!(client.next_line().await, None);
    }
    proxy.stop("TERM").await;
}

/// Numbered datagrams at a steady rate. The sockets may lose some on a busy machine, as a network may.
#[tokio::test]
async fn load_passes_through_the_proxy() {
    let (_server, port) = server("load.py").await;
    let target = format!("127.0.0.1:{port}");
    let proxy = proxy(&target, &[]).await;
    for path in paths(&proxy.url, &target).await {
        for size in ["100", "1200"] {
            let args = ["client", size, &port];
            let mut client = Script::spawn(python("connect_udp", "load.py", &args).args(&path));
            let line = client.next_line().await.expect("the result");
            let counts: Vec<&str> = line.split_whitespace().collect();
            let [
                "received",
                received,
                "lost",
                _,
                "twice",
                "0",
                "corrupted",
                "0",
                "late",
                "0",
            ] = counts[..]
            else {
                panic!("{path:?} {size}: {line}");
            };
            let received: u32 = received.parse().expect("a number");
            assert!(received >= 2000, "{path:?} {size}: {line}");
        }
    }
    proxy.stop("TERM").await;
}

/// Expects the client of `http3.py` to print a line that contains `printed`.
async fn expect_of_libcurl(args: &[&str], printed: &str) {
    let args = [&["client"], args].concat();
    let mut client = Script::spawn(&mut python("connect_udp", "http3.py", &args));
    let line = client.next_line().await.expect("the result");
    assert!(line.contains(printed), "{args:?}: {line}");
}

#[tokio::test]
async fn libcurl_sends_http3_through_the_proxy() {
    let (_server, port) = server("http3.py").await;
    let target = format!("127.0.0.1:{port}");
    for args in [&[][..], &["--tls"]] {
        let proxy = proxy(&target, args).await;
        expect_of_libcurl(&[&port, &proxy.url], "echo ok").await;
        expect_of_libcurl(&["9", &proxy.url], "response 403").await;
        proxy.stop("TERM").await;
    }
}

/// Not over HTTP/2: there libcurl 8.23.0 sends `:protocol` after `proxy-authorization`, which makes the request
/// malformed (RFC 9113 §8.3).
#[tokio::test]
async fn libcurl_authenticates_to_the_proxy() {
    let (_server, port) = server("http3.py").await;
    let target = format!("127.0.0.1:{port}");
    let proxy = proxy(&target, &["--basic-auth", "ann:secret"]).await;
    expect_of_libcurl(&[&port, &proxy.url, "ann:secret"], "echo ok").await;
    expect_of_libcurl(&[&port, &proxy.url, "ann:wrong"], "407").await;
    proxy.stop("TERM").await;
}
