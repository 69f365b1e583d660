//! The part of an offer that the proxy passes on.

use crate::{
    chain::{assert_untouched, fields, front, proxy, scripted, seen, serve, switch_to},
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
async fn the_backend_chooses() {
    let (backend, front) = scripted().await;
    let (head, mut client, mut at_backend) =
        seen(&front, &backend, &offer("Chat/2, chess, Chat/1", &[])).await;
    assert!(
        fields(&head).contains(&"upgrade: Chat/2, chess, Chat/1"),
        "{head}"
    );
    at_backend.send(switch_to("chat/1", &[])).await;
    // As the client wrote it.
    client.head().await.assert_switched("Chat/1");
}

#[tokio::test]
async fn a_list_says_what_is_passed_on() {
    let backend = Scripted::start().await;
    let proxy = proxy(Via::Http1, backend.address).protocols(["chat", "go/9"]);
    let front = front(proxy).await;
    let request = offer("Chat/2, chess, go/8, Chat/1, go/9", &[]);
    let (head, ..) = seen(&front, &backend, &request).await;
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
    assert_untouched(&backend).await;
}

#[tokio::test]
async fn registered_by_a_name_it_is_for_that_name() {
    let backend = Scripted::start().await;
    let proxy = proxy(Via::Http1, backend.address);
    let layer = UpgradeLayer::new()
        .protocol("chat/1", proxy.clone())
        .protocol("go", proxy);
    let front = serve(layer).await;
    for (offered, passed) in [("chess, Chat/1", "Chat/1"), ("go/9, chat/1", "go/9")] {
        let (head, ..) = seen(&front, &backend, &offer(offered, &[])).await;
        let line = format!("upgrade: {passed}");
        assert!(fields(&head).contains(&line.as_str()), "{head}");
    }
}

#[tokio::test]
async fn http_is_not_passed_on() {
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
    assert_untouched(&backend).await;
}

#[tokio::test]
async fn what_is_offered_beside_http_is_passed_on() {
    let (backend, front) = scripted().await;
    let request = offer("h2c, chat", &["HTTP2-Settings: AAMAAABkAAQAAP__"])
        .replace("Connection: Upgrade", "Connection: Upgrade, HTTP2-Settings");
    let (head, mut client, mut at_backend) = seen(&front, &backend, &request).await;
    assert_eq!(
        fields(&head),
        [
            "connection: upgrade",
            "host: test",
            "upgrade: chat",
            "via: 1.1 tower-upgrade",
        ]
    );
    // A backend that is asked for no h2c switches to none.
    at_backend.send(switch_to("h2c", &[])).await;
    assert_eq!(client.response().await.0.status, 502);
}

/// Also by name: a list does not override this.
#[tokio::test]
async fn what_may_not_be_passed_on_is_refused_where_it_was_chosen() {
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
        (501, "this protocol is not passed on")
    );
    assert_untouched(&backend).await;
}

/// A handler can be asked by a route.
#[tokio::test]
async fn a_route_passes_on() {
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
    let (_, mut client, mut at_backend) = seen(&front, &backend, &request).await;
    at_backend.send(switch_to("chess", &[])).await;
    client.head().await.assert_switched("chess");
}

#[tokio::test]
#[should_panic(expected = "\"a b\" is no protocol")]
async fn a_list_is_of_protocols() {
    let backend = Scripted::start().await;
    let _ = proxy(Via::Http1, backend.address).protocols(["a", "a b"]);
}

/// The request names its authority, and not the address of the backend.
#[tokio::test]
async fn a_client_that_was_told_no_backend_goes_nowhere() {
    use hyper_util::client::legacy::connect::HttpConnector;
    use tower_upgrade::client::{Dial, UpgradeLayer as Client};

    let elsewhere = Scripted::start().await;
    let dial = Dial::new(HttpConnector::new());
    let proxy = ReverseProxy::new(Client::new().layer(dial));
    let layer = UpgradeLayer::new().any_protocol(proxy);
    let front = crate::support::Server::start(layer.layer(service_fn(plain))).await;
    let authority = elsewhere.address.to_string();
    for target in ["/".to_owned(), format!("http://{authority}/")] {
        let mut client = front.connect().await;
        let request = offer("chat", &[])
            .replace("GET /", &format!("GET {target}"))
            .replace("Host: test", &format!("Host: {authority}"));
        client.send(request).await;
        assert_eq!(soon(client.response()).await.0.status, 502);
    }
    assert_untouched(&elsewhere).await;
}
