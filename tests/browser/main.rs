//! The example `chat`, and a CONNECT proxy, tested with Chromium. The tests fail with a hint if chromedriver is
//! not installed.

#![cfg(unix)]

mod proxy;
#[path = "../support/mod.rs"]
mod shared;
mod support;

use axum::{Router, response::Html, routing::get};
use support::{Chat, Driver, Page};
use tokio::net::TcpListener;

/// The report of the chat's drain.
const STOPPED: &str = "2 sessions ended, 0 aborted, 0 left, stop signals spread over 1s";

#[tokio::test]
async fn pages_exchange_messages_and_rooms() {
    let (driver, chat) = (Driver::start().await, Chat::start(&[]).await);
    let ann = Page::enter(&driver, &chat.url, "Ann").await;
    let bob = Page::enter(&driver, &chat.url, "Bob").await;
    ann.until_texts("#people .name", &["Ann (you)", "Bob"])
        .await;
    bob.until_texts("#people .name", &["Ann", "Bob (you)"])
        .await;

    ann.send("Hello <b>Bob</b>").await;
    bob.until_message("Hello <b>Bob</b>").await;
    bob.send("Hello Ann").await;
    ann.until_message("Hello Ann").await;
    ann.until_message("Hello <b>Bob</b>").await;
    assert_eq!(ann.texts(".from").await, ["You", "Bob"]);

    // Ann creates a room. Bob enters it later and sees the earlier messages.
    ann.type_into("#create input", "Release Plans").await;
    ann.until_texts("#room", &["release-plans"]).await;
    ann.send("Only here").await;
    ann.until_message("Only here").await;
    bob.until_texts("#people .name", &["Bob (you)"]).await;
    assert!(!bob.texts(".text").await.concat().contains("Only here"));
    bob.click("[data-room=release-plans]").await;
    bob.until_message("Only here").await;
    bob.until_texts("#people .name", &["Ann", "Bob (you)"])
        .await;
    // Bob leaves the room with the browser's back button.
    bob.run("history.back()").await;
    bob.until_texts("#room", &["lobby"]).await;
    bob.until_message("Hello <b>Bob</b>").await;
}

#[tokio::test]
async fn taken_or_invalid_name_is_explained() {
    let (driver, chat) = (Driver::start().await, Chat::start(&[]).await);
    let _ann = Page::enter(&driver, &chat.url, "Ann").await;
    let other = Page::submit_name(&driver, &chat.url, "ann").await;
    let why = "return why.textContent.startsWith('This name is taken')";
    other.until("the reason of the 409", why).await;
    other.type_name("<Ann>").await;
    let why = "return why.textContent.startsWith('A name has up to 24 letters')";
    other.until("the reason of the 400", why).await;
    other.type_name("Anna").await;
    other.until_state("open").await;
}

#[tokio::test]
async fn pages_reconnect_after_restart() {
    let (driver, chat) = (Driver::start().await, Chat::start(&[]).await);
    let ann = Page::enter(&driver, &chat.url, "Ann").await;
    let bob = Page::enter(&driver, &chat.url, "Bob").await;
    ann.send("before").await;
    bob.until_message("before").await;

    let address = chat.address().to_owned();
    assert_eq!(chat.stop().await, STOPPED);
    for page in [&ann, &bob] {
        // The page has received the close code 1001 before the connection closed.
        page.until_status("The server is restarting.").await;
        page.until_status("The server cannot be reached.").await;
        assert_eq!(page.run("return again.hidden").await, false);
    }
    ann.send("in between").await;
    ann.until_texts(".waiting .text", &["in betweenwaiting"])
        .await;

    let chat = Chat::start_at(&address, &[]).await;
    ann.until_state("open").await;
    bob.until_state("open").await;
    ann.until_message("in between").await;
    bob.until_message("in between").await;
    bob.send("after").await;
    ann.until_message("after").await;
    // The pages still show each message once, in the order sent.
    let sent = ["before", "in between", "after"];
    for page in [&ann, &bob] {
        let texts =
            "return Array.from(document.querySelectorAll('.text'), text => text.firstChild.data)";
        assert_eq!(page.run(texts).await, serde_json::json!(sent));
        // The server has lost its rooms: they are in its memory.
        let gap = page.texts(".gap").await;
        assert_eq!(gap, ["You may have missed messages."]);
    }
    drop(chat);
}

