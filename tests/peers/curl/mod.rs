//! curl with upgrades, plain requests and CONNECT.

mod connect;
mod upgrade;

use crate::{
    process::program,
    support::{soon, text},
};
use tokio::process::Command;

fn curl(args: &[&str]) -> Command {
    let mut curl = program("curl", "curl");
    curl.args([
        "--silent",
        "--show-error",
        "--include",
        "--no-buffer",
        "--noproxy",
        "*",
    ]);
    curl.args(args);
    curl
}

async fn output(curl: &mut Command) -> String {
    let output = soon(curl.output()).await.expect("curl runs");
    assert!(output.status.success(), "{}", output.status);
    text(&output.stdout)
}
