//! One look at a rollout: whether it is needed, who takes part in it, and its next step. Must never decide how it goes
//! on (`pace` does).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::cluster::Cluster;
use crate::model::name::{MachineId, UnitName};
use crate::model::rollout::riding::RiderFiles;
use crate::model::rollout::{Gate, MemberName, Overtaken, Phase, Rollout};
use crate::model::unit::{Unit, UnitReport};

use super::super::gate::riding::{lead_of, riders_of};
use super::super::gate::{is_spare, launched, next_generation, rollout_of};
use super::super::pace::{self, Look, Member, Step};
use super::super::schedule::Scheduler;
use super::membership::Membership;
use super::riding::{Files, Group, Turn, Waiting, turn};
use super::{GateEvent, Rollouts, hooks, may_belong_to, riding};

/// How often one look can change a rollout: from its begin to its end, and back.
const STEPS: usize = 8;

impl Rollouts {
    /// Something has happened to unit `name`: look at the rollouts that may wait for it.
    pub(super) fn happened_to(&mut self, cluster: &Cluster, name: &UnitName) {
        // One that is done may have left the unit behind its gate, because its host was silent or gone.
        let left_by = cluster.gates.get(name).map(|gate| &gate.value.rollout);
        let is_done =
            |rollout: &&UnitName| cluster.rollouts.get(*rollout).is_some_and(|it| it.value.phase == Phase::Done);
        self.dirty.extend(left_by.filter(is_done).cloned());
        if self.active.is_empty() {
            return;
        }
        let waits = |rollout: &&UnitName| {
            let rollout = cluster.rollouts.get(*rollout).map(|rollout| &rollout.value);
            rollout.is_some_and(|rollout| rollout.waits_for_hook(name))
        };
        self.dirty.extend(self.active.iter().filter(waits).cloned());
        let rollouts = may_belong_to(cluster, name);
        self.dirty.extend(rollouts.filter(|rollout| self.active.contains(rollout)));
    }

    /// Look at the rollout `name`, and do what is to be done now.
    pub(super) fn look(&mut self, scheduler: &mut Scheduler, name: &UnitName, now: u64) {
        self.wakes.remove(name);
        let cluster = scheduler.cluster();
        let subject = self.record(cluster, name).filter(|record| is_rolled_out(cluster, name, record)).cloned();
        let Some(subject) = subject else {
            if !self.unreadable.contains(name) {
                let own = cluster.rollouts.get(name).filter(|_| lead_of(cluster, name).is_some());
                self.joined.extend(own.map(|own| (name.clone(), own.value.clone())));
                self.open(scheduler, name, |_, _| true);
                self.set_rollout(scheduler, name, None);
            }
            return;
        };
        for _ in 0..STEPS {
            self.see_hosts(scheduler, name);
            let members = self.membership(scheduler, name, &subject);
            let (rollout, members) = self.current(scheduler.cluster(), (name, &subject), members, now);
            let Some(rollout) = rollout else {
                self.open(scheduler, name, |_, gate| gate.is_by_host());
                return self.end_spares(scheduler, name);
            };
            self.set_rollout(scheduler, name, Some(rollout.clone()));
            if !matches!(rollout.phase, Phase::Rolling | Phase::After | Phase::Done) {
                self.start_fresh(scheduler, &rollout, name, &members);
            }
            self.kept.insert(name.clone(), members);
            let (after, added) = self.advance(scheduler, name, &subject, now);
            if after == rollout && !added {
                break;
            }
        }
        if !self.active.contains(name) {
            self.kept.remove(name);
        }
        let gates = &scheduler.cluster().gates;
        let done = scheduler.cluster().rollouts.get(name).map(|rollout| &rollout.value);
        let done =
            done.filter(|done| done.phase == Phase::Done && gates.values().any(|gate| gate.value.rollout == *name));
        if let Some(done) = done.cloned() {
            // Of members that aren't launched. Those whose hosts are silent or gone wait until these are heard again.
            let members = self.membership(scheduler, name, &subject);
            self.open(scheduler, name, |unit, gate| gate.target == *done.target_of(unit) && !members.is_waiting(unit));
        }
    }

    /// The members of the rollout `name` as they are now.
    fn membership(&mut self, scheduler: &mut Scheduler, name: &UnitName, subject: &Unit) -> Membership {
        self.heed_changes(scheduler);
        let mut members = self.kept.remove(name).unwrap_or_default();
        let examined = members.examined();
        members.find(self, scheduler.cluster(), name, subject);
        self.examined += members.examined() - examined;
        members
    }

