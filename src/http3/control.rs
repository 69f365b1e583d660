//! Unidirectional streams: the control streams of both sides, and QPACK's (RFC 9114 §6.2, RFC 9204 §4.2).

use super::{
    code,
    error::Error,
    frame::{self, FrameReader, Receiver, Source as _},
    settings::{self, PeerSettings},
    shared::Shared,
};
use crate::io::varint;
use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::stream::{FuturesUnordered, Stream as _, StreamExt as _};
use quinn::SendStream;
use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::Poll,
};

const CONTROL: u64 = 0x0;
const PUSH: u64 = 0x1;
const QPACK_ENCODER: u64 = 0x2;
const QPACK_DECODER: u64 = 0x3;

/// The maximum length of a frame on the control stream. Implementations send fewer than 20 settings.
const MAX_CONTROL_FRAME: u64 = 4 * 1024;

/// Opens the control stream of this side, and sends the settings.
pub(crate) async fn open(
    connection: &quinn::Connection,
    max_field_section_size: usize,
    is_server: bool,
) -> Result<SendStream, Error> {
    let mut stream = connection.open_uni().await.map_err(Error::connection)?;
    let settings = settings::encode(max_field_section_size, is_server);
    let mut bytes = BytesMut::with_capacity(settings.len() + 1);
    bytes.put_u8(CONTROL as u8);
    bytes.put_slice(&settings);
    let written = stream.write_chunk(bytes.freeze()).await;
    written.map_err(Error::write)?;
    Ok(stream)
}

/// Sends GOAWAY: requests on streams with an ID of `id` or more are not processed (RFC 9114 §5.2).
pub(crate) async fn send_goaway(control: &mut SendStream, id: u64) -> Result<(), Error> {
    let mut payload = [0; varint::MAX_LENGTH];
    let length = varint::encode(id, &mut payload);
    let mut header = [0; frame::MAX_HEADER];
    let size = frame::encode_header(frame::GOAWAY, length, &mut header);
    let frame = [&header[..size], &payload[..length]].concat();
    control
        .write_chunk(Bytes::from(frame))
        .await
        .map_err(Error::write)
}

/// Accepts and reads the unidirectional streams of the peer, until the connection ends.
///
/// `goaway` is called with the ID in each GOAWAY.
pub(crate) async fn read(
    shared: &Arc<Shared>,
    is_server: bool,
    goaway: impl Fn(u64),
) -> Result<std::convert::Infallible, Error> {
    let seen = AtomicU8::new(0);
    let mut streams = FuturesUnordered::new();
    let mut accept = pin!(futures_util::stream::unfold((), |()| async {
        Some((shared.connection.accept_uni().await, ()))
    }));
    poll_fn(|cx| {
        while let Poll::Ready(Some(accepted)) = accept.as_mut().poll_next(cx) {
            let stream = Receiver::new(accepted.map_err(Error::connection)?);
            streams.push(read_stream(shared, stream, is_server, &seen, &goaway));
        }
        while let Poll::Ready(Some(ended)) = streams.poll_next_unpin(cx) {
            ended?;
        }
        Poll::Pending
    })
    .await
}

/// Reads one unidirectional stream to its end.
async fn read_stream(
    shared: &Shared,
    mut stream: Receiver,
    is_server: bool,
    seen: &AtomicU8,
    goaway: &impl Fn(u64),
) -> Result<(), Error> {
    let Some((kind, rest)) = stream_type(&mut stream).await? else {
        return Ok(());
    };
    let is_first = match kind {
        CONTROL | QPACK_ENCODER | QPACK_DECODER => {
            let bit = 1 << kind;
            seen.fetch_or(bit, Ordering::Relaxed) & bit == 0
        }
        _ => true,
    };
    if !is_first {
        let reason = "the peer opened a second stream of a type that occurs once";
        return Err(Error::fatal(code::STREAM_CREATION_ERROR, reason));
    }
    match kind {
        CONTROL => read_control(shared, FrameReader::with(stream, rest), is_server, goaway).await,
        PUSH if is_server => Err(Error::fatal(
            code::STREAM_CREATION_ERROR,
            "a client opened a push stream",
        )),
        // This side sends no MAX_PUSH_ID (RFC 9114 §4.6).
        PUSH => Err(Error::fatal(code::ID_ERROR, "a push without permission")),
        QPACK_ENCODER => read_encoder(stream, rest).await,
        QPACK_DECODER => read_decoder(stream).await,
        _ => {
            stream.stop(code::STREAM_CREATION_ERROR);
            Ok(())
        }
    }
}

