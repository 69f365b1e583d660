//! `ReverseProxy` in a chain: clients, nginx or HAProxy or nobody in front, and what nobody here wrote behind.

mod ends;
mod front;
mod recorder;
mod smuggling;
mod websocket;

use crate::{
    example::program,
    support::{plain, until},
    upcat::Script,
};
use axum::{
    Router,
    extract::{ConnectInfo, Request},
    serve::ListenerExt as _,
};
use front::{Front, Who};
use hyper_util::client::legacy::connect::HttpConnector;
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::{net::TcpListener, process::Command, task::JoinHandle};
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_upgrade::{
    UpgradeLayer,
    client::{self, Dial},
    tunnel::{Forwarding, ReverseProxy},
};

/// Node, with the libraries of Debian's packages. They come with no command of their own.
fn node(script: &str) -> Command {
    let mut node = program("node", "nodejs node-ws");
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/reverse/");
    node.env("NODE_PATH", "/usr/share/nodejs")
        .arg(format!("{directory}{script}"));
    node
}

async fn node_server() -> Script {
    Script::start(&mut node("server.js")).await
}

/// Where a server listens that says so with a URL.
fn address_of(server: &Script) -> SocketAddr {
    let address = server.url.strip_prefix("http://").expect("a scheme");
    address.parse().expect("an address")
}

/// Our proxy between somebody in front and a backend.
struct Chain {
    who: Who,
    front: Front,
    seen: Arc<AtomicUsize>,
    pending: Arc<AtomicUsize>,
    plain: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

impl Chain {
    /// Passes on any protocol, and CONNECT, to a backend of HTTP/1.1.
    async fn start(who: Who, backend: SocketAddr) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        let backend = format!("http://{backend}").parse().expect("a URI");
        let client = client::UpgradeLayer::new().layer(Dial::new(tcp).destination(backend));
        // Whom it is in front of it is to trust, and nobody else is.
        let forwarding = match who {
            Who::Nobody => Forwarding::Replace,
            Who::Nginx | Who::Haproxy => Forwarding::Append,
        };
        let proxy = ReverseProxy::new(client)
            .x_forwarded(forwarding)
            .peer(|extensions| Some(extensions.get::<ConnectInfo<SocketAddr>>()?.0));
        let layer = UpgradeLayer::new()
            .any_protocol(proxy.clone())
            .connect(proxy);
        Self::serve(who, layer).await
    }

    async fn serve(who: Who, layer: UpgradeLayer) -> Self {
        let (seen, plain_seen) = (Arc::default(), Arc::default());
        let pending = Arc::<AtomicUsize>::default();
        let inner = service_fn({
            let asked: Arc<AtomicUsize> = Arc::clone(&plain_seen);
            move |request: Request| {
                asked.fetch_add(1, Ordering::SeqCst);
                plain(request)
            }
        });
        let service = layer.layer(inner);
        let outer = service_fn({
            let seen: Arc<AtomicUsize> = Arc::clone(&seen);
            let pending = Arc::clone(&pending);
            move |request: Request| {
                seen.fetch_add(1, Ordering::SeqCst);
                pending.fetch_add(1, Ordering::SeqCst);
                let (service, pending) = (service.clone(), Pending(Arc::clone(&pending)));
                async move {
                    let _pending = pending;
                    service.oneshot(request).await
                }
            }
        });
        let app = Router::new().fallback_service(outer);
        let app = app.into_make_service_with_connect_info::<SocketAddr>();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("bound");
        let listener = listener.tap_io(|io| io.set_nodelay(true).expect("a socket"));
        let serving = tokio::spawn(async {
            axum::serve(listener, app).await.expect("it goes on");
        });
        Self {
            who,
            front: Front::start(who, address).await,
            seen,
            pending,
            plain: plain_seen,
            serving,
        }
    }

    /// How many requests have come to our proxy that were for nobody behind it.
    fn plain(&self) -> usize {
        self.plain.load(Ordering::SeqCst)
    }

    /// Waits until our proxy has been asked so often.
    async fn is_asked(&self, times: usize) {
        until(|| self.seen.load(Ordering::SeqCst) >= times).await;
        assert_eq!(self.seen.load(Ordering::SeqCst), times);
    }

    /// Waits until all that it was asked is decided, or nobody waits for it any more.
    async fn has_decided(&self) {
        until(|| self.pending.load(Ordering::SeqCst) == 0).await;
    }

    fn url(&self) -> String {
        format!("http://{}", self.front.address)
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// A request that is not decided.
struct Pending(Arc<AtomicUsize>);

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
