//! `examples/docker_exec` with raw clients, curl and Docker's CLI.

use crate::{
    process::{Example, program},
    support::{Head, Peer, head, soon, text, until},
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, path::Path, process::Stdio};
use tokio::{io::AsyncWriteExt as _, net::TcpStream, process::Command};

const ATTACHED: &str = r#"{"Detach":false,"Tty":false}"#;
const DETACHED: &str = r#"{"Detach":true}"#;
const UPGRADE: &[&str] = &["Connection: Upgrade", "Upgrade: tcp"];
const STDOUT: u8 = 1;
const STDERR: u8 = 2;

async fn engine() -> Example {
    let allow = ["cat", "sh", "/does/not/exist"];
    let args = allow.map(|program| ["--allow", program]).concat();
    Example::start_with("docker_exec", &["axum"], &args).await
}

fn post(path: &str, lines: &[&str], body: &str) -> String {
    let start = format!("POST {path} HTTP/1.1");
    let length = format!("Content-Length: {}", body.len());
    let json = "Content-Type: application/json";
    head(&[&[&start, "Host: test", &length, json], lines].concat()) + body
}

async fn send_request(server: &Example, request: String) -> (Head, String) {
    let mut peer = server.connect().await;
    peer.send(request).await;
    peer.response().await
}

/// Creates an exec with all streams attached, and returns its id.
async fn create(server: &Example, tty: bool, command: &[&str]) -> String {
    create_with(server, tty, true, command).await
}

async fn create_with(server: &Example, tty: bool, stdin: bool, command: &[&str]) -> String {
    let config = json!({
        "Cmd": command, "Tty": tty,
        "AttachStdin": stdin, "AttachStdout": true, "AttachStderr": true,
    });
    let request = post("/containers/demo/exec", &[], &config.to_string());
    let (head, body) = send_request(server, request).await;
    assert_eq!(head.status, 201, "{body}");
    let body: Value = serde_json::from_str(&body).expect("JSON");
    body["Id"].as_str().expect("an id").to_owned()
}

fn start(id: &str, lines: &[&str], body: &str) -> String {
    post(&format!("/exec/{id}/start"), lines, body)
}

/// Starts an exec, with `input` as early data in the segment of the request.
async fn attach(server: &Example, id: &str, input: &str) -> (Head, Peer<TcpStream>) {
    let mut peer = server.connect().await;
    peer.send(start(id, UPGRADE, ATTACHED) + input).await;
    let head = peer.head().await;
    head.assert_upgraded("tcp");
    (head, peer)
}

async fn inspect(server: &Example, id: &str) -> Value {
    let get = format!("GET /exec/{id}/json HTTP/1.1");
    let (head, body) = send_request(server, head(&[&get, "Host: test"])).await;
    assert_eq!(head.status, 200, "{body}");
    serde_json::from_str(&body).expect("JSON")
}

/// Waits for the exit code of an exec.
async fn exit_code(server: &Example, id: &str) -> i64 {
    soon(async {
        loop {
            if let Some(code) = inspect(server, id).await["ExitCode"].as_i64() {
                return code;
            }
        }
    })
    .await
}

/// Reads the next frame.
async fn frame(peer: &mut Peer<TcpStream>) -> (u8, String) {
    let header = peer.exactly(8).await;
    assert_eq!(header[1..4], [0; 3]);
    let length = u32::from_be_bytes(header[4..].try_into().expect("four bytes"));
    (header[0], text(&peer.exactly(length as usize).await))
}

/// Reads all frames to EOF, and joins them by stream.
async fn streams(peer: &mut Peer<TcpStream>) -> BTreeMap<u8, String> {
    let bytes = peer.rest().await.expect("an orderly end");
    let (mut streams, mut rest) = (BTreeMap::<u8, String>::new(), &*bytes);
    while let Some((header, after)) = rest.split_first_chunk::<8>() {
        let [stream, 0, 0, 0, length @ ..] = *header else {
            panic!("not a frame: {header:?}");
        };
        let (content, after) = after.split_at(u32::from_be_bytes(length) as usize);
        *streams.entry(stream).or_default() += &text(content);
        rest = after;
    }
    assert!(rest.is_empty(), "{rest:?}");
    streams
}

