//! Compares the parser and the choice of protocols with a reference implementation that follows the RFC literally.

use super::*;
use crate::negotiate::kind::UpgradeKind;
use crate::negotiate::protocol::Protocol;
use crate::negotiate::{Choice, Preference, choose, kind};
use http::{Extensions, HeaderValue, Method};
use proptest::prelude::*;

/// One offered protocol in the reference: name in lower case, version, original text.
type Offer = (String, Option<String>, String);

/// Joins all lines of a field into one list, as a recipient may (RFC 9110 §5.3).
fn reference_list(lines: &[String]) -> Vec<String> {
    let mut list = Vec::new();
    for member in lines.join(",").split(',') {
        let member = member.trim_matches([' ', '\t']);
        if !member.is_empty() {
            list.push(member.to_owned());
        }
    }
    list
}

fn reference_token(text: &str) -> bool {
    let special = "!#$%&'*+-.^_`|~";
    let tchar = |c: char| c.is_ascii_digit() || c.is_ascii_alphabetic() || special.contains(c);
    !text.is_empty() && text.chars().all(tchar)
}

fn reference_offers(lines: &[String]) -> Option<Vec<Offer>> {
    let mut offers = Vec::new();
    for member in reference_list(lines) {
        let parts: Vec<&str> = member.split('/').collect();
        if parts.len() > 2 || !parts.iter().all(|part| reference_token(part)) {
            return None;
        }
        offers.push((
            parts[0].to_ascii_lowercase(),
            parts.get(1).map(|version| (*version).to_owned()),
            member.clone(),
        ));
    }
    (!offers.is_empty()).then_some(offers)
}

fn reference_choice(
    offers: &[Offer],
    supported: &[Protocol],
    preference: Preference,
    wanted: &[bool],
) -> Option<(usize, String)> {
    let mut pairs = Vec::new();
    for (position, (name, version, text)) in offers.iter().enumerate() {
        for (index, protocol) in supported.iter().enumerate() {
            let same_name = protocol.name().to_ascii_lowercase() == *name;
            let takes_version = match protocol.version() {
                None => true,
                Some(own) => version.as_deref() == Some(own),
            };
            if same_name && takes_version && wanted[index] {
                pairs.push((position, index, text.clone()));
            }
        }
    }
    let best = match preference {
        Preference::Client => pairs.into_iter().min_by_key(|pair| (pair.0, pair.1)),
        Preference::Server => pairs.into_iter().min_by_key(|pair| (pair.1, pair.0)),
    };
    best.map(|(_, index, text)| (index, text))
}

fn headers(connection: &[String], upgrade: &[String]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, lines) in [(header::CONNECTION, connection), (header::UPGRADE, upgrade)] {
        for line in lines {
            headers.append(
                &name,
                HeaderValue::from_bytes(line.as_bytes()).expect("no controls"),
            );
        }
    }
    headers
}

/// Generates lines from pieces that matter to the parser, so that rare cases are common.
fn lines(pieces: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
    let line = prop::collection::vec(prop::sample::select(pieces), 0..6)
        .prop_map(|pieces| pieces.concat().trim().to_owned());
    prop::collection::vec(line, 0..4)
}

const UPGRADES: &[&str] = &[
    "foo", "Foo", "FOO/1", "foo/2", "foo/1.0", "bar", "bar/A", "bar/a", "/", ",", ", ", " ,\t",
    " ", "\"", "é", "x y", "foo//1", "a/b/c", "h2c", "TLS/1.0", "HTTP/2.0",
];
const CONNECTIONS: &[&str] = &[
    "upgrade",
    "Upgrade",
    "UPGRADE",
    "close",
    "keep-alive",
    ",",
    " , ",
    "\t",
    "-",
    "upgraded",
    "xupgrade",
    "\"upgrade\"",
    "upgrade;q=1",
];

fn supported() -> impl Strategy<Value = Vec<(Protocol, bool)>> {
    const NAMES: &[&str] = &["foo", "Foo/2", "foo/1", "BAR", "bar/a", "h2c", "tls/1.0"];
    let one = (prop::sample::select(NAMES), any::<bool>());
    prop::collection::vec(
        one.prop_map(|(name, wanted)| (name.parse().expect("a protocol"), wanted)),
        0..5,
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4_000) })]

    #[test]
    fn is_upgrade_agrees_with_reference(
        connection in lines(CONNECTIONS),
        upgrade in lines(UPGRADES),
    ) {
        let is_listed = reference_list(&connection)
            .iter()
            .any(|option| option.eq_ignore_ascii_case("upgrade"));
        let expected = is_listed && reference_offers(&upgrade).is_some();
        let headers = headers(&connection, &upgrade);
        prop_assert_eq!(is_upgrade(Version::HTTP_11, &headers), expected);
        prop_assert!(!is_upgrade(Version::HTTP_10, &headers));
        prop_assert!(!is_upgrade(Version::HTTP_2, &headers));
        let kind = |method| kind(&method, Version::HTTP_11, &headers, &Extensions::new());
        prop_assert_eq!(kind(Method::GET), expected.then_some(UpgradeKind::Upgrade));
        prop_assert_eq!(kind(Method::CONNECT), Some(UpgradeKind::Connect));
    }

    #[test]
    fn choice_agrees_with_reference(
        upgrade in lines(UPGRADES),
        supported in supported(),
        server in any::<bool>(),
    ) {
        let Some(offers) = reference_offers(&upgrade) else { return Ok(()) };
        let preference = if server { Preference::Server } else { Preference::Client };
        let (protocols, wanted): (Vec<_>, Vec<_>) = supported.into_iter().unzip();
        let headers = headers(&[], &upgrade);

        let choice = choose(|| offered(&headers), protocols.iter(), preference, |i| wanted[i]);
        let chosen = match &choice {
            Choice::Chosen { index, member } => Some((*index, member.text.to_owned())),
            Choice::Declined | Choice::Unsupported => None,
        };
        prop_assert_eq!(&chosen, &reference_choice(&offers, &protocols, preference, &wanted));

        let all = vec![true; protocols.len()];
        let is_supported = reference_choice(&offers, &protocols, preference, &all).is_some();
        prop_assert_eq!(choice == Choice::Unsupported, !is_supported);
    }

    #[test]
    fn is_upgrade_agrees_with_reference_on_any_bytes(upgrade in prop::collection::vec(any::<u8>(), 0..64)) {
        let Ok(value) = HeaderValue::from_bytes(&upgrade) else { return Ok(()) };
        let mut headers = HeaderMap::new();
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, value);
        let expected = std::str::from_utf8(&upgrade)
            .ok()
            .and_then(|text| reference_offers(&[text.to_owned()]));
        prop_assert_eq!(is_upgrade(Version::HTTP_11, &headers), expected.is_some());
    }
}

#[test]
fn offered_reads_all_lines_in_order() {
    let headers = headers(
        &[],
        &[", foo/2 ,WebSocket".into(), String::new(), "bar".into()],
    );
    let offers: Vec<_> = offered(&headers).map(|member| member.text).collect();
    assert_eq!(offers, ["foo/2", "WebSocket", "bar"]);
}
