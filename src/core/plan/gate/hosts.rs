//! Gates of global units, which hold back single hosts. Owns when such a gate is needed, and how it changes. Pure; must
//! never decide which host is let through (`pace` does).

use std::collections::{BTreeMap, BTreeSet};

use crate::model::cluster::Cluster;
use crate::model::name::{MachineId, UnitHash, UnitName};
use crate::model::rollout::hosts::{HeldFile, Hosts};
use crate::model::rollout::{Gate, Phase};
use crate::model::unit::{Assignment, Target, Unit};

use super::{is_same_body, next_generation, stays_up};

/// The hosts on which a global unit is launched, alive or not, and what they are told.
pub fn launched_on<'a>(
    cluster: &'a Cluster,
    name: &'a UnitName,
) -> impl Iterator<Item = (&'a MachineId, &'a Assignment)> {
    assigned_on(cluster, name).filter(|(_, assignment)| assignment.target == Target::Launched)
}

/// Whether a global unit is launched on `host`, alive or not.
#[must_use]
pub fn is_launched_on(cluster: &Cluster, name: &UnitName, host: &MachineId) -> bool {
    let assignment = cluster.schedule.get(host).and_then(|assignments| assignments.get(name));
    assignment.is_some_and(|assignment| assignment.value.global && assignment.value.target == Target::Launched)
}

/// The hosts to which a global unit is assigned, alive or not, and what they are told.
fn assigned_on<'a>(cluster: &'a Cluster, name: &'a UnitName) -> impl Iterator<Item = (&'a MachineId, &'a Assignment)> {
    let assigned =
        cluster.schedule.iter().filter_map(|(host, assignments)| Some((host, &assignments.get(name)?.value)));
    assigned.filter(|(_, assignment)| assignment.global)
}

/// A new gate for a global unit with this record, if some of its hosts would have to stop it for that file. Each of
/// these goes on with the file that it runs. All others, also those that are yet to join, have the file that an earlier
/// gate names, or else the one that most of these hosts run; a host on which it was stopped is asked anew to start
/// that. One that is gone keeps the generation that it had of it, and is asked anew if it had another file: it may have
/// carried out a greater generation than that of the others.
pub(super) fn needed(cluster: &Cluster, name: &UnitName, record: &Unit) -> Option<Gate> {
    let runs: BTreeMap<&MachineId, HeldFile> =
        launched_on(cluster, name).map(|(host, assignment)| (host, file_of(assignment))).collect();
    if runs.values().any(|file| excludes_others(cluster, &file.hash, &record.hash)) {
        return None;
    }
    let stops = |(host, file): &(&&MachineId, &HeldFile)| !stays_up(cluster, (name, host), &file.hash, &record.hash);
    let held: BTreeMap<&MachineId, &HeldFile> = runs.iter().filter(stops).map(|(host, file)| (*host, file)).collect();
    if held.is_empty() {
        return None;
    }
    let known = cluster.gates.get(name).map(|gate| &gate.value).filter(|gate| gate.is_by_host());
    // A request since that gate was closed, such as a restart, has given its file a greater generation.
    let newest = |file: HeldFile| {
        let same = runs.values().filter(|run| run.hash == file.hash).cloned();
        same.chain([file.clone()]).max_by_key(|run| run.generation).unwrap_or(file)
    };
    let file = known.map(|gate| newest(gate.held().into())).or_else(|| most_common(held.values().copied()))?;
    // Systemd would read the same from it, and no host loses the unit: nobody has to wait for this one.
    let is_same = |file: &HeldFile| is_same_body(cluster, &file.hash, &record.hash);
    let is_free = is_same(&file) && !held.values().any(|file| is_same(file));
    let file = if is_free { HeldFile { hash: record.hash.clone(), text: record.text.clone(), ..file } } else { file };
    let differs = |(host, runs): (&&MachineId, &HeldFile)| {
        let is_through = !held.contains_key(host);
        (is_through || *runs != file).then(|| ((*host).clone(), (!is_through).then(|| runs.clone())))
    };
    let asked = HeldFile { generation: record.generation, restart: record.restart, ..file.clone() };
    let stopped = assigned_on(cluster, name).filter(|(_, assignment)| assignment.target == Target::Loaded);
    let stopped = stopped.filter(|_| file.hash != record.hash).map(|(host, _)| (host.clone(), Some(asked.clone())));
    // As above, for a host that comes back.
    let absent =
        known.into_iter().flat_map(|gate| gate.hosts.iter().flat_map(|hosts| hosts.iter()).map(move |on| (gate, on)));
    let absent = absent.filter(|(_, (host, _))| !runs.contains_key(host)).map(|(gate, (host, held))| {
        let held = match held.as_ref().filter(|held| held.hash == gate.hash) {
            Some(HeldFile { generation, restart, .. }) => {
                HeldFile { generation: *generation, restart: *restart, ..file.clone() }
            }
            None => asked.clone(),
        };
        (host.clone(), Some(held))
    });
    let hosts: Hosts = absent.chain(stopped).chain(runs.iter().filter_map(differs)).collect();
    let gate = Gate::new(name, &record.hash, file, record.generation);
    Some(Gate { hosts: Some(Box::new(hosts)), ..gate })
}

