//! Merges the entries of many hosts by time. Pure except for the channels it reads: it gets the time as an argument.
//! Owns the order: the entries of one host, and those of one unit, are never reordered, whatever the hosts' clocks say.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use tokio::sync::mpsc::Receiver;
use tokio::time::Instant;

/// How long an entry waits for older ones of other hosts, while following.
pub(super) const HOLD: Duration = Duration::from_millis(200);

/// The most entries that wait. Beyond that, order between hosts is given up to limit memory.
const HELD: usize = 8192;

/// Merges all hosts to their end: in complete order, with one entry of each host in memory.
pub(super) struct Complete<T> {
    sources: Vec<Source<T>>,
}

struct Source<T> {
    receiver: Receiver<(u64, T)>,
    head: Option<(u64, T)>,
    /// The key of the last head. A clock that was set back doesn't change the order of a host's entries.
    key: u64,
    ended: bool,
}

impl<T> Complete<T> {
    /// Merge what `receivers` yield: the time in µs, and the item.
    pub(super) fn new(receivers: Vec<Receiver<(u64, T)>>) -> Self {
        let source = |receiver| Source { receiver, head: None, key: 0, ended: false };
        Self { sources: receivers.into_iter().map(source).collect() }
    }

    /// The next item, once every host has provided its next one; `None` when all have ended. Cancel-safe: received
    /// items are kept.
    pub(super) async fn next(&mut self) -> Option<T> {
        for source in &mut self.sources {
            if source.head.is_none() && !source.ended {
                match source.receiver.recv().await {
                    Some((at, item)) => {
                        source.key = source.key.max(at);
                        source.head = Some((source.key, item));
                    }
                    None => source.ended = true,
                }
            }
        }
        let heads = self.sources.iter_mut().filter(|source| source.head.is_some());
        let first = heads.min_by_key(|source| source.key)?;
        first.head.take().map(|(_, item)| item)
    }
}

/// The last items of a sequence.
pub(super) struct Tail<T> {
    limit: usize,
    kept: VecDeque<T>,
}

impl<T> Tail<T> {
    /// Keep the last `limit` items.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, kept: VecDeque::new() }
    }

    /// Add an item.
    pub(super) fn push(&mut self, item: T) {
        if self.limit == 0 {
            return;
        }
        if self.kept.len() == self.limit {
            self.kept.pop_front();
        }
        self.kept.push_back(item);
    }

    /// The items that were kept.
    pub(super) fn into_iter(self) -> impl Iterator<Item = T> {
        self.kept.into_iter()
    }
}

/// Merges entries as they arrive: each waits a moment, so that older ones of slower hosts precede it.
pub(super) struct Live<T> {
    held: BTreeMap<(u64, u64), T>,
    /// The arrival time and the key of each waiting item, in order of arrival.
    arrivals: VecDeque<(Instant, u64)>,
    /// The highest key of each host and each unit.
    hosts: HashMap<usize, u64>,
    units: HashMap<String, u64>,
    count: u64,
}

impl<T> Live<T> {
    /// An empty merge.
    pub(super) fn new() -> Self {
        Self {
            held: BTreeMap::new(),
            arrivals: VecDeque::new(),
            hosts: HashMap::new(),
            units: HashMap::new(),
            count: 0,
        }
    }

    /// Add `item`, which arrived `now` and has the time `at` (µs) on `host`'s clock.
    pub(super) fn push(&mut self, now: Instant, host: usize, unit: &str, at: u64, item: T) {
        // The entries of a unit that has moved follow those from its old host, even if the old host's clock is ahead.
        let of_host = self.hosts.entry(host).or_default();
        let key = at.max(*of_host);
        let key = match self.units.get_mut(unit) {
            Some(of_unit) => {
                *of_unit = key.max(*of_unit);
                *of_unit
            }
            None => {
                self.units.insert(unit.to_owned(), key);
                key
            }
        };
        *of_host = key;
        self.count += 1;
        self.held.insert((key, self.count), item);
        self.arrivals.push_back((now, key));
    }

