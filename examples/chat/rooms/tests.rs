use super::*;
use crate::chat::{Chat, Limits};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message as Received, protocol::Role},
};
use tower_upgrade::{Sessions, UpgradeLayer, Upgraded, testing, websocket::WebSocketUpgrade};

/// The page of a member.
struct Page(WebSocketStream<Upgraded>);

/// Opens a session in the lobby. The page has received all messages so far.
async fn enter(rooms: &Rooms, name: &str) -> Page {
    let chat = Chat {
        upgrade: WebSocketUpgrade::new(),
        rooms: rooms.clone(),
        sessions: Sessions::new(),
        limits: Limits {
            sessions: 10,
            sessions_per_address: 10,
        },
    };
    let app = UpgradeLayer::new()
        .protocol("websocket", chat)
        .into_service();
    let request = testing::request("websocket")
        .uri(format!("/chat?name={name}&key={name}"))
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .body(String::new())
        .expect("a request");
    let exchange = testing::upgrade(app, request).await.expect("a response");
    let io = exchange.expect_upgraded("websocket");
    let mut page = Page(WebSocketStream::from_raw_socket(io, Role::Client, None).await);
    page.received().await;
    page
}

impl Page {
    async fn send(&mut self, message: Value) {
        let message = Received::text(message.to_string());
        self.0.send(message).await.expect("an open session");
    }

    async fn say(&mut self, id: &str, text: &str) {
        self.send(json!({ "type": "say", "id": id, "room": LOBBY, "text": text }))
            .await;
    }

    async fn next(&mut self) -> Received {
        let message = self.0.next().await.expect("a message");
        message.expect("a message")
    }

    /// Returns the texts that the server has queued by now.
    async fn received(&mut self) -> Vec<String> {
        self.send(json!({ "type": "ping" })).await;
        let mut received = Vec::new();
        loop {
            let text = self.next().await.into_text().expect("a text").to_string();
            if text == r#"{"type":"pong"}"# {
                return received;
            }
            received.push(text);
        }
    }

    /// Receives until this text.
    async fn expect(&mut self, text: &str) {
        while self.next().await.into_text().expect("a text") != text {}
    }

    /// Receives until a close frame, and returns the number of texts and the code.
    async fn end(&mut self) -> (usize, u16) {
        for texts in 0.. {
            if let Received::Close(frame) = self.next().await {
                return (texts, frame.expect("a code").code.into());
            }
        }
        unreachable!("the loop has no end")
    }
}

#[test]
fn name_is_taken_until_the_member_is_dropped() {
    let rooms = Rooms::default();
    let ann = rooms.reserve("Ann", "1").expect("a free name");
    assert_eq!(rooms.check_name("ann", "2"), Err(NameError::Taken));
    assert_eq!(rooms.check_name("Ann", ""), Err(NameError::Taken));
    assert_eq!(rooms.check_name("Ann", "1"), Ok(()));
    // As if its session never started.
    drop(ann);
    assert_eq!(rooms.check_name("ann", "2"), Ok(()));
}

#[test]
fn invalid_name_is_rejected() {
    let long = "a".repeat(MAX_NAME + 1);
    for name in ["", " ", " Ann", "Ann ", "<b>", "a\u{202e}b", "a\nb", &long] {
        assert_eq!(
            Rooms::default().check_name(name, ""),
            Err(NameError::Invalid),
            "{name:?}"
        );
    }
    for name in ["A", "Ann", "Zoë", "O'Neil Jr.", "小明", &long[1..]] {
        assert_eq!(Rooms::default().check_name(name, ""), Ok(()), "{name:?}");
    }
}

