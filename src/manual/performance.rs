//! Performance: memory, handshakes, round trips and throughput beside hyper alone and other crates.
//!
//! All tables are measured on two cores, over loopback, with hyper 1.12. *Hyper alone* is a service that checks two
//! headers, spawns a task on `upgrade::on`, and copies with `tokio::io::copy`. Ratios are medians of 21 alternating
//! rounds; single rounds lie between 0.7 and 1.6.
//!
//! # An echo
//!
//! | | hyper alone | this crate | ratio |
//! |---|---|---|---|
//! | resident bytes per idle session, of 5,000 | 9,039 | 1,541 | 0.17 |
//! | the same with `Sessions` | | 1,575 | 0.17 |
//! | the same with `Sessions`, idle timeout, lifetime and `on_close` | | 1,733 | 0.19 |
//! | handshakes with an echo per second, 1 at a time | | | 0.98 |
//! | handshakes with an echo per second, 8 at a time | | | 1.00 |
//! | the server's CPU time per handshake, kernel included | | | 1.08 to 1.10 |
//! | instructions per handshake, without the kernel, client included | 46,520 | 50,400 | 1.08 |
//! | allocations per handshake | 23 of 35,854 bytes | 30 of 31,556 bytes | |
//!
//! Part of the additional CPU time is spent on the orderly shutdown; hyper alone only drops the socket. Of the
//! instructions of hyper alone, about 8,200 zero the buffer of `tokio::io::copy`.
//!
//! The layer costs a request without an upgrade about 30 ns, and no allocation.
//!
//! # Governed upgraders
//!
//! An upgrader of other code, alone and under a layer that [governs](super::govern) it with a registry:
//!
//! | | hyper alone | governed | axum's `ws` | governed |
//! |---|---|---|---|---|
//! | resident bytes per idle session | 9,039 | 9,972 | 132,898 | 133,838 |
//! | instructions per handshake, without the kernel, client included | 46,520 | 78,725 | | |
//! | allocations per handshake | 23 of 35,854 bytes | 59 of 57,689 bytes | | |
//! | the server's CPU time per handshake, ratio | | | 1 | 1.03 |
//! | the server's CPU time per echo of 16 bytes in 64 sessions, ratio | | | 1 | 1.03 |
//! | the server's CPU time per echo of 64 KiB in 64 sessions, ratio | | | 1 | 1.03 |
//!
//! Most of the additional instructions create the `OnUpgrade`, with a hyper connection.
//!
//! # WebSocket
//!
//! A WebSocket echo, compared with hyper alone, which only copies the bytes of the frames, and with axum's
//! `WebSocketUpgrade` in its default configuration:
//!
//! | | hyper alone | `websocket` | axum | fastwebsockets | tokio-websockets |
//! |---|---|---|---|---|---|
//! | resident bytes per idle session, of 10,000 | 9,041 | 2,496 | 132,898 | 5,600 | 5,542 |
//! | the same after a message of 64 KiB, of 5,000 | 9,041 | 2,497 | 313,620 | | |
//! | handshakes with an echo per second, 8 at a time, ratio | 1 | 1.02 | 0.43 | 0.97 | 0.98 |
//! | the server's CPU time per handshake, ratio | 1 | 1.05 | 2.52 | 1.01 | 1.02 |
//! | echoes of 16 bytes per second in 64 sessions, ratio | 1 | 0.92 | 0.63 | 0.96 | 0.92 |
//! | the server's CPU time per echo, ratio | 1 | 1.09 | 1.62 | 1.01 | 1.09 |
//! | echoes of 64 KiB per second in 64 sessions, ratio | 1 | 3.8 | 2.6 | 3.4 | 3.6 |
//! | the server's CPU time per echo, ratio | 1 | 0.26 | 0.39 | 0.30 | 0.27 |
//!
//! fastwebsockets accepts unmasked frames of clients.
//!
//! Hyper alone is slow with long messages because `tokio::io::copy` reads 8 KiB at a time. The chart in the README is
//! measured in the same run of 9 rounds, with servers that restart every three rounds. One of the two processors runs the
//! client, so the rates of long messages measure the client as much as the server, and vary more than CPU times.
//!
//! The two loops over a payload of 64 KiB, in GiB per second, beside copying as many bytes in the same cache:
//!
//! | copy | unmask | check UTF-8: ASCII | German | Russian |
//! |---|---|---|---|---|
//! | 44 | 50 | 31 | 3.4 | 2.6 |
//!
//! The check is the standard library's. A faster one would have to be repeated: `Utf8Bytes` takes checked bytes with
//! `unsafe` code only, which this crate forbids.
//!
//! # One message to many WebSockets
//!
//! Each message that a server with one thread receives goes to 10,000 sessions: with a
//! `websocket::Broadcast`, with axum's `ws` and tokio's `broadcast` channel, and with the package
//! `ws` 8.21 of Node.js 20:
//!
//! | | `Broadcast` | axum | Node.js |
//! |---|---|---|---|
//! | the server's CPU time per delivery of 128 bytes, µs | 7.8 | 15.0 | 9.0 |
//! | the same, 4 KiB | 7.8 | 15.3 | 9.7 |
//! | the same, 128 bytes, 16 messages in a row | 0.73 | 6.8 | 8.4 |
//! | the same, 4 KiB, 16 messages in a row | 1.8 | 8.1 | 9.5 |
//! | the same, 4 KiB, one listener in a hundred does not read | 9.7 | 13.7 | 12.0 |
//! | deliveries of 128 bytes per second | 54,800 | 30,500 | 53,400 |
//! | the same, 16 messages in a row | 496,000 | 101,000 | 59,900 |
//! | send to last receipt of 4 KiB, median, ms | 219 | 269 | 173 |
//! | the same, one listener in a hundred does not read | 194 | 234 | 201 |
//! | resident bytes per session | 2,144 | 133,054 | 6,371 |
//!
//! The values are medians of 3 rounds, on a machine with other work, which affects times more than CPU times. The kernel
//! takes 80 % of the CPU time of `Broadcast`: each delivery is one system call, unless messages are sent in a row. A
//! session writes these together, and the other servers write each one. With 300 sessions, whose state fits into the
//! caches of the processor, a delivery of 128 bytes costs 4.7 µs, and 9.4 µs with axum.
//!
//! # Tunnels
//!
//! A tunnel of plain TCP, with one thread for the proxy, beside `tokio::io::copy_bidirectional` in the same role,
//! HAProxy 2.6 and nginx 1.22 (`stream`):
//!
//! | | `copy_bidirectional` | `Relay`, sockets | `Relay`, other IO | CONNECT, `relay` | HAProxy | nginx |
//! |---|---|---|---|---|---|---|
//! | resident bytes per idle tunnel, of 2,000 | 18,135 | 1,794 | 1,794 | 2,394 | 3,340 | 9,855 |
//! | the same after 1 MiB there and back | 18,135 | 1,794 | 1,794 | 2,402 | 3,346 | 34,333 |
//! | bytes per second in one tunnel, ratio | 1 | 2.6 | 1.6 | 2.7 | 1.8 | 1.5 |
//! | the proxy's CPU time for them, ratio | 1 | 0.19 | 0.53 | 0.20 | 0.50 | 0.61 |
//! | bytes per second in 4 tunnels, ratio | 1 | 3.0 | 2.3 | 3.0 | 1.3 | 1.2 |
//! | the proxy's CPU time for them, ratio | 1 | 0.19 | 0.44 | 0.18 | 0.76 | 0.82 |
//! | round trips of 16 bytes in 64 tunnels, ratio | 1 | 1.17 | 1.00 | 1.02 | 1.03 | 1.03 |
//! | new tunnels per second, ratio | 1 | 0.97 | 1.03 | 0.82 | 1.06 | 1.20 |
//!
//! The values are medians of 5 to 7 alternating rounds, in two runs. The client, the proxy and the server share two
//! processors, so the rates measure the client and the server as much as the proxy: without a proxy the ratios are 3.7
//! for one tunnel and 8.5 for four. The cost of a new tunnel with CONNECT includes the HTTP exchange.
//!
//! # UDP
//!
//! `ConnectUdp` beside a relay of two tokio sockets in the same role, each with one thread. A client with 64 datagrams in
//! flight sends one for each echo of the target; an echo is relayed twice:
//!
//! | | plain relay | HTTP/1.1 | HTTP/2 | no proxy |
//! |---|---|---|---|---|
//! | echoes of 100 bytes per second | 70,579 | 90,985 | 130,102 | 152,753 |
//! | ratio | 1 | 1.31 | 1.84 | 2.12 |
//! | the proxy's CPU time for them, ratio | 1 | 0.56 | 0.52 | |
//! | echoes of 1,200 bytes per second | 69,232 | 85,294 | 84,087 | 145,906 |
//! | ratio | 1 | 1.24 | 1.22 | 2.11 |
//! | the proxy's CPU time for them, ratio | 1 | 0.62 | 0.71 | |
//! | resident bytes per idle session, of 1,000 | | 2,417 | | |
//!
//! The values are medians of 5 alternating rounds of 50,000 echoes. The client, the proxy and the target share two
//! processors with other work. The proxy needs fewer system calls than the plain relay, because it writes all capsules
//! that are ready at once, and one read receives several. With one datagram of 1,200 bytes in flight the CPU time is 1.04
//! and 1.26 of that of the plain relay.
//!
//! # HTTP/3
//!
//! An echo over HTTP/3 beside the bidirectional streams of quinn 0.11 alone, which echo the received chunks without a copy.
//! All sessions are on one connection, with the same settings of quinn and rustls:
//!
//! | | quinn | quinn, `tokio::io::copy` | this crate |
//! |---|---|---|---|
//! | resident bytes per idle session, of 1,000 | 1,511 | 9,642 | 2,228 |
//! | the same after a message of 64 KiB | 5,439 | 13,894 | 6,218 |
//! | echoes of 16 bytes per second in 64 sessions, ratio | 1 | 1.00 | 0.84 |
//! | the server's CPU time per echo, ratio | 1 | 1.00 | 1.21 |
//! | echoes of 64 KiB per second in 64 sessions, ratio | 1 | 0.99 | 0.91 |
//! | the server's CPU time per echo, ratio | 1 | 1.02 | 1.11 |
//! | new sessions per second on an open connection, ratio | 1 | 1.03 | 0.56 |
//! | the server's CPU time per new session, ratio | 1 | 0.99 | 1.79 |
//!
//! The values are medians of 9 to 15 alternating rounds, on two processors that the client and other work share. The
//! client of the HTTP/3 sessions is this crate's, too. A new session takes a request and its response, and so a second
//! round trip.
//!
//! # Repeating the measurements
//!
//! `--instructions` needs valgrind.
//!
//! ```sh
//! cargo bench --bench memory
//! cargo bench --bench handshake
//! cargo bench --bench handshake -- --instructions
//! cargo bench --bench allocations
//! cargo bench --bench layer
//! cargo bench --features websocket --bench websocket
//! cargo bench --bench payload
//! cargo bench --features tunnel --bench tunnel
//! cargo bench --features datagram --bench datagram
//! cargo bench --features client,http3 --bench http3
//! cargo bench --features websocket --bench compare
//! cargo bench --features websocket --bench fanout
//! cargo bench --features websocket --bench fanout -- --svg docs/fanout.svg
//! ```
