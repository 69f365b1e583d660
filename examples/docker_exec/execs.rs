//! The registry of execs, and their processes.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use futures_util::future::try_join_all;
use rustix::{
    io::Errno,
    process::{Pid, Signal, kill_process_group},
};
use serde::Deserialize;
use serde_json::json;
use std::{
    collections::BTreeMap,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::process::ExitStatusExt as _,
    },
    pin::pin,
    process::Stdio,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{
    io::{self, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    process::{Child, Command},
};
use tower_upgrade::{BoxError, Rejection, Session, copy};

const MAX_EXECS: usize = 1000;

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Config {
    cmd: Vec<String>,
    tty: bool,
    attach_stdin: bool,
    attach_stdout: bool,
    attach_stderr: bool,
}

#[derive(Clone)]
pub(crate) struct Engine {
    allow: Arc<[String]>,
    execs: Arc<Mutex<BTreeMap<u64, Exec>>>,
}

pub(crate) struct Exec {
    config: Config,
    pub(crate) phase: Phase,
}

pub(crate) enum Phase {
    Created,
    Running { terminal: Option<OwnedFd> },
    Exited(i32),
}

impl Engine {
    pub(crate) fn new(allow: Vec<String>) -> Self {
        Self {
            allow: allow.into(),
            execs: Arc::default(),
        }
    }

    pub(crate) fn execs(&self) -> MutexGuard<'_, BTreeMap<u64, Exec>> {
        self.execs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn create(&self, config: Config) -> Result<u64, Failure> {
        let program = config
            .cmd
            .first()
            .ok_or_else(|| Failure::bad_request("no command"))?;
        if !self.allow.contains(program) {
            return Err(Failure::new(
                StatusCode::FORBIDDEN,
                format!("{program} is not allowed"),
            ));
        }
        let mut execs = self.execs();
        let id = execs.last_key_value().map_or(1, |(last, _)| last + 1);
        if execs.len() >= MAX_EXECS {
            let oldest = execs
                .iter()
                .find(|(_, exec)| !matches!(exec.phase, Phase::Running { .. }));
            let oldest = oldest.map(|(&oldest, _)| oldest);
            let full = || Failure::new(StatusCode::SERVICE_UNAVAILABLE, "too many execs");
            execs.remove(&oldest.ok_or_else(full)?);
        }
        execs.insert(
            id,
            Exec {
                config,
                phase: Phase::Created,
            },
        );
        Ok(id)
    }

    pub(crate) fn spawn(&self, id: &str, detached: bool) -> Result<Process, Failure> {
        let mut execs = self.execs();
        let exec = find(&mut execs, id)?;
        if !matches!(exec.phase, Phase::Created) {
            return Err(Failure::new(
                StatusCode::CONFLICT,
                "the exec has already started",
            ));
        }
        let (process, terminal) = Process::spawn(self, id, &exec.config, detached)
            .map_err(|error| Failure::bad_request(format!("cannot start the command: {error}")))?;
        exec.phase = Phase::Running { terminal };
        Ok(process)
    }
}

pub(crate) fn find<'a>(
    execs: &'a mut BTreeMap<u64, Exec>,
    id: &str,
) -> Result<&'a mut Exec, Failure> {
    let exec = id.parse().ok().and_then(|id: u64| execs.get_mut(&id));
    exec.ok_or_else(|| {
        Failure::new(
            StatusCode::NOT_FOUND,
            format!("No such exec instance: {id}"),
        )
    })
}

/// An error response in Docker's format.
pub(crate) struct Failure(Box<Response>);

impl Failure {
    pub(crate) fn new(status: StatusCode, message: impl ToString) -> Self {
        let message = Json(json!({ "message": message.to_string() }));
        Self(Box::new((status, message).into_response()))
    }

    pub(crate) fn bad_request(error: impl ToString) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error)
    }
}

impl From<Rejection> for Failure {
    fn from(rejection: Rejection) -> Self {
        Self(Box::new(IntoResponse::into_response(rejection)))
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        *self.0
    }
}

/// A running command. Dropping it kills the command and its process group.
pub(crate) struct Process {
    engine: Engine,
    id: String,
    child: Child,
    group: Option<Pid>,
    code: i32,
    pub(crate) is_terminal: bool,
    stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    /// The standard output and the standard error, with their stream numbers in Docker's frames.
    outputs: Vec<(u8, Box<dyn AsyncRead + Send + Unpin>)>,
}

