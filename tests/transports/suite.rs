//! The guarantees for a handler, over each transport.

use crate::{
    support::{handlers::Counted, handlers::echo, soon, text, until},
    transport::{Ask, Transport},
};
use http::{HeaderValue, StatusCode};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::Notify,
};
use tower_upgrade::{
    Accept, ProtocolHandler, Rejection, Session, UpgradeKind, UpgradeLayer, UpgradeRequest,
    handler_fn,
};

/// Both ways to ask, for handlers that a layer has for both.
const ASKS: [Ask; 2] = [Ask::Protocol("test"), Ask::Tunnel("test:1")];

pub(crate) async fn suite<T: Transport>() {
    println!("over {}", T::NAME);
    echoes_until_the_peer_is_done::<T>().await;
    hears_what_came_early::<T>().await;
    decides_on_the_request::<T>().await;
    refuses_with_a_whole_response::<T>().await;
    is_refused_for_when_it_fails_to_decide::<T>().await;
    passes_on_what_it_does_not_want::<T>().await;
    says_its_part_and_listens_on::<T>().await;
    ends_in_order_whatever_happens::<T>().await;
    stops_its_peer_while_it_does_not_read::<T>().await;
    says_all_to_a_peer_that_reads_late::<T>().await;
    keeps_many_sessions_apart::<T>().await;
}

/// A transport to this handler, for each kind of request.
async fn start<T: Transport>(handler: impl ProtocolHandler) -> T {
    let handler = Arc::new(handler);
    let layer = UpgradeLayer::new()
        .protocol("test", Arc::clone(&handler))
        .connect(handler)
        .accept_timeout(Duration::from_millis(1));
    T::start(layer).await
}

async fn echoes_until_the_peer_is_done<T: Transport>() {
    let handler = Counted::default();
    let mut transport = start::<T>(handler.clone()).await;
    for ask in ASKS {
        let answer = transport.ask(ask).await;
        assert_eq!(answer.header("added"), Some("by the handler"));
        assert_eq!(answer.header("content-length"), None);
        assert_eq!(answer.header("transfer-encoding"), None);
        let mut peer = answer.switched();
        for length in [1, 100, 20_000, 1] {
            peer.expect_echo(&vec![b'x'; length]).await;
        }
        peer.finish().await;
        peer.expect_end().await;
    }
    until(|| handler.held() == 0).await;
    assert_eq!((handler.accepted(), handler.started()), (2, 2));
}

async fn hears_what_came_early<T: Transport>() {
    let mut transport = start::<T>(echo()).await;
    for ask in ASKS {
        let answer = transport.ask_with(ask, "nobody", "early, ").await;
        let mut peer = answer.switched();
        peer.send(b"late").await;
        assert_eq!(text(&peer.exactly(11).await), "early, late");
    }
}

/// Looks at the request, and greets.
struct Greets;

impl ProtocolHandler for Greets {
    async fn accept(&self, request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        let user = request.headers()["user"].clone();
        request.parts_mut().extensions.insert(user.clone());
        let has_protocol = request.kind() != UpgradeKind::Connect;
        assert_eq!(request.protocol().is_some(), has_protocol);
        assert!(request.authority()?.as_str().starts_with("test"));
        assert!(request.read_body(0).await?.is_empty());
        let accept = Accept::new(move |mut session: Session| async move {
            let user: HeaderValue = session.extensions_mut().remove().ok_or("nobody")?;
            let head = session.request().ok_or("no head")?;
            assert_eq!(head.headers["user"], user);
            let says = format!("{} {user:?}", session.kind());
            session.io_mut().write_all(says.as_bytes()).await?;
            Ok(())
        });
        Ok(accept.keep_request().header("greets", user))
    }
}

async fn decides_on_the_request<T: Transport>() {
    let mut transport = start::<T>(Greets).await;
    for ask in ASKS {
        let answer = transport.ask_with(ask, "ann", "").await;
        assert_eq!(answer.header("greets"), Some("ann"));
        let said = text(&answer.switched().rest().await.expect("an orderly end"));
        assert!(said.ends_with("\"ann\""), "{said}");
        assert_eq!(said.starts_with("connect"), matches!(ask, Ask::Tunnel(_)));
    }
}

struct Refuses;

impl ProtocolHandler for Refuses {
    async fn accept(&self, _request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        Err(Rejection::new(StatusCode::FORBIDDEN, "not you"))
    }
}

async fn refuses_with_a_whole_response<T: Transport>() {
    let mut transport = start::<T>(Refuses).await;
    for ask in ASKS {
        let answer = transport.ask_with(ask, "ann", "early").await;
        assert_eq!(answer.header("upgrade"), None);
        assert_eq!(
            answer.header("content-type"),
            Some("text/plain; charset=utf-8")
        );
        assert_eq!(answer.refused(), (403, "not you".into()));
    }
}

/// Panics or hangs before it has decided.
struct Fails;

impl ProtocolHandler for Fails {
    async fn accept(&self, request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        match request.headers()["user"].as_bytes() {
            b"panics" => panic!("on purpose"),
            _ => std::future::pending().await,
        }
    }
}

async fn is_refused_for_when_it_fails_to_decide<T: Transport>() {
    let mut transport = start::<T>(Fails).await;
    for ask in ASKS {
        for (user, status) in [("panics", 500), ("hangs", 504)] {
            let answer = transport.ask_with(ask, user, "").await;
            assert_eq!(answer.refused().0, status);
        }
    }
}

