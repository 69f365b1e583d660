//! QPACK (RFC 9204) without a dynamic table: field sections of literals and of references to the static table.
//!
//! The server announces a dynamic table of 0 bytes, the default of `SETTINGS_QPACK_MAX_TABLE_CAPACITY` (§5). A client
//! then never refers to one, and a section decodes independently of all others.

pub(crate) mod decode;
pub(crate) mod encode;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod huffman;
mod integer;
mod static_table;
#[cfg(test)]
mod tests;
