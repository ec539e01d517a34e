//! Judges rollouts, commit by commit: who is told to run which file, how many are away because of it, and whether
//! spares serve and hooks have run before that. Knows the records, and nothing of how the leader decides.

mod by_hand;
mod silence;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use flotilla::model::cluster::{Cluster, Versioned};
use flotilla::model::name::{MachineId, UnitHash, UnitName};
use flotilla::model::placement::Constraints;
use flotilla::model::revision::Revision;
use flotilla::model::rollout::policy::Policy;
use flotilla::model::rollout::{Gate, Phase, Rollout};
use flotilla::model::systemd::{ActiveState, JobResult};
use flotilla::model::unit::{Assignment, Desired, Target, Unit, UnitReport};
use flotilla::plan::fit::{Question, Stance, fit};
use flotilla::plan::gate::hosts::launched_on;

use by_hand::{Stopped, holds_up};
pub(crate) use silence::Silence;

/// A unit that is a member, or a global one on a host.
type Member<'a> = (&'a UnitName, Option<&'a MachineId>);

/// What counts as one member: the units of a rollout with a number, or a unit by itself, or a global one on a host.
type Group<'a> = (Option<u32>, Option<&'a MachineId>);

fn group_of<'a>((name, host): Member<'a>) -> Group<'a> {
    (name.number(), host)
}

/// What is wrong with a commit that led from `before` to `after`. The leader has planned it from one of the states
/// `past`, or from `before`.
pub(crate) fn judge<'a>(
    before: &'a Cluster,
    after: &'a Cluster,
    past: impl Iterator<Item = &'a Cluster> + Clone,
    (silence, now): (&Silence, Duration),
) -> Vec<String> {
    let mut found = past_any_rollout(before, after, past.clone());
    let mut away: BTreeMap<&UnitName, Vec<Member<'_>>> = BTreeMap::new();
    // A leader may have known less, and taken it for one that isn't healthy.
    let was_healthy = |rollout: &UnitName, member| {
        let mut states = past.clone().chain(std::iter::once(before));
        states.all(|cluster| is_healthy_in(cluster, member) && is_whole(cluster, after, rollout, group_of(member)))
    };
    for (rollout, member) in sent_away(before, after).into_iter().filter(|(of, member)| was_healthy(of, *member)) {
        if member.1.is_none() {
            away.entry(rollout).or_default().push(member);
        } else if !past.clone().chain(std::iter::once(before)).any(|cluster| is_proven(cluster, after, rollout)) {
            found.push(format!("{rollout} leaves a host before its file has been started on another one"));
        }
    }
    for (name, host, told) in launched(after) {
        let Some((rollout_name, rollout)) = rollout_of(after, name) else { continue };
        let member = (name, told.global.then_some(host));
        let known = told_of(before, member).map(|(_, told)| told);
        // What systemd reads the same from restarts nothing.
        if known.is_none_or(|known| is_same_body([before, after], &known.hash, &told.hash)) {
            continue;
        }
        found
            .extend(wrong_file(before, after, member, rollout, told).map(|what| format!("{what} on {}", host.short())));
        let takes_part = before.gates.contains_key(name) || after.gates.contains_key(name);
        // What was destroyed is to go anyway, also if its name is needed for a spare before its host has stopped it. It
        // may have been behind a gate, which the leader deletes with the same commit.
        let is_spare = || before.gates.get(name).is_some_and(|gate| gate.value.spare);
        let is_wanted = before.units.contains_key(name) || is_spare();
        if takes_part && is_wanted && !is_at_once(before, name, &told.hash) && was_healthy(rollout_name, member) {
            away.entry(rollout_name).or_default().push(member);
        }
    }
    for (rollout, stopped) in away {
        let target = after.rollouts.get(rollout).map(|rollout| &rollout.value.target);
        let policy = target.and_then(|target| after.files.get(target)?.value.rollout.as_deref());
        let silent = silence.after(policy.cloned().unwrap_or_default().deadline, now);
        found.extend(too_few(before, after, past.clone(), rollout, &stopped, &silent));
        let stopped: Vec<&UnitName> = stopped.iter().map(|(name, _)| *name).collect();
        found.extend(too_soon(before, after, past.clone(), rollout, &stopped, &silent));
    }
    found
}

