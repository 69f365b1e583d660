//! upcat with `examples/echo.rs`, and its error messages.

use super::{Upcat, noise, upcat};
use crate::process::Example;
use tokio::net::TcpSocket;

/// The arguments of echo, those of upcat, and the message for an unknown protocol, which reveals the HTTP version in
/// use.
const CONNECTIONS: [(&[&str], &[&str], &str); 5] = [
    (&[], &[], HTTP1),
    (&[], &["--http2"], HTTP2),
    (&["--tls"], &["--insecure"], HTTP2),
    (&["--tls"], &["--insecure", "--http2"], HTTP2),
    (&["--tls"], &["--insecure", "--http1.1"], HTTP1),
];
const HTTP1: &str = "upcat: the offer was ignored: 200 OK\n";
const HTTP2: &str = "upcat: refused with 501 Not Implemented\n";

const REQUESTS: [&[&str]; 2] = [&["--protocol", "echo"], &["--connect", "example.com:443"]];

#[tokio::test]
async fn upcat_receives_the_whole_echo() {
    let sent = noise(4_000_001);
    for (server, client, _) in CONNECTIONS {
        let server = Example::start("echo", server).await;
        for request in REQUESTS {
            let ended = upcat(&[request, client, &[&server.url]].concat(), &sent).await;
            ended.assert_printed(&sent);
        }
        server.stop("TERM").await;
    }
}

#[tokio::test]
async fn upcat_exits_after_empty_input() {
    for (server, client, _) in CONNECTIONS {
        let server = Example::start("echo", server).await;
        for request in REQUESTS {
            let ended = upcat(&[request, client, &[&server.url]].concat(), "").await;
            ended.assert_printed("");
        }
        server.stop("TERM").await;
    }
}

#[tokio::test]
async fn upcat_prints_output_while_its_input_is_open() {
    for (server, client, _) in CONNECTIONS {
        let server = Example::start("echo", server).await;
        let mut sessions = Vec::new();
        for request in REQUESTS {
            let mut upcat = Upcat::start(&[request, client, &[&server.url]].concat()).await;
            for word in ["how", "do", "you", "do"] {
                upcat.expect_echo(word).await;
            }
            sessions.push(upcat);
        }
        // The server ends the sessions, and upcat exits.
        server.stop("TERM").await;
        for upcat in sessions {
            upcat.ended().await.assert_printed("");
        }
    }
}

#[tokio::test]
async fn upcat_uses_the_requested_http_version() {
    for (server, client, refused) in CONNECTIONS {
        let server = Example::start("echo", server).await;
        let options = ["--protocol", "unknown", &server.url];
        let ended = upcat(&[client, &options].concat(), "unread").await;
        ended.assert_failed(4, refused);
        server.stop("TERM").await;
    }
}

#[tokio::test]
async fn upcat_reports_invalid_http() {
    // The tunnels of the example echo: upcat receives its own request as the response.
    let server = Example::start("echo", &[]).await;
    for version in ["--http1.1", "--http2"] {
        let through = ["--proxy", &server.url, version, "http://example.com/"];
        let ended = upcat(&[REQUESTS[0], &through].concat(), "unread").await;
        let why = match version {
            "--http1.1" => "upcat: the response is not valid HTTP: ",
            _ => "upcat: the connection broke: ",
        };
        ended.assert_failed(3, why);
    }
    server.stop("TERM").await;
}

#[tokio::test]
async fn upcat_explains_its_arguments() {
    let help = upcat(&["--help"], "").await;
    assert_eq!((help.code, &*help.stderr), (Some(0), ""));
    assert!(help.output.starts_with(b"Usage: upcat "));

    const URL: &str = "http://127.0.0.1:1/";
    let wrong: [(&[&str], &str); 14] = [
        (&[], "a URL is missing"),
        (&["--protocol", "echo"], "a URL is missing"),
        (&[URL], "--protocol, --connect or --udp is missing"),
        (
            &["--protocol", "echo", "--connect", "example.com:443", URL],
            "--connect and --udp exclude --protocol",
        ),
        (
            &["--udp", "example.com:443", "--protocol", "echo", URL],
            "--connect and --udp exclude --protocol",
        ),
        (
            &["--udp", "a.test:1", "--connect", "a.test:1", URL],
            "--connect and --udp exclude each other",
        ),
        (
            &["--udp", "example.com", URL],
            "the target must be a host and a port",
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
        // The client reports these errors before it connects to the port, on which no server listens.
        (
            &["--connect", "example.com:x", URL],
            "not a valid host and port",
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
async fn upcat_reports_a_refused_connection() {
    // A bound port without a listener.
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
        let ended = upcat(args, "unread").await;
        ended.assert_failed(3, "onnection refused");
    }
}

#[tokio::test]
async fn upcat_refuses_an_untrusted_certificate() {
    let server = Example::start("echo", &["--tls"]).await;
    for request in REQUESTS {
        let ended = upcat(&[request, &[&server.url]].concat(), "unread").await;
        // The error is the same on a machine without root certificates.
        ended.assert_failed(3, "certificate");
    }
    server.stop("TERM").await;
}
