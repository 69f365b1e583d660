//! git clones from a host that only the proxy can resolve.

use super::origin;
use crate::{
    process::program,
    support::{
        Server, plain, soon, text,
        tunnel::{Resolver, loopback},
    },
};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use std::{
    convert::Infallible,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tower::{Layer as _, service_fn};
use tower_upgrade::{UpgradeLayer, tunnel::ConnectProxy};

/// A temporary directory, removed on drop.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let name = format!("tower-upgrade-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("a directory for temporary files");
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs git without the configuration of the user. Returns whether it succeeded, and stderr.
async fn git(directory: &Path, args: &[&str]) -> (bool, String) {
    let mut git = program("git", "git");
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy().to_ascii_lowercase();
        if text.starts_with("git_") || text.ends_with("_proxy") {
            git.env_remove(name);
        }
    }
    git.current_dir(directory)
        .env("HOME", directory)
        .env("XDG_CONFIG_HOME", directory)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("LC_ALL", "C")
        .args(["-c", "user.name=Ann", "-c", "user.email=ann@example.com"])
        .args(args)
        .stderr(Stdio::piped());
    let output = soon(git.output()).await.expect("git runs");
    (output.status.success(), text(&output.stderr))
}

#[track_caller]
fn assert_success((success, stderr): (bool, String)) {
    assert!(success, "{stderr}");
}

/// Serves the files of a directory, which suffices for a clone over the "dumb" protocol.
fn files(
    root: PathBuf,
) -> impl Clone
+ Send
+ tower::Service<
    Request<Incoming>,
    Response = Response<Vec<u8>>,
    Error = Infallible,
    Future: Send,
> {
    service_fn(move |request: Request<Incoming>| {
        let path = root.join(request.uri().path().trim_start_matches('/'));
        let mut response = Response::new(Vec::new());
        match fs::read(path) {
            Ok(file) => *response.body_mut() = file,
            Err(_) => *response.status_mut() = StatusCode::NOT_FOUND,
        }
        std::future::ready(Ok(response))
    })
}

#[tokio::test]
async fn git_clones_through_the_proxy() {
    let directory = Directory::new("git");
    let path = |name: &str| directory.0.join(name);
    // More than one read returns.
    let story = "once upon a time\n".repeat(10_000);
    fs::create_dir_all(path("work")).expect("a directory");
    fs::write(path("work/story"), &story).expect("a file");
    let work = path("work");
    for args in [
        &["init", "--quiet"][..],
        &["add", "story"],
        &["commit", "--quiet", "--message", "Tell a story"],
        &["clone", "--quiet", "--bare", ".", "../bare.git"],
        &["--git-dir", "../bare.git", "update-server-info"],
    ] {
        assert_success(git(&work, args).await);
    }

    let origin = origin(files(directory.0.clone())).await;
    let tunnels = Arc::new(AtomicUsize::new(0));
    let policy = loopback(origin.address.port()).hosts(["git.test"]);
    let proxy = ConnectProxy::new(policy).resolver(Resolver::of(&["127.0.0.1"]));
    let layer = UpgradeLayer::new().connect(proxy).on_close({
        let tunnels = Arc::clone(&tunnels);
        move |_| {
            tunnels.fetch_add(1, Ordering::SeqCst);
        }
    });
    let proxy = Server::start(layer.layer(service_fn(plain))).await;

    let through = format!("http.proxy=http://{}", proxy.address);
    let clone = async |host: &str, to: &str| {
        let url = format!("https://{host}:{}/bare.git", origin.address.port());
        let options = ["-c", &through, "-c", "http.sslVerify=false"];
        git(
            &directory.0,
            &[&options[..], &["clone", "--quiet", &url, to]].concat(),
        )
        .await
    };
    assert_success(clone("git.test", "cloned").await);
    assert_eq!(fs::read_to_string(path("cloned/story")).unwrap(), story);
    crate::support::until(|| tunnels.load(Ordering::SeqCst) > 0).await;

    let (success, stderr) = clone("127.0.0.1", "denied").await;
    assert!(!success);
    assert!(stderr.contains("403"), "{stderr}");
}
