//! The static table (RFC 9204 Appendix A).

/// Returns the name and the value of an entry, or `None` if the index is larger than 98.
pub(super) fn get(index: usize) -> Option<(&'static [u8], &'static [u8])> {
    let (name, value) = TABLE.get(index)?;
    Some((name.as_bytes(), value.as_bytes()))
}

/// The index of an entry for a field line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// An entry with this name and value.
    Line(usize),
    /// An entry with this name.
    Name(usize),
    /// No entry has this name.
    Nothing,
}

/// Finds an entry with the name and the value of a field line, or else one with its name.
pub(super) fn find(name: &[u8], value: &[u8]) -> Found {
    if name.is_empty() {
        return Found::Nothing;
    }
    let first = usize::from(FIRST[slot(name)]);
    if TABLE
        .get(first)
        .is_none_or(|entry| entry.0.as_bytes() != name)
    {
        return Found::Nothing;
    }
    let mut index = first;
    while let Some(entry) = TABLE.get(index) {
        if entry.1.as_bytes() == value {
            return Found::Line(index);
        }
        index = usize::from(NEXT[index]);
    }
    Found::Name(first)
}

/// An index without an entry.
const NONE: u8 = u8::MAX;

/// The first entry of each name, in the slot of this name.
static FIRST: [u8; 128] = CHAINS.0;

/// The next entry with the same name, for each entry.
static NEXT: [u8; TABLE.len()] = CHAINS.1;

const CHAINS: ([u8; 128], [u8; TABLE.len()]) = {
    let (mut first, mut next) = ([NONE; 128], [NONE; TABLE.len()]);
    let mut index = TABLE.len();
    while index > 0 {
        index -= 1;
        let name = TABLE[index].0.as_bytes();
        let slot = slot(name);
        let after = first[slot];
        assert!(after == NONE || is_same(TABLE[after as usize].0.as_bytes(), name));
        next[index] = after;
        first[slot] = index as u8;
    }
    (first, next)
};

/// Returns the slot of a name that is not empty. The factors are chosen so that no two names of the table have the same
/// slot.
const fn slot(name: &[u8]) -> usize {
    let length = name.len();
    let (half, three_quarters) = (name[length / 2], name[length * 3 / 4]);
    (16 * length + half as usize + 103 * three_quarters as usize) % 128
}

/// Compares names in a constant, where `==` is not available.
const fn is_same(a: &[u8], b: &[u8]) -> bool {
    let mut at = 0;
    while at < a.len() && at < b.len() && a[at] == b[at] {
        at += 1;
    }
    at == a.len() && at == b.len()
}

const TABLE: [(&str, &str); 99] = [
    (":authority", ""),
    (":path", "/"),
    ("age", "0"),
    ("content-disposition", ""),
    ("content-length", "0"),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("referer", ""),
    ("set-cookie", ""),
    (":method", "CONNECT"),
    (":method", "DELETE"),
    (":method", "GET"),
    (":method", "HEAD"),
    (":method", "OPTIONS"),
    (":method", "POST"),
    (":method", "PUT"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "103"),
    (":status", "200"),
    (":status", "304"),
    (":status", "404"),
    (":status", "503"),
    ("accept", "*/*"),
    ("accept", "application/dns-message"),
    ("accept-encoding", "gzip, deflate, br"),
    ("accept-ranges", "bytes"),
    ("access-control-allow-headers", "cache-control"),
    ("access-control-allow-headers", "content-type"),
    ("access-control-allow-origin", "*"),
    ("cache-control", "max-age=0"),
    ("cache-control", "max-age=2592000"),
    ("cache-control", "max-age=604800"),
    ("cache-control", "no-cache"),
    ("cache-control", "no-store"),
    ("cache-control", "public, max-age=31536000"),
    ("content-encoding", "br"),
    ("content-encoding", "gzip"),
    ("content-type", "application/dns-message"),
    ("content-type", "application/javascript"),
    ("content-type", "application/json"),
    ("content-type", "application/x-www-form-urlencoded"),
    ("content-type", "image/gif"),
    ("content-type", "image/jpeg"),
    ("content-type", "image/png"),
    ("content-type", "text/css"),
    ("content-type", "text/html; charset=utf-8"),
    ("content-type", "text/plain"),
    ("content-type", "text/plain;charset=utf-8"),
    ("range", "bytes=0-"),
    ("strict-transport-security", "max-age=31536000"),
    (
        "strict-transport-security",
        "max-age=31536000; includesubdomains",
    ),
    (
        "strict-transport-security",
        "max-age=31536000; includesubdomains; preload",
    ),
    ("vary", "accept-encoding"),
    ("vary", "origin"),
    ("x-content-type-options", "nosniff"),
    ("x-xss-protection", "1; mode=block"),
    (":status", "100"),
    (":status", "204"),
    (":status", "206"),
    (":status", "302"),
    (":status", "400"),
    (":status", "403"),
    (":status", "421"),
    (":status", "425"),
    (":status", "500"),
    ("accept-language", ""),
    ("access-control-allow-credentials", "FALSE"),
    ("access-control-allow-credentials", "TRUE"),
    ("access-control-allow-headers", "*"),
    ("access-control-allow-methods", "get"),
    ("access-control-allow-methods", "get, post, options"),
    ("access-control-allow-methods", "options"),
    ("access-control-expose-headers", "content-length"),
    ("access-control-request-headers", "content-type"),
    ("access-control-request-method", "get"),
    ("access-control-request-method", "post"),
    ("alt-svc", "clear"),
    ("authorization", ""),
    (
        "content-security-policy",
        "script-src 'none'; object-src 'none'; base-uri 'none'",
    ),
    ("early-data", "1"),
    ("expect-ct", ""),
    ("forwarded", ""),
    ("if-range", ""),
    ("origin", ""),
    ("purpose", "prefetch"),
    ("server", ""),
    ("timing-allow-origin", "*"),
    ("upgrade-insecure-requests", "1"),
    ("user-agent", ""),
    ("x-forwarded-for", ""),
    ("x-frame-options", "deny"),
    ("x-frame-options", "sameorigin"),
];

#[cfg(test)]
mod tests;
