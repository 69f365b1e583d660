//! Codes of close frames that a handler sends (RFC 6455 §7.4).

use crate::{
    handler, notes, open,
    support::websocket::{Frame, TEXT},
};
use tower_upgrade::websocket::{CloseFrame, ErrorKind, Message, WebSocket};

#[tokio::test]
async fn reserved_close_code_is_an_error() {
    for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535] {
        let (note, mut noted) = notes();
        let mut opened = open(handler(move |mut socket: WebSocket| {
            let note = note.clone();
            async move {
                let frame = CloseFrame::new(code, "");
                let sent = socket.send(Message::Close(Some(frame.clone()))).await;
                assert_eq!(
                    sent.expect_err("no code").kind(),
                    ErrorKind::InvalidCode,
                    "{code}"
                );
                socket.send("still here").await?;
                let error = socket.close(frame).await.expect_err("no code");
                note(error.to_string());
                Err(error.into())
            }
        }))
        .await;
        opened.expect(Frame::new(TEXT, "still here")).await;
        // The failure is the handler's.
        opened.expect(Frame::close(1011, "")).await;
        opened.send(Frame::close(1011, "")).await;
        let error = format!("a close frame may not be sent with the code {code}");
        assert_eq!(noted.recv().await.as_ref(), Some(&error));
        assert_eq!(opened.ended().await, format!("failed: {error}"));
    }
}

#[tokio::test]
async fn allowed_close_code_is_sent() {
    for code in [
        1000, 1001, 1002, 1003, 1007, 1011, 1014, 3000, 3999, 4000, 4999,
    ] {
        let mut opened = open(handler(move |socket: WebSocket| async move {
            Ok(socket.close(CloseFrame::new(code, "")).await?)
        }))
        .await;
        opened.expect(Frame::close(code, "")).await;
        opened.send(Frame::close(code, "")).await;
        assert_eq!(opened.ended().await, "finished");
    }
}
