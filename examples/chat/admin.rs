//! The routes that require the administrator's password: the page, its API, and the metrics.

use crate::{
    chat::{Chat, User},
    store::Command,
};
use axum::{
    Json, Router,
    extract::{Path, Request, State},
    http::{HeaderValue, StatusCode, Version, header, request::Parts},
    middleware::{self, Next},
    response::{Html, IntoResponse, Response},
    routing::{delete, get, post},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::{Value, json};
use std::time::Duration;
use subtle::ConstantTimeEq as _;
use tower_http::validate_request::{ValidateRequest, ValidateRequestHeaderLayer};
use tower_upgrade::{Identity, Sessions};

/// Time for a session to end after its stop signal.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

#[derive(Clone)]
struct Admin {
    chat: Chat,
    metrics: PrometheusHandle,
}

pub(crate) fn router(chat: Chat, metrics: PrometheusHandle, password: &str) -> Router {
    let admin = Admin { chat, metrics };
    Router::new()
        .route("/admin", get(Html(include_str!("admin.html"))))
        .route("/admin/sessions", get(list))
        .route("/admin/sessions/{node}/{id}", delete(close))
        .route("/admin/drain", post(drain))
        .route("/metrics", get(scrape))
        .with_state(admin.clone())
        // Browsers also send the password with requests from pages of other sites.
        .route_layer(middleware::from_fn_with_state(admin, refuse_cross_site))
        .route_layer(ValidateRequestHeaderLayer::custom(Basic::new(password)))
}

/// Returns the sessions of all nodes.
async fn list(State(admin): State<Admin>) -> Json<Value> {
    let store = &admin.chat.rooms.store;
    let mut reports = store.reports().await;
    reports.push(report(&admin.chat.sessions, store.node()));
    let lists = reports
        .iter()
        .filter_map(|report| report["sessions"].as_array());
    let is_draining = |report: &Value| report["draining"] == true;
    Json(json!({
        "sessions": lists.flatten().collect::<Vec<_>>(),
        "open": reports.iter().filter_map(|report| report["open"].as_u64()).sum::<u64>(),
        "nodes": reports.len(),
        "draining": reports.iter().all(is_draining),
    }))
}

/// Describes the sessions of this node.
pub(crate) fn report(sessions: &Sessions, node: &str) -> Value {
    let list = sessions.list();
    let list = list.iter().map(|session| {
        json!({
            "id": session.id().get(),
            "node": node,
            "who": session.identity().map(ToString::to_string),
            "protocol": session.protocol().map(ToString::to_string),
            "kind": session.kind().as_str(),
            "http": session.identity().and_then(Identity::get).map(http_version),
            "peer": session.peer(),
            "age": session.age().as_secs(),
            "read": session.bytes_read(),
            "written": session.bytes_written(),
        })
    });
    json!({
        "sessions": list.collect::<Value>(),
        "open": sessions.len(),
        "draining": sessions.is_draining(),
    })
}

fn http_version(user: &User) -> &'static str {
    match user.version {
        Version::HTTP_3 => "HTTP/3",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    }
}

async fn close(State(admin): State<Admin>, Path((node, id)): Path<(String, u64)>) -> StatusCode {
    let store = &admin.chat.rooms.store;
    if node == store.node() {
        return match admin.chat.sessions.close(id.into(), GRACE) {
            true => StatusCode::NO_CONTENT,
            false => StatusCode::NOT_FOUND,
        };
    }
    match store.send(Some(&node), Command::Close(id)).await {
        Ok(()) => StatusCode::ACCEPTED,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// Ends all sessions of all nodes and refuses new ones. The servers run until they get a signal.
async fn drain(State(admin): State<Admin>) -> StatusCode {
    let sent = admin.chat.rooms.store.send(None, Command::Drain).await;
    // The drain continues without this future. The page polls its progress.
    drop(admin.chat.sessions.drain(GRACE));
    match sent {
        Ok(()) => StatusCode::ACCEPTED,
        // Only this node is draining.
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

async fn scrape(State(admin): State<Admin>) -> String {
    admin.metrics.run_upkeep();
    admin.metrics.render()
}

async fn refuse_cross_site(
    State(admin): State<Admin>,
    parts: Parts,
    request: Request,
    next: Next,
) -> Response {
    match admin.chat.upgrade.check_origin(&parts) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.status().into_response(),
    }
}

/// Basic authentication (RFC 7617) as `admin` with a password.
#[derive(Clone)]
struct Basic {
    expected: HeaderValue,
}

impl Basic {
    fn new(password: &str) -> Self {
        let credentials = BASE64_STANDARD.encode(format!("admin:{password}"));
        let expected = HeaderValue::try_from(format!("Basic {credentials}"));
        Self {
            expected: expected.unwrap_or_else(|_| unreachable!("Base64 is ASCII")),
        }
    }

    /// Compares in constant time: otherwise the response time reveals how much of a guess is correct.
    fn matches(&self, found: &HeaderValue) -> bool {
        self.expected.as_bytes().ct_eq(found.as_bytes()).into()
    }
}

impl<B> ValidateRequest<B> for Basic {
    type ResponseBody = axum::body::Body;

    fn validate(&mut self, request: &mut http::Request<B>) -> Result<(), Response> {
        match request.headers().get(header::AUTHORIZATION) {
            Some(found) if self.matches(found) => Ok(()),
            _ => {
                let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"admin\"")];
                Err((StatusCode::UNAUTHORIZED, challenge).into_response())
            }
        }
    }
}