#[tokio::test]
async fn page_of_another_origin_is_refused() {
    let (driver, chat) = (Driver::start().await, Chat::start(&[]).await);
    // The chat's own page, served by another origin, with a base URL that points to the chat.
    let page = include_str!("../../examples/chat/index.html");
    let base = format!("<head><base href=\"{}/\">", chat.url);
    let page = page.replacen("<head>", &base, 1);
    let site = Router::new().route("/", get(async || Html(page)));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let other_origin = format!("http://{}", listener.local_addr().expect("bound"));
    tokio::spawn(async { axum::serve(listener, site).await });

    let mallory = Page::submit_name(&driver, &other_origin, "Mallory").await;
    mallory.until_state("refused").await;
    let status = "The server refused the connection. This page is not part of the chat.";
    assert_eq!(mallory.texts("#said").await, [status]);

    // The administrator's browser would send the password with requests of any page.
    let admin = driver.page(&chat.admin()).await;
    admin
        .until(
            "no open sessions",
            "return document.querySelector('#open').textContent === '0'",
        )
        .await;
    let basic = "Authorization: Basic YWRtaW46b3BlbiBzZXNhbWU=";
    let answer = chat.get("/admin/sessions", &[basic]).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let origin = format!("Origin: {other_origin}");
    let answer = chat.get("/admin/sessions", &[basic, &origin]).await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
}

#[tokio::test]
async fn chromium_uses_websocket_over_http2() {
    let (driver, chat) = (Driver::start().await, Chat::start(&["--tls"]).await);
    let ann = Page::enter(&driver, &chat.url, "Ann").await;
    let bob = Page::enter(&driver, &chat.url, "Bob").await;
    ann.send("over HTTP/2").await;
    bob.until_message("over HTTP/2").await;
    bob.send("so am I").await;
    ann.until_message("so am I").await;

    let admin = driver.page(&chat.admin()).await;
    admin.until_texts(".who", &["Ann", "Bob"]).await;
    let kinds = ["HTTP/2 extended-connect", "HTTP/2 extended-connect"];
    admin.until_texts(".kind", &kinds).await;

    let address = chat.address().to_owned();
    assert_eq!(chat.stop().await, STOPPED);
    ann.until_status("The server is restarting.").await;
    ann.send("in between").await;
    let _chat = Chat::start_at(&address, &["--tls"]).await;
    bob.until_message("in between").await;
    // The administrator's page shows both new connections after a reload.
    admin.run("location.reload()").await;
    admin.until_texts(".kind", &kinds).await;
}

/// E8: RFC 9220.
#[cfg(feature = "http3")]
#[tokio::test]
async fn e8_chromium_uses_websocket_over_http3() {
    let chat = Chat::start(&["--http3"]).await;
    let driver = Driver::start_http3(&chat).await;
    let ann = Page::enter(&driver, &chat.url, "Ann").await;
    let bob = Page::enter(&driver, &chat.url, "Bob").await;
    ann.send("over HTTP/3").await;
    bob.until_message("over HTTP/3").await;
    bob.send("so am I").await;
    ann.until_message("so am I").await;

    let admin = driver.page(&chat.admin()).await;
    admin.until_texts(".who", &["Ann", "Bob"]).await;
    let kinds = ["HTTP/3 extended-connect", "HTTP/3 extended-connect"];
    admin.until_texts(".kind", &kinds).await;

    assert_eq!(chat.stop().await, STOPPED);
    for page in [&ann, &bob] {
        page.until_status("The server is restarting.").await;
    }
}

/// W7: permessage-deflate.
#[tokio::test]
async fn w7_chromium_exchanges_compressed_messages() {
    for args in [&[][..], &["--tls"]] {
        let (driver, chat) = (Driver::start().await, Chat::start(args).await);
        let ann = Page::enter(&driver, &chat.url, "Ann").await;
        let bob = Page::enter(&driver, &chat.url, "Bob").await;
        let open = "const url = new URL('/chat', location.href.replace('http', 'ws'));
            url.search = new URLSearchParams({ name: 'Eve', key: 'e'.repeat(36), room: 'lobby' });
            const socket = new WebSocket(url);
            return new Promise(agreed => {
                socket.onopen = () => {
                    agreed(socket.extensions);
                    socket.close();
                };
                socket.onclose = () => agreed('refused');
            });";
        let agreed = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
        assert_eq!(ann.run(open).await, agreed);

        let long = "long, ".repeat(300);
        let (first, second) = (format!("{long}one"), format!("{long}two"));
        ann.send(&first).await;
        bob.until_message(&first).await;
        bob.send(&second).await;
        ann.until_message(&second).await;
        // Each session has received one of the messages, and sent both.
        let bytes = "return fetch(new URL('/admin/sessions', location.origin))
            .then(answer => answer.json())
            .then(list => list.sessions.filter(({ who }) => who !== 'Eve'))
            .then(list => list.map(({ read, written }) => read < 1000 && written < 1800));";
        let admin = driver.page(&chat.admin()).await;
        let bytes = admin.run(bytes).await;
        assert_eq!(bytes, serde_json::json!([true, true]));
    }
}

