//! One look at a rollout: whether it is needed, who takes part in it, and its next step. Must never decide how it goes
//! on (`pace` does).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::cluster::Cluster;
use crate::model::failure::Failure;
use crate::model::name::{MachineId, UnitHash, UnitName};
use crate::model::rollout::{File, Gate, MemberName, Phase, Rollout};
use crate::model::unit::{Desired, Unit};

use super::super::gate::hosts::launched_on;
use super::super::gate::{instances, is_global, launched, rollout_of};
use super::super::pace::{self, Look, Member, Step};
use super::super::schedule::Scheduler;
use super::{GateEvent, Rollouts, hooks, member, next_generation, spares};

/// How often one look can change a rollout: from its begin to its end, and back.
const STEPS: usize = 8;

impl Rollouts {
    /// Look at the rollout `name`, and do what is to be done now.
    pub(super) fn look(&mut self, scheduler: &mut Scheduler, name: &UnitName, now: u64) {
        self.wakes.remove(name);
        let cluster = scheduler.cluster();
        let subject = self.record(cluster, name).filter(|record| is_rolled_out(cluster, name, record)).cloned();
        let Some(subject) = subject else {
            if !self.unreadable.contains(name) {
                self.open(scheduler, name, |_| true);
                self.set_rollout(scheduler, name, None);
            }
            return;
        };
        for _ in 0..STEPS {
            self.see_hosts(scheduler, name);
            let members = self.members(scheduler.cluster(), name, &subject);
            let Some(rollout) = self.current(scheduler.cluster(), name, &subject, &members, now) else {
                self.open(scheduler, name, Gate::is_by_host);
                return self.end_spares(scheduler, name);
            };
            self.set_rollout(scheduler, name, Some(rollout.clone()));
            if !matches!(rollout.phase, Phase::Rolling | Phase::After | Phase::Done) {
                self.start_fresh(scheduler, &rollout, name, &members);
            }
            let (after, added) = self.advance(scheduler, name, &subject, &members, now);
            if after == rollout && !added {
                break;
            }
        }
        let target = &subject.hash;
        if scheduler.cluster().rollouts.get(name).is_some_and(|rollout| rollout.value.phase == Phase::Done) {
            // Of members that aren't launched.
            self.open(scheduler, name, |gate| gate.target == *target);
        }
    }

    /// The members that have the file of `subject`, or are to get it. Those of a global unit are the hosts that have
    /// it.
    fn members(&self, cluster: &Cluster, name: &UnitName, subject: &Unit) -> Vec<MemberName> {
        if !name.is_template() {
            if subject.desired != Desired::Launched {
                return Vec::new();
            }
            let on = |host: &MachineId| MemberName { unit: name.clone(), host: Some(host.clone()) };
            return match is_global(cluster, subject) {
                true => launched_on(cluster, name).map(|(host, _)| on(host)).collect(),
                false => vec![name.clone().into()],
            };
        }
        let is_member = |record: &Unit| record.desired == Desired::Launched && record.hash == subject.hash;
        let members = instances(cluster, name).filter(|name| self.record(cluster, name).is_some_and(is_member));
        members.cloned().map(MemberName::from).collect()
    }

    /// The rollout to the file of `subject`: the one that runs, or a new one. `None` if there has never been one, and
    /// none is needed.
    fn current(
        &mut self,
        cluster: &Cluster,
        name: &UnitName,
        subject: &Unit,
        members: &[MemberName],
        now: u64,
    ) -> Option<Rollout> {
        let known = cluster.rollouts.get(name).map(|rollout| &rollout.value);
        let gates: Vec<&Gate> = members.iter().filter_map(|member| gate_of(cluster, member)).collect();
        let is_needed = gates.iter().any(|gate| gate.target == subject.hash);
        let goes_on = |known: &&Rollout| known.target == subject.hash && !(known.phase == Phase::Done && is_needed);
        if let Some(known) = known.filter(goes_on) {
            return Some(known.clone());
        }
        if !is_needed && known.is_none() {
            return None;
        }
        self.timers.remove(name);
        let from = before(cluster, known, &gates).unwrap_or(File { hash: subject.hash.clone(), text: None });
        let (phase, why) = match (is_needed, self.damaged.remove(name)) {
            // Nobody has to be stopped for it.
            (false, _) => (Phase::Done, None),
            (true, false) => (Phase::Canary, None),
            (true, true) => (Phase::Paused, Some("the record of how far it had got was damaged".into())),
        };
        let heeded = subject.ask.as_ref().map(|ask| ask.generation).or(known.map(|known| known.heeded));
        Some(Rollout {
            why,
            heeded: heeded.unwrap_or_default(),
            outcomes: known.map(|known| known.outcomes.clone()).unwrap_or_default(),
            stopping: known.and_then(|known| known.running()).map(|run| run.unit.clone()),
            ..Rollout::begun(subject.hash.clone(), from, phase, now)
        })
    }

