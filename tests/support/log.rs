//! Collects `tracing` events.

use std::{
    io,
    sync::{Arc, Mutex, OnceLock},
};
use tracing_subscriber::fmt::MakeWriter;

/// A second subscriber, so that `tracing` asks more than one of them about each event.
///
/// With a single subscriber `tracing` caches for all threads whether an event is enabled in the thread that
/// reaches it first: if that thread has no subscriber, no thread records the event.
static OTHER: OnceLock<tracing::Dispatch> = OnceLock::new();

/// The events of a test's thread as text.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Collects the events of this thread until the guard is dropped.
    pub fn start() -> (Self, tracing::subscriber::DefaultGuard) {
        OTHER.get_or_init(|| tracing::Dispatch::new(tracing_subscriber::registry()));
        let log = Self::default();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
            .with_ansi(false)
            .with_writer(log.clone())
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    /// Returns the lines that contain `what`.
    pub fn lines(&self, what: &str) -> Vec<String> {
        let text = super::text(&self.0.lock().expect("no panic"));
        text.lines()
            .filter(|line| line.contains(what))
            .map(str::to_owned)
            .collect()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}
