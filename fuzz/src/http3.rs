//! Streams of HTTP/3 whose bytes arrive in any parts, and heads of requests (RFC 9114 §4.3, §4.4, §7).
//!
//! The first input byte selects the kind of the input, and a limit.
//!
//! - Data of a tunnel, or frames: the second byte is a number of lengths, the next bytes are these lengths, and the rest is
//!   the stream. The stream arrives in parts of these lengths, repeated until its end, or in one part without a length.
//! - A field section.
//! - The lines of a field section: a name, a colon, a space, a value, and a line feed.

use crate::parts;
use http::{HeaderMap, Method, Uri};
use std::collections::HashSet;
use tower_upgrade::fuzzing;

const DATA: u64 = 0;
const FRAME_UNEXPECTED: u64 = 0x105;
const FRAME_ERROR: u64 = 0x106;
const MESSAGE_ERROR: u64 = 0x10e;
const DECOMPRESSION_FAILED: u64 = 0x200;

pub fn run(data: &[u8]) {
    let [settings, rest @ ..] = data else {
        return;
    };
    let limit = usize::from(settings >> 2 & 3);
    match settings & 3 {
        0 => check_stream(rest, limit, check_tunnel),
        1 => check_stream(rest, limit, check_frames),
        2 => check_request(rest, limit),
        _ => {
            let lines = rest.split(|byte| *byte == b'\n').filter_map(line);
            let lines = lines.map(|(name, value)| (name, value, false));
            check_request(&fuzzing::encode_section(lines), limit);
        }
    }
}

/// Calls `check` with the maximum length of a read, the parts, and the stream.
fn check_stream(data: &[u8], limit: usize, check: fn(usize, &[&[u8]], &[u8])) {
    let [count, rest @ ..] = data else {
        return;
    };
    let (lengths, stream) = rest.split_at(rest.len().min(usize::from(*count)));
    let mut at = 0;
    let parts = parts::lengths(lengths, stream.len(), 1).into_iter();
    let parts = parts.map(|length| {
        at += length;
        &stream[at - length..at]
    });
    let parts: Vec<_> = parts.collect();
    check([1, 3, 64, usize::MAX][limit], &parts, stream);
}

fn check_tunnel(max: usize, parts: &[&[u8]], stream: &[u8]) {
    let found = fuzzing::http3_tunnel(max, parts.iter().copied());
    assert_eq!(found, tunnel(stream));
}

/// Reads a whole tunnel. Returns its data, and the code of the error that ended it.
fn tunnel(stream: &[u8]) -> (Vec<u8>, Option<u64>) {
    let (frames, mut end) = frames(stream);
    let mut data = Vec::new();
    for frame in frames {
        match frame.kind {
            DATA => data.extend_from_slice(frame.payload),
            // Frames of RFC 9114, and the reserved types of HTTP/2.
            1..=9 | 0xd => {
                end = Some(FRAME_UNEXPECTED);
                break;
            }
            _ => {}
        }
    }
    (data, end)
}

fn check_frames(max: usize, parts: &[&[u8]], stream: &[u8]) {
    let (expected, end) = frames(stream);
    let expected = expected.into_iter().enumerate().map(|(at, frame)| {
        let payload = match at % 2 {
            0 => frame.payload.to_vec(),
            _ => Vec::new(),
        };
        (frame.kind, frame.length, payload)
    });
    let expected = (expected.collect::<Vec<_>>(), end);
    assert_eq!(fuzzing::http3_frames(max, parts.iter().copied()), expected);
}

struct Frame<'a> {
    kind: u64,
    length: u64,
    /// The payload, or its start if the stream ends within the frame.
    payload: &'a [u8],
}

/// Splits a whole stream into frames.
fn frames(mut stream: &[u8]) -> (Vec<Frame<'_>>, Option<u64>) {
    let mut frames = Vec::new();
    while !stream.is_empty() {
        let (Some(kind), Some(length)) = (number(&mut stream), number(&mut stream)) else {
            return (frames, Some(FRAME_ERROR));
        };
        let end = stream.len().min(usize::try_from(length).expect("64 bits"));
        let (payload, rest) = stream.split_at(end);
        stream = rest;
        frames.push(Frame {
            kind,
            length,
            payload,
        });
        if (end as u64) < length {
            return (frames, Some(FRAME_ERROR));
        }
    }
    (frames, None)
}

/// Removes a variable-length integer (RFC 9000 §16), as its pseudocode in §A.1 does.
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

/// Splits a line at the first `": "`.
fn line(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = line.windows(2).position(|separator| separator == b": ")?;
    Some((&line[..at], &line[at + 2..]))
}

type Line = (Vec<u8>, Vec<u8>);