    /// Members that are new, or were started, get the file before until the new one has proved itself.
    fn start_fresh(&mut self, scheduler: &mut Scheduler, rollout: &Rollout, name: &UnitName, members: &[MemberName]) {
        let before = &rollout.from.hash;
        if *before == rollout.target || !scheduler.cluster().files.contains_key(before) {
            return;
        }
        // The gate of a global unit holds back hosts that are new by itself.
        let units = members.iter().filter(|member| member.host.is_none()).map(|member| &member.unit);
        let fresh: Vec<&UnitName> = units.filter(|unit| self.fresh.contains(*unit)).collect();
        for member in fresh {
            let cluster = scheduler.cluster();
            let Some(record) = cluster.units.get(member).filter(|_| !cluster.gates.contains_key(member)) else {
                continue;
            };
            let record = record.clone();
            let held = rollout.from.held(record.generation, record.restart);
            let gate = Gate::new(name, &rollout.target, held, record.generation);
            self.set_gate(scheduler, member, Some(gate), GateEvent::Closed);
            self.schedule(scheduler, member, record);
        }
    }

    /// Do the next step of a rollout. Returns the rollout after it, and whether it has more spares or another hook
    /// runs.
    fn advance(
        &mut self,
        scheduler: &mut Scheduler,
        name: &UnitName,
        subject: &Unit,
        members: &[MemberName],
        now: u64,
    ) -> (Rollout, bool) {
        let cluster = scheduler.cluster();
        let rollout = &cluster.rollouts[name].value;
        let file = cluster.files.get(&rollout.target).map(|file| Arc::clone(&file.value));
        let policy = file.as_ref().and_then(|file| file.rollout.as_deref().cloned()).unwrap_or_default();
        let policy = if subject.without_hooks { policy.without_hooks() } else { policy };
        let spares = spares::of(cluster, name);
        let spare = |spare: &UnitName| member::spare(cluster, spare, &rollout.target);
        let state = |name: &MemberName| member::member(cluster, name, file.as_ref());
        let states: Vec<Member> = members.iter().map(state).chain(spares.iter().map(spare)).collect();
        let fits = |member: &Member| match &file {
            Some(file) => member::fits(cluster, member, file),
            None => Ok(()),
        };
        let (ask, members) = (subject.ask.as_deref(), &states[..]);
        let hook = hooks::running(cluster, rollout);
        let can_run = |unit: &UnitName| hooks::can_run(cluster, unit);
        let look = Look { rollout, policy: &policy, ask, members, fits: &fits, hook: hook.as_ref(), can_run: &can_run };
        let mut step = pace::advance(&look, self.timers.entry(name.clone()).or_default(), now);
        let failed = |rollout: &Rollout| (rollout.failed.clone(), rollout.failed_on.clone());
        if failed(&step.rollout) != failed(rollout) {
            let (member, host) = (step.rollout.failed.as_ref(), step.rollout.failed_on.as_ref());
            let failed = member.and_then(|member| failure(cluster, member, host));
            step.rollout.lines = failed.map(|failure| failure.lines.clone()).unwrap_or_default();
        }
        self.set_rollout(scheduler, name, Some(step.rollout.clone()));
        if let Some(wake) = step.wake {
            self.wakes.insert(name.clone(), wake);
        }
        self.carry_out(scheduler, (name, subject), &step);
        let after = step.rollout.phase == Phase::After;
        let begins = |unit: &UnitName| self.begin_hook(scheduler, (name, subject), (unit, after), now);
        let has_begun = step.run.as_ref().is_some_and(begins);
        (step.rollout, step.add > 0 || has_begun)
    }

