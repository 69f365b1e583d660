//! Whole request heads, through hyper's connection and the layer: U1 to U5, U9, U12, U13, C1 to C3, S7.
//!
//! If the first byte of the input is even, the rest is sent verbatim; if it is odd, a request is built from the rest.

use crate::{
    reference::{self, Head, Offer},
    wire,
};
use arbitrary::{Result, Unstructured};
use bytes::Bytes;
use tower_upgrade::{Session, UpgradeLayer, copy, handler_fn};

const SUPPORTED: [&str; 2] = ["foo", "bar/1"];

pub fn run(data: &[u8]) {
    let Some((how, data)) = data.split_first() else {
        return;
    };
    if how % 2 == 0 {
        check(data, false);
    } else if let Ok(request) = request(Unstructured::new(data)) {
        check(&request, true);
    }
}

/// Builds a request that hyper mostly accepts; the pieces that decide the outcome are common.
fn request(mut u: Unstructured) -> Result<Vec<u8>> {
    const METHODS: [&str; 5] = ["GET", "POST", "CONNECT", "HEAD", "X-ANY"];
    const TARGETS: [&str; 6] = ["/", "*", "host:80", "host", "[::1]:443", "ann@host:80"];
    const NAMES: [&str; 8] = [
        "Connection",
        "upgrade",
        "UPGRADE",
        "connection",
        "Host",
        "Expect",
        "Content-Length",
        "X",
    ];
    const VALUES: [&str; 24] = [
        "upgrade",
        "Upgrade",
        "close",
        "keep-alive",
        "foo",
        "FOO/2",
        "bar/1",
        "bar",
        "other/3",
        ",",
        ", ",
        " ,\t",
        "/",
        " ",
        "\"",
        "é",
        "x y",
        "upgraded",
        "HTTP/2.0",
        "host",
        "0",
        "3",
        "100-continue",
        ";q=1",
    ];
    let mut head = format!(
        "{} {} HTTP/1.{}\r\n",
        u.choose(&METHODS)?,
        u.choose(&TARGETS)?,
        { u8::from(u.ratio(7, 8)?) }
    );
    for _ in 0..u.int_in_range(0..=6)? {
        head += u.choose(&NAMES)?;
        head += ": ";
        for _ in 0..u.int_in_range(0..=4)? {
            head += u.choose(&VALUES)?;
        }
        head += "\r\n";
    }
    head += "\r\n";
    let mut request = head.into_bytes();
    request.extend_from_slice(u.take_rest());
    Ok(request)
}

/// `is_valid`: hyper accepts the first head, so that the expected outcome is observable.
fn check(sent: &[u8], is_valid: bool) {
    let echo = handler_fn(|session: Session| async move {
        let (mut reader, mut writer) = tokio::io::split(session.into_io());
        copy(&mut reader, &mut writer).await?;
        Ok(())
    });
    let mut layer = UpgradeLayer::new().connect(echo.clone());
    for protocol in SUPPORTED {
        layer = layer.protocol(protocol, echo.clone());
    }
    let mut read = Bytes::from(wire::exchange(layer, &[sent]));

    let mut sent = sent;
    let mut is_first = true;
    while let Some(response) = wire::Head::take(&mut read) {
        if response.status == 100 {
            continue;
        }
        let Some(request) = Head::parse(sent) else {
            assert!(response.status >= 400, "{} to no request", response.status);
            assert_eq!(read.len(), response.body_length());
            return;
        };
        let rest = &sent[request.length..];
        let due = due(&request);
        match response.status {
            101 => {
                let Some(Due::Upgrade(offer)) = due else {
                    panic!("no 101 is due")
                };
                response.assert_upgraded(Some(&offer));
            }
            200 => {
                assert!(matches!(due, Some(Due::Connect)), "no 200 is due");
                response.assert_upgraded(None);
            }
            status => {
                if is_valid && is_first && request.has_no_body() {
                    let sent = String::from_utf8_lossy(sent);
                    assert!(
                        due.is_none(),
                        "{status}, but an upgrade was expected: {sent:?}"
                    );
                }
                let body = match &*request.method {
                    "HEAD" => 0,
                    _ => response.body_length(),
                };
                drop(read.split_to(body));
                if request.method == "CONNECT" {
                    assert!(read.is_empty(), "an answer behind a refused CONNECT");
                }
                if !request.has_no_body() {
                    // hyper decides where the next request begins.
                    return;
                }
                sent = rest;
                is_first = false;
                continue;
            }
        }
        if request.has_no_body() {
            assert_eq!(read, rest, "the early bytes");
        }
        return;
    }
    // hyper may not answer a head with a malformed length that an HTTP/2 preface follows.
    let has_answer =
        !is_first || !is_valid || Head::parse(sent).is_none_or(|head| !head.has_no_body());
    let sent = String::from_utf8_lossy(sent);
    assert!(has_answer, "no answer to {sent:?}");
}

/// The expected protocol switch of a request.
enum Due {
    /// With this `Upgrade` field.
    Upgrade(String),
    Connect,
}

fn due(request: &Head) -> Option<Due> {
    if request.method == "CONNECT" {
        // hyper does not hand over the connection of an HTTP/1.0 request that has an `Upgrade`.
        let is_handed_over = request.is_http11 || request.get("upgrade").is_empty();
        let has_content = !request.get("transfer-encoding").is_empty()
            || request
                .get("content-length")
                .iter()
                .any(|length| length.iter().any(|digit| *digit != b'0'));
        let port = reference::connect_port(&request.target);
        return port
            .filter(|_| is_handed_over && !has_content)
            .map(|_| Due::Connect);
    }
    let offers = request.upgrade()?;
    let supported = SUPPORTED.map(|text| Offer::parse(text.as_bytes()).expect("a protocol"));
    let is_supported = |offer: &Offer| supported.iter().any(|own| own.takes(offer));
    let offer = offers.into_iter().find(is_supported)?;
    Some(Due::Upgrade(offer.text))
}
