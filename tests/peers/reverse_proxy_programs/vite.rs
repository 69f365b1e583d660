//! Vite's development server behind the proxy: the page, its modules, and the WebSocket that announces changes.

use super::{Client, field, node, proxy};
use crate::{process::Script, support::soon};
use futures_util::StreamExt as _;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::Value;
use std::path::{Path, PathBuf};
use tower::Layer as _;
use tower_upgrade::{
    client::{Dial, UpgradeLayer},
    websocket::{WebSocket, WebSocketConfig, WebSocketRequest},
};

/// The version that `.ci/run` installs.
const VITE: &str = "vite@6.4.6";

/// A folder for the page, which is removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn create() -> Self {
        let name = format!("tower-upgrade-vite-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).expect("a directory for temporary files");
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn vite(folder: &Folder) -> Script {
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/npm");
    let package = installed.join("node_modules/vite");
    assert!(
        package.exists(),
        "Vite is not installed: `npm install --prefix target/npm --no-save {VITE}`"
    );
    Script::start(node("vite.js").arg(package).arg(&folder.0)).await
}

/// Returns the next message of the server.
async fn message(socket: &mut WebSocket) -> Value {
    let message = soon(socket.next()).await.expect("one").expect("a message");
    serde_json::from_str(message.as_text().expect("text")).expect("JSON")
}

#[tokio::test]
async fn vite_serves_a_page_and_announces_its_changes() {
    let folder = Folder::create();
    let server = vite(&folder).await;
    let proxy = proxy(&server.url, &["--x-forwarded"]).await;
    let client = Client::new(&proxy.url, false);
    let page = client.get("/").await;
    assert!(page.body().contains("/@vite/client"), "{page:?}");
    let module = client.get("/main.js").await;
    assert_eq!(field(&module, "content-type"), "text/javascript");
    assert!(module.body().contains("version = 1"), "{module:?}");

    // The page's script connects with a token that the server has inserted.
    let script = client.get("/@vite/client").await;
    let (_, token) = script
        .body()
        .split_once("wsToken = \"")
        .expect("a token in the script");
    let (token, _) = token.split_once('"').expect("a string");

    let mut sockets = Vec::new();
    for is_http2 in [false, true] {
        let dial = Dial::new(HttpConnector::new());
        let dial = if is_http2 { dial.http2_only() } else { dial };
        let url = format!("{}/?token={token}", proxy.url);
        let request = WebSocketRequest::new(url.parse().expect("a URI"))
            .config(WebSocketConfig::new().subprotocols(["vite-hmr"]))
            .header("origin", proxy.url.parse().expect("a value"));
        let connected = soon(request.connect(UpgradeLayer::new().layer(dial))).await;
        let (mut socket, _) = connected.expect("a socket");
        assert_eq!(socket.subprotocol(), Some("vite-hmr"));
        assert_eq!(message(&mut socket).await["type"], "connected");
        sockets.push(socket);
    }
    assert_eq!(client.get("/change").await.body(), "changed");
    for mut socket in sockets {
        let update = message(&mut socket).await;
        assert_eq!(update["type"], "update", "{update}");
        assert_eq!(update["updates"][0]["path"], "/main.js", "{update}");
    }
    let module = client.get("/main.js").await;
    assert!(module.body().contains("version = 2"), "{module:?}");
}
