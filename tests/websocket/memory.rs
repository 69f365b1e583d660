//! Memory of messages: a busy session allocates no buffer of a message's size per message, and an idle session holds
//! none.

use crate::{
    echo, handler,
    support::{
        self,
        websocket::{BINARY, Frame, PING, PONG, TEXT},
    },
};
use allocation_counter::AllocationInfo;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use std::{
    convert::Infallible,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
};
use tokio::runtime::Builder;
use tower::{Layer as _, Service, service_fn};
use tower_upgrade::{
    BoxError, ProtocolHandler, Session, UpgradeLayer,
    websocket::{Broadcast, Message, Subscription, WebSocket, WebSocketUpgrade, websocket},
};

const LARGE: usize = 64 * 1024;

/// The heap limit of an idle session, in bytes, without optimization.
const IDLE: i64 = 2300;

struct Client(TcpStream);

impl Client {
    fn open(server: SocketAddr) -> Self {
        Self::open_with(server, &[])
    }

    fn open_with(server: SocketAddr, lines: &[&str]) -> Self {
        let mut client = TcpStream::connect(server).expect("loopback");
        let handshake = [
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        ];
        let lines = [&handshake[..], lines].concat();
        // Not `/`, for which a URI allocates nothing.
        let request = support::offer("websocket", &lines).replacen("GET / ", "GET /chat ", 1);
        client.write_all(request.as_bytes()).expect("a socket");
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            client.read_exact(&mut byte).expect("an upgrade response");
            answer.extend(byte);
        }
        Self(client)
    }

    fn send(&mut self, frame: &Frame) {
        self.0.write_all(&frame.masked()).expect("a socket");
    }

    fn expect(&mut self, frame: &Frame) {
        let expected = frame.unmasked();
        let mut read = vec![0; expected.len()];
        self.0.read_exact(&mut read).expect("an answer");
        assert!(read == expected, "another frame");
    }

    fn echo(&mut self, size: usize) {
        let frame = Frame::new(BINARY, vec![7; size]);
        self.send(&frame);
        self.expect(&frame);
    }
}

/// Measures the allocations of a server with one thread while its clients work, after a first run to fill the pools.
fn measure<F>(
    handler: WebSocketUpgrade<F>,
    sessions: usize,
    work: impl FnMut(&mut Vec<Client>) + Send + 'static,
) -> AllocationInfo
where
    WebSocketUpgrade<F>: ProtocolHandler,
{
    let layer = UpgradeLayer::new().protocol("websocket", handler);
    measure_service(layer.layer(service_fn(support::plain)), sessions, work)
}

fn measure_service<S, B>(
    service: S,
    sessions: usize,
    mut work: impl FnMut(&mut Vec<Client>) + Send + 'static,
) -> AllocationInfo
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = listener.local_addr().expect("bound");
    listener.set_nonblocking(true).expect("a socket");
    let is_warm = Arc::new(AtomicBool::new(false));
    let (go, may_go) = mpsc::channel();
    let clients = std::thread::spawn({
        let is_warm = Arc::clone(&is_warm);
        move || {
            let open = |_| Client::open(address);
            let mut clients: Vec<_> = (0..sessions).map(open).collect();
            work(&mut clients);
            is_warm.store(true, Ordering::Release);
            may_go.recv().expect("the server");
            work(&mut clients);
            clients
        }
    });
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
        tokio::spawn(async move {
            loop {
                let (io, _) = listener.accept().await.expect("a client");
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(io), TowerToHyperService::new(service.clone()));
                tokio::spawn(connection.with_upgrades());
            }
        });
        while !is_warm.load(Ordering::Acquire) && !clients.is_finished() {
            tokio::task::yield_now().await;
        }
    });
    let _ = go.send(());
    let info = allocation_counter::measure(|| {
        runtime.block_on(async {
            while !clients.is_finished() {
                tokio::task::yield_now().await;
            }
        });
    });
    drop(clients.join().expect("no panic"));
    info
}

/// The number of allocated bytes per message from which a buffer of the message's size was allocated.
const LITTLE: u64 = 1024;

