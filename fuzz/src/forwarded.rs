//! The fields of a head that a reverse proxy forwards, and its `Forwarded` and `X-Forwarded-*` fields.
//!
//! The first line of the input configures the proxy: with `r` or `a` it replaces `Forwarded` or appends to it, with `R`
//! or `A` it does the same to `X-Forwarded-*`, with `s` clients use `https`, and `4`, `6` and `m` select the client's
//! address. The lines up to an empty line are fields of the request; the rest are fields of the backend's response,
//! which with `f` is a refusal.

use crate::{
    reference::{self, Head},
    wire,
};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, uri::Scheme};
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tower::{ServiceExt as _, service_fn};
use tower_upgrade::{
    UpgradeLayer,
    client::{self, Http1},
    tunnel::{Forwarding, ReverseProxy},
};

pub fn run(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let setup = Setup::new(lines.next().unwrap_or_default());
    // hyper accepts a hundred fields.
    let fields = lines.by_ref().take_while(|line| !line.is_empty()).take(90);
    let mut request = b"GET /path HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: chat\r\n".to_vec();
    let mut has_host = false;
    for line in fields.filter(|line| is_field(line)) {
        has_host |= is_named(line, b"host");
        request.extend_from_slice(line);
        request.extend_from_slice(b"\r\n");
    }
    if !has_host {
        request.extend_from_slice(b"Host: test\r\n");
    }
    request.extend_from_slice(b"\r\n");

    let mut answer = match setup.is_refused {
        true => b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n".to_vec(),
        false => b"HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: chat\r\n".to_vec(),
    };
    // A second `Upgrade` protocol would make the response invalid.
    let fields = lines.take(90).filter(|line| is_field(line));
    for line in fields.filter(|line| !is_named(line, b"upgrade")) {
        answer.extend_from_slice(line);
        answer.extend_from_slice(b"\r\n");
    }
    answer.extend_from_slice(b"\r\n");
    setup.check(&request, &answer);
}

/// Whether this is a field that does not frame a body.
fn is_field(line: &[u8]) -> bool {
    let Some(colon) = line.iter().position(|byte| *byte == b':') else {
        return false;
    };
    let is_framing = is_named(line, b"transfer-encoding") || is_named(line, b"content-length");
    HeaderName::from_bytes(&line[..colon]).is_ok()
        && HeaderValue::from_bytes(&line[colon + 1..]).is_ok()
        && !is_framing
}

fn is_named(line: &[u8], name: &[u8]) -> bool {
    line.len() > name.len()
        && line[..name.len()].eq_ignore_ascii_case(name)
        && line[name.len()] == b':'
}

/// The values of each field, in their order.
type Fields = BTreeMap<String, Vec<Vec<u8>>>;

fn fields(head: &Head) -> Fields {
    let mut fields = Fields::new();
    for (name, value) in head.lines() {
        fields.entry(name.clone()).or_default().push(value.clone());
    }
    fields
}

