//! Server-sent events: curl reads a response that stays open.

use super::{Client, node_server, proxy};
use crate::{
    process::{Script, program},
    reverse_proxy_chains::front::{Balancer, Front},
    support::soon,
};
use bytes::Bytes;
use http_body_util::Full;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout},
};

/// curl as the reader of an event stream.
struct Reader {
    curl: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Reader {
    fn start(url: &str, version: &str) -> Self {
        let mut curl = program("curl", "curl");
        curl.args(["--silent", "--no-buffer", version])
            .arg(format!("{url}/events"));
        let mut curl = curl.spawn().expect("curl starts");
        let stdout = curl.stdout.take().expect("a pipe");
        Self {
            curl,
            lines: BufReader::new(stdout).lines(),
        }
    }

    async fn expect(&mut self, event: &str) {
        for expected in [&format!("data: {event}"), ""] {
            let line = soon(self.lines.next_line()).await.expect("readable output");
            assert_eq!(line.as_deref(), Some(expected));
        }
    }
}

async fn expect_line(server: &mut Script, line: &str) {
    assert_eq!(server.next_line().await.as_deref(), Some(line));
}

/// The HTTP version of the backend, the balancer, and curl's option for the HTTP version of the client.
const ROUTES: [(&str, Balancer, &str); 5] = [
    ("http1", Balancer::Direct, "--http1.1"),
    ("http1", Balancer::Direct, "--http2-prior-knowledge"),
    ("http1", Balancer::Nginx, "--http1.1"),
    ("http1", Balancer::Haproxy, "--http1.1"),
    ("http2", Balancer::Direct, "--http2-prior-knowledge"),
];

async fn publish(client: &Client, event: &'static str) {
    let request = client.request("POST", "/publish");
    let request = request.body(Full::new(Bytes::from(event)));
    let response = client.send(request.expect("a request")).await;
    assert_eq!(response.body(), "published");
}

/// Sends each event after the client has received the previous one, while the response is open.
#[tokio::test]
async fn events_arrive_one_by_one_and_the_backend_sees_the_client_leave() {
    for (backend, balancer, version) in ROUTES {
        let mut server = node_server(backend).await;
        let args: &[&str] = if backend == "http2" {
            &["--http2"]
        } else {
            &[]
        };
        let proxy = proxy(&server.url, args).await;
        let address = proxy.address().parse().expect("an address");
        let front = Front::start(balancer, address).await;
        let url = format!("http://{}", front.address);
        let client = Client::new(&url, version != "--http1.1");

        let mut reader = Reader::start(&url, version);
        expect_line(&mut server, "open").await;
        reader.expect("hello").await;
        for event in ["one", "two", "three"] {
            publish(&client, event).await;
            reader.expect(event).await;
        }
        soon(reader.curl.kill()).await.expect("a process");
        expect_line(&mut server, "left").await;
    }
}

/// With HTTP/2 the client resets a stream, and its connection stays open.
#[tokio::test]
async fn dropped_http2_response_ends_the_response_of_the_backend() {
    for (backend, args) in [("http1", &[][..]), ("http2", &["--http2"])] {
        let mut server = node_server(backend).await;
        let proxy = proxy(&server.url, args).await;
        let client = Client::new(&proxy.url, true);
        let request = client.request("GET", "/events").body(super::empty());
        let response = client.begin(request.expect("a request")).await;
        expect_line(&mut server, "open").await;
        drop(response);
        expect_line(&mut server, "left").await;
        assert_eq!(client.get("/chunked").await.body(), "one,two,three");
    }
}
