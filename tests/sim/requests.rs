//! Judges the requests of an agent to its systemd, each at the moment of the request and for each unit: only an
//! assignment may start or stop a unit. Owns what each agent has carried out, and what it can know of that; the effects
//! of the requests are judged in `machines`.

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
    /// It should be down.
    Down,
    /// It should have another file.
    Replaced,
    /// It should be restarted.
    Restarted,
}

/// An assignment that was carried out: which one, and the result of the request.
#[derive(Debug, Clone)]
struct Started {
    at: Duration,
    /// The oldest generation that it may have been, and the restart of that assignment.
    generation: Revision,
    restart: Option<Revision>,
    /// A later generation that a file with the same body has carried out.
    rewritten: Option<Rewritten>,
    /// A later generation with such a file that may ask for a start nevertheless, until the agent starts the unit or
    /// reports that nothing was to be done.
    asked: Option<Rewritten>,
    /// The number of the daemon that made the request.
    daemon: u32,
    /// Whether the daemon received the answer, whether it saved the request later, and the lease of its later report.
    answered: bool,
    noted: bool,
    reported: Option<LeaseId>,
    /// Whether a stop was requested, or its file was written again, since.
    undone: bool,
}

/// The generation of a file with the same body as the one before, and the daemon that wrote it until the boot state was
/// saved.
type Rewritten = (Revision, Option<u32>);

/// What a generation asks for whose file has the same body as the one before.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asks {
    pub(crate) generation: Revision,
    pub(crate) restart: Option<Revision>,
    /// Whether it asks for a start as well: the unit was to be down before, or is down.
    pub(crate) start: bool,
    /// When the unit was last destroyed, and submitted again, before that.
    pub(crate) destroyed: Option<Revision>,
    /// Whether it took the place of what was asked before, while the host had that.
    pub(crate) replaced: bool,
}

/// What has happened to a unit apart from requests of agents.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Meanwhile {
    /// Since when the agent must know that a person has stopped it, itself or through what it needs.
    pub(crate) down: Option<Duration>,
    /// When systemd last stopped it because it let go of the host's lease, or refused its start because of that.
    pub(crate) lapsed: Option<Duration>,
    /// Whether somebody else may have written its assignment: what has another generation then is another order, also
    /// if that is older than the one that was carried out.
    pub(crate) forged: bool,
}

impl Started {
    /// The generation that was carried out last, as far as `daemon` must know: what an earlier one has written and not
    /// saved before it died, it may not know.
    fn carried_out(&self, daemon: u32) -> Revision {
        let rewritten = self.rewritten.filter(|(_, by)| by.is_none_or(|by| by == daemon));
        self.generation.max(rewritten.map(|(generation, _)| generation).unwrap_or_default())
    }
}

