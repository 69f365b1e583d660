use jsonrpsee::server::{Methods, Server, ServerHandle};
use std::{io, net::SocketAddr};
use tower::ServiceBuilder;
use tower_upgrade::{Sessions, UpgradeLayer};

pub async fn serve(
    methods: impl Into<Methods>,
    sessions: &Sessions,
) -> io::Result<(SocketAddr, ServerHandle)> {
    let govern = UpgradeLayer::new().sessions(sessions.clone()).govern();
    let http = ServiceBuilder::new().layer(govern);
    let server = Server::builder().set_http_middleware(http);
    let server = server.build("127.0.0.1:0").await?;
    Ok((server.local_addr()?, server.start(methods)))
}
