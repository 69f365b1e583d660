//! Examples, and programs in other languages, as processes.

use std::{path::Path, process::Stdio};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, Lines},
    net::TcpStream,
    process::{Child, ChildStderr, ChildStdout, Command},
};

pub(crate) use crate::haproxy::program;
use crate::support::{Peer, build::build, soon};

/// Returns a command for a script in a folder of `tests/peers`, in the environment that `.ci/run` creates.
pub(crate) fn python(folder: &str, script: &str, args: &[&str]) -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("target/quic/bin/python");
    assert!(
        python.exists(),
        "{} is missing: see CONTRIBUTING.md",
        python.display()
    );
    let mut command = Command::new(python);
    command
        .arg(root.join("tests/peers").join(folder).join(script))
        .args(args)
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// A server from `examples/`, on a free port.
pub(crate) struct Example {
    pub(crate) url: String,
    process: Child,
    stdout: BufReader<ChildStdout>,
    stderr: BufReader<ChildStderr>,
}

impl Example {
    /// Starts an example with `args` in addition to `--listen`.
    pub(crate) async fn start(name: &str, args: &[&str]) -> Self {
        Self::start_with(name, &[], args).await
    }

    /// Starts an example that needs `features`.
    pub(crate) async fn start_with(name: &str, features: &[&str], args: &[&str]) -> Self {
        Self::spawn(Command::new(build(name, features).await), args).await
    }

    /// Starts an example under strace, which writes the calls of `splice` to the file `trace`.
    #[cfg(target_os = "linux")]
    pub(crate) async fn start_traced(name: &str, args: &[&str], trace: &std::path::Path) -> Self {
        let example = build(name, &["datagram"]).await;
        let mut strace = program("strace", "strace");
        // With `-D` the child process is the example, and the tracer exits after it.
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
        let mut stdout = BufReader::new(process.stdout.take().expect("a pipe"));
        let stderr = BufReader::new(process.stderr.take().expect("a pipe"));
        let mut line = String::new();
        soon(stdout.read_line(&mut line))
            .await
            .expect("readable output");
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
        Peer::new(io.expect("a listening example"))
    }

    /// Sets the limit of open files of the process.
    #[cfg(target_os = "linux")]
    pub(crate) fn allow_files(&self, number: u64) {
        let id = self.process.id().expect("a running process");
        let (_, hard) = rlimit::Resource::NOFILE.get().expect("a limit");
        let id = id.try_into().expect("an id");
        rlimit::prlimit(id, rlimit::Resource::NOFILE, Some((number, hard)), None)
            .expect("a limit of a child process");
    }

    /// Returns the peak of the resident memory in bytes.
    #[cfg(target_os = "linux")]
    pub(crate) fn peak_memory(&self) -> usize {
        let id = self.process.id().expect("a running process");
        let status = std::fs::read_to_string(format!("/proc/{id}/status"));
        let status = status.expect("a running process");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
        let kibibytes: usize = kibibytes.expect("a peak").parse().expect("a number");
        kibibytes << 10
    }

    /// Returns the host and port of the URL.
    pub(crate) fn address(&self) -> &str {
        self.url.split_once("://").expect("a scheme").1
    }

    /// Reads the next line of stderr.
    pub(crate) async fn error_line(&mut self) -> String {
        let mut line = String::new();
        soon(self.stderr.read_line(&mut line))
            .await
            .expect("readable output");
        line
    }

    /// Sends a signal.
    pub(crate) async fn signal(&self, signal: &str) {
        let id = self.process.id().expect("a running process");
        let kill = Command::new("sh")
            .args(["-c", &format!("kill -{signal} {id}")])
            .status()
            .await;
        assert!(kill.expect("sh runs").success());
    }

    /// Waits for a successful exit. Returns the rest of stdout and of stderr.
    pub(crate) async fn ended(mut self) -> (String, String) {
        let (mut stdout, mut stderr) = (String::new(), String::new());
        soon(self.stdout.read_to_string(&mut stdout))
            .await
            .expect("readable output");
        soon(self.stderr.read_to_string(&mut stderr))
            .await
            .expect("readable output");
        let status = soon(self.process.wait()).await.expect("an exit status");
        assert!(status.success(), "{status}: {stderr}");
        (stdout, stderr)
    }

    /// Sends a signal, and expects an orderly shutdown.
    pub(crate) async fn stop(self, signal: &str) {
        self.signal(signal).await;
        let (stdout, stderr) = self.ended().await;
        assert!(
            stdout.ends_with(
                " 0 aborted, 0 left
"
            ),
            "{stdout} {stderr}"
        );
        // No task panicked and no timeout passed.
        for bad in ["panicked", "in time", "TimedOut"] {
            assert!(!stderr.contains(bad), "{stderr}");
        }
    }
}

/// A program in another language, usually a server on a free port.
pub(crate) struct Script {
    pub(crate) url: String,
    stdout: Lines<BufReader<ChildStdout>>,
    _process: Child,
}

impl Script {
    /// Starts `command`, whose first line of output is `listening on URL`, as for the examples.
    pub(crate) async fn start(command: &mut Command) -> Self {
        let mut server = Self::spawn(command);
        // If the server fails, stderr shows the reason.
        let line = server.next_line().await.expect("a line of output");
        let url = line
            .strip_prefix("listening on ")
            .expect("the line with the URL");
        server.url = url.to_owned();
        server
    }

    /// Starts `command`, which is not a server: its URL is empty.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut process = command.spawn().expect("the program starts");
        let stdout = process.stdout.take().expect("a pipe");
        Self {
            url: String::new(),
            stdout: BufReader::new(stdout).lines(),
            _process: process,
        }
    }

    pub(crate) async fn next_line(&mut self) -> Option<String> {
        soon(self.stdout.next_line())
            .await
            .expect("readable output")
    }

    pub(crate) fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }
}
