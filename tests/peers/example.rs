//! An example as a process of its own.

use std::{path::PathBuf, process::Stdio};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    process::{Child, ChildStdout, Command},
};

use crate::support::soon;

/// A program that is not Rust's.
pub(crate) fn program(name: &str) -> Command {
    let found = std::process::Command::new(name)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    assert!(
        found.is_ok(),
        "`{name}` is not installed: on Debian, `apt-get install {name}`"
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
}

impl Example {
    pub(crate) async fn start(name: &str) -> Self {
        let build = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--example", name])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status();
        assert!(
            build.await.expect("cargo runs").success(),
            "example {name} does not build"
        );
        let mut process = Command::new(Self::path(name))
            .args(["--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the example starts");
        let mut stdout = BufReader::new(process.stdout.take().expect("it is piped"));
        let mut line = String::new();
        soon(stdout.read_line(&mut line)).await.expect("its output");
        let url = line
            .strip_prefix("listening on ")
            .expect("the line that all examples print");
        Self {
            url: url.trim().to_owned(),
            process,
            stdout,
        }
    }

    /// Beside the directory of this test's own program.
    fn path(name: &str) -> PathBuf {
        let mut path = std::env::current_exe().expect("this program");
        path.pop();
        path.pop();
        path.join("examples").join(name)
    }

    /// Sends a signal, and expects the orderly end: what it printed since.
    pub(crate) async fn stop(mut self, signal: &str) -> String {
        let id = self.process.id().expect("it runs");
        let kill = program("sh")
            .args(["-c", &format!("kill -{signal} {id}")])
            .status()
            .await;
        assert!(kill.expect("sh runs").success());
        let mut rest = String::new();
        soon(self.stdout.read_to_string(&mut rest))
            .await
            .expect("its output");
        let status = soon(self.process.wait()).await.expect("it ends");
        assert!(status.success(), "{status}");
        rest
    }
}
