//! Clients of sessions that echo bytes.

use crate::support::Client;
use std::{io, net::SocketAddr};

/// Runs handshakes one after the other: a new connection, the 101, an echo, and the end of the connection.
pub(crate) async fn handshakes(server: SocketAddr, count: usize) -> io::Result<()> {
    for _ in 0..count {
        let mut client = Client::connect(server).await?;
        echo(&mut client, *b"ping").await?;
        client.close().await?;
    }
    Ok(())
}

/// Sends a message and waits for its echo.
pub(crate) async fn echo<const BYTES: usize>(
    client: &mut Client,
    message: [u8; BYTES],
) -> io::Result<()> {
    client.exchange(&message, &message, &mut [0; BYTES]).await
}
