//! The target of a CONNECT: C1.

use crate::reference;
use http::Uri;
use tower_upgrade::fuzzing;

/// The maximum length that the parser of `http` accepts.
const MAX_BYTES: usize = u16::MAX as usize - 1;

pub fn run(data: &[u8]) {
    let expected = std::str::from_utf8(data)
        .ok()
        .filter(|text| text.len() <= MAX_BYTES)
        .and_then(reference::connect_port);
    // hyper rejects a target that is not a URI.
    let uri = Uri::try_from(data).ok();
    let target = uri.as_ref().and_then(|uri| fuzzing::target(uri).ok());
    match (target, expected) {
        (Some((target, port)), Some(expected)) => {
            assert_eq!(target.as_str().as_bytes(), data);
            assert_eq!(port, expected);
        }
        (None, None) => {}
        (target, expected) => panic!("{target:?}, and should be {expected:?}"),
    }
}
