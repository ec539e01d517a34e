//! A unit that moves: its new host is read once its old host has reported that the unit is down there, so that the last
//! entries of the old host precede the first ones of the new host, however slow the connection to the old one is. Pure:
//! it gets the time as an argument. No entry is lost by waiting: the new host is read from the time of the move on.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::merge::HOLD;
use crate::api::wire::MachineRef;
use crate::model::name::{MachineId, UnitName};

/// The longest wait for the old host: it may be dead, or its report may be filtered out (`--grep`).
const MAX_WAIT: Duration = Duration::from_secs(2);

/// A host that must be read for a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Begin {
    pub(super) unit: UnitName,
    pub(super) machine: MachineRef,
    /// The time from which it is read, in ms since the epoch.
    pub(super) since: u64,
}

/// All units that are moving.
#[derive(Debug, Default)]
pub(super) struct Handover {
    /// Units that went down, and when this was received.
    down: HashMap<String, Instant>,
    /// New hosts that are waiting, and since when.
    waiting: Vec<(Instant, Begin)>,
}

impl Handover {
    /// An entry of `unit` was received. `down` is whether it reports that the unit is down; any other entry means that
    /// it isn't.
    pub(super) fn hear(&mut self, now: Instant, unit: &str, down: bool) {
        if down {
            self.down.entry(unit.to_owned()).or_insert(now);
        } else {
            self.down.remove(unit);
        }
    }

    /// A unit has moved to a new host.
    pub(super) fn wait(&mut self, now: Instant, begin: Begin) {
        self.waiting.push((now, begin));
    }

    /// The new hosts that needn't wait any longer.
    pub(super) fn ready(&mut self, now: Instant) -> Vec<Begin> {
        let (ready, waiting) = std::mem::take(&mut self.waiting).into_iter().partition(|one| self.end(one) <= now);
        self.waiting = waiting;
        let ready: Vec<(Instant, Begin)> = ready;
        ready.into_iter().map(|(_, begin)| begin).collect()
    }

    /// Remove the waiting new host `id` of `unit`, because the unit has left it again.
    pub(super) fn take(&mut self, unit: &UnitName, id: &MachineId) -> Option<Begin> {
        let number = self.waiting.iter().position(|(_, begin)| begin.unit == *unit && begin.machine.id == *id)?;
        Some(self.waiting.remove(number).1)
    }

    /// When [`Handover::ready`] returns something next, unless an entry is received before.
    pub(super) fn due(&self) -> Option<Instant> {
        self.waiting.iter().map(|one| self.end(one)).min()
    }

    /// systemd may add another message (the consumed resources), so wait a moment for it.
    fn end(&self, (since, begin): &(Instant, Begin)) -> Instant {
        let latest = *since + MAX_WAIT;
        self.down.get(begin.unit.as_str()).map_or(latest, |down| latest.min(*down + HOLD))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn begin(unit: &str) -> Begin {
        let machine = MachineRef { id: "1".repeat(32).parse().unwrap(), ip: "10.0.0.1".into(), hostname: "n1".into() };
        Begin { unit: unit.parse().unwrap(), machine, since: 5 }
    }

    #[test]
    fn the_new_place_waits_for_the_last_words_of_the_old_one() {
        let (mut handover, start) = (Handover::default(), Instant::now());
        assert_eq!(handover.due(), None);
        handover.wait(start, begin("a.service"));
        handover.hear(start + 300 * MS, "a.service", false);
        handover.hear(start + 300 * MS, "b.service", true);
        assert_eq!((handover.ready(start + 300 * MS), handover.due()), (vec![], Some(start + MAX_WAIT)));
        handover.hear(start + 900 * MS, "a.service", true);
        assert_eq!(handover.due(), Some(start + 900 * MS + HOLD));
        assert_eq!(handover.ready(start + 900 * MS), []);
        assert_eq!(handover.ready(start + 900 * MS + HOLD), [begin("a.service")]);
        assert_eq!(handover.due(), None);
    }

    #[test]
    fn what_was_down_before_keeps_nobody_waiting() {
        let (mut handover, start) = (Handover::default(), Instant::now());
        handover.hear(start, "a.service", true);
        handover.wait(start + HOLD, begin("a.service"));
        assert_eq!(handover.ready(start + HOLD), [begin("a.service")]);
        // It was started again meanwhile.
        handover.hear(start + HOLD, "a.service", false);
        handover.wait(start + HOLD, begin("a.service"));
        assert_eq!(handover.ready(start + HOLD), []);
    }

    #[test]
    fn a_host_that_says_nothing_is_not_waited_for_for_ever() {
        let (mut handover, start) = (Handover::default(), Instant::now());
        handover.wait(start, begin("a.service"));
        assert_eq!(handover.ready(start + MAX_WAIT - MS), []);
        assert_eq!(handover.ready(start + MAX_WAIT), [begin("a.service")]);
    }

    #[test]
    fn a_place_that_is_left_before_it_was_read_is_handed_back() {
        let (mut handover, start) = (Handover::default(), Instant::now());
        handover.wait(start, begin("a.service"));
        let id = begin("a.service").machine.id;
        assert_eq!(handover.take(&"b.service".parse().unwrap(), &id), None);
        assert_eq!(handover.take(&"a.service".parse().unwrap(), &id), Some(begin("a.service")));
        assert_eq!((handover.due(), handover.take(&"a.service".parse().unwrap(), &id)), (None, None));
    }
}
