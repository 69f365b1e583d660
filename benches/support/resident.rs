//! Resident memory of a server with its sessions. Linux only.

use std::{fs, time::Duration};
use tower_upgrade::BoxError;

/// The number of warm-up sessions, which cover one-time allocations. They run one after the other, so that they
/// leave little free memory into which measured sessions would fit uncounted.
pub(crate) const WARM_UP: usize = 200;

/// An upper bound for a process's open files other than the sockets of its sessions.
const OTHER_FILES: usize = 100;

/// Raises the open-file limit of this process, and of the servers, which inherit the limit, to this many sessions.
pub(crate) fn allow_open(sessions: usize) -> Result<(), BoxError> {
    match as_many_as_can_be(sessions)? {
        all if all == sessions => Ok(()),
        fewer => Err(format!("of {sessions} sessions, {fewer} can be open here").into()),
    }
}

/// Raises the limit to this many sessions, or as many as the hard limit permits, and returns that number.
pub(crate) fn as_many_as_can_be(sessions: usize) -> Result<usize, BoxError> {
    let files = rlimit::increase_nofile_limit((sessions + OTHER_FILES) as u64)?;
    Ok(sessions.min(usize::try_from(files)?.saturating_sub(OTHER_FILES)))
}

/// Waits for the server to become idle, which happens a moment after the client has its reply.
pub(crate) async fn settle() {
    tokio::time::sleep(Duration::from_millis(200)).await;
}

/// Returns the resident memory of a process. `smaps_rollup` counts pages; `status` and `statm` sum per-processor
/// counters, which can be off by hundreds of pages.
pub(crate) fn resident_bytes(process: u32) -> Result<f64, BoxError> {
    let smaps = fs::read_to_string(format!("/proc/{process}/smaps_rollup"))?;
    let kilobytes = smaps
        .lines()
        .find_map(|line| line.strip_prefix("Rss:")?.trim().strip_suffix(" kB"))
        .ok_or("no resident set in smaps_rollup")?;
    Ok(kilobytes.parse::<f64>()? * 1024.0)
}
