//! The slot of a gate: requests that come late, against the outermost layer that answers.

use crate::commit::slot::Slot;
use loom::{sync::Mutex, thread};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

const TIMEOUT: Duration = Duration::from_secs(10);

/// The outcome of an upgrade.
#[derive(Default)]
struct Connection {
    fulfilled: AtomicUsize,
    ended: AtomicUsize,
}

/// The right to it. As with hyper's, each clone is one.
type Upgrade = Arc<Connection>;

#[derive(Default)]
struct Exchange {
    slot: Slot<Upgrade, &'static str>,
    /// The session in the response, after its creation.
    response: Mutex<Option<()>>,
}

impl<U, S> Default for Slot<U, S> {
    fn default() -> Self {
        Self::new()
    }
}

impl Exchange {
    /// Does what `Gate::hold` and an accepting handler do.
    fn accept(&self, upgrade: Upgrade) {
        match self.slot.hold(Some(upgrade), TIMEOUT) {
            Ok(true) => {
                self.slot.set_response("echo");
                *self.response.lock().expect("no panic") = Some(());
            }
            Ok(false) => {}
            Err(late) => end(&late),
        }
    }

    /// Commits with the response and is then dropped, like `Outermost`.
    fn commit(&self) {
        let session = self.response.lock().expect("no panic").take();
        let (upgrade, response) = self.slot.close();
        match (upgrade, session) {
            (Some((upgrade, timeout)), Some(())) => {
                assert_eq!((response, timeout), (Some("echo"), TIMEOUT));
                upgrade.fulfilled.fetch_add(1, Ordering::Relaxed);
            }
            (Some((upgrade, _)), None) => end(&upgrade),
            (None, _) => {}
        }
        assert!(self.slot.close().0.is_none());
    }
}

fn end(upgrade: &Upgrade) {
    upgrade.ended.fetch_add(1, Ordering::Relaxed);
}

/// The number of tasks with a clone of one request while the response leaves.
fn late_requests(number: usize) {
    loom::model(move || {
        let connection = Arc::new(Connection::default());
        let exchange = Arc::new(Exchange::default());
        let tasks: Vec<_> = (0..number)
            .map(|_| {
                let (exchange, upgrade) = (Arc::clone(&exchange), Arc::clone(&connection));
                thread::spawn(move || exchange.accept(upgrade))
            })
            .collect();
        exchange.commit();
        for task in tasks {
            task.join().expect("no panic");
        }
        let fulfilled = connection.fulfilled.load(Ordering::Relaxed);
        let ended = connection.ended.load(Ordering::Relaxed);
        assert_eq!(fulfilled + ended, 1, "one task gets the connection");
        assert_eq!(Arc::strong_count(&connection), 1, "the slot holds none");
    });
}

/// Fails if `hold` does not check `is_closed`.
#[test]
fn late_request_is_held_or_closes_its_connection() {
    late_requests(1);
}

/// Fails if `hold` forgets an earlier upgrade: a late clone then closes the connection of the session.
#[test]
fn one_clone_gets_the_connection() {
    late_requests(2);
}
