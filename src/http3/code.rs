//! Error codes of HTTP/3 (RFC 9114 §8.1) and its extensions.

use quinn::VarInt;

pub(crate) const NO_ERROR: VarInt = VarInt::from_u32(0x100);
pub(crate) const INTERNAL_ERROR: VarInt = VarInt::from_u32(0x102);
pub(crate) const STREAM_CREATION_ERROR: VarInt = VarInt::from_u32(0x103);
pub(crate) const CLOSED_CRITICAL_STREAM: VarInt = VarInt::from_u32(0x104);
pub(crate) const FRAME_UNEXPECTED: VarInt = VarInt::from_u32(0x105);
pub(crate) const FRAME_ERROR: VarInt = VarInt::from_u32(0x106);
pub(crate) const EXCESSIVE_LOAD: VarInt = VarInt::from_u32(0x107);
pub(crate) const ID_ERROR: VarInt = VarInt::from_u32(0x108);
pub(crate) const SETTINGS_ERROR: VarInt = VarInt::from_u32(0x109);
pub(crate) const MISSING_SETTINGS: VarInt = VarInt::from_u32(0x10a);
pub(crate) const REQUEST_REJECTED: VarInt = VarInt::from_u32(0x10b);
pub(crate) const REQUEST_CANCELLED: VarInt = VarInt::from_u32(0x10c);
pub(crate) const REQUEST_INCOMPLETE: VarInt = VarInt::from_u32(0x10d);
pub(crate) const MESSAGE_ERROR: VarInt = VarInt::from_u32(0x10e);
/// The connection of a CONNECT was reset or is broken (RFC 9114 §4.4).
pub(crate) const CONNECT_ERROR: VarInt = VarInt::from_u32(0x10f);
/// RFC 9204 §6.
pub(crate) const QPACK_DECOMPRESSION_FAILED: VarInt = VarInt::from_u32(0x200);
/// RFC 9204 §6.
pub(crate) const QPACK_ENCODER_STREAM_ERROR: VarInt = VarInt::from_u32(0x201);
/// RFC 9297 §5.2.
#[cfg(feature = "datagram")]
pub(crate) const DATAGRAM_ERROR: VarInt = VarInt::from_u32(0x33);