#[test]
fn large_messages_by_turns_allocate_nothing_large() {
    let info = measure(handler(echo), 1, |clients| {
        for _ in 0..100 {
            clients[0].echo(LARGE);
        }
    });
    assert!(info.bytes_total < 100 * LITTLE, "{info:?}");
}

#[test]
fn large_messages_in_many_sessions_allocate_nothing_large() {
    let info = measure(handler(echo), 50, |clients| {
        for client in clients {
            client.echo(LARGE);
            client.echo(100);
        }
    });
    assert!(info.bytes_total < 100 * LITTLE, "{info:?}");
}

#[test]
fn large_messages_in_a_row_allocate_nothing_large() {
    let handler = handler(|mut socket: WebSocket| async move {
        while let Some(message) = socket.recv().await {
            if message?.as_text().is_some() {
                socket.send("all").await?;
            }
        }
        Ok(())
    });
    let info = measure(handler, 1, |clients| {
        let frame = Frame::new(BINARY, [7; LARGE]);
        for _ in 0..100 {
            clients[0].send(&frame);
        }
        clients[0].send(&Frame::new(TEXT, "was it all?"));
        clients[0].expect(&Frame::new(TEXT, "all"));
    });
    assert!(info.bytes_total < 100 * LITTLE, "{info:?}");
}

#[test]
fn large_messages_that_are_only_sent_allocate_nothing_large() {
    let handler = handler(|mut socket: WebSocket| async move {
        let large = bytes::Bytes::from(vec![7; LARGE]);
        while let Some(message) = socket.recv().await {
            message?;
            for _ in 0..100 {
                socket.send(large.clone()).await?;
            }
        }
        Ok(())
    });
    let info = measure(handler, 1, |clients| {
        let frame = Frame::new(BINARY, [7; LARGE]);
        clients[0].send(&Frame::new(TEXT, "some, please"));
        for _ in 0..100 {
            clients[0].expect(&frame);
        }
    });
    assert!(info.bytes_total < 100 * LITTLE, "{info:?}");
}

/// The thread's pools hold the rest: 1 MiB of read buffers, and fewer write buffers.
#[test]
fn sessions_that_wait_hold_nothing_large() {
    let mut size = 100;
    let info = measure(handler(echo), 100, move |clients| {
        for client in clients {
            client.echo(size);
        }
        size = LARGE;
    });
    assert!(info.bytes_current < 25 * LARGE as i64, "{info:?}");
}

/// Opens sessions that have had one message each.
fn idle(per_measure: usize) -> impl FnMut(&mut Vec<Client>) + Send + 'static {
    let mut more = 1;
    move |clients| {
        let server = clients[0].0.peer_addr().expect("a socket");
        for _ in 0..more {
            let mut client = Client::open(server);
            client.echo(64);
            clients.push(client);
        }
        more = per_measure;
    }
}

#[test]
fn idle_session_stays_below_its_memory_limit() {
    let info = measure(handler(echo), 1, idle(100));
    assert!(info.bytes_current > 0, "the counter counts");
    assert!(info.bytes_current <= 100 * IDLE, "{info:?}");
}

/// The limit of memory for a frame of which only the header and a byte have arrived.
const STARTED: i64 = 8 * 1024;

#[test]
fn header_of_a_frame_allocates_no_payload() {
    for length in [LARGE, 1 << 20] {
        let mut more = 1;
        let info = measure(handler(echo), 1, move |clients| {
            let server = clients[0].0.peer_addr().expect("a socket");
            let frame = Frame::new(BINARY, vec![7; length]).masked();
            for _ in 0..more {
                let mut client = Client::open(server);
                client.echo(64);
                // The header of a long frame has 14 bytes.
                client.0.write_all(&frame[..15]).expect("a socket");
                clients.push(client);
            }
            more = 100;
            // The server has read the other bytes before these.
            clients[0].echo(64);
        });
        assert!(info.bytes_current > 0, "the counter counts");
        assert!(info.bytes_current <= 100 * STARTED, "{info:?}");
    }
}

/// The heap limit of an idle session whose handler also holds the [`Session`].
const IDLE_WITH_SESSION: i64 = 3200;

async fn echo_with_session(socket: WebSocket, _session: Session) -> Result<(), BoxError> {
    echo(socket).await
}