#[tokio::test]
async fn half_close_before_the_response_ends_the_input() {
    let server = engine().await;
    let script = "cat; echo done; exit 3";
    // Repeat the empty input: without hyper's `half_close` the result depends on when the server reads EOF. After other
    // input it reads EOF only after the response.
    for input in ["hello\n", "", "", "", "", "", "", "", "", "", ""] {
        let id = create(&server, false, &["sh", "-c", script]).await;
        let mut peer = server.connect().await;
        peer.send(start(&id, UPGRADE, ATTACHED) + input).await;
        peer.finish().await;
        let head = peer.head().await;
        head.assert_upgraded("tcp");
        let multiplexed = "application/vnd.docker.multiplexed-stream";
        assert_eq!(head.get("content-type").as_deref(), Some(multiplexed));
        let expected = BTreeMap::from([(STDOUT, format!("{input}done\n"))]);
        assert_eq!(streams(&mut peer).await, expected);
        // The exit code is available before the client reads EOF.
        let exec = inspect(&server, &id).await;
        assert_eq!(
            (&exec["Running"], &exec["ExitCode"]),
            (&json!(false), &json!(3))
        );
    }
}

#[tokio::test]
async fn output_continues_after_a_half_close() {
    let server = engine().await;
    // More than pipes and socket buffers hold.
    let script = "echo ready; cat >/dev/null; head -c 8000000 /dev/zero; echo end >&2";
    let id = create(&server, false, &["sh", "-c", script]).await;
    let (_, mut peer) = attach(&server, &id, "").await;
    assert_eq!(frame(&mut peer).await, (STDOUT, "ready\n".to_owned()));
    peer.send("hello").await;
    peer.finish().await;
    let streams = streams(&mut peer).await;
    assert_eq!(streams[&STDOUT].len(), 8_000_000);
    assert_eq!(streams[&STDERR], "end\n");
    assert_eq!(exit_code(&server, &id).await, 0);
}

#[tokio::test]
async fn output_frames_name_their_stream() {
    let server = engine().await;
    let id = create(&server, false, &["sh", "-c", "echo out; echo err >&2"]).await;
    let (_, mut peer) = attach(&server, &id, "").await;
    let expected =
        [(STDOUT, "out\n"), (STDERR, "err\n")].map(|(id, output)| (id, output.to_owned()));
    assert_eq!(streams(&mut peer).await, BTreeMap::from(expected));
}

#[tokio::test]
async fn exit_ends_the_session_despite_background_jobs() {
    let server = engine().await;
    // The background job keeps the output pipes open, and the client does not close its side.
    let id = create(
        &server,
        false,
        &["sh", "-c", "exec <&-; sleep 1000 & echo $!; exit 4"],
    )
    .await;
    let (_, mut peer) = attach(&server, &id, "unread input").await;
    let job = streams(&mut peer)
        .await
        .remove(&STDOUT)
        .expect("a process id");
    assert_eq!(exit_code(&server, &id).await, 4);
    ended(&job).await;
}

#[tokio::test]
async fn terminal_is_raw_resizable_and_ends_at_half_close() {
    let server = engine().await;
    let script = "test -t 0 && test -t 1 && test -t 2 && read line && stty size && cat";
    let id = create(&server, true, &["sh", "-c", script]).await;
    let (head, mut peer) = attach(&server, &id, "").await;
    let raw = "application/vnd.docker.raw-stream";
    assert_eq!(head.get("content-type").as_deref(), Some(raw));
    let resize = post(&format!("/exec/{id}/resize?h=50&w=132"), &[], "");
    assert_eq!(send_request(&server, resize).await.0.status, 200);
    peer.send("\n").await;
    // The terminal echoes its input.
    assert_eq!(text(&peer.exactly(10).await), "\r\n50 132\r\n");
    peer.send("hello\n").await;
    assert_eq!(text(&peer.exactly(14).await), "hello\r\nhello\r\n");
    peer.finish().await;
    peer.rest().await.expect("an orderly end");
    assert_eq!(exit_code(&server, &id).await, 0);
}

