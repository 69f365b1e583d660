//! Sessions in which bytes come back as they were.

use crate::support::Client;
use std::{io, net::SocketAddr};

/// Whole handshakes, one after the other: a new connection, the switch, an echo, the end.
pub(crate) async fn handshakes(server: SocketAddr, count: usize) -> io::Result<()> {
    for _ in 0..count {
        let mut client = Client::connect(server).await?;
        echo(&mut client, *b"ping").await?;
        client.close().await?;
    }
    Ok(())
}

/// Sends a message and waits until it is back.
pub(crate) async fn echo<const BYTES: usize>(
    client: &mut Client,
    message: [u8; BYTES],
) -> io::Result<()> {
    client.exchange(&message, &message, &mut [0; BYTES]).await
}
