//! `ReverseProxy` in a chain: other clients, nginx or HAProxy or no balancer, and other backends.

pub(crate) mod front;
mod half_close;
mod recorder;
mod smuggling;
mod websocket;

use crate::{
    process::{Script, program},
    support::{plain, until},
};
use axum::{
    Router,
    extract::{ConnectInfo, Request},
    serve::ListenerExt as _,
};
use front::{Balancer, Front};
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
    client::Dial,
    tunnel::{Forwarding, ReverseProxy},
};

/// Returns a command that runs a script of this folder with Node and the libraries of Debian's packages.
fn node(script: &str) -> Command {
    let mut node = program("node", "nodejs node-ws");
    let directory = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/peers/reverse_proxy_chains/"
    );
    node.env("NODE_PATH", "/usr/share/nodejs")
        .arg(format!("{directory}{script}"));
    node
}

async fn node_server() -> Script {
    Script::start(&mut node("server.js")).await
}

/// Returns the address in the URL of a server.
fn address_of(server: &Script) -> SocketAddr {
    let address = server.url.strip_prefix("http://").expect("a scheme");
    address.parse().expect("an address")
}

/// The proxy between a balancer and a backend.
struct Chain {
    balancer: Balancer,
    front: Front,
    requests: Arc<AtomicUsize>,
    pending: Arc<AtomicUsize>,
    plain: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

impl Chain {
    /// Starts a proxy that forwards any protocol, and CONNECT, to an HTTP/1.1 backend.
    async fn start(balancer: Balancer, backend: SocketAddr) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        let backend = format!("http://{backend}").parse().expect("a URI");
        let client = Dial::new(tcp).destination(backend);
        // Trust the fields of a balancer, but not those of clients.
        let forwarding = match balancer {
            Balancer::Direct => Forwarding::Replace,
            Balancer::Nginx | Balancer::Haproxy => Forwarding::Append,
        };
        let proxy = ReverseProxy::new(client)
            .x_forwarded(forwarding)
            .peer(|extensions| Some(extensions.get::<ConnectInfo<SocketAddr>>()?.0));
        let layer = UpgradeLayer::new()
            .any_protocol(proxy.clone())
            .connect(proxy);
        Self::serve(balancer, layer).await
    }

    async fn serve(balancer: Balancer, layer: UpgradeLayer) -> Self {
        let (requests, plain_requests) = (Arc::default(), Arc::default());
        let pending = Arc::<AtomicUsize>::default();
        let inner = service_fn({
            let plain_requests: Arc<AtomicUsize> = Arc::clone(&plain_requests);
            move |request: Request| {
                plain_requests.fetch_add(1, Ordering::SeqCst);
                plain(request)
            }
        });
        let service = layer.layer(inner);
        let outer = service_fn({
            let requests: Arc<AtomicUsize> = Arc::clone(&requests);
            let pending = Arc::clone(&pending);
            move |request: Request| {
                requests.fetch_add(1, Ordering::SeqCst);
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
            axum::serve(listener, app).await.expect("a running server");
        });
        Self {
            balancer,
            front: Front::start(balancer, address).await,
            requests,
            pending,
            plain: plain_requests,
            serving,
        }
    }

    /// Returns the number of requests that the proxy did not forward.
    fn plain(&self) -> usize {
        self.plain.load(Ordering::SeqCst)
    }

    /// Waits until the proxy has received `count` requests.
    async fn until_requests(&self, count: usize) {
        until(|| self.requests.load(Ordering::SeqCst) >= count).await;
        assert_eq!(self.requests.load(Ordering::SeqCst), count);
    }

    /// Waits until every request has its response or was cancelled.
    async fn until_idle(&self) {
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

/// A request without a response.
struct Pending(Arc<AtomicUsize>);

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
