//! # Where to put the layer
//!
//! Two places, which may be one:
//!
//! - **outermost**: an [`UpgradeLayer`](crate::UpgradeLayer) around all others, which [commits](super::commit).
//!   `UpgradeLayer::new()` does, if it has nothing to decide.
//! - **where it decides**: the layer, or the leaf, with the handlers. What is around it acts on the request before a
//!   handler is asked, and on the response before it is sent.
//!
//! So other layers go *between* the two: there they can refuse, and when they do no session starts.
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
//! let decides = UpgradeLayer::new().protocol("echo", echo).into_service();
//! let router: Router = Router::new()
//!     .route("/", get(|| async { "index" }))
//!     .route("/slow", get(std::future::pending::<()>))
//!     .route("/echo", any_service(decides));
//!
//! let app = ServiceBuilder::new()
//!     .layer(TraceLayer::new_for_http()) // sees what is sent in the end, and changes nothing
//!     .layer(UpgradeLayer::new().sessions(Sessions::builder().max(10_000).build()))
//!     .layer(CatchPanicLayer::new())
//!     .layer(TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, Duration::from_secs(5)))
//!     .layer(CorsLayer::new().allow_origin(HeaderValue::from_static("https://example.com")))
//!     .layer(CompressionLayer::new())
//!     .layer(ValidateRequestHeaderLayer::custom(check)) // 401 to who does not say who they are
//!     .service(router);
//!
//! let ask = || testing::request("echo").uri("/echo");
//! let exchange = testing::upgrade(app.clone(), ask().header("user", "ann").body(String::new())?).await?;
//! drop(exchange.expect_switched("echo"));
//! // Nobody was asked, or what was decided came to nothing:
//! let exchange = testing::upgrade(app.clone(), ask().body(String::new())?).await?;
//! assert_eq!(exchange.response().status(), StatusCode::UNAUTHORIZED);
//! let refuses_all = ask().header("user", "ann").header("accept-encoding", "identity;q=0");
//! let exchange = testing::upgrade(app.clone(), refuses_all.body(String::new())?).await?;
//! assert_eq!(exchange.response().status(), StatusCode::NOT_ACCEPTABLE);
//! assert!(!exchange.response().headers().contains_key("upgrade"));
//! // What is no upgrade is served as ever.
//! let slow = http::Request::builder().uri("/slow").header("user", "ann");
//! let exchange = testing::upgrade(app, slow.body(String::new())?).await?;
//! assert_eq!(exchange.response().status(), StatusCode::GATEWAY_TIMEOUT);
//! # Ok(())
//! # }
//! ```
//!
//! In axum the outermost is the last `.layer(..)` of the router that is served, or a layer around it.
//!
//! # Layer by layer
//!
//! *Inside* is inside of the outermost `UpgradeLayer`, and around the one that decides. *Anywhere* is where it does
//! no harm on either side.
//!
//! | layer | where | why |
//! |---|---|---|
//! | tower-http's `TimeoutLayer`, tower's `TimeoutLayer` | inside | It bounds the decision, and never the session. For handlers [`accept_timeout`](crate::UpgradeLayer::accept_timeout) does it by default; a route that decides with an extractor of the module `extract` needs this |
//! | authentication: `ValidateRequestHeaderLayer`, `AsyncRequireAuthorizationLayer` | inside | A 401 comes before a handler is asked, and what it puts into the extensions [the session has](crate::Session::extensions). After a 407 to a CONNECT the outermost layer ends the connection (RFC 9931) |
//! | `TraceLayer` | anywhere, around the one that decides | It changes nothing. A session's span follows from the span that is current when its handler is chosen. Outermost it sees the status that is sent |
//! | `CompressionLayer` | inside | It leaves a 101 alone, but since tower-http 0.7 answers 406 to `Accept-Encoding: identity;q=0` |
//! | `CorsLayer` | anywhere | It answers preflights, and else only adds fields. Browsers do not ask it about WebSocket: there [the origins](super::threats#cross-site-websocket-hijacking) are what counts |
//! | `RateLimitLayer`, `ConcurrencyLimitLayer`, `GlobalConcurrencyLimitLayer` | inside | They count handshakes: a permit is given back with the response. Sessions are limited by [`Sessions`](crate::SessionsBuilder::max) |
//! | `LoadShedLayer`, `BufferLayer` | inside, with something around that makes a response of the error | An error of the inner service starts nothing, and hyper answers nothing to it. `BufferLayer` makes of a service one that can be cloned |
//! | `CatchPanicLayer` | inside | For the services there. Panics of handlers are caught already, in decisions (500) and in sessions |
//! | `NormalizePathLayer` | around the router, and the one that decides if it looks at the path | Handlers see the path as it is where they are. A CONNECT has none, and is left alone |
//! | retries, mirrors, hedging | inside | A clone of an upgrade request that is sent twice from outside [waits for one connection](super::commit#what-it-cannot-see) |
//! | `map_response`, and whatever rewrites statuses | inside | Outside it would tell a client 403 whose session runs |
//! | what adds fields to responses | anywhere | Fields are kept. Those that frame a switch cannot be overridden inside |
//!
//! Shown over real connections in `tests/gate/` of the repository: `matrix.rs` has the layers that refuse, rewrite
//! and panic, on either side; `placement.rs` those of limits, `CorsLayer` and `NormalizePathLayer`; `nested.rs` a
//! request that is sent twice.
//!
//! # In axum
//!
//! | | what it means |
//! |---|---|
//! | `Router::layer(..)` | around all routes that were added before, and the fallback if that was set before |
//! | `Router::route_layer(..)` | around these routes only; a path that no route has is a 404, whatever was offered |
//! | `Router::route_service(path, layer.into_service())` | a leaf, for one path: everything else there is refused, with 426, or 400 over HTTP/2 |
//! | `Router::nest(prefix, router)` | a layer on the nested router sees the path without its prefix |
//! | around the router that is served: `layer.layer(router)` | everything, a CONNECT included |
//!
//! ## Methods
//!
//! An extended CONNECT is not a GET, and routers look at the method:
//!
//! | the layer is | a browser's WebSocket over HTTP/2 |
//! |---|---|
//! | around the router, or on its routes (`.layer(..)`, `.route_layer(..)`) | reaches it |
//! | a leaf at `.route_service(path, leaf)`, or under `any_service(leaf)` | reaches it |
//! | a leaf under `get_service(leaf)` | is answered with 405 |
//!
//! In the last case route CONNECT as well:
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
//! Where the router is not yours to change, make the request a GET in front of it. It is still known by
//! its `:protocol`:
//!
//! ```
//! use axum::{Router, ServiceExt as _, extract::Request, routing::get_service};
//! use http::Method;
//! use tower::{Layer as _, util::MapRequestLayer};
//! # use tower_upgrade::{UpgradeLayer, handler_fn};
//!
//! fn connect_as_get(mut request: Request) -> Request {
//!     let protocol = request.extensions().get::<hyper::ext::Protocol>();
//!     // Only what is served: to a client that asks, any other GET's 200 would be a switch.
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
//! A plain CONNECT has no path, so no route matches it. The layer that serves it goes around the whole
//! router. `Router::layer` covers the fallback only if that was set before:
//!
//! ```
//! use axum::{Router, ServiceExt, body::Body, extract::Request, response::Response, routing::get};
//! use tower::ServiceBuilder;
//! # use tower_upgrade::{UpgradeLayer, handler_fn};
//! # let proxy = handler_fn(|_session| async { Ok(()) });
//!
//! let router = Router::new().route("/", get(|| async { "index" }));
//! let app = ServiceBuilder::new()
//!     .map_response(|response: Response<_>| response.map(Body::new)) // `axum::serve` wants its own
//!     .layer(UpgradeLayer::new().connect(proxy))
//!     .service(router);
//! let make_service = ServiceExt::<Request>::into_make_service(app); // for `axum::serve`
//! ```
//!
//! All of this is shown in `tests/routers.rs` and `tests/frameworks.rs` of the repository.
