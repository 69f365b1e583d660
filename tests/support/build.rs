//! Builds examples as programs.

use std::path::PathBuf;
use tokio::process::Command;

/// Builds an example and returns its path, next to the directory of this test's program.
pub(crate) async fn build(example: &str, features: &[&str]) -> PathBuf {
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["build", "--quiet", "--example", example])
        .args(["--features", &features.join(",")])
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    // Remove the variables that cargo sets for this test: build scripts of dependencies that read them would
    // run again, and their dependents would be recompiled.
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
