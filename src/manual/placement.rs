//! # Where to put the layer
//!
//! A stack has two positions for an [`UpgradeLayer`](crate::UpgradeLayer). One layer can fill both.
//!
//! - **The outermost layer** wraps the whole stack and [commits](super::commit): it starts a session only if the
//!   response that it returns is the upgrade response. `UpgradeLayer::new()` without handlers is enough.
//! - **The handler layer** has the protocol handlers, as a layer around a service or as a leaf service. Middleware
//!   around it sees the request before a handler does, and the response before the client does.
//!
//! Put other middleware *between* the two. If middleware there rejects an upgrade, the session does not start.
//!
//! # A stack
//!
//! ```
//! use axum::{Router, routing::{any_service, get}};
//! use http::{HeaderValue, StatusCode};
//! use std::time::Duration;
//! use tower::ServiceBuilder;
//! use tower_http::{
//!     catch_panic::CatchPanicLayer, compression::CompressionLayer, cors::CorsLayer,
//!     timeout::TimeoutLayer, trace::TraceLayer, validate_request::ValidateRequestHeaderLayer,
//! };
//! use tower_upgrade::{Session, Sessions, UpgradeLayer, copy, handler_fn, testing};
//!
//! # fn check<B>(request: &mut http::Request<B>) -> Result<(), http::Response<axum::body::Body>> {
//! #     let is_known = request.headers().contains_key("user");
//! #     let mut response = http::Response::new(axum::body::Body::empty());
//! #     *response.status_mut() = StatusCode::UNAUTHORIZED;
//! #     is_known.then_some(()).ok_or(response)
//! # }
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), tower_upgrade::BoxError> {
//! let echo = handler_fn(|session: Session| async move {
//!     let (mut reader, mut writer) = tokio::io::split(session.into_io());
//!     copy(&mut reader, &mut writer).await?;
//!     Ok(())
//! });
//! let leaf = UpgradeLayer::new().protocol("echo", echo).into_service();
//! let router: Router = Router::new()
//!     .route("/", get(|| async { "index" }))
//!     .route("/slow", get(std::future::pending::<()>))
//!     .route("/echo", any_service(leaf));
//!
//! let app = ServiceBuilder::new()
//!     .layer(TraceLayer::new_for_http()) // logs the final status
//!     .layer(UpgradeLayer::new().sessions(Sessions::builder().max(10_000).build()))
//!     .layer(CatchPanicLayer::new())
//!     .layer(TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, Duration::from_secs(5)))
//!     .layer(CorsLayer::new().allow_origin(HeaderValue::from_static("https://example.com")))
//!     .layer(CompressionLayer::new())
//!     .layer(ValidateRequestHeaderLayer::custom(check)) // 401 without a `user` header
//!     .service(router);
//!
//! let echo_request = || testing::request("echo").uri("/echo");
//! let exchange =
//!     testing::upgrade(app.clone(), echo_request().header("user", "ann").body(String::new())?).await?;
//! drop(exchange.expect_upgraded("echo"));
//! // Authentication rejects the request before the handler is called.
//! let exchange = testing::upgrade(app.clone(), echo_request().body(String::new())?).await?;
//! assert_eq!(exchange.response().status(), StatusCode::UNAUTHORIZED);
//! // The handler accepts, but `CompressionLayer` replaces the 101: the session never starts.
//! let no_encoding = echo_request().header("user", "ann").header("accept-encoding", "identity;q=0");
//! let exchange = testing::upgrade(app.clone(), no_encoding.body(String::new())?).await?;
//! assert_eq!(exchange.response().status(), StatusCode::NOT_ACCEPTABLE);
//! assert!(!exchange.response().headers().contains_key("upgrade"));
//! // Ordinary requests pass through both upgrade layers.
//! let slow = http::Request::builder().uri("/slow").header("user", "ann");
//! let exchange = testing::upgrade(app, slow.body(String::new())?).await?;
//! assert_eq!(exchange.response().status(), StatusCode::GATEWAY_TIMEOUT);
//! # Ok(())
//! # }
//! ```
//!
//! In axum, the last `.layer(..)` call on the served router adds the outermost layer. A layer around the router is
//! further out still.
//!
//! # Layer by layer
//!
//! In the table, *inside* means between the outermost layer and the handler layer. *Anywhere* means that the middleware
//! is harmless outside the outermost layer too.
//!
//! | middleware | where | why |
//! |---|---|---|
//! | tower-http's `TimeoutLayer`, tower's `TimeoutLayer` | inside | Limits the time until the response, not the session. Handlers already have [`accept_timeout`](crate::UpgradeLayer::accept_timeout); a route that uses an extractor of the module `extract` needs this layer |
//! | `ValidateRequestHeaderLayer`, `AsyncRequireAuthorizationLayer`, other authentication | inside | Answers 401 before the handler is called. The [session keeps the extensions](crate::Session::extensions) that the layer adds to the request. If the layer answers an HTTP/1 CONNECT with 407, the outermost layer closes the connection (RFC 9931) |
//! | `TraceLayer` | anywhere around the handler layer | Does not change the response. The session's span follows from the span that is current when the handler is chosen. Around the outermost layer, `TraceLayer` logs the final status |
//! | `CompressionLayer` | inside | Does not change a 101, but in tower-http 0.7 answers `Accept-Encoding: identity;q=0` with 406 |
//! | `CorsLayer` | anywhere | Answers preflight requests and otherwise only adds headers. Browsers do not apply CORS to WebSocket: use [the origin check](super::threats#cross-site-websocket-hijacking) |
//! | `RateLimitLayer`, `ConcurrencyLimitLayer`, `GlobalConcurrencyLimitLayer` | inside | Limit handshakes, because they release their permit with the response. [`Sessions`](crate::SessionsBuilder::max) limits sessions |
//! | `LoadShedLayer`, `BufferLayer` | inside, with a layer around them that turns their error into a response | No session starts when the inner service returns an error, and hyper drops the connection without a response. `BufferLayer` makes a service cloneable |
//! | `CatchPanicLayer` | inside | Catches panics of the other services inside. The `UpgradeLayer` already catches panics of handlers: in `accept` (500) and in sessions |
//! | `NormalizePathLayer` | around the router, and around the handler layer if a handler reads the path | A handler sees the path as rewritten by the middleware around its layer. A CONNECT has no path and passes unchanged |
//! | retries, mirroring, hedging | inside | Two copies of an upgrade request sent from outside [compete for one connection](super::commit#limits) |
//! | `map_response` and other middleware that rewrites the status | inside | Outside, it can send the client a 403 while the session runs |
//! | middleware that adds response headers | anywhere | Added headers are kept, except that middleware inside cannot override the headers of the handshake |
//!
//! Tests over real connections are in `tests/gate/` of the repository: `matrix.rs` covers middleware that rejects,
//! rewrites or panics, inside and outside; `placement.rs` covers the limiting layers, `CorsLayer` and
//! `NormalizePathLayer`; `nested.rs` covers a request that is sent twice.
//!
//! # In axum
//!
//! | position of the layer | requests it sees |
//! |---|---|
//! | `Router::layer(layer)` | all routes added before, and the fallback if it was set before |
//! | `Router::route_layer(layer)` | only these routes; an unmatched path gets 404, also for an upgrade request |
//! | `Router::route_service(path, layer.into_service())` | one path, as a leaf that rejects every request without a handler: 426, or 400 over HTTP/2 |
//! | `Router::nest(prefix, router)`, with the layer on the nested router | paths under the prefix, with the prefix removed |
//! | `layer.layer(router)` | every request, including CONNECT |
//!
//! ## Methods
//!
//! A WebSocket over HTTP/2 is an extended CONNECT rather than a GET, so the router's method filter matters:
//!
//! | position of the layer | a WebSocket over HTTP/2 |
//! |---|---|
//! | around the router, or on its routes (`.layer(..)`, `.route_layer(..)`) | reaches the layer |
//! | a leaf at `.route_service(path, leaf)`, or in `any_service(leaf)` | reaches the layer |
//! | a leaf in `get_service(leaf)` | gets 405 |
//!
//! In the last case, route CONNECT to the leaf as well:
//!
//! ```
//! use axum::{Router, routing::{MethodFilter, on_service}};
//! # use tower_upgrade::{UpgradeLayer, handler_fn};
//! # let chat = handler_fn(|_session| async { Ok(()) });
//!
//! let leaf = UpgradeLayer::new().protocol("chat", chat).into_service();
//! let methods = MethodFilter::GET.or(MethodFilter::CONNECT);
//! let app: Router = Router::new().route("/chat", on_service(methods, leaf));
//! ```
//!
//! If you cannot change the router, rewrite the method to GET in front of it. The layer still recognizes the request
//! by its `:protocol`:
//!
//! ```
//! use axum::{Router, ServiceExt as _, extract::Request, routing::get_service};
//! use http::Method;
//! use tower::{Layer as _, util::MapRequestLayer};
//! # use tower_upgrade::{UpgradeLayer, handler_fn};
//!
//! fn connect_as_get(mut request: Request) -> Request {
//!     let protocol = request.extensions().get::<hyper::ext::Protocol>();
//!     // Only for served protocols: the client would treat a 200 from any other GET route as an upgrade response.
//!     if protocol.is_some_and(|protocol| protocol.as_str() == "chat") {
//!         *request.method_mut() = Method::GET;
//!     }
//!     request
//! }
//!
//! # let chat = handler_fn(|_session| async { Ok(()) });
//! # let leaf = UpgradeLayer::new().protocol("chat", chat).into_service();
//! let router = Router::new().route("/chat", get_service(leaf));
//! let app = MapRequestLayer::new(connect_as_get).layer(router);
//! let make_service = app.into_make_service(); // for `axum::serve`
//! ```
//!
//! ## CONNECT
//!
//! A plain CONNECT has no path and matches no route, so put the layer that serves it around the whole router.
//! (`Router::layer` wraps the fallback only if the fallback was set before.)
//!
//! ```
//! use axum::{Router, ServiceExt, body::Body, extract::Request, response::Response, routing::get};
//! use tower::ServiceBuilder;
//! # use tower_upgrade::{UpgradeLayer, handler_fn};
//! # let proxy = handler_fn(|_session| async { Ok(()) });
//!
//! let router = Router::new().route("/", get(|| async { "index" }));
//! let app = ServiceBuilder::new()
//!     .map_response(|response: Response<_>| response.map(Body::new)) // `axum::serve` needs axum's body type
//!     .layer(UpgradeLayer::new().connect(proxy))
//!     .service(router);
//! let make_service = ServiceExt::<Request>::into_make_service(app); // for `axum::serve`
//! ```
//!
//! The tests for this section are `tests/routers.rs` and `tests/frameworks.rs` in the repository.
