//! The Autobahn test suite against all ways to serve a WebSocket, and against the client.
//!
//! `.ci/run` installs the suite, and prints the results. HTML reports of each case are in `target/tmp/autobahn/`. To
//! repeat a single case, give it to `wstest` as its `cases`: `spec.json` is beside each report.

#[path = "../support/mod.rs"]
mod support;

mod report;
mod servers;
mod suite;

use servers::{behind_reverse_proxy, extractor, handler};
use suite::{test_client, test_server};
use support::Via;

/// A section of the suite, with the number of its cases in the version that `.ci/run` installs.
struct Section {
    number: u32,
    name: &'static str,
    cases: usize,
}

impl Section {
    const fn new(number: u32, name: &'static str, cases: usize) -> Self {
        Self {
            number,
            name,
            cases,
        }
    }
}

/// Section 8 is empty, and section 11 does not exist.
const SECTIONS: &[Section] = &[
    Section::new(1, "framing", 16),
    Section::new(2, "pings and pongs", 11),
    Section::new(3, "reserved bits", 7),
    Section::new(4, "opcodes", 10),
    Section::new(5, "fragmentation", 20),
    Section::new(6, "UTF-8", 145),
    Section::new(7, "close handling", 37),
    Section::new(9, "limits and performance", 54),
    Section::new(10, "automatic fragmentation", 1),
    Section::new(12, "compression of various payloads", 90),
    Section::new(13, "compression with various parameters", 126),
];

/// The cases of a run, which runs its sections one after another. Runs are parallel: many cases wait for a second, others
/// are slow.
const RUNS: &[&[&str]] = &[
    &["1.*", "2.*", "3.*", "4.*", "5.*", "7.*", "10.*"],
    &["6.*"],
    &["9.*"],
];
const COMPRESSION: &[&[&str]] = &[&["12.*"], &["13.*"]];

/// The cases with the three shortest messages of each kind, as the suite's regular expressions, which match prefixes
/// without `$`. The suite takes minutes for the longer messages.
const SHORT_COMPRESSION: &[&[&str]] = &[&[
    "12.*.1$", "12.*.2$", "12.*.3$", "13.*.1$", "13.*.2$", "13.*.3$",
]];

/// How many cases of compression run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Compression {
    All,
    Short,
}

impl Compression {
    fn runs(self) -> impl Iterator<Item = &'static [&'static str]> {
        let compression = match self {
            Self::All => COMPRESSION,
            Self::Short => SHORT_COMPRESSION,
        };
        RUNS.iter().chain(compression).copied()
    }

    /// Returns the number of cases of a section.
    fn cases(self, section: &Section) -> usize {
        match (self, section.number) {
            (Self::Short, 12) => 5 * 3,
            (Self::Short, 13) => 7 * 3,
            _ => section.cases,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn handler_passes_the_autobahn_suite() {
    let server = handler(Via::Http1).await;
    test_server("handler", server.address, Compression::All).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn extractor_passes_the_autobahn_suite() {
    let server = extractor().await;
    test_server("axum extractor", server.address, Compression::Short).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn handler_behind_an_http1_reverse_proxy_passes_the_autobahn_suite() {
    let (proxy, _backend) = behind_reverse_proxy(Via::Http1).await;
    test_server(
        "handler behind a reverse proxy over HTTP/1.1",
        proxy.address,
        Compression::Short,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn handler_behind_an_http2_reverse_proxy_passes_the_autobahn_suite() {
    let (proxy, _backend) = behind_reverse_proxy(Via::Http2).await;
    test_server(
        "handler behind a reverse proxy over HTTP/2",
        proxy.address,
        Compression::Short,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn client_passes_the_autobahn_suite() {
    test_client("client", Compression::Short).await;
}
