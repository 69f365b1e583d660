//! The subscriptions of async-graphql-axum.

use async_graphql::{EmptyMutation, Object, Schema, Subscription};
use async_graphql_axum::GraphQLSubscription;
use axum::Router;
use futures_util::{Stream, StreamExt as _, stream};
use tower_upgrade_foreign::{Starts, Step, Upgrader, boxed, checks};

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
        subprotocol: Some("graphql-transport-ws"),
        dialogue: &[
            Step::Send(r#"{"type":"connection_init"}"#),
            Step::Expect("connection_ack"),
            Step::Send(
                r#"{"type":"subscribe","id":"1","payload":{"query":"subscription { numbers }"}}"#,
            ),
            Step::Expect(r#""numbers":42"#),
        ],
    }
}

checks!(upgrader());