/// The members that are stopped on their hosts, because these don't fit the file that they get.
fn sent_away<'a>(before: &'a Cluster, after: &'a Cluster) -> Vec<(&'a UnitName, Member<'a>)> {
    let mut found = Vec::new();
    for (name, host, told) in launched(before) {
        let now = after.schedule.get(host).and_then(|slice| slice.get(name)).map(|told| told.value.target);
        let Some((rollout, record)) = rollout_of(after, name).filter(|_| now == Some(Target::Removed)) else {
            continue;
        };
        let is_asked = |cluster: &Cluster| {
            let unit = cluster.units.get(name);
            unit.is_some_and(|unit| unit.desired == Desired::Launched && unit.hash == record.target)
        };
        let held = |cluster: &Cluster| match cluster.gates.get(name).map(|gate| &gate.value) {
            Some(gate) if told.global => gate.held_on(host).is_some(),
            gate => gate.is_some(),
        };
        let gets_another = told.hash != record.target && is_asked(after) && !held(after);
        let fitted = |hash: &UnitHash| {
            let file = before.files.get(hash);
            file.is_some_and(|file| {
                let constraints = Constraints::resolve(&file.value, name);
                let question =
                    Question { unit: name, constraints: &constraints, host, stance: Stance::Stay, with: &[] };
                fit(before, &question).is_ok()
            })
        };
        if gets_another && fitted(&told.hash) && !fitted(&record.target) && !is_at_once(before, name, &record.target) {
            found.push((rollout, (name, told.global.then_some(host))));
        }
    }
    found
}

/// Whether a host of a global unit has started the file that is rolled out in `after`.
fn is_proven(cluster: &Cluster, after: &Cluster, name: &UnitName) -> bool {
    let target = after.rollouts.get(name).map(|rollout| &rollout.value.target);
    cluster.reports(name).any(|(_, report)| Some(&report.hash) == target && report.target == Target::Launched)
}

fn conflicts_differ(cluster: &Cluster, one: &UnitHash, other: &UnitHash) -> bool {
    let conflicts = |hash: &UnitHash| cluster.files.get(hash).map(|file| &file.value.conflicts);
    conflicts(one) != conflicts(other)
}

/// Whether all hosts of a global unit get the file at once, because it excludes other units than one that they run.
fn is_at_once(before: &Cluster, name: &UnitName, file: &UnitHash) -> bool {
    launched_on(before, name).any(|(_, runs)| conflicts_differ(before, &runs.hash, file))
}

/// The global units whose file says how it is rolled out, and that reach more of their hosts with it in one commit than
/// that allows, without any rollout.
fn past_any_rollout<'a>(
    before: &'a Cluster,
    after: &'a Cluster,
    past: impl Iterator<Item = &'a Cluster> + Clone,
) -> Vec<String> {
    let is_stopped = |(name, host, told): &(&UnitName, &MachineId, &Assignment)| {
        let member = (*name, Some(*host));
        let runs = told_of(before, member).map(|(_, runs)| runs);
        let mut states = past.clone().chain(std::iter::once(before));
        told.global
            && rollout_of(after, name).is_none()
            && runs.is_some_and(|runs| !is_same_body([before, after], &runs.hash, &told.hash))
            && !is_at_once(before, name, &told.hash)
            && states.all(|cluster| is_healthy_in(cluster, member))
    };
    let mut stopped: BTreeMap<(&UnitName, &UnitHash), usize> = BTreeMap::new();
    launched(after).filter(is_stopped).for_each(|(name, _, told)| *stopped.entry((name, &told.hash)).or_default() += 1);
    let too_many = |((name, file), count): ((&UnitName, &UnitHash), usize)| {
        let policy = after.files.get(file)?.value.rollout.as_deref()?;
        let all = past.clone().chain(std::iter::once(before)).map(|cluster| launched_on(cluster, name).count()).max();
        (count > policy.parallel.at_least_one_of(all?))
            .then(|| format!("{name} gets its file on {count} hosts where it is healthy, and nothing rolls it out"))
    };
    stopped.into_iter().filter_map(too_many).collect()
}

