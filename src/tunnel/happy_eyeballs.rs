//! Happy eyeballs (RFC 8305): tries several addresses and keeps the first connection that succeeds.

use crate::time::within;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use std::{net::SocketAddr, time::Duration};

/// The delay before the next attempt starts while the previous one is pending (RFC 8305 §5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// The maximum number of attempts: otherwise a DNS answer could send the proxy to any number of addresses.
pub(crate) const MAX_ATTEMPTS: usize = 16;

/// Tries the addresses with `connect` until one attempt succeeds, and drops the other attempts.
///
/// Address families alternate, starting with the family of the first address. Returns `None` if `addresses` is empty.
///
/// # Errors
///
/// If all attempts fail, returns the error of the last attempt to fail.
pub(super) async fn connect_any<F, T, E>(
    addresses: &[SocketAddr],
    connect: impl Fn(SocketAddr) -> F,
) -> Option<Result<T, E>>
where
    F: Future<Output = Result<T, E>>,
{
    // A target that is an address needs neither the timer nor the set of a race.
    if let [address] = addresses {
        return Some(connect(*address).await);
    }
    let mut waiting = by_turns(addresses).take(MAX_ATTEMPTS);
    let mut attempts = FuturesUnordered::new();
    let mut failed = None;
    loop {
        let next = waiting.next();
        let patience = next.map_or(Duration::MAX, |_| ATTEMPT_DELAY);
        attempts.extend(next.map(&connect));
        match within(patience, attempts.next()).await {
            Some(Some(Ok(io))) => return Some(Ok(io)),
            Some(Some(Err(error))) => failed = Some(Err(error)),
            Some(None) => return failed,
            None => {}
        }
    }
}

fn by_turns(addresses: &[SocketAddr]) -> impl Iterator<Item = SocketAddr> {
    let is_first = |address: &&SocketAddr| address.is_ipv4() == addresses[0].is_ipv4();
    let (first, second): (Vec<_>, Vec<_>) = addresses.iter().partition(is_first);
    (0..first.len().max(second.len()))
        .flat_map(move |turn| [first.get(turn).copied(), second.get(turn).copied()])
        .flatten()
        .copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{cell::RefCell, collections::HashMap, rc::Rc};
    use tokio::time::{Instant, sleep};

    fn v4(number: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, number], 443))
    }

    fn v6(number: u16) -> SocketAddr {
        SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, number], 443))
    }

    /// A network in which some addresses answer or fail after a delay, and all others never answer.
    #[derive(Default)]
    struct Network {
        answers: HashMap<SocketAddr, (u64, Result<(), ()>)>,
        /// The start of each attempt, in milliseconds from the start of the race.
        attempts: RefCell<Vec<(u64, SocketAddr)>>,
        under_way: Rc<()>,
    }

    impl Network {
        fn answers(mut self, address: SocketAddr, after: u64) -> Self {
            self.answers.insert(address, (after, Ok(())));
            self
        }

        fn fails(mut self, address: SocketAddr, after: u64) -> Self {
            self.answers.insert(address, (after, Err(())));
            self
        }

        /// Returns the end of the race in milliseconds, and the address that won or was the last to fail.
        async fn race(
            &self,
            addresses: &[SocketAddr],
        ) -> (u64, Option<Result<SocketAddr, SocketAddr>>) {
            let start = Instant::now();
            let now = || start.elapsed().as_millis() as u64;
            let outcome = connect_any(addresses, |address| {
                self.attempts.borrow_mut().push((now(), address));
                let (answer, under_way) = (self.answers.get(&address), Rc::clone(&self.under_way));
                async move {
                    let _under_way = under_way;
                    let Some((after, answer)) = answer else {
                        return std::future::pending().await;
                    };
                    sleep(Duration::from_millis(*after)).await;
                    answer.map(|()| address).map_err(|()| address)
                }
            })
            .await;
            assert_eq!(
                Rc::strong_count(&self.under_way),
                1,
                "the other attempts are dropped"
            );
            (now(), outcome)
        }

        #[track_caller]
        fn assert_attempts(&self, attempts: &[(u64, SocketAddr)]) {
            assert_eq!(*self.attempts.borrow(), attempts);
        }
    }

    #[test]
    fn address_families_alternate() {
        let addresses = [v6(1), v6(2), v6(3), v4(1), v4(2)];
        let turns: Vec<_> = by_turns(&addresses).collect();
        assert_eq!(turns, [v6(1), v4(1), v6(2), v4(2), v6(3)]);
        let addresses = [v4(1), v6(1), v6(2), v6(3)];
        let turns: Vec<_> = by_turns(&addresses).collect();
        assert_eq!(turns, [v4(1), v6(1), v6(2), v6(3)]);
        assert_eq!(by_turns(&[]).count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn fast_address_wins_without_a_second_attempt() {
        let network = Network::default().answers(v6(1), 249);
        let (after, outcome) = network.race(&[v6(1), v4(1)]).await;
        assert_eq!((after, outcome), (249, Some(Ok(v6(1)))));
        network.assert_attempts(&[(0, v6(1))]);
    }

    #[tokio::test(start_paused = true)]
    async fn next_attempt_starts_while_the_first_is_pending() {
        let network = Network::default().answers(v6(2), 20);
        let (after, outcome) = network.race(&[v6(1), v6(2), v4(1)]).await;
        assert_eq!((after, outcome), (520, Some(Ok(v6(2)))));
        network.assert_attempts(&[(0, v6(1)), (250, v4(1)), (500, v6(2))]);
    }

    #[tokio::test(start_paused = true)]
    async fn earlier_attempt_can_still_win() {
        let network = Network::default().answers(v6(1), 300).answers(v4(1), 100);
        let (after, outcome) = network.race(&[v6(1), v4(1)]).await;
        assert_eq!((after, outcome), (300, Some(Ok(v6(1)))));
    }

    #[tokio::test(start_paused = true)]
    async fn next_attempt_starts_at_once_after_a_failure() {
        let network = Network::default().fails(v6(1), 7).answers(v4(1), 1);
        let (after, outcome) = network.race(&[v6(1), v4(1)]).await;
        assert_eq!((after, outcome), (8, Some(Ok(v4(1)))));
        network.assert_attempts(&[(0, v6(1)), (7, v4(1))]);
    }

    #[tokio::test(start_paused = true)]
    async fn last_error_is_returned_if_all_attempts_fail() {
        let network = Network::default().fails(v6(1), 400).fails(v4(1), 10);
        let (after, outcome) = network.race(&[v6(1), v4(1)]).await;
        assert_eq!((after, outcome), (400, Some(Err(v6(1)))));
        network.assert_attempts(&[(0, v6(1)), (250, v4(1))]);
        assert_eq!(network.race(&[]).await, (0, None));
    }

    #[tokio::test(start_paused = true)]
    async fn at_most_sixteen_addresses_are_tried() {
        let addresses: Vec<_> = (0..100).map(v4).collect();
        let mut network = Network::default();
        for address in &addresses {
            network = network.fails(*address, 0);
        }
        let (_, outcome) = network.race(&addresses).await;
        assert_eq!(outcome, Some(Err(v4(15))));
        assert_eq!(network.attempts.borrow().len(), 16);
    }
}
