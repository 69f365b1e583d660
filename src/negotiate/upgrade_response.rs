//! The head of an upgrade response, and the removal of its fields from a response that replaces it.

use super::token;
use crate::negotiate::{kind::UpgradeKind, protocol::Protocol};
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{self, HeaderName},
};

/// The header fields that make a response an upgrade response.
#[derive(Clone, Debug)]
pub(crate) struct UpgradeResponse {
    /// The value of `Upgrade` in a 101: the chosen protocol, as offered. `None` for CONNECT.
    protocol: Option<HeaderValue>,
    /// The fields that the handler adds.
    added: HeaderMap,
}

/// Fields that frame a message or name the protocol of a connection. Handlers cannot set them.
const FRAMING: [HeaderName; 4] = [
    header::CONNECTION,
    header::UPGRADE,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
];

impl UpgradeResponse {
    /// Creates the head for a request with the headers `request`.
    pub(crate) fn new(
        kind: UpgradeKind,
        request: &HeaderMap,
        protocol: Option<&Protocol>,
        mut added: HeaderMap,
    ) -> Self {
        if !added.is_empty() {
            FRAMING.iter().for_each(|name| drop(added.remove(name)));
        }
        let protocol = match kind {
            UpgradeKind::Upgrade => protocol.map(|protocol| upgrade_to(protocol, request)),
            UpgradeKind::Connect | UpgradeKind::ExtendedConnect => None,
        };
        Self { protocol, added }
    }

    /// Reads the head of an upgrade response that a foreign upgrader has created.
    pub(crate) fn of_response(kind: UpgradeKind, headers: &HeaderMap) -> Self {
        let protocol = match kind {
            UpgradeKind::Upgrade => headers.get(header::UPGRADE).cloned(),
            UpgradeKind::Connect | UpgradeKind::ExtendedConnect => None,
        };
        let mut added = headers.clone();
        FRAMING.iter().for_each(|name| drop(added.remove(name)));
        Self { protocol, added }
    }

    pub(crate) fn status(&self) -> StatusCode {
        match self.protocol {
            Some(_) => StatusCode::SWITCHING_PROTOCOLS,
            None => StatusCode::OK,
        }
    }

    /// Returns the header fields of the upgrade response.
    pub(crate) fn headers(&self) -> HeaderMap {
        let mut headers = self.added.clone();
        self.insert(&mut headers);
        headers
    }

    /// Adds the fields that a 101 requires, and removes those that an upgrade response must not have (RFC 9110
    /// §7.8, §8.6 and §9.3.6, RFC 9112 §6.1), in case middleware has changed them.
    pub(crate) fn enforce(&self, headers: &mut HeaderMap) {
        FRAMING.iter().for_each(|name| drop(headers.remove(name)));
        self.insert(headers);
    }

    fn insert(&self, headers: &mut HeaderMap) {
        if let Some(protocol) = &self.protocol {
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(header::UPGRADE, protocol.clone());
        }
    }

    /// Removes the fields of the upgrade response from a response that replaced it.
    pub(crate) fn strip(&self, status: StatusCode, headers: &mut HeaderMap) {
        // A 426 keeps its `Upgrade`, which lists protocols for the next request.
        if status != StatusCode::UPGRADE_REQUIRED {
            headers.remove(header::UPGRADE);
            remove_options(headers, |option| option.eq_ignore_ascii_case(b"upgrade"));
        }
        for (name, added) in &self.added {
            retain(headers, name.clone(), |value| value != added);
        }
    }
}

/// Removes the fields of a foreign upgrader's upgrade response from a response that replaced it.
pub(crate) fn strip_foreign(status: StatusCode, headers: &mut HeaderMap) {
    let mut added = HeaderMap::new();
    for name in [header::SEC_WEBSOCKET_ACCEPT] {
        if let Some(value) = headers.get(&name) {
            added.insert(name, value.clone());
        }
    }
    let protocol = None;
    UpgradeResponse { protocol, added }.strip(status, headers);
}

/// Returns `true` if clients treat a response with this status as the upgrade response.
pub(crate) fn is_upgrade(kind: UpgradeKind, status: StatusCode) -> bool {
    match kind {
        UpgradeKind::Upgrade => status == StatusCode::SWITCHING_PROTOCOLS,
        UpgradeKind::Connect | UpgradeKind::ExtendedConnect => status.is_success(),
    }
}

/// Sets the `Connection` field that closes the connection after the response.
pub(crate) fn close(headers: &mut HeaderMap) {
    remove_options(headers, |option| {
        option.eq_ignore_ascii_case(b"keep-alive") || option.eq_ignore_ascii_case(b"close")
    });
    headers.append(header::CONNECTION, HeaderValue::from_static("close"));
}