/// Whether systemd reads the same from two files.
fn is_same_body(clusters: [&Cluster; 2], one: &UnitHash, other: &UnitHash) -> bool {
    let body = |hash: &UnitHash| clusters.iter().find_map(|cluster| Some(cluster.files.get(hash)?.value.body));
    body(one) == body(other)
}

/// Who has run to its end with which generation, by a report.
pub(crate) fn ended(name: &UnitName, report: &UnitReport) -> Option<(UnitName, Revision)> {
    let has_ended =
        report.active == ActiveState::Inactive && report.result == Some(JobResult::Done) && report.job.is_none();
    (has_ended && report.target == Target::Launched).then(|| (name.clone(), report.generation))
}

/// No member may be let through to a new file before every unit that the file names in `Before=` has run for this
/// rollout, and its host has reported that it `ended` well; no rollout that had members may be done before those in
/// `After=` have. None of these may be begun while a member waits for the file whose host carries something out.
pub(crate) fn judge_hooks<'a>(
    before: &'a Cluster,
    after: &Cluster,
    past: impl Iterator<Item = &'a Cluster> + Clone,
    (silence, now): (&Silence, Duration),
    ended: &BTreeSet<(UnitName, Revision)>,
) -> Vec<String> {
    let mut found = Vec::new();
    let missing = |rollout: &Rollout, of: fn(Policy) -> Vec<UnitName>| {
        let has_run = |hook: &UnitName| {
            let mut runs = rollout.hooks.iter().filter(|run| run.unit == *hook && run.took.is_some());
            runs.any(|run| ended.contains(&(hook.clone(), run.generation)))
        };
        let hooks = policy_of(after, rollout).map(of).unwrap_or_default();
        hooks.into_iter().find(|hook| !has_run(hook))
    };
    for (name, _, told) in launched(after) {
        let gate = before.gates.get(name).map(|gate| &gate.value).filter(|gate| !gate.hook && !gate.spare);
        let Some(gate) = gate.filter(|gate| gate.target == told.hash && !after.gates.contains_key(name)) else {
            continue;
        };
        let rollout = after.rollouts.get(&gate.rollout).map(|rollout| &rollout.value);
        // They run for the file of the set, not for those of riders alone.
        let has_hooks = |rollout: &&Rollout| *rollout.target_of(name) == told.hash && !rollout.is_of_riders();
        let Some(rollout) = rollout.filter(has_hooks) else { continue };
        let missing = missing(rollout, |policy| policy.before);
        found.extend(missing.map(|hook| format!("{name} is let through before {hook} has run")));
    }
    let states = || past.clone().chain(std::iter::once(before));
    for (name, rollout) in &after.rollouts {
        let Some(known) = before.rollouts.get(name).filter(|known| is_same(&known.value, &rollout.value)) else {
            continue;
        };
        let (known, rollout) = (&known.value, &rollout.value);
        let is_done = rollout.phase == Phase::Done && known.phase != Phase::Done;
        // One that its riders have left had none either.
        let of_riders = rollout.is_of_riders() || known.is_of_riders();
        if is_done && !of_riders && states().all(|past| has_members(past, name)) {
            let missing = missing(rollout, |policy| policy.after);
            found.extend(missing.map(|hook| format!("the rollout of {name} is done before {hook} has run")));
        }
        let deadline = policy_of(after, rollout).unwrap_or_default().deadline;
        let (silent, staying) = (silence.after(deadline, now), silence.staying_after(deadline, now));
        let takes_part = |unit: &UnitName| rollout_of(before, unit).is_some_and(|(of, _)| of == name);
        // It, or what rides with it, is to leave a host that says nothing.
        let is_kept = |unit: &UnitName| {
            let same = |other: &UnitName| other == unit || unit.number().is_some() && unit.number() == other.number();
            staying.iter().any(|other| same(other) && takes_part(other))
        };
        let begun = rollout.hooks.iter().filter(|run| run.after && !known.hooks.contains(run) && run.took.is_none());
        let waits = |member: &Member<'_>| {
            let gate = before.gates.get(member.0).map(|gate| &gate.value).filter(|gate| !gate.spare && !gate.hook);
            let gate = gate.filter(|gate| gate.rollout == *name && gate.target == *rollout.target_of(member.0));
            let runs = |past: &Cluster| past.units.get(member.0).is_some_and(|unit| unit.desired == Desired::Launched);
            gate.is_some_and(|gate| member.1.is_none_or(|host| gate.held_on(host).is_some()))
                && after.gates.contains_key(member.0)
                && states().all(|past| runs(past) && has_host(past, *member))
                && !is_silent(before, *member, &silent)
                && !is_kept(member.0)
        };
        for run in begun {
            let members = before.units.keys().filter(|unit| takes_part(unit));
            let waiting = members.flat_map(|unit| members_of(before, unit)).find(waits);
            found.extend(waiting.map(|(unit, _)| format!("{} is begun while {unit} waits for its file", run.unit)));
        }
    }
    found
}