#[tokio::test]
async fn administrator_closes_a_session_and_drains_all() {
    let (driver, chat) = (Driver::start().await, Chat::start(&[]).await);
    for path in ["/admin", "/admin/sessions", "/metrics"] {
        let answer = chat.get(path, &[]).await;
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
        let answer = chat
            .get(path, &["Authorization: Basic YWRtaW46d3Jvbmc="])
            .await;
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    }
    let ann = Page::enter(&driver, &chat.url, "Ann").await;
    let bob = Page::enter(&driver, &chat.url, "Bob").await;
    let admin = driver.page(&chat.admin()).await;
    admin.until_texts(".who", &["Ann", "Bob"]).await;
    admin
        .until_texts("td:nth-child(3)", &["websocket", "websocket"])
        .await;
    admin.until_texts("#open", &["2"]).await;
    admin.until_texts("#state", &["Serving"]).await;
    let metrics = chat
        .get(
            "/metrics",
            &["Authorization: Basic YWRtaW46b3BlbiBzZXNhbWU="],
        )
        .await;
    let open = r#"tower_upgrade_sessions_open{kind="upgrade",protocol="websocket"} 2"#;
    assert!(metrics.lines().any(|line| line == open), "{metrics}");

    admin.click("[aria-label$='of Ann']").await;
    ann.until_status("An administrator has closed your connection.")
        .await;
    ann.until_state("refused").await;
    admin.until_texts(".who", &["Bob"]).await;
    bob.until_texts("#people .name", &["Bob (you)"]).await;
    ann.click("#again").await;
    ann.until_state("open").await;
    admin.until_texts(".who", &["Bob", "Ann"]).await;

    assert!(chat.get("/ready", &[]).await.starts_with("HTTP/1.1 200 "));
    admin.click("#drain").await;
    admin.click("#sure [value=drain]").await;
    admin.until_texts("#state", &["Draining"]).await;
    admin.until_texts("#open", &["0"]).await;
    assert!(chat.get("/ready", &[]).await.starts_with("HTTP/1.1 503 "));
    ann.until_status("The server is restarting.").await;
    // Ann's page tries to reconnect and shows the reason for the refusal.
    ann.until_status("The server is stopping.").await;
}

#[tokio::test]
async fn pages_fit_a_phone_screen() {
    let (driver, chat) = (Driver::start_phone().await, Chat::start(&[]).await);
    let ann = Page::enter(&driver, &chat.url, "Ann").await;
    assert_eq!(ann.run("return innerWidth").await, 360);
    let long = "long".repeat(100);
    ann.send(&long).await;
    ann.until_message(&long).await;
    let fits = "return document.documentElement.scrollWidth <= 360
        && [log, side].every(part => part.scrollWidth <= part.clientWidth)";
    ann.until("no more than the screen", fits).await;

    // The room list is hidden, also from the keyboard, until its button is clicked.
    let is_visible = "return side.checkVisibility({ visibilityProperty: true })";
    assert_eq!(ann.run(is_visible).await, false);
    ann.click("#menu").await;
    ann.until("the rooms", is_visible).await;
    ann.type_into("#create input", "coffee").await;
    ann.until_texts("#room", &["coffee"]).await;
    let is_hidden = is_visible.replacen("return ", "return !", 1);
    ann.until("the room", &is_hidden).await;

    let admin = driver.page(&chat.admin()).await;
    admin.until_texts(".who", &["Ann"]).await;
    let fits = "return document.documentElement.scrollWidth <= 360";
    admin.until("no more than the screen", fits).await;
}

#[tokio::test]
async fn full_chat_is_explained_and_retried() {
    let driver = Driver::start().await;
    let chat = Chat::start(&["--max-sessions", "1"]).await;
    let ann = Page::enter(&driver, &chat.url, "Ann").await;
    let bob = Page::submit_name(&driver, &chat.url, "Bob").await;
    bob.until_status("The chat is full.").await;
    ann.run("location.href = 'about:blank'").await;
    // Bob's page retries until a session is free.
    bob.until_state("open").await;
}
