//! The routes that require the administrator's password: the page, its API, and the metrics.

use crate::chat::{Chat, User};
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
use tower_upgrade::Identity;

/// Time for a session to end after its stop signal.
const GRACE: Duration = Duration::from_secs(5);

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
        .route("/admin/sessions/{id}", delete(close))
        .route("/admin/drain", post(drain))
        .route("/metrics", get(scrape))
        .with_state(admin.clone())
        // Browsers also send the password with requests from pages of other sites.
        .route_layer(middleware::from_fn_with_state(admin, refuse_cross_site))
        .route_layer(ValidateRequestHeaderLayer::custom(Basic::new(password)))
}

async fn list(State(admin): State<Admin>) -> Json<Value> {
    let sessions = admin.chat.sessions.list();
    let sessions = sessions.iter().map(|session| {
        json!({
            "id": session.id().get(),
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
    Json(json!({
        "sessions": sessions.collect::<Value>(),
        "open": admin.chat.sessions.len(),
        "draining": admin.chat.sessions.is_draining(),
    }))
}

fn http_version(user: &User) -> &'static str {
    match user.version {
        Version::HTTP_3 => "HTTP/3",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    }
}

async fn close(State(admin): State<Admin>, Path(id): Path<u64>) -> StatusCode {
    match admin.chat.sessions.close(id.into(), GRACE) {
        true => StatusCode::NO_CONTENT,
        false => StatusCode::NOT_FOUND,
    }
}

/// Ends all sessions and refuses new ones. The server runs until it gets a signal.
async fn drain(State(admin): State<Admin>) -> StatusCode {
    // The drain continues without this future. The page polls its progress.
    drop(admin.chat.sessions.drain(GRACE));
    StatusCode::ACCEPTED
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
