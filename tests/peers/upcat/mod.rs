//! `examples/upcat` with `examples/echo.rs`, and with other servers and proxies.

mod echo;
mod node;
mod python_websockets;
mod squid;
mod udp;

use crate::support::{build::build, soon, text};
use std::{path::PathBuf, process::Stdio};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
    sync::OnceCell,
    task::JoinSet,
};

/// A running upcat.
struct Upcat {
    process: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
    stderr: ChildStderr,
}

impl Upcat {
    async fn start(args: &[&str]) -> Self {
        // Build once for all tests.
        static UPCAT: OnceCell<PathBuf> = OnceCell::const_new();
        let upcat = UPCAT.get_or_init(|| build("upcat", &["datagram"])).await;
        let mut process = Command::new(upcat)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("upcat starts");
        Self {
            stdin: process.stdin.take().expect("a pipe"),
            stdout: process.stdout.take().expect("a pipe"),
            stderr: process.stderr.take().expect("a pipe"),
            process,
        }
    }

    /// Expects the next output.
    async fn expect(&mut self, printed: impl AsRef<[u8]>) {
        self.exchange(&[], printed.as_ref()).await;
    }

    /// Writes to its input, and expects the same bytes as its next output.
    async fn expect_echo(&mut self, input: impl AsRef<[u8]>) {
        self.exchange(input.as_ref(), input.as_ref()).await;
    }

    /// Writes to its input, and expects its next output.
    async fn exchange(&mut self, input: &[u8], printed: &[u8]) {
        let mut output = vec![0; printed.len()];
        let exchange = async {
            tokio::try_join!(
                self.stdin.write_all(input),
                self.stdout.read_exact(&mut output),
            )
        };
        if let Err(error) = soon(exchange).await {
            let mut stderr = String::new();
            let _ = soon(self.stderr.read_to_string(&mut stderr)).await;
            panic!("{error}: {stderr}");
        }
        assert_same(&output, printed);
    }

    /// Writes the end of its input, and waits for its exit.
    async fn finish(self, input: impl AsRef<[u8]>) -> Ended {
        let Self { mut stdin, .. } = self;
        let writing = async {
            // upcat may exit before it has read all of its input.
            let _ = stdin.write_all(input.as_ref()).await;
            drop(stdin);
        };
        let reading = end(self.process, self.stdout, self.stderr);
        tokio::join!(writing, reading).1
    }

    /// Waits for its exit with its input open.
    async fn ended(self) -> Ended {
        end(self.process, self.stdout, self.stderr).await
    }
}

async fn end(mut process: Child, mut stdout: ChildStdout, stderr: ChildStderr) -> Ended {
    let (mut pipe, mut output, mut stderr) = (stderr, Vec::new(), String::new());
    let reading = async {
        tokio::try_join!(
            stdout.read_to_end(&mut output),
            pipe.read_to_string(&mut stderr),
        )?;
        process.wait().await
    };
    let status = soon(reading).await.expect("output and an exit status");
    Ended {
        code: status.code(),
        output,
        stderr,
    }
}

/// Runs upcat with `input`.
async fn upcat(args: &[&str], input: impl AsRef<[u8]>) -> Ended {
    Upcat::start(args).await.finish(input).await
}

/// The exit code and output of upcat.
struct Ended {
    code: Option<i32>,
    output: Vec<u8>,
    stderr: String,
}

impl Ended {
    /// Asserts success and the output.
    #[track_caller]
    fn assert_printed(&self, printed: impl AsRef<[u8]>) {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        assert_eq!(self.stderr, "");
        assert_same(&self.output, printed.as_ref());
    }

    /// Asserts the exit code and the reason on stderr.
    #[track_caller]
    fn assert_failed(&self, code: i32, why: &str) {
        assert_eq!(self.code, Some(code), "{why}: {}", self.stderr);
        assert!(self.stderr.contains(why), "{}", self.stderr);
        assert_eq!(text(&self.output), "");
    }
}

/// `assert_eq!` for long bytes: the message shows only their beginnings.
#[track_caller]
fn assert_same(seen: &[u8], expected: &[u8]) {
    let describe = |bytes: &[u8]| {
        let beginning = text(&bytes[..bytes.len().min(200)]);
        format!("{} bytes, {beginning:?}", bytes.len())
    };
    assert!(
        seen == expected,
        "{}; not {}",
        describe(seen),
        describe(expected)
    );
}

/// Starts an echo without HTTP. Returns its tasks and its address.
async fn raw_echo() -> (JoinSet<()>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound").to_string();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut echoes = JoinSet::new();
        while let Ok((io, _)) = listener.accept().await {
            echoes.spawn(echo_bytes(io));
        }
    });
    (tasks, address)
}

async fn echo_bytes(mut io: TcpStream) {
    let (mut reader, mut writer) = io.split();
    if tokio::io::copy(&mut reader, &mut writer).await.is_ok() {
        let _ = writer.shutdown().await;
    }
}

/// Returns reproducible pseudo-random bytes (xorshift64).
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    next.flatten().take(length).collect()
}