    /// The rollout to the file of `subject`, the record of `name`: the one that runs, or a new one. `None` if there has
    /// never been one, and none is needed.
    fn current(
        &mut self,
        cluster: &Cluster,
        (name, subject): (&UnitName, &Unit),
        mut members: Membership,
        now: u64,
    ) -> (Option<Rollout>, Membership) {
        let known = cluster.rollouts.get(name).map(|rollout| &rollout.value);
        let phase = known.map(|known| known.phase);
        let of_set = members.is_awaited(name);
        let awaited = riders_of(cluster, name).filter(|rider| members.is_awaited(rider));
        let waiting = Waiting { of_set, riders: awaited.collect() };
        let files = |rider: &UnitName| {
            let hash = &cluster.units.get(rider)?.hash;
            let same = known.and_then(|known| known.riders.get(rider)).filter(|files| files.target == *hash);
            let files = same.cloned().or_else(|| self.rider_files(cluster, &members.groups(), known, rider))?;
            Some((rider.clone(), files))
        };
        let riders: BTreeMap<UnitName, RiderFiles> = riders_of(cluster, name).filter_map(files).collect();
        if let Some(known) = known.filter(|known| known.target == subject.hash) {
            // One that is done but for hosts that are silent or gone would come to the same end again.
            let is_heard = known.phase != Phase::Done || !waiting.any() || members.is_any_heard(cluster, known);
            let nobody = Waiting::default();
            if let Turn::GoesOn(riders) = turn(known, &riders, if is_heard { &waiting } else { &nobody }) {
                let goes_on = Rollout { riders, ..known.clone() };
                return (Some(riding::ended_if_left(known, goes_on, &waiting, now)), members);
            }
        }
        if !waiting.any() && known.is_none() {
            return (None, members);
        }
        let groups = members.groups();
        let own = known.map(|known| (&known.target, &known.from));
        let from = Files::of(cluster, &groups, (name, &subject.hash), own).before(cluster, phase);
        let files = |rider: UnitName| self.rider_files(cluster, &groups, known, &rider).map(|files| (rider, files));
        let riders: BTreeMap<UnitName, RiderFiles> = riders.into_keys().filter_map(files).collect();
        let (phase, why) = match (waiting.any(), self.damaged.remove(name)) {
            // Nobody has to be stopped for it.
            (false, _) => (Phase::Done, None),
            (true, false) => (Phase::Canary, None),
            (true, true) => (Phase::Paused, Some("the record of how far it had got was damaged".into())),
        };
        let heeded = subject.ask.as_ref().map(|ask| ask.generation).or(known.map(|known| known.heeded));
        let rollout = Rollout {
            riders,
            why,
            heeded: heeded.unwrap_or_default(),
            outcomes: known.map(|known| known.outcomes.clone()).unwrap_or_default(),
            stopping: known.and_then(|known| known.running()).map(|run| run.unit.clone()),
            overtook: known.and_then(|known| overtaken(cluster, known, &groups)).map(Box::new),
            ..Rollout::begun(subject.hash.clone(), from, phase, now)
        };
        members.begin_again();
        (Some(rollout), members)
    }

    /// The file of the rider that its members have before, and the one that they are to have. Of one that was rolled
    /// out by itself so far, its own rollout says which was the last stable one.
    fn rider_files(
        &self,
        cluster: &Cluster,
        groups: &[&Group],
        known: Option<&Rollout>,
        rider: &UnitName,
    ) -> Option<RiderFiles> {
        let target = &cluster.units.get(rider)?.hash;
        let ridden = || known.and_then(|known| Some((known.phase, known.riders.get(rider)?)));
        let ridden = || ridden().map(|(phase, files)| (phase, (&files.target, &files.from)));
        let own = || cluster.rollouts.get(rider).map(|own| &own.value).or_else(|| self.joined.get(rider));
        let last = ridden().or_else(|| own().map(|own| (own.phase, (&own.target, &own.from))));
        let files = Files::of(cluster, groups, (rider, target), last.map(|(_, files)| files));
        let phase = last.map(|(phase, _)| phase).or(known.map(|known| known.phase));
        Some(RiderFiles { target: target.clone(), from: files.before(cluster, phase) })
    }

