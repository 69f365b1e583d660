//! The subscriptions of async-graphql-axum.

use async_graphql::{EmptyMutation, Object, Schema, Subscription};
use async_graphql_axum::GraphQLSubscription;
use axum::Router;
use futures_util::{Stream, StreamExt as _, stream};
use tower_upgrade::Sessions;
use tower_upgrade_foreign::{
    Server, Starts, Step, Upgrader, boxed, checks, drain_example, exchange,
};

#[path = "../../../src/manual/govern/async_graphql.rs"]
mod example;

const SUBPROTOCOL: Option<&str> = Some("graphql-transport-ws");

const DIALOGUE: &[Step] = &[
    Step::Send(r#"{"type":"connection_init"}"#),
    Step::Expect("connection_ack"),
    Step::Send(r#"{"type":"subscribe","id":"1","payload":{"query":"subscription { numbers }"}}"#),
    Step::Expect(r#""numbers":42"#),
];

struct Query;

#[Object]
impl Query {
    async fn one(&self) -> i32 {
        1
    }
}

struct Subscriptions(Starts);

#[Subscription]
impl Subscriptions {
    /// Sends one number, and does not end.
    async fn numbers(&self) -> impl Stream<Item = i32> {
        self.0.add();
        stream::iter([42]).chain(stream::pending())
    }
}

fn upgrader() -> Upgrader {
    let starts = Starts::default();
    let schema = Schema::new(Query, EmptyMutation, Subscriptions(starts.clone()));
    let router = Router::new().route_service("/ws", GraphQLSubscription::new(schema));
    Upgrader {
        service: boxed(router),
        starts,
        path: "/ws",
        subprotocol: SUBPROTOCOL,
        dialogue: DIALOGUE,
    }
}

checks!(upgrader());

#[tokio::test]
async fn example_of_the_manual_is_governed() {
    let schema = Schema::new(Query, EmptyMutation, Subscriptions(Starts::default()));
    let sessions = Sessions::new();
    let server = Server::start(example::app(schema, &sessions)).await;
    let client = server.connect("/ws", SUBPROTOCOL).await;
    let mut client = client.expect("a WebSocket");
    exchange(&mut client, DIALOGUE).await;
    drain_example(&sessions, client).await;
}
