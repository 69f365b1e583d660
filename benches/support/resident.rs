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
    match as_many_as_can_be(sessions)? {
        all if all == sessions => Ok(()),
        fewer => Err(format!("of {sessions} sessions, {fewer} can be open here").into()),
    }
}

/// Lets so many be open, or as many as the hard limit of open files has room for, and says how many that is.
pub(crate) fn as_many_as_can_be(sessions: usize) -> Result<usize, BoxError> {
    let files = rlimit::increase_nofile_limit((sessions + OTHER_FILES) as u64)?;
    Ok(sessions.min(usize::try_from(files)?.saturating_sub(OTHER_FILES)))
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
