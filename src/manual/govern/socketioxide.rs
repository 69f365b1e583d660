use axum::Router;
use socketioxide::{SocketIo, extract::SocketRef};
use tower_upgrade::{Sessions, UpgradeLayer};

pub fn app(sessions: &Sessions) -> Router {
    let (layer, io) = SocketIo::new_layer();
    io.ns("/", async |socket: SocketRef| {
        let _ = socket.emit("welcome", "hello");
    });
    let govern = UpgradeLayer::new().sessions(sessions.clone()).govern();
    Router::new().layer(layer).layer(govern)
}