/// The requests of one host's agents, in one boot.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    daemon: u32,
    /// The lease of the host's key.
    lease: Option<LeaseId>,
    started: BTreeMap<UnitName, Started>,
    /// When the start of each unit was last requested, directly or by a unit that needs it, and its stop.
    starts: BTreeMap<UnitName, Duration>,
    stops: BTreeMap<UnitName, Vec<(Duration, Why)>>,
    /// Restarts for which units were stopped and not started yet.
    restarting: BTreeMap<UnitName, Revision>,
    /// Units that were changed since the boot state was last saved.
    unwritten: BTreeSet<UnitName>,
    /// Those whose change a daemon had not saved when it died, so that the next one can't know of it.
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
        let report = report.filter(done);
        started.reported = report.and(lease);
        if started.asked.is_some_and(|(asked, _)| report.is_some_and(|report| report.generation >= asked)) {
            started.rewritten = started.asked.take();
        }
    }

    /// The boot state was saved.
    pub(crate) fn noted(&mut self) {
        self.unwritten.clear();
        let daemon = self.daemon;
        for started in self.started.values_mut() {
            started.noted |= started.daemon == daemon && started.answered;
            for (_, by) in started.rewritten.iter_mut().chain(&mut started.asked) {
                *by = by.filter(|by| *by != daemon);
            }
        }
    }

    /// The agent writes a file with the same body. That carries out its generation, if nothing else is asked for. A
    /// unit that was destroyed and submitted again is asked for anew, but an agent that hasn't seen this may take the
    /// new file for a change of the old one.
    pub(crate) fn rewritten(&mut self, unit: &UnitName, asks: Asks) {
        let daemon = self.daemon;
        let Some(started) = self.started.get_mut(unit).filter(|started| !started.undone) else { return };
        let anew = asks.destroyed.is_some_and(|destroyed| destroyed > started.carried_out(daemon));
        let rewritten = Some((asks.generation, Some(daemon)));
        // A rollout lets a unit through again to a file that was requested before the one that it has: another order,
        // for which a unit that is down is started. A host that comes back is asked anew instead.
        started.undone = asks.start && asks.replaced && asks.generation < started.carried_out(daemon);
        if asks.start || anew || started.asked.is_some() || started.restart != asks.restart {
            started.asked = rewritten;
        } else {
            started.rewritten = rewritten;
        }
    }

    /// Whether the daemon may not know what was done with a unit, because it could not be saved.
    pub(crate) fn may_have_forgotten(&self, unit: &UnitName) -> bool {
        self.forgotten.contains(unit)
    }

    /// A process of the unit begins: what wasn't saved of an earlier one doesn't matter any more.
    pub(crate) fn begins(&mut self, unit: &UnitName) {
        self.forgotten.remove(unit);
    }

    /// When a start of one of `units` was last requested.
    pub(crate) fn last_start<'a>(&self, units: impl IntoIterator<Item = &'a UnitName>) -> Option<Duration> {
        units.into_iter().filter_map(|unit| self.starts.get(unit)).max().copied()
    }

    /// When a stop of one of `units` was last requested.
    pub(crate) fn last_stop<'a>(&self, units: impl IntoIterator<Item = &'a UnitName>) -> Option<Duration> {
        units.into_iter().filter_map(|unit| self.stops.get(unit)?.last()).map(|(at, _)| *at).max()
    }

    /// The agent writes or removes the unit's file.
    pub(crate) fn file(&mut self, unit: &UnitName) {
        self.unwritten.insert(unit.clone());
        if let Some(started) = self.started.get_mut(unit) {
            started.undone = true;
        }
    }

    /// The agent requests the stop of `unit`. Any of `told` may be the assignment that it knows; `differs` tells
    /// whether the unit has a different file. Fails if no assignment asks for the stop.
    pub(crate) fn stop(
        &mut self,
        unit: &UnitName,
        told: &[Option<&Assignment>],
        differs: impl Fn(&Assignment) -> bool,
        now: Duration,
    ) -> Result<(), String> {
        // The strongest reason: it is unknown which of the assignments the agent knew.
        let why = told.iter().filter_map(|assignment| self.why_stop(unit, *assignment, &differs)).max();
        self.unwritten.insert(unit.clone());
        if let Some(started) = self.started.get_mut(unit) {
            started.undone = true;
        }
        let Some(why) = why else {
            return Err(if told.is_empty() { "before it knows its assignments".into() } else { "for nothing".into() });
        };
        self.stops.entry(unit.clone()).or_default().push((now, why));
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
        // Also for a unit that should be down: the units that need it return when its file is there.
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

    /// Whether the daemon can't know that this was done: systemd's answer was lost, or an earlier daemon did it and
    /// could neither save it nor report it under the lease that this one has adopted. A start or a restart is then
    /// carried out once more.
    fn is_unknown(&self, started: &Started) -> bool {
        let reported = started.reported.is_some() && started.reported == self.lease;
        let told = started.noted || reported || started.daemon == self.daemon;
        !(told && started.answered)
    }

    /// The agent requests the start of `unit`, which needs `needs`, of which `wanted` should run. Any of `told` may be
    /// the assignment that it knows.
    pub(crate) fn start(
        &mut self,
        unit: &UnitName,
        told: &[Option<&Assignment>],
        (needs, wanted): (&BTreeSet<UnitName>, &BTreeSet<UnitName>),
        meanwhile: Meanwhile,
        now: Duration,
    ) -> Result<(), String> {
        // A unit that was stopped for a restart is started for that restart, or a newer one.
        let restarting = self.restarting.remove(unit);
        let launched = told.iter().flatten().copied().filter(|told| told.target == Target::Launched);
        let mut launched: Vec<&Assignment> = launched.collect();
        if launched.iter().any(|told| told.restart >= restarting) {
            launched.retain(|told| told.restart >= restarting);
        }
        let is_other = |before: &Started| {
            let carried_out = before.carried_out(self.daemon);
            meanwhile.forged && launched.iter().any(|told| told.generation != carried_out)
        };
        let verdict = match (launched.iter().map(|told| told.generation).max(), self.started.get(unit)) {
            (None, _) => Err("which isn't to run there".into()),
            (Some(newest), Some(before))
                if !is_other(before) && !self.may_start_again(before, newest, needs, wanted, meanwhile) =>
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
            let (rewritten, asked) = (None, None);
            let started =
                Started { at: now, generation, restart, rewritten, asked, daemon, answered, noted, reported, undone };
            self.started.insert(unit.clone(), started);
        }
        self.starts.extend(needs.iter().chain([unit]).map(|unit| (unit.clone(), now)));
        self.unwritten.insert(unit.clone());
        verdict
    }

    /// Whether another start is right. A unit that went down with one that it needs, or with the lease, is started
    /// again with it, unless it was down before.
    fn may_start_again(
        &self,
        before: &Started,
        newest: Revision,
        needs: &BTreeSet<UnitName>,
        wanted: &BTreeSet<UnitName>,
        Meanwhile { down, lapsed, .. }: Meanwhile,
    ) -> bool {
        let took_it_down = |at: Duration| at >= before.at && down.is_none_or(|down| at <= down);
        let returns = |need: &UnitName| {
            // Not a later one: somebody else may have started what it needs meanwhile, without this unit.
            let stop = self.stops.get(need).and_then(|all| all.iter().find(|(at, _)| took_it_down(*at)));
            stop.is_some_and(|(_, why)| match why {
                Why::Replaced | Why::Restarted => true,
                Why::Down => wanted.contains(need),
                Why::Away => false,
            })
        };
        let lapsed = lapsed.is_some_and(|lapsed| lapsed >= before.at);
        newest > before.carried_out(self.daemon)
            || before.undone
            || self.is_unknown(before)
            || lapsed
            || needs.iter().any(returns)
    }

    /// The agent has received the answer to its last request to start `unit`.
    pub(crate) fn start_answered(&mut self, unit: &UnitName) {
        if let Some(started) = self.started.get_mut(unit) {
            started.answered = true;
        }
    }

    /// The host was rebooted: only the number of daemons is kept.
    pub(crate) fn reboot(&mut self) {
        *self = Self { daemon: self.daemon, ..Self::default() };
    }
}
