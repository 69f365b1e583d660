//! The server and the clients of HTTP/3.

use crate::{
    LIMIT,
    client::{BoxError, End, PATIENCE, Plan, exchange},
    rng::Rng,
    server::{Ledger, service},
    support::h3::Server,
};
use futures_util::FutureExt as _;
use http::HeaderValue;
use quinn::{Connection, Endpoint, TransportConfig, VarInt};
use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::{task::JoinSet, time::timeout};
use tower::{Layer as _, Service as _};
use tower_upgrade::{
    Sessions,
    client::{Http3, Request, UpgradeLayer},
    http3,
};

/// Small windows, so that the memory of sessions that are not read does not hide a leak.
fn transport() -> TransportConfig {
    let mut transport = http3::transport_config();
    transport
        .stream_receive_window(VarInt::from_u32(16 * 1024))
        .receive_window(VarInt::from_u32(2 * 1024 * 1024))
        .send_window(1024 * 1024);
    transport
}

/// A server, and an endpoint for all clients: each endpoint of quinn has a buffer of megabytes.
pub(crate) struct Ends {
    server: Server,
    client: Endpoint,
}

impl Ends {
    pub(crate) fn start(sessions: &Sessions, ledger: &Arc<Ledger>) -> Self {
        let service = service(sessions, ledger);
        Self {
            server: Server::start_with(http3::Builder::new(), transport(), service),
            client: Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).expect("a socket"),
        }
    }

    async fn connect(&self) -> Connection {
        let mut config = self.server.client_config();
        config.transport_config(Arc::new(transport()));
        let address = self.server.address;
        let connecting = self.client.connect_with(config, address, "localhost");
        let connecting = connecting.expect("a configuration");
        let connected = timeout(LIMIT, connecting).await;
        connected.expect("no hang").expect("a handshake")
    }
}

/// Sends `count` requests on one connection, about 16 at a time. `begun` counts them.
pub(crate) async fn clients(ends: Arc<Ends>, mut rng: Rng, count: usize, begun: Arc<AtomicUsize>) {
    let connection = ends.connect().await;
    drop(ends);
    let handshake = timeout(LIMIT, Http3::handshake(connection.clone())).await;
    let http3 = handshake.expect("settings").expect("a handshake");
    let aborts_connection = rng.one_in(3);

    let mut streams = JoinSet::new();
    for _ in 0..count {
        begun.fetch_add(1, Ordering::Relaxed);
        let plan = Plan::new(&mut rng);
        streams.spawn(session(http3.clone(), plan, rng.fork()));
        while streams.len() > 16 {
            let ended = tokio::select! {
                ended = streams.join_next() => ended,
                // Every open stream may wait for the server.
                () = tokio::time::sleep(PATIENCE) => break,
            };
            let _: Result<(), BoxError> = ended.expect("an open stream").expect("no panic");
        }
    }
    if aborts_connection {
        connection.close(0_u32.into(), b"");
    }
    drop(http3);
    while let Some(ended) = streams.join_next().await {
        let _: Result<(), BoxError> = ended.expect("no panic");
    }
    // The client closes the connection after the last session.
    timeout(LIMIT, connection.closed())
        .await
        .expect("the connection ends");
}

async fn session(http3: Http3, plan: Plan, mut rng: Rng) -> Result<(), BoxError> {
    let mut request = match plan.protocol {
        Some(protocol) => Request::get("https://test/path".parse()?).protocol(protocol),
        None => Request::connect("test:80".parse()?),
    };
    for (name, value) in &plan.fields {
        request = request.header(*name, HeaderValue::from_str(value)?);
    }
    let mut client = UpgradeLayer::new().layer(http3);
    let mut call = Box::pin(client.call(request));
    if plan.end == End::Early {
        // Send the request, and cancel it.
        let _ = (&mut call).now_or_never();
        if rng.one_in(2) {
            tokio::task::yield_now().await;
        }
        return Ok(());
    }
    let session = timeout(LIMIT, call).await.expect("a response")?;
    let mut io = session.into_io();
    // A dropped session is reset.
    Ok(exchange(&mut io, plan.end, &mut rng).await?)
}
