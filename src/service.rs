//! The service: it wires what is decided elsewhere.

#[cfg(feature = "testing")]
use crate::testing::observer::Observer;
use crate::{
    BoxError, RequestBody, ResponseBody, ResponseFuture, UpgradeKind, UpgradeRequest,
    commit::{self, Gate, Outermost},
    config::{self, Config, Outcome},
    decision, negotiate,
    rejection::TEXT,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body::Body;
use std::{
    convert::Infallible,
    future::{Ready, ready},
    panic::{self, AssertUnwindSafe},
    sync::Arc,
    task::{Context, Poll},
};
use tower_service::Service;

/// The service that [`UpgradeLayer`](crate::UpgradeLayer) makes.
///
/// Its error is the inner service's: what goes wrong with an upgrade becomes a response.
///
/// It runs on tokio, in a runtime with the time driver. Elsewhere an upgrade request is refused with 500, and
/// what is missing is reported.
#[derive(Clone, Debug)]
pub struct Upgrade<S> {
    inner: S,
    config: Arc<Config>,
}

impl<S> Upgrade<S> {
    pub(crate) fn new(inner: S, config: Arc<Config>) -> Self {
        Self { inner, config }
    }

    /// The inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The inner service.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// The inner service, without the rest.
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
            return ResponseFuture::inner(self.inner.call(request), None);
        };

        let (mut parts, body) = request.into_parts();
        let settings = &self.config.settings;
        let (gate, outermost) = match Gate::find(&parts.extensions) {
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

        // Handlers are asked, and they may panic.
        let negotiate = AssertUnwindSafe(|| self.config.negotiate(kind, &parts));
        let rejection = match panic::catch_unwind(negotiate) {
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
                config::not_implemented("the server does not hand over this connection")
            }
            Ok(Outcome::Refuse(rejection)) => rejection,
            Ok(Outcome::Pass) => {
                // With what this layer sets: it holds for those inside.
                parts.extensions.insert(gate);
                let request = Request::from_parts(parts, body);
                return ResponseFuture::inner(self.inner.call(request), outermost);
            }
            Err(panic) => decision::panicked(&*panic),
        };
        gate.hold(&mut parts);
        let body = RequestBody::new(body, gate.settings().body_timeout());
        let refusal = async move { decision::refuse(rejection, kind, &parts, body, &gate).await };
        ResponseFuture::decision(Box::pin(refusal), outermost)
    }
}

/// How a request asks to leave HTTP. An `Upgrade` whose connection the server does not hand over is
/// ignored, as it may be; a CONNECT cannot be taken for anything else.
fn kind_of<B>(request: &Request<B>) -> Option<UpgradeKind> {
    let extensions = request.extensions();
    let kind = negotiate::kind(
        request.method(),
        request.version(),
        request.headers(),
        extensions,
    )?;
    let is_ignored = kind == UpgradeKind::Upgrade && !commit::is_available(extensions);
    (!is_ignored).then_some(kind)
}

/// The inner service of [`UpgradeLayer::into_service`](crate::UpgradeLayer::into_service): it
/// refuses what is not an upgrade request.
///
/// The response is 426 with a list of what is supported (RFC 9110 §15.5.22). On HTTP/2 and later,
/// which have no `Upgrade`, it is 400; so it is where a handler for
/// [any protocol](crate::UpgradeLayer::any_protocol) leaves nothing to list. Where CONNECT is all that is
/// supported it is 405. A CONNECT that no handler wants is refused with 501.
#[derive(Clone, Debug)]
pub struct UpgradeRequired {
    supported: Supported,
}

#[derive(Clone, Debug)]
enum Supported {
    /// With what a 426 says of them.
    Protocols(Arc<HeaderMap>),
    AnyProtocol,
    /// And nothing else.
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
