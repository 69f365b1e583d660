//! upcat through Squid.
//!
//! When a client shuts down its write side, Squid closes the whole tunnel and discards bytes in flight. These tests
//! therefore keep the input of upcat open until it has printed all output.

use super::{Upcat, noise, raw_echo, upcat};
use crate::{
    process::{Example, program},
    support::soon,
};
use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::Stdio,
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::{TcpSocket, TcpStream},
    process::{Child, ChildStderr},
};

/// A running Squid.
struct Squid {
    port: u16,
    url: String,
    name: String,
    directory: PathBuf,
    process: Child,
    stderr: BufReader<ChildStderr>,
}

impl Squid {
    /// Starts Squid with `rules`, and with settings that isolate it from the system and from other instances.
    async fn start(rules: &str) -> Self {
        // Retry with another port: Squid supports neither port 0 nor an inherited socket, and another process may take
        // a free port.
        let mut log = String::new();
        for _ in 0..10 {
            let mut squid = Self::spawn(rules);
            match soon(squid.listens()).await {
                Ok(()) => return squid,
                Err(stderr) => log = stderr,
            }
            if !log.contains("Unable to open HTTP Socket") {
                break;
            }
        }
        panic!("squid does not start: {log}");
    }

    fn spawn(rules: &str) -> Self {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|listener| listener.local_addr())
            .expect("loopback")
            .port();
        let name = format!("upcat{port}");
        let directory = std::env::temp_dir().join(format!("tower-upgrade-{name}"));
        fs::create_dir_all(&directory).expect("a directory for temporary files");
        // Squid drops the privileges of root, and still has to read the directory.
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&directory, mode).expect("a directory of this test");
        let passwords = directory.join("passwords");
        fs::write(&passwords, PASSWORD_FILE).expect("a file");

        let config = format!(
            "http_port 127.0.0.1:{port}
visible_hostname squid.test
pid_filename none
cache_log /dev/null
access_log none
netdb_filename none
coredump_dir {directory}
pinger_enable off
# The tests resolve no names.
dns_nameservers 127.0.0.1
{rules}
",
            directory = directory.display(),
            rules = rules.replace("PASSWORDS", &passwords.display().to_string()),
        );
        let file = directory.join("squid.conf");
        fs::write(&file, config).expect("a file");

        // Run in the foreground, with the log on stderr. The shared memory is named after the instance.
        let mut process = program("squid", "squid")
            .args(["-N", "-d", "1", "-n", &name, "-f"])
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("squid starts");
        Self {
            port,
            url: format!("http://127.0.0.1:{port}"),
            name,
            directory,
            stderr: BufReader::new(process.stderr.take().expect("a pipe")),
            process,
        }
    }

    /// Waits until Squid listens. Before its log confirms it, another program may listen on the port.
    async fn listens(&mut self) -> Result<(), String> {
        let mut log = String::new();
        while self
            .stderr
            .read_line(&mut log)
            .await
            .expect("a readable log")
            > 0
        {
            if log.contains("Accepting HTTP Socket connections") {
                // Squid has bound the port, and listens a moment later.
                while TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
                    tokio::task::yield_now().await;
                }
                return Ok(());
            }
        }
        Err(log)
    }
}