/// Whether two files exclude different units from their hosts. What a global unit excludes is the same on all hosts:
/// one that has yet to get a file, or gets the one before again, must not have what that excludes.
fn excludes_others(cluster: &Cluster, one: &UnitHash, other: &UnitHash) -> bool {
    let conflicts = |hash: &UnitHash| cluster.files.get(hash).map(|file| &file.value.conflicts);
    conflicts(one) != conflicts(other)
}

/// What a unit runs that is told this.
pub(in crate::plan) fn file_of(assignment: &Assignment) -> HeldFile {
    let Assignment { hash, text, generation, restart, .. } = assignment;
    HeldFile { hash: hash.clone(), text: text.clone(), generation: *generation, restart: *restart }
}

fn most_common<'a>(files: impl Iterator<Item = &'a HeldFile>) -> Option<HeldFile> {
    let mut counts: BTreeMap<&HeldFile, usize> = BTreeMap::new();
    files.for_each(|file| *counts.entry(file).or_default() += 1);
    counts.into_iter().max_by_key(|(_, count)| *count).map(|(file, _)| file.clone())
}

/// The gate after a leader that didn't know it has let hosts through to the file of `record`.
#[must_use]
pub fn caught_up(cluster: &Cluster, name: &UnitName, record: &Unit, gate: &Gate) -> Gate {
    let is_passed = |(host, assignment): &(&MachineId, &Assignment)| {
        assignment.hash == record.hash && assignment.generation >= gate.asked && gate.held_on(host).is_some()
    };
    with(gate, launched_on(cluster, name).filter(is_passed).map(|(host, _)| (host.clone(), None)))
}

/// The gate with these files for these hosts instead: `None` is let through.
#[must_use]
pub fn with(gate: &Gate, these: impl IntoIterator<Item = (MachineId, Option<HeldFile>)>) -> Gate {
    let mut gate = gate.clone();
    gate.hosts.get_or_insert_default().extend(these);
    gate
}

/// The gate in this phase, as far as it is about those of `these` hosts that don't have the unit; `None` if it says
/// that already. One that gets it has the new file once all get it, and before that and after it failed, the file of
/// all others.
#[must_use]
pub fn in_phase<'a>(
    cluster: &Cluster,
    name: &UnitName,
    gate: &Gate,
    phase: Phase,
    these: impl IntoIterator<Item = &'a MachineId>,
) -> Option<Gate> {
    let absent = these.into_iter().filter(|host| !is_launched_on(cluster, name, host));
    match phase {
        Phase::Rolling | Phase::After | Phase::Done => {
            let is_held = |host: &&MachineId| cluster.machines.contains_key(*host) && gate.held_on(host).is_some();
            let held: Vec<_> = absent.filter(is_held).map(|host| (host.clone(), None)).collect();
            (!held.is_empty()).then(|| with(gate, held))
        }
        Phase::Reverting | Phase::Reverted | Phase::Stuck => {
            let named = gate.hosts.as_deref()?;
            let is_other = |held: &Option<HeldFile>| held.as_ref().is_none_or(|held| held.hash != gate.hash);
            let others = absent.filter_map(|host| Some((host, named.get(host).filter(|held| is_other(held))?)));
            let others: Vec<_> =
                others.map(|(host, held)| (host.clone(), Some(back(cluster, name, gate, held)))).collect();
            (!others.is_empty()).then(|| with(gate, others))
        }
        Phase::Before | Phase::Canary | Phase::Waiting | Phase::Paused => None,
    }
}