#[tokio::test]
async fn detached_exec_runs_without_an_upgrade() {
    let server = engine().await;
    // Some clients offer h2c with their first request.
    for lines in [&[][..], &["Connection: Upgrade", "Upgrade: h2c"], UPGRADE] {
        let id = create(&server, false, &["sh", "-c", "exit 7"]).await;
        assert_eq!(inspect(&server, &id).await["Running"], json!(false));
        let (head, body) = send_request(&server, start(&id, lines, DETACHED)).await;
        assert_eq!((head.status, &*body), (200, ""));
        head.assert_no_handshake();
        assert_eq!(exit_code(&server, &id).await, 7);
    }
}

#[tokio::test]
async fn failures_are_reported_before_the_101() {
    let server = engine().await;
    let id = create(&server, false, &["cat"]).await;
    let missing = create(&server, false, &["/does/not/exist"]).await;
    let command = |program: &str| json!({ "Cmd": [program] }).to_string();
    let exec = "/containers/demo/exec";
    let page = [UPGRADE, &["Origin: http://evil.test"]].concat();
    let http2 = ["Connection: Upgrade", "Upgrade: h2c"];
    for (request, status, message) in [
        (
            start("1000", UPGRADE, ATTACHED),
            404,
            "No such exec instance: 1000",
        ),
        (start("x", &[], DETACHED), 404, "No such exec instance: x"),
        (start(&id, UPGRADE, "{"), 400, "EOF while parsing"),
        (start(&id, &[], ATTACHED), 426, "`Upgrade: tcp`"),
        (start(&id, &http2, ATTACHED), 426, "`Upgrade: tcp`"),
        (start(&id, &page, ATTACHED), 403, "web pages"),
        (
            start(&missing, UPGRADE, ATTACHED),
            400,
            "cannot start the command",
        ),
        (
            post(&format!("/exec/{id}/resize?h=1&w=1"), &[], ""),
            409,
            "no terminal",
        ),
        (
            post("/containers/other/exec", &[], &command("cat")),
            404,
            "No such container: other",
        ),
        (post(exec, &[], &command("ls")), 403, "ls is not allowed"),
        (post(exec, &[], "{}"), 400, "no command"),
        (post("/images/create", &[], ""), 404, "page not found"),
    ] {
        let (head, body) = send_request(&server, request.clone()).await;
        assert_eq!(head.status, status, "{request}: {body}");
        assert!(body.contains(message), "{request}: {body}");
        if status != 426 {
            head.assert_no_handshake();
        }
    }
    // The failures have not started the exec. An exec can be started only once.
    let (_, mut peer) = attach(&server, &id, "").await;
    let again = start(&id, UPGRADE, ATTACHED);
    assert_eq!(send_request(&server, again.clone()).await.0.status, 409);
    peer.finish().await;
    peer.expect_end().await;
    assert_eq!(send_request(&server, again).await.0.status, 409);
}

/// A command with a child process. Neither exits.
const ENDLESS: &[&str] = &["sh", "-c", "sleep 1000 & echo $$ $!; wait"];

async fn endless(server: &Example, stdin: bool) -> (String, String, Peer<TcpStream>) {
    let id = create_with(server, false, stdin, ENDLESS).await;
    let (_, mut peer) = attach(server, &id, "").await;
    let (_, processes) = frame(&mut peer).await;
    (id, processes, peer)
}

