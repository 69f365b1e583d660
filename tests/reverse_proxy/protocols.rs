//! The offered protocols that the proxy forwards.

use crate::{
    chain::{
        assert_no_connection, fields, front, proxy, scripted, send_through, serve, upgrade_response,
    },
    support::{
        Via,
        clients::Scripted,
        h2::{Client, extended_connect},
        offer, plain, soon,
    },
};
use tower::{Layer as _, service_fn};
use tower_upgrade::{UpgradeLayer, extract::UpgradeRequest, tunnel::ReverseProxy};

#[tokio::test]
async fn backend_chooses_among_offered_protocols() {
    let (backend, front) = scripted().await;
    let (head, mut client, mut at_backend) =
        send_through(&front, &backend, &offer("Chat/2, chess, Chat/1", &[])).await;
    assert!(
        fields(&head).contains(&"upgrade: Chat/2, chess, Chat/1"),
        "{head}"
    );
    at_backend.send(upgrade_response("chat/1", &[])).await;
    // The client receives its own spelling.
    client.head().await.assert_upgraded("Chat/1");
}

#[tokio::test]
async fn only_listed_protocols_are_forwarded() {
    let backend = Scripted::start().await;
    let proxy = proxy(Via::Http1, backend.address).protocols(["chat", "go/9"]);
    let front = front(proxy).await;
    let request = offer("Chat/2, chess, go/8, Chat/1, go/9", &[]);
    let (head, ..) = send_through(&front, &backend, &request).await;
    assert!(
        fields(&head).contains(&"upgrade: Chat/2, Chat/1, go/9"),
        "{head}"
    );

    let mut client = front.connect().await;
    client.send(offer("chess, go/8", &[])).await;
    assert_eq!(client.response().await.1, "plain GET /");
    let mut client = Client::connect(front.connect().await).await;
    let request = extended_connect("chess").body(()).expect("a request");
    assert_eq!(client.ask(request).await.refused().await.0, 501);
    assert_no_connection(&backend).await;
}

#[tokio::test]
async fn named_registration_forwards_only_that_protocol() {
    let backend = Scripted::start().await;
    let proxy = proxy(Via::Http1, backend.address);
    let layer = UpgradeLayer::new()
        .protocol("chat/1", proxy.clone())
        .protocol("go", proxy);
    let front = serve(layer).await;
    for (offered, forwarded) in [("chess, Chat/1", "Chat/1"), ("go/9, chat/1", "go/9")] {
        let (head, ..) = send_through(&front, &backend, &offer(offered, &[])).await;
        let line = format!("upgrade: {forwarded}");
        assert!(fields(&head).contains(&line.as_str()), "{head}");
    }
}

#[tokio::test]
async fn offers_of_http_and_tls_are_not_forwarded() {
    let (backend, front) = scripted().await;
    for offered in [
        "h2c",
        "H2C",
        "h2c/1",
        "HTTP/2.0",
        "h2c, http",
        "TLS/1.0",
        "tls",
    ] {
        let mut client = front.connect().await;
        let lines = ["HTTP2-Settings: AAMAAABkAAQAAP__"];
        client.send(offer(offered, &lines)).await;
        let (head, body) = client.response().await;
        head.assert_no_handshake();
        assert_eq!(body, "plain GET /", "{offered}");
    }
    let mut client = Client::connect(front.connect().await).await;
    let request = extended_connect("h2c").body(()).expect("a request");
    assert_eq!(client.ask(request).await.refused().await.0, 501);
    assert_no_connection(&backend).await;
}

#[tokio::test]
async fn h2c_is_stripped_from_an_offer_with_another_protocol() {
    let (backend, front) = scripted().await;
    let request = offer("h2c, chat", &["HTTP2-Settings: AAMAAABkAAQAAP__"])
        .replace("Connection: Upgrade", "Connection: Upgrade, HTTP2-Settings");
    let (head, mut client, mut at_backend) = send_through(&front, &backend, &request).await;
    assert_eq!(
        fields(&head),
        [
            "connection: upgrade",
            "host: test",
            "upgrade: chat",
            "via: 1.1 tower-upgrade",
        ]
    );
    // A 101 to a protocol that was not forwarded is invalid.
    at_backend.send(upgrade_response("h2c", &[])).await;
    assert_eq!(client.response().await.0.status, 502);
}

/// Registration by name does not override the exclusion of h2c.
#[tokio::test]
async fn h2c_registered_by_name_is_not_forwarded() {
    let backend = Scripted::start().await;
    let proxy = proxy(Via::Http1, backend.address);
    let layer = UpgradeLayer::new()
        .protocol("h2c", proxy.clone())
        .protocol("chat", proxy);
    let front = serve(layer).await;
    let mut client = front.connect().await;
    client.send(offer("h2c", &[])).await;
    assert_eq!(client.response().await.1, "plain GET /");
    client.send(offer("h2c, chat", &[])).await;
    let (head, body) = client.response().await;
    assert_eq!(
        (head.status, body.as_str()),
        (501, "the proxy does not pass this protocol on")
    );
    assert_no_connection(&backend).await;
}

/// A route can call the handler.
#[tokio::test]
async fn axum_route_forwards_through_the_handler() {
    use tower_upgrade::ProtocolHandler as _;

    let backend = Scripted::start().await;
    let proxy = proxy(Via::Http1, backend.address);
    let route = move |mut upgrade: UpgradeRequest| {
        let proxy: ReverseProxy = proxy.clone();
        async move {
            match proxy.accept(&mut upgrade).await {
                Ok(accept) => upgrade.accept("chat", accept).await,
                Err(rejection) => upgrade.reject(rejection).await,
            }
        }
    };
    let app = axum::Router::new().route("/", axum::routing::any(route));
    let front = crate::support::Server::start(app.layer(UpgradeLayer::new())).await;
    let request = offer("chat, chess", &[]);
    let (_, mut client, mut at_backend) = send_through(&front, &backend, &request).await;
    at_backend.send(upgrade_response("chess", &[])).await;
    client.head().await.assert_upgraded("chess");
}

#[tokio::test]
#[should_panic(expected = "\"a b\" is not a protocol")]
async fn protocol_list_with_invalid_entry_panics() {
    let backend = Scripted::start().await;
    let _ = proxy(Via::Http1, backend.address).protocols(["a", "a b"]);
}

/// The proxy does not take the address of the backend from the request.
#[tokio::test]
async fn dial_without_destination_connects_nowhere() {
    use hyper_util::client::legacy::connect::HttpConnector;
    use tower_upgrade::client::Dial;

    let named = Scripted::start().await;
    let dial = Dial::new(HttpConnector::new());
    let proxy = ReverseProxy::new(dial);
    let layer = UpgradeLayer::new().any_protocol(proxy);
    let front = crate::support::Server::start(layer.layer(service_fn(plain))).await;
    let authority = named.address.to_string();
    for target in ["/".to_owned(), format!("http://{authority}/")] {
        let mut client = front.connect().await;
        let request = offer("chat", &[])
            .replace("GET /", &format!("GET {target}"))
            .replace("Host: test", &format!("Host: {authority}"));
        client.send(request).await;
        assert_eq!(soon(client.response()).await.0.status, 502);
    }
    assert_no_connection(&named).await;
}
