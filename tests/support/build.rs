//! Examples, as programs.

use std::path::PathBuf;
use tokio::process::Command;

/// Builds an example, and returns its path, next to the directory of the test's executable.
pub(crate) async fn build(example: &str, features: &[&str]) -> PathBuf {
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["build", "--quiet", "--example", example])
        .args(["--features", &features.join(",")])
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    // What cargo has told this test about its package: build scripts of dependencies that look at
    // it would run again, and everything behind them be compiled anew.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(name);
        }
    }
    let status = cargo.status().await.expect("cargo runs");
    assert!(status.success(), "example {example} does not build");
    let mut path = std::env::current_exe().expect("this program");
    path.pop();
    path.pop();
    path.join("examples").join(example)
}