fn check_request(section: &[u8], limit: usize) {
    let max = [70, 300, 1 << 16, usize::MAX][limit];
    let (lines, error) = fuzzing::decode_section(section, max);
    match (fuzzing::http3_request(section, max), error) {
        (Ok((method, uri, headers, protocol)), None) => {
            check_pseudo(&lines, &method, &uri, protocol.as_deref());
            check_fields(&lines, &headers);
        }
        (Err(Some((MESSAGE_ERROR, false))), None) => assert!(!is_simple(&lines), "{lines:?}"),
        // A malformed line comes first.
        (Err(Some((MESSAGE_ERROR, false))), Some(_)) => {}
        (Err(Some((DECOMPRESSION_FAILED, true))), Some("malformed")) => {}
        (Err(None), Some("too large")) => {}
        (found, error) => panic!("{found:?} {error:?}"),
    }
}

/// Checks that each pseudo-header field occurs once and first, and is a part of the request (RFC 9114 §4.3.1).
fn check_pseudo(lines: &[Line], method: &Method, uri: &Uri, protocol: Option<&str>) {
    let is_pseudo = |line: &Line| line.0.first() == Some(&b':');
    let fields = lines.iter().position(|line| !is_pseudo(line));
    let (pseudo, fields) = lines.split_at(fields.unwrap_or(lines.len()));
    assert!(!fields.iter().any(is_pseudo));
    let names: HashSet<_> = pseudo.iter().map(|(name, _)| &name[..]).collect();
    assert_eq!(names.len(), pseudo.len(), "a field twice");
    let value = |name: &str| {
        let line = pseudo.iter().find(|line| line.0 == name.as_bytes());
        line.map(|(_, value)| &value[..])
    };
    assert_eq!(value(":method"), Some(method.as_str().as_bytes()));
    assert_eq!(value(":protocol"), protocol.map(str::as_bytes));
    let authority = uri.authority().expect("an authority").as_str();
    if let Some(value) = value(":authority") {
        assert_eq!(value, authority.as_bytes());
    }
    if *method == Method::CONNECT && protocol.is_none() {
        assert_eq!(names.len(), 2);
        assert_eq!(uri.to_string(), authority);
        return;
    }
    assert!(protocol.is_none() || *method == Method::CONNECT);
    let scheme = uri.scheme_str().expect("a scheme");
    assert!(
        value(":scheme")
            .expect("a scheme")
            .eq_ignore_ascii_case(scheme.as_bytes())
    );
    let path = uri.path_and_query().expect("a path").as_str();
    // `http` removes a fragment.
    let without_fragment = value(":path")
        .expect("a path")
        .split(|byte| *byte == b'#')
        .next();
    assert_eq!(without_fragment, Some(path.as_bytes()));
    if *method == Method::OPTIONS && path == "*" {
        return;
    }
    // A path without a slash would extend the host.
    let written = uri.to_string().parse::<Uri>().expect("a URI");
    assert_eq!(written.authority(), uri.authority(), "{uri}");
}

/// Checks that the fields have no upper-case name and none of a connection (RFC 9114 §4.2), and that each value is there.
fn check_fields(lines: &[Line], headers: &HeaderMap) {
    const OF_THE_CONNECTION: [&[u8]; 5] = [
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"transfer-encoding",
        b"upgrade",
    ];
    let mut cookies = Vec::new();
    let is_name = |byte: &u8| {
        let is_alphanumeric = byte.is_ascii_lowercase() || byte.is_ascii_digit();
        is_alphanumeric || b"!#$%&'*+-.^_`|~".contains(byte)
    };
    for (name, value) in lines {
        assert!(name.strip_prefix(b":").unwrap_or(name).iter().all(is_name));
        assert!(!OF_THE_CONNECTION.contains(&&name[..]));
        assert!(name != b"te" || value == b"trailers");
        if name == b"cookie" {
            cookies.push(&value[..]);
        } else if name[0] != b':' {
            let name = std::str::from_utf8(name).expect("a name");
            assert!(
                headers
                    .get_all(name)
                    .iter()
                    .any(|found| found == &value[..])
            );
        }
    }
    if !cookies.is_empty() {
        assert_eq!(headers["cookie"], &cookies.join(&b"; "[..])[..]);
    }
}

/// Returns `true` for a head that is certainly valid: GET, `https`, and short names and values of letters.
fn is_simple(lines: &[Line]) -> bool {
    let is_word = |word: &[u8]| !word.is_empty() && word.iter().all(u8::is_ascii_lowercase);
    let [method, scheme, authority, path, fields @ ..] = lines else {
        return false;
    };
    (&method.0[..], &method.1[..]) == (b":method", b"GET")
        && (&scheme.0[..], &scheme.1[..]) == (b":scheme", b"https")
        && authority.0 == b":authority"
        && is_word(&authority.1)
        && path.0 == b":path"
        && path
            .1
            .strip_prefix(b"/")
            .is_some_and(|path| path.is_empty() || is_word(path))
        && fields.iter().all(|(name, value)| {
            let is_special = ["connection", "content-length", "host", "te", "upgrade"]
                .iter()
                .any(|special| name == special.as_bytes());
            is_word(name) && is_word(value) && !is_special
        })
}
