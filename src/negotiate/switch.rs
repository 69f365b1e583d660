//! The response head of a switch, and what is taken off a response that turned out to be none.

use super::token;
use crate::{Protocol, UpgradeKind};
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{self, HeaderName},
};

/// What makes a head the head of a switch.
#[derive(Clone, Debug)]
pub(crate) struct Switch {
    /// The protocol that was chosen, as it was offered: the `Upgrade` of a 101. CONNECT has none.
    protocol: Option<HeaderValue>,
    /// The fields that the handler adds.
    added: HeaderMap,
}

/// What frames a message, or says what the connection becomes: not a handler's to set.
const FRAMING: [HeaderName; 4] = [
    header::CONNECTION,
    header::UPGRADE,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
];

impl Switch {
    /// The switch of a request with these headers.
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

    pub(crate) fn status(&self) -> StatusCode {
        match self.protocol {
            Some(_) => StatusCode::SWITCHING_PROTOCOLS,
            None => StatusCode::OK,
        }
    }

    /// The fields of the head.
    pub(crate) fn headers(&self) -> HeaderMap {
        let mut headers = self.added.clone();
        self.insert(&mut headers);
        headers
    }

    /// Makes sure of the fields without which a 101 is none, and takes off those that a switch may not
    /// have (RFC 9110 §7.8, §8.6 and §9.3.6, RFC 9112 §6.1), whatever the layers on its way did to
    /// them.
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

    /// Takes the head of a switch off a response that became something else.
    pub(crate) fn strip(&self, status: StatusCode, headers: &mut HeaderMap) {
        // A 426 has an `Upgrade` of its own: what it lists is for the next request.
        if status != StatusCode::UPGRADE_REQUIRED {
            headers.remove(header::UPGRADE);
            remove_options(headers, |option| option.eq_ignore_ascii_case(b"upgrade"));
        }
        for (name, added) in &self.added {
            retain(headers, name.clone(), |value| value != added);
        }
    }
}

/// Whether a response with this status leaves HTTP, as far as the connection is concerned.
pub(crate) fn switches(kind: UpgradeKind, status: StatusCode) -> bool {
    match kind {
        UpgradeKind::Upgrade => status == StatusCode::SWITCHING_PROTOCOLS,
        UpgradeKind::Connect | UpgradeKind::ExtendedConnect => status.is_success(),
    }
}

/// Lets the connection end after the response.
pub(crate) fn close(headers: &mut HeaderMap) {
    remove_options(headers, |option| {
        option.eq_ignore_ascii_case(b"keep-alive") || option.eq_ignore_ascii_case(b"close")
    });
    headers.append(header::CONNECTION, HeaderValue::from_static("close"));
}

/// Takes options out of `Connection`, also where a layer has joined them.
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
        let others = HeaderValue::from_bytes(&others).expect("parts of field values are one");
        headers.insert(header::CONNECTION, others);
    }
}

/// The chosen protocol as a field value, as it was offered.
fn upgrade_to(protocol: &Protocol, request: &HeaderMap) -> HeaderValue {
    // Most requests offer one protocol: then the line is the value.
    let line = request
        .get_all(header::UPGRADE)
        .iter()
        .find(|line| *line == protocol.as_str());
    match line {
        Some(line) => line.clone(),
        None => HeaderValue::from_str(protocol.as_str())
            .expect("tokens with a slash between them are a field value"),
    }
}

/// Keeps those lines of a field that `keep` says to keep, in order.
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
    fn a_head_that_became_a_refusal_keeps_only_what_is_not_the_switch() {
        let mut added = HeaderMap::new();
        added.append("sec-websocket-protocol", value("chat"));
        added.append(header::VARY, value("origin"));
        let protocol = "websocket".parse().unwrap();
        let kind = UpgradeKind::Upgrade;
        let switch = Switch::new(kind, &HeaderMap::new(), Some(&protocol), added);

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
        let protocol = "echo".parse().unwrap();
        let switch = |kind, protocol| {
            Switch::new(kind, &HeaderMap::new(), protocol, added.clone()).headers()
        };
        let headers = switch(UpgradeKind::Upgrade, Some(&protocol));
        assert_eq!(headers.len(), 3);
        assert_eq!(headers[header::CONNECTION], "upgrade");
        assert_eq!(headers[header::UPGRADE], "echo");
        assert_eq!(headers[header::SERVER], "kept");

        for headers in [
            switch(UpgradeKind::Connect, None),
            switch(UpgradeKind::ExtendedConnect, Some(&protocol)),
        ] {
            assert_eq!(headers.len(), 1);
            assert_eq!(headers[header::SERVER], "kept");
        }
    }

    #[test]
    fn what_a_handler_may_not_add_is_left_to_a_response_in_place_of_the_switch() {
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
            let switch = Switch::new(kind, &HeaderMap::new(), Some(&protocol), added);
            let mut left = headers.clone();
            switch.strip(StatusCode::UPGRADE_REQUIRED, &mut left);
            assert_eq!(left, headers);
        }
    }

    #[test]
    fn a_connection_that_ends_is_not_said_to_be_kept() {
        let mut headers = HeaderMap::new();
        close(&mut headers);
        assert_eq!(headers[header::CONNECTION], "close");
        headers.insert(header::CONNECTION, value("Keep-Alive, x-hop, Close"));
        close(&mut headers);
        let lines: Vec<_> = headers.get_all(header::CONNECTION).iter().collect();
        assert_eq!(lines, ["x-hop", "close"]);
    }
}
