//! What is resident of a server, with its sessions. Linux only.

use std::{fs, time::Duration};
use tower_upgrade::BoxError;

/// How many sessions come and go before it counts, for what is allocated only once. One after the
/// other, so that they leave little free memory behind, where sessions would fit in uncounted.
pub(crate) const WARM_UP: usize = 200;

/// More than a process has open beside the sockets of its sessions.
const OTHER_FILES: usize = 100;

/// Lets this process, and the servers, which inherit it, have so many sessions open.
pub(crate) fn allow_open(sessions: usize) -> Result<(), BoxError> {
    let files = (sessions + OTHER_FILES) as u64;
    if rlimit::increase_nofile_limit(files)? < files {
        return Err(format!("{sessions} sessions need {files} open files").into());
    }
    Ok(())
}

/// The client has its answer a moment before the server is idle again.
pub(crate) async fn settle() {
    tokio::time::sleep(Duration::from_millis(200)).await;
}

/// What is resident of a process. `smaps_rollup` counts pages, where `status` and `statm` sum up
/// counters that each processor keeps, and can be off by hundreds of pages.
pub(crate) fn resident_bytes(process: u32) -> Result<f64, BoxError> {
    let smaps = fs::read_to_string(format!("/proc/{process}/smaps_rollup"))?;
    let kilobytes = smaps
        .lines()
        .find_map(|line| line.strip_prefix("Rss:")?.trim().strip_suffix(" kB"))
        .ok_or("no resident set in smaps_rollup")?;
    Ok(kilobytes.parse::<f64>()? * 1024.0)
}
