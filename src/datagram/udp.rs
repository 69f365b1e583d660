//! The payloads of CONNECT-UDP (RFC 9298 §5).

use super::capsule::Malformed;
use crate::io::varint;

/// The Context ID of UDP payloads.
pub(super) const CONTEXT: &[u8] = &[0];

/// The maximum length of a UDP payload (RFC 9298 §5).
pub(super) const MAX_PAYLOAD: usize = 65_527;

/// Returns the UDP payload in a datagram, or `None` if the datagram has another Context ID.
///
/// # Errors
///
/// Returns an error if the Context ID is incomplete or the UDP payload is too long.
pub(super) fn payload(datagram: &[u8]) -> Result<Option<&[u8]>, Malformed> {
    let (context, length) = varint::decode(datagram).ok_or(Malformed::NoContext)?;
    match &datagram[length..] {
        _ if context != 0 => Ok(None),
        payload if payload.len() > MAX_PAYLOAD => Err(Malformed::TooLong),
        payload => Ok(Some(payload)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d3_context_zero_is_a_udp_payload() {
        assert_eq!(payload(b"\0payload"), Ok(Some(&b"payload"[..])));
        assert_eq!(payload(b"\0"), Ok(Some(&b""[..])));
        assert_eq!(payload(b"\x40\0payload"), Ok(Some(&b"payload"[..])));
        assert_eq!(payload(b"\x01payload"), Ok(None));
        assert_eq!(payload(b"\x40\x40payload"), Ok(None));
        for incomplete in [&b""[..], b"\x40", b"\xc0\0\0\0"] {
            assert_eq!(payload(incomplete), Err(Malformed::NoContext));
        }
    }

    #[test]
    fn d3_payload_over_the_limit_is_an_error() {
        let mut datagram = vec![0; MAX_PAYLOAD + 1];
        assert!(payload(&datagram).is_ok_and(|payload| payload.is_some()));
        datagram.push(0);
        assert_eq!(payload(&datagram), Err(Malformed::TooLong));
        datagram[0] = 1;
        assert_eq!(payload(&datagram), Ok(None));
    }
}