/// Whether two records are of the same rollout, as far as it had got at different times.
fn is_same(known: &Rollout, rollout: &Rollout) -> bool {
    (&known.target, known.began) == (&rollout.target, rollout.began)
}

/// Whether any unit that runs takes part in the rollout `name`. The members of a global unit are its hosts.
fn has_members(cluster: &Cluster, name: &UnitName) -> bool {
    let takes_part = |(unit, record): (&UnitName, &Unit)| {
        let launched = record.desired == Desired::Launched && !unit.is_template();
        launched
            && !members_of(cluster, unit).is_empty()
            && rollout_of(cluster, unit)
                .is_some_and(|(of, rollout)| of == name && *rollout.target_of(unit) == record.hash)
    };
    cluster.units.iter().any(takes_part)
}

fn policy_of(cluster: &Cluster, rollout: &Rollout) -> Option<Policy> {
    cluster.files.get(&rollout.target).and_then(|file| file.value.rollout.as_deref().cloned())
}

/// A unit may be told to run what it was asked to, or what its rollout goes back to; nothing that has failed.
fn wrong_file(
    before: &Cluster,
    after: &Cluster,
    (name, host): Member<'_>,
    rollout: &Rollout,
    told: &Assignment,
) -> Option<String> {
    let asked = [before, after].map(|cluster| cluster.units.get(name).map(|unit| &unit.hash));
    let gate = before.gates.get(name).map(|gate| &gate.value);
    let gate = gate.and_then(|gate| host.map_or(Some(&gate.hash), |host| Some(gate.held_on(host)?.hash)));
    let (from, target) = (&rollout.from_of(name).hash, rollout.target_of(name));
    let may_be: [Option<&UnitHash>; 5] = [asked[0], asked[1], gate, Some(from), Some(target)];
    if !may_be.contains(&Some(&told.hash)) {
        return Some(format!("{name} is told to run {}, which nobody asked for", told.hash.short()));
    }
    let has_failed = matches!(rollout.phase, Phase::Reverting | Phase::Reverted | Phase::Stuck);
    (has_failed && told.hash == *target && told.hash != *from)
        .then(|| format!("{name} is told to run {}, which has failed", told.hash.short()))
}

