//! E8: HTTP/3 with aioquic and libcurl, mostly against the examples.

mod handshakes;

use crate::{
    process::{Example, Script, program, python},
    support::{build::build, soon},
};

/// Runs a script, which prints `cases`.
async fn passes(script: &str, args: &[&str], cases: &[&str]) {
    let mut client = Script::spawn(&mut python("http3", script, args));
    for case in cases {
        let line = client.next_line().await;
        assert_eq!(line.as_deref(), Some(*case), "{script}");
    }
    assert_eq!(client.next_line().await, None, "{script}");
}

/// Runs the script of an example.
async fn example_passes(name: &str, features: &[&str], cases: &[&str]) {
    let program = build(name, features).await;
    let program = program.to_str().expect("UTF-8");
    passes(&format!("{name}.py"), &[program], cases).await;
}

#[tokio::test]
async fn e8_aioquic_uses_extended_connect_and_connect() {
    let cases = [
        "plain_requests",
        "extended_connect",
        "connect",
        "unknown_protocols_get_501",
        "resets_have_a_code",
        "an_early_end_of_the_client",
        "parallel_sessions",
        "loss_and_reordering",
        "shutdown_ends_sessions",
    ];
    example_passes("echo", &["http3"], &cases).await;
}

#[tokio::test]
async fn e8_aioquic_tunnels_through_the_proxy() {
    let cases = [
        "client_ends_first",
        "target_ends_first",
        "reset_of_the_target_is_connect_error",
        "reset_of_the_client_resets_the_target",
        "refusals",
        "udp_uses_quic_datagrams",
        "udp_sessions_end_in_both_ways",
        "parallel_sessions",
        "loss_and_reordering",
        "shutdown_waits_for_tunnels",
    ];
    example_passes("connect_proxy", &["datagram", "http3"], &cases).await;
}

#[tokio::test]
async fn e8_aioquic_uses_websocket() {
    let cases = [
        "members_exchange_messages",
        "another_origin_is_refused",
        "shutdown_closes_members",
    ];
    example_passes("chat", &["deflate", "http3", "metrics"], &cases).await;
}

/// The page of the example `echo`.
const PAGE: &str = "Try it with `Upgrade: echo`.";

#[tokio::test]
async fn libcurl_uses_http3() {
    let echo = Example::start_with("echo", &["http3"], &["--http3"]).await;
    passes("libcurl.py", &[&echo.url], &[&format!("30 {PAGE}")]).await;
    echo.signal("TERM").await;
    let (_, stderr) = echo.ended().await;
    // libcurl closes its connection with `NO_ERROR` of QUIC, not of HTTP/3.
    assert_eq!(stderr, "");
}

/// The echo is the target of the proxy.
#[tokio::test]
async fn libcurl_uses_a_proxy_over_http3() {
    let echo = Example::start_with("echo", &["http3"], &["--http3"]).await;
    let features = ["datagram", "http3"];
    let allow = ["--allow", echo.address(), "--allow", "127.0.0.0/8"];
    let args = [&["--http3", "--udp"], &allow[..]].concat();
    let proxy = Example::start_with("connect_proxy", &features, &args).await;
    let printed = [format!("2 {PAGE}"), format!("30 {PAGE}")];
    let printed = printed.each_ref().map(String::as_str);
    passes("libcurl.py", &[&echo.url, &proxy.url], &printed).await;
    // Not stopped in order: libcurl 8.23.0 does not close its connection to the proxy, whose shutdown would wait for
    // acknowledgements.
}

#[tokio::test]
async fn other_versions_name_http3_in_alt_svc() {
    let features = ["datagram", "http3"];
    let proxy = Example::start_with("connect_proxy", &features, &["--http3", "--udp"]).await;
    let port = proxy.address().rsplit(':').next().expect("a port");
    let alt_svc = format!("\r\nalt-svc: h3=\":{port}\"; ma=86400\r\n");
    for (args, status) in [
        (&["--http1.1"][..], "HTTP/1.1 426 "),
        (&["--http2"], "HTTP/2 400 "),
        // A refused upgrade.
        (
            &["--http1.1", "-H", "Connection: upgrade", "-H", "Upgrade: a"],
            "HTTP/1.1 426 ",
        ),
    ] {
        let mut curl = program("curl", "curl");
        curl.args(["--silent", "--include", "--insecure", &proxy.url]);
        let output = soon(curl.args(args).output()).await.expect("curl runs");
        let response = String::from_utf8(output.stdout).expect("text");
        assert!(response.starts_with(status), "{response}");
        assert!(response.contains(&alt_svc), "{response}");
    }
    proxy.stop("TERM").await;
}
