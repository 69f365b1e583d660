//! Node's built-in servers, which hand a socket over with HTTP/1.1, and a stream with HTTP/2: see
//! `server.js`.

use super::{Script, Upcat, noise, raw_echo, upcat};
use crate::example::{Example, program};

async fn node(kind: &str) -> Script {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/upcat/server.js");
    Script::start(program("node", "nodejs").args([script, kind])).await
}

const ECHO: [&str; 2] = ["--protocol", "echo"];

/// `ann`, with the password `secret`.
const ANN: &str = "Basic YW5uOnNlY3JldA==";

/// The kinds of a server, and how upcat is told to speak with them.
const KINDS: [(&str, &[&str]); 2] = [("http1", &[]), ("http2", &["--http2"])];

#[tokio::test]
async fn upcat_reads_first_what_node_says_first() {
    let sent = noise(3_000_001);
    let seen = [b"early, ", &*sent].concat();
    for (kind, version) in KINDS {
        let node = node(kind).await;
        let url = node.at("/echo");
        let args = [&ECHO, version, &[&url]].concat();
        let mut talk = Upcat::start(&args).await;
        // It waits for nothing.
        talk.expect("early, ").await;
        talk.expect_echo("hello").await;
        talk.finish("bye").await.assert_printed("bye");

        upcat(&args, &sent).await.assert_printed(&seen);
    }
}

#[tokio::test]
async fn upcat_still_hears_node_after_its_own_end() {
    let sent = noise(1_000_000);
    for (kind, version) in KINDS {
        let node = node(kind).await;
        let url = node.at("/after");
        let args = [&ECHO, version, &[&url]].concat();
        let ended = upcat(&args, &sent).await;
        ended.assert_printed("early, heard 1000000 bytes, and the end");
        let ended = upcat(&args, "").await;
        ended.assert_printed("early, heard 0 bytes, and the end");
    }
}

#[tokio::test]
async fn upcat_ends_when_node_has_said_all() {
    for (kind, version) in KINDS {
        let mut node = node(kind).await;
        let url = node.at("/before");
        let args = [&ECHO, version, &[&url]].concat();
        // Its own input goes on.
        let ended = Upcat::start(&args).await.ended().await;
        ended.assert_printed("early, no more from here");
        // And it leaves in order.
        assert_eq!(node.says().await.as_deref(), Some("heard 0 bytes"));
    }
}

#[tokio::test]
async fn upcat_ends_in_order_when_node_reads_nothing() {
    let sent = noise(1_000_000);
    for (kind, version) in KINDS {
        let node = node(kind).await;
        let url = node.at("/enough");
        let args = [&ECHO, version, &[&url]].concat();
        for typed in [&*sent, b""] {
            let ended = upcat(&args, typed).await;
            ended.assert_printed("early, that is all");
        }
    }
}

#[tokio::test]
async fn upcat_says_that_node_broke_the_session() {
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
async fn upcat_asks_node_for_what_it_is_told_to() {
    let more = ["--header", "x-name: ann", "--header", "x-name:bob"];
    let ask = ["--protocol", "echo", "--protocol", "chat/2"];
    for ((kind, version), told) in KINDS.into_iter().zip([
        r#"{"x-name":"ann, bob","connection":"upgrade","upgrade":"echo, chat/2"}"#,
        // There is room for one.
        concat!(
            r#"{":method":"CONNECT",":scheme":"http",":path":"/head",":protocol":"echo","#,
            r#""x-name":"ann, bob"}"#
        ),
    ]) {
        let node = node(kind).await;
        let url = node.at("/head");
        let args = [&ask, &more, version, &[&url]].concat();
        upcat(&args, "").await.assert_printed(told);
    }
}

#[tokio::test]
async fn upcat_shows_why_node_refuses() {
    for (kind, version) in KINDS {
        let mut node = node(kind).await;
        let url = node.at("/refuse");
        let args = [&ECHO, version, &[&url]].concat();
        let ended = upcat(&args, "for the session only").await;
        ended.assert_failed(4, "upcat: refused with 403 Forbidden\n");
        assert!(ended.complaints.contains("\nx-why: no\n"));
        assert!(ended.complaints.ends_with("\n\nnot today\n"));
        assert_eq!(node.says().await.as_deref(), Some("heard 0 bytes"));
    }
}

#[tokio::test]
async fn upcat_takes_no_wrong_switch_from_node() {
    let node = node("http1").await;
    for (path, why) in [
        ("/other", "a 101 to other, which was not offered"),
        ("/none", "a 101 without `Upgrade`"),
        ("/unlisted", "a 101 without `Connection: upgrade`"),
    ] {
        let ended = upcat(&[&ECHO, &[&*node.at(path)][..]].concat(), "unheard").await;
        ended.assert_failed(5, why);
        assert!(!ended.complaints.contains("careless"));
    }
}

#[tokio::test]
async fn upcat_says_that_node_does_not_allow_extended_connect() {
    let node = node("http2-plain").await;
    let ended = upcat(&[&ECHO, &["--http2", &node.at("/echo")][..]].concat(), "").await;
    let why = "upcat: the HTTP/2 server does not allow extended CONNECT\n";
    ended.assert_failed(5, why);

    // CONNECT needs no leave.
    let (_tasks, target) = raw_echo().await;
    let ask = ["--http2", "--connect", &target, &node.url];
    let ended = upcat(&[&ask[..], &["--header", &ann()]].concat(), "hello").await;
    ended.assert_printed("hello");
}

#[tokio::test]
async fn upcat_says_that_node_speaks_another_version() {
    for ((kind, _), version) in KINDS.into_iter().zip(["--http2", "--http1.1"]) {
        let node = node(kind).await;
        let ended = upcat(&[&ECHO, &[version, &node.at("/echo")][..]].concat(), "").await;
        // Over HTTP/1.1 it is "the response is not valid HTTP", unless Node's frames arrive before the request is sent.
        ended.assert_failed(3, "upcat: the ");
    }
}

fn ann() -> String {
    format!("proxy-authorization: {ANN}")
}

#[tokio::test]
async fn upcat_has_a_tunnel_through_node() {
    let sent = noise(3_000_001);
    let (_tasks, target) = raw_echo().await;
    for (kind, version) in KINDS {
        let node = node(kind).await;
        let ask = ["--connect", &target, &node.url];
        let ended = upcat(&[version, &ask].concat(), "unheard").await;
        ended.assert_failed(4, "upcat: refused with 407 Proxy Authentication Required\n");
        assert!(ended.complaints.ends_with("\n\nwho is this\n"));

        let ended = upcat(&[version, &ask, &["--header", &ann()]].concat(), &sent).await;
        ended.assert_printed(&sent);
    }
}

#[tokio::test]
async fn upcat_asks_for_an_upgrade_through_node() {
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
        let ended = upcat(&[&ECHO, &through[..]].concat(), "unheard").await;
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