/// The hop-by-hop fields, including those between a client and a proxy.
const HOPS: [&str; 10] = [
    "connection",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Returns the field names in `Connection`, in lower case. Invalid names are skipped.
fn named(fields: &Fields) -> Vec<String> {
    let lines = fields.get("connection").map_or(&[][..], |lines| lines);
    let lines: Vec<_> = lines.iter().map(|line| &**line).collect();
    let mut options = reference::list(&lines);
    options.retain(|option| reference::is_token(option));
    let name = |option: Vec<u8>| String::from_utf8(option).expect("tokens are ASCII");
    let names = options.into_iter().map(name);
    names.map(|name| name.to_ascii_lowercase()).collect()
}

fn is_x_forwarded(name: &str) -> bool {
    name.replace('_', "-").starts_with("x-forwarded-")
}

struct Setup {
    forwarded: Forwarding,
    x_forwarded: Forwarding,
    is_https: bool,
    peer: Option<IpAddr>,
    is_refused: bool,
}

impl Setup {
    fn new(letters: &[u8]) -> Self {
        let mut setup = Self {
            forwarded: Forwarding::Remove,
            x_forwarded: Forwarding::Remove,
            is_https: false,
            peer: None,
            is_refused: false,
        };
        let address = |text: &str| Some(text.parse().expect("an address"));
        for letter in letters {
            match letter {
                b'r' => setup.forwarded = Forwarding::Replace,
                b'a' => setup.forwarded = Forwarding::Append,
                b'R' => setup.x_forwarded = Forwarding::Replace,
                b'A' => setup.x_forwarded = Forwarding::Append,
                b's' => setup.is_https = true,
                b'4' => setup.peer = address("192.0.2.1"),
                b'6' => setup.peer = address("2001:db8::1"),
                b'm' => setup.peer = address("::ffff:192.0.2.1"),
                b'f' => setup.is_refused = true,
                _ => {}
            }
        }
        setup
    }

    fn check(&self, request: &[u8], answer: &[u8]) {
        let sent = Head::parse(request).expect("a request");
        let asks_for_websocket =
            |offers: Vec<reference::Offer>| offers.iter().any(|offer| offer.name == "websocket");
        if sent.upgrade().is_some_and(asks_for_websocket) {
            // WebSocket needs a key: see `websocket_handshake`.
            return;
        }
        let seen = Arc::new(Mutex::new(Vec::new()));
        let read = wire::exchange(self.layer(&seen, answer), &[request]);
        let seen = std::mem::take(&mut *seen.lock().expect("no panic"));
        let mut read = Bytes::from(read);
        let mut response = wire::Head::take(&mut read).expect("an answer");
        if response.status == 100 {
            response = wire::Head::take(&mut read).expect("an answer");
        }
        let Some(mut due) = self.due(&sent) else {
            assert!([204, 400].contains(&response.status), "{}", response.status);
            assert_eq!(seen, b"", "the backend was asked");
            return;
        };
        let asked = Head::parse(&seen).expect("a request for the backend");
        assert_eq!(asked.length, seen.len(), "something is behind the head");
        assert_eq!((&*asked.method, &*asked.target), ("GET", "/path"));
        let mut asked = fields(&asked);
        self.check_element(asked.get("forwarded"), due.get("forwarded"), &sent);
        asked.remove("forwarded");
        due.remove("forwarded");
        assert_eq!(asked, due);
        self.check_response(&response, answer);
    }

    fn layer(&self, seen: &Arc<Mutex<Vec<u8>>>, answer: &[u8]) -> UpgradeLayer {
        let (seen, answer) = (Arc::clone(seen), answer.to_vec());
        let backend = service_fn(move |request: http::Request<client::Body>| {
            let (near, far) = tokio::io::duplex(64 * 1024);
            tokio::spawn(backend(far, Arc::clone(&seen), answer.clone()));
            async move {
                Http1::handshake_with_body(near)
                    .await?
                    .oneshot(request)
                    .await
            }
        });
        let peer = self.peer;
        let mut proxy = ReverseProxy::new(backend)
            .forwarded(self.forwarded)
            .x_forwarded(self.x_forwarded)
            .peer(move |_| peer.map(|address| SocketAddr::new(address, 1)));
        if self.is_https {
            proxy = proxy.scheme(Scheme::HTTPS);
        }
        UpgradeLayer::new().any_protocol(proxy)
    }

    /// Returns the known address, host and scheme of the client.
    fn known(&self, host: &[u8]) -> Vec<(&str, String)> {
        let address = self.peer.map(|address| address.to_canonical());
        let address = match address {
            Some(IpAddr::V6(address)) => format!("[{address}]"),
            Some(IpAddr::V4(address)) => address.to_string(),
            None => "unknown".to_owned(),
        };
        let host = String::from_utf8(host.to_vec()).expect("a host");
        let mut known = vec![("for", address), ("host", host)];
        if self.is_https {
            known.push(("proto", "https".to_owned()));
        }
        known
    }

    /// Returns the fields that the backend must receive. `None`: the proxy does not send the request.
    fn due(&self, sent: &Head) -> Option<Fields> {
        let offers = sent.upgrade()?.into_iter();
        let offers: Vec<_> = offers
            .filter(|offer| !["h2c", "http", "tls"].contains(&&*offer.name))
            .map(|offer| offer.text)
            .collect();
        let hosts = sent.get("host");
        let [host] = *hosts else { return None };
        reference::host_and_port(std::str::from_utf8(host).ok()?)?;
        let mut fields = fields(sent);
        let named = named(&fields);
        let is_for_the_end = |name: &String| {
            let ends = [
                "host",
                "authorization",
                "cookie",
                "origin",
                "content-type",
                "forwarded",
            ];
            ends.contains(&&**name) || name.starts_with("sec-") || name.starts_with("x-forwarded-")
        };
        if offers.is_empty() || named.iter().any(is_for_the_end) {
            return None;
        }

        fields.retain(|name, _| {
            let ends_here = HOPS.contains(&&**name) || named.contains(name) || name == "expect";
            let is_kept = !is_x_forwarded(name) || self.x_forwarded == Forwarding::Append;
            !ends_here && is_kept
        });
        fields.insert("connection".to_owned(), vec![b"upgrade".to_vec()]);
        fields.insert("upgrade".to_owned(), vec![offers.join(", ").into()]);
        if let Some(cookies) = fields.get_mut("cookie") {
            *cookies = vec![joined(cookies, b"; ")];
        }
        for name in ["sec-websocket-protocol", "sec-websocket-extensions"] {
            if let Some(lines) = fields.get_mut(name) {
                *lines = vec![joined(lines, b", ")];
            }
        }
        add(&mut fields, "via", "1.1 tower-upgrade");
        if self.x_forwarded != Forwarding::Remove {
            for (name, value) in self.known(host) {
                match name {
                    "for" => add(
                        &mut fields,
                        "x-forwarded-for",
                        value.trim_matches(['[', ']']),
                    ),
                    name => {
                        let name = format!("x-forwarded-{name}");
                        fields.entry(name).or_insert(vec![value.into()]);
                    }
                }
            }
        }
        if self.forwarded != Forwarding::Append {
            fields.remove("forwarded");
        }
        Some(fields)
    }

    /// Checks that `Forwarded` has the received elements, if the proxy forwards them, followed by one new element.
    fn check_element(&self, seen: Option<&Vec<Vec<u8>>>, came: Option<&Vec<Vec<u8>>>, sent: &Head) {
        if self.forwarded == Forwarding::Remove {
            assert_eq!(seen, None);
            return;
        }
        let [seen] = &**seen.expect("the field is present") else {
            panic!("more than one line: {seen:?}");
        };
        let came = joined(came.map_or(&[], |lines| lines), b", ");
        let mut added = seen.strip_prefix(&*came).expect("the received list");
        if !came.is_empty() {
            added = added.strip_prefix(b", ").expect("a comma");
        }
        let added = std::str::from_utf8(added).expect("text");
        assert_eq!(element(added), self.known(sent.get("host")[0]), "{added}");
    }

    /// Checks the response's status, and that the client receives no connection-specific field of the backend.
    fn check_response(&self, response: &wire::Head, answer: &[u8]) {
        let answer = [
            b"GET / HTTP/1.1",
            &answer[answer.iter().position(|byte| *byte == b'\r').unwrap_or(0)..],
        ]
        .concat();
        let answered = fields(&Head::parse(&answer).expect("fields"));
        match self.is_refused {
            true => assert_eq!(response.status, 403),
            false => response.assert_upgraded(Some("chat")),
        }
        // hyper, the layer and the proxy set these fields themselves.
        let own: &[&str] = match self.is_refused {
            true => &["connection", "content-length", "date", "via"],
            false => &["connection", "upgrade", "date", "via"],
        };
        assert!(response.has("via"), "it came through a proxy");
        for name in named(&answered).iter().map(|name| &**name).chain(HOPS) {
            if !own.contains(&name) {
                assert!(!response.has(name), "{name} is the connection's");
            }
        }
    }
}

/// Joins the values in one line, without the empty ones.
fn joined(lines: &[Vec<u8>], between: &[u8]) -> Vec<u8> {
    let lines: Vec<_> = lines
        .iter()
        .filter(|line| !line.is_empty())
        .cloned()
        .collect();
    lines.join(between)
}

/// Adds a member to a list, which becomes one line.
fn add(fields: &mut Fields, name: &str, member: &str) {
    let lines = fields.entry(name.to_owned()).or_default();
    lines.push(member.into());
    *lines = vec![joined(lines, b", ")];
}

/// Returns the pairs of one `Forwarded` element (RFC 7239 §4).
fn element(text: &str) -> Vec<(&str, String)> {
    let mut pairs = Vec::new();
    let mut rest = text;
    loop {
        let (name, value) = rest.split_once('=').expect("a pair");
        let value = match value.strip_prefix('"') {
            Some(quoted) => {
                let mut characters = quoted.char_indices();
                let mut value = String::new();
                loop {
                    match characters.next().expect("a quote at the end") {
                        (at, '"') => {
                            rest = &quoted[at + 1..];
                            break;
                        }
                        (_, '\\') => value.push(characters.next().expect("a quoted character").1),
                        (_, character) => value.push(character),
                    }
                }
                value
            }
            None => {
                let end = value.find(';').unwrap_or(value.len());
                rest = &value[end..];
                assert!(reference::is_token(&value.as_bytes()[..end]), "{text}");
                value[..end].to_owned()
            }
        };
        pairs.push((name, value));
        match rest.strip_prefix(';') {
            Some(next) => rest = next,
            None => break,
        }
    }
    assert_eq!(rest, "", "behind the element {text}");
    pairs
}

/// Records the request, answers, and sends nothing more.
async fn backend(mut io: DuplexStream, seen: Arc<Mutex<Vec<u8>>>, answer: Vec<u8>) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(io.read_u8().await.expect("a request"));
    }
    seen.lock().expect("no panic").extend(&request);
    io.write_all(&answer).await.expect("memory");
    let _ = io.shutdown().await;
    let mut more = Vec::new();
    let _ = io.read_to_end(&mut more).await;
    seen.lock().expect("no panic").extend(&more);
}
