use super::*;
use crate::{
    chat::{Chat, Limits, REPLACED, TRY_AGAIN_LATER},
    embedded::Embedded,
    local::MAX_WAITING,
    log::{Log, SHOWN},
};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message as Received, protocol::Role},
};
use tower_upgrade::{Sessions, UpgradeLayer, Upgraded, testing, websocket::WebSocketUpgrade};

/// The number of messages that a room remembers.
const HISTORY: usize = 60;

fn rooms() -> Rooms {
    let local = Arc::new(Local::new());
    let store = Embedded::new(Arc::clone(&local), HISTORY);
    Rooms::new(local, Arc::new(store))
}

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

    /// Joins the lobby. Returns the server's answer.
    async fn join(&mut self, since: Option<Value>) -> Value {
        self.send(json!({ "type": "join", "room": LOBBY, "since": since }))
            .await;
        let mut received = self.received().await;
        assert_eq!(types(&received), ["room"]);
        received.remove(0)
    }

    async fn next(&mut self) -> Received {
        let message = self.0.next().await.expect("a message");
        message.expect("a message")
    }

    /// Returns the messages that the server has queued by now, except lists of members and rooms.
    async fn received(&mut self) -> Vec<Value> {
        self.send(json!({ "type": "ping" })).await;
        let mut received = Vec::new();
        loop {
            let text = self.next().await.into_text().expect("a text");
            let message: Value = serde_json::from_str(&text).expect("JSON");
            match message["type"].as_str() {
                Some("pong") => return received,
                Some("people" | "rooms") => {}
                _ => received.push(message),
            }
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

fn types(received: &[Value]) -> Vec<&str> {
    let types = received.iter().map(|message| &message["type"]);
    types.map(|name| name.as_str().expect("a type")).collect()
}

fn offsets(room: &Value) -> Vec<u64> {
    let history = room["history"].as_array().expect("a list").iter();
    history
        .map(|message| message["offset"].as_u64().expect("a number"))
        .collect()
}

#[tokio::test]
async fn name_is_taken_until_the_member_is_dropped() {
    let rooms = rooms();
    let ann = rooms.reserve("Ann", "1").await.expect("a free name");
    let taken = Err(NameError::Store(StoreError::NameTaken));
    assert_eq!(rooms.check_name("ann", "2").await, taken);
    assert_eq!(rooms.check_name("Ann", "").await, taken);
    assert_eq!(rooms.check_name("Ann", "1").await, Ok(()));
    // As if its session never started.
    drop(ann);
    assert_eq!(rooms.check_name("ann", "2").await, Ok(()));
}

#[tokio::test]
async fn invalid_name_is_rejected() {
    let long = "a".repeat(MAX_NAME + 1);
    for name in ["", " ", " Ann", "Ann ", "<b>", "a\u{202e}b", "a\nb", &long] {
        assert_eq!(
            rooms().check_name(name, "").await,
            Err(NameError::Invalid),
            "{name:?}"
        );
    }
    for name in ["A", "Ann", "Zoë", "O'Neil Jr.", "小明", &long[1..]] {
        assert_eq!(rooms().check_name(name, "").await, Ok(()), "{name:?}");
    }
}

#[tokio::test]
async fn returning_member_replaces_its_old_session() {
    let rooms = rooms();
    let mut before = enter(&rooms, "Ann").await;
    let mut bob = enter(&rooms, "Bob").await;
    let after = enter(&rooms, "Ann").await;
    assert_eq!(before.end().await.1, REPLACED);
    drop(before);
    bob.expect(r#"{"type":"people","people":["Ann","Bob"],"count":2}"#)
        .await;
    drop(after);
    bob.expect(r#"{"type":"people","people":["Bob"],"count":1}"#)
        .await;
}

#[tokio::test]
async fn replaced_session_no_longer_sends() {
    let rooms = rooms();
    let mut before = enter(&rooms, "Ann").await;
    let mut after = enter(&rooms, "Ann").await;
    before.say("1", "hello").await;
    assert_eq!(before.end().await.1, REPLACED);
    assert!(after.received().await.is_empty());
}

#[tokio::test]
async fn resent_message_is_delivered_once() {
    let rooms = rooms();
    let (mut ann, mut bob) = (enter(&rooms, "Ann").await, enter(&rooms, "Bob").await);
    ann.say("1", "hello").await;
    ann.say("1", "hello").await;
    let received = ann.received().await;
    assert_eq!(types(&received), ["messages", "sent", "sent"]);
    for sent in &received[1..] {
        assert_eq!(sent["offset"], 1, "{sent}");
        assert_eq!(sent["id"], "1", "{sent}");
    }
    assert_eq!(types(&bob.received().await), ["messages"]);
}

#[tokio::test]
async fn message_to_another_room_is_acknowledged_and_reaches_that_room() {
    let rooms = rooms();
    let (mut ann, mut bob) = (enter(&rooms, "Ann").await, enter(&rooms, "Bob").await);
    ann.send(json!({ "type": "join", "room": "other" })).await;
    assert_eq!(ann.received().await[0]["room"], "other");
    ann.say("1", "hello").await;
    assert_eq!(types(&ann.received().await), ["sent"]);
    assert_eq!(types(&bob.received().await), ["messages"]);
}

#[tokio::test]
async fn page_without_position_gets_the_last_messages() {
    let rooms = rooms();
    let mut ann = enter(&rooms, "Ann").await;
    for number in 0..=SHOWN {
        ann.say(&number.to_string(), "hello").await;
    }
    ann.received().await;
    let room = ann.join(None).await;
    assert_eq!(offsets(&room), Vec::from_iter(2..=SHOWN as u64 + 1));
    assert_eq!(room["offset"], SHOWN + 1);
    assert_eq!(room["missed"], false);
}

#[tokio::test]
async fn page_with_position_gets_all_later_messages() {
    let rooms = rooms();
    let mut ann = enter(&rooms, "Ann").await;
    let epoch = ann.join(None).await["epoch"].clone();
    for number in 0..HISTORY {
        ann.say(&number.to_string(), "hello").await;
    }
    ann.received().await;
    for offset in [0, 1, HISTORY as u64 - 1, HISTORY as u64] {
        let room = ann
            .join(Some(json!({ "epoch": epoch, "offset": offset })))
            .await;
        assert_eq!(offsets(&room), Vec::from_iter(offset + 1..=HISTORY as u64));
        assert_eq!(room["missed"], false, "{offset}");
    }
}

#[tokio::test]
async fn possible_loss_is_reported() {
    let rooms = rooms();
    let mut ann = enter(&rooms, "Ann").await;
    let epoch = ann.join(None).await["epoch"].clone();
    for number in 0..HISTORY + 2 {
        ann.say(&number.to_string(), "hello").await;
    }
    ann.received().await;
    // The messages 1 and 2 are trimmed, the last one is `HISTORY + 2`.
    for (epoch, offset, is_lost) in [
        (&epoch, 1, true),
        (&epoch, 2, false),
        (&epoch, HISTORY + 2, false),
        (&epoch, HISTORY + 3, true),
        (&json!("another"), 5, true),
    ] {
        let room = ann
            .join(Some(json!({ "epoch": epoch, "offset": offset })))
            .await;
        assert_eq!(room["missed"], is_lost, "{offset}");
    }
}

#[tokio::test]
async fn new_epoch_is_reported_to_members() {
    let rooms = rooms();
    let mut ann = enter(&rooms, "Ann").await;
    rooms
        .local
        .open(LOBBY, Log::new("another".to_owned(), 3, HISTORY));
    let received = ann.received().await;
    assert_eq!(types(&received), ["room"]);
    assert_eq!(received[0]["missed"], true);
    assert_eq!(received[0]["epoch"], "another");
}

#[tokio::test]
async fn session_of_slow_member_is_closed() {
    let rooms = rooms();
    let (mut ann, mut bob) = (enter(&rooms, "Ann").await, enter(&rooms, "Bob").await);
    let text = "a".repeat(MAX_TEXT);
    // More than the connection and the queue hold.
    let sent = 3 * MAX_WAITING;
    for number in 0..sent {
        ann.say(&number.to_string(), &text).await;
        ann.received().await;
    }
    // Bob has left, although his page has not read the close frame yet.
    while rooms.local.people()[LOBBY].len() > 1 {
        tokio::task::yield_now().await;
    }
    let (texts, code) = bob.end().await;
    assert!(texts < sent, "{texts}");
    assert_eq!(code, TRY_AGAIN_LATER);
}

#[tokio::test]
async fn new_room_replaces_an_empty_one_at_the_limit() {
    let rooms = rooms();
    let mut ann = enter(&rooms, "Ann").await;
    for number in 0..2 * MAX_ROOMS {
        let room = format!("room-{number}");
        ann.send(json!({ "type": "join", "room": room })).await;
        ann.received().await;
    }
    while let Ok(text) = ann.next().await.into_text() {
        let message: Value = serde_json::from_str(&text).expect("JSON");
        let is_current = |room: &Value| room["name"] == format!("room-{}", 2 * MAX_ROOMS - 1);
        if let Some(rooms) = message["rooms"].as_array()
            && rooms.iter().any(is_current)
        {
            assert_eq!(rooms.len(), MAX_ROOMS);
            assert!(rooms.iter().any(|room| room["name"] == LOBBY));
            return;
        }
    }
}