/// Of the members that have a host, at most `Parallel=` may be away because of a rollout.
fn too_few<'a>(
    before: &'a Cluster,
    after: &Cluster,
    past: impl Iterator<Item = &'a Cluster> + Clone,
    rollout: &UnitName,
    stopped: &[Member<'_>],
    silent: &BTreeSet<&(UnitName, MachineId)>,
) -> Option<String> {
    let record = &after.rollouts.get(rollout)?.value;
    let policy = policy_of(after, record).unwrap_or_default();
    // A member that somebody has stopped is none.
    let takes_part = |(name, unit): &(&UnitName, &Unit)| {
        unit.desired == Desired::Launched && rollout_of(after, name).is_some_and(|(of, _)| of == rollout)
    };
    let units = after.units.iter().filter(takes_part).map(|(name, _)| name);
    let members: Vec<Member<'_>> = units.flat_map(|name| members_of(after, name)).collect();
    let groups: BTreeSet<Group<'_>> = members.iter().map(|member| group_of(*member)).collect();
    let states = || past.clone().chain(std::iter::once(before));
    // What the leader may have known when it decided, as with what follows: hosts come and go. One is waited for as a
    // whole, so no longer if the host of one of its units is silent.
    let placed = |cluster: &Cluster| {
        let groups = |which: &dyn Fn(Member<'_>) -> bool| -> BTreeSet<Group<'_>> {
            members.iter().filter(|member| which(**member)).map(|member| group_of(*member)).collect()
        };
        let placed = groups(&|member| has_host(cluster, member));
        placed.difference(&groups(&|member| is_silent(cluster, member, silent))).count()
    };
    let is_global = members.iter().any(|(_, host)| host.is_some());
    let all = states().map(placed).min().unwrap_or_default();
    // Spares serve as well.
    let serving = groups.iter().copied().chain(spares_of(before, rollout).map(|spare| group_of((spare, None))));
    let serving = serving.collect::<BTreeSet<_>>().into_iter();
    // Riders come and go with rollouts: a member is whole with those that it had or with those that it has.
    let is_whole = |cluster, group| is_whole_in(cluster, rollout, group) || is_whole(cluster, after, rollout, group);
    let healthy = serving.filter(|group| states().any(|cluster| is_whole(cluster, *group))).count();
    // A part is one of all members, also of those that wait, or whose hosts are gone.
    let hosts = |cluster: &Cluster| launched_on(cluster, rollout).count();
    let most = if is_global { states().map(hosts).max().unwrap_or_default() } else { groups.len() };
    let floor = all.saturating_sub(policy.parallel.at_least_one_of(most));
    let away = stopped.iter().map(|member| group_of(*member)).collect::<BTreeSet<_>>().len();
    (healthy.saturating_sub(away) < floor).then(|| {
        let shown =
            |(name, host): &Member<'_>| host.map_or(name.to_string(), |host| format!("{name} on {}", host.short()));
        let stopped: Vec<String> = stopped.iter().map(shown).collect();
        format!("{} of {all} members of {rollout} are healthy, and {} is stopped", healthy, stopped.join(" "))
    })
}

/// A unit as a member, or the hosts on which it is launched if it is global.
fn members_of<'a>(cluster: &'a Cluster, name: &'a UnitName) -> Vec<Member<'a>> {
    let is_global = cluster.constraints(name).is_some_and(|constraints| constraints.global);
    match is_global {
        true => launched_on(cluster, name).map(|(host, _)| (name, Some(host))).collect(),
        false => vec![(name, None)],
    }
}

/// No healthy member may be stopped before as many spares are healthy as can be placed; while it goes back, the members
/// with a bad file needn't wait for that.
fn too_soon<'a>(
    before: &'a Cluster,
    after: &Cluster,
    past: impl Iterator<Item = &'a Cluster> + Clone,
    rollout: &UnitName,
    stopped: &[&UnitName],
    silent: &BTreeSet<&(UnitName, MachineId)>,
) -> Option<String> {
    let record = &after.rollouts.get(rollout)?.value;
    let policy = policy_of(after, record)?;
    let states = || past.clone().chain(std::iter::once(before));
    // Those that ride with spares are spares, too.
    let is_spare_in = |cluster: &Cluster, name: &UnitName| cluster.gates.get(name).is_some_and(|gate| gate.value.spare);
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
        let spare: Member<'_> = (*spare, None);
        states().all(|cluster| has_host(cluster, spare) && !is_silent(cluster, spare, silent))
            && !states().any(|cluster| is_healthy_in(cluster, spare))
    })?;
    Some(format!("{stopped} is stopped before its spare {unready} is healthy"))
}

/// Whether the host of a member has carried out nothing for too long.
fn is_silent(cluster: &Cluster, member: Member<'_>, silent: &BTreeSet<&(UnitName, MachineId)>) -> bool {
    let host = told_of(cluster, member).map(|(host, _)| host);
    host.is_some_and(|host| silent.contains(&(member.0.clone(), host.clone())))
}

/// Whether a member is launched on a host that is there.
fn has_host(cluster: &Cluster, member: Member<'_>) -> bool {
    told_of(cluster, member).is_some_and(|(host, _)| cluster.machines.contains_key(host))
}

/// Where a member is launched, and what its host is told.
fn told_of<'a>(cluster: &'a Cluster, (name, on): Member<'_>) -> Option<(&'a MachineId, &'a Assignment)> {
    let found = launched(cluster).find(|(other, host, _)| *other == name && on.is_none_or(|on| on == *host));
    found.map(|(_, host, told)| (host, told))
}