impl Process {
    fn spawn(
        engine: &Engine,
        id: &str,
        config: &Config,
        detached: bool,
    ) -> Result<(Self, Option<OwnedFd>), BoxError> {
        let (program, args) = config.cmd.split_first().ok_or("no command")?;
        let stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>;
        let mut outputs: Vec<(u8, Box<dyn AsyncRead + Send + Unpin>)> = Vec::new();
        let mut terminal = None;
        let is_terminal = config.tty && !detached;
        let child = if is_terminal {
            let (pty, pts) = pty_process::open()?;
            let command = pty_process::Command::new(program)
                .args(args)
                .env("TERM", "xterm");
            let child = command.kill_on_drop(true).spawn(pts)?;
            terminal = Some(pty.as_fd().try_clone_to_owned()?);
            let (reader, writer) = pty.into_split();
            outputs.push((1, Box::new(reader)));
            stdin = Some(Box::new(writer));
            child
        } else {
            let pipe = |attach| match attach && !detached {
                true => Stdio::piped(),
                false => Stdio::null(),
            };
            let mut child = Command::new(program)
                .args(args)
                .stdin(pipe(config.attach_stdin))
                .stdout(pipe(config.attach_stdout))
                .stderr(pipe(config.attach_stderr))
                .process_group(0)
                .kill_on_drop(true)
                .spawn()?;
            stdin = child.stdin.take().map(|stdin| Box::new(stdin) as _);
            outputs.extend(child.stdout.take().map(|stdout| (1, Box::new(stdout) as _)));
            outputs.extend(child.stderr.take().map(|stderr| (2, Box::new(stderr) as _)));
            child
        };
        let process = Self {
            engine: engine.clone(),
            id: id.to_owned(),
            group: child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?)),
            child,
            code: 128 + Signal::KILL.as_raw(),
            is_terminal,
            stdin,
            outputs,
        };
        Ok((process, terminal))
    }

    /// Connects the process to its client until the process exits, the client disconnects, or the server stops.
    pub(crate) async fn attach(mut self, session: Session) -> Result<(), BoxError> {
        let stop = session.stop();
        let (mut from_client, to_client) = tokio::io::split(session.into_io());
        let (is_terminal, stdin) = (self.is_terminal, self.stdin.take());
        let input = async {
            let mut stdin = stdin.unwrap_or_else(|| Box::new(io::sink()));
            match copy(&mut from_client, &mut stdin).await {
                // The process has closed its input. It may still write, and the client may still disconnect.
                Err(error) if is_closed(&error) => copy(&mut from_client, &mut io::sink()).await?,
                copied => copied?,
            };
            if is_terminal {
                // A terminal has no half-close: send Ctrl-D instead.
                let _ = stdin.write_all(b"\x04").await;
            }
            drop(stdin);
            // The process may run on after the end of its input.
            std::future::pending::<io::Result<()>>().await
        };
        let to_client = tokio::sync::Mutex::new(to_client);
        let outputs = std::mem::take(&mut self.outputs).into_iter();
        let output = try_join_all(
            outputs
                .map(|(stream, from)| forward(from, (!is_terminal).then_some(stream), &to_client)),
        );
        let run = async {
            let mut output = pin!(output);
            tokio::select! {
                sent = &mut output => drop(sent?),
                exited = self.wait() => {
                    exited?;
                    drop(output.await?);
                }
            }
            self.wait().await
        };
        tokio::select! {
            ended = run => ended?,
            failed = input => failed?,
            () = stop => {}
        }
        Ok(())
    }

    /// Waits for the exit, then kills the rest of the process group, since a background job may hold the outputs open.
    pub(crate) async fn wait(&mut self) -> io::Result<()> {
        let status = self.child.wait().await?;
        self.code = status
            .code()
            .unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        self.kill_group();
        Ok(())
    }

    fn kill_group(&mut self) {
        // Once: the system may reuse the id for another group. An error means that the group has already ended.
        if let Some(group) = self.group.take() {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill_group();
        if let Ok(exec) = find(&mut self.engine.execs(), &self.id) {
            exec.phase = Phase::Exited(self.code);
        }
    }
}

/// Returns whether the other side of a pipe is closed, or on Linux that of a terminal.
fn is_closed(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
        || error.raw_os_error() == Some(Errno::IO.raw_os_error())
}

/// Sends an output to the client, raw or in frames: stream number, three zeros, length, data.
async fn forward<R, W>(
    mut from: R,
    stream: Option<u8>,
    client: &tokio::sync::Mutex<W>,
) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    const HEADER: usize = 8;
    let mut frame = vec![0; HEADER + 16 * 1024];
    loop {
        let length = match from.read(&mut frame[HEADER..]).await {
            Ok(0) => return Ok(()),
            Err(error) if is_closed(&error) => return Ok(()),
            read => read?,
        };
        let start = match stream {
            Some(stream) => {
                frame[0] = stream;
                frame[4..HEADER].copy_from_slice(&(length as u32).to_be_bytes());
                0
            }
            None => HEADER,
        };
        let mut client = client.lock().await;
        client.write_all(&frame[start..HEADER + length]).await?;
    }
}
