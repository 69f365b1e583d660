//! Replays the corpus of every target on stable Rust, so that fixed bugs stay fixed.

use std::{fs, path::Path};
use tower_upgrade_fuzz::{
    address, answer, authority, capsules, deflate, early, forwarded, frames, head, http3, messages,
    qpack, tokens, websocket_handshake,
};

fn replay(target: &str, run: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target);
    let mut replayed = 0;
    for input in fs::read_dir(&corpus).expect("a corpus") {
        let path = input.expect("a file").path();
        println!("{}", path.display()); // printed if the test fails
        run(&fs::read(path).expect("a file"));
        replayed += 1;
    }
    assert!(replayed >= 12, "{replayed} inputs in {}", corpus.display());
}

#[test]
fn address() {
    replay("address", address::run);
}

#[test]
fn answer() {
    replay("answer", answer::run);
}

#[test]
fn authority() {
    replay("authority", authority::run);
}

#[test]
fn capsules() {
    replay("capsules", capsules::run);
}

#[test]
fn deflate() {
    replay("deflate", deflate::run);
}

#[test]
fn early() {
    replay("early", early::run);
}

#[test]
fn forwarded() {
    replay("forwarded", forwarded::run);
}

#[test]
fn frames() {
    replay("frames", frames::run);
}

#[test]
fn head() {
    replay("head", head::run);
}

#[test]
fn http3() {
    replay("http3", http3::run);
}

#[test]
fn messages() {
    replay("messages", messages::run);
}

#[test]
fn qpack() {
    replay("qpack", qpack::run);
}

#[test]
fn tokens() {
    replay("tokens", tokens::run);
}

#[test]
fn websocket_handshake() {
    replay("websocket_handshake", websocket_handshake::run);
}
