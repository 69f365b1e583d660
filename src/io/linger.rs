//! The orderly shutdown of a connection (RFC 9112 §9.6).

use crate::{
    io::{box_io::BoxIo, copy::copy},
    time::within,
};
use std::{io, time::Duration};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Limits for reading from the peer after the write side was shut down.
const LINGER_TIME: Duration = Duration::from_secs(1);
const LINGER_BYTES: u64 = 1024 * 1024;

/// Writes the last bytes, flushes, shuts the write side down, and reads until the peer shuts its side down, within
/// limits.
///
/// Dropping a socket with unread bytes resets the connection, and the reset can overtake the written data. Reading
/// those bytes first prevents the reset. On TLS, the shutdown sends the close_notify.
pub(crate) async fn close(mut io: BoxIo, last: &[u8], shutdown_timeout: Duration) {
    let is_shut_down = shut_down(&mut io, last, shutdown_timeout).await;
    if is_shut_down && !io.is_read_to_end() {
        let mut rest = io.take(LINGER_BYTES);
        let _: Option<io::Result<u64>> =
            within(LINGER_TIME, copy(&mut rest, &mut tokio::io::sink())).await;
    }
}

/// Writes the last bytes, flushes and shuts the write side down, unless it already is. Returns `true` if all succeed in
/// time.
pub(crate) async fn shut_down(io: &mut BoxIo, last: &[u8], shutdown_timeout: Duration) -> bool {
    if io.is_shut_down() {
        return true;
    }
    let shutdown = async {
        io.write_all(last).await?;
        io.flush().await?;
        io.shutdown().await
    };
    matches!(within(shutdown_timeout, shutdown).await, Some(Ok(())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        pin::Pin,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        task::{Context, Poll},
    };
    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    /// An IO at its end that counts the shutdowns.
    #[derive(Clone, Default)]
    struct Shutdowns(Arc<AtomicUsize>);

    impl AsyncRead for Shutdowns {
        fn poll_read(
            self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
            _buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Shutdowns {
        fn poll_write(
            self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(buf.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn close_shuts_down_only_once() {
        for handler_shuts_down in [false, true] {
            let shutdowns = Shutdowns::default();
            let mut io = BoxIo::new(shutdowns.clone());
            if handler_shuts_down {
                io.shutdown().await.expect("memory");
            }
            close(io, &[], Duration::MAX).await;
            assert_eq!(shutdowns.0.load(Ordering::Relaxed), 1);
        }
    }
}
