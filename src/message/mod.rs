//! Bodies, rejections and request targets: the parts of HTTP messages that this crate creates.

pub(crate) mod body;
pub(crate) mod keep_open;
pub(crate) mod rejection;
pub(crate) mod request_body;
#[cfg(any(feature = "client", feature = "testing"))]
pub(crate) mod target;
