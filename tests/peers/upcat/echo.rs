//! Our own echo, and what upcat says of all that can go wrong.

use super::{Upcat, noise, upcat};
use crate::example::Example;
use tokio::net::TcpSocket;

/// How echo is started, how upcat is told to speak with it, and how each version of HTTP refuses what it
/// does not know: that tells which one was spoken.
const WAYS: [(&[&str], &[&str], &str); 5] = [
    (&[], &[], HTTP1),
    (&[], &["--http2"], HTTP2),
    (&["--tls"], &["--insecure"], HTTP2),
    (&["--tls"], &["--insecure", "--http2"], HTTP2),
    (&["--tls"], &["--insecure", "--http1.1"], HTTP1),
];
const HTTP1: &str = "upcat: the offer was ignored: 200 OK\n";
const HTTP2: &str = "upcat: refused with 501 Not Implemented\n";

const ASKS: [&[&str]; 2] = [&["--protocol", "echo"], &["--connect", "example.com:443"]];

#[tokio::test]
async fn upcat_gets_back_all_that_it_sends() {
    let sent = noise(4_000_001);
    for (server, client, _) in WAYS {
        let server = Example::start("echo", server).await;
        for ask in ASKS {
            let ended = upcat(&[ask, client, &[&server.url]].concat(), &sent).await;
            ended.assert_printed(&sent);
        }
        server.stop("TERM").await;
    }
}

#[tokio::test]
async fn upcat_ends_with_an_empty_input() {
    for (server, client, _) in WAYS {
        let server = Example::start("echo", server).await;
        for ask in ASKS {
            let ended = upcat(&[ask, client, &[&server.url]].concat(), "").await;
            ended.assert_printed("");
        }
        server.stop("TERM").await;
    }
}

#[tokio::test]
async fn upcat_prints_what_comes_while_its_input_is_open() {
    for (server, client, _) in WAYS {
        let server = Example::start("echo", server).await;
        let mut sessions = Vec::new();
        for ask in ASKS {
            let mut upcat = Upcat::start(&[ask, client, &[&server.url]].concat()).await;
            for word in ["how", "do", "you", "do"] {
                upcat.expect_echo(word).await;
            }
            sessions.push(upcat);
        }
        // The server ends the sessions, and upcat with them.
        server.stop("TERM").await;
        for upcat in sessions {
            upcat.ended().await.assert_printed("");
        }
    }
}

#[tokio::test]
async fn upcat_speaks_the_version_that_it_is_told_to() {
    for (server, client, refused) in WAYS {
        let server = Example::start("echo", server).await;
        let ask = ["--protocol", "unknown", &server.url];
        let ended = upcat(&[client, &ask].concat(), "unheard").await;
        ended.assert_failed(4, refused);
        server.stop("TERM").await;
    }
}

#[tokio::test]
async fn upcat_says_that_the_answer_is_no_http() {
    // The tunnels of the echo lead nowhere: what is asked for in one comes back as its answer.
    let server = Example::start("echo", &[]).await;
    for version in ["--http1.1", "--http2"] {
        let through = ["--proxy", &server.url, version, "http://example.com/"];
        let ended = upcat(&[ASKS[0], &through].concat(), "unheard").await;
        let why = match version {
            "--http1.1" => "upcat: the response is not valid HTTP: ",
            _ => "upcat: the connection broke: ",
        };
        ended.assert_failed(3, why);
    }
    server.stop("TERM").await;
}

#[tokio::test]
async fn upcat_says_how_to_use_it() {
    let help = upcat(&["--help"], "").await;
    assert_eq!((help.code, &*help.complaints), (Some(0), ""));
    assert!(help.output.starts_with(b"Usage: upcat "));

    const URL: &str = "http://127.0.0.1:1/";
    let wrong: [(&[&str], &str); 11] = [
        (&[], "a URL is missing"),
        (&["--protocol", "echo"], "a URL is missing"),
        (&[URL], "--protocol or --connect is missing"),
        (
            &["--protocol", "echo", "--connect", "example.com:443", URL],
            "--connect and --protocol exclude each other",
        ),
        (
            &["--protocol", "echo", "127.0.0.1:1"],
            "not a URL with http:",
        ),
        (&["--protocol", "e cho", URL], "e cho"),
        (
            &["--protocol", "echo", "--header", "name", URL],
            "NAME:VALUE",
        ),
        (&["--protocol", "echo", "--loud", URL], "--loud"),
        (&["--protocol", "echo", URL, URL], URL),
        // What asks finds these, and before anything is sent: nobody listens there.
        (
            &["--connect", "example.com:x", URL],
            "no valid host and port",
        ),
        (
            &["--protocol", "echo", "http://ann:secret@127.0.0.1:1/"],
            "upcat: the URI has a user",
        ),
    ];
    for (args, why) in wrong {
        upcat(args, "").await.assert_failed(2, why);
    }
}

#[tokio::test]
async fn upcat_says_that_it_does_not_reach_the_server() {
    // It has a port, and does not listen there.
    let refuses = TcpSocket::new_v4().expect("a socket");
    let any = "127.0.0.1:0".parse().expect("an address");
    refuses.bind(any).expect("loopback");
    let url = format!("http://{}/", refuses.local_addr().expect("bound"));
    for args in [
        &["--protocol", "echo", &url][..],
        &["--protocol", "echo", "--http2", &url],
        &["--connect", "example.com:443", &url],
        &["--protocol", "echo", "--proxy", &url, "http://example.com/"],
    ] {
        let ended = upcat(args, "unheard").await;
        ended.assert_failed(3, "onnection refused");
    }
}

#[tokio::test]
async fn upcat_trusts_no_certificate_that_it_does_not_know() {
    let server = Example::start("echo", &["--tls"]).await;
    for ask in ASKS {
        let ended = upcat(&[ask, &[&server.url]].concat(), "unheard").await;
        // Or there are no roots here at all.
        ended.assert_failed(3, "certificate");
    }
    server.stop("TERM").await;
}
