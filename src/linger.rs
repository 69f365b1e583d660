//! The orderly end of a connection (RFC 9112 §9.6).

use crate::{copy::copy, time::within, upgraded::BoxIo};
use std::{io, time::Duration};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// How long, and how much, is read after our end was shut down.
const LINGER_TIME: Duration = Duration::from_secs(1);
const LINGER_BYTES: u64 = 1024 * 1024;

/// Flushes, shuts the write side down, and reads until the peer has done the same, bounded.
///
/// A socket that is dropped with bytes unread is reset, and the reset can overtake what was
/// written: hence the reading. On TLS the shutdown sends the close_notify.
pub(crate) async fn close(mut io: BoxIo, shutdown_timeout: Duration) {
    let shutdown = async {
        io.flush().await?;
        io.shutdown().await
    };
    let is_shut_down = matches!(within(shutdown_timeout, shutdown).await, Some(Ok(())));
    if is_shut_down && !io.is_read_to_end() {
        let mut rest = io.take(LINGER_BYTES);
        let _: Option<io::Result<u64>> =
            within(LINGER_TIME, copy(&mut rest, &mut tokio::io::sink())).await;
    }
}
