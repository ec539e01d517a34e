//! What an agent asks its systemd for, judged at the moment of asking and unit by unit: the promise that nothing but an
//! assignment starts or stops a unit. Owns what each agent has carried out and can know of it; what systemd makes of
//! the requests is judged in `machines`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use flotilla::model::name::UnitName;
use flotilla::model::revision::Revision;
use flotilla::model::unit::{Assignment, Target};

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
    /// Whether the daemon got its answer, and whether it has written its notes since.
    answered: bool,
    noted: bool,
    /// Whether it was asked to stop, or given its file again, since.
    undone: bool,
}

/// The requests of one host's agents, in one boot.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    daemon: u32,
    started: BTreeMap<UnitName, Started>,
    /// When each unit's start and stop was asked for last.
    starts: BTreeMap<UnitName, Duration>,
    stops: BTreeMap<UnitName, (Duration, Why)>,
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
        let started = self.started.get(unit);
        // A restart that could be noted nowhere is carried out once more by the next daemon.
        let unknown = started.is_some_and(|started| self.is_unknown(started));
        let newer = told.restart > started.and_then(|started| started.restart);
        (told.restart.is_some() && (newer || unknown)).then_some(Why::Restarted)
    }

    /// Whether the daemon can't know that this was done.
    fn is_unknown(&self, started: &Started) -> bool {
        !started.answered || (!started.noted && started.daemon != self.daemon)
    }

    /// The agent asks for a start of `unit`, which needs `needs`, and may take any of `told` for its assignment.
    pub(crate) fn start(
        &mut self,
        unit: &UnitName,
        told: &[Option<&Assignment>],
        needs: &BTreeSet<UnitName>,
        now: Duration,
    ) -> Result<(), String> {
        let launched: Vec<&Assignment> =
            told.iter().flatten().copied().filter(|told| told.target == Target::Launched).collect();
        let verdict = match (launched.iter().map(|told| told.generation).max(), self.started.get(unit)) {
            (None, _) => Err("which isn't to run there".into()),
            (Some(newest), Some(before)) if !self.may_start_again(before, newest, needs) => {
                Err(format!("once more, after {} s", (now - before.at).as_secs()))
            }
            _ => Ok(()),
        };
        let oldest = launched.iter().min_by_key(|told| told.generation);
        if let Some(oldest) = oldest {
            let (generation, restart) = (oldest.generation, oldest.restart);
            let daemon = self.daemon;
            let (answered, noted, undone) = (false, false, false);
            let started = Started { at: now, generation, restart, daemon, answered, noted, undone };
            self.started.insert(unit.clone(), started);
        }
        self.starts.insert(unit.clone(), now);
        self.unwritten.insert(unit.clone());
        verdict
    }

    fn may_start_again(&self, before: &Started, newest: Revision, needs: &BTreeSet<UnitName>) -> bool {
        let replaced = |need: &UnitName| {
            let stop = self.stops.get(need);
            stop.is_some_and(|(at, why)| *at >= before.at && matches!(why, Why::Replaced | Why::Restarted))
        };
        newest > before.generation || before.undone || self.is_unknown(before) || needs.iter().any(replaced)
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
