//! An example as a process of its own.

use std::process::Stdio;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    net::TcpStream,
    process::{Child, ChildStderr, ChildStdout, Command},
};

use crate::support::{Peer, build::build, soon};

/// A program that is not Rust's, and the package that it comes in.
pub(crate) fn program(name: &str, package: &str) -> Command {
    let found = std::process::Command::new(name)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    assert!(
        found.is_ok(),
        "`{name}` is not installed: on Debian, `apt-get install {package}`"
    );
    let mut command = Command::new(name);
    command
        .kill_on_drop(true)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command
}

/// A server from `examples/`, on a port of its own.
pub(crate) struct Example {
    pub(crate) url: String,
    process: Child,
    stdout: BufReader<ChildStdout>,
    stderr: BufReader<ChildStderr>,
}

impl Example {
    /// `args` are beside `--listen`.
    pub(crate) async fn start(name: &str, args: &[&str]) -> Self {
        Self::start_with(name, &[], args).await
    }

    /// One that needs `features`.
    pub(crate) async fn start_with(name: &str, features: &[&str], args: &[&str]) -> Self {
        Self::spawn(Command::new(build(name, features).await), args).await
    }

    /// One whose calls of `splice` are written to a file.
    #[cfg(target_os = "linux")]
    pub(crate) async fn start_traced(name: &str, args: &[&str], trace: &std::path::Path) -> Self {
        let example = build(name, &["tunnel"]).await;
        let mut strace = program("strace", "strace");
        // With `-D` the process that starts is the example, and the tracer ends after it.
        strace
            .args(["-D", "-f", "--seccomp-bpf", "-e", "trace=splice", "-o"])
            .arg(trace)
            .arg(example);
        Self::spawn(strace, args).await
    }

    async fn spawn(mut command: Command, args: &[&str]) -> Self {
        let mut process = command
            .args(["--listen", "127.0.0.1:0"])
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the example starts");
        let mut stdout = BufReader::new(process.stdout.take().expect("it is piped"));
        let stderr = BufReader::new(process.stderr.take().expect("it is piped"));
        let mut line = String::new();
        soon(stdout.read_line(&mut line)).await.expect("its output");
        let url = line
            .strip_prefix("listening on ")
            .expect("the line that all examples print");
        Self {
            url: url.trim().to_owned(),
            process,
            stdout,
            stderr,
        }
    }

    pub(crate) async fn connect(&self) -> Peer<TcpStream> {
        let io = soon(TcpStream::connect(self.address())).await;
        Peer::new(io.expect("it listens"))
    }

    /// Lets it open files, or no more of them.
    #[cfg(target_os = "linux")]
    pub(crate) fn allow_files(&self, number: u64) {
        let id = self.process.id().expect("it runs");
        let (_, most) = rlimit::Resource::NOFILE.get().expect("a limit");
        let id = id.try_into().expect("an id");
        rlimit::prlimit(id, rlimit::Resource::NOFILE, Some((number, most)), None)
            .expect("the limit of a process of ours");
    }

    /// Where it listens: its URL without the scheme.
    pub(crate) fn address(&self) -> &str {
        self.url.split_once("://").expect("a scheme").1
    }

    /// The next line that it complains with.
    pub(crate) async fn complaint(&mut self) -> String {
        let mut line = String::new();
        soon(self.stderr.read_line(&mut line))
            .await
            .expect("its output");
        line
    }

    /// Sends a signal.
    pub(crate) async fn signal(&self, signal: &str) {
        let id = self.process.id().expect("it runs");
        let kill = Command::new("sh")
            .args(["-c", &format!("kill -{signal} {id}")])
            .status()
            .await;
        assert!(kill.expect("sh runs").success());
    }

    /// Waits for its end, which is not a failure. Returns what it still says, and complains.
    pub(crate) async fn ended(mut self) -> (String, String) {
        let (mut rest, mut complaints) = (String::new(), String::new());
        soon(self.stdout.read_to_string(&mut rest))
            .await
            .expect("its output");
        soon(self.stderr.read_to_string(&mut complaints))
            .await
            .expect("its output");
        let status = soon(self.process.wait()).await.expect("it ends");
        assert!(status.success(), "{status}: {complaints}");
        (rest, complaints)
    }

    /// Sends a signal, and expects the orderly end.
    pub(crate) async fn stop(self, signal: &str) {
        self.signal(signal).await;
        let (rest, complaints) = self.ended().await;
        assert!(
            rest.ends_with(" 0 aborted, 0 left\n"),
            "{rest} {complaints}"
        );
        // Nothing broke, and nothing had to be given up.
        for bad in ["panicked", "in time", "TimedOut"] {
            assert!(!complaints.contains(bad), "{complaints}");
        }
    }
}
