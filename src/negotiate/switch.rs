//! The response head of a switch, and what is taken off a response that turned out to be none.

use super::token;
use crate::Protocol;
use http::{HeaderMap, HeaderValue, StatusCode, header};

/// What makes a head the head of a switch: the protocol that was chosen, as it was offered, and the
/// fields that the handler adds.
#[derive(Clone, Debug)]
pub(crate) struct Switch {
    protocol: HeaderValue,
    added: HeaderMap,
}

impl Switch {
    pub(crate) const STATUS: StatusCode = StatusCode::SWITCHING_PROTOCOLS;

    /// The switch of a request with `offered` as its `Upgrade`, to one of the protocols in there.
    ///
    /// `added` may not touch what frames the message: those fields are dropped from it.
    pub(crate) fn new(offered: &HeaderMap, protocol: &Protocol, mut added: HeaderMap) -> Self {
        if !added.is_empty() {
            for name in [
                header::CONNECTION,
                header::UPGRADE,
                header::CONTENT_LENGTH,
                header::TRANSFER_ENCODING,
            ] {
                added.remove(name);
            }
        }
        // Most requests offer one protocol: then the line is the value.
        let line = offered
            .get_all(header::UPGRADE)
            .iter()
            .find(|line| *line == protocol.as_str());
        let protocol = match line {
            Some(line) => line.clone(),
            None => HeaderValue::from_str(protocol.as_str())
                .expect("tokens with a slash between them are a field value"),
        };
        Self { protocol, added }
    }

    /// The fields of the head.
    pub(crate) fn headers(&self) -> HeaderMap {
        let mut headers = self.added.clone();
        self.enforce(&mut headers);
        headers
    }

    /// Makes sure of the fields without which a 101 is none, and takes off those that none may have
    /// (RFC 9110 §7.8 and §8.6, RFC 9112 §6.1), whatever the layers on its way did to them.
    pub(crate) fn enforce(&self, headers: &mut HeaderMap) {
        headers.remove(header::CONTENT_LENGTH);
        headers.remove(header::TRANSFER_ENCODING);
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, self.protocol.clone());
    }

    /// Takes the head of a switch off a response that became something else.
    pub(crate) fn strip(&self, status: StatusCode, headers: &mut HeaderMap) {
        // A 426 has an `Upgrade` of its own: what it lists is for the next request.
        if status != StatusCode::UPGRADE_REQUIRED {
            headers.remove(header::UPGRADE);
            remove_upgrade_option(headers);
        }
        for (name, added) in &self.added {
            retain(headers, name.clone(), |value| value != added);
        }
    }
}

/// Takes `upgrade` out of the options of `Connection`, also where a layer has joined them.
fn remove_upgrade_option(headers: &mut HeaderMap) {
    let mut others: Vec<u8> = Vec::new();
    for option in headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|line| token::members(line.as_bytes()))
        .filter(|option| !option.eq_ignore_ascii_case(b"upgrade"))
    {
        if !others.is_empty() {
            others.extend_from_slice(b", ");
        }
        others.extend_from_slice(option);
    }
    headers.remove(header::CONNECTION);
    if !others.is_empty() {
        let others = HeaderValue::from_bytes(&others).expect("parts of field values are one");
        headers.insert(header::CONNECTION, others);
    }
}

/// Keeps those lines of a field that `keep` says to keep, in order.
fn retain(headers: &mut HeaderMap, name: header::HeaderName, keep: impl Fn(&HeaderValue) -> bool) {
    if let header::Entry::Occupied(entry) = headers.entry(name) {
        let (name, values) = entry.remove_entry_mult();
        let kept: Vec<_> = values.filter(keep).collect();
        for value in kept {
            headers.append(name.clone(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &'static str) -> HeaderValue {
        HeaderValue::from_static(text)
    }

    #[test]
    fn a_head_that_became_a_refusal_keeps_only_what_is_not_the_switch() {
        let mut added = HeaderMap::new();
        added.append("sec-websocket-protocol", value("chat"));
        added.append(header::VARY, value("origin"));
        let switch = Switch::new(&HeaderMap::new(), &"websocket".parse().unwrap(), added);

        let mut headers = switch.headers();
        headers.append(header::VARY, value("accept-encoding"));
        headers.append(header::CONNECTION, value("Upgrade , close"));
        headers.append(header::CONNECTION, value("te"));
        switch.strip(StatusCode::FORBIDDEN, &mut headers);

        let left: Vec<_> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value))
            .collect();
        assert_eq!(left.len(), 2, "{left:?}");
        assert_eq!(headers[header::VARY], "accept-encoding");
        assert_eq!(headers[header::CONNECTION], "close, te");
    }

    #[test]
    fn what_a_handler_adds_cannot_change_the_framing() {
        let mut added = HeaderMap::new();
        added.append(header::CONTENT_LENGTH, value("5"));
        added.append(header::TRANSFER_ENCODING, value("chunked"));
        added.append(header::CONNECTION, value("close"));
        added.append(header::UPGRADE, value("other"));
        added.append(header::SERVER, value("kept"));
        let headers = Switch::new(&HeaderMap::new(), &"echo".parse().unwrap(), added).headers();
        assert_eq!(headers.len(), 3);
        assert_eq!(headers[header::CONNECTION], "upgrade");
        assert_eq!(headers[header::UPGRADE], "echo");
        assert_eq!(headers[header::SERVER], "kept");
    }
}