    /// Members that are new, or were started, get the file before until the new one has proved itself.
    fn start_fresh(&mut self, scheduler: &mut Scheduler, rollout: &Rollout, name: &UnitName, members: &Membership) {
        // The gate of a global unit holds back hosts that are new by itself.
        let fresh = self.fresh.iter().filter(|unit| members.has(unit) && rollout.changes(unit));
        for unit in &fresh.cloned().collect::<Vec<_>>() {
            let cluster = scheduler.cluster();
            let (before, target) = (rollout.from_of(unit), rollout.target_of(unit));
            let Some(record) = cluster.units.get(unit).filter(|_| !cluster.gates.contains_key(unit)) else {
                continue;
            };
            if !cluster.files.contains_key(&before.hash) {
                continue;
            }
            let record = record.clone();
            let held = before.held(record.generation, record.restart);
            let gate = Gate::new(name, target, held, record.generation);
            self.set_gate(scheduler, unit, Some(gate), GateEvent::Closed);
            self.schedule(scheduler, unit, record);
        }
    }

    /// Do the next step of a rollout. Returns the rollout after it, and whether its members or spares are others, or
    /// another hook runs.
    fn advance(&mut self, scheduler: &mut Scheduler, name: &UnitName, subject: &Unit, now: u64) -> (Rollout, bool) {
        let mut members = self.membership(scheduler, name, subject);
        let cluster = scheduler.cluster();
        let rollout = &cluster.rollouts[name].value;
        let file = cluster.files.get(&rollout.target).map(|file| Arc::clone(&file.value));
        let policy = file.as_ref().and_then(|file| file.rollout.as_deref().cloned()).unwrap_or_default();
        // They are there for the file of the set, which names them.
        let has_hooks = !subject.without_hooks && !rollout.is_of_riders();
        let policy = if has_hooks { policy } else { policy.without_hooks() };
        let examined = members.examined();
        members.tell(cluster, rollout, file.as_ref());
        let mut timers = std::mem::take(&mut members.timers);
        let fits = |member: &Member| riding::fit(cluster, &members.units(cluster, rollout, member), rollout);
        let ask = subject.ask.as_deref();
        let hook = hooks::running(cluster, rollout);
        let can_run = |unit: &UnitName| hooks::can_run(cluster, unit);
        let look = Look { rollout, policy: &policy, ask, fits: &fits, hook: hook.as_ref(), can_run: &can_run };
        let mut step = pace::advance(&look, &mut timers, now);
        members.timers = timers;
        self.examined += members.examined() - examined;
        let failed = |rollout: &Rollout| (rollout.failed.clone(), rollout.failed_on.clone());
        // A host may report that a unit has failed before it has read the journal.
        if failed(&step.rollout) != failed(rollout) || step.rollout.lines.is_empty() {
            step.rollout.lines = lines(cluster, name, &step.rollout);
        }
        let group = |member: &MemberName| members.group(cluster, rollout, member);
        let groups = [&step.let_through, &step.revert].map(|names| names.iter().filter_map(&group).collect::<Vec<_>>());
        self.set_rollout(scheduler, name, Some(step.rollout.clone()));
        if self.active.contains(name) {
            self.kept.insert(name.clone(), members);
        }
        if let Some(wake) = step.wake {
            self.wakes.insert(name.clone(), wake);
        }
        self.carry_out(scheduler, (name, subject), groups, &step);
        let after = step.rollout.phase == Phase::After;
        let begins = |unit: &UnitName| self.begin_hook(scheduler, (name, subject), (unit, after), now);
        let has_begun = step.run.as_ref().is_some_and(begins);
        // Of one without a host, nothing may ever happen that would be looked at.
        let others = step.add > 0 || !step.let_through.is_empty() || !step.revert.is_empty();
        (step.rollout, others || has_begun)
    }

