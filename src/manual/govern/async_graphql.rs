use async_graphql::Executor;
use async_graphql_axum::{GraphQL, GraphQLSubscription};
use axum::Router;
use tower_upgrade::{Sessions, UpgradeLayer};

pub fn app(schema: impl Executor, sessions: &Sessions) -> Router {
    let govern = UpgradeLayer::new().sessions(sessions.clone()).govern();
    Router::new()
        .route_service("/", GraphQL::new(schema.clone()))
        .route_service("/ws", GraphQLSubscription::new(schema))
        .layer(govern)
}
