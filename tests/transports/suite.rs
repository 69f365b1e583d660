//! Guarantees for handlers over any transport.

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

/// A protocol and a tunnel: the tested layers register their handlers for both.
const ASKS: [Ask; 2] = [Ask::Protocol("test"), Ask::Tunnel("test:1")];

pub(crate) async fn suite<T: Transport>() {
    println!("over {}", T::NAME);
    echo_ends_when_peer_ends::<T>().await;
    handler_reads_early_bytes::<T>().await;
    handler_decides_by_request_head::<T>().await;
    rejection_is_a_complete_response::<T>().await;
    failed_decision_is_answered_500_or_504::<T>().await;
    declined_request_goes_to_next_handler::<T>().await;
    handler_reads_after_its_shutdown::<T>().await;
    session_ends_in_order_or_with_a_reset::<T>().await;
    handler_that_does_not_read_blocks_its_peer::<T>().await;
    slow_peer_receives_all_bytes::<T>().await;
    concurrent_sessions_do_not_mix::<T>().await;
}

/// Starts a transport with this handler for the protocol `test` and for CONNECT.
async fn start<T: Transport>(handler: impl ProtocolHandler) -> T {
    let handler = Arc::new(handler);
    let layer = UpgradeLayer::new()
        .protocol("test", Arc::clone(&handler))
        .connect(handler)
        .accept_timeout(Duration::from_millis(1));
    T::start(layer).await
}

async fn echo_ends_when_peer_ends<T: Transport>() {
    let handler = Counted::default();
    let mut transport = start::<T>(handler.clone()).await;
    for ask in ASKS {
        let answer = transport.ask(ask).await;
        assert_eq!(answer.header("added"), Some("by the handler"));
        assert_eq!(answer.header("content-length"), None);
        assert_eq!(answer.header("transfer-encoding"), None);
        let mut peer = answer.upgraded();
        for length in [1, 100, 20_000, 1] {
            peer.expect_echo(&vec![b'x'; length]).await;
        }
        peer.finish().await;
        peer.expect_end().await;
    }
    until(|| handler.held() == 0).await;
    assert_eq!((handler.accepted(), handler.started()), (2, 2));
}

async fn handler_reads_early_bytes<T: Transport>() {
    let mut transport = start::<T>(echo()).await;
    for ask in ASKS {
        let answer = transport.ask_with(ask, "nobody", "early, ").await;
        let mut peer = answer.upgraded();
        peer.send(b"late").await;
        assert_eq!(text(&peer.exactly(11).await), "early, late");
    }
}

/// Checks the request and sends a greeting with its `user` header.
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

async fn handler_decides_by_request_head<T: Transport>() {
    let mut transport = start::<T>(Greets).await;
    for ask in ASKS {
        let answer = transport.ask_with(ask, "ann", "").await;
        assert_eq!(answer.header("greets"), Some("ann"));
        let said = text(&answer.upgraded().rest().await.expect("an orderly end"));
        assert!(said.ends_with("\"ann\""), "{said}");
        assert_eq!(said.starts_with("connect"), matches!(ask, Ask::Tunnel(_)));
    }
}

struct RejectsAll;

impl ProtocolHandler for RejectsAll {
    async fn accept(&self, _request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        Err(Rejection::new(StatusCode::FORBIDDEN, "not you"))
    }
}