/// Removes options from `Connection`, including those that middleware joined into one line.
fn remove_options(headers: &mut HeaderMap, is_unwanted: impl Fn(&[u8]) -> bool) {
    let mut others: Vec<u8> = Vec::new();
    for option in headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|line| token::members(line.as_bytes()))
        .filter(|option| !is_unwanted(option))
    {
        if !others.is_empty() {
            others.extend_from_slice(b", ");
        }
        others.extend_from_slice(option);
    }
    headers.remove(header::CONNECTION);
    if !others.is_empty() {
        let others = HeaderValue::from_bytes(&others).expect("joined options are a field value");
        headers.insert(header::CONNECTION, others);
    }
}

/// Returns the chosen protocol as a field value, spelled as offered.
fn upgrade_to(protocol: &Protocol, request: &HeaderMap) -> HeaderValue {
    // Most requests offer one protocol: cloning its line saves an allocation.
    let line = request
        .get_all(header::UPGRADE)
        .iter()
        .find(|line| *line == protocol.as_str());
    match line {
        Some(line) => line.clone(),
        None => HeaderValue::from_str(protocol.as_str())
            .expect("tokens joined by a slash are a field value"),
    }
}

/// Keeps the values of a field for which `keep` returns `true`, in their order.
fn retain(headers: &mut HeaderMap, name: HeaderName, keep: impl Fn(&HeaderValue) -> bool) {
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
    fn strip_removes_only_fields_of_upgrade_response() {
        let mut added = HeaderMap::new();
        added.append("sec-websocket-protocol", value("chat"));
        added.append(header::VARY, value("origin"));
        let protocol = "websocket".parse().unwrap();
        let kind = UpgradeKind::Upgrade;
        let response = UpgradeResponse::new(kind, &HeaderMap::new(), Some(&protocol), added);

        let mut headers = response.headers();
        headers.append(header::VARY, value("accept-encoding"));
        headers.append(header::CONNECTION, value("Upgrade , close"));
        headers.append(header::CONNECTION, value("te"));
        response.strip(StatusCode::FORBIDDEN, &mut headers);

        let left: Vec<_> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value))
            .collect();
        assert_eq!(left.len(), 2, "{left:?}");
        assert_eq!(headers[header::VARY], "accept-encoding");
        assert_eq!(headers[header::CONNECTION], "close, te");
    }

    #[test]
    fn handler_cannot_set_framing_fields() {
        let mut added = HeaderMap::new();
        added.append(header::CONTENT_LENGTH, value("5"));
        added.append(header::TRANSFER_ENCODING, value("chunked"));
        added.append(header::CONNECTION, value("close"));
        added.append(header::UPGRADE, value("other"));
        added.append(header::SERVER, value("kept"));
        let protocol = "echo".parse().unwrap();
        let response = |kind, protocol| {
            UpgradeResponse::new(kind, &HeaderMap::new(), protocol, added.clone()).headers()
        };
        let headers = response(UpgradeKind::Upgrade, Some(&protocol));
        assert_eq!(headers.len(), 3);
        assert_eq!(headers[header::CONNECTION], "upgrade");
        assert_eq!(headers[header::UPGRADE], "echo");
        assert_eq!(headers[header::SERVER], "kept");

        for headers in [
            response(UpgradeKind::Connect, None),
            response(UpgradeKind::ExtendedConnect, Some(&protocol)),
        ] {
            assert_eq!(headers.len(), 1);
            assert_eq!(headers[header::SERVER], "kept");
        }
    }

    #[test]
    fn strip_keeps_fields_that_handler_could_not_set() {
        for (name, text) in [
            (header::CONNECTION, "close"),
            (header::UPGRADE, "other"),
            (header::CONTENT_LENGTH, "5"),
            (header::TRANSFER_ENCODING, "chunked"),
        ] {
            let headers = HeaderMap::from_iter([(name, value(text))]);
            let protocol = "echo".parse().unwrap();
            let added = headers.clone();
            let kind = UpgradeKind::Upgrade;
            let response = UpgradeResponse::new(kind, &HeaderMap::new(), Some(&protocol), added);
            let mut left = headers.clone();
            response.strip(StatusCode::UPGRADE_REQUIRED, &mut left);
            assert_eq!(left, headers);
        }
    }

    #[test]
    fn close_removes_keep_alive() {
        let mut headers = HeaderMap::new();
        close(&mut headers);
        assert_eq!(headers[header::CONNECTION], "close");
        headers.insert(header::CONNECTION, value("Keep-Alive, x-hop, Close"));
        close(&mut headers);
        let lines: Vec<_> = headers.get_all(header::CONNECTION).iter().collect();
        assert_eq!(lines, ["x-hop", "close"]);
    }
}
