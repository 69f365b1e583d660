//! The `Upgrade` service: connects negotiation, decision and commit.

#[cfg(feature = "testing")]
use crate::session::settings::Observer;
use crate::{
    commit::{Gate, Outermost},
    decide,
    error::BoxError,
    govern::Governed,
    handler::request::UpgradeRequest,
    layer::{
        config::{Config, Outcome},
        future::ResponseFuture,
    },
    message::{
        body::ResponseBody,
        rejection::{self, TEXT},
        request_body::RequestBody,
    },
    negotiate::{self, kind::UpgradeKind},
    panic,
    session::pending_upgrade::Handover,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body::Body;
use std::{
    convert::Infallible,
    future::{Ready, ready},
    sync::Arc,
    task::{Context, Poll},
};
use tower_service::Service;

/// Service that negotiates HTTP upgrades, created by [`UpgradeLayer`](crate::UpgradeLayer).
///
/// The service returns only errors of the inner service. A failed upgrade is a response.
///
/// The service needs a tokio runtime with the time driver. Without it, upgrade requests are rejected with 500, and a
/// `tracing` event reports the missing runtime.
#[derive(Clone, Debug)]
pub struct Upgrade<S> {
    inner: S,
    config: Arc<Config>,
}

impl<S> Upgrade<S> {
    pub(crate) fn new(inner: S, config: Arc<Config>) -> Self {
        Self { inner, config }
    }

    /// Returns a reference to the inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Returns a mutable reference to the inner service.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Consumes this service and returns the inner service.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for Upgrade<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    ReqBody: Body + Send + 'static,
    ReqBody::Error: Into<BoxError>,
{
    type Response = Response<ResponseBody<ResBody>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let Some(kind) = kind_of(&request) else {
            return ResponseFuture::inner(self.inner.call(request), None, None);
        };

        let (mut parts, mut body) = request.into_parts();
        let settings = &self.config.settings;
        let (mut gate, outermost) = match Gate::find(&parts.extensions) {
            Some(outer) => (outer.with_settings(settings), None),
            None => {
                let settings = Arc::clone(settings);
                #[cfg(feature = "testing")]
                let settings = Observer::take_in(settings, &mut parts.extensions);
                let outermost = Outermost::new(settings, kind, parts.version);
                if outermost.ends_connection() {
                    outermost.gate().hold(&mut parts);
                }
                (outermost.gate().clone(), Some(outermost))
            }
        };

        // `negotiate` calls `ProtocolHandler::matches`, which may panic.
        let rejection = match panic::catch(|| self.config.negotiate(kind, &parts)) {
            Ok(Outcome::Handler {
                handler,
                protocol,
                is_for_any,
                labels,
            }) => {
                if gate.hold(&mut parts) {
                    let request = UpgradeRequest {
                        parts,
                        kind,
                        protocol,
                        is_for_any,
                        labels,
                        body: RequestBody::new(body, gate.settings().body_timeout()),
                    };
                    return ResponseFuture::decision(handler.decide(request, gate), outermost);
                }
                rejection::not_implemented("the server does not hand over this connection")
            }
            Ok(Outcome::Refuse(rejection)) => rejection,
            Ok(Outcome::Pass) => {
                let governed = match self.config.governs {
                    true => Governed::begin(&mut gate, kind, &mut parts, &mut body),
                    false => Ok(None),
                };
                match governed {
                    Ok(governed) => {
                        // The gate carries this layer's settings to the layers inside.
                        parts.extensions.insert(gate);
                        let request = Request::from_parts(parts, body);
                        let response = self.inner.call(request);
                        return ResponseFuture::inner(response, governed, outermost);
                    }
                    Err(rejection) => rejection,
                }
            }
            Err(panic) => rejection::panicked(&*panic),
        };
        gate.hold(&mut parts);
        let body = RequestBody::new(body, gate.settings().body_timeout());
        let refusal = async move { decide::refuse(rejection, kind, &parts, body, &gate).await };
        ResponseFuture::decision(Box::pin(refusal), outermost)
    }
}

/// Returns the kind of upgrade that a request asks for, or `None` for a plain request.
///
/// An `Upgrade` counts as a plain request if the server cannot hand over the connection: a server may ignore
/// `Upgrade` (RFC 9110 §7.8). A CONNECT cannot be ignored.
fn kind_of<B>(request: &Request<B>) -> Option<UpgradeKind> {
    let extensions = request.extensions();
    let kind = negotiate::kind(
        request.method(),
        request.version(),
        request.headers(),
        extensions,
    )?;
    let is_ignored = kind == UpgradeKind::Upgrade && !Handover::is_in(extensions);
    (!is_ignored).then_some(kind)
}

/// The inner service of [`UpgradeLayer::into_service`](crate::UpgradeLayer::into_service), which rejects every
/// request that the layer passes on.
///
/// | handlers of the layer | request | status |
/// |---|---|---|
/// | any | CONNECT, extended CONNECT | 501 |
/// | for specific protocols | HTTP/1 | 426 with the list of these protocols in `Upgrade` (RFC 9110 §15.5.22) |
/// | for specific protocols | HTTP/2 and later, where `Upgrade` does not exist | 400 |
/// | only for [any protocol](crate::UpgradeLayer::any_protocol), with or without CONNECT | other | 400, because a 426 could not list any protocol |
/// | only for CONNECT | other | 405 with `Allow: CONNECT` |
#[derive(Clone, Debug)]
pub struct UpgradeRequired {
    supported: Supported,
}

#[derive(Clone, Debug)]
enum Supported {
    /// Specific protocols, with the header fields that list them in a 426.
    Protocols(Arc<HeaderMap>),
    AnyProtocol,
    /// Only CONNECT.
    Connect,
}

impl UpgradeRequired {
    pub(crate) fn new(config: &Config) -> Self {
        let supported = if !config.protocols.is_empty() {
            Supported::Protocols(Arc::new(config.supported()))
        } else if !config.any_protocol.is_empty() {
            Supported::AnyProtocol
        } else {
            Supported::Connect
        };
        Self { supported }
    }
}

impl<ReqBody> Service<Request<ReqBody>> for UpgradeRequired {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let mut response = Response::new("this resource requires a protocol upgrade".into());
        *response.status_mut() = match &self.supported {
            _ if *request.method() == Method::CONNECT => StatusCode::NOT_IMPLEMENTED,
            Supported::Protocols(headers) if request.version() <= Version::HTTP_11 => {
                response.headers_mut().clone_from(headers);
                StatusCode::UPGRADE_REQUIRED
            }
            Supported::Protocols(_) | Supported::AnyProtocol => StatusCode::BAD_REQUEST,
            Supported::Connect => {
                let allow = HeaderValue::from_static("CONNECT");
                response.headers_mut().insert(header::ALLOW, allow);
                StatusCode::METHOD_NOT_ALLOWED
            }
        };
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static(TEXT));
        ready(Ok(response))
    }
}