/// Reads the type of a unidirectional stream. Returns `None` if the stream ends before.
async fn stream_type(stream: &mut Receiver) -> Result<Option<(u64, Bytes)>, Error> {
    let mut start = BytesMut::new();
    loop {
        let chunk = match poll_fn(|cx| stream.poll_chunk(cx)).await {
            Ok(Some(chunk)) => chunk,
            // A stream may end or be reset before its type (RFC 9114 §6.2).
            Ok(None) => return Ok(None),
            Err(error) if error.is_of_stream() => return Ok(None),
            Err(error) => return Err(error),
        };
        start.put(chunk);
        if let Some((kind, length)) = varint::decode(&start) {
            let rest = start.split_off(length).freeze();
            return Ok(Some((kind, rest)));
        }
    }
}

/// The end or the reset of a stream that must stay open is a connection error (RFC 9114 §6.2.1, RFC 9204 §4.2).
fn critical(error: Error) -> Error {
    match error.is_of_stream() {
        true => closed(),
        false => error,
    }
}

fn closed() -> Error {
    Error::fatal(
        code::CLOSED_CRITICAL_STREAM,
        "the peer closed a control or QPACK stream",
    )
}

async fn read_control(
    shared: &Shared,
    mut frames: FrameReader,
    is_server: bool,
    goaway: &impl Fn(u64),
) -> Result<(), Error> {
    let mut last_goaway = u64::MAX;
    loop {
        let kind = poll_fn(|cx| frames.poll_next(cx)).await.map_err(critical)?;
        let kind = kind.ok_or_else(closed)?;
        if shared.peer.get().is_none() && kind != frame::SETTINGS {
            return Err(Error::fatal(
                code::MISSING_SETTINGS,
                "the control stream does not start with SETTINGS",
            ));
        }
        match kind {
            frame::SETTINGS => {
                let payload = payload(&mut frames).await?;
                let settings = PeerSettings::decode(&payload)?;
                shared.peer.set(settings).map_err(|_| {
                    Error::fatal(code::FRAME_UNEXPECTED, "the peer sent SETTINGS twice")
                })?;
                shared.settings_arrived.notify_waiters();
            }
            frame::GOAWAY => {
                let payload = payload(&mut frames).await?;
                let id = number(&payload)?;
                if id > last_goaway || (!is_server && id % 4 != 0) {
                    return Err(Error::fatal(
                        code::ID_ERROR,
                        "the ID of a GOAWAY is invalid",
                    ));
                }
                last_goaway = id;
                goaway(id);
            }
            // Pushes are not used. The peer may cancel a push only after its promise (RFC 9114 §7.2.3).
            frame::CANCEL_PUSH => {
                return Err(Error::fatal(code::ID_ERROR, "a push was cancelled"));
            }
            frame::MAX_PUSH_ID if is_server => {
                number(&payload(&mut frames).await?)?;
            }
            kind if frame::is_unknown(kind) => {}
            _ => {
                return Err(Error::fatal(
                    code::FRAME_UNEXPECTED,
                    "a frame is not allowed on the control stream",
                ));
            }
        }
    }
}

/// Reads the payload of a frame of the control stream.
async fn payload(frames: &mut FrameReader) -> Result<BytesMut, Error> {
    if frames.remaining() > MAX_CONTROL_FRAME {
        return Err(Error::fatal(
            code::EXCESSIVE_LOAD,
            "a frame on the control stream is too long",
        ));
    }
    let mut payload = BytesMut::new();
    while let Some(bytes) = poll_fn(|cx| frames.poll_payload(cx, usize::MAX))
        .await
        .map_err(critical)?
    {
        payload.put(bytes);
    }
    Ok(payload)
}

fn number(payload: &[u8]) -> Result<u64, Error> {
    match varint::decode(payload) {
        Some((number, length)) if length == payload.len() => Ok(number),
        _ => Err(Error::fatal(
            code::FRAME_ERROR,
            "the payload of a frame is not one number",
        )),
    }
}

/// Reads the instructions of the peer's encoder. Without a dynamic table, the only valid instruction sets the capacity
/// to 0 (RFC 9204 §3.2.3).
async fn read_encoder(mut stream: Receiver, first: Bytes) -> Result<(), Error> {
    const SET_CAPACITY_0: u8 = 0b0010_0000;
    let mut bytes = first;
    loop {
        if bytes.iter().any(|byte| *byte != SET_CAPACITY_0) {
            return Err(Error::fatal(
                code::QPACK_ENCODER_STREAM_ERROR,
                "the peer inserts into a dynamic table of no capacity",
            ));
        }
        let chunk = poll_fn(|cx| stream.poll_chunk(cx))
            .await
            .map_err(critical)?;
        bytes = chunk.ok_or_else(closed)?;
    }
}

/// Reads the instructions of the peer's decoder, which have no effect on an encoder without a dynamic table.
async fn read_decoder(mut stream: Receiver) -> Result<(), Error> {
    loop {
        let chunk = poll_fn(|cx| stream.poll_chunk(cx))
            .await
            .map_err(critical)?;
        if chunk.is_none() {
            return Err(closed());
        }
    }
}
