//! What a command that looks on has seen of a unit that goes from one host to another (`drain`, `undrain`, `move`,
//! `rebalance`). Owns when there is something to say of it, and when it is known what has become of it. It never asks
//! the cluster and prints nothing.

use std::time::Duration;

use tokio::time::Instant;

use crate::api::wire::{MachineRef, UnitView};
use crate::model::name::UnitName;
use crate::model::unit::Desired;

/// How often it is asked how far the units are.
pub(super) const PAUSE: Duration = Duration::from_millis(500);

/// How long a unit that has left its host may wait before that counts as its end. The units of a chain are placed one
/// after the other: until then, those that follow wait for those before them.
const PATIENCE: Duration = Duration::from_secs(5);

/// What was seen of a unit that leaves a host, or comes back to it.
#[derive(Default)]
pub(super) struct Seen {
    /// Since when it goes.
    since: Option<Instant>,
    /// What was said last of what it waits for.
    said: String,
    /// Since when it is on no host, has left the one that it was on, and waits.
    homeless: Option<Instant>,
    /// Whether all is said, and whether it is where it was to go.
    pub(super) end: Option<bool>,
}

/// What has become of a unit that isn't to go anywhere any more.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Became<'a> {
    /// It is on a host.
    On(&'a MachineRef),
    /// It is on no host, for this reason.
    Nowhere(&'a str),
}

impl Seen {
    /// Unit `name` goes now, or `waits` for something, or neither. Returns what there is to say.
    pub(super) fn look(&mut self, name: &UnitName, goes: bool, waits: Option<&str>) -> Option<&str> {
        (self.end, self.homeless) = (None, None);
        if goes {
            self.since.get_or_insert_with(Instant::now);
        }
        let now = waits.map(|why| format!("  {name}  waits: {why}")).unwrap_or_default();
        let is_news = self.said != now && !now.is_empty();
        self.said = now;
        is_news.then_some(self.said.as_str())
    }

    /// What has become of a unit that isn't listed any more among those that go, as the cluster shows it at `now`;
    /// `None` if that isn't known yet, because it is about to be placed.
    pub(super) fn became<'a>(&mut self, unit: Option<&'a UnitView>, now: Instant) -> Option<Became<'a>> {
        let Some(unit) = unit else { return Some(Became::Nowhere("destroyed")) };
        match (&unit.machine, &unit.waiting) {
            (Some(machine), _) => Some(Became::On(machine)),
            (None, _) if unit.desired == Desired::Inactive => Some(Became::Nowhere("unloaded")),
            (None, _) if unit.global => Some(Became::Nowhere("left")),
            (None, Some(why)) => {
                let homeless = *self.homeless.get_or_insert(now);
                (now.duration_since(homeless) >= PATIENCE).then_some(Became::Nowhere(why))
            }
            (None, None) => None,
        }
    }

    /// ` (2.3 s)`, if it is known how long it took.
    pub(super) fn took(&self) -> String {
        self.since.map(|since| format!(" ({:.1} s)", since.elapsed().as_secs_f64())).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::condition::tests::unit;

    #[test]
    fn a_wait_counts_as_the_end_only_if_it_lasts() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let placed = unit("web-announce@1.service", Desired::Launched, &["n3 active running"]);
        let mut waits = unit("web-announce@1.service", Desired::Launched, &[]);
        waits.waiting = Some("for web@1.service to be placed".into());
        let machine = placed.machine.as_ref().unwrap();
        let mut seen = Seen::default();
        assert_eq!(seen.became(Some(&waits), at(1)), None);
        assert_eq!(seen.became(Some(&placed), at(2)), Some(Became::On(machine)));
        assert_eq!(seen.became(Some(&waits), at(5)), None);
        assert_eq!(seen.became(Some(&waits), at(6)), Some(Became::Nowhere("for web@1.service to be placed")));
        // It is listed again among those that go, and then leaves another time.
        seen.look(&waits.name, true, None);
        assert_eq!(seen.became(Some(&waits), at(7)), None);
    }

    #[test]
    fn what_somebody_takes_away_meanwhile_is_over_at_once() {
        let mut about_to_be_placed = unit("a.service", Desired::Launched, &[]);
        about_to_be_placed.waiting = None;
        let unloaded = UnitView { desired: Desired::Inactive, ..about_to_be_placed.clone() };
        let global = UnitView { global: true, ..about_to_be_placed.clone() };
        for (view, expected) in [
            (Some(&about_to_be_placed), None),
            (Some(&unloaded), Some(Became::Nowhere("unloaded"))),
            (Some(&global), Some(Became::Nowhere("left"))),
            (None, Some(Became::Nowhere("destroyed"))),
        ] {
            assert_eq!(Seen::default().became(view, Instant::now()), expected, "{view:?}");
        }
    }
}