#[test]
fn session_kept_under_axum_router_does_not_hold_request_head() {
    let handler = websocket(echo_with_session);
    let router = axum::Router::new()
        .route("/chat", axum::routing::get(|| async {}))
        .layer(UpgradeLayer::new().protocol("websocket", handler));
    let info = measure_service(router, 1, idle(100));
    assert!(info.bytes_current > 0, "the counter counts");
    assert!(info.bytes_current <= 100 * IDLE_WITH_SESSION, "{info:?}");
}

#[cfg(feature = "axum")]
#[test]
fn extractor_session_does_not_hold_request_head() {
    use tower_upgrade::extract::WebSocketUpgrade;
    let route = |upgrade: WebSocketUpgrade| async { upgrade.on_session(echo_with_session) };
    let router = axum::Router::new()
        .route("/chat", axum::routing::any(route))
        .layer(UpgradeLayer::new());
    let info = measure_service(router, 1, idle(100));
    assert!(info.bytes_current > 0, "the counter counts");
    assert!(info.bytes_current <= 100 * IDLE_WITH_SESSION, "{info:?}");
}

#[test]
fn kept_short_message_releases_the_buffer_of_a_long_one() {
    let handler = handler(|mut socket: WebSocket| async move {
        let mut kept = Vec::new();
        while let Some(message) = socket.recv().await {
            let message = message?;
            if let Message::Text(text) = &message {
                kept.push(text.clone());
            }
            socket.send(message).await?;
        }
        Ok(())
    });
    let info = measure(handler, 1, |clients| {
        let short = Frame::new(TEXT, "keep this");
        for _ in 0..100 {
            clients[0].echo(LARGE);
            clients[0].send(&short);
            clients[0].expect(&short);
        }
    });
    assert!(info.bytes_current < 100 * 256, "{info:?}");
    assert!(info.bytes_total < 200 * LITTLE, "{info:?}");
}

/// Opens sessions that have had one compressed message of 64 KiB each.
#[cfg(feature = "deflate")]
fn idle_compressed(per_measure: usize) -> impl FnMut(&mut Vec<Client>) + Send + 'static {
    use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
    let mut more = 1;
    move |clients| {
        let server = clients[0].0.peer_addr().expect("a socket");
        let message: Vec<_> = (0..LARGE).map(|at| (at % 251) as u8).collect();
        let mut payload = Vec::with_capacity(LARGE);
        let mut compress = Compress::new(Compression::fast(), false);
        let compressed = compress.compress_vec(&message, &mut payload, FlushCompress::Sync);
        compressed.expect("space");
        payload.truncate(payload.len() - 4);
        let frame = Frame::part(0xc0 | BINARY, payload);
        for _ in 0..more {
            let offer = "Sec-WebSocket-Extensions: permessage-deflate";
            let mut client = Client::open_with(server, &[offer]);
            client.send(&frame);
            let mut head = [0; 4];
            client.0.read_exact(&mut head).expect("an echo");
            assert_eq!(head[..2], [0xc0 | BINARY, 126]);
            let mut echo = vec![0; usize::from(u16::from_be_bytes([head[2], head[3]]))];
            client.0.read_exact(&mut echo).expect("an echo");
            let mut inflated = Vec::with_capacity(LARGE + 1);
            let flush = FlushDecompress::Sync;
            let decompressed = Decompress::new(false).decompress_vec(&echo, &mut inflated, flush);
            decompressed.expect("a valid stream");
            assert!(inflated == message);
            clients.push(client);
        }
        more = per_measure;
    }
}

#[cfg(feature = "deflate")]
#[test]
fn w7_idle_session_holds_no_compressor() {
    use tower_upgrade::websocket::{Deflate, WebSocketConfig};
    let measure = |deflate, per_measure| {
        let handler = handler(echo).config(WebSocketConfig::new().deflate(deflate));
        let info = measure(handler, 1, idle_compressed(per_measure));
        assert!(info.bytes_current > 0, "the counter counts");
        info.bytes_current / per_measure as i64
    };
    // With up to 2 KiB of write buffer.
    let limit = 4096;
    let held = measure(Deflate::new(), 100);
    assert!(held <= limit, "{held}");
    // The two windows have 32 KiB each.
    let held = measure(Deflate::new().context_takeover(usize::MAX), 20);
    let windows = 64 * 1024;
    assert!((windows..windows + limit).contains(&held), "{held}");
    let small = Deflate::new().context_takeover(usize::MAX).window_bits(10);
    let held = measure(small, 20);
    assert!(held < limit + 1024, "{held}");
}

