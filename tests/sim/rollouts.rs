//! Judges rollouts, commit by commit: who is told to run which file, how many are away because of it, and whether
//! spares serve before that. Owns the units that random seeds roll out. Knows the records, and nothing of how the
//! leader decides.

use std::collections::BTreeMap;
use std::time::Duration;

use flotilla::model::cluster::{Cluster, Versioned};
use flotilla::model::name::{MachineId, UnitHash, UnitName};
use flotilla::model::rollout::{Gate, Phase, Rollout};
use flotilla::model::unit::{Assignment, Desired, Target, Unit};

use super::random::Random;

/// A set that is rolled out, and a unit.
pub(crate) const SET: &str = "tier@.service";
pub(crate) const UNIT: &str = "solo.service";

/// How long a rollout of them waits for a member.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// A file of the set or the unit: a few versions, one of which can't be started if that is wanted, and some policies.
pub(crate) fn text(name: &str, random: &mut Random, or_broken: bool) -> String {
    let program = match random.within(0..=3) {
        0 if or_broken => "ExecStart=\n".to_owned(),
        version => format!("ExecStart=/bin/tier {version}\n"),
    };
    let parallel = random.pick(&["", "Parallel=2\n", "Parallel=50%\n"]);
    let spare = random.pick(&["", "Spare=1\n", "Spare=50%\n"]);
    let spare = if name == SET { spare } else { "" };
    let canary = random.pick(&["", "", "Canary=1\nPromote=auto\n", "Canary=1\nPromote=5\n"]);
    let failure = random.pick(&["", "", "OnFailure=pause\n"]);
    let replicas = if name == SET { "Replicas=3\n" } else { "" };
    let deadline = DEADLINE.as_secs();
    format!(
        "[Service]\n{program}[X-Fleet]\n{replicas}[X-Rollout]\nHealthySec=2\nDeadlineSec={deadline}\n\
         {parallel}{spare}{canary}{failure}"
    )
}

/// What is wrong with a commit that led from `before` to `after`. The leader has planned it from one of the states
/// `past`, or from `before`.
pub(crate) fn judge<'a>(
    before: &'a Cluster,
    after: &Cluster,
    past: impl Iterator<Item = &'a Cluster> + Clone,
) -> Vec<String> {
    let mut found = Vec::new();
    let mut away: BTreeMap<&UnitName, Vec<&UnitName>> = BTreeMap::new();
    for (name, host, told) in launched(after) {
        let Some((rollout_name, rollout)) = rollout_of(after, name) else { continue };
        let known = launched(before).find(|(other, ..)| *other == name).map(|(.., told)| told);
        let body =
            |hash: &UnitHash| [before, after].iter().find_map(|cluster| Some(cluster.files.get(hash)?.value.body));
        // What systemd reads the same from restarts nothing.
        if known.is_none_or(|known| body(&known.hash) == body(&told.hash)) {
            continue;
        }
        found.extend(wrong_file(before, after, name, rollout, told).map(|what| format!("{what} on {}", host.short())));
        let takes_part = before.gates.contains_key(name) || after.gates.contains_key(name);
        // A leader may have known less, and taken it for one that isn't healthy.
        let was_healthy = || past.clone().chain(std::iter::once(before)).all(|cluster| is_healthy_in(cluster, name));
        if takes_part && was_healthy() {
            away.entry(rollout_name).or_default().push(name);
        }
    }
    for (rollout, stopped) in away {
        found.extend(too_few(before, after, past.clone(), rollout, &stopped));
        found.extend(too_soon(before, after, past.clone(), rollout, &stopped));
    }
    found
}

/// A unit may be told to run what it was asked to, or what its rollout goes back to; nothing that has failed.
fn wrong_file(
    before: &Cluster,
    after: &Cluster,
    name: &UnitName,
    rollout: &Rollout,
    told: &Assignment,
) -> Option<String> {
    let asked = [before, after].map(|cluster| cluster.units.get(name).map(|unit| &unit.hash));
    let gate = before.gates.get(name).map(|gate| &gate.value.hash);
    let may_be: [Option<&UnitHash>; 5] = [asked[0], asked[1], gate, Some(&rollout.from.hash), Some(&rollout.target)];
    if !may_be.contains(&Some(&told.hash)) {
        return Some(format!("{name} is told to run {}, which nobody asked for", told.hash.short()));
    }
    let has_failed = matches!(rollout.phase, Phase::Reverting | Phase::Reverted | Phase::Stuck);
    (has_failed && told.hash == rollout.target && told.hash != rollout.from.hash)
        .then(|| format!("{name} is told to run {}, which has failed", told.hash.short()))
}

/// Of the members that have a host, at most `Parallel=` may be away because of a rollout.
fn too_few<'a>(
    before: &'a Cluster,
    after: &Cluster,
    past: impl Iterator<Item = &'a Cluster> + Clone,
    rollout: &UnitName,
    stopped: &[&UnitName],
) -> Option<String> {
    let record = &after.rollouts.get(rollout)?.value;
    let policy = after.files.get(&record.target).and_then(|file| file.value.rollout.as_deref().cloned());
    let policy = policy.unwrap_or_default();
    // A member that somebody has stopped is none.
    let takes_part = |(name, unit): &(&UnitName, &Unit)| {
        unit.desired == Desired::Launched && rollout_of(after, name).is_some_and(|(of, _)| of == rollout)
    };
    let members: Vec<&UnitName> = after.units.iter().filter(takes_part).map(|(name, _)| name).collect();
    let all = members.iter().filter(|name| has_host(before, name)).count();
    let states = || past.clone().chain(std::iter::once(before));
    // What the leader may have known when it decided. Spares serve as well.
    let serving = members.iter().copied().chain(spares_of(before, rollout));
    let healthy = serving.filter(|name| states().any(|cluster| is_healthy_in(cluster, name))).count();
    let floor = all.saturating_sub(policy.parallel.at_least_one_of(members.len()));
    (healthy.saturating_sub(stopped.len()) < floor).then(|| {
        let stopped: Vec<&str> = stopped.iter().map(|name| name.as_str()).collect();
        format!("{} of {all} members of {rollout} are healthy, and {} is stopped", healthy, stopped.join(" "))
    })
}

