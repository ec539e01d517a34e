//! Units that must not outlive the host's lease (`OnDisconnect=stop`): systemd runs them only while it holds the lease,
//! and lets go of it by itself when this daemon doesn't renew its deadlines. Owns when systemd must hold the lease, and
//! which units are started again after it has let go. Must never decide when the lease ends.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::model::name::UnitName;
use crate::model::systemd::{Error, JobResult};
use crate::model::unit::Target;

use super::{Action, BACK_OFF, Executed, HostState, Log, Now, Unit};

/// Whether systemd holds the host's lease, as far as this daemon knows.
#[derive(Debug, Default)]
pub(super) struct Hold {
    /// Whether systemd was asked to hold it, since it last didn't.
    held: bool,
    /// Whether systemd must be asked: it may have let go of the lease.
    unsure: bool,
    /// Whether systemd was asked in this pass.
    checked: bool,
    /// Why systemd can't hold it, and until when it isn't asked again.
    refused: Option<(Error, Duration)>,
}

impl Hold {
    /// When to ask systemd again to hold it.
    pub(super) fn retry(&self) -> Option<Duration> {
        self.refused.as_ref().map(|(_, until)| *until)
    }
}

impl HostState {
    /// Whether there are units that must not outlive the lease.
    fn needs_lease(&self) -> bool {
        self.units.values().any(Unit::ends_with_lease)
    }

    /// A new presence begins: its lease may be another one, and an earlier daemon may not have renewed the deadlines.
    pub(super) fn lease_is_new(&mut self) {
        self.hold = Hold { unsure: true, ..Hold::default() };
    }

    /// Ask whether systemd holds the lease. This comes before the units are observed: what runs no longer is compared
    /// with what ran.
    pub(super) fn check_lease(&self) -> Option<Action> {
        (self.hold.unsure && self.needs_lease()).then_some(Action::CheckLease)
    }

    /// Apply systemd's answer.
    pub(super) fn lease_checked(&mut self, held: bool) {
        (self.hold.unsure, self.hold.checked) = (false, true);
        let went_down: BTreeSet<UnitName> =
            self.units.iter().filter(|(_, unit)| unit.went_down).map(|(name, _)| name.clone()).collect();
        for name in &went_down {
            self.mark_dirty(name).went_down = false;
        }
        if held {
            return;
        }
        self.hold.held = false;
        let ends = |name: &UnitName| self.units.get(name).is_some_and(Unit::ends_with_lease);
        let ran = |(name, unit): (&UnitName, &Unit)| {
            let executed = unit.executed.as_ref()?;
            let launched = executed.target == Target::Launched && !executed.undone && !executed.returning;
            let saved = unit.saved_state.as_ref().is_some_and(|saved| saved.active.is_up());
            // The end of its start wasn't seen: systemd may have refused it, because the lease wasn't held any more.
            let ended_unseen = executed.result.is_none() || unit.ended_unseen;
            let ran = saved || unit.state.active.is_up() || went_down.contains(name) || ended_unseen;
            let bound = ends(name) || self.is_bound_to(name, ends);
            (launched && ran && bound).then(|| name.clone())
        };
        let stopped: Vec<UnitName> = self.units.iter().filter_map(ran).collect();
        if stopped.is_empty() {
            return;
        }
        for name in &stopped {
            if let Some(executed) = &mut self.mark_dirty(name).executed {
                executed.returning = true;
            }
        }
        // Saved before systemd holds the lease again, because after that nobody can see that it had let go.
        (self.unsaved.executed, self.unsaved.first) = (true, true);
        self.log.push(Log::LeaseLapsed(stopped));
    }

    /// Let systemd hold the lease, if there are units that need it; or let go of it, if there are none any more.
    pub(super) fn hold_lease(&self, lease_holds: bool) -> Option<Action> {
        match (self.needs_lease(), self.hold.held) {
            (true, false) if lease_holds && self.hold.refused.is_none() => Some(Action::HoldLease(true)),
            (false, true) => Some(Action::HoldLease(false)),
            _ => None,
        }
    }

    /// systemd was asked to hold the lease, or to let go of it.
    pub(super) fn lease_is_held(&mut self, hold: bool, outcome: Result<(), Error>, now: Now) {
        match outcome {
            Ok(()) => self.hold.held = hold,
            Err(error) if hold => self.hold.refused = Some((error, now.monotonic + BACK_OFF)),
            // The deadlines aren't renewed any more, and let go of it.
            Err(_) => self.hold.held = false,
        }
    }

    /// A pass begins: systemd may have let go of the lease since the last one, and may be asked to hold it again.
    pub(super) fn begin_lease_pass(&mut self, now: Now) {
        self.hold.checked = false;
        self.hold.refused.take_if(|(_, until)| *until <= now.monotonic);
    }

    /// Before a unit that ends with the lease is started: ask whether systemd holds it, once in a pass. While no such
    /// unit runs, nothing else shows that it has let go.
    pub(super) fn check_lease_for(&mut self, names: &[UnitName]) -> Option<Action> {
        let ends = |name: &UnitName| self.units.get(name).is_some_and(Unit::ends_with_lease);
        if self.hold.checked || !names.iter().any(ends) {
            return None;
        }
        self.hold.unsure = true;
        self.check_lease()
    }

    /// Those of `names` that can be started. Others wait, because systemd can't hold the lease, and report why.
    pub(super) fn without_lease(&mut self, names: Vec<UnitName>, now: Now) -> Vec<UnitName> {
        let Some((error, _)) = self.hold.refused.clone() else { return names };
        let ends = |name: &UnitName| self.units.get(name).is_some_and(Unit::ends_with_lease);
        let (wait, start): (Vec<_>, Vec<_>) = names.into_iter().partition(ends);
        for name in wait {
            self.back_off(&name, &error, now);
        }
        start
    }

    /// A unit that was up, or may have been, is down, or its start has failed because of a dependency. If it ends with
    /// the lease, systemd may have let go of that.
    pub(super) fn suspect_lease(&mut self, name: &UnitName) {
        let ends = |name: &UnitName| self.units.get(name).is_some_and(Unit::ends_with_lease);
        if ends(name) || self.is_bound_to(name, ends) {
            self.mark_dirty(name).went_down = true;
            self.hold.unsure = true;
        }
    }
}

impl Unit {
    /// Whether it must not outlive the host's lease.
    pub(super) fn ends_with_lease(&self) -> bool {
        self.file.as_ref().is_some_and(|file| file.ends_with_lease)
    }

    /// Whether its start, whose end isn't known yet, ends with this result so that the unit may be up, or was.
    pub(super) fn ends_unseen(&self, result: &JobResult) -> bool {
        let unknown = self.executed.as_ref().is_some_and(|executed| executed.result.is_none());
        let ends = self.file.as_ref().is_some_and(|file| file.ends);
        // A stop cancels a start, also one that has begun.
        unknown && (*result == JobResult::Canceled || (*result == JobResult::Done && !ends))
    }

    /// Whether it was started and has no start job any more, and may have come up and gone down unobserved.
    pub(super) fn may_have_been_up(&self) -> bool {
        let launched =
            |executed: &&Executed| executed.target == Target::Launched && !executed.undone && executed.error.is_none();
        let started = self.executed.as_ref().filter(launched);
        started.is_some_and(|executed| executed.result.is_none() || self.ended_unseen)
    }

    /// Whether it was up when it was last observed, by this daemon or an earlier one.
    pub(super) fn was_up(&self) -> bool {
        match &self.saved_state {
            Some(saved) => saved.active.is_up(),
            None => self.state.active.is_up(),
        }
    }
}
