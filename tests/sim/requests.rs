//! What an agent asks its systemd for, judged at the moment of asking and unit by unit: the promise that nothing but an
//! assignment starts or stops a unit. Owns what each agent has carried out and can know of it; what systemd makes of
//! the requests is judged in `machines`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use flotilla::model::name::UnitName;
use flotilla::model::revision::Revision;
use flotilla::model::unit::{Assignment, Target, UnitReport};
use flotilla::store::LeaseId;

/// Why a unit may be stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Why {
    /// It has no assignment here any more, or one that sends it away.
    Away,
    /// It is to be down.
    Down,
    /// It is to have another file.
    Replaced,
    /// It is to be restarted.
    Restarted,
}

/// An assignment that was carried out: which one, and what became of the request.
#[derive(Debug, Clone)]
struct Started {
    at: Duration,
    /// The oldest that it may have been, and the restart that this one asked for.
    generation: Revision,
    restart: Option<Revision>,
    /// The daemon that asked, of those of this host.
    daemon: u32,
    /// Whether the daemon got its answer, whether it has saved what it did since, and the lease of its report since.
    answered: bool,
    noted: bool,
    reported: Option<LeaseId>,
    /// Whether it was asked to stop, or given its file again, since.
    undone: bool,
}

/// The requests of one host's agents, in one boot.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    daemon: u32,
    /// The lease of the host's key.
    lease: Option<LeaseId>,
    started: BTreeMap<UnitName, Started>,
    /// When each unit's start was asked for last, itself or through one that needs it, and its stop.
    starts: BTreeMap<UnitName, Duration>,
    stops: BTreeMap<UnitName, (Duration, Why)>,
    /// Restarts that units were stopped for, and not started yet.
    restarting: BTreeMap<UnitName, Revision>,
    /// Units that something was done with since the notes were written last.
    unwritten: BTreeSet<UnitName>,
    /// Those that a daemon has died with, so that the next one can't know.
    forgotten: BTreeSet<UnitName>,
}

impl Requests {
    pub(crate) fn daemon_starts(&mut self) {
        self.daemon += 1;
    }

    pub(crate) fn daemon_ends(&mut self) {
        self.forgotten.append(&mut self.unwritten);
    }

    /// The host's key is bound to this lease now.
    pub(crate) fn registered(&mut self, lease: Option<LeaseId>) {
        self.lease = lease;
    }

    /// The store has this report of a unit, or none any more.
    pub(crate) fn reported(&mut self, unit: &UnitName, report: Option<&UnitReport>, lease: Option<LeaseId>) {
        let Some(started) = self.started.get_mut(unit) else { return };
        let done = |report: &&UnitReport| {
            report.target == Target::Launched && report.generation >= started.generation && report.error.is_none()
        };
        started.reported = report.filter(done).and(lease);
    }

    /// All notes are on disk.
    pub(crate) fn noted(&mut self) {
        self.unwritten.clear();
        let daemon = self.daemon;
        for started in self.started.values_mut().filter(|started| started.daemon == daemon && started.answered) {
            started.noted = true;
        }
    }

    /// Whether the daemon may not know what was done with a unit, since it could never be written down.
    pub(crate) fn may_have_forgotten(&self, unit: &UnitName) -> bool {
        self.forgotten.contains(unit)
    }

    /// A process of the unit begins: what was forgotten of an earlier one doesn't matter any more.
    pub(crate) fn begins(&mut self, unit: &UnitName) {
        self.forgotten.remove(unit);
    }