/// No healthy member may be stopped before as many spares are healthy as can be placed; while it goes back, the members
/// with a bad file needn't wait for that.
fn too_soon<'a>(
    before: &'a Cluster,
    after: &Cluster,
    past: impl Iterator<Item = &'a Cluster> + Clone,
    rollout: &UnitName,
    stopped: &[&UnitName],
) -> Option<String> {
    let record = &after.rollouts.get(rollout)?.value;
    let policy = after.files.get(&record.target).and_then(|file| file.value.rollout.as_deref().cloned())?;
    let states = || past.clone().chain(std::iter::once(before));
    let is_spare_in = |cluster: &Cluster, name: &UnitName| spares_of(cluster, rollout).any(|spare| spare == name);
    // Also one that takes the place of a member that was destroyed.
    let is_spare = |name: &UnitName| is_spare_in(after, name) || states().any(|cluster| is_spare_in(cluster, name));
    // A member that is to be restarted is stopped in any case.
    let is_asked = |name: &UnitName| {
        let gate = before.gates.get(name).map(|gate| &gate.value);
        let restart = before.units.get(name).and_then(|unit| unit.restart);
        gate.zip(restart).is_some_and(|(gate, restart)| restart > gate.asked)
    };
    let stopped = stopped.iter().find(|name| !is_spare(name) && !is_asked(name))?;
    if !matches!(record.phase, Phase::Canary | Phase::Rolling) {
        return None;
    }
    let members = |cluster: &Cluster| {
        let is_member = |(name, unit): &(&UnitName, &Unit)| {
            unit.desired == Desired::Launched && name.number_in(rollout).is_some() && unit.hash == record.target
        };
        cluster.units.iter().filter(is_member).count()
    };
    let wanted = policy.spare.at_most_all_of(states().map(members).min().unwrap_or_default());
    let there = states().map(|cluster| spares_of(cluster, rollout).count()).max().unwrap_or_default();
    if there < wanted {
        return Some(format!("{stopped} is stopped before {rollout} has its spares: {there} of {wanted}"));
    }
    let mut awaited = spares_of(before, rollout).take(wanted);
    let unready = awaited.find(|spare| {
        states().all(|cluster| has_host(cluster, spare)) && !states().any(|cluster| is_healthy_in(cluster, spare))
    })?;
    Some(format!("{stopped} is stopped before its spare {unready} is healthy"))
}

/// Whether a unit is launched on a host that is there.
fn has_host(cluster: &Cluster, name: &UnitName) -> bool {
    launched(cluster).any(|(other, host, _)| other == name && cluster.machines.contains_key(host))
}

/// The spares of a rollout, without their riders.
fn spares_of<'a>(cluster: &'a Cluster, rollout: &'a UnitName) -> impl Iterator<Item = &'a UnitName> {
    let is_of = move |(name, gate): &(&UnitName, &Versioned<Gate>)| {
        gate.value.spare && gate.value.rollout == *rollout && name.number_in(rollout).is_some()
    };
    cluster.gates.iter().filter(is_of).map(|(name, _)| name)
}

/// The rollouts that go on although nothing prevents their end. A spare that a person has stopped on its host does: no
/// healthy member is stopped while it doesn't serve.
pub(crate) fn unfinished(cluster: &Cluster) -> impl Iterator<Item = String> {
    let goes_on = |phase: Phase| !phase.is_over() && !matches!(phase, Phase::Paused | Phase::Waiting);
    let is_stopped = |spare: &UnitName| cluster.reports(spare).any(|(_, report)| report.missing);
    let is_held_up = move |name: &UnitName| spares_of(cluster, name).any(is_stopped);
    let all = cluster.rollouts.iter().filter(move |(name, rollout)| goes_on(rollout.value.phase) && !is_held_up(name));
    all.map(|(name, rollout)| format!("the rollout of {name} is {:?}", rollout.value.phase))
}

/// The set or unit that `name` is rolled out with.
fn rollout_of<'a>(cluster: &'a Cluster, name: &UnitName) -> Option<(&'a UnitName, &'a Rollout)> {
    let template = name.set();
    let all = [template.as_ref(), Some(name)];
    let found = all.into_iter().flatten().find_map(|name| cluster.rollouts.get_key_value(name));
    found.map(|(name, rollout)| (name, &rollout.value))
}

fn launched(cluster: &Cluster) -> impl Iterator<Item = (&UnitName, &MachineId, &Assignment)> {
    let all =
        cluster.schedule.iter().flat_map(|(host, slice)| slice.iter().map(move |(name, told)| (name, host, told)));
    all.map(|(name, host, told)| (name, host, &told.value)).filter(|(.., told)| told.target == Target::Launched)
}

/// Whether a unit's host says that it is healthy with what it is told. What was requested since then, the leader has
/// yet to decide about.
fn is_healthy_in(cluster: &Cluster, name: &UnitName) -> bool {
    let Some((_, host, told)) = launched(cluster).find(|(other, ..)| *other == name) else { return false };
    let report = cluster.report(name, host).filter(|_| cluster.machines.contains_key(host));
    report.is_some_and(|report| {
        report.hash == told.hash && report.generation >= told.generation && report.job.is_none() && report.is_ready()
    })
}
