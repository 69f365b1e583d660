//! # Threats
//!
//! Whom this crate trusts, what it defends against, which test shows it, and what is left to you. Tests are in the
//! repository, in `tests/` unless a path says otherwise; those in `tests/conformance/` are named after their rule.
//!
//! # Who is trusted
//!
//! | | trusted? | so |
//! |---|---|---|
//! | who runs the server, and sets the layer up | yes | a limit that is taken off is off |
//! | handlers | not to be free of bugs: they may panic, hang, and fail | a panic ends its session and no other; decisions are bounded in time, sessions where you say so. A handler that blocks its thread cannot be stopped |
//! | layers inside the outermost one | not to know of upgrades: they may rewrite, replace, delay and clone | [the commit](super::commit) |
//! | layers outside of it | yes | it does not see what they do |
//! | clients, and what they send after the switch | no | the rules below |
//! | backends of a `ReverseProxy` | no, as to framing and headers; as to what they say, it is passed on | their switch is checked, hop-by-hop fields end at the proxy |
//! | targets of a `ConnectProxy`, and who answers for their names | no | each address is judged after it was resolved |
//! | proxies in front | only if you say so | `X-Forwarded-*` and `Forwarded` are removed, unless you [say otherwise](super::scaling) |
//! | the types of IO that [`copy`](crate::copy()) and a `Relay` read from | yes | they are given buffers that were not cleared of what other sessions left there, and may look at no more than they fill |
//! | hyper, h2, tungstenite, tokio | yes | keep them up to date: [below](#beneath) |
//!
//! # The rules
//!
//! | | rule | enforced by | shown by |
//! |---|---|---|---|
//! | S1 | A panic in a handler ends its session, is reported with its message, and touches nothing else; before the decision it is a 500 | each decision and each session has its own `catch_unwind` | `s1_` in `conformance/safety.rs`, `http2.rs`; `sessions/permits.rs` |
//! | S2 | Where the switch was replaced or rewritten, or nobody waits for the response, the session never starts, and what it holds is dropped at once. If only the client left, it may start and read an end. Deciding, and waiting for the connection once the switch was let out, are bounded in time by default; what layers in between take is theirs | the commit, `accept_timeout`, `handshake_timeout` | `s2_` in `conformance/safety.rs`; `gate/matrix.rs`, `gate/slot.rs`, `gate/connect.rs` |
//! | S3 | No header of a request is copied into a response, but for the protocol that was chosen, as it was offered | responses are made from scratch | `s3_no_header_of_the_request_is_copied` |
//! | S4 | One session too many, or one during a drain, is refused with 503 and `Retry-After` before its handler does any work | `Sessions`, asked before `accept` | `s4_` in `sessions/limits.rs`; `sessions/drain.rs` |
//! | S5 | `ConnectProxy` goes to port 443 only, and to no address that is not globally reachable, unless it is told to. Each address is judged that it would connect to, after the name was resolved, once | `tunnel::Policy` | `s5_` in `conformance/proxy.rs`, `src/tunnel/address.rs`, `src/tunnel/policy.rs` |
//! | S6 | After a refusal that ends the connection the client sees the response and then an end: the write side is shut down, and what still comes is read, bounded. On TLS there is a close_notify | the orderly end, in `src/io/linger.rs` | `s6_` in `conformance/closing.rs`; `session/end.rs` |
//! | S7 | Nothing a peer sends makes this crate allocate without bound, loop or panic | bounds on what is read and kept: [Limits](super::limits); `unsafe` is forbidden | `fuzz/`: heads, targets, handshakes and early bytes against a plain reference; random input in `src/negotiate/http1/tests.rs` and `src/websocket/codec/tests.rs`; `soak/` |
//! | S8 | A 101, or a 2xx to a CONNECT, that nobody stands behind does not leave, where the layer holds the connection | the commit: 500, or 501 to a CONNECT, and an event | `s8_` in `conformance/safety.rs`; `c4_s8_a_success_that_nobody_stands_behind_does_not_leave` |
//! | S9 | An upgrader of another crate inside works as it does without this one | hyper's `OnUpgrade` stays in the request until a handler was chosen | `s9_a_foreign_upgrader_inside_works_as_without_us`, `axums_extractor_works_under_our_layer` |
//!
//! # What has happened elsewhere
//!
//! ## Tunnels without a switch
//!
//! A reverse proxy that opens a tunnel as soon as a request *asks* for an upgrade, and does not look whether the
//! backend agreed, lets a client speak to the backend directly: whatever the proxy checks, it checks no more. It was
//! so in Apache's mod_proxy_wstunnel (CVE-2019-17567), in the API server of Kubernetes (CVE-2018-1002105), and, with
//! a wrong `Sec-WebSocket-Version` that the backend answers with 426, in Varnish and in Envoy up to 1.8.0 (M. Egorov,
//! Hacktivity 2019). Where a proxy does look at the status it is enough to make a backend say 101, for example by
//! letting it pass on a status that it was given.
//!
//! - *Here:* `ReverseProxy` opens a tunnel for a backend's 101 or 2xx that answers what was asked for, and for
//!   nothing else; a refusal is heard out, and with `client::Dial` each request has a connection of its own. As a
//!   backend, a 101 that no handler stands behind does not leave (S8), and a refusal with a status that would switch
//!   is a 500.
//! - *Shown by:* `reverse/smuggling.rs`, `reverse/refusals.rs` (`a_switch_that_nobody_asked_for_is_none`),
//!   `s8_a_refusal_that_is_a_101_does_not_leave`,
//!   `k2_a_switch_that_was_not_asked_for_is_an_error_and_ends_the_connection`; behind nginx and HAProxy
//!   `peers/reverse/smuggling.rs`, where `w2_a_version_that_the_backend_refuses_opens_no_tunnel`.
//! - *Yours:* the proxies of others that are in front.
//!
//! ## h2c smuggling
//!
//! `Upgrade: h2c` through a proxy that passes on any `Upgrade` gives the client a connection of HTTP/2 to the
//! backend, on which it asks for what the proxy would refuse (J. Miller, Bishop Fox, 2020). RFC 9113 §3.1 has removed
//! `h2c` since.
//!
//! - *Here:* `ReverseProxy` passes on neither `h2c`, nor any version of `HTTP` or `TLS`, nor `HTTP2-Settings`,
//!   whatever list it has. A layer serves `h2c` only if you register a handler for it.
//! - *Shown by:* `http_is_not_passed_on`, `what_is_offered_beside_http_is_passed_on`; behind nginx, in
//!   the configuration that everybody has, `h2c_never_reaches_the_backend`.
//! - *Yours:* any protocol is a tunnel. Name those that are meant: `ReverseProxy::protocols`.
//!
//! ## CONNECT, and data before the answer
//!
//! A client may send bytes for its tunnel right behind the CONNECT. If the proxy refuses, and goes on reading
//! requests, then those bytes are one: of whoever made the client send them (RFC 9931).
//!
//! - *Here:* a CONNECT on HTTP/1 that is refused ends its connection, whoever inside refused it, and nothing behind
//!   it is read as a request. A CONNECT with content is refused with 400. The client of this crate sends nothing
//!   before the answer.
//! - *Shown by:* `c3_`, `c1_a_connect_has_no_content`, `k4_` in `conformance/`;
//!   `c3_nothing_behind_a_connect_that_the_backend_refused_is_a_request`.
//! - *Yours:* the outermost `UpgradeLayer` has to see the CONNECT: put it around the router, and authentication
//!   inside. HAProxy in front keeps its own connection, and takes what is behind a refused CONNECT for a request of
//!   its own; nginx refuses CONNECT.
//!
//! ## Bodies that become the new protocol
//!
//! A server that switches before it has read the request's body takes the rest of the body for the new protocol, and
//! two parties in a chain may disagree where it begins. [hyper
//! does](super::stack_below#a-body-that-was-not-read-becomes-the-new-protocol).
//!
//! - *Here:* a switch comes after the whole request, which is read and dropped up to a limit; over it, late or
//!   malformed, there is no switch, and the connection ends. `ReverseProxy` asks the backend when it has all of the
//!   body, and frames it anew.
//! - *Shown by:* `u7_` in `conformance/request_body.rs`, `reverse/smuggling.rs`.
//! - *Yours:* nothing.
//!
//! ## Cross-site WebSocket hijacking
//!
//! A browser opens a WebSocket from any page to any host, and sends the cookies of that host along. A server that
//! knows its users by a cookie lets any page speak in their name (CWE-1385, RFC 6455 §10.2).
//!
//! - *Here:* pages of another origin are refused with 403 by default, `null` included. CORS does not apply to
//!   WebSocket, and a `CorsLayer` does not help.
//! - *Shown by:* `w5_` in `conformance/websocket.rs`.
//! - *What that leaves:* a request of HTTP/1.1 does not say its scheme, so a page of `http://example.com`, which whoever
//!   is on the network can write, is let in at `https://example.com` as well. And a page whose name was made to lead to
//!   your server (DNS rebinding) is of the same origin, as its own name is in `Host`: that concerns servers on loopback
//!   and on inner networks, which trust whoever can reach them. Origins that are named keep both out.
//! - *Yours:* name the origins (`origins`) on such servers, on one with TLS, and behind a proxy that changes `Host` or
//!   the scheme. Protocols other than `websocket` are not asked for by browsers; `WebSocketUpgrade::check_origin` looks
//!   at any request. A `ReverseProxy` keeps the host that the client named, for its backend to compare.
//!
//! ## Handlers that run although the client was refused
//!
//! hyper hands over a connection whatever was answered. With an upgrader that spawns its task as it makes its 101, a
//! client can reach a handler behind a 403, or choose it with `Accept-Encoding: identity;q=0`.
//!
//! - *Here:* [the commit](super::commit).
//! - *Shown by:* `gate/matrix.rs`; `axums_handler_runs_where_the_switch_was_lost` pins what happens without.
//! - *Yours:* an `UpgradeLayer` at the very outside. Upgraders of other crates inside have no gate.
//!
//! ## Response splitting, and headers that come back
//!
//! - *Here:* values are `HeaderValue`s, which hold no line break. Nothing of a request is in a response, but for the
//!   protocol, which is a token, and the subprotocol, which is the server's own spelling (S3). What a client was
//!   refused for is said in the crate's own words, with no address in it.
//! - *Shown by:* `s3_no_header_of_the_request_is_copied`, `u12_a_malformed_upgrade_makes_a_plain_request`, `c6_` in
//!   `conformance/proxy.rs`.
//! - *Yours:* what handlers put into `Accept::header` and into rejections.
//!
//! ## Hop-by-hop fields
//!
//! `Connection` names fields that end at the next hop. A client that names `X-Forwarded-For` there can make a proxy
//! drop what another one has added, or keep what it should drop: CVE-2021-33197 in Go's `ReverseProxy`, where a first
//! empty `Connection` line hid the others.
//!
//! - *Here:* all lines of `Connection` are read, in requests and in responses. A request that names a field which is
//!   meant for the backend is refused with 400: `Host`, `Authorization`, `Cookie`, `Origin`, `Content-Type`,
//!   `Forwarded`, `Sec-*`, `X-Forwarded-*`. What clients say with `Forwarded` and `X-Forwarded-*` is removed by
//!   default.
//! - *Shown by:* `reverse/headers.rs` (`what_is_meant_for_the_backend_cannot_be_taken_off`), `reverse/forwarded.rs`,
//!   `src/tunnel/reverse/headers.rs`.
//! - *Yours:* a backend that trusts another field gets it from a layer around the client that the proxy is made of:
//!   that one has the last word.
//!
//! ## A proxy into your own network
//!
//! Who may use a forward proxy speaks from its place: to metadata services, databases, loopback. Lists of names are
//! bypassed with another spelling (CVE-2022-24825, a dot at the end, and CVE-2022-29188, brackets, in Smokescreen),
//! lists of addresses with IPv4 inside of IPv6, and checks before the connection with a name that is resolved twice
//! (DNS rebinding).
//!
//! - *Here:* S5. The name is resolved once, and each address that comes of it is judged and then connected to. IPv4
//!   that is mapped, or embedded for NAT64 (`64:ff9b::/96`) or 6to4, is judged as what it is; of all other IPv6 only
//!   global unicast passes, without Teredo and other assignments. A dot and the case make no difference in a list of
//!   hosts.
//! - *Shown by:* `s5_an_odd_spelling_of_an_address_is_no_way_around`, `s5_a_name_that_moves_is_no_way_around`,
//!   `s5_each_address_of_a_name_is_checked`, `s5_nothing_is_dialed_for_what_is_denied`.
//! - *Yours:* who may use it: a layer inside the outermost one. What has a global address of your own, and a NAT64
//!   with a prefix of your own, are not known here: list hosts. A handler of your own for CONNECT has no policy.
//!
//! ## Many sessions
//!
//! A session is cheap for a client, and costs a server a file descriptor, memory, and what its handler holds.
//!
//! - *Here:* `Sessions` refuses what is too much, in all and by key, before the handler is asked. An idle session
//!   holds no buffer. A permit comes back on every path.
//! - *Shown by:* `s4_` in `sessions/limits.rs`, `sessions/permits.rs`, `memory.rs`.
//! - *Yours:* there is no limit by default. [Choose one](super::limits#how-to-choose), and a rate of handshakes with
//!   a layer.
//!
//! ## Slow clients
//!
//! - *Here:* bodies, decisions, the wait for the switch, the end of a connection and the answer to a close frame are
//!   bounded in time. Dialing is, and so is the handshake of a client.
//! - *Shown by:* `u7_a_body_that_does_not_come_is_refused`, `s2_`, `session/end.rs`, `websocket/closing.rs`,
//!   `c6_what_takes_too_long_is_a_gateway_timeout`.
//! - *Yours:* [a timer for heads](super::limits#beneath), which is hyper's: by default a client that does not finish
//!   its head stays for ever. `idle_timeout` for sessions, or for WebSocket `keep_alive`, which also ends a session whose
//!   peer stops reading (`websocket/keep_alive.rs`, rule S11).
//!
//! ## Messages that are too large, or too many
//!
//! A WebSocket frame says its length before it is there (RFC 6455 §10.4); a message may have any number of fragments;
//! one that is compressed may be a thousand times as long.
//!
//! - *Here:* frames and messages are bounded by 1 MiB, and what is too long is refused when its header is there.
//!   Fragments count together. No extension is accepted, so nothing is decompressed. A peer that pings and does not
//!   read the answers is not read any more.
//! - *Shown by:* `websocket/strictness.rs`, `websocket/rate_limit.rs`, `w6_no_extension_is_accepted`,
//!   `a_peer_that_does_not_read_answers_is_read_no_more`.
//! - *Yours:* the limits may be too large for many sessions: a client can make the server hold one message for each.
//!   The number of messages has no limit by default: set a `websocket::RateLimit`. Empty fragments
//!   of one message do not count: a `lifetime` bounds them.
//!
//! ## Frames that are not masked
//!
//! A page that chooses what its browser sends could make a proxy take a frame for a request, and poison its cache: so
//! clients mask their frames, and a server fails on one that is not (RFC 6455 §5.1, §10.3).
//!
//! - *Here:* it is answered with 1002. There is no way to allow it. The client masks what it sends.
//! - *Shown by:* `what_breaks_the_protocol_is_told_so`.
//! - *Yours:* nothing, unless you use [frames of another library](super::migration#other-frames).
//!
//! ## Handshakes that take long to parse
//!
//! tungstenite read the head of a handshake again from its beginning with each part that arrived, which a long header
//! made a matter of minutes (CVE-2023-43669, up to 0.20.0).
//!
//! - *Here:* heads are read by hyper, with [limits](super::limits#beneath). Of tungstenite only the frames are used,
//!   in version 0.30 or later.
//! - *Shown by:* `Cargo.toml`: it is a dependency without its feature `handshake`.
//! - *Yours:* nothing.
//!
//! ## Panics
//!
//! - *Here:* S1. A panic while a handler decides is a 500, one in a session ends it in order, one in `on_close`
//!   or in what a session owned is reported. A permit is given back.
//! - *Shown by:* `s1_a_panic_ends_its_session_and_no_other`, `when_a_users_function_panics`,
//!   `a_panic_on_close_changes_nothing_else`, `a_panic_of_what_a_handler_owns_is_reported_as_one`.
//! - *Yours:* with `panic = "abort"` a panic ends the process. Panics of services that upgrade nothing are for a
//!   `CatchPanicLayer`.
//!
//! ## Ends that do not come
//!
//! - *Here:* a close frame is waited for as long as `shutdown_timeout`, a shutdown as well. A session that was told
//!   to stop and does not is dropped at the deadline of its drain. A part of the connection that a handler has leaked
//!   is cut off when its session has ended.
//! - *Shown by:* `a_peer_that_does_not_answer_the_close_frame_is_not_waited_for`,
//!   `an_io_that_does_not_shut_down_is_dropped_in_the_end`,
//!   `a_handler_that_is_always_busy_is_dropped_at_the_deadline`, `sessions/escaped.rs`.
//! - *Yours:* on HTTP/2 [a stream outlives its session](super::stack_below#a-stream-outlives-its-session): give the
//!   graceful shutdown a limit.
//!
//! ## Data that is lost at the end
//!
//! A socket that is closed with bytes unread is reset, and a reset takes away what the peer has not read yet. A
//! tunnel that ends both directions with the first one cuts the other off. A TLS connection that ends without a
//! close_notify looks like an attack, or makes an attack look like an end.
//!
//! - *Here:* S6; each direction of a relay has its own end; a broken connection is passed on as a reset, also beneath
//!   TLS, where the socket is known: see `tunnel::Relay`.
//! - *Shown by:* `s6_` in `conformance/closing.rs`, `relay/ends.rs`, `s10_` in `conformance/resets.rs`,
//!   `reverse/ends.rs`; a rolling restart behind HAProxy in `peers/haproxy.rs`.
//! - *Yours:* [the order in which a server stops](super::stopping). On HTTP/2 hyper sends an end for a break: let
//!   protocols say when a message is whole.
//!
//! ## Beneath
//!
//! What this crate cannot see is up to hyper and h2. These were, or are, of the kind that stops a server, or hides one
//! request in another. What is said of their versions is theirs, and has no test here:
//!
//! | | | needs |
//! |---|---|---|
//! | Lengths and chunk sizes that are read in two ways, CVE-2021-32714 and CVE-2021-32715 | a body that hides a request, where a proxy in front reads it otherwise | hyper 0.14.10, so any 1.x. What hyper cannot read [is no switch](#bodies-that-become-the-new-protocol) |
//! | Rapid reset, CVE-2023-44487 | streams that are opened and reset at once. hyper was not affected, by its own account; h2 closes a connection with more than 20 of them that wait to be accepted | nothing |
//! | MadeYouReset, CVE-2025-8671 | the same with streams that the server is made to reset. By its own account hyper was not affected; h2 closes a connection on which it has reset more than 1024 for the client's errors | h2 0.4.20 to count those that were refused as well: see that your lock file has it |
//! | `CONTINUATION` floods, RUSTSEC-2024-0332 | a head without an end | h2 0.4.4: hyper 1.12 asks for 0.4.14 |
//! | Empty `DATA` frames, RUSTSEC-2026-0258 | frames that cost no window | h2 0.4.16: see that your lock file has it. From then on [small frames that are not read](super::stack_below#small-messages-that-are-not-read-end-the-connection) end the connection |
//! | Data that no handler reads | is kept by the kernel on HTTP/1.1, and in memory on HTTP/2: as much as the connection's window | [windows](super::stack_below#one-session-that-does-not-read-stops-all-the-others), and a limit of connections in front |
//! | [One session that does not read](super::stack_below#one-session-that-does-not-read-stops-all-the-others) | stops all others on its connection of HTTP/2 | windows |
//! | [A CONNECT with a `Content-Length`](super::stack_below#a-connect-with-a-content-length-ends-the-whole-connection) | ends a connection of HTTP/2 with all its sessions | clients that do not trust each other do not share one |
//!
//! ## Floods of CONNECT
//!
//! A client asks for many tunnels at a time, or takes each one back as soon as it has asked, so that a proxy dials for
//! nothing.
//!
//! - *Here:* a request that is being decided counts as a session, so [`max`](crate::SessionsBuilder::max) and
//!   [`max_per_key`](crate::SessionsBuilder::max_per_key) bound how many are dialed for at a time. One that its client
//!   resets is decided no further, and gives its permit back. Of a connection of HTTP/2 hyper lets in 200 streams.
//! - *Shown by:* `when_a_stream_is_reset`, `a_stream_that_is_reset_before_the_decision_leaves_nothing_behind`, `s4_` in
//!   `sessions/limits.rs`.
//! - *Yours:* both limits, as there is none by default; a rate of requests, with a layer. What a handler has begun until
//!   then is its own cost: a name that `getaddrinfo` looks up occupies its thread until it is answered.