async fn passes_on_what_it_does_not_want<T: Transport>() {
    let unwilling = handler_fn(|_session| async { Ok(()) }).when(|_parts| false);
    let second = UpgradeLayer::new()
        .protocol("test", unwilling.clone())
        .protocol("test", Refuses)
        .connect(unwilling)
        .connect(Refuses);
    let mut transport = T::start(second).await;
    for ask in ASKS {
        assert_eq!(transport.ask(ask).await.refused(), (403, "not you".into()));
    }
}

async fn says_its_part_and_listens_on<T: Transport>() {
    let heard = Arc::new(Mutex::new(String::new()));
    let first = handler_fn({
        let heard = Arc::clone(&heard);
        move |mut session: Session| {
            let heard = Arc::clone(&heard);
            async move {
                session.io_mut().write_all(b"over to you").await?;
                session.io_mut().shutdown().await?;
                let mut text = String::new();
                session.io_mut().read_to_string(&mut text).await?;
                *heard.lock().expect("no panic") += &text;
                Ok(())
            }
        }
    });
    let mut transport = start::<T>(first).await;
    for ask in ASKS {
        let mut peer = transport.ask(ask).await.switched();
        assert_eq!(text(&peer.rest().await.expect("an end")), "over to you");
        peer.send(b"thanks.").await;
        peer.finish().await;
    }
    until(|| *heard.lock().expect("no panic") == "thanks.thanks.").await;
}

async fn ends_in_order_whatever_happens<T: Transport>() {
    let ends = handler_fn(|mut session: Session| async move {
        session.io_mut().write_all(&[b'x'; 100_000]).await?;
        match session.io_mut().read_u8().await? {
            b'p' => panic!("on purpose"),
            b'e' => Err("on purpose".into()),
            _ => Ok(()),
        }
    });
    let mut transport = start::<T>(ends).await;
    for ask in ASKS {
        for how in ["p", "e", "r"] {
            let mut peer = transport.ask(ask).await.switched();
            // More than the handler reads: a socket would be reset for it.
            peer.send(how.to_owned() + "unread").await;
            let said = peer.rest().await.expect("an orderly end");
            assert_eq!(said.len(), 100_000, "{how}");
        }
    }
}

/// More than all buffers on the way take.
const MUCH: usize = 32 * 1024 * 1024;

async fn stops_its_peer_while_it_does_not_read<T: Transport>() {
    let go_on = Arc::new(Notify::new());
    let reluctant = handler_fn({
        let go_on = Arc::clone(&go_on);
        move |mut session: Session| {
            let go_on = Arc::clone(&go_on);
            async move {
                go_on.notified().await;
                let mut rest = session.io_mut().take(MUCH as u64);
                let read = tower_upgrade::copy(&mut rest, &mut tokio::io::sink()).await?;
                session
                    .io_mut()
                    .write_all(read.to_string().as_bytes())
                    .await?;
                Ok(())
            }
        }
    });
    let mut transport = start::<T>(reluctant).await;
    for ask in ASKS {
        let mut peer = transport.ask(ask).await.switched();
        let much = vec![b'x'; MUCH];
        let mut sent = 0;
        // Writes as long as that gets anywhere while the server has its turns.
        for _ in 0..1000 {
            while let Some(wrote) =
                futures_util::FutureExt::now_or_never(peer.io.write(&much[sent..]))
            {
                sent += wrote.expect("peer can write");
                assert!(sent < MUCH, "nothing stops the peer");
            }
            tokio::task::yield_now().await;
        }
        assert_ne!(sent, 0);
        go_on.notify_one();
        soon(peer.io.write_all(&much[sent..]))
            .await
            .expect("peer can write");
        let read = peer.rest().await.expect("an orderly end");
        assert_eq!(text(&read), MUCH.to_string());
    }
}

async fn says_all_to_a_peer_that_reads_late<T: Transport>() {
    let says_much = handler_fn(|mut session: Session| async move {
        let much: Vec<u8> = (0..MUCH).map(|at| at as u8).collect();
        session.io_mut().write_all(&much).await?;
        Ok(())
    });
    let mut transport = start::<T>(says_much).await;
    for ask in ASKS {
        let mut peer = transport.ask(ask).await.switched();
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let heard = peer.rest().await.expect("an orderly end");
        assert_eq!(heard.len(), MUCH);
        assert!(heard.iter().enumerate().all(|(at, byte)| *byte == at as u8));
    }
}

async fn keeps_many_sessions_apart<T: Transport>() {
    let handler = Counted::default();
    let mut transport = start::<T>(handler.clone()).await;
    let mut peers = Vec::new();
    for _ in 0..20 {
        for ask in ASKS {
            peers.push(transport.ask(ask).await.switched());
        }
    }
    until(|| handler.started() == 40).await;
    for (number, peer) in peers.iter_mut().enumerate() {
        peer.send(format!("{number:2} is my number")).await;
    }
    for (number, peer) in peers.iter_mut().enumerate().rev() {
        let said = text(&peer.exactly(15).await);
        assert_eq!(said, format!("{number:2} is my number"));
    }
    for mut peer in peers {
        peer.finish().await;
        peer.expect_end().await;
    }
    until(|| handler.held() == 0).await;
}
