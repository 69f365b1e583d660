//! # Stopping a server
//!
//! A session outlives its request, and on HTTP/1.1 its connection as far as hyper knows it. So a server
//! that only stops its HTTP side cuts its sessions off, or waits for those on HTTP/2 without a limit.
//! [`Sessions::drain`](crate::Sessions::drain) ends them, in order and bounded.
//!
//! # The order
//!
//! 1. **Say that the server is about to stop**, to whatever sends it requests: from the moment at which
//!    `drain` is called, [`Sessions::is_draining`](crate::Sessions::is_draining) is true, for a readiness
//!    probe to look at, and new upgrades are refused with 503 and `Retry-After`, on HTTP/1.1 and HTTP/2
//!    alike. A load balancer can send them elsewhere.
//! 2. **Stop accepting connections**, and shut the open ones down gracefully, *while* the drain goes on. Not
//!    before it, and then wait: an HTTP/2 connection is there for as long as its sessions. It does not
//!    matter which of the two begins first.
//! 3. **Wait for the drain**, which takes no longer than its timeout and two seconds.
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
//!         () = stop => writer.write_all(b"the server is about to stop\n").await?,
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
//! The example `graceful` of the repository does it with hyper-util, and goes on accepting for a while, so
//! that a load balancer in front has time to notice. It is restarted behind HAProxy in a test, with no
//! request lost. [Scaling out](super::scaling) has what the balancer was told, and what Kubernetes has to know.
//!
//! # Many clients
//!
//! The clients of a drained server reconnect, all of them at once unless told otherwise: 10,000 TLS handshakes within a
//! second can stop the server that takes over. [`DrainOptions::spread`](crate::DrainOptions::spread) sends the stop
//! signals evenly over a time, the oldest session first:
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
//! # What a session sees of it
//!
//! - [`Session::stop`](crate::Session::stop) completes. A handler awaits it in a `select!`, says what its
//!   protocol says at an end, and returns: its session is closed as `drained`.
//! - A handler that does not heed it goes on until the deadline. Then it is dropped, and its connection is
//!   shut down: its session is closed as `aborted`. So is a WebSocket if its peer does not answer the close frame by
//!   then: it may take as long as [`shutdown_timeout`](crate::UpgradeLayer::shutdown_timeout), 10 seconds by default.
//! - A request that is undecided when the drain begins counts as a session. If its handler accepts in time, the
//!   client receives the upgrade response, and the session's stop signal fires at once. At the deadline an undecided
//!   request is rejected with 503.
//!
//! # What it does not see
//!
//! If a handler [takes the connection](crate::Upgraded::into_parts) and continues in a task that it spawned, the drain
//! neither counts this task nor stops it.
