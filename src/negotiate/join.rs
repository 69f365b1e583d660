//! Joins several lines of a field (RFC 9110 §5.3).

use http::{
    HeaderMap, HeaderValue,
    header::{self, HeaderName},
};

/// Joins the lines of a field, in order. Empty lines add no member.
pub(crate) fn lines(headers: &mut HeaderMap, name: &HeaderName, separator: &str) {
    let header::Entry::Occupied(mut lines) = headers.entry(name) else {
        return;
    };
    if lines.iter().nth(1).is_none() {
        return;
    }
    let is_sensitive = lines.iter().any(HeaderValue::is_sensitive);
    let members: Vec<_> = lines
        .iter()
        .map(HeaderValue::as_bytes)
        .filter(|line| !line.is_empty())
        .collect();
    let joined = HeaderValue::from_bytes(&members.join(separator.as_bytes()));
    let mut joined = joined.expect("joined field values are a field value");
    joined.set_sensitive(is_sensitive);
    lines.insert(joined);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_lines_keep_their_order_and_sensitivity() {
        let mut headers = HeaderMap::new();
        let name = header::SEC_WEBSOCKET_PROTOCOL;
        lines(&mut headers, &name, ", ");
        assert!(headers.is_empty());
        headers.append(&name, HeaderValue::from_static("a"));
        lines(&mut headers, &name, ", ");
        assert_eq!(headers[&name], "a");
        headers.append(&name, HeaderValue::from_static(""));
        let mut secret = HeaderValue::from_static("b, c");
        secret.set_sensitive(true);
        headers.append(&name, secret);
        lines(&mut headers, &name, ", ");
        assert_eq!(
            headers.get_all(&name).iter().collect::<Vec<_>>(),
            ["a, b, c"]
        );
        assert!(headers[&name].is_sensitive());
    }
}