/// The file of all others, for a host that is gone and had another one, of which it may have carried out a greater
/// generation than that of the others: it is asked anew.
fn back(cluster: &Cluster, name: &UnitName, gate: &Gate, had: &Option<HeldFile>) -> HeldFile {
    let record = cluster.units.get(name);
    let had = had.as_ref().map_or(gate.asked, |had| had.generation);
    let restart = record.map_or(gate.restart, |record| record.restart);
    HeldFile { generation: next_generation(cluster, record, [had]), restart, ..gate.held().into() }
}

/// The hosts of which [`in_phase`] may have something to say: those that are there, and those that the gate names.
#[must_use]
pub fn all_of<'a>(cluster: &'a Cluster, gate: &'a Gate) -> BTreeSet<&'a MachineId> {
    cluster.machines.keys().chain(gate.hosts.iter().flat_map(|hosts| hosts.keys())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::cluster::Versioned;
    use crate::model::machine::Machine;
    use crate::model::revision::Revision;

    fn host(at: u8) -> MachineId {
        format!("{at:032x}").parse().unwrap()
    }

    fn name() -> UnitName {
        "agent.service".parse().unwrap()
    }

    /// Hosts 1 and 2 have the unit, host 3 is there, and host 4 is gone.
    fn cluster() -> Cluster {
        let mut cluster = Cluster::default();
        for at in 1..=3 {
            cluster.machines.insert(host(at), Machine::new(host(at), format!("n{at}")));
        }
        for at in 1..=2 {
            let assignment = Assignment::new(UnitHash::new("old"), Target::Launched, Revision(3));
            let value = Assignment { global: true, ..assignment };
            let assignment = Versioned { value, revision: Revision(3) };
            cluster.schedule.insert(host(at), BTreeMap::from([(name(), assignment)]));
        }
        cluster
    }

    #[test]
    fn hosts_without_the_unit_have_the_file_of_the_phase() {
        let cluster = cluster();
        let file =
            |hash: &str| HeldFile { hash: UnitHash::new(hash), text: None, generation: Revision(3), restart: None };
        let gate = Gate::new(&name(), &UnitHash::new("new"), file("old"), Revision(7));
        let gate = Gate { hosts: Some(Box::default()), ..gate };
        let through = with(&gate, [(host(1), None), (host(3), None), (host(4), None)]);
        let back = with(&gate, [(host(1), Some(file("old")))]);
        for (phase, before, expected) in [
            (Phase::Canary, &gate, ["old"; 4]),
            (Phase::Rolling, &gate, ["old", "old", "-", "old"]),
            (Phase::Rolling, &through, ["-", "old", "-", "-"]),
            (Phase::Waiting, &through, ["-", "old", "-", "-"]),
            (Phase::Paused, &through, ["-", "old", "-", "-"]),
            // It goes back as a member does; the others have nothing to stop.
            (Phase::Reverting, &through, ["-", "old", "old", "old"]),
            (Phase::Reverted, &back, ["old"; 4]),
        ] {
            let all = all_of(&cluster, before);
            let after = in_phase(&cluster, &name(), before, phase, all).unwrap_or_else(|| before.clone());
            assert_eq!(in_phase(&cluster, &name(), &after, phase, all_of(&cluster, &after)), None, "{phase:?}");
            let held = |at: u8| after.held_on(&host(at)).map_or_else(|| "-".into(), |held| held.hash.to_string());
            assert_eq!([1, 2, 3, 4].map(held), expected, "{phase:?}");
        }
    }

    #[test]
    fn each_host_goes_on_with_what_it_runs_and_others_with_what_most_of_them_run() {
        let record = |hash: &str| Unit::new(crate::model::unit::Desired::Launched, UnitHash::new(hash), Revision(9));
        let mut cluster = cluster();
        let third = cluster.schedule[&host(1)].clone();
        cluster.schedule.insert(host(3), third);
        cluster.schedule.get_mut(&host(2)).unwrap().get_mut(&name()).unwrap().value.hash = UnitHash::new("own");
        let gate = needed(&cluster, &name(), &record("new")).unwrap();
        let held = |gate: &Gate, at: u8| gate.held_on(&host(at)).map(|held| held.hash.to_string());
        assert_eq!([1, 2, 3, 4].map(|at| held(&gate, at).unwrap()), ["old", "own", "old", "old"]);
        assert_eq!(gate.hosts.as_ref().unwrap().len(), 1, "only what differs is written");
        // Another file takes its place: what was let through goes on with that.
        cluster.gates.insert(name(), Versioned { value: with(&gate, [(host(3), None)]), revision: Revision(9) });
        cluster.schedule.get_mut(&host(3)).unwrap().get_mut(&name()).unwrap().value.hash = UnitHash::new("new");
        let gate = needed(&cluster, &name(), &record("newer")).unwrap();
        assert_eq!([1, 2, 3, 4].map(|at| held(&gate, at).unwrap()), ["old", "own", "new", "old"]);
        // Back to the first one: only those that have another one wait.
        let gate = needed(&cluster, &name(), &record("old")).unwrap();
        assert_eq!([1, 2, 3, 4].map(|at| held(&gate, at)), [None, Some("own".into()), Some("new".into()), None]);
        cluster.schedule.retain(|at, _| *at == host(1));
        assert_eq!(needed(&cluster, &name(), &record("old")), None);
    }

    /// The one went back to that file, and may have carried out that generation; the other may have carried out a
    /// greater one of another file.
    #[test]
    fn a_host_that_is_gone_gets_no_older_generation() {
        let mut cluster = cluster();
        let record = Unit::new(crate::model::unit::Desired::Launched, UnitHash::new("new"), Revision(9));
        let gate = needed(&cluster, &name(), &record).unwrap();
        let file = |hash: &str, at| HeldFile {
            hash: UnitHash::new(hash),
            text: None,
            generation: Revision(at),
            restart: None,
        };
        let gone = [(host(4), Some(file("old", 8))), (host(3), Some(file("own", 9)))];
        let gate = with(&gate, gone);
        let gate = in_phase(&cluster, &name(), &gate, Phase::Reverted, all_of(&cluster, &gate)).unwrap();
        let held = |gate: &Gate, at: u8| gate.held_on(&host(at)).map(|held| (held.hash.to_string(), held.generation.0));
        let expected = |third| [("old".to_owned(), 3), ("old".into(), 3), ("old".into(), third), ("old".into(), 8)];
        assert_eq!([1, 2, 3, 4].map(|at| held(&gate, at).unwrap()), expected(10));
        // Another file is asked for while they are away.
        let before = with(&gate, [(host(3), None)]);
        let record = Unit { hash: UnitHash::new("newer"), generation: Revision(12), ..record };
        for (before, third) in [(gate, 10), (before, 12)] {
            cluster.gates.insert(name(), Versioned { value: before, revision: Revision(9) });
            let gate = needed(&cluster, &name(), &record).unwrap();
            assert_eq!([1, 2, 3, 4].map(|at| held(&gate, at).unwrap()), expected(third));
        }
    }

    /// Its hosts were told to restart it meanwhile, and one of them is gone since then.
    #[test]
    fn after_a_restart_another_file_gives_no_host_an_older_generation() {
        let mut cluster = cluster();
        let record = Unit::new(crate::model::unit::Desired::Launched, UnitHash::new("new"), Revision(9));
        let gate = needed(&cluster, &name(), &record).unwrap();
        cluster.gates.insert(name(), Versioned { value: gate, revision: Revision(9) });
        for assignment in cluster.schedule.values_mut().flat_map(|all| all.values_mut()) {
            assignment.value.generation = Revision(10);
        }
        cluster.schedule.remove(&host(2));
        let newer = Unit { hash: UnitHash::new("newer"), generation: Revision(12), ..record };
        let gate = needed(&cluster, &name(), &newer).unwrap();
        let held = [1, 2, 3].map(|at| gate.held_on(&host(at)).map(|held| (held.hash.to_string(), held.generation.0)));
        assert_eq!(held, [(); 3].map(|()| Some(("old".to_owned(), 10))));
    }

    #[test]
    fn a_host_on_which_it_was_stopped_is_asked_anew_to_start_the_file_before() {
        let mut cluster = cluster();
        let stopped = &mut cluster.schedule.get_mut(&host(1)).unwrap().get_mut(&name()).unwrap().value;
        (stopped.target, stopped.generation) = (Target::Loaded, Revision(5));
        let record = Unit::new(crate::model::unit::Desired::Launched, UnitHash::new("new"), Revision(9));
        let gate = needed(&cluster, &name(), &record).unwrap();
        let held = |at: u8| gate.held_on(&host(at)).map(|held| (held.hash.to_string(), held.generation));
        // It has carried out a greater generation than that of the file which the others run.
        assert_eq!(
            [1, 2, 3].map(|at| held(at).unwrap()),
            [("old".into(), Revision(9)), ("old".into(), Revision(3)), ("old".into(), Revision(3))]
        );
    }
}
