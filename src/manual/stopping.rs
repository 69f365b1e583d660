//! # Stopping a server
//!
//! A session outlives its request, and hyper does not track the connection of an HTTP/1.1 session. A server that only
//! shuts down its HTTP connections therefore cuts off HTTP/1.1 sessions, and waits for HTTP/2 sessions without a limit.
//! [`Sessions::drain`](crate::Sessions::drain) ends both in an orderly way and within a time limit.
//!
//! # The order
//!
//! 1. **Call `drain`.** From then on the layers reject new upgrade requests with 503 and `Retry-After`, on every HTTP
//!    version, and [`Sessions::is_draining`](crate::Sessions::is_draining) returns `true`, for a readiness probe. A load
//!    balancer can send the requests to another server.
//! 2. **Stop accepting connections**, and shut down the open ones gracefully, *while* the drain runs. Do not wait for
//!    the connections first: a connection of HTTP/2 or HTTP/3 stays open as long as its sessions. For HTTP/3 call
//!    `http3::Connection::graceful_shutdown`. The drain and the shutdown of
//!    connections can begin in either order.
//! 3. **Wait for the drain.** It takes at most its timeout and two seconds.
//! 4. **Exit.** Print or log the [`DrainReport`](crate::DrainReport).
//!
//! With axum:
//!
//! ```no_run
//! use axum::{Router, routing::get, serve::ListenerExt as _};
//! use std::time::Duration;
//! use tokio::io::AsyncWriteExt as _;
//! use tower_upgrade::{Session, Sessions, UpgradeLayer, copy, handler_fn};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), tower_upgrade::BoxError> {
//! let echo = handler_fn(|session: Session| async move {
//!     let stop = session.stop();
//!     let (mut reader, mut writer) = tokio::io::split(session.into_io());
//!     tokio::select! {
//!         copied = copy(&mut reader, &mut writer) => drop(copied?),
//!         () = stop => writer.write_all(b"the server is shutting down\n").await?,
//!     }
//!     Ok(())
//! });
//! let sessions = Sessions::builder().max(10_000).build();
//! let app = Router::new()
//!     .route("/", get(|| async { "index" }))
//!     .layer(UpgradeLayer::new().sessions(sessions.clone()).protocol("echo", echo));
//!
//! let limit = Duration::from_secs(30);
//! let stop = {
//!     let sessions = sessions.clone();
//!     async move {
//!         let _ = tokio::signal::ctrl_c().await;
//!         // The drain begins here. The server stops accepting as soon as this future is done.
//!         drop(sessions.drain(limit));
//!     }
//! };
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
//! // With `TCP_NODELAY`: otherwise each small write may wait 40 ms for an acknowledgement.
//! let listener = listener.tap_io(|tcp| drop(tcp.set_nodelay(true)));
//! axum::serve(listener, app).with_graceful_shutdown(stop).await?;
//! println!("{}", sessions.drain(limit).await);
//! # Ok(())
//! # }
//! ```
//!
//! The example `graceful` of the repository does the same with hyper-util. It also keeps accepting connections for a
//! while, so that the health checks of a load balancer have time to fail; a test restarts it behind HAProxy without
//! losing a request. [Scaling out](super::scaling) has the configuration of HAProxy and of Kubernetes.
//!
//! # Many clients
//!
//! The clients of a drained server reconnect, by default all at once. 10,000 TLS handshakes within a second can overload
//! the server that takes over. [`DrainOptions::spread`](crate::DrainOptions::spread) sends the stop
//! signals evenly over a period, to the oldest session first:
//!
//! ```
//! use std::time::Duration;
//! use tower_upgrade::{DrainOptions, DrainReport, Sessions};
//!
//! async fn drain(sessions: &Sessions) -> DrainReport {
//!     let options = DrainOptions::new(Duration::from_secs(60)).spread(Duration::from_secs(45));
//!     sessions.drain(options).await
//! }
//! ```
//!
//! # Sessions during a drain
//!
//! - [`Session::stop`](crate::Session::stop) completes. A handler that awaits this future in a `select!` ends the
//!   conversation as its protocol requires, and returns. The close reason of its session is `drained`.
//! - A handler that ignores the stop signal runs until the deadline. Then the session aborts it and shuts down the
//!   connection, with the close reason `aborted`. The same happens to a WebSocket if its peer does not answer the close
//!   frame before the deadline; the session waits for that answer for at most
//!   [`shutdown_timeout`](crate::UpgradeLayer::shutdown_timeout), 10 seconds by default.
//! - A request that is undecided when the drain begins counts as a session. If its handler accepts in time, the
//!   client receives the upgrade response, and the session's stop signal fires at once. At the deadline an undecided
//!   request is rejected with 503.
//!
//! # Tasks that a drain does not stop
//!
//! If a handler [takes the connection](crate::Upgraded::into_parts) and continues in a task that it spawned, the drain
//! neither counts this task nor stops it.