    /// The items that needn't wait any longer, in order.
    pub(super) fn ready(&mut self, now: Instant, hold: Duration) -> Vec<T> {
        let mut until = None;
        while let Some((_, key)) = self.arrivals.front().filter(|(came, _)| *came + hold <= now) {
            until = until.max(Some(*key));
            self.arrivals.pop_front();
        }
        let mut excess = self.held.len().saturating_sub(HELD);
        let mut ready = Vec::new();
        while let Some(first) = self.held.first_entry() {
            let key = Some(first.key().0);
            if key > until && excess == 0 {
                break;
            }
            until = until.max(key);
            excess = excess.saturating_sub(1);
            ready.push(first.remove());
        }
        while self.arrivals.front().is_some_and(|(_, key)| Some(*key) <= until) {
            self.arrivals.pop_front();
        }
        ready
    }

    /// When [`Live::ready`] returns something next.
    pub(super) fn due(&self, hold: Duration) -> Option<Instant> {
        self.arrivals.front().map(|(came, _)| *came + hold)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::sync::mpsc;

    use super::*;

    async fn complete(hosts: &[&[u64]]) -> Vec<(usize, u64)> {
        let mut receivers = Vec::new();
        for (host, times) in hosts.iter().enumerate() {
            let (sender, receiver) = mpsc::channel(times.len().max(1));
            for at in *times {
                sender.send((*at, (host, *at))).await.unwrap();
            }
            receivers.push(receiver);
        }
        let (mut merge, mut merged) = (Complete::new(receivers), Vec::new());
        while let Some(item) = merge.next().await {
            merged.push(item);
        }
        merged
    }

    #[tokio::test]
    async fn hosts_are_merged_by_time_and_keep_their_own_order() {
        assert_eq!(complete(&[&[1, 4], &[2, 3], &[]]).await, [(0, 1), (1, 2), (1, 3), (0, 4)]);
        // The clock of the first was set back.
        assert_eq!(complete(&[&[5, 1, 6], &[4, 7]]).await, [(1, 4), (0, 5), (0, 1), (0, 6), (1, 7)]);
        assert_eq!(complete(&[]).await, []);
    }

    #[tokio::test]
    async fn nothing_is_said_before_every_host_has_spoken() {
        let ((quick, one), (slow, two)) = (mpsc::channel(4), mpsc::channel(4));
        let mut merge = Complete::new(vec![one, two]);
        quick.send((2, "quick")).await.unwrap();
        // Cancelling keeps what was received.
        let early = tokio::time::timeout(Duration::from_millis(1), merge.next()).await;
        assert!(early.is_err(), "{early:?}");
        slow.send((1, "slow")).await.unwrap();
        drop((quick, slow));
        assert_eq!((merge.next().await, merge.next().await, merge.next().await), (Some("slow"), Some("quick"), None));
    }

    #[test]
    fn a_tail_has_the_last() {
        let tail = |limit| {
            let mut tail = Tail::new(limit);
            (1..=5).for_each(|item| tail.push(item));
            tail.into_iter().collect::<Vec<_>>()
        };
        assert_eq!((tail(0), tail(2), tail(9)), (vec![], vec![4, 5], vec![1, 2, 3, 4, 5]));
    }

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn an_entry_is_held_for_a_moment_and_no_longer() {
        let (mut live, start) = (Live::new(), Instant::now());
        assert_eq!(live.due(HOLD), None);
        live.push(start, 0, "a", 20, "second");
        assert_eq!(live.ready(start + HOLD - MS, HOLD), Vec::<&str>::new());
        live.push(start + 100 * MS, 1, "b", 10, "first");
        live.push(start + 100 * MS, 1, "b", 30, "third");
        assert_eq!(live.due(HOLD), Some(start + HOLD));
        // The older one is released with it, though it arrived later; the newer one waits.
        assert_eq!(live.ready(start + HOLD, HOLD), ["first", "second"]);
        assert_eq!(live.due(HOLD), Some(start + HOLD + 100 * MS));
        assert_eq!(live.ready(start + HOLD + 100 * MS, HOLD), ["third"]);
        assert_eq!((live.due(HOLD), live.arrivals.len(), live.held.len()), (None, 0, 0));
    }

    #[test]
    fn a_unit_that_moves_goes_on_after_what_was_said_of_it() {
        let (mut live, start) = (Live::new(), Instant::now());
        live.push(start, 0, "a", 5_000_000, "stopped on the host whose clock is ahead");
        live.push(start, 1, "a", 10, "started on the other");
        live.push(start, 2, "b", 20, "somebody else");
        let told = live.ready(start + HOLD, HOLD);
        assert_eq!(told, ["somebody else", "stopped on the host whose clock is ahead", "started on the other"]);
    }

    #[test]
    fn memory_is_bounded() {
        let (mut live, now) = (Live::new(), Instant::now());
        let mut told = 0;
        for at in 0..40_000_u64 {
            live.push(now, 0, "a", at, at);
            told += live.ready(now, HOLD).len();
            assert!(live.held.len() <= HELD);
        }
        assert_eq!(told + live.ready(now + HOLD, HOLD).len(), 40_000);
    }

    proptest! {
        /// Whatever the clocks and the times of arrival: everything is returned once, in order for each host and each
        /// unit, and by time if the clocks agree and nothing is late.
        #[test]
        fn everything_once_and_in_order(
            steps in prop::collection::vec((0..3_usize, 0..4_usize, 0..2000_u64, 0..40_u64), 1..200),
        ) {
            let (mut live, start) = (Live::new(), Instant::now());
            let (mut told, mut clock) = (Vec::new(), 0);
            for (number, (host, unit, at, pause)) in steps.iter().enumerate() {
                clock += pause;
                let now = start + Duration::from_millis(clock);
                live.push(now, *host, &format!("u{unit}"), *at, (*host, *unit, number));
                told.extend(live.ready(now, HOLD));
            }
            told.extend(live.ready(start + Duration::from_millis(clock) + HOLD, HOLD));
            prop_assert_eq!(told.len(), steps.len());
            for host in 0..3 {
                let numbers: Vec<_> = told.iter().filter(|item| item.0 == host).map(|item| item.2).collect();
                prop_assert!(numbers.is_sorted(), "host {}: {:?}", host, numbers);
            }
            for unit in 0..4 {
                let numbers: Vec<_> = told.iter().filter(|item| item.1 == unit).map(|item| item.2).collect();
                prop_assert!(numbers.is_sorted(), "unit {}: {:?}", unit, numbers);
            }
        }

        /// If clocks agree and entries arrive in time, they are returned in the order in which they happened.
        #[test]
        fn by_time_where_nothing_is_late(
            steps in prop::collection::vec((0..3_usize, 0..50_u64, 0..190_u64), 1..100),
        ) {
            let start = Instant::now();
            // (arrival, time, host): a host's own entries arrive in order.
            let (mut at, mut latest) = (0, [0; 3]);
            let mut events = Vec::new();
            for (host, pause, delay) in steps {
                at += pause + 1;
                latest[host] = latest[host].max(at + delay);
                if latest[host] < at + 200 {
                    events.push((latest[host], at, host));
                }
            }
            events.sort_unstable();
            let (mut live, mut told) = (Live::new(), Vec::new());
            for (arrives, at, host) in &events {
                let now = start + Duration::from_millis(*arrives);
                told.extend(live.ready(now, HOLD));
                live.push(now, *host, &format!("u{host}"), *at, *at);
            }
            told.extend(live.ready(start + Duration::from_secs(3600), HOLD));
            prop_assert!(told.is_sorted(), "{:?}", told);
            prop_assert_eq!(told.len(), events.len());
        }
    }
}