    /// Do to the members and spares of the set or unit `name`, which has this record, what was decided.
    fn carry_out(&mut self, scheduler: &mut Scheduler, (name, subject): (&UnitName, &Unit), step: &Step) {
        let rollout = (name, &step.rollout.target);
        let spares = spares::of(scheduler.cluster(), name);
        self.let_hosts_through(scheduler, name, hosts_of(&step.let_through));
        for member in units_of(&step.let_through) {
            if spares.contains(member) {
                let file = File { hash: subject.hash.clone(), text: subject.text.clone() };
                self.give_spare(scheduler, member, rollout, &file);
                continue;
            }
            self.set_gate(scheduler, member, None, GateEvent::LetThrough);
            if let Some(record) = self.asked.get(member).cloned() {
                self.schedule(scheduler, member, record);
            }
        }
        self.take_hosts_back(scheduler, (name, subject), &step.rollout.from, hosts_of(&step.revert));
        for member in units_of(&step.revert) {
            if spares.contains(member) {
                self.give_spare(scheduler, member, rollout, &step.rollout.from);
            } else {
                self.take_back(scheduler, name, &step.rollout, member);
            }
        }
        for spare in units_of(&step.end) {
            self.end_spare(scheduler, spare);
        }
        self.add_spares(scheduler, (name, subject), &step.rollout, step.add);
    }

    /// Give a member the file before again.
    fn take_back(&mut self, scheduler: &mut Scheduler, name: &UnitName, rollout: &Rollout, member: &UnitName) {
        let cluster = scheduler.cluster();
        let Some(record) = self.record(cluster, member).cloned() else { return };
        let runs = launched(cluster, member).map(|(_, runs)| runs.generation);
        let held = rollout.from.held(next_generation(cluster, Some(&record), runs), record.restart);
        let gate = Gate::new(name, &rollout.target, held, record.generation);
        self.set_gate(scheduler, member, Some(gate), GateEvent::TakenBack);
        self.schedule(scheduler, member, record);
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

/// The gate that holds a member back.
fn gate_of<'a>(cluster: &'a Cluster, member: &MemberName) -> Option<&'a Gate> {
    let gate = &cluster.gates.get(&member.unit)?.value;
    member.host.as_ref().is_none_or(|host| gate.held_on(host).is_some()).then_some(gate)
}

/// Why a unit failed on its host, or a global one on `host`, as that has reported it.
fn failure<'a>(cluster: &'a Cluster, name: &UnitName, host: Option<&MachineId>) -> Option<&'a Failure> {
    let own = || launched(cluster, name).map(|(host, _)| host);
    cluster.report(name, host.or_else(own)?)?.failure.as_deref()
}

/// Whether `name` is a set, or a unit whose file says how it is rolled out.
fn is_rolled_out(cluster: &Cluster, name: &UnitName, record: &Unit) -> bool {
    if name.is_template() {
        return record.replicas.is_some();
    }
    // What the file says isn't known before it is there.
    !cluster.files.contains_key(&record.hash) || rollout_of(cluster, name, record).as_ref() == Some(name)
}

/// The file to go back to: the last one that was stable, or the one that most of the members behind gates run.
fn before(cluster: &Cluster, known: Option<&Rollout>, gates: &[&Gate]) -> Option<File> {
    let text = |hash: &UnitHash| gates.iter().find(|gate| gate.hash == *hash).and_then(|gate| gate.text.clone());
    let stable = known.map(|known| match known.phase {
        Phase::Done => File { text: text(&known.target), hash: known.target.clone() },
        _ => known.from.clone(),
    });
    if let Some(stable) = stable.filter(|stable| cluster.files.contains_key(&stable.hash)) {
        return Some(stable);
    }
    let mut counts: BTreeMap<&UnitHash, usize> = BTreeMap::new();
    gates.iter().for_each(|gate| *counts.entry(&gate.hash).or_default() += 1);
    let (hash, _) = counts.into_iter().max_by_key(|(_, count)| *count)?;
    Some(File { hash: hash.clone(), text: text(hash) })
}
