//! Squid as a proxy.
//!
//! When a client shuts its side down Squid ends the whole tunnel, with what is on its way back. So here
//! upcat's input stays open until it has seen all.

use super::{Upcat, noise, raw_echo, upcat};
use crate::{
    example::{Example, program},
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

/// Squid as a process.
struct Squid {
    port: u16,
    url: String,
    name: String,
    directory: PathBuf,
    process: Child,
    stderr: BufReader<ChildStderr>,
}

impl Squid {
    /// `rules` say what it does, beside the settings that keep it apart from the system and from other
    /// Squids.
    async fn start(rules: &str) -> Self {
        // It takes no port 0, and no open socket. Somebody may be faster with a free one.
        let mut said = String::new();
        for _ in 0..10 {
            let mut squid = Self::spawn(rules);
            match soon(squid.listens()).await {
                Ok(()) => return squid,
                Err(complaints) => said = complaints,
            }
            if !said.contains("Unable to open HTTP Socket") {
                break;
            }
        }
        panic!("squid does not start: {said}");
    }

    fn spawn(rules: &str) -> Self {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|listener| listener.local_addr())
            .expect("loopback")
            .port();
        let name = format!("upcat{port}");
        let directory = std::env::temp_dir().join(format!("tower-upgrade-{name}"));
        fs::create_dir_all(&directory).expect("a directory for temporary files");
        // Started by root it runs as somebody else.
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&directory, mode).expect("a directory of ours");
        let passwords = directory.join("passwords");
        fs::write(&passwords, ANN_KNOWN).expect("a file");

        let config = format!(
            "http_port 127.0.0.1:{port}
visible_hostname squid.test
pid_filename none
cache_log /dev/null
access_log none
netdb_filename none
coredump_dir {directory}
pinger_enable off
# No test asks for a name.
dns_nameservers 127.0.0.1
{rules}
",
            directory = directory.display(),
            rules = rules.replace("PASSWORDS", &passwords.display().to_string()),
        );
        let file = directory.join("squid.conf");
        fs::write(&file, config).expect("a file");

        // In the foreground, with its log on stderr. Its shared memory is named after the instance.
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
            stderr: BufReader::new(process.stderr.take().expect("it is piped")),
            process,
        }
    }

    /// Waits until it does. Before it says so, what listens on its port may be another program.
    async fn listens(&mut self) -> Result<(), String> {
        let mut said = String::new();
        while self.stderr.read_line(&mut said).await.expect("its log") > 0 {
            if said.contains("Accepting HTTP Socket connections") {
                // By now the port is its own, and it listens a moment later.
                while TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
                    tokio::task::yield_now().await;
                }
                return Ok(());
            }
        }
        Err(said)
    }
}

impl Drop for Squid {
    fn drop(&mut self) {
        // What it would do itself, were it not killed.
        let _ = self.process.start_kill();
        for segment in ["metadata", "queues", "readers"] {
            let name = format!("/dev/shm/{}-cf__{segment}.shm", self.name);
            let _ = fs::remove_file(name);
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

const ALL: &str = "http_access allow all";

/// Who she is, for `basic_ncsa_auth`: what `openssl passwd -apr1 -salt tunnels1 secret` says.
const ANN_KNOWN: &str = "ann:$apr1$tunnels1$PdTFXIX0CindW6JRX.3ua/\n";

/// `ann`, with the password `secret`.
const ANN: &str = "Basic YW5uOnNlY3JldA==";

/// `ann`, with the password `guess`.
const NOT_ANN: &str = "Basic YW5uOmd1ZXNz";

#[tokio::test]
async fn upcat_has_a_tunnel_through_squid() {
    let (mut tasks, target) = raw_echo().await;
    let squid = Squid::start(ALL).await;
    let mut upcat = Upcat::start(&["--connect", &target, &squid.url]).await;
    upcat.expect_echo("hello").await;
    upcat.expect_echo(noise(3_000_001)).await;
    // The target ends it.
    tasks.shutdown().await;
    upcat.ended().await.assert_printed("");
}

#[tokio::test]
async fn upcat_asks_for_an_upgrade_through_squid() {
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
async fn upcat_shows_why_squid_refuses() {
    let (_tasks, target) = raw_echo().await;
    // It has a port, and does not listen there.
    let refuses = TcpSocket::new_v4().expect("a socket");
    let any = "127.0.0.1:0".parse().expect("an address");
    refuses.bind(any).expect("loopback");
    let away = refuses.local_addr().expect("bound");

    let rules = format!("acl away port {}\nhttp_access allow away", away.port());
    let squid = Squid::start(&rules).await;
    for (target, status, why) in [
        (target, "403 Forbidden", "ERR_ACCESS_DENIED"),
        (
            away.to_string(),
            "503 Service Unavailable",
            "ERR_CONNECT_FAIL",
        ),
    ] {
        let server = format!("http://{target}/");
        for (who, args) in [
            ("", &["--connect", &target, &squid.url][..]),
            (
                "the proxy ",
                &["--proxy", &squid.url, "--protocol", "echo", &server],
            ),
        ] {
            let ended = upcat(args, "unheard").await;
            ended.assert_failed(4, &format!("upcat: {who}refused with {status}\n"));
            assert!(ended.complaints.contains(why), "{}", ended.complaints);
        }
    }
}

#[tokio::test]
async fn upcat_says_to_squid_who_it_is() {
    let rules = "auth_param basic program /usr/lib/squid/basic_ncsa_auth PASSWORDS
auth_param basic realm tunnels
acl known proxy_auth REQUIRED
http_access allow known";
    let squid = Squid::start(rules).await;
    let server = Example::start("echo", &[]).await;
    let through = ["--proxy", &squid.url, "--protocol", "echo", &server.url];
    for credentials in [&[][..], &["--proxy-auth", NOT_ANN]] {
        let ended = upcat(&[&through, credentials].concat(), "unheard").await;
        ended.assert_failed(
            4,
            "upcat: the proxy refused with 407 Proxy Authentication Required\n",
        );
        let challenge = "\nproxy-authenticate: Basic realm=\"tunnels\"\n";
        assert!(ended.complaints.contains(challenge), "{}", ended.complaints);
    }

    // The password in two spellings (RFC 3986 §2.1).
    let squid_of = |user: &str| squid.url.replace("http://", &format!("http://{user}@"));
    let ann = squid_of("ann:secr%65t");
    let in_url = ["--proxy", &ann, "--protocol", "echo", &server.url];
    let mut upcat = Upcat::start(&in_url).await;
    upcat.expect_echo("hello").await;
    drop(upcat);
    let guess = squid_of("ann:guess");
    let ended = crate::upcat::upcat(
        &["--proxy", &guess, "--protocol", "echo", &server.url],
        "unheard",
    )
    .await;
    ended.assert_failed(4, "upcat: the proxy refused with 407");

    let mut upcat = Upcat::start(&[&through[..], &["--proxy-auth", ANN]].concat()).await;
    upcat.expect_echo("hello").await;
    server.stop("TERM").await;
    upcat.ended().await.assert_printed("");
}
