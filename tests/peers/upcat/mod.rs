//! `examples/upcat.rs` with our own echo, and with servers and proxies that nobody here wrote.

mod echo;
mod node;
mod squid;
mod websockets;

use crate::support::{build::build, soon, text};
use std::{path::PathBuf, process::Stdio};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    net::{TcpListener, TcpStream},
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
    sync::OnceCell,
    task::JoinSet,
};

/// upcat as a process.
struct Upcat {
    process: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
    stderr: ChildStderr,
}

impl Upcat {
    async fn start(args: &[&str]) -> Self {
        // Once is enough: there are many.
        static UPCAT: OnceCell<PathBuf> = OnceCell::const_new();
        let upcat = UPCAT.get_or_init(|| build("upcat", &["client"])).await;
        let mut process = Command::new(upcat)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("upcat starts");
        Self {
            stdin: process.stdin.take().expect("it is piped"),
            stdout: process.stdout.take().expect("it is piped"),
            stderr: process.stderr.take().expect("it is piped"),
            process,
        }
    }

    /// What it prints next is this.
    async fn expect(&mut self, printed: impl AsRef<[u8]>) {
        self.exchange(&[], printed.as_ref()).await;
    }

    /// Types, and what it prints next is the same.
    async fn expect_echo(&mut self, typed: impl AsRef<[u8]>) {
        self.exchange(typed.as_ref(), typed.as_ref()).await;
    }

    /// Types, and what it prints next is this.
    async fn exchange(&mut self, typed: &[u8], printed: &[u8]) {
        let mut output = vec![0; printed.len()];
        let exchange = async {
            tokio::try_join!(
                self.stdin.write_all(typed),
                self.stdout.read_exact(&mut output),
            )
        };
        if let Err(error) = soon(exchange).await {
            let mut complaints = String::new();
            let _ = soon(self.stderr.read_to_string(&mut complaints)).await;
            panic!("{error}: {complaints}");
        }
        assert_same(&output, printed);
    }

    /// Types the last, with the end behind it, and waits for its end.
    async fn finish(self, typed: impl AsRef<[u8]>) -> Ended {
        let Self { mut stdin, .. } = self;
        let typing = async {
            // It may end before it has read this.
            let _ = stdin.write_all(typed.as_ref()).await;
            drop(stdin);
        };
        let listening = end(self.process, self.stdout, self.stderr);
        tokio::join!(typing, listening).1
    }

    /// Waits for its end while its input goes on.
    async fn ended(self) -> Ended {
        end(self.process, self.stdout, self.stderr).await
    }
}

async fn end(mut process: Child, mut stdout: ChildStdout, mut stderr: ChildStderr) -> Ended {
    let (mut output, mut complaints) = (Vec::new(), String::new());
    let listening = async {
        tokio::try_join!(
            stdout.read_to_end(&mut output),
            stderr.read_to_string(&mut complaints),
        )?;
        process.wait().await
    };
    let status = soon(listening).await.expect("its output and its end");
    Ended {
        code: status.code(),
        output,
        complaints,
    }
}

/// Runs upcat with this input.
async fn upcat(args: &[&str], typed: impl AsRef<[u8]>) -> Ended {
    Upcat::start(args).await.finish(typed).await
}

/// What a run of upcat came to.
struct Ended {
    code: Option<i32>,
    output: Vec<u8>,
    complaints: String,
}

impl Ended {
    /// The session ended in order, and this was printed.
    #[track_caller]
    fn assert_printed(&self, printed: impl AsRef<[u8]>) {
        assert_eq!(self.code, Some(0), "{}", self.complaints);
        assert_eq!(self.complaints, "");
        assert_same(&self.output, printed.as_ref());
    }

    /// There was no session, and this is why.
    #[track_caller]
    fn assert_failed(&self, code: i32, why: &str) {
        assert_eq!(self.code, Some(code), "{why}: {}", self.complaints);
        assert!(self.complaints.contains(why), "{}", self.complaints);
        assert_eq!(text(&self.output), "");
    }
}

/// What `assert_eq!` says, but of the beginnings only: they may be long.
#[track_caller]
fn assert_same(seen: &[u8], expected: &[u8]) {
    let say = |bytes: &[u8]| {
        let beginning = text(&bytes[..bytes.len().min(200)]);
        format!("{} bytes, {beginning:?}", bytes.len())
    };
    assert!(seen == expected, "{}; not {}", say(seen), say(expected));
}

/// A server in another language, as a process on a port of its own.
pub(crate) struct Script {
    pub(crate) url: String,
    stdout: Lines<BufReader<ChildStdout>>,
    _process: Child,
}

impl Script {
    /// `command` says first where it listens, as the examples do.
    pub(crate) async fn start(command: &mut Command) -> Self {
        let mut process = command.spawn().expect("the server starts");
        let stdout = process.stdout.take().expect("it is piped");
        let mut server = Self {
            url: String::new(),
            stdout: BufReader::new(stdout).lines(),
            _process: process,
        };
        // Why it does not is on stderr.
        let line = server.says().await.expect("the server listens");
        let url = line.strip_prefix("listening on ").expect("where");
        server.url = url.to_owned();
        server
    }

    pub(crate) async fn says(&mut self) -> Option<String> {
        soon(self.stdout.next_line()).await.expect("its output")
    }

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }
}

/// An echo without HTTP, and where it is.
async fn raw_echo() -> (JoinSet<()>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound").to_string();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut echoes = JoinSet::new();
        while let Ok((io, _)) = listener.accept().await {
            echoes.spawn(say_back(io));
        }
    });
    (tasks, address)
}

/// Its peer may leave as it likes.
async fn say_back(mut io: TcpStream) {
    let (mut reader, mut writer) = io.split();
    if tokio::io::copy(&mut reader, &mut writer).await.is_ok() {
        let _ = writer.shutdown().await;
    }
}

/// Bytes without a pattern, the same each time (xorshift64).
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

/// The line that upcat prints when a proxy refuses the tunnel to the server of `url`.
pub(crate) fn refused_by_proxy(url: &str, status: &str) -> String {
    let uri: http::Uri = url.parse().expect("a URL");
    let target = uri.authority().expect("a host and a port");
    format!("upcat: the proxy refused the tunnel to {target} with {status}\n")
}
