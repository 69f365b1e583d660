//! upcat with Node's built-in servers for HTTP/1.1 and HTTP/2: see `server.js`.

use super::{Upcat, noise, raw_echo, upcat};
use crate::process::{Example, Script, program};

async fn node(kind: &str) -> Script {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/upcat/server.js");
    Script::start(program("node", "nodejs").args([script, kind])).await
}

const ECHO: [&str; 2] = ["--protocol", "echo"];

/// `ann`, with the password `secret`.
const ANN: &str = "Basic YW5uOnNlY3JldA==";

/// The kinds of servers, and the arguments of upcat for each.
const KINDS: [(&str, &[&str]); 2] = [("http1", &[]), ("http2", &["--http2"])];

#[tokio::test]
async fn upcat_prints_early_bytes_first() {
    let sent = noise(3_000_001);
    let seen = [b"early, ", &*sent].concat();
    for (kind, version) in KINDS {
        let node = node(kind).await;
        let url = node.at("/echo");
        let args = [&ECHO, version, &[&url]].concat();
        let mut session = Upcat::start(&args).await;
        // upcat prints early bytes before it reads its input.
        session.expect("early, ").await;
        session.expect_echo("hello").await;
        session.finish("bye").await.assert_printed("bye");

        upcat(&args, &sent).await.assert_printed(&seen);
    }
}

#[tokio::test]
async fn upcat_reads_on_after_its_half_close() {
    let sent = noise(1_000_000);
    for (kind, version) in KINDS {
        let node = node(kind).await;
        let url = node.at("/after");
        let args = [&ECHO, version, &[&url]].concat();
        let ended = upcat(&args, &sent).await;
        ended.assert_printed("early, read 1000000 bytes, and the end");
        let ended = upcat(&args, "").await;
        ended.assert_printed("early, read 0 bytes, and the end");
    }
}

#[tokio::test]
async fn upcat_exits_when_node_closes_its_side() {
    for (kind, version) in KINDS {
        let mut node = node(kind).await;
        let url = node.at("/before");
        let args = [&ECHO, version, &[&url]].concat();
        // The input of upcat stays open.
        let ended = Upcat::start(&args).await.ended().await;
        ended.assert_printed("early, no more from here");
        // Node reads EOF, not a reset.
        assert_eq!(node.next_line().await.as_deref(), Some("read 0 bytes"));
    }
}

#[tokio::test]
async fn upcat_exits_cleanly_when_node_reads_nothing() {
    let sent = noise(1_000_000);
    for (kind, version) in KINDS {
        let node = node(kind).await;
        let url = node.at("/enough");
        let args = [&ECHO, version, &[&url]].concat();
        for input in [&*sent, b""] {
            let ended = upcat(&args, input).await;
            ended.assert_printed("early, enough");
        }
    }
}

#[tokio::test]
async fn upcat_reports_a_session_reset_by_node() {
    for (kind, version) in KINDS {
        let node = node(kind).await;
        let url = node.at("/break");
        let args = [&ECHO, version, &[&url]].concat();
        let mut upcat = Upcat::start(&args).await;
        upcat.expect("early, ").await;
        let ended = upcat.finish("x").await;
        ended.assert_failed(1, "upcat: the session failed: ");
    }
}

#[tokio::test]
async fn upcat_sends_the_requested_headers_and_protocols() {
    let more = ["--header", "x-name: ann", "--header", "x-name:bob"];
    let options = ["--protocol", "echo", "--protocol", "chat/2"];
    for ((kind, version), received) in KINDS.into_iter().zip([
        r#"{"x-name":"ann, bob","connection":"upgrade","upgrade":"echo, chat/2"}"#,
        // Extended CONNECT carries one protocol.
        concat!(
            r#"{":method":"CONNECT",":scheme":"http",":path":"/head",":protocol":"echo","#,
            r#""x-name":"ann, bob"}"#
        ),
    ]) {
        let node = node(kind).await;
        let url = node.at("/head");
        let args = [&options, &more, version, &[&url]].concat();
        upcat(&args, "").await.assert_printed(received);
    }
}

