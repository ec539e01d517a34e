//! What must hold when all faults have ended and everything is settled: the store, every host and the desired states
//! agree, and nothing happens. Owns these comparisons.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use flotilla::model::body::is_same_to_systemd;
use flotilla::model::cluster::Cluster;
use flotilla::model::file::UnitFile;
use flotilla::model::format::{Format, ReportKeyForm};
use flotilla::model::name::{MachineId, UnitName};
use flotilla::model::systemd::{ActiveState, JobResult};
use flotilla::model::unit::{Assignment, Target, UnitReport};
use flotilla::plan::check::check;
use flotilla::plan::gate::effective;
use flotilla::registry::keys::{FILES, Key, STATES};
use flotilla::registry::mirror;
use flotilla::registry::records::report::ReportKey;
use tokio::time::sleep;

use super::health::{COMMAND_SECTION, SECTION};
use super::judge::{closure, needs};
use super::rollouts;
use super::world::{EPOCH, Host, World};

/// How often an agent compares everything with its host, which reads from systemd.
const FULL_CHECK: Duration = Duration::from_secs(300);

/// How often a leader plans from scratch, expecting to change nothing.
const SELF_CHECK: Duration = Duration::from_secs(300);

/// Units that were started this long before the end of a simulation, or later, were started after all faults had ended.
const CALM: Duration = Duration::from_secs(60);

/// How soon after its start a unit is up and known to be, without faults.
const OBSERVED: Duration = Duration::from_secs(1);

/// Whether some units may still be failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Health {
    /// Some have failed, and were not started again.
    Scarred,
    /// Everything was stopped and started again.
    Whole,
}

/// Compare everything.
pub(crate) async fn compare(world: &World, health: Health) {
    let cluster = world.judge.cluster();
    for violation in check(&cluster) {
        world.journal.violate(format!("settled, and {violation}"));
    }
    let wrong = |what: String| world.journal.violate(format!("settled, and {what}"));
    let was_stopped = |host: &MachineId, unit: &UnitName| world.judge.was_stopped_by_hand(host, unit);
    rollouts::unfinished(&cluster, &was_stopped).for_each(&wrong);
    rollouts::torn(&cluster).for_each(&wrong);
    if world.judge.leader().is_none() {
        wrong("there is no leader".into());
    }
    let alive: BTreeSet<_> = world.hosts.iter().filter(|host| host.has_daemon()).map(|host| host.id.clone()).collect();
    let registered: BTreeSet<_> = cluster.machines.keys().cloned().collect();
    if alive != registered {
        wrong(format!("{} hosts are registered and {} live", registered.len(), alive.len()));
    }
    for host in world.hosts.iter().filter(|host| host.on) {
        let empty = BTreeMap::new();
        let slice = cluster.schedule.get(&host.id).unwrap_or(&empty);
        let slice: BTreeMap<&UnitName, &Assignment> = slice.iter().map(|(name, entry)| (name, &entry.value)).collect();
        for what in differences(world, &cluster, host, &slice, health) {
            wrong(format!("on {} {what}", host.name));
        }
        if health == Health::Whole {
            let launched = slice.iter().filter(|(_, entry)| entry.target == Target::Launched);
            for what in launched.filter_map(|(name, _)| untrue_since(world, &cluster, host, name)) {
                wrong(format!("on {} {what}", host.name));
            }
        }
    }
    let format = cluster.machines.values().map(|machine| machine.format).min().unwrap_or(Format::CURRENT);
    let (_, reports) = mirror::list(&world.store, STATES).await.unwrap();
    let mut forgotten = BTreeSet::new();
    for report in reports {
        match Key::parse(&report.key) {
            // A restarted daemon writes each report that it knows of under its new key, and deletes the older one.
            Ok(Key::State(key)) if is_forgotten(world, &cluster, &key) => drop(forgotten.insert((key.unit, key.host))),
            Ok(Key::State(key)) if key.form == format.report_key() => {}
            _ => wrong(format!("{} isn't a key of format {format}", report.key)),
        }
    }
    for what in leftovers(&cluster, &forgotten) {
        wrong(what);
    }
    let (_, files) = mirror::list(&world.store, FILES).await.unwrap();
    let present: BTreeSet<&String> = files.iter().map(|file| &file.key).collect();
    for (name, kept) in &cluster.histories {
        for key in kept.value.keys.iter().filter(|key| !present.contains(&format!("{FILES}{key}"))) {
            wrong(format!("{name} has lost its earlier text {}", key.short()));
        }
    }
    let former = cluster.histories.values().flat_map(|kept| &kept.value.keys);
    let keys = cluster.units.values().flat_map(|unit| [&unit.hash, unit.file_key()]).chain(former);
    let held = cluster.gates.values().flat_map(|gate| gate.value.files());
    let before = cluster.rollouts.values().flat_map(|rollout| {
        let riders = rollout.value.riders.values().map(|rider| &rider.from);
        std::iter::once(&rollout.value.from).chain(riders)
    });
    let keys = keys.chain(held).chain(before.flat_map(|from| std::iter::once(&from.hash).chain(&from.text)));
    let used: BTreeSet<String> = keys.map(|key| format!("{FILES}{key}")).collect();
    for file in files.iter().filter(|file| !used.contains(&file.key)) {
        wrong(format!("{} is not collected", file.key));
    }
}