    /// Do to the members and spares of the set or unit `name`, which has this record, what was decided: those that are
    /// let through, and those that go back, come with the units that ride with them.
    fn carry_out(
        &mut self,
        scheduler: &mut Scheduler,
        (name, subject): (&UnitName, &Unit),
        [through, back]: [Vec<Group>; 2],
        step: &Step,
    ) {
        let rollout = &step.rollout;
        let are_units = |group: &&Group| group.name.host.is_none();
        self.let_hosts_through(scheduler, name, hosts_of(&step.let_through));
        for unit in through.iter().filter(are_units).flat_map(|group| &group.units) {
            if is_spare(scheduler.cluster(), unit) {
                self.renew_spare(scheduler, unit, (name, rollout));
                continue;
            }
            self.set_gate(scheduler, unit, None, GateEvent::LetThrough);
            if let Some(record) = self.asked.get(unit).cloned() {
                self.schedule(scheduler, unit, record);
            }
        }
        self.take_hosts_back(scheduler, (name, subject), &rollout.from, hosts_of(&step.revert));
        for group in back.iter().filter(are_units) {
            for unit in riding::to_take_back(scheduler.cluster(), &group.units, rollout) {
                if is_spare(scheduler.cluster(), unit) {
                    self.give_spare(scheduler, unit, (name, &rollout.target), rollout.from_of(unit));
                } else {
                    self.take_back(scheduler, name, rollout, unit);
                }
            }
        }
        for spare in units_of(&step.end) {
            self.end_spare(scheduler, spare);
        }
        self.add_spares(scheduler, (name, subject), rollout, step.add);
    }

    /// Give a unit the file before again.
    fn take_back(&mut self, scheduler: &mut Scheduler, name: &UnitName, rollout: &Rollout, unit: &UnitName) {
        let cluster = scheduler.cluster();
        let Some(record) = self.record(cluster, unit).cloned() else { return };
        let runs = launched(cluster, unit).map(|(_, runs)| runs.generation);
        let from = rollout.from_of(unit);
        // One that keeps its file isn't asked for anything: with a later generation, its host would start it once more,
        // and again when it is let through.
        let generation = match from.hash == record.hash {
            true => record.generation,
            false => next_generation(cluster, Some(&record), runs),
        };
        let held = from.held(generation, record.restart);
        let gate = Gate::new(name, rollout.target_of(unit), held, record.generation);
        self.set_gate(scheduler, unit, Some(gate), GateEvent::TakenBack);
        self.schedule(scheduler, unit, record);
    }
}

/// The members that are units.
fn units_of(members: &[MemberName]) -> impl Iterator<Item = &UnitName> {
    members.iter().filter(|member| member.host.is_none()).map(|member| &member.unit)
}

/// The hosts of members that are a global unit on a host.
fn hosts_of(members: &[MemberName]) -> Vec<&MachineId> {
    members.iter().filter_map(|member| member.host.as_ref()).collect()
}

/// The end of the journal of the member or hook of the rollout `name` that has failed, as far as its host has reported
/// that.
fn lines(cluster: &Cluster, name: &UnitName, rollout: &Rollout) -> Vec<String> {
    let reported = || {
        let failed = rollout.failed.as_ref()?;
        let host = rollout.failed_on.as_ref().or_else(|| launched(cluster, failed).map(|(host, _)| host))?;
        // A member may fail with the file before as well.
        let is_of = |set: UnitName| set == *name || rollout.riders.contains_key(&set);
        let is_member = failed == name || failed.set().is_some_and(is_of);
        let is_about = |report: &&UnitReport| !is_member || report.hash == *rollout.target_of(failed);
        let report = cluster.report(failed, host).filter(is_about)?;
        Some(report.failure.as_ref()?.lines.clone())
    };
    reported().unwrap_or_default()
}

/// How far a rollout has got whose place another one takes; `None` if it has ended.
fn overtaken(cluster: &Cluster, known: &Rollout, members: &[&Group]) -> Option<Overtaken> {
    let has_it = |group: &&&Group| match &group.name.host {
        Some(host) => {
            let assignment = cluster.schedule.get(host).and_then(|assignments| assignments.get(&group.name.unit));
            assignment.is_some_and(|assignment| assignment.value.hash == known.target)
        }
        None => {
            let has = |unit: &UnitName| {
                launched(cluster, unit).is_some_and(|(_, assignment)| assignment.hash == *known.target_of(unit))
            };
            group.units.iter().all(has)
        }
    };
    let reached = members.iter().filter(has_it).count();
    let target = known.target.clone();
    (!known.phase.is_over()).then_some(Overtaken { target, reached, members: members.len() })
}

/// Whether `name` is a set that isn't rolled out with its lead, or a unit whose file says how it is rolled out.
fn is_rolled_out(cluster: &Cluster, name: &UnitName, record: &Unit) -> bool {
    if name.is_template() {
        return record.replicas.is_some() && lead_of(cluster, name).is_none();
    }
    // What the file says isn't known before it is there.
    !cluster.files.contains_key(&record.hash) || rollout_of(cluster, name, record).as_ref() == Some(name)
}
