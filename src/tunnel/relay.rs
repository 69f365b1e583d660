//! Two connections, joined.

use crate::{BoxError, Session};
use tokio::io::{AsyncRead, AsyncWrite};

/// Joins a session with another connection: what arrives at one is sent to the other, until both have ended.
///
/// It is all that is left to do for a handler that has dialed.
///
/// # Errors
///
/// What broke one of the two.
pub async fn relay<T>(session: Session, mut io: T) -> Result<(), BoxError>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut session = session.into_io();
    tokio::io::copy_bidirectional(&mut session, &mut io).await?;
    Ok(())
}