/// The differences between the assignments of a host and the host.
fn differences(
    world: &World,
    cluster: &Cluster,
    host: &Host,
    slice: &BTreeMap<&UnitName, &Assignment>,
    health: Health,
) -> Vec<String> {
    let mut found = Vec::new();
    let disk = host.fake.on_disk();
    let running = host.fake.running();
    let graph: BTreeMap<UnitName, BTreeSet<UnitName>> =
        disk.iter().map(|(name, text)| (name.clone(), needs(name, text))).collect();
    let launched = slice.iter().filter(|(_, entry)| entry.target == Target::Launched);
    let mut wanted = closure(launched.map(|(name, _)| (*name).clone()).collect(), &graph);
    // A unit that was pulled in by one that has left since keeps running: systemd doesn't stop it, nor does the agent.
    wanted.extend(slice.iter().filter(|(_, entry)| entry.target == Target::Loaded).map(|(name, _)| (*name).clone()));
    found.extend(running.difference(&wanted).map(|unit| format!("{unit} runs, and isn't wanted there")));
    for unit in disk.keys().filter(|unit| !slice.contains_key(unit)) {
        found.push(format!("{unit} has a file and no entry"));
    }
    for (name, entry) in slice {
        match disk.get(*name).map(|text| UnitFile::parse(text.as_bytes()).unwrap()) {
            None => found.push(format!("{name} has no file")),
            Some(file) if file.hash() != entry.hash => found.push(format!("{name} has another file")),
            Some(file) if entry.text.as_ref().is_some_and(|text| *text != file.text_hash()) => {
                found.push(format!("{name} has other comments in its file"));
            }
            Some(_) => {}
        }
        let state = cluster.report(name, &host.id);
        let Some(state) = state else {
            found.push(format!("{name} isn't reported"));
            continue;
        };
        found.extend(report(host, name, entry, state));
        let is_read = |text: &String| disk.get(*name).is_some_and(|now| now == text || is_same_to_systemd(now, text));
        if host.fake.loaded_text(name).is_some_and(|text| !is_read(&text)) {
            found.push(format!("{name} was changed and not loaded again"));
        }
        if state.error.as_ref().is_some_and(|error| error.contains("No space left")) {
            found.push(format!("{name} still complains of a disk that isn't full any more"));
        }
        // A unit that needs others goes down when these are stopped.
        let silent = graph.get(*name).is_none_or(BTreeSet::is_empty)
            && state.active == ActiveState::Inactive
            && state.result == Some(JobResult::Done)
            && state.error.is_none()
            && !world.judge.was_stopped_by_hand(&host.id, name);
        // A hook that runs for a rollout which a person has paused stays as it is until that is resumed.
        let is_hook = cluster.gates.get(*name).is_some_and(|gate| gate.value.hook);
        if entry.target == Target::Launched && !is_hook && (health == Health::Whole || silent) {
            found.extend(unhealthy(host, name, state, &graph));
        }
    }
    found
}

/// A report must agree with systemd and with the assignment.
fn report(host: &Host, name: &UnitName, entry: &Assignment, state: &UnitReport) -> Option<String> {
    let truth = host.fake.unit(name);
    let told = (&state.load, &state.active, &state.sub, &state.job);
    if told != (&truth.load, &truth.active, &truth.sub, &truth.job) {
        return Some(format!("{name} is reported as {told:?} and is {truth:?}"));
    }
    let has_probes = |text: &String| text.contains(SECTION) || text.contains(COMMAND_SECTION);
    let probed = host.fake.on_disk().get(name).is_some_and(has_probes);
    let ready = probed.then(|| truth.active == ActiveState::Active && host.answers.passes(name));
    if state.ready != ready {
        return Some(format!(
            "{name} is reported as ready: {:?}, and it is {ready:?}: {:?}",
            state.ready, state.health
        ));
    }
    let (said, asked) = ((state.generation, state.target), (entry.generation, entry.target));
    let hash = state.hash == entry.hash;
    (said != asked || !hash).then(|| format!("{name} was asked for {asked:?} and says {said:?} (same file: {hash})"))
}

