//! The service: it wires what is decided elsewhere.

use crate::{
    BoxError, Rejection, RequestBody, ResponseBody, ResponseFuture, Unsupported, UpgradeKind,
    UpgradeRequest,
    commit::{self, Gate, Outermost},
    decision,
    layer::Config,
    negotiate::{Choice, choose, http1},
    rejection::TEXT,
};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version, header};
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
/// It runs on tokio.
///
/// # Panics
///
/// Its future panics if an upgrade request is accepted outside of a tokio runtime, or in one without
/// the time driver.
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
        let is_upgrade = http1::is_upgrade(request.method(), request.version(), request.headers())
            && commit::is_available(request.extensions());
        if !is_upgrade {
            return ResponseFuture::inner(self.inner.call(request), None);
        }

        let (mut parts, body) = request.into_parts();
        let settings = self.config.settings;
        let (gate, outermost) = match Gate::find(&parts.extensions) {
            Some(outer) => (outer.clone().with_settings(settings), None),
            None => {
                let outermost = Outermost::new(settings);
                (outermost.gate().clone(), Some(outermost))
            }
        };

        let protocols = &self.config.protocols;
        // A handler's predicate is asked, and it may panic.
        let choice = panic::catch_unwind(AssertUnwindSafe(|| {
            choose(
                || http1::offered(&parts.headers),
                protocols.iter().map(|(protocol, _)| protocol),
                self.config.preference,
                |index| protocols[index].1.wants(&parts),
            )
        }));
        let rejection = match choice {
            Ok(Choice::Chosen { index, member }) => {
                let (protocol, handler) = &protocols[index];
                let protocol = protocol.as_offered(member);
                let handler = Arc::clone(handler);
                gate.hold(&mut parts.extensions);
                let request = UpgradeRequest {
                    parts,
                    kind: UpgradeKind::Upgrade,
                    protocol,
                    body: RequestBody::new(body, gate.settings().body_timeout()),
                };
                return ResponseFuture::decision(handler.decide(request, gate), outermost);
            }
            Ok(Choice::Unsupported) if self.config.refuses_unsupported() => {
                self.config.upgrade_required()
            }
            Ok(Choice::Declined | Choice::Unsupported) => {
                if let Some(outermost) = &outermost {
                    parts.extensions.insert(outermost.gate().clone());
                }
                let request = Request::from_parts(parts, body);
                return ResponseFuture::inner(self.inner.call(request), outermost);
            }
            Err(panic) => decision::panicked(&*panic),
        };
        gate.hold(&mut parts.extensions);
        let body = RequestBody::new(body, gate.settings().body_timeout());
        let refusal = async move { decision::refuse(rejection, &parts, body, &gate).await };
        ResponseFuture::decision(Box::pin(refusal), outermost)
    }
}

impl Config {
    /// What is supported, in the server's order, as the fields of a 426.
    fn supported(&self) -> HeaderMap {
        let mut list: Vec<&str> = Vec::new();
        for (protocol, _) in &self.protocols {
            if !list.contains(&protocol.as_str()) {
                list.push(protocol.as_str());
            }
        }
        let list = HeaderValue::from_str(&list.join(", "))
            .expect("tokens, slashes, commas and spaces are a field value");
        HeaderMap::from_iter([
            (header::CONNECTION, HeaderValue::from_static("upgrade")),
            (header::UPGRADE, list),
        ])
    }

    /// A layer that supports nothing leaves the answer to the layers inside.
    fn refuses_unsupported(&self) -> bool {
        self.unsupported == Unsupported::Refuse && !self.protocols.is_empty()
    }

    fn upgrade_required(&self) -> Rejection {
        let mut rejection = Rejection::new(
            StatusCode::UPGRADE_REQUIRED,
            "none of the offered protocols is supported",
        );
        for (name, value) in &self.supported() {
            rejection = rejection.header(name, value.clone());
        }
        rejection
    }
}

/// The inner service of [`UpgradeLayer::into_service`](crate::UpgradeLayer::into_service): it
/// refuses what is not an upgrade request.
///
/// The response is 426 with a list of what is supported (RFC 9110 §15.5.22). On HTTP/2 and later,
/// which have no `Upgrade`, it is 400.
#[derive(Clone, Debug)]
pub struct UpgradeRequired {
    headers: Arc<HeaderMap>,
}

impl UpgradeRequired {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            headers: Arc::new(config.supported()),
        }
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
        if request.version() > Version::HTTP_11 {
            *response.status_mut() = StatusCode::BAD_REQUEST;
        } else {
            *response.status_mut() = StatusCode::UPGRADE_REQUIRED;
            response.headers_mut().clone_from(&self.headers);
        }
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static(TEXT));
        ready(Ok(response))
    }
}
