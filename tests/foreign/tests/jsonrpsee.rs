//! The tower service of jsonrpsee's server: a method and a subscription.

use jsonrpsee::{
    PendingSubscriptionSink, RpcModule, SubscriptionMessage,
    server::{Server, stop_channel},
};
use tower_upgrade::Sessions;
use tower_upgrade_foreign::{
    Starts, Step, Upgrader, boxed, checks, connect, drain_example, exchange,
};

#[path = "../../../src/manual/govern/jsonrpsee.rs"]
mod example;

const DIALOGUE: &[Step] = &[
    Step::Send(r#"{"jsonrpc":"2.0","method":"say_hello","id":1}"#),
    Step::Expect(r#""result":"lo""#),
    Step::Send(r#"{"jsonrpc":"2.0","method":"subscribe","id":2}"#),
    Step::Expect(r#""id":2"#),
    Step::Expect("first item"),
];

fn module(starts: Starts) -> RpcModule<Starts> {
    let mut module = RpcModule::new(starts);
    module
        .register_method("say_hello", |_params, starts, _extensions| {
            starts.add();
            "lo"
        })
        .expect("a new name");
    module
        .register_subscription(
            "subscribe",
            "item",
            "unsubscribe",
            |_params, pending: PendingSubscriptionSink, _starts, _extensions| async move {
                let sink = pending.accept().await?;
                let item = serde_json::value::to_raw_value("first item")?;
                sink.send(SubscriptionMessage::from(item)).await?;
                sink.closed().await;
                Ok(())
            },
        )
        .expect("a new name");
    module
}

fn upgrader() -> Upgrader {
    let starts = Starts::default();
    // The server does not stop: the test keeps both handles.
    let (stop, handle) = stop_channel();
    std::mem::forget(handle);
    let service = Server::builder()
        .to_service_builder()
        .build(module(starts.clone()), stop);
    Upgrader {
        service: boxed(service),
        starts,
        path: "/",
        subprotocol: None,
        dialogue: DIALOGUE,
    }
}

checks!(upgrader());

/// jsonrpsee's own server.
#[tokio::test]
async fn example_of_the_manual_is_governed() {
    let sessions = Sessions::new();
    let served = example::serve(module(Starts::default()), &sessions).await;
    let (address, _handle) = served.expect("a server");
    let mut client = connect(address, "/", None).await.expect("a WebSocket");
    exchange(&mut client, DIALOGUE).await;
    drain_example(&sessions, client).await;
}
