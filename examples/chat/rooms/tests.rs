use super::*;
use serde_json::json;

/// Returns a member in the lobby, without pending events.
fn enter(rooms: &Rooms, name: &str, session: u64) -> Member {
    let mut member = rooms.reserve(name, name).expect("a free name");
    member.start(session.into(), LOBBY.into());
    received(&mut member);
    member
}

fn received(member: &mut Member) -> Vec<String> {
    let mut received = Vec::new();
    while let Ok(event) = member.events.try_recv() {
        received.push(match event {
            Event::Text(text) => text.to_string(),
            Event::Replaced => "replaced".into(),
        });
    }
    received
}

fn say(member: &Member, id: &str, text: &str) {
    let said = json!({ "type": "say", "id": id, "room": LOBBY, "text": text });
    member.handle(&said.to_string()).expect("a valid message");
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

#[test]
fn returning_member_replaces_its_old_session() {
    let rooms = Rooms::default();
    let mut before = enter(&rooms, "Ann", 1);
    let mut bob = enter(&rooms, "Bob", 2);
    let after = enter(&rooms, "Ann", 3);
    assert_eq!(
        received(&mut before).last().map(String::as_str),
        Some("replaced")
    );
    drop(before);
    let told = received(&mut bob).concat();
    assert!(
        told.contains(r#"{"type":"people","people":["Bob","Ann"]}"#),
        "{told}"
    );
    drop(after);
    let told = received(&mut bob).concat();
    assert!(
        told.contains(r#"{"type":"people","people":["Bob"]}"#),
        "{told}"
    );
}

#[test]
fn resent_message_is_delivered_once() {
    let rooms = Rooms::default();
    let (mut ann, mut bob) = (enter(&rooms, "Ann", 1), enter(&rooms, "Bob", 2));
    received(&mut ann);
    say(&ann, "1", "hello");
    say(&ann, "1", "hello");
    assert_eq!(received(&mut bob).len(), 1);
    // The sender gets it twice, as the first copy may be lost.
    assert_eq!(received(&mut ann).len(), 2);
}

#[test]
fn room_remembers_its_last_messages() {
    let rooms = Rooms::default();
    let mut ann = enter(&rooms, "Ann", 1);
    for number in 0..=HISTORY {
        say(&ann, &number.to_string(), "hello");
    }
    received(&mut ann);
    ann.handle(r#"{ "type": "join", "room": "lobby" }"#)
        .expect("a valid message");
    let told = received(&mut ann).concat();
    assert!(!told.contains(r#""id":"0""#));
    assert_eq!(told.matches(r#""id":"#).count(), HISTORY);
}

#[test]
fn slow_member_is_disconnected() {
    let rooms = Rooms::default();
    let (mut ann, mut bob) = (enter(&rooms, "Ann", 1), enter(&rooms, "Bob", 2));
    for number in 0..=MAX_WAITING {
        say(&ann, &number.to_string(), "hello");
        received(&mut ann);
    }
    assert_eq!(received(&mut bob).len(), MAX_WAITING);
    let nothing_more = Err(mpsc::error::TryRecvError::Disconnected);
    assert_eq!(bob.events.try_recv().map(drop), nothing_more);
    drop(bob);
    let told = received(&mut ann).concat();
    assert!(
        told.contains(r#"{"type":"people","people":["Ann"]}"#),
        "{told}"
    );
}

#[test]
fn new_room_replaces_an_empty_one_at_the_limit() {
    let rooms = Rooms::default();
    let mut ann = enter(&rooms, "Ann", 1);
    for number in 0..2 * MAX_ROOMS {
        let join = json!({ "type": "join", "room": format!("room-{number}") });
        ann.handle(&join.to_string()).expect("a valid message");
        received(&mut ann);
    }
    let state = rooms.state();
    assert_eq!(state.rooms.len(), MAX_ROOMS);
    assert!(state.rooms.contains_key(LOBBY));
}
