//! # Scaling out
//!
//! How to run several servers behind a load balancer: the configuration of the balancer, sticky sessions, the
//! replacement of a server without cutting sessions, and clients that resume on another server without a gap.
//!
//! | balancer | tested with this crate | settings |
//! |---|---|---|
//! | [nginx](#nginx) | in `tests/peers/reverse_proxy_chains/` | three lines for upgrades, two for timeouts |
//! | [HAProxy](#haproxy) | the same, and a rolling restart in `tests/peers/rolling_restart.rs` | `timeout tunnel` |
//! | [Envoy](#envoy) | no, taken from its documentation | `upgrade_configs` |
//! | [Kubernetes](#kubernetes) | no, taken from its documentation | a grace period longer than the drain |
//!
//! The tests connect nginx and HAProxy to the server over HTTP/1.1. Both relay an upgraded connection as plain bytes.
//!
//! # Behind any balancer
//!
//! - **Client address.** The server sees the balancer's address. If only the balancer can reach the server, take the
//!   client's address from the header that the balancer adds:
//!
//!   ```
//!   use std::net::IpAddr;
//!   use tower_upgrade::Sessions;
//!
//!   let by_client = |request: &http::request::Parts| -> Option<IpAddr> {
//!       let header = request.headers.get_all("x-forwarded-for").iter().next_back()?;
//!       // The balancer's entry is the last one.
//!       header.to_str().ok()?.rsplit(',').next()?.trim().parse().ok()
//!   };
//!   let sessions = Sessions::builder().max(10_000).max_per_key(20, by_client).build();
//!   ```
//!
//! - **Origin.** Configure the balancer to forward the client's `Host`. If the balancer terminates TLS, list the
//!   origins of your pages:
//!
//!   ```
//!   use tower_upgrade::websocket::{WebSocketConfig, websocket};
//!
//!   let chat = websocket(|_socket, _session| async { Ok(()) })
//!       .config(WebSocketConfig::new().origins(["https://example.com"]));
//!   ```
//!
//! - **`ReverseProxy` behind a balancer.** By default the proxy removes `X-Forwarded-*` headers. Use
//!   `.x_forwarded(Forwarding::Append)` to keep them and append the balancer's address.
//! - **Idle sessions.** Balancers cut them: see [Idle timeouts](#idle-timeouts).
//! - **Half-closed connections.** When the server closes its direction, nginx and HAProxy close both. nginx also does
//!   so when the client closes its direction. A protocol that continues in one direction needs an end message instead
//!   of a half-close (`tests/peers/reverse_proxy_chains/half_close.rs`).
//! - **Request bodies.** HAProxy turns an upgrade request with a body, such as Docker's, into an ordinary request
//!   (`tests/peers/reverse_proxy_chains/smuggling.rs`).
//!
//! # nginx
//!
//! Taken from `tests/peers/reverse_proxy_chains/nginx.conf`; the tests run it with nginx 1.22:
//!
//! ```text
//! # Ordinary requests get no `Connection` header, so that connections to the servers are reused.
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
//!         # The default is the name of the upstream, which does not match the `Origin` header.
//!         proxy_set_header Host $http_host;
//!
//!         # This nginx faces clients directly, so it replaces the headers that they send.
//!         proxy_set_header X-Forwarded-For $remote_addr;
//!         proxy_set_header X-Forwarded-Host $http_host;
//!         proxy_set_header X-Forwarded-Proto $scheme;
//!
//!         # The default cuts a session after a minute of silence.
//!         proxy_read_timeout 1h;
//!         proxy_send_timeout 1h;
//!     }
//! }
//! ```
//!
//! nginx forwards any `Upgrade`, including `h2c`, and rejects CONNECT.
//!
//! # HAProxy
//!
//! HAProxy forwards upgrades by default. Taken from `tests/peers/reverse_proxy_chains/haproxy.cfg` and
//! `tests/peers/rolling_restart.rs`, which run with HAProxy 2.6:
//!
//! ```text
//! defaults
//!     mode http
//!     timeout connect 30s
//!     timeout client 30s
//!     timeout server 30s
//!     # Replaces `timeout client` and `timeout server` after the upgrade response.
//!     timeout tunnel 1h
//!
//! frontend clients
//!     bind :80
//!     # This HAProxy faces clients directly, so it replaces the header that they send.
//!     http-request set-header X-Forwarded-For %[src]
//!     default_backend servers
//!
//! backend servers
//!     option httpchk GET /ready
//!     # The interval is also the time limit of a check: a busy server must not count as one that has failed.
//!     default-server check inter 2s downinter 100ms fall 1 rise 1
//!     # A refused connection counts as a failed check: after a crash, requests do not wait for the next check.
//!     default-server observe layer4 error-limit 1 on-error mark-down
//!     # Retry on the other server when this one is draining (503), has closed its listener (connection refused),
//!     # or closes a connection that it has not read from (empty response).
//!     retries 10
//!     option redispatch 1
//!     retry-on 503 conn-failure empty-response
//!     server a 10.0.0.1:3000
//!     server b 10.0.0.2:3000
//! ```
//!
//! The tests restart both servers with this configuration, one after the other, while clients connect and disconnect.
//! No client is rejected or cut off.
//!
//! A 503 of this crate is safe to retry, since no session has started: the layer sends 503 before it calls a handler,
//! or at the deadline of a drain, while the handler is still deciding. If your application also sends 503, for another
//! reason, remove `503` from `retry-on`.
//!
//! # Envoy
//!
//! *Not tested here.* By default Envoy forwards no upgrades and answers CONNECT with 403. In the connection manager:
//!
//! ```text
//! upgrade_configs:
//! - upgrade_type: websocket
//! # - upgrade_type: CONNECT
//! stream_idle_timeout: 3600s # by default 300s
//! ```
//!
//! On HTTP/2 connections, from clients and to servers, Envoy uses extended CONNECT for upgrades. Enable extended
//! CONNECT with `http2_protocol_options: { allow_connect: true }`. Extended CONNECT replaces the method of the request,
//! so only upgrades of GET requests arrive unchanged.
//!
//! CONNECT needs a route with a `connect_matcher`. Omit `connect_config`: Envoy then forwards the CONNECT itself, as
//! `UpgradeLayer::connect` on the server expects. See "HTTP upgrades" and "How do I configure timeouts?" in the Envoy
//! documentation.
//!
//! # Kubernetes
//!
//! *Not tested here.*
//!
//! ```text
//! spec:
//!   terminationGracePeriodSeconds: 60 # more than preStop + drain + 2 s
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
//! When Kubernetes terminates a pod, three things start at once:
//!
//! - `preStop` runs; SIGTERM follows when it has finished.
//! - `terminationGracePeriodSeconds` starts to count, `preStop` included. The default is 30 seconds. SIGKILL follows
//!   when it is over.
//! - The pod leaves the endpoints of its service. The change reaches the load balancers with a delay.
//!
//! Therefore:
//!
//! - **`preStop`** gives the balancers time to remove the pod. The option `--notice` of the example `graceful` has the
//!   same effect without a hook: the server keeps accepting for a while after SIGTERM. Use one of the two.
//! - **`terminationGracePeriodSeconds`** has to exceed the sum of `preStop`, the timeout of the
//!   [drain](crate::Sessions::drain) and two seconds for the last connections. Otherwise sessions are cut.
//! - **The readiness probe** reports [`is_draining`](crate::Sessions::is_draining). Kubernetes treats a deleted pod as
//!   not ready regardless of the probe. The probe is for drains that you start yourself, and for balancers with
//!   separate health checks.
//! - **The liveness probe** must not use `/ready`: a draining server is alive.
//! - **PID 1** receives SIGTERM. Run the server as PID 1, without a shell around it.
//!
//! ingress-nginx sets the timeouts of nginx, 60 seconds by default, with annotations:
//!
//! ```text
//! nginx.ingress.kubernetes.io/proxy-read-timeout: "3600"
//! nginx.ingress.kubernetes.io/proxy-send-timeout: "3600"
//! ```
//!
//! When its configuration changes, ingress-nginx starts new workers, and stops the old workers and their sessions after
//! `worker-shutdown-timeout`. Clients have to reconnect in any case.
//!
//! # Idle timeouts
//!
//! | | cuts an idle session after | setting |
//! |---|---|---|
//! | nginx | 60 s | `proxy_read_timeout`, `proxy_send_timeout` |
//! | HAProxy | `timeout tunnel`; without it `timeout client` or `timeout server` | the same |
//! | Envoy | 5 min | `stream_idle_timeout`, or `idle_timeout` of a route |
//! | this crate | never | [`idle_timeout`](crate::UpgradeLayer::idle_timeout) |
//!
//! Raise the timeout of the balancer, send pings, or both. With `keep_alive(interval)`, an idle WebSocket sends a ping
//! at most two intervals after the last byte from its peer. Choose less than half of the shortest timeout on the path,
//! such as 25 seconds for nginx's 60. Pings also detect peers that have vanished.
//!
//! Give the balancer a longer timeout than the server: a server ends an idle WebSocket with a close frame, a balancer
//! cuts the connection.
//!
//! # Sticky sessions
//!
//! A session is one connection, or one stream, to one server. The balancer cannot move it, so a session needs no
//! stickiness.
//!
//! | | needs stickiness |
//! |---|---|
//! | a session, over HTTP/1.1, HTTP/2 or CONNECT | no |
//! | the handshake | no: one request, and any server can answer the `Sec-WebSocket-Key` |
//! | a protocol that spreads one conversation over several requests, such as the long-polling fallback of some libraries | yes |
//! | a client that reconnects and expects its old state | only if that state is in the server's memory; prefer shared storage |
//! | rooms, presence, and other state shared by sessions on several servers | no: use a broker between the servers |
//!
//! [`Sessions`](crate::Sessions), with its list and its limits, belongs to one server. Behind four servers, a
//! `max_per_key` of 20 admits 80. Enforce a limit over all servers in the balancer, or in a handler that asks a shared
//! store in `accept`.
//!
//! Open sessions stay on their server, and an added server only gets new sessions. To rebalance over time, limit the
//! [`lifetime`](crate::UpgradeLayer::lifetime) of sessions; to rebalance at once, end some sessions with
//! [`Sessions::close`](crate::Sessions::close).
//!
//! # Replacing a server
//!
//! 1. Start the [drain](super::stopping). From now on `/ready` and new upgrade requests get 503.
//! 2. Keep accepting connections until the balancers have removed the server: a little longer than the interval of
//!    their health checks or of the readiness probe.
//! 3. Close the listener and shut connections down gracefully while sessions end.
//! 4. At the deadline, abort the remaining sessions and exit.
//!
//! All clients of a stopped server reconnect at once. [`DrainOptions::spread`](crate::DrainOptions::spread) spreads the
//! end of their sessions over a period. Also have clients wait for a random time before they reconnect, as
//! `websocket::reconnect::Reconnecting` does: the 503 has a `Retry-After`, a closed session does
//! not.
//!
//! The example `graceful` follows all four steps; `chat` does so as part of a complete service. Without step 2 the
//! balancer has to retry requests, as the rolling restart without notice in `tests/peers/rolling_restart.rs` shows.
//!
//! # Across nodes
//!
//! A session ends with its server, with its connection, or at a drain, and the client continues on another server. It
//! misses no message if the server and the client keep this contract for each room, topic or feed:
//!
//! | | |
//! |---|---|
//! | **offset** | The number of a message in its room. The server sends it with the message. Offsets grow by one, so that a gap is visible, or are at least in order, as the identifiers of a Redis stream. |
//! | **epoch** | A random name for the history in which the offsets count. The store creates it together with the room. A store that lost its data creates another one: otherwise an old offset would point into a new history. |
//! | **history** | The last messages of the room, in a store that all servers share. Its length, in messages or in time, limits how long a client may be away. |
//!
//! 1. A new client subscribes without a position. The server answers with the epoch and the offset of the last message.
//! 2. The client keeps the epoch, and the offset of the last message that it has processed.
//! 3. On each new connection the client sends both. The server answers with its epoch, and with the offset after which
//!    messages follow. It sends the history from there, and then new messages.
//! 4. If the epoch differs, or the server's offset is greater than the client's, the history in between is gone. **The
//!    client reports that messages may be missing**, for example by loading the room again, and takes the server's
//!    position. Silence here would be the loss that the contract prevents.
//! 5. The client drops a message whose offset is not greater than its own: a duplicate. A server may therefore send
//!    messages twice, for example where the history and new messages overlap.
//!
//! On the server:
//!
//! - Subscribe to new messages before reading the history, and skip the overlap by offset. In the opposite order, the
//!   messages between the two are lost.
//! - Store a message before sending it to any client, also to those on the same server. Otherwise clients see a message
//!   whose offset does not exist for those that resume.
//! - Acknowledge a client's message after the store has it. A client that receives no acknowledgement sends the message
//!   again on the next connection. The store recognizes the duplicate by an identifier that the client has chosen.
//! - Close a client that reads too slowly: it resumes from the history. `websocket::Broadcast` does
//!   so with `SlowConsumer::Close`: with 1013, after which a `Reconnecting`
//!   waits for 30 to 60 seconds, or with a code for a shorter wait. Dropping single messages breaks the contract.
//!
//! On the client, the module `websocket::reconnect` shows the loop. The test
//! `tests/websocket/reconnect_sockets.rs` runs both sides over connections that are cut, also within messages.
//!
//! ## Several nodes with shared state
//!
//! The example `chat` runs on several nodes with Redis, behind HAProxy. Its README starts three nodes with one command,
//! and `tests/nodes/` kills and restarts them, and Redis, under 500 clients: each client receives every acknowledged
//! message once.
//!
//! | part | in the example |
//! |---|---|
//! | messages | one Redis stream per room. Redis writes them to the disk before it answers (`appendfsync always`), and the node acknowledges them after the answer |
//! | delivery | one blocking reader per node, and a `websocket::Broadcast` on the node. The number of requests to Redis does not depend on the number of clients |
//! | reconnecting | the client sends its last position, and any node has the messages since then |
//! | members | a key per node, which expires 3 seconds after the node has failed |
//! | one session per user | a claim in Redis, in `accept`: the newer session replaces the older one on its node |
//! | list, close, drain | a stream of commands per node. [`Sessions`](crate::Sessions) of each node carries them out |
//! | Redis is away | nodes keep their sessions, refuse to send with words, and refuse new sessions with 503. `/ready` stays 200: otherwise the balancer would remove all nodes |
//!
//! `docs/grafana.json` is a dashboard for the metrics of all nodes.