/// Whether all units of a rollout that count as one member and have a host are healthy, and at least one has.
fn is_whole_in(cluster: &Cluster, rollout: &UnitName, group: Group<'_>) -> bool {
    is_whole(cluster, cluster, rollout, group)
}

/// The same, with the riders that the rollout has in `after`: one may have joined it just now. A unit that somebody has
/// stopped isn't part of a member, also while its host has yet to be told.
fn is_whole(cluster: &Cluster, after: &Cluster, rollout: &UnitName, group: Group<'_>) -> bool {
    let riders = after.rollouts.get(rollout).into_iter().flat_map(|record| record.value.riders.keys());
    let numbered = std::iter::once(rollout).chain(riders).filter_map(|template| template.numbered(group.0?).ok());
    let mut units: Vec<UnitName> = numbered.collect();
    if units.is_empty() {
        units.push(rollout.clone());
    }
    let is_stopped = |unit: &UnitName| after.units.get(unit).is_some_and(|unit| unit.desired != Desired::Launched);
    let units = units.iter().filter(|unit| !is_stopped(unit)).map(|unit| (unit, group.1));
    let placed: Vec<Member<'_>> = units.filter(|member| has_host(cluster, *member)).collect();
    !placed.is_empty() && placed.into_iter().all(|member| is_healthy_in(cluster, member))
}

/// The spares of a rollout, without their riders.
fn spares_of<'a>(cluster: &'a Cluster, rollout: &'a UnitName) -> impl Iterator<Item = &'a UnitName> {
    let is_of = move |(name, gate): &(&UnitName, &Versioned<Gate>)| {
        gate.value.spare && gate.value.rollout == *rollout && name.number_in(rollout).is_some()
    };
    cluster.gates.iter().filter(is_of).map(|(name, _)| name)
}

/// Whether no host could have a global unit with the file of its `rollout`: those that have it would lose it, and stay
/// as they are until it is proven elsewhere.
fn fits_nowhere(cluster: &Cluster, name: &UnitName, rollout: &Rollout) -> bool {
    let Some(file) = cluster.files.get(&rollout.target).filter(|file| file.value.global) else { return false };
    let constraints = Constraints::resolve(&file.value, name);
    let fits = |host: &MachineId| {
        let question = Question { unit: name, constraints: &constraints, host, stance: Stance::Arrive, with: &[] };
        fit(cluster, &question).is_ok()
    };
    !cluster.machines.keys().any(fits)
}

/// The rollouts that go on although nothing prevents their end. A spare that a person has stopped on its host does: no
/// healthy member is stopped while it doesn't serve. So do members that `was_stopped` names if they use up `Parallel=`.
/// So does that no member fits a host: the file is proven nowhere. And so does another rollout that waits for a person,
/// and has begun the hook that is next: it has yet to see how that ends.
pub(crate) fn unfinished<'a>(cluster: &'a Cluster, was_stopped: &'a Stopped<'_>) -> impl Iterator<Item = String> {
    let goes_on = |phase: Phase| !phase.is_over() && !matches!(phase, Phase::Paused | Phase::Waiting);
    let is_stopped = |spare: &UnitName| cluster.reports(spare).any(|(_, report)| report.missing);
    let waits =
        |unit: &UnitName| cluster.placements.get(unit).is_some_and(|placement| placement.value.host().is_none());
    let takes_part = |of: &UnitName, (unit, record): &(&UnitName, &Unit)| {
        let launched = record.desired == Desired::Launched && !unit.is_template();
        launched && rollout_of(cluster, unit).is_some_and(|(name, _)| name == of)
    };
    let is_nowhere = move |name: &UnitName| {
        let mut members = cluster.units.iter().filter(|member| takes_part(name, member)).peekable();
        members.peek().is_some() && members.all(|(unit, _)| waits(unit))
    };
    let spares = move |name: &UnitName| {
        let is_of = |gate: &Gate| gate.spare && gate.rollout == *name;
        cluster.gates.iter().any(|(spare, gate)| is_of(&gate.value) && is_stopped(spare))
    };
    let begun = move || {
        let waits =
            cluster.rollouts.values().map(|rollout| &rollout.value).filter(move |rollout| !goes_on(rollout.phase));
        waits.filter(|rollout| !rollout.phase.is_over()).filter_map(|rollout| Some(&rollout.running()?.unit))
    };
    let has_hook = move |name: &UnitName| {
        let rollout =
            cluster.rollouts.get(name).map(|rollout| &rollout.value).filter(|rollout| rollout.running().is_none());
        let policy = rollout.and_then(|rollout| policy_of(cluster, rollout));
        policy.is_some_and(|policy| begun().any(|hook| policy.before.contains(hook) || policy.after.contains(hook)))
    };
    let is_held_up = move |name: &UnitName, rollout: &Rollout| {
        let is_excused = spares(name) || is_nowhere(name) || has_hook(name);
        is_excused || fits_nowhere(cluster, name, rollout) || holds_up(cluster, name, rollout, was_stopped)
    };
    let all = cluster.rollouts.iter();
    let all = all.filter(move |(name, rollout)| goes_on(rollout.value.phase) && !is_held_up(name, &rollout.value));
    all.map(|(name, rollout)| format!("the rollout of {name} is {:?}", rollout.value.phase))
}