/// A report must say since when a unit has been up.
fn untrue_since(world: &World, cluster: &Cluster, host: &Host, name: &UnitName) -> Option<String> {
    let state = cluster.report(name, &host.id).filter(|state| state.sub == "running")?;
    // A unit that was started during faults may have been observed late.
    let begun = world.judge.runs_since(&host.id, name).filter(|begun| *begun + CALM > world.journal.now())?;
    let (said, soon) = (Duration::from_millis(state.since).saturating_sub(EPOCH), begun + OBSERVED);
    // Times in the store are whole milliseconds.
    let true_enough = said + Duration::from_millis(1) >= begun && said <= soon;
    (!true_enough).then(|| format!("{name} says that it runs since {said:?}, and it was started at {begun:?}"))
}

/// A launched unit must run, have finished, or report why it doesn't.
fn unhealthy(
    host: &Host,
    name: &UnitName,
    state: &UnitReport,
    graph: &BTreeMap<UnitName, BTreeSet<UnitName>>,
) -> Option<String> {
    let oneshot = host.fake.on_disk().get(name).is_some_and(|text| text.contains("Type=oneshot"));
    let fine = match (oneshot, state.active.as_str(), state.error.is_some()) {
        (_, "active", false) => true,
        (true, "inactive", false) => state.result == Some(JobResult::Done),
        // It was pulled in by another unit, hung during the faults, and was not stopped since.
        (_, "activating", _) => true,
        // A unit that it needs has left, or isn't up.
        _ => {
            let lacks = |need: &UnitName| host.fake.unit(need).active != ActiveState::Active;
            let broken = host.fake.on_disk().get(name).is_some_and(|text| text.contains("ExecStart=\n"));
            broken || graph.get(name).into_iter().flatten().any(lacks)
        }
    };
    (!fine).then(|| {
        format!("{name} should run and is {}/{}, {:?}, {:?}", state.active, state.sub, state.result, state.error)
    })
}

/// Whether the daemon of a host can't know that it has a report of a unit: the unit has no assignment there, an earlier
/// daemon died before it could save that it had the unit, and the report is under a key of the first format. A daemon
/// that continues a lease lists the reports of its host under keys of the current format only, because the others lie
/// among those of all hosts. Such a report stays until its lease ends, or until the unit is assigned to that host
/// again. A report of a unit that has an assignment is never one.
fn is_forgotten(world: &World, cluster: &Cluster, report: &ReportKey) -> bool {
    let ReportKey { host, unit, form } = report;
    let told = cluster.schedule.get(host).is_some_and(|slice| slice.contains_key(unit));
    *form == ReportKeyForm::UnitFirst && !told && world.judge.may_have_forgotten(host, unit)
}

/// Keys that nothing refers to, apart from `forgotten` reports.
fn leftovers(cluster: &Cluster, forgotten: &BTreeSet<(UnitName, MachineId)>) -> Vec<String> {
    let mut found = Vec::new();
    for (name, states) in &cluster.states {
        for host in states.keys() {
            let told = cluster.schedule.get(host).is_some_and(|slice| slice.contains_key(name));
            if !(told || forgotten.contains(&(name.clone(), host.clone()))) {
                found.push(format!("the report of {name} by {host} is left over"));
            }
        }
    }
    let known = effective(cluster);
    for name in cluster.placements.keys().filter(|name| !known.units.contains_key(*name)) {
        found.push(format!("placement/{name} is left over"));
    }
    found
}

/// Let time pass: nothing may happen except renewals of leases and regular checks.
pub(crate) async fn idle(world: &World, time: Duration) {
    let reads = |world: &World| -> Vec<u64> {
        world.hosts.iter().map(|host| host.fake.counters()).map(|calls| calls.files + calls.units).collect()
    };
    let (before, read, checked) = (world.traces(), reads(world), world.journal.self_checks());
    sleep(time).await;
    let after = world.traces();
    if before != after {
        world.journal.violate(format!("idle, and something happened: {before:?}, then {after:?}"));
    }
    let every = SELF_CHECK + 2 * world.computing();
    let (checks, due) = (world.journal.self_checks() - checked, time.as_secs() / every.as_secs());
    if u64::try_from(checks).unwrap() < due {
        world.journal.violate(format!("idle, and the leader checked itself {checks} times and not {due}"));
    }
    let allowed = 2 * (time.as_secs() / FULL_CHECK.as_secs() + 1);
    for (host, (before, after)) in world.hosts.iter().zip(read.iter().zip(reads(world))) {
        if after - before > allowed {
            world.journal.violate(format!("idle, and {} reads its host {} times", host.name, after - before));
        }
    }
}
