//! # Scaling out
//!
//! Several servers behind a balancer: what the balancer has to be told, what has to stay on one server, and how
//! one is replaced without anybody being cut off.
//!
//! | in front | tested here | what it takes |
//! |---|---|---|
//! | [nginx](#nginx) | in `tests/peers/reverse/` of the repository | three lines for upgrades, two for timeouts |
//! | [HAProxy](#haproxy) | the same, and a rolling restart in `tests/peers/haproxy.rs` | `timeout tunnel` |
//! | [Envoy](#envoy) | no: from its documentation | `upgrade_configs` |
//! | [Kubernetes](#kubernetes) | no: from its documentation | a grace period that is longer than the drain |
//!
//! Both of nginx and HAProxy were tested with HTTP/1.1 to the server. They pass on what comes of upgrades as bytes.
//!
//! # Behind any of them
//!
//! - **The client's address** is the balancer's, for the server. Where only the balancer can reach the server, take
//!   what it says:
//!
//!   ```
//!   use std::net::IpAddr;
//!   use tower_upgrade::Sessions;
//!
//!   let by_client = |request: &http::request::Parts| -> Option<IpAddr> {
//!       let said = request.headers.get_all("x-forwarded-for").iter().next_back()?;
//!       // The last one is the balancer's own.
//!       said.to_str().ok()?.rsplit(',').next()?.trim().parse().ok()
//!   };
//!   let sessions = Sessions::builder().max(10_000).max_per_key(20, by_client).build();
//!   ```
//!
//! - **The origin.** Let the balancer pass on the `Host` that the client named. Where it ends TLS, name the origins
//!   as pages have them:
//!
//!   ```
//!   use tower_upgrade::websocket::websocket;
//!
//!   let chat = websocket(|_socket, _session| async { Ok(()) }).origins(["https://example.com"]);
//!   ```
//!
//! - **A `ReverseProxy` behind a balancer** says what it was told if it may: `.x_forwarded(Forwarding::Append)`.
//!   Without it, what comes is removed.
//! - **Silence.** Balancers cut what is idle: see [below](#idle-timeouts).
//! - **Ends.** nginx and HAProxy end both directions when the server has ended its own, and nginx also when the
//!   client has. Protocols that go on in one direction need a word for the end, not a half-close
//!   (`tests/peers/reverse/ends.rs`).
//! - **Bodies.** HAProxy makes a plain request of an upgrade with a body, such as Docker's
//!   (`tests/peers/reverse/smuggling.rs`).
//!
//! # nginx
//!
//! From `tests/peers/reverse/nginx.conf`, which the tests there run with nginx 1.22:
//!
//! ```text
//! # What is no upgrade has no `Connection`, so that connections to the server are used again.
//! map $http_upgrade $connection_upgrade {
//!     default upgrade;
//!     ''      '';
//! }
//!
//! server {
//!     location / {
//!         proxy_pass http://servers;
//!         proxy_http_version 1.1;
//!         proxy_set_header Upgrade $http_upgrade;
//!         proxy_set_header Connection $connection_upgrade;
//!
//!         # By default it is the name of the upstream, and an `Origin` would not match.
//!         proxy_set_header Host $http_host;
//!
//!         # Nobody is in front of this: what a client says of itself is replaced.
//!         proxy_set_header X-Forwarded-For $remote_addr;
//!         proxy_set_header X-Forwarded-Host $http_host;
//!         proxy_set_header X-Forwarded-Proto $scheme;
//!
//!         # By default a session that is silent for a minute is cut.
//!         proxy_read_timeout 1h;
//!         proxy_send_timeout 1h;
//!     }
//! }
//! ```
//!
//! It passes any `Upgrade` on, `h2c` included, and refuses CONNECT.
//!
//! # HAProxy
//!
//! It passes upgrades on by itself. From `tests/peers/reverse/haproxy.cfg` and `tests/peers/haproxy.rs`, which are
//! run with HAProxy 2.6:
//!
//! ```text
//! defaults
//!     mode http
//!     timeout connect 30s
//!     timeout client 30s
//!     timeout server 30s
//!     # From the switch on, in place of the two above.
//!     timeout tunnel 1h
//!
//! frontend clients
//!     bind :80
//!     # Nobody is in front of this: what a client says of itself is replaced.
//!     http-request set-header X-Forwarded-For %[src]
//!     default_backend servers
//!
//! backend servers
//!     option httpchk GET /ready
//!     default-server check inter 100ms fall 1 rise 1
//!     # A server that is about to stop says 503; one that has closed its listener refuses the connection,
//!     # and one that closes what it has not read from says nothing. All go to the other one.
//!     retries 10
//!     option redispatch 1
//!     retry-on 503 conn-failure empty-response
//!     server a 10.0.0.1:3000
//!     server b 10.0.0.2:3000
//! ```
//!
//! With this the tests restart both servers, one after the other, while clients come and go, and no client is refused
//! or cut off. A 503 of this crate comes before a handler is asked, or, at the deadline of a drain, while it still
//! decides; no session has begun, so another server can be asked. That of an application may mean something else:
//! then leave `503` out of `retry-on`.
//!
//! # Envoy
//!
//! *Not tested here.* Upgrades are off by default, and so is CONNECT, which it answers with 403. In the connection
//! manager:
//!
//! ```text
//! upgrade_configs:
//! - upgrade_type: websocket
//! # - upgrade_type: CONNECT
//! stream_idle_timeout: 3600s # by default 300s
//! ```
//!
//! Over HTTP/2, from clients or to servers, an upgrade is an extended CONNECT, which it speaks with
//! `http2_protocol_options: { allow_connect: true }`; the method of an upgrade that is not a GET is lost there. For
//! CONNECT routes need a `connect_matcher`, and without a `connect_config` the CONNECT itself is passed on: that is
//! what `UpgradeLayer::connect` behind it wants. See "HTTP upgrades" and "How do I configure timeouts?" in its
//! documentation.
//!
//! # Kubernetes
//!
//! *Not tested here.*
//!
//! ```text
//! spec:
//!   terminationGracePeriodSeconds: 60 # more than preStop, the drain, and some seconds
//!   containers:
//!   - name: server
//!     lifecycle:
//!       preStop:
//!         exec:
//!           command: ["sleep", "5"]
//!     readinessProbe:
//!       httpGet: { path: /ready, port: 3000 }
//!       periodSeconds: 2
//! ```
//!
//! When a pod is to go, three things begin at once: `preStop` runs, the clock of `terminationGracePeriodSeconds` runs
//! (30 seconds by default, `preStop` included), and the pod is taken out of its service's endpoints, which takes a
//! moment to reach everybody who balances. Behind `preStop` comes SIGTERM, and at the end of the time SIGKILL.
//!
//! - **`preStop`** gives balancers time to notice. The option `--notice` of the example `graceful` does the same
//!   without a hook: it goes on accepting for a while after SIGTERM. One of them is enough.
//! - **The time** has to be longer than `preStop`, the timeout of the [drain](crate::Sessions::drain), and two
//!   seconds for the last connections, together. Else sessions are cut.
//! - **The probe** asks for [`is_draining`](crate::Sessions::is_draining). A pod that is deleted is not ready
//!   whatever it says; it is for drains that you begin yourself, and for balancers that look for themselves.
//! - **Liveness is another probe.** A server that drains is alive: let it not look at `/ready`.
//! - **PID 1** gets the signal: let the server be that process, and no shell around it.
//!
//! ingress-nginx has nginx's timeouts, 60 seconds by default, as annotations:
//!
//! ```text
//! nginx.ingress.kubernetes.io/proxy-read-timeout: "3600"
//! nginx.ingress.kubernetes.io/proxy-send-timeout: "3600"
//! ```
//!
//! When its configuration changes it starts new workers, and ends old ones with their sessions when
//! `worker-shutdown-timeout` is over. Clients have to be able to come again, in any case.
//!
//! # Idle timeouts
//!
//! | | a silent session is cut after | |
//! |---|---|---|
//! | nginx | 60 s | `proxy_read_timeout`, `proxy_send_timeout` |
//! | HAProxy | `timeout tunnel`; without it `timeout client` or `timeout server` | |
//! | Envoy | 5 min | `stream_idle_timeout`, `idle_timeout` of a route |
//! | this crate | never | [`idle_timeout`](crate::UpgradeLayer::idle_timeout) |
//!
//! Two ways, together if in doubt: a longer timeout in the balancer, and pings. With `keep_alive(interval)` a
//! WebSocket that was silent gets a ping at most two intervals after the last byte of its peer: take less than half
//! of the shortest timeout on the way, such as 25 seconds for nginx's 60. Pings also find the peers that have
//! vanished.
//!
//! Let the balancer be the one that waits longer: a server that ends a session says so, with a close frame; a
//! balancer cuts.
//!
//! # What has to be sticky
//!
//! A session is one connection, or one stream, to one server: the balancer cannot move it. So it needs no stickiness.
//!
//! | | sticky? |
//! |---|---|
//! | a session, over HTTP/1.1, HTTP/2, CONNECT | no |
//! | the handshake | no: it is one request, and the key of a WebSocket is answered by whoever gets it |
//! | a protocol with several requests for one conversation, such as the long polling that some libraries fall back to | yes |
//! | a client that comes again and expects what it had | only if that is in the server's memory; better put it elsewhere |
//! | rooms, presence, and whatever joins sessions of several servers | no: a broker between the servers |
//!
//! What is *one server's own*: [`Sessions`](crate::Sessions), with its list and its limits. Behind four servers a
//! `max_per_key` of 20 is one of 80. A limit over all of them is for the balancer, or for a handler that asks a
//! shared store in `accept`.
//!
//! Long sessions stay where they are. A server that is added gets new ones only; `lifetime` spreads them over time,
//! and [`Sessions::close`](crate::Sessions::close) lets some go at once.
//!
//! # Replacing a server
//!
//! 1. Begin the [drain](super::stopping). `/ready` says 503 from here on, and so do new upgrades.
//! 2. Go on accepting until the balancers have noticed: the interval of their checks, or of the probe, and a little
//!    more.
//! 3. Close the listener, and shut connections down gracefully, while sessions end.
//! 4. At the deadline those that are left are dropped; exit.
//!
//! All clients of a server that ends come again at once. Let them wait for a random time first: the 503 says
//! `Retry-After`, a closed session says nothing.
//!
//! The example `graceful` does all of it, and `chat` as a whole service. Without step 2,
//! `a_rolling_restart_at_once_fails_no_client` shows, it takes a balancer that repeats requests.