#[tokio::test]
async fn returning_member_replaces_its_old_session() {
    let rooms = Rooms::default();
    let mut before = enter(&rooms, "Ann").await;
    let mut bob = enter(&rooms, "Bob").await;
    let after = enter(&rooms, "Ann").await;
    assert_eq!(before.end().await.1, REPLACED);
    drop(before);
    bob.expect(r#"{"type":"people","people":["Bob","Ann"]}"#)
        .await;
    drop(after);
    bob.expect(r#"{"type":"people","people":["Bob"]}"#).await;
}

#[tokio::test]
async fn replaced_session_no_longer_sends() {
    let rooms = Rooms::default();
    let mut before = enter(&rooms, "Ann").await;
    let mut after = enter(&rooms, "Ann").await;
    before.say("1", "hello").await;
    assert_eq!(before.end().await.1, REPLACED);
    assert_eq!(after.received().await, [""; 0]);
}

#[tokio::test]
async fn resent_message_is_delivered_once() {
    let rooms = Rooms::default();
    let (mut ann, mut bob) = (enter(&rooms, "Ann").await, enter(&rooms, "Bob").await);
    ann.received().await;
    ann.say("1", "hello").await;
    ann.say("1", "hello").await;
    // The sender gets it twice, as the first copy may be lost.
    assert_eq!(ann.received().await.len(), 2);
    assert_eq!(bob.received().await.len(), 1);
}

#[tokio::test]
async fn message_to_another_room_reaches_the_sender_and_that_room() {
    let rooms = Rooms::default();
    let (mut ann, mut bob) = (enter(&rooms, "Ann").await, enter(&rooms, "Bob").await);
    bob.send(json!({ "type": "join", "room": "other" })).await;
    let history = bob.received().await;
    assert!(history[0].starts_with(r#"{"type":"room","room":"other""#));
    bob.say("1", "hello").await;
    assert!(bob.received().await.concat().contains("hello"));
    assert!(ann.received().await.concat().contains("hello"));
    // The message did not go to the room of the sender.
    let said = json!({ "type": "say", "id": "2", "room": LOBBY, "text": "bye" });
    let mut eve = enter(&rooms, "Eve").await;
    eve.send(json!({ "type": "join", "room": "other" })).await;
    eve.received().await;
    bob.send(said).await;
    assert!(bob.received().await.concat().contains("bye"));
    assert!(!eve.received().await.concat().contains("bye"));
}

#[tokio::test]
async fn room_remembers_its_last_messages() {
    let rooms = Rooms::default();
    let mut ann = enter(&rooms, "Ann").await;
    for number in 0..=HISTORY {
        ann.say(&number.to_string(), "hello").await;
    }
    ann.received().await;
    ann.send(json!({ "type": "join", "room": LOBBY })).await;
    let told = ann.received().await.concat();
    assert!(!told.contains(r#""id":"0""#));
    assert_eq!(told.matches(r#""id":"#).count(), HISTORY);
}

#[tokio::test]
async fn session_of_slow_member_is_closed() {
    let rooms = Rooms::default();
    let (mut ann, mut bob) = (enter(&rooms, "Ann").await, enter(&rooms, "Bob").await);
    let text = "a".repeat(MAX_TEXT);
    // More than the connection and the queue hold.
    let sent = 3 * MAX_WAITING;
    let mut told = Vec::new();
    for number in 0..sent {
        ann.say(&number.to_string(), &text).await;
        told.extend(ann.received().await);
    }
    let alone = r#"{"type":"people","people":["Ann"]}"#;
    assert!(told.iter().any(|told| told == alone));
    let (texts, code) = bob.end().await;
    assert!(texts < sent, "{texts}");
    assert_eq!(code, TRY_AGAIN_LATER);
}

#[tokio::test]
async fn new_room_replaces_an_empty_one_at_the_limit() {
    let rooms = Rooms::default();
    let mut ann = enter(&rooms, "Ann").await;
    for number in 0..2 * MAX_ROOMS {
        let room = format!("room-{number}");
        ann.send(json!({ "type": "join", "room": room })).await;
        ann.received().await;
    }
    let state = rooms.state();
    assert_eq!(state.rooms.len(), MAX_ROOMS);
    assert!(state.rooms.contains_key(LOBBY));
}
