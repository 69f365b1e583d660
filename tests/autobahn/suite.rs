//! Starts the suite's program `wstest`, as a client of a server or as a server for a client.

use crate::{
    Compression,
    report::{AGENT, Report},
    servers::{CONFIG, echo},
};
use futures_util::future::join_all;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
};
use tower::Layer as _;
use tower_upgrade::{
    client::{Dial, UpgradeLayer},
    websocket::{WebSocket, WebSocketRequest},
};

/// The time after which a run counts as a hang. Each case has a time limit in the suite.
const LIMIT: Duration = Duration::from_secs(1200);

/// Runs the suite against a server, prints its results, and panics if a case failed.
pub(crate) async fn test_server(side: &str, address: SocketAddr, compression: Compression) {
    let url = format!("ws://{address}/");
    let server = json!({ "agent": AGENT, "url": url });
    let runs = compression.runs().map(|run| {
        let server = &server;
        async move {
            let run = Run::new(side, run, json!({ "servers": [server] }));
            run.within_limit(run.as_client()).await;
            run.report()
        }
    });
    let reports = join_all(runs).await;
    Report::merge(reports).check(side, compression);
}

/// Runs the suite against the client, prints its results, and panics if a case failed.
pub(crate) async fn test_client(side: &str, compression: Compression) {
    let runs = compression.runs().map(|run| async move {
        let run = Run::new(side, run, json!({ "url": "ws://127.0.0.1:0" }));
        run.within_limit(run.as_server()).await;
        run.report()
    });
    let reports = join_all(runs).await;
    Report::merge(reports).check(side, compression);
}

/// A process of the suite, for some of its sections.
struct Run {
    folder: PathBuf,
    cases: &'static [&'static str],
}

impl Run {
    /// Writes the specification of the run into a new folder.
    fn new(side: &str, cases: &'static [&'static str], mut spec: Value) -> Self {
        let name = format!("{side} {}", cases[0].trim_end_matches(".*"));
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("autobahn");
        let folder = folder.join(name.replace([' ', '/', '*', '$'], "-"));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder for temporary files");
        spec["cases"] = json!(cases);
        spec["outdir"] = json!(folder);
        fs::write(folder.join("spec.json"), spec.to_string()).expect("a folder");
        Self { folder, cases }
    }

    /// Returns a command for `wstest`, which writes its errors to `stderr`.
    fn wstest(&self, mode: &str) -> Command {
        let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/autobahn/venv/bin/python");
        assert!(
            python.exists(),
            "The Autobahn test suite is not installed: `.ci/run` has the commands"
        );
        let stderr = File::create(self.folder.join("stderr")).expect("a folder");
        let mut command = Command::new(python);
        command
            .arg("-u") // prints each line at once
            .arg(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/autobahn/on_loopback.py"
            ))
            .args(["--webport", "0", "--mode", mode, "--spec", "spec.json"])
            .current_dir(&self.folder)
            .kill_on_drop(true)
            .stdin(Stdio::null())
            .stderr(stderr);
        command
    }

    async fn within_limit(&self, run: impl Future<Output = ()>) {
        let run = tokio::time::timeout(LIMIT, run).await;
        run.unwrap_or_else(|_| panic!("hangs: {:?} in {}", self.cases, self.folder.display()));
    }

    /// Runs the suite's client.
    async fn as_client(&self) {
        let stdout = File::create(self.folder.join("stdout")).expect("a folder");
        let status = self.wstest("fuzzingclient").stdout(stdout).status().await;
        let status = status.expect("wstest starts");
        assert!(status.success(), "{status}: {}", self.folder.display());
    }

    /// Runs our client against the suite's server.
    async fn as_server(&self) {
        let mut server = self.wstest("fuzzingserver");
        let mut server = server
            .stdout(Stdio::piped())
            .spawn()
            .expect("wstest starts");
        let stdout = server.stdout.take().expect("a pipe");
        let mut stdout = BufReader::new(stdout).lines();
        let url = loop {
            let line = stdout.next_line().await.expect("UTF-8");
            let line = line.unwrap_or_else(|| panic!("no server: {}", self.folder.display()));
            if let Some(url) = line.strip_prefix("listening on ") {
                break url.to_owned();
            }
        };
        // Read on: the suite writes a line for each case.
        tokio::spawn(async move { while let Ok(Some(_)) = stdout.next_line().await {} });
        let mut socket = connect(&format!("{url}/getCaseCount")).await;
        let count = socket.recv().await.expect("a message").expect("a number");
        let count: usize = count.as_text().expect("text").parse().expect("a number");
        for case in 1..=count {
            let socket = connect(&format!("{url}/runCase?case={case}&agent={AGENT}")).await;
            // The suite judges the end of the connection.
            let _ = echo(socket).await;
        }
        let mut socket = connect(&format!("{url}/updateReports?agent={AGENT}")).await;
        while socket.recv().await.is_some() {}
    }

    fn report(&self) -> Report {
        Report::read(&self.folder)
    }
}

async fn connect(url: &str) -> WebSocket {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let client = UpgradeLayer::new().layer(Dial::new(tcp));
    let request = WebSocketRequest::new(url.parse().expect("a URI")).config(CONFIG);
    let (socket, _) = request.connect(client).await.expect("an upgrade response");
    socket
}