async fn rejection_is_a_complete_response<T: Transport>() {
    let mut transport = start::<T>(RejectsAll).await;
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

/// Panics or hangs in `accept`, as the `user` header says.
struct PanicsOrHangs;

impl ProtocolHandler for PanicsOrHangs {
    async fn accept(&self, request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        match request.headers()["user"].as_bytes() {
            b"panics" => panic!("on purpose"),
            _ => std::future::pending().await,
        }
    }
}

async fn failed_decision_is_answered_500_or_504<T: Transport>() {
    let mut transport = start::<T>(PanicsOrHangs).await;
    for ask in ASKS {
        for (user, status) in [("panics", 500), ("hangs", 504)] {
            let answer = transport.ask_with(ask, user, "").await;
            assert_eq!(answer.refused().0, status);
        }
    }
}

async fn declined_request_goes_to_next_handler<T: Transport>() {
    let declines = handler_fn(|_session| async { Ok(()) }).when(|_parts| false);
    let second = UpgradeLayer::new()
        .protocol("test", declines.clone())
        .protocol("test", RejectsAll)
        .connect(declines)
        .connect(RejectsAll);
    let mut transport = T::start(second).await;
    for ask in ASKS {
        assert_eq!(transport.ask(ask).await.refused(), (403, "not you".into()));
    }
}

async fn handler_reads_after_its_shutdown<T: Transport>() {
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
        let mut peer = transport.ask(ask).await.upgraded();
        assert_eq!(text(&peer.rest().await.expect("an end")), "over to you");
        peer.send(b"thanks.").await;
        peer.finish().await;
    }
    until(|| *heard.lock().expect("no panic") == "thanks.thanks.").await;
}

async fn session_ends_in_order_or_with_a_reset<T: Transport>() {
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
            let mut peer = transport.ask(ask).await.upgraded();
            // The handler leaves bytes unread: if the socket were just closed, the kernel would send a reset.
            peer.send(how.to_owned() + "unread").await;
            let said = peer.rest().await;
            if T::HAS_RESET && how != "r" {
                let error = said.expect_err("a reset");
                assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{how}");
            } else {
                assert_eq!(said.expect("an orderly end").len(), 100_000, "{how}");
            }
        }
    }
}

/// More bytes than all buffers on the way hold.
const MUCH: usize = 32 * 1024 * 1024;

async fn handler_that_does_not_read_blocks_its_peer<T: Transport>() {
    let resume = Arc::new(Notify::new());
    let reads_late = handler_fn({
        let resume = Arc::clone(&resume);
        move |mut session: Session| {
            let resume = Arc::clone(&resume);
            async move {
                resume.notified().await;
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
    let mut transport = start::<T>(reads_late).await;
    for ask in ASKS {
        let mut peer = transport.ask(ask).await.upgraded();
        let much = vec![b'x'; MUCH];
        let mut sent = 0;
        // Write until the peer is blocked, with turns for the server in between.
        for _ in 0..1000 {
            while let Some(wrote) =
                futures_util::FutureExt::now_or_never(peer.io.write(&much[sent..]))
            {
                sent += wrote.expect("peer can write");
                assert!(sent < MUCH, "the peer is never blocked");
            }
            tokio::task::yield_now().await;
        }
        assert_ne!(sent, 0);
        resume.notify_one();
        soon(peer.io.write_all(&much[sent..]))
            .await
            .expect("peer can write");
        // TLS may have taken the last bytes into its buffer while the socket was blocked.
        soon(peer.io.flush()).await.expect("peer can write");
        let read = peer.rest().await.expect("an orderly end");
        assert_eq!(text(&read), MUCH.to_string());
    }
}

async fn slow_peer_receives_all_bytes<T: Transport>() {
    let writes_much = handler_fn(|mut session: Session| async move {
        let much: Vec<u8> = (0..MUCH).map(|at| at as u8).collect();
        session.io_mut().write_all(&much).await?;
        Ok(())
    });
    let mut transport = start::<T>(writes_much).await;
    for ask in ASKS {
        let mut peer = transport.ask(ask).await.upgraded();
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let heard = peer.rest().await.expect("an orderly end");
        assert_eq!(heard.len(), MUCH);
        assert!(heard.iter().enumerate().all(|(at, byte)| *byte == at as u8));
    }
}

async fn concurrent_sessions_do_not_mix<T: Transport>() {
    let handler = Counted::default();
    let mut transport = start::<T>(handler.clone()).await;
    let mut peers = Vec::new();
    for _ in 0..20 {
        for ask in ASKS {
            peers.push(transport.ask(ask).await.upgraded());
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
