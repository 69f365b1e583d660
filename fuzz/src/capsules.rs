//! The capsules of a peer whose bytes arrive in any parts, and the path of its request: D1 and D2 (RFC 9297 §3.2, RFC 9298
//! §3).
//!
//! The first input byte selects the limit of a datagram, the second is a number of lengths, the next bytes are these
//! lengths, and the rest is the stream. The stream arrives in parts of these lengths, repeated until its end, or in one
//! part without a length. The rest is also the path of a request.

use crate::parts;
use std::net::Ipv6Addr;
use tower_upgrade::fuzzing;

pub fn run(data: &[u8]) {
    let [settings, count, rest @ ..] = data else {
        return;
    };
    let max = [0, 70, 20_000, 65_543][usize::from(settings & 3)];
    let (lengths, stream) = rest.split_at(rest.len().min(usize::from(*count)));
    let mut at = 0;
    let parts = parts::lengths(lengths, stream.len(), 1).into_iter();
    let parts = parts.map(|length| {
        at += length;
        &stream[at - length..at]
    });
    let (found, error) = fuzzing::datagrams(max, parts);
    let (expected, end) = capsules(max, stream);
    assert_eq!(found, expected);
    assert_eq!(error.is_some(), end.is_some(), "{error:?}");
    if let (Some(error), Some(end)) = (error, end) {
        assert!(error.contains(end), "{error}");
    }
    if let Ok(path) = std::str::from_utf8(rest) {
        check_target(path);
    }
}

/// Decodes a whole stream. Returns the datagrams, and a part of the message of the error.
fn capsules(max: usize, mut stream: &[u8]) -> (Vec<Vec<u8>>, Option<&'static str>) {
    let mut found = Vec::new();
    while !stream.is_empty() {
        let (Some(kind), Some(length)) = (number(&mut stream), number(&mut stream)) else {
            return (found, Some("ended within a capsule"));
        };
        if kind == 0 && length > max as u64 {
            return (found, Some("too long"));
        }
        if length > stream.len() as u64 {
            return (found, Some("ended within a capsule"));
        }
        let (value, rest) = stream.split_at(length as usize);
        stream = rest;
        if kind == 0 {
            found.push(value.to_vec());
        }
    }
    (found, None)
}

/// Reads a variable-length integer (RFC 9000 §16), as its pseudocode in §A.1 does.
fn number(stream: &mut &[u8]) -> Option<u64> {
    let (first, mut rest) = stream.split_first()?;
    let prefix = first >> 6;
    let mut value = u64::from(first & 0x3f);
    for _ in 1..1 << prefix {
        let (byte, after) = rest.split_first()?;
        value = (value << 8) + u64::from(*byte);
        rest = after;
    }
    *stream = rest;
    Some(value)
}

/// Checks the target of a path of RFC 9298 §3 against a plain reading.
fn check_target(path: &str) {
    let found = fuzzing::udp_target(path);
    let expected = target(path);
    assert_eq!(found.map(|target| target.to_string()), expected, "{path}");
}

fn target(path: &str) -> Option<String> {
    let mut segments = path.split('/');
    let expected = [Some(""), Some(".well-known"), Some("masque"), Some("udp")];
    if expected.iter().any(|name| segments.next() != *name) {
        return None;
    }
    let (host, port, rest) = (segments.next()?, segments.next()?, segments.next()?);
    if !rest.is_empty() || segments.next().is_some() || path.contains(['?', '&', '=', '#']) {
        return None;
    }
    let (host, port) = (decode(host)?, decode(port)?);
    if port.is_empty() || !port.chars().all(|char| char.is_ascii_digit()) {
        return None;
    }
    let port = port.parse::<u16>().ok().filter(|port| *port > 0)?;
    if host.parse::<Ipv6Addr>().is_ok() {
        return Some(format!("[{host}]:{port}"));
    }
    let is_name = |char: char| char.is_ascii_alphanumeric() || "!$&'()*+,-.;=_~".contains(char);
    (!host.is_empty() && host.chars().all(is_name)).then(|| format!("{host}:{port}"))
}

/// Decodes `%` and two hexadecimal digits; any other `%` stays.
fn decode(text: &str) -> Option<String> {
    let (bytes, mut decoded, mut at) = (text.as_bytes(), Vec::new(), 0);
    let digit = |at: usize| char::from(*bytes.get(at)?).to_digit(16);
    while let Some(byte) = bytes.get(at) {
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                at += 3;
            }
            _ => {
                decoded.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8(decoded).ok()
}
