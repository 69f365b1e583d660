//! The lists in `Connection` and `Upgrade`, and the choice among the offered protocols: U1 to U4 and U12.
//!
//! Input lines that begin with `c` are `Connection` lines, lines that begin with `u` are `Upgrade` lines, and lines
//! that begin with `p` are protocols that the server supports.

use crate::reference::{self, Offer};
use http::{HeaderMap, HeaderValue, Version, header};
use tower_upgrade::{Preference, Protocol, fuzzing};

pub fn run(data: &[u8]) {
    let mut headers = HeaderMap::new();
    let (mut connection, mut upgrade) = (Vec::new(), Vec::new());
    let (mut supported, mut expected_supported) = (Vec::new(), Vec::new());
    for line in data.split(|byte| *byte == b'\n') {
        let Some((kind, line)) = line.split_first() else {
            continue;
        };
        let (name, lines) = match kind {
            b'c' => (header::CONNECTION, &mut connection),
            b'u' => (header::UPGRADE, &mut upgrade),
            b'p' => {
                let protocol = protocol(line);
                expected_supported.extend(protocol.as_ref().map(|protocol| protocol.1.clone()));
                supported.extend(protocol.map(|protocol| protocol.0));
                continue;
            }
            _ => continue,
        };
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(name, value);
            lines.push(line);
        }
    }

    let offers = reference::offers(&upgrade);
    let is_upgrade = reference::has_upgrade_option(&connection) && offers.is_some();
    assert_eq!(fuzzing::is_upgrade(Version::HTTP_11, &headers), is_upgrade);
    for version in [Version::HTTP_09, Version::HTTP_10, Version::HTTP_2] {
        assert!(!fuzzing::is_upgrade(version, &headers));
    }

    let Some(offers) = offers else { return };
    let offered: Vec<_> = fuzzing::offered(&headers).collect();
    let texts: Vec<_> = offered.iter().map(Protocol::as_str).collect();
    let expected: Vec<_> = offers.iter().map(|offer| offer.text.as_str()).collect();
    assert_eq!(texts, expected);

    for preference in [Preference::Client, Preference::Server] {
        let chosen = fuzzing::choose(&headers, &supported, preference);
        let chosen = chosen.map(|(index, offer)| (index, offer.as_str().to_owned()));
        let expected = choice(&offers, &expected_supported, preference);
        assert_eq!(chosen, expected, "{preference:?}");
    }
}

/// The parsed protocol, if the text is valid, and the expected one.
fn protocol(text: &[u8]) -> Option<(Protocol, Offer)> {
    let expected = Offer::parse(text);
    let parsed = std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse::<Protocol>().ok());
    assert_eq!(parsed.is_some(), expected.is_some());
    let (parsed, expected) = (parsed?, expected?);
    assert_eq!(parsed.as_str(), expected.text);
    assert_eq!(parsed.name().to_ascii_lowercase(), expected.name);
    assert_eq!(parsed.version(), expected.version.as_deref());
    Some((parsed, expected))
}

/// Returns the first matching pair, in the order of one side and then of the other.
fn choice(
    offers: &[Offer],
    supported: &[Offer],
    preference: Preference,
) -> Option<(usize, String)> {
    let mut pairs = Vec::new();
    for (position, offer) in offers.iter().enumerate() {
        for (index, own) in supported.iter().enumerate() {
            if own.takes(offer) {
                pairs.push((position, index));
            }
        }
    }
    let first = match preference {
        Preference::Server => pairs.into_iter().min_by_key(|pair| (pair.1, pair.0)),
        _ => pairs.into_iter().min(),
    };
    first.map(|(position, index)| (index, offers[position].text.clone()))
}