/// Waits until processes have exited and are reaped.
async fn ended(ids: &str) {
    for id in ids.split_whitespace() {
        let process = Path::new("/proc").join(id);
        until(|| !process.exists()).await;
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn client_reset_kills_the_processes() {
    let server = engine().await;
    for stdin in [true, false] {
        let (id, processes, peer) = endless(&server, stdin).await;
        assert_eq!(inspect(&server, &id).await["Running"], json!(true));
        peer.io.set_zero_linger().expect("a socket");
        drop(peer);
        assert_eq!(exit_code(&server, &id).await, 137);
        ended(&processes).await;
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn server_shutdown_kills_the_processes() {
    let server = engine().await;
    let (_, processes, mut peer) = endless(&server, true).await;
    server.stop("TERM").await;
    peer.expect_end().await;
    ended(&processes).await;
}

#[tokio::test]
async fn non_loopback_listen_address_is_refused() {
    let program = crate::support::build::build("docker_exec", &["axum"]).await;
    let args = ["--allow", "cat", "--listen", "0.0.0.0:0"];
    let output = soon(Command::new(program).args(args).output()).await;
    let output = output.expect("the example runs");
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("loopback addresses only"));
}

#[tokio::test]
async fn curl_starts_execs_with_and_without_an_upgrade() {
    let server = engine().await;
    let curl = async |url: String, args: &[&str]| {
        let mut curl = program("curl", "curl");
        curl.args(["--silent", "--include", "--no-buffer", "--noproxy", "*"]);
        curl.args(args).arg(url);
        let output = soon(curl.output()).await.expect("curl runs");
        assert!(output.status.success(), "{}", output.status);
        text(&output.stdout)
    };
    let url = |id: &str| format!("{}/exec/{id}/start", server.url);
    let id = create(&server, false, &["sh", "-c", "echo hello"]).await;
    let upgrade = [
        "--header",
        "Connection: Upgrade",
        "--header",
        "Upgrade: tcp",
    ];
    let attached = [&upgrade[..], &["--output", "-", "--json", ATTACHED]].concat();
    let seen = curl(url(&id), &attached).await;
    assert!(seen.starts_with("HTTP/1.1 101 "), "{seen}");
    assert!(
        seen.ends_with("\r\n\r\n\u{1}\0\0\0\0\0\0\u{6}hello\n"),
        "{seen}"
    );
    let id = create(&server, false, &["sh", "-c", "exit 5"]).await;
    let seen = curl(url(&id), &["--json", DETACHED]).await;
    assert!(seen.starts_with("HTTP/1.1 200 "), "{seen}");
    assert_eq!(exit_code(&server, &id).await, 5);
}

/// Runs `docker exec` with `input`. Returns its exit code, stdout and stderr.
async fn docker_exec(server: &Example, args: &[&str], input: &[u8]) -> (i32, Vec<u8>, String) {
    let mut docker = program("docker", "docker-cli")
        .arg("exec")
        .args(args)
        .env("DOCKER_HOST", format!("tcp://{}", server.address()))
        .env_remove("DOCKER_CONTEXT")
        .env_remove("DOCKER_TLS_VERIFY")
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("docker starts");
    let mut stdin = docker.stdin.take().expect("a pipe");
    let write = async {
        // A command that does not read its input may have exited.
        let _ = stdin.write_all(input).await;
        drop(stdin);
    };
    let (output, ()) = soon(async { tokio::join!(docker.wait_with_output(), write) }).await;
    let output = output.expect("docker runs");
    let code = output.status.code().expect("no signal");
    (code, output.stdout, text(&output.stderr))
}

#[tokio::test]
async fn docker_runs_commands() {
    if std::process::Command::new("docker")
        .arg("--version")
        .output()
        .is_err()
    {
        eprintln!("SKIPPED: `docker` is not installed: on Debian, `apt-get install docker-cli`");
        return;
    }
    let server = engine().await;
    let input = vec![b'x'; 4_000_000];
    let (code, output, stderr) = docker_exec(&server, &["-i", "demo", "cat"], &input).await;
    assert_eq!((code, &*stderr), (0, ""));
    assert!(output == input, "{} bytes", output.len());

    let script = "echo out; echo err >&2; exit 3";
    let (code, output, stderr) = docker_exec(&server, &["demo", "sh", "-c", script], b"").await;
    assert_eq!((code, &*text(&output), &*stderr), (3, "out\n", "err\n"));

    let (code, output, stderr) = docker_exec(
        &server,
        &["-t", "demo", "sh", "-c", "test -t 1 && echo hello"],
        b"",
    )
    .await;
    assert_eq!((code, &*text(&output), &*stderr), (0, "hello\r\n", ""));

    let (code, _, stderr) = docker_exec(&server, &["-d", "demo", "sh", "-c", "exit 1"], b"").await;
    assert_eq!((code, &*stderr), (0, ""));

    let (code, _, stderr) = docker_exec(&server, &["other", "cat"], b"").await;
    assert_eq!(code, 1);
    assert!(stderr.contains("No such container: other"), "{stderr}");
}