#[tokio::test]
async fn upcat_prints_the_refusal_of_node() {
    for (kind, version) in KINDS {
        let mut node = node(kind).await;
        let url = node.at("/refuse");
        let args = [&ECHO, version, &[&url]].concat();
        let ended = upcat(&args, "for the session only").await;
        ended.assert_failed(4, "upcat: refused with 403 Forbidden\n");
        assert!(ended.stderr.contains("\nx-why: no\n"));
        assert!(ended.stderr.ends_with("\n\nnot today\n"));
        assert_eq!(node.next_line().await.as_deref(), Some("read 0 bytes"));
    }
}

#[tokio::test]
async fn upcat_refuses_an_invalid_101_from_node() {
    let node = node("http1").await;
    for (path, why) in [
        ("/other", "a 101 to other, which was not offered"),
        ("/none", "a 101 without `Upgrade`"),
        ("/unlisted", "a 101 without `Connection: upgrade`"),
    ] {
        let ended = upcat(&[&ECHO, &[&*node.at(path)][..]].concat(), "unread").await;
        ended.assert_failed(5, why);
        assert!(!ended.stderr.contains("careless"));
    }
}

#[tokio::test]
async fn upcat_reports_missing_extended_connect() {
    let node = node("http2-plain").await;
    let ended = upcat(&[&ECHO, &["--http2", &node.at("/echo")][..]].concat(), "").await;
    let why = "upcat: the HTTP/2 server does not allow extended CONNECT\n";
    ended.assert_failed(5, why);

    // Plain CONNECT does not need the setting.
    let (_tasks, target) = raw_echo().await;
    let options = ["--http2", "--connect", &target, &node.url];
    let ended = upcat(
        &[&options[..], &["--header", &proxy_authorization()]].concat(),
        "hello",
    )
    .await;
    ended.assert_printed("hello");
}

#[tokio::test]
async fn upcat_reports_an_http_version_mismatch() {
    for ((kind, _), version) in KINDS.into_iter().zip(["--http2", "--http1.1"]) {
        let node = node(kind).await;
        let ended = upcat(&[&ECHO, &[version, &node.at("/echo")][..]].concat(), "").await;
        // Over HTTP/1.1 it is "the response is not valid HTTP", unless Node's frames arrive before the request is sent.
        ended.assert_failed(3, "upcat: the ");
    }
}

fn proxy_authorization() -> String {
    format!("proxy-authorization: {ANN}")
}

#[tokio::test]
async fn upcat_connects_through_node() {
    let sent = noise(3_000_001);
    let (_tasks, target) = raw_echo().await;
    for (kind, version) in KINDS {
        let node = node(kind).await;
        let options = ["--connect", &target, &node.url];
        let ended = upcat(&[version, &options].concat(), "unread").await;
        ended.assert_failed(4, "upcat: refused with 407 Proxy Authentication Required\n");
        assert!(ended.stderr.ends_with("\n\nnot allowed\n"));

        let ended = upcat(
            &[version, &options, &["--header", &proxy_authorization()]].concat(),
            &sent,
        )
        .await;
        ended.assert_printed(&sent);
    }
}

#[tokio::test]
async fn upcat_upgrades_through_node() {
    let sent = noise(1_000_001);
    let proxy = node("http1").await;
    let http1 = node("http1").await;
    let http2 = node("http2").await;
    let tls = Example::start("echo", &["--tls"]).await;
    for (target, version, first) in [
        (http1.at("/echo"), "--http1.1", "early, "),
        (http2.at("/echo"), "--http2", "early, "),
        (tls.url.clone(), "--http1.1", ""),
        (tls.url.clone(), "--http2", ""),
    ] {
        let through = ["--proxy", &proxy.url, "--insecure", version, &target];
        let ended = upcat(&[&ECHO, &through[..]].concat(), "unread").await;
        ended.assert_failed(
            4,
            "upcat: the proxy refused with 407 Proxy Authentication Required\n",
        );

        let args = [&ECHO, &through[..], &["--proxy-auth", ANN]].concat();
        let ended = upcat(&args, &sent).await;
        ended.assert_printed([first.as_bytes(), &*sent].concat());
    }
    tls.stop("TERM").await;
}
