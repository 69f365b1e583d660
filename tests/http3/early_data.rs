//! Requests in 0-RTT, which an attacker can replay (RFC 8470).

use crate::{
    raw::{CONNECT, GET, extended_connect, headers},
    support::{h3::Server, handlers::echo, plain, soon},
};
use tower::{Layer as _, service_fn};
use tower_upgrade::{UpgradeLayer, http3};

#[tokio::test]
async fn e8_connect_in_early_data_is_answered_425() {
    let layer = UpgradeLayer::new().protocol("test", echo()).connect(echo());
    let service = layer.layer(service_fn(plain));
    let server = Server::start(service.clone()).await;
    // A server that serves before the handshake is complete. `Listener` waits.
    let early = server.another_endpoint();
    tokio::spawn({
        let early = early.clone();
        async move {
            while let Some(incoming) = early.accept().await {
                let connecting = incoming.accept().expect("a connection");
                let (connection, _) = connecting.into_0rtt().unwrap_or_else(|_| panic!("0.5-RTT"));
                tokio::spawn(http3::Builder::new().serve_connection(connection, service.clone()));
            }
        }
    });
    let address = early.local_addr().expect("bound");
    let client =
        quinn::Endpoint::client("127.0.0.1:0".parse().expect("an address")).expect("a socket");
    let config = server.client_config();
    for (fields, status) in [
        (&GET[..], 200),
        (&CONNECT[..], 425),
        (&extended_connect("test")[..], 425),
    ] {
        let (connection, accepted) = loop {
            let connecting = client.connect_with(config.clone(), address, "localhost");
            let without_ticket = match connecting.expect("a configuration").into_0rtt() {
                Ok(early) => break early,
                Err(connecting) => soon(connecting).await.expect("a handshake"),
            };
            // The ticket follows the handshake, before this response.
            let control = crate::raw::send_uni(&without_ticket, &[0, 4, 0]).await;
            let client = crate::raw::Client {
                connection: without_ticket,
                control,
            };
            client.expect_alive().await;
        };
        let control = crate::raw::send_uni(&connection, &[0, 4, 0]).await;
        let client = crate::raw::Client {
            connection,
            control,
        };
        let mut stream = client.open(&headers(fields)).await;
        let _ = stream.send.finish();
        assert_eq!(stream.status().await, status, "{fields:?}");
        assert!(soon(accepted).await, "0-RTT was not accepted");
        // The same request after the handshake.
        let mut stream = client.request(fields).await;
        assert_eq!(stream.status().await, 200, "{fields:?}");
    }
}