    /// When a start of one of `units` was asked for last.
    pub(crate) fn last_start<'a>(&self, units: impl IntoIterator<Item = &'a UnitName>) -> Option<Duration> {
        units.into_iter().filter_map(|unit| self.starts.get(unit)).max().copied()
    }

    /// When a stop of one of `units` was asked for last.
    pub(crate) fn last_stop<'a>(&self, units: impl IntoIterator<Item = &'a UnitName>) -> Option<Duration> {
        units.into_iter().filter_map(|unit| self.stops.get(unit)).map(|(at, _)| *at).max()
    }

    /// The agent touches the unit's file.
    pub(crate) fn file(&mut self, unit: &UnitName) {
        self.unwritten.insert(unit.clone());
        if let Some(started) = self.started.get_mut(unit) {
            started.undone = true;
        }
    }

    /// The agent asks for a stop of `unit`, which may have another file than an assignment wants, and may take any of
    /// `told` for its assignment. What is wrong with it, if anything is.
    pub(crate) fn stop(
        &mut self,
        unit: &UnitName,
        told: &[Option<&Assignment>],
        differs: impl Fn(&Assignment) -> bool,
        now: Duration,
    ) -> Result<(), String> {
        // The strongest reason: nobody can say which of them it was.
        let why = told.iter().filter_map(|assignment| self.why_stop(unit, *assignment, &differs)).max();
        self.unwritten.insert(unit.clone());
        if let Some(started) = self.started.get_mut(unit) {
            started.undone = true;
        }
        let Some(why) = why else {
            return Err(if told.is_empty() { "before it knows its assignments".into() } else { "for nothing".into() });
        };
        self.stops.insert(unit.clone(), (now, why));
        let restarted = |told: &&&Assignment| why == Why::Restarted && self.is_to_restart(unit, told);
        let restarts = told.iter().flatten().filter(restarted);
        match restarts.filter_map(|told| told.restart).min() {
            Some(restart) => self.restarting.insert(unit.clone(), restart),
            None => self.restarting.remove(unit),
        };
        Ok(())
    }

    fn why_stop(
        &self,
        unit: &UnitName,
        told: Option<&Assignment>,
        differs: &impl Fn(&Assignment) -> bool,
    ) -> Option<Why> {
        let Some(told) = told.filter(|told| told.target != Target::Removed) else { return Some(Why::Away) };
        // Also one that is to be down: those that need it come back once its file is there.
        if differs(told) {
            return Some(Why::Replaced);
        }
        if told.target != Target::Launched {
            return Some(Why::Down);
        }
        self.is_to_restart(unit, told).then_some(Why::Restarted)
    }

    fn is_to_restart(&self, unit: &UnitName, told: &Assignment) -> bool {
        let started = self.started.get(unit);
        let unknown = started.is_some_and(|started| self.is_unknown(started));
        let newer = told.restart > started.and_then(|started| started.restart);
        told.target == Target::Launched && told.restart.is_some() && (newer || unknown)
    }

    /// Whether the daemon can't know that this was done: systemd's answer was lost, so that nobody knows; or another
    /// daemon did it, which could neither save it nor report it under the lease that this one has adopted. A start or a
    /// restart is then carried out once more.
    fn is_unknown(&self, started: &Started) -> bool {
        let reported = started.reported.is_some() && started.reported == self.lease;
        let told = started.noted || reported || started.daemon == self.daemon;
        !(told && started.answered)
    }

    /// The agent asks for a start of `unit`, which needs `needs`, of which `wanted` are to run, and may take any of
    /// `told` for its assignment. It was stopped `by_hand`, or what it needs was, if a person did that on the host.
    pub(crate) fn start(
        &mut self,
        unit: &UnitName,
        told: &[Option<&Assignment>],
        (needs, wanted): (&BTreeSet<UnitName>, &BTreeSet<UnitName>),
        by_hand: Option<Duration>,
        now: Duration,
    ) -> Result<(), String> {
        // What has been stopped for a restart is started for that one, or a newer one.
        let restarting = self.restarting.remove(unit);
        let launched = told.iter().flatten().copied().filter(|told| told.target == Target::Launched);
        let mut launched: Vec<&Assignment> = launched.collect();
        if launched.iter().any(|told| told.restart >= restarting) {
            launched.retain(|told| told.restart >= restarting);
        }
        let verdict = match (launched.iter().map(|told| told.generation).max(), self.started.get(unit)) {
            (None, _) => Err("which isn't to run there".into()),
            (Some(newest), Some(before))
                if !self.may_start_again(before, newest, needs, wanted) && !self.may_mistake(before, by_hand) =>
            {
                Err(format!("once more, after {} s", (now - before.at).as_secs()))
            }
            _ => Ok(()),
        };
        let oldest = launched.iter().min_by_key(|told| told.generation);
        if let Some(oldest) = oldest {
            let (generation, restart) = (oldest.generation, oldest.restart);
            let daemon = self.daemon;
            let (answered, noted, reported, undone) = (false, false, None, false);
            let started = Started { at: now, generation, restart, daemon, answered, noted, reported, undone };
            self.started.insert(unit.clone(), started);
        }
        self.starts.extend(needs.iter().chain([unit]).map(|unit| (unit.clone(), now)));
        self.unwritten.insert(unit.clone());
        verdict
    }

    /// A unit that went down with one that it needs is started again with it.
    fn may_start_again(
        &self,
        before: &Started,
        newest: Revision,
        needs: &BTreeSet<UnitName>,
        wanted: &BTreeSet<UnitName>,
    ) -> bool {
        let returns = |need: &UnitName| {
            let stop = self.stops.get(need).filter(|(at, _)| *at >= before.at);
            stop.is_some_and(|(_, why)| match why {
                Why::Replaced | Why::Restarted => true,
                Why::Down => wanted.contains(need),
                Why::Away => false,
            })
        };
        newest > before.generation || before.undone || self.is_unknown(before) || needs.iter().any(returns)
    }

    /// A unit that stops while another one is being replaced or restarted is taken for one that stops with it, whatever
    /// its file says, and is started again with it: also if it was a person that has stopped it meanwhile.
    fn may_mistake(&self, before: &Started, by_hand: Option<Duration>) -> bool {
        let Some(by_hand) = by_hand.filter(|stopped| *stopped >= before.at) else { return false };
        self.stops.iter().any(|(unit, (stopped, why))| {
            let over = self.starts.get(unit).is_some_and(|started| (*stopped..by_hand).contains(started));
            matches!(why, Why::Replaced | Why::Restarted) && !over
        })
    }

    /// The agent has got its answer to its last request for a start of `unit`.
    pub(crate) fn start_answered(&mut self, unit: &UnitName) {
        if let Some(started) = self.started.get_mut(unit) {
            started.answered = true;
        }
    }

    /// The host went down: nothing is left of all that but the count of daemons.
    pub(crate) fn reboot(&mut self) {
        *self = Self { daemon: self.daemon, ..Self::default() };
    }
}
