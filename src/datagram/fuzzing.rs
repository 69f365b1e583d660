//! The decoder of capsules and the path template, for the targets in `fuzz/`.

use super::{capsule::Decoder, template::Template};
use http::uri::Authority;

/// Decodes the datagrams in a stream of capsules that arrives in these parts.
///
/// Returns the datagrams, and the message of the error that ended them.
pub(crate) fn datagrams<'a>(
    max: usize,
    parts: impl Iterator<Item = &'a [u8]>,
) -> (Vec<Vec<u8>>, Option<String>) {
    let mut decoder = Decoder::new(max);
    let mut found = Vec::new();
    for mut part in parts {
        loop {
            match decoder.next(&mut part) {
                Ok(Some(datagram)) => found.push(datagram.into_owned()),
                Ok(None) => break,
                Err(malformed) => return (found, Some(malformed.to_string())),
            }
        }
        assert!(part.is_empty());
    }
    (found, decoder.end().err().map(|end| end.to_string()))
}

/// Returns the host and the port of the target in a path, with the default template.
pub(crate) fn target(path: &str) -> Option<Authority> {
    let template = Template::well_known();
    let target = template.target(path).ok()?;
    // Expanding the template with the target names the same target.
    assert_eq!(
        template.target(&template.expand(&target)),
        Ok(target.clone())
    );
    Some(target)
}
