//! # Threats
//!
//! The parties that this crate trusts, the attacks that it prevents, the tests that show this, and your own
//! responsibilities. Tests are in the repository, in `tests/` unless a path says otherwise; those in
//! `tests/conformance/` are named after their rule.
//!
//! # Trusted parties
//!
//! | | trusted? | consequence |
//! |---|---|---|
//! | the operator, who configures the layer | yes | a limit that is removed is not enforced |
//! | handlers | may have bugs: they may panic, hang, and fail | a panic ends only its session; decisions have a time limit, sessions only if you set one. A handler that blocks its thread cannot be stopped |
//! | layers inside the outermost one | unaware of upgrades: they may rewrite, replace, delay and clone | [the commit](super::commit) |
//! | layers outside the outermost one | yes | the outermost layer does not see their changes |
//! | clients, and their data after the upgrade response | no | the rules below |
//! | backends of a `ReverseProxy` | framing and headers: no; content: passed on | the proxy checks their upgrade response, and removes hop-by-hop fields |
//! | targets of a `ConnectProxy` or a `ConnectUdp`, and the DNS servers of their names | no | the policy checks each resolved address |
//! | proxies in front | only if you configure it | `X-Forwarded-*` and `Forwarded` are removed, unless you [configure otherwise](super::scaling) |
//! | the types of IO that [`copy`](crate::copy()) and a `Relay` read from | yes | they receive buffers with data of other sessions, and must read only the bytes that they wrote |
//! | hyper, h2, tungstenite, tokio | yes | keep them up to date: [below](#hyper-and-h2) |
//!
//! # The rules
//!
//! | | rule | enforced by | shown by |
//! |---|---|---|---|
//! | S1 | A panic in a handler ends its session, is reported with its message, and affects nothing else; before the decision the response is 500 | each decision and each session has its own `catch_unwind` | `s1_` in `conformance/safety.rs`, `http2.rs`; `registry/permits.rs` |
//! | S2 | If the upgrade response was replaced or rewritten, or the server dropped the response future, the session never starts, and its values are dropped at once. If only the client disconnected, the session may start and read EOF. The decision, and the wait for the connection after the upgrade response, have time limits by default; the time in the layers between them is not limited | the commit, `accept_timeout`, `handshake_timeout` | `s2_` in `conformance/safety.rs`; `gate/matrix.rs`, `gate/slot.rs`, `gate/connect.rs` |
//! | S3 | No request header is copied into a response, except the chosen protocol in the client's spelling | responses are built from scratch | `s3_request_headers_are_not_copied` |
//! | S4 | A session beyond the limit, or during a drain, is rejected with 503 and `Retry-After` before its handler does any work | `Sessions`, before `accept` is called | `s4_` in `registry/limits.rs`; `registry/drain.rs` |
//! | S5 | By default `ConnectProxy` connects only to port 443 and to globally reachable addresses. It resolves a name once, and checks each address before it connects | `tunnel::Policy` | `s5_` in `conformance/proxy.rs`, `src/tunnel/address.rs`, `src/tunnel/policy.rs` |
//! | S6 | After a rejection that closes the connection, the client receives the response and then EOF: the server shuts down the write side, and reads a bounded amount. TLS connections send a close_notify | the orderly shutdown, in `src/io/linger.rs` | `s6_` in `conformance/closing.rs`; `session/end.rs` |
//! | S7 | No input of a peer makes this crate allocate without bound, loop or panic | bounds on the bytes read and kept: [Limits](super::limits); `unsafe` is forbidden | `fuzz/`: heads, targets, handshakes and early bytes against a plain reference; random input in `src/negotiate/http1/tests.rs` and `src/websocket/codec/tests.rs`; `soak/` |
//! | S8 | If the layer holds the connection, it does not return a 101, or a 2xx to a CONNECT, without a session | the commit: 500, or 501 to a CONNECT, and an event | `s8_` in `conformance/safety.rs`; `c4_s8_success_without_a_session_is_replaced` |
//! | S9 | A foreign upgrader inside works as it does without this crate, unless the layer [governs](super::govern) it | hyper's `OnUpgrade` stays in the request until a handler is chosen | `s9_foreign_upgrader_is_left_alone`, `axum_websocket_extractor_works_inside_the_layer` |
//!
//! # Incidents elsewhere
//!
//! ## Tunnels without an agreed upgrade
//!
//! A reverse proxy that opens a tunnel as soon as a request *asks* for an upgrade, and does not check that the backend
//! accepted, gives the client a direct connection to the backend, which bypasses all checks of the proxy. Apache's
//! mod_proxy_wstunnel (CVE-2019-17567) and the API server of Kubernetes (CVE-2018-1002105) had this fault. Varnish and
//! Envoy up to 1.8.0 had it for a wrong `Sec-WebSocket-Version`, which the backend answers with 426 (M. Egorov,
//! Hacktivity 2019). If the proxy checks only the status, an attacker only has to make the backend send 101, for
//! example through an endpoint that returns a status from the request.
//!
//! - *Here:* `ReverseProxy` opens a tunnel only for a backend's 101 or 2xx that answers the request; it forwards any
//!   other response, and with `client::Dial` or `client::Pool` each upgrade uses a separate connection. A 101 to a plain
//!   request becomes a 502. A backend with this crate does not return a 101 without a session (S8), and a rejection
//!   with the status of an upgrade response becomes a 500.
//! - *Shown by:* `reverse_proxy/smuggling.rs`, `reverse_proxy/plain/headers.rs` (`unasked_101_becomes_502`),
//!   `reverse_proxy/refusals.rs`
//!   (`k2_invalid_upgrade_response_becomes_502_naming_the_field`),
//!   `s8_rejection_with_101_becomes_500`,
//!   `k2_upgrade_to_another_protocol_is_an_error`; behind nginx and HAProxy
//!   `peers/reverse_proxy_chains/smuggling.rs`, where `w2_websocket_version_refused_by_backend_opens_no_tunnel`.
//! - *Yours:* check other proxies in front.
//!
//! ## h2c smuggling
//!
//! A proxy that passes on any `Upgrade` also passes on `Upgrade: h2c`. The client then has an HTTP/2 connection to the
//! backend, and sends requests that the proxy would reject (J. Miller, Bishop Fox, 2020). RFC 9113 §3.1 has removed
//! `h2c` since.
//!
//! - *Here:* `ReverseProxy` passes on neither `h2c`, nor any version of `HTTP` or `TLS`, nor `HTTP2-Settings`,
//!   even if they are in its list. A layer serves `h2c` only if you register a handler for it.
//! - *Shown by:* `offers_of_http_and_tls_are_not_forwarded`, `h2c_is_stripped_from_an_offer_with_another_protocol`;
//!   behind nginx, in the usual configuration, `h2c_never_reaches_the_backend`.
//! - *Yours:* any other protocol also opens a tunnel. List the intended ones: `ReverseProxy::protocols`.
//!
//! ## CONNECT, and data before the answer
//!
//! A client may send bytes for its tunnel immediately after the CONNECT. If the proxy rejects the CONNECT and continues
//! to read requests, it parses those bytes, which an attacker may have chosen, as a request (RFC 9931).
//!
//! - *Here:* a rejected CONNECT on HTTP/1 closes its connection, also if an inner service rejected it, and no later
//!   byte is read as a request. A CONNECT with content is rejected with 400. The client of this crate sends no data
//!   before the response.
//! - *Shown by:* `c3_`, `c1_connect_with_content_is_rejected`, `k4_` in `conformance/`;
//!   `c3_bytes_after_refused_connect_are_not_a_request`.
//! - *Yours:* the outermost `UpgradeLayer` has to see the CONNECT: put it around the router, and authentication
//!   inside. HAProxy in front keeps its connection to the client open, and reads the bytes after a rejected CONNECT as
//!   a request; nginx rejects CONNECT.
//!
//! ## Bodies that become the new protocol
//!
//! A server that switches protocols before it has read the request body reads the rest of the body as the new protocol,
//! and two hops may disagree where the new protocol begins. [hyper behaves this
//! way](super::stack_below#a-body-that-was-not-read-becomes-the-new-protocol).
//!
//! - *Here:* the layer reads and drops the whole request body before the upgrade response. If the body exceeds a limit
//!   of size or time, or is malformed, the layer rejects the request, and the connection closes. `ReverseProxy` sends
//!   an upgrade request to the backend with new framing, after it has received the whole body.
//! - *Shown by:* `u7_` in `conformance/request_body.rs`, `reverse_proxy/smuggling.rs`.
//! - *Yours:* nothing.
//!
//! ## Cross-site WebSocket hijacking
//!
//! A browser opens a WebSocket from any page to any host, and sends the cookies of that host along. A server that
//! identifies users by a cookie then accepts messages from any page in the name of the user (CWE-1385, RFC 6455 §10.2).
//!
//! - *Here:* by default requests from another origin, including `null`, are rejected with 403. CORS does not apply to
//!   WebSocket, and a `CorsLayer` does not help.
//! - *Shown by:* `w5_` in `conformance/websocket.rs`.
//! - *Not covered:* an HTTP/1.1 request does not contain its scheme, so a server at `https://example.com` also accepts
//!   a page of `http://example.com`, which an attacker on the network can replace. A page whose name resolves to your
//!   server (DNS rebinding) has the same origin, because `Host` contains the name of the page: this affects servers on
//!   loopback and on internal networks that trust every client. A list of origins prevents both.
//! - *Yours:* list the origins (`origins`) on such servers, on servers with TLS, and behind a proxy that changes `Host`
//!   or the scheme. Browsers request no protocol other than `websocket`; `WebSocketUpgrade::check_origin` checks any
//!   request. A `ReverseProxy` keeps the client's `Host` so that the backend can compare it.
//!
//! ## Handlers that run although the client was rejected
//!
//! hyper hands over a connection after any response. If an upgrader spawns its task when it builds its 101, the task
//! runs although the client received a 403. The client can cause this with `Accept-Encoding: identity;q=0`.
//!
//! - *Here:* [the commit](super::commit).
//! - *Shown by:* `gate/matrix.rs`; `axum_websocket_handler_runs_after_replaced_response` pins the behaviour without it.
//! - *Yours:* put the `UpgradeLayer` outermost. The commit does not protect foreign upgraders inside.
//!
//! ## Response splitting, and reflected headers
//!
//! - *Here:* values are `HeaderValue`s, which cannot contain a line break. A response contains two values from the
//!   request: the protocol, which is a token, and the subprotocol, in the server's spelling (S3). The text of a
//!   rejection is fixed, and contains no address.
//! - *Shown by:* `s3_request_headers_are_not_copied`, `u12_malformed_upgrade_is_a_plain_request`, `c6_` in
//!   `conformance/proxy.rs`.
//! - *Yours:* values that handlers pass to `Accept::header` and put into rejections.
//!
//! ## Hop-by-hop fields
//!
//! `Connection` names fields that end at the next hop. A client that names `X-Forwarded-For` there can make a proxy
//! drop a field that another proxy has added, or keep a field that it should remove: CVE-2021-33197 in Go's
//! `ReverseProxy`, where an empty first `Connection` line hid the others.
//!
//! - *Here:* the proxy reads all lines of `Connection`, in requests and in responses. A request whose `Connection`
//!   names an end-to-end field is rejected with 400: `Host`, `Authorization`, `Cookie`, `Origin`, `Content-Type`,
//!   `Forwarded`, `Sec-*`, `X-Forwarded-*`. By default the proxy removes `Forwarded` and `X-Forwarded-*`
//!   fields of clients.
//! - *Shown by:* `reverse_proxy/headers.rs` (`connection_option_naming_end_to_end_field_is_refused`),
//!   `reverse_proxy/forwarded.rs`, `src/tunnel/reverse/headers.rs`.
//! - *Yours:* if a backend trusts another field, set it in a layer around the proxy's client: that layer runs last.
//!
//! ## Proxy access to your internal network
//!
//! A user of a forward proxy reaches all hosts that the proxy reaches: metadata services, databases, loopback. An
//! attacker bypasses a list of names with another spelling (CVE-2022-24825, a dot at the end, and CVE-2022-29188,
//! brackets, in Smokescreen), a list of addresses with IPv4 embedded in IPv6, and a check before the connection with a
//! name that is resolved twice (DNS rebinding).
//!
//! - *Here:* S5. The proxy resolves the name once, checks each address, and connects to the checked addresses. An IPv4
//!   address that is mapped, or embedded for NAT64 (`64:ff9b::/96`) or 6to4, is checked as IPv4. Of all other IPv6
//!   addresses only global unicast is allowed, without Teredo and other protocol assignments. A list of hosts ignores
//!   case and a trailing dot.
//! - *Shown by:* `s5_odd_spelling_of_an_address_is_a_bad_request`, `s5_rebinding_name_cannot_bypass_the_policy`,
//!   `s5_each_address_of_a_name_is_checked`, `s5_denied_target_is_not_dialed`.
//! - *Yours:* authorize users in a layer inside the outermost one. The policy cannot recognize internal hosts with
//!   global addresses, or a NAT64 with another prefix: list the allowed hosts. The policy does not apply to a custom
//!   handler for CONNECT.
//!
//! ## Many sessions
//!
//! A session is cheap for a client, and costs the server a file descriptor, memory, and the values of its handler.
//!
//! - *Here:* `Sessions` rejects requests beyond the limits, in total and by key, before it calls the handler. An idle
//!   session holds no buffer. Every path releases the permit.
//! - *Shown by:* `s4_` in `registry/limits.rs`, `registry/permits.rs`, `memory.rs`.
//! - *Yours:* the default is unlimited. [Choose a limit](super::limits#how-to-choose), and limit the rate of handshakes
//!   with a layer.
//!
//! ## Slow clients
//!
//! - *Here:* bodies, decisions, the wait for the connection, the end of a connection and the answer to a close frame
//!   have time limits. Dialing and the handshake of a client have time limits too.
//! - *Shown by:* `u7_missing_body_is_rejected`, `s2_`, `session/end.rs`, `websocket/closing.rs`,
//!   `c6_slow_target_is_a_504`.
//! - *Yours:* [a timer for heads](super::limits#hyper-and-h2), which hyper provides: by default a client that does not
//!   finish its head keeps its connection open forever. `idle_timeout` for sessions, or for WebSocket `keep_alive`,
//!   which also ends a session when its peer stops reading (`websocket/keep_alive.rs`, rule S11).
//!
//! ## Messages that are too large or too frequent
//!
//! A WebSocket frame announces its length before its payload (RFC 6455 §10.4), a message may have any number of
//! fragments, and a compressed message may expand a thousandfold.
//!
//! - *Here:* the limit of a message is 1 MiB, and a longer frame is rejected when its header arrives. The fragments of
//!   a message count together. The limit holds before and after decompression, which stops at the limit. The server
//!   stops reading from a peer that sends pings and does not read the pongs.
//! - *Shown by:* `websocket/strictness.rs`, `websocket/rate_limit.rs`, `w7_bomb_closes_with_1009`,
//!   `bomb_is_decompressed_no_further_than_the_limit`, `unread_pongs_stop_reading`.
//! - *Yours:* the limits may be too large for many sessions: a client can make the server hold one message for each
//!   session. The number of messages is unlimited by default: set a `websocket::RateLimit`. The limit does not count
//!   empty fragments of one message: a `lifetime` bounds them.
//!
//! ## Compression
//!
//! Encryption hides the content of a message, but not its length. Compression shortens text that occurs twice. If a
//! message contains a secret and text that an attacker chooses, and the attacker sees its length on the network, a
//! shorter message reveals a correct guess: CRIME (2012) and BREACH (2013) read cookies and tokens of HTTPS, byte by
//! byte. With context takeover, the secret and the text may also be in different messages of a session.
//!
//! - *Here:* WebSocket messages are not compressed unless you enable it. By default each message is compressed alone.
//!   Messages that are sent uncompressed do not become part of the context. Control frames are never compressed.
//! - *Shown by:* `w7_setting_is_off_by_default`, `w7_message_or_direction_is_left_uncompressed`,
//!   `message_refers_to_earlier_messages_only_with_context_takeover`.
//! - *Yours:* leave a message uncompressed if it contains both a secret (a token, personal data) and text that others
//!   choose: `WebSocket::send_uncompressed`. With `Deflate::context_takeover`, leave every message with a secret
//!   uncompressed. `Deflate::receive_only` leaves all messages of this side uncompressed; the peer decides about its
//!   own. A `ReverseProxy` and a governed session pass compressed messages on.
//!
//! ## Unmasked frames
//!
//! A page that controls the bytes that its browser sends could make a proxy parse a frame as a request, and poison its
//! cache. Therefore clients mask their frames, and a server fails on an unmasked frame (RFC 6455 §5.1, §10.3).
//!
//! - *Here:* the server closes with 1002, and no option allows such frames. The client masks all frames.
//! - *Shown by:* `protocol_violation_closes_with_its_code`.
//! - *Yours:* nothing, unless you use [frames of another library](super::migration#other-frames).
//!
//! ## Handshakes that take long to parse
//!
//! tungstenite parsed the head of a handshake from its beginning after each read, which took minutes for a long header
//! (CVE-2023-43669, up to 0.20.0).
//!
//! - *Here:* hyper parses heads, with [limits](super::limits#hyper-and-h2).
//! - *Shown by:* `Cargo.toml`, which depends on tungstenite, for its types, without its feature `handshake`.
//! - *Yours:* nothing.
//!
//! ## Panics
//!
//! - *Here:* S1. A panic while a handler decides becomes a 500. A panic in a session ends the session with an orderly
//!   shutdown. A panic in `on_close`, or in the `Drop` of a session's value, is reported. The permit is released.
//! - *Shown by:* `s1_panic_ends_only_its_session`, `permit_is_released_when_a_callback_panics`,
//!   `panic_in_on_close_is_caught`, `panic_in_a_captured_destructor_is_reported`.
//! - *Yours:* with `panic = "abort"` a panic ends the process. A `CatchPanicLayer` catches panics of services that do
//!   not upgrade.
//!
//! ## Sessions that do not end
//!
//! - *Here:* `shutdown_timeout` bounds the wait for a close frame, and the shutdown. A session that ignores its stop
//!   signal is dropped at the deadline of the drain. A part of the connection that a handler has leaked stops working
//!   when its session has ended.
//! - *Shown by:* `unanswered_close_ends_after_shutdown_timeout`,
//!   `shutdown_timeout_drops_io_that_does_not_shut_down`,
//!   `busy_handler_is_aborted_at_the_deadline`, `registry/escaped.rs`.
//! - *Yours:* on HTTP/2 [a stream outlives its session](super::stack_below#a-stream-outlives-its-session): give the
//!   graceful shutdown a time limit.
//!
//! ## Data lost at the end
//!
//! Closing a socket with unread bytes resets the connection, and a reset destroys data that the peer has not read yet.
//! A tunnel that ends both directions when the first one ends truncates the other. A TLS connection that ends without a
//! close_notify is indistinguishable from truncation by an attacker, and peers that accept such an end also accept an
//! attack.
//!
//! - *Here:* S6; each direction of a relay ends separately; the relay passes a broken connection on as a reset, also
//!   beneath TLS if it knows the socket: see `tunnel::Relay`.
//! - *Shown by:* `s6_` in `conformance/closing.rs`, `relay/ends.rs`, `s10_` in `conformance/resets.rs`,
//!   `reverse_proxy/ends.rs`; a rolling restart behind HAProxy in `peers/rolling_restart.rs`.
//! - *Yours:* [the order in which a server stops](super::stopping). On HTTP/2 hyper can report a reset as EOF: use
//!   protocols that mark the end of a message.
//!
//! ## hyper and h2
//!
//! hyper and h2 defend against attacks on the layers below this crate. These attacks stop a server, or hide one request
//! in another. The statements about versions come from those projects, and are not tested here:
//!
//! | | | needs |
//! |---|---|---|
//! | Lengths and chunk sizes that two hops read differently, CVE-2021-32714 and CVE-2021-32715 | a body that hides a request, where a proxy in front reads the length differently | hyper 0.14.10, so any 1.x. A body that hyper cannot read [prevents the upgrade](#bodies-that-become-the-new-protocol) |
//! | Rapid reset, CVE-2023-44487 | streams that are opened and reset at once. hyper was not affected, by its own account; h2 closes a connection with more than 20 of them that wait to be accepted | nothing |
//! | MadeYouReset, CVE-2025-8671 | the same with streams that the server is made to reset. By its own account hyper was not affected; h2 closes a connection on which it has reset more than 1024 for the client's errors | h2 0.4.20 to count refused streams too: check your lock file |
//! | `CONTINUATION` floods, RUSTSEC-2024-0332 | a head without an end | h2 0.4.4: hyper 1.12 asks for 0.4.14 |
//! | Empty `DATA` frames, RUSTSEC-2026-0258 | frames that cost no window | h2 0.4.16: check your lock file. From that version on, [small frames that are not read](super::stack_below#small-messages-that-are-not-read-end-the-connection) end the connection |
//! | Data that no handler reads | the kernel keeps the data on HTTP/1.1; h2 keeps it in memory on HTTP/2, up to the connection's window | [windows](super::stack_below#one-session-that-does-not-read-stops-all-the-others), and a limit of connections in front |
//! | [One session that does not read](super::stack_below#one-session-that-does-not-read-stops-all-the-others) | stops all others on its connection of HTTP/2 | windows |
//! | [A CONNECT with a `Content-Length`](super::stack_below#a-connect-with-a-content-length-ends-the-whole-connection) | ends a connection of HTTP/2 with all its sessions | separate connections for clients that do not trust each other |
//!
//! ## HTTP/3
//!
//! The module `http3` reads bytes from any client that completes a QUIC handshake, and quinn from any address.
//!
//! - *Here:* heads, frames of the control stream and waiting datagrams are bounded, and the length in a frame reserves no
//!   memory beyond these bounds. Field sections cannot refer to a dynamic table. A malformed request resets its stream, a
//!   violation of the framing closes the connection. A request in 0-RTT, which an attacker can replay, is answered with 425
//!   unless its method is safe. `Listener` asks for a proof of the address under load.
//! - *Shown by:* `e8_` in `tests/http3/`; `fuzz/src/http3.rs`, `fuzz/src/qpack.rs`.
//! - *Yours:* use `transport_config`. Each connection has its own limits: bound the number of connections of one client in
//!   front, and the rate of requests with a layer, since a client can cancel requests as fast as it sends them.
//!
//! ## UDP through a proxy
//!
//! UDP services often trust their network, and many amplify: a small query with a forged source address makes a DNS or NTP
//! server send a large answer to a victim. A proxy for UDP could reach such services, send the queries, hide the source
//! of a scan, or run out of ports.
//!
//! - *Here:* `ConnectUdp` denies by default all ports but 443 and all addresses that are not globally reachable, and
//!   judges after resolution, as S5. Each session has one socket, connected to one target: the client cannot choose
//!   a source address or port, and receives only the target's datagrams. A client, which HTTP identifies by its
//!   connection, receives all answers itself, so a forged address gains nothing. Nothing is sent before the upgrade
//!   response is committed. An ICMP error ends the session; without a datagram it ends after 2 minutes. Queues are
//!   bounded, capsules too.
//! - *Shown by:* `d1_` to `d6_` in `tests/datagram/`, `src/datagram/`; `fuzz/src/capsules.rs`.
//! - *Yours:* authenticate clients. [`max`](crate::SessionsBuilder::max) bounds the ports and sockets in use, and
//!   [`max_per_key`](crate::SessionsBuilder::max_per_key) those of one client, but not how fast a client can
//!   scan, one session after the other: limit the rate of requests with a layer. Do not allow ports of services that trust UDP source addresses, such
//!   as those for discovery and logs. A client chooses how much it sends: the proxy does not limit the bytes.
//!
//! ## Floods of CONNECT
//!
//! A client requests many tunnels at once, or resets each request immediately, so that a proxy dials in vain.
//!
//! - *Here:* an undecided request counts as a session, so [`max`](crate::SessionsBuilder::max) and
//!   [`max_per_key`](crate::SessionsBuilder::max_per_key) bound the number of concurrent dials. When the client
//!   resets a request, its decision is dropped and its permit released. hyper allows 200 streams for each HTTP/2
//!   connection.
//! - *Shown by:* `permit_is_released_when_a_stream_is_reset`, `stream_reset_before_decision_cancels_handler`, `s4_` in
//!   `registry/limits.rs`.
//! - *Yours:* set both limits, which are unset by default; limit the rate of requests with a layer. Work that a handler has
//!   started may outlive the decision: a lookup with `getaddrinfo` occupies a thread until it returns.