/// The set or unit that `name` is rolled out with.
fn rollout_of<'a>(cluster: &'a Cluster, name: &UnitName) -> Option<(&'a UnitName, &'a Rollout)> {
    let template = name.set();
    let has_it = |template: &UnitName| {
        let mut leads = cluster.rollouts.iter().filter(|(_, rollout)| rollout.value.riders.contains_key(template));
        leads.next()
    };
    let lead = template.as_ref().and_then(has_it);
    let all = [template.as_ref(), Some(name)];
    let own = || all.into_iter().flatten().find_map(|name| cluster.rollouts.get_key_value(name));
    lead.or_else(own).map(|(name, rollout)| (name, &rollout.value))
}

/// The riders that have other members than their leads. A member with a file of its own is left when its lead's is
/// destroyed.
pub(crate) fn torn(cluster: &Cluster) -> impl Iterator<Item = String> {
    let lead = |(_, unit): &(&UnitName, &Unit)| {
        let file = cluster.files.get(&unit.hash)?;
        file.value.replicas.as_ref()?.lead().filter(|_| unit.replicas.is_some()).cloned()
    };
    let numbers = |template: &UnitName, hash: Option<&UnitHash>| -> BTreeSet<u32> {
        let units = cluster.units.iter().filter(|(_, unit)| hash.is_none_or(|hash| unit.hash == *hash));
        units.filter_map(|(name, _)| name.number_in(template)).collect()
    };
    let sets = cluster.units.iter().filter(|(name, _)| name.is_template());
    let riders = sets.filter_map(move |set| Some((set.0, &set.1.hash, lead(&set)?)));
    riders.filter_map(move |(rider, hash, lead)| {
        let (leading, all) = (numbers(&lead, None), numbers(rider, None));
        let lost: Vec<&u32> = leading.difference(&all).collect();
        let of_file = numbers(rider, Some(hash));
        let left: Vec<&u32> = of_file.difference(&leading).collect();
        let is_torn = !(lost.is_empty() && left.is_empty());
        is_torn.then(|| format!("{rider} lacks the members {lost:?} of {lead}, and has {left:?} that it lacks"))
    })
}

fn launched(cluster: &Cluster) -> impl Iterator<Item = (&UnitName, &MachineId, &Assignment)> {
    assigned(cluster).filter(|(.., told)| told.target == Target::Launched)
}

fn assigned(cluster: &Cluster) -> impl Iterator<Item = (&UnitName, &MachineId, &Assignment)> {
    let all =
        cluster.schedule.iter().flat_map(|(host, slice)| slice.iter().map(move |(name, told)| (name, host, told)));
    all.map(|(name, host, told)| (name, host, &told.value))
}

/// Whether a unit's host says that it is healthy with what it is told. What was requested since then, the leader has
/// yet to decide about.
fn is_healthy_in(cluster: &Cluster, member: Member<'_>) -> bool {
    let Some((host, told)) = told_of(cluster, member) else { return false };
    let report = cluster.report(member.0, host).filter(|_| cluster.machines.contains_key(host));
    report.is_some_and(|report| {
        report.hash == told.hash && report.generation >= told.generation && report.job.is_none() && report.is_ready()
    })
}