/// Sends messages to all sessions with a subscription.
async fn chat(
    mut socket: WebSocket,
    room: Broadcast<u8>,
    is_listener: bool,
) -> Result<(), BoxError> {
    let _subscription = is_listener.then(|| room.subscribe(1, &socket));
    while let Some(message) = socket.recv().await {
        if let message @ Message::Binary(_) = message? {
            room.send(&1, message)?;
        }
    }
    Ok(())
}

/// The heap limit of a subscription of an idle session.
const SUBSCRIPTION: usize = 200;

#[test]
fn idle_subscription_stays_below_its_memory_limit() {
    let [without, with] = [false, true].map(|is_listener| {
        let room = Broadcast::new(64);
        let chat = handler(move |socket| chat(socket, room.clone(), is_listener));
        let info = measure(chat, 1, idle_after_broadcast(100, is_listener));
        info.bytes_current
    });
    // The futures of both handlers have room for a subscription.
    let more = with - without + 100 * size_of::<Subscription>() as i64;
    assert!(with > without, "the counter counts: {with}, {without}");
    assert!(more <= 100 * SUBSCRIPTION as i64, "{more}");
}

/// Opens sessions that have each had one ping, and then one message if they are listeners.
fn idle_after_broadcast(
    per_measure: usize,
    are_listeners: bool,
) -> impl FnMut(&mut Vec<Client>) + Send + 'static {
    let mut more = 1;
    move |clients| {
        let server = clients[0].0.peer_addr().expect("a socket");
        for _ in 0..more {
            let mut client = Client::open(server);
            client.send(&Frame::new(PING, ""));
            client.expect(&Frame::new(PONG, ""));
            clients.push(client);
        }
        more = per_measure;
        let frame = Frame::new(BINARY, vec![7; 64]);
        clients[0].send(&frame);
        if are_listeners {
            for client in clients {
                client.expect(&frame);
            }
        }
    }
}

/// All listeners are blocked in the middle of the message at the same time.
#[test]
fn long_broadcast_is_not_copied_for_each_listener() {
    const LISTENERS: usize = 10;
    // Longer than the buffers of a connection.
    const LONG: usize = 16 * 1024 * 1024;
    let rooms = Broadcast::new(64);
    let handler = handler(move |mut socket: WebSocket| {
        let rooms = rooms.clone();
        async move {
            let _room = rooms.subscribe(1, &socket);
            while let Some(message) = socket.recv().await {
                message?;
                rooms.send(&1, vec![7; LONG])?;
            }
            Ok(())
        }
    });
    let info = measure(handler, LISTENERS, |clients| {
        clients[0].send(&Frame::new(TEXT, "send it"));
        for client in clients.iter_mut() {
            client.0.peek(&mut [0]).expect("a socket");
        }
        let frame = Frame::new(BINARY, vec![7; LONG]);
        for client in clients {
            client.expect(&frame);
        }
    });
    assert!(info.bytes_max >= LONG as u64, "the counter counts");
    assert!(info.bytes_max < 2 * LONG as u64, "{info:?}");
}

#[test]
fn broadcast_to_many_listeners_allocates_little() {
    const LISTENERS: usize = 1000;
    // The clients and the server are one process.
    rlimit::increase_nofile_limit(3 * LISTENERS as u64).expect("a limit of open files");
    let rooms = Broadcast::new(64);
    let handler = handler(move |socket| chat(socket, rooms.clone(), true));
    let info = measure(handler, LISTENERS, |clients| {
        let frame = Frame::new(BINARY, vec![7; LARGE]);
        clients[0].send(&frame);
        for client in clients {
            client.expect(&frame);
        }
    });
    assert!(info.bytes_total < LISTENERS as u64 * LITTLE, "{info:?}");
}
