//! The static table (RFC 9204 Appendix A).

use std::cmp::Ordering;

/// Returns the name and the value of an entry, or `None` if the index is larger than 98.
pub(super) fn get(index: usize) -> Option<(&'static [u8], &'static [u8])> {
    let (name, value) = TABLE.get(index)?;
    Some((name.as_bytes(), value.as_bytes()))
}

/// The index of the entry that is closest to a field line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// An entry with this name and value.
    Line(usize),
    /// An entry with this name.
    Name(usize),
    Nothing,
}

pub(super) fn find(name: &[u8], value: &[u8]) -> Found {
    let found = SORTED.binary_search_by(|index| {
        let entry = TABLE[usize::from(*index)];
        // By length first, which mostly decides without a look at the bytes.
        let by_name = entry.0.len().cmp(&name.len());
        by_name
            .then_with(|| entry.0.as_bytes().cmp(name))
            .then_with(|| entry.1.as_bytes().cmp(value))
    });
    let next_to = match found {
        Ok(at) => return Found::Line(usize::from(SORTED[at])),
        Err(at) => at.saturating_sub(1)..SORTED.len().min(at + 1),
    };
    // The entries with this name are next to each other, and the line would be before, between or after them.
    SORTED[next_to]
        .iter()
        .map(|index| usize::from(*index))
        .find(|index| TABLE[*index].0.as_bytes() == name)
        .map_or(Found::Nothing, Found::Name)
}

/// The indices of the entries, ordered by the length of the name, the name, and the value.
static SORTED: [u8; TABLE.len()] = {
    let mut sorted = [0; TABLE.len()];
    let mut count = 0;
    while count < sorted.len() {
        let mut at = count;
        while at > 0 && is_less(TABLE[count], TABLE[sorted[at - 1] as usize]) {
            sorted[at] = sorted[at - 1];
            at -= 1;
        }
        sorted[at] = count as u8;
        count += 1;
    }
    sorted
};

const fn is_less(a: (&str, &str), b: (&str, &str)) -> bool {
    if a.0.len() != b.0.len() {
        return a.0.len() < b.0.len();
    }
    match compare(a.0.as_bytes(), b.0.as_bytes()) {
        Ordering::Less => true,
        Ordering::Equal => matches!(compare(a.1.as_bytes(), b.1.as_bytes()), Ordering::Less),
        Ordering::Greater => false,
    }
}

/// `Ord::cmp`, which a constant cannot call.
const fn compare(a: &[u8], b: &[u8]) -> Ordering {
    let mut at = 0;
    while at < a.len() && at < b.len() {
        if a[at] != b[at] {
            return if a[at] < b[at] {
                Ordering::Less
            } else {
                Ordering::Greater
            };
        }
        at += 1;
    }
    if a.len() < b.len() {
        Ordering::Less
    } else if a.len() > b.len() {
        Ordering::Greater
    } else {
        Ordering::Equal
    }
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
