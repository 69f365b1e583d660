//! The SETTINGS of both sides (RFC 9114 §7.2.4).

use super::{code, error::Error, frame};
use crate::io::varint;
use bytes::{BufMut as _, BytesMut};

const MAX_FIELD_SECTION_SIZE: u64 = 0x6;
/// RFC 9220 §3.
const ENABLE_CONNECT_PROTOCOL: u64 = 0x8;
/// RFC 9297 §2.1.1.
const H3_DATAGRAM: u64 = 0x33;

/// The settings of the peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PeerSettings {
    /// The limit of the peer for field sections, in bytes as RFC 9114 §4.2.2 counts them.
    pub(crate) max_field_section_size: Option<u64>,
    pub(crate) enable_connect_protocol: bool,
    pub(crate) h3_datagram: bool,
}

impl PeerSettings {
    /// Decodes the payload of a SETTINGS frame.
    pub(crate) fn decode(mut payload: &[u8]) -> Result<Self, Error> {
        let mut settings = Self::default();
        let mut seen = Vec::new();
        while !payload.is_empty() {
            let (Some((id, value)), rest) = setting(payload) else {
                return Err(Error::fatal(
                    code::FRAME_ERROR,
                    "the SETTINGS end within a setting",
                ));
            };
            payload = rest;
            if seen.contains(&id) {
                return Err(invalid("a setting occurs twice"));
            }
            seen.push(id);
            match id {
                // Settings of HTTP/2 (RFC 9114 §7.2.4.1).
                0x2..=0x5 => return Err(invalid("a setting of HTTP/2")),
                MAX_FIELD_SECTION_SIZE => settings.max_field_section_size = Some(value),
                ENABLE_CONNECT_PROTOCOL => settings.enable_connect_protocol = flag(value)?,
                H3_DATAGRAM => settings.h3_datagram = flag(value)?,
                // Unknown settings, and those of QPACK's dynamic table, which this side does not use.
                _ => {}
            }
        }
        Ok(settings)
    }
}

/// Splits the first setting off.
fn setting(payload: &[u8]) -> (Option<(u64, u64)>, &[u8]) {
    let decoded = varint::decode(payload).and_then(|(id, at)| {
        let (value, length) = varint::decode(&payload[at..])?;
        Some((id, value, at + length))
    });
    match decoded {
        Some((id, value, length)) => (Some((id, value)), &payload[length..]),
        None => (None, payload),
    }
}

fn flag(value: u64) -> Result<bool, Error> {
    match value {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(invalid("a setting is neither 0 nor 1")),
    }
}

fn invalid(reason: &'static str) -> Error {
    Error::fatal(code::SETTINGS_ERROR, reason)
}

/// Encodes a SETTINGS frame.
///
/// A client sends no `SETTINGS_ENABLE_CONNECT_PROTOCOL` (RFC 9220 §3).
pub(crate) fn encode(max_field_section_size: usize, is_server: bool) -> BytesMut {
    let mut payload = BytesMut::new();
    let mut put = |id, value| {
        for number in [id, value] {
            let mut bytes = [0; varint::MAX_LENGTH];
            let length = varint::encode(number, &mut bytes);
            payload.put_slice(&bytes[..length]);
        }
    };
    put(MAX_FIELD_SECTION_SIZE, max_field_section_size as u64);
    if is_server {
        put(ENABLE_CONNECT_PROTOCOL, 1);
    }
    if cfg!(feature = "datagram") {
        put(H3_DATAGRAM, 1);
    }
    let mut header = [0; frame::MAX_HEADER];
    let length = frame::encode_header(frame::SETTINGS, payload.len(), &mut header);
    let mut settings = BytesMut::from(&header[..length]);
    settings.unsplit(payload);
    settings
}
