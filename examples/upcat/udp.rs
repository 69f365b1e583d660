//! UDP payloads in standard input and output, for `--udp`.

use crate::in_full;
use bytes::Bytes;
use std::{process::ExitCode, time::Duration};
use tokio::io::{self, AsyncBufRead, AsyncBufReadExt as _, AsyncWriteExt as _};
use tower_upgrade::datagram::Udp;

/// The separation of payloads.
#[derive(Clone, Copy)]
pub(crate) enum Framing {
    /// Each payload is followed by a line feed.
    Lines,
    /// Each payload follows its length, in two bytes.
    LengthPrefixed,
}

/// Sends the payloads of the input, and prints received payloads, until the server ends the flow, or no payload has
/// arrived for `wait` after the end of the input.
pub(crate) async fn exchange(mut udp: Udp, framing: Framing, wait: Duration) -> ExitCode {
    let joined = join(&mut udp, framing, wait).await;
    if udp.dropped() > 0 {
        eprintln!(
            "upcat: the proxy reads too slowly: {} payloads dropped",
            udp.dropped()
        );
    }
    match joined {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("upcat: the session failed: {}", in_full(&error));
            ExitCode::FAILURE
        }
    }
}

async fn join(udp: &mut Udp, framing: Framing, wait: Duration) -> io::Result<()> {
    let mut input = Input {
        reader: io::BufReader::new(io::stdin()),
        framing,
        unread: Vec::new(),
    };
    let mut has_ended = false;
    loop {
        tokio::select! {
            received = udp.recv() => match received.transpose()? {
                Some(payload) => print(framing, &payload).await?,
                None => return Ok(()),
            },
            payload = input.next(), if !has_ended => match payload? {
                Some(payload) => {
                    udp.send(payload).await?;
                    // The input can be faster than the network.
                    udp.flush().await?;
                }
                None => has_ended = true,
            },
            () = tokio::time::sleep(wait), if has_ended => return udp.close().await,
        }
    }
}

async fn print(framing: Framing, payload: &[u8]) -> io::Result<()> {
    let mut output = io::stdout();
    match framing {
        Framing::Lines => {
            output.write_all(payload).await?;
            output.write_all(b"\n").await?;
        }
        Framing::LengthPrefixed => {
            // A UDP payload is shorter than 64 KiB.
            output.write_u16(payload.len() as u16).await?;
            output.write_all(payload).await?;
        }
    }
    output.flush().await
}

struct Input<R> {
    reader: R,
    framing: Framing,
    /// Bytes of incomplete payloads.
    unread: Vec<u8>,
}

impl<R: AsyncBufRead + Unpin> Input<R> {
    /// Returns the next payload, or `None` at the end. Dropping the future loses nothing.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if let Some(payload) = self.take() {
                return Ok(Some(payload));
            }
            let read = self.reader.fill_buf().await?;
            let length = read.len();
            if length == 0 {
                return self.last();
            }
            self.unread.extend_from_slice(read);
            self.reader.consume(length);
        }
    }

    /// Takes a complete payload.
    fn take(&mut self) -> Option<Bytes> {
        let (payload, end) = match self.framing {
            Framing::Lines => {
                let end = self.unread.iter().position(|byte| *byte == b'\n')?;
                (&self.unread[..end], end + 1)
            }
            Framing::LengthPrefixed => {
                let length = u16::from_be_bytes(*self.unread.first_chunk()?);
                let end = 2 + usize::from(length);
                (self.unread.get(2..end)?, end)
            }
        };
        let payload = Bytes::copy_from_slice(payload);
        self.unread.drain(..end);
        Some(payload)
    }

    /// Takes the rest of the input: the last line may have no line feed.
    fn last(&mut self) -> io::Result<Option<Bytes>> {
        let rest = std::mem::take(&mut self.unread);
        match self.framing {
            _ if rest.is_empty() => Ok(None),
            Framing::Lines => Ok(Some(rest.into())),
            Framing::LengthPrefixed => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the input ends within a payload",
            )),
        }
    }
}
