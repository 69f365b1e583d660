//! A client's interpretation of a server's response: K2, K3, K5, K7, S7.
//!
//! The lowest bit of the first input byte says whether the client requests a tunnel. The byte also says whether the
//! server sends the rest of the input verbatim, or builds a response from it. The second byte sets the size of the
//! segments in which the server sends the response.

use crate::{
    reference::{self, Offer},
    wire::{self, HANG},
};
use arbitrary::{Result, Unstructured};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    time::{sleep, timeout},
};
use tower::{Layer as _, ServiceExt as _};
use tower_upgrade::client::{ErrorKind, Http1, Request, UpgradeLayer};

const OFFERED: [&str; 2] = ["foo", "bar/1"];

pub fn run(data: &[u8]) {
    let [how, step, data @ ..] = data else { return };
    let is_connect = how & 1 == 1;
    let step = usize::from(*step) + 1;
    if how & 2 == 0 {
        check(is_connect, data, step);
    } else if let Ok(answer) = answer(Unstructured::new(data)) {
        check(is_connect, &answer, step);
    }
}

/// Builds a response that hyper mostly accepts; the pieces that decide the outcome are common.
fn answer(mut u: Unstructured) -> Result<Vec<u8>> {
    const STATUS: [&str; 12] = [
        "101 Switching Protocols",
        "101",
        "101 ",
        "100 Continue",
        "103 Early Hints",
        "200 OK",
        "204 No Content",
        "299 ",
        "301 Moved",
        "403 No",
        "426 Upgrade Required",
        "999 ?",
    ];
    const NAMES: [&str; 7] = [
        "Connection",
        "connection",
        "Upgrade",
        "UPGRADE",
        "Content-Length",
        "Transfer-Encoding",
        "X",
    ];
    const VALUES: [&str; 16] = [
        "upgrade", "Upgrade", "close", "foo", "FOO", "foo/1", "bar/1", "bar", "other", ",", ", ",
        "/", "\"", "0", "3", "chunked",
    ];
    let mut answer = String::new();
    for _ in 0..u.int_in_range(1..=2)? {
        let version = u8::from(u.ratio(7, 8)?);
        answer += &format!("HTTP/1.{version} {}\r\n", u.choose(&STATUS)?);
        for _ in 0..u.int_in_range(0..=5)? {
            answer += u.choose(&NAMES)?;
            answer += ": ";
            for _ in 0..u.int_in_range(0..=3)? {
                answer += u.choose(&VALUES)?;
            }
            answer += "\r\n";
        }
        answer += "\r\n";
    }
    let mut answer = answer.into_bytes();
    answer.extend_from_slice(u.take_rest());
    Ok(answer)
}

/// The expected outcome of a response.
#[derive(Debug, PartialEq)]
enum Due {
    /// The protocol (`None` for a tunnel), and the bytes after the head.
    Session(Option<String>, Vec<u8>),
    /// The status. `None`: hyper may also reject the head, because of its body framing.
    Refused(Option<u16>),
    Failed(ErrorKind),
}

fn due(is_connect: bool, mut answer: &[u8]) -> Due {
    loop {
        let mut lines = [httparse::EMPTY_HEADER; 100];
        let mut head = httparse::Response::new(&mut lines);
        let Ok(httparse::Status::Complete(length)) = head.parse(answer) else {
            return Due::Failed(ErrorKind::Transport);
        };
        let rest = &answer[length..];
        let status = head.code.expect("a whole head");
        let get = |name: &str| -> Vec<&[u8]> {
            let is_meant = |line: &&httparse::Header| line.name.eq_ignore_ascii_case(name);
            let lines = head.headers.iter().filter(is_meant);
            lines.map(|line| line.value).collect()
        };
        let is_framed = !get("content-length").is_empty() || !get("transfer-encoding").is_empty();
        return match status {
            0..100 => Due::Failed(ErrorKind::Transport),
            100 | 102..200 => {
                answer = rest;
                continue;
            }
            101 if is_connect => Due::Failed(ErrorKind::Protocol),
            101 => {
                let is_asked_for = |offer: &&Offer| {
                    let mut offered = OFFERED.iter().map(|text| Offer::parse(text.as_bytes()));
                    offered.any(|own| own.is_some_and(|own| own.is_same(offer)))
                };
                let is_switch =
                    head.version == Some(1) && reference::has_upgrade_option(&get("connection"));
                match reference::offers(&get("upgrade")).as_deref() {
                    Some([one]) if is_switch && is_asked_for(&one) => {
                        Due::Session(Some(one.text.clone()), rest.to_vec())
                    }
                    _ => Due::Failed(ErrorKind::Protocol),
                }
            }
            // hyper keeps a connection open that has no pending bytes.
            204 if is_connect => Due::Failed(ErrorKind::Unsupported),
            200..300 if is_connect => Due::Session(None, rest.to_vec()),
            _ if is_framed => Due::Refused(None),
            status => Due::Refused(Some(status)),
        };
    }
}

fn check(is_connect: bool, answer: &[u8], step: usize) {
    let due = due(is_connect, answer);
    let (got, is_dropped) = wire::paused(async {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let ask = timeout(HANG, ask(is_connect, near));
        let (got, is_dropped) = tokio::join!(ask, serve(far, answer, step));
        (got.expect("the client hangs"), is_dropped)
    });
    match (&due, &got) {
        // hyper decides the body framing.
        (Due::Refused(None), Due::Refused(_) | Due::Failed(ErrorKind::Transport)) => {}
        _ => assert_eq!(got, due),
    }
    if due == Due::Failed(ErrorKind::Protocol) {
        assert!(is_dropped, "the connection is still there");
    }
}

/// The outcome of a request, and all bytes that can be read from it.
async fn ask(is_connect: bool, io: DuplexStream) -> Due {
    let connection = Http1::handshake(io).await.expect("memory");
    let client = UpgradeLayer::new().layer(connection);
    let request = match is_connect {
        true => Request::connect("host:80".parse().expect("an authority")),
        false => OFFERED.iter().fold(
            Request::get("http://host/".parse().expect("a URI")),
            |request, protocol| request.protocol(*protocol),
        ),
    };
    match client.oneshot(request).await {
        Ok(session) => {
            let protocol = session.protocol().map(|one| one.as_str().to_owned());
            let mut read = Vec::new();
            let mut io = session.into_io();
            io.read_to_end(&mut read).await.expect("memory");
            Due::Session(protocol, read)
        }
        Err(error) if error.kind() == ErrorKind::Refused => {
            let response = error.into_response().expect("the rejecting response");
            let status = response.status().as_u16();
            // The body may be truncated.
            let _ = http_body_util::BodyExt::collect(response.into_body()).await;
            Due::Refused(Some(status))
        }
        Err(error) => Due::Failed(error.kind()),
    }
}

/// Sends the response, and returns whether the client dropped the connection before this side closed it.
async fn serve(mut io: DuplexStream, answer: &[u8], step: usize) -> bool {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(io.read_u8().await.expect("a request"));
    }
    for segment in answer.chunks(step) {
        // The client may already have closed the connection.
        if io.write_all(segment).await.is_err() {
            break;
        }
        sleep(Duration::from_millis(1)).await;
    }
    let mut more = Vec::new();
    let end = timeout(Duration::from_secs(1), io.read_to_end(&mut more)).await;
    assert_eq!(more, b"", "nothing is sent behind the request");
    let _ = io.shutdown().await;
    end.is_ok()
}
