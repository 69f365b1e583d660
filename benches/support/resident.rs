//! Resident memory of a server. Linux only.

use std::{fs, time::Duration};
use tower_upgrade::BoxError;

/// The sessions before the first measurement, which make the server allocate its statics.
///
/// They run one after the other, so that they leave little free memory for later sessions to use uncounted.
pub(crate) const WARM_UP: usize = 200;

/// An upper bound for the open files of a process other than the sockets of its sessions.
const OTHER_FILES: usize = 100;

/// Raises the limit of open files for this number of sessions. Server processes inherit the limit.
pub(crate) fn allow_open(sessions: usize) -> Result<(), BoxError> {
    match as_many_as_can_be(sessions)? {
        all if all == sessions => Ok(()),
        fewer => Err(format!("of {sessions} sessions, {fewer} can be open here").into()),
    }
}

/// Raises the limit of open files for this number of sessions, or up to the hard limit. Returns the sessions
/// allowed.
pub(crate) fn as_many_as_can_be(sessions: usize) -> Result<usize, BoxError> {
    let files = rlimit::increase_nofile_limit((sessions + OTHER_FILES) as u64)?;
    Ok(sessions.min(usize::try_from(files)?.saturating_sub(OTHER_FILES)))
}

/// Waits until the server is idle: the client has its answer a moment earlier.
pub(crate) async fn settle() {
    tokio::time::sleep(Duration::from_millis(200)).await;
}

/// Returns the resident bytes of a process.
///
/// `smaps_rollup` counts pages. `status` and `statm` sum up counters of each CPU, and can be off by hundreds of
/// pages.
pub(crate) fn resident_bytes(process: u32) -> Result<f64, BoxError> {
    let smaps = fs::read_to_string(format!("/proc/{process}/smaps_rollup"))?;
    let kilobytes = smaps
        .lines()
        .find_map(|line| line.strip_prefix("Rss:")?.trim().strip_suffix(" kB"))
        .ok_or("no resident set in smaps_rollup")?;
    Ok(kilobytes.parse::<f64>()? * 1024.0)
}
