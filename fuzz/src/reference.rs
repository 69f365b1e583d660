//! The RFC grammars, implemented as literally as possible. This module shares no code with the crate.

/// A request head, as hyper's parser sees it.
pub(crate) struct Head {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) is_http11: bool,
    lines: Vec<(String, Vec<u8>)>,
    /// The length in bytes.
    pub(crate) length: usize,
}

impl Head {
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut lines = [httparse::EMPTY_HEADER; 100];
        let mut head = httparse::Request::new(&mut lines);
        let length = match head.parse(bytes) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) | Err(_) => return None,
        };
        let line = |line: &httparse::Header| (line.name.to_ascii_lowercase(), line.value.to_vec());
        Some(Self {
            method: head.method?.to_owned(),
            target: head.path?.to_owned(),
            is_http11: head.version? == 1,
            lines: head.headers.iter().map(line).collect(),
            length,
        })
    }

    /// Names in lower case, and values.
    pub(crate) fn lines(&self) -> &[(String, Vec<u8>)] {
        &self.lines
    }

    /// Returns the lines of a field. The name must be in lower case.
    pub(crate) fn get(&self, name: &str) -> Vec<&[u8]> {
        let lines = self.lines.iter().filter(|line| line.0 == name);
        lines.map(|line| &*line.1).collect()
    }

    /// Whether only the next request, or bytes of the next protocol, follow the head.
    pub(crate) fn has_no_body(&self) -> bool {
        self.get("content-length").is_empty() && self.get("transfer-encoding").is_empty()
    }

    /// Returns the offered protocols if the head requests an upgrade: U1, U2, U12, U13.
    pub(crate) fn upgrade(&self) -> Option<Vec<Offer>> {
        let is_asked_for = self.is_http11
            && self.method != "CONNECT"
            && has_upgrade_option(&self.get("connection"));
        is_asked_for.then(|| offers(&self.get("upgrade"))).flatten()
    }
}

/// A `name["/"version]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) text: String,
    /// In lower case.
    pub(crate) name: String,
    pub(crate) version: Option<String>,
}

impl Offer {
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let parts: Vec<&[u8]> = text.split(|byte| *byte == b'/').collect();
        if parts.len() > 2 || !parts.iter().all(|part| is_token(part)) {
            return None;
        }
        let part = |part: &[u8]| String::from_utf8(part.to_vec()).expect("tokens are ASCII");
        Some(Self {
            text: part(text),
            name: part(parts[0]).to_ascii_lowercase(),
            version: parts.get(1).map(|version| part(version)),
        })
    }

    /// Whether a handler registered for this protocol accepts an offer of `other`.
    pub(crate) fn takes(&self, other: &Self) -> bool {
        self.name == other.name && (self.version.is_none() || self.version == other.version)
    }

    /// Whether the server chose this offer.
    pub(crate) fn is_same(&self, chosen: &Self) -> bool {
        self.name == chosen.name && self.version == chosen.version
    }
}

/// Returns the members of a list over several lines: a recipient may join lines with commas (RFC 9110 §5.3).
pub(crate) fn list(lines: &[&[u8]]) -> Vec<Vec<u8>> {
    let joined = lines.join(&b","[..]);
    let is_space = |byte: &u8| [b' ', b'\t'].contains(byte);
    let mut list = Vec::new();
    for member in joined.split(|byte| *byte == b',') {
        let start = member.iter().position(|byte| !is_space(byte));
        let end = member.iter().rposition(|byte| !is_space(byte));
        if let (Some(start), Some(end)) = (start, end) {
            list.push(member[start..=end].to_vec());
        }
    }
    list
}

/// RFC 9110 §5.6.2.
pub(crate) fn is_token(text: &[u8]) -> bool {
    let is_tchar = |byte: &u8| match byte {
        b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => true,
        byte => b"!#$%&'*+-.^_`|~".contains(byte),
    };
    !text.is_empty() && text.iter().all(is_tchar)
}

pub(crate) fn has_upgrade_option(connection: &[&[u8]]) -> bool {
    let options = list(connection);
    options
        .iter()
        .any(|option| option.eq_ignore_ascii_case(b"upgrade"))
}

/// Returns `None` if the field offers no protocol or is not a list of protocols.
pub(crate) fn offers(upgrade: &[&[u8]]) -> Option<Vec<Offer>> {
    let offers: Option<Vec<_>> = list(upgrade).iter().map(|one| Offer::parse(one)).collect();
    offers.filter(|offers| !offers.is_empty())
}

/// Returns the host, and the digits after a colon if the text has a port (RFC 3986 §3.2.2, §3.2.3).
/// IPv6 addresses are spelled as Rust formats them.
pub(crate) fn host_and_port(text: &str) -> Option<(String, Option<&str>)> {
    let (host, rest) = if text.starts_with('[') {
        let end = text.find(']')?;
        let address: std::net::Ipv6Addr = text[1..end].parse().ok()?;
        (format!("[{address}]"), &text[end + 1..])
    } else {
        let end = text.find(':').unwrap_or(text.len());
        let is_name = |c: char| c.is_ascii_alphanumeric() || "-._~!$&'()*+,;=".contains(c);
        if end == 0 || !text[..end].chars().all(is_name) {
            return None;
        }
        (text[..end].to_ascii_lowercase(), &text[end..])
    };
    match rest.strip_prefix(':') {
        Some(port) if port.chars().all(|c| c.is_ascii_digit()) => Some((host, Some(port))),
        None if rest.is_empty() => Some((host, None)),
        _ => None,
    }
}

/// Returns the port of a CONNECT target: C1.
pub(crate) fn connect_port(target: &str) -> Option<u16> {
    let (_, port) = host_and_port(target)?;
    port?.parse().ok().filter(|port| *port > 0)
}