impl Drop for Squid {
    fn drop(&mut self) {
        // A killed Squid does not remove its shared memory.
        let _ = self.process.start_kill();
        for segment in ["metadata", "queues", "readers"] {
            let name = format!("/dev/shm/{}-cf__{segment}.shm", self.name);
            let _ = fs::remove_file(name);
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

const ALL: &str = "http_access allow all";

/// The passwords for `basic_ncsa_auth`, as `openssl passwd -apr1 -salt tunnels1 secret` prints them.
const PASSWORD_FILE: &str = "ann:$apr1$tunnels1$PdTFXIX0CindW6JRX.3ua/\n";

/// `ann`, with the password `secret`.
const ANN: &str = "Basic YW5uOnNlY3JldA==";

/// `ann`, with the password `guess`.
const WRONG_PASSWORD: &str = "Basic YW5uOmd1ZXNz";

#[tokio::test]
async fn upcat_connects_through_squid() {
    let (mut tasks, target) = raw_echo().await;
    let squid = Squid::start(ALL).await;
    let mut upcat = Upcat::start(&["--connect", &target, &squid.url]).await;
    upcat.expect_echo("hello").await;
    upcat.expect_echo(noise(3_000_001)).await;
    // The target closes the tunnel.
    tasks.shutdown().await;
    upcat.ended().await.assert_printed("");
}

#[tokio::test]
async fn upcat_upgrades_through_squid() {
    let sent = noise(1_000_001);
    let squid = Squid::start(ALL).await;
    for (args, versions) in [
        (&[][..], ["--http1.1", "--http2"]),
        (&["--tls"], ["--http1.1", "--http2"]),
    ] {
        let server = Example::start("echo", args).await;
        let mut sessions = Vec::new();
        for version in versions {
            let through = ["--proxy", &squid.url, "--insecure", version, &server.url];
            let mut upcat = Upcat::start(&[&["--protocol", "echo"], &through[..]].concat()).await;
            upcat.expect_echo(&sent).await;
            sessions.push(upcat);
        }
        server.stop("TERM").await;
        for upcat in sessions {
            upcat.ended().await.assert_printed("");
        }
    }
}

#[tokio::test]
async fn upcat_prints_the_refusal_of_squid() {
    let (_tasks, target) = raw_echo().await;
    // A bound port without a listener.
    let refuses = TcpSocket::new_v4().expect("a socket");
    let any = "127.0.0.1:0".parse().expect("an address");
    refuses.bind(any).expect("loopback");
    let unused = refuses.local_addr().expect("bound");

    let rules = format!(
        "acl unused port {}\nhttp_access allow unused",
        unused.port()
    );
    let squid = Squid::start(&rules).await;
    for (target, status, why) in [
        (target, "403 Forbidden", "ERR_ACCESS_DENIED"),
        (
            unused.to_string(),
            "503 Service Unavailable",
            "ERR_CONNECT_FAIL",
        ),
    ] {
        let server = format!("http://{target}/");
        for (refuser, args) in [
            ("", &["--connect", &target, &squid.url][..]),
            (
                "the proxy ",
                &["--proxy", &squid.url, "--protocol", "echo", &server],
            ),
        ] {
            let ended = upcat(args, "unread").await;
            ended.assert_failed(4, &format!("upcat: {refuser}refused with {status}\n"));
            assert!(ended.stderr.contains(why), "{}", ended.stderr);
        }
    }
}

#[tokio::test]
async fn upcat_authenticates_to_squid() {
    let rules = "auth_param basic program /usr/lib/squid/basic_ncsa_auth PASSWORDS
auth_param basic realm tunnels
acl known proxy_auth REQUIRED
http_access allow known";
    let squid = Squid::start(rules).await;
    let server = Example::start("echo", &[]).await;
    let through = ["--proxy", &squid.url, "--protocol", "echo", &server.url];
    for credentials in [&[][..], &["--proxy-auth", WRONG_PASSWORD]] {
        let ended = upcat(&[&through, credentials].concat(), "unread").await;
        ended.assert_failed(
            4,
            "upcat: the proxy refused with 407 Proxy Authentication Required\n",
        );
        let challenge = "\nproxy-authenticate: Basic realm=\"tunnels\"\n";
        assert!(ended.stderr.contains(challenge), "{}", ended.stderr);
    }

    // The password in the URL is percent-encoded (RFC 3986 §2.1).
    let squid_of = |user: &str| squid.url.replace("http://", &format!("http://{user}@"));
    let ann = squid_of("ann:secr%65t");
    let in_url = ["--proxy", &ann, "--protocol", "echo", &server.url];
    let mut upcat = Upcat::start(&in_url).await;
    upcat.expect_echo("hello").await;
    drop(upcat);
    let guess = squid_of("ann:guess");
    let ended = crate::upcat::upcat(
        &["--proxy", &guess, "--protocol", "echo", &server.url],
        "unread",
    )
    .await;
    ended.assert_failed(4, "upcat: the proxy refused with 407");

    let mut upcat = Upcat::start(&[&through[..], &["--proxy-auth", ANN]].concat()).await;
    upcat.expect_echo("hello").await;
    server.stop("TERM").await;
    upcat.ended().await.assert_printed("");
}
