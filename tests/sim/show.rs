//! The output of a scenario. Owns its tables; their contents are read from the store and the hosts, not from a
//! daemon.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use flotilla::model::cluster::Cluster;
use flotilla::model::name::{MachineId, UnitName};
use flotilla::model::systemd::ActiveState;
use flotilla::model::unit::{Placement, Unit, UnitReport};
use flotilla::plan;
use flotilla::registry::keys::STATES;
use flotilla::registry::mirror;

use super::world::{Host, World};

/// The name of every host by its id; of hosts that share an id, the one that is registered.
fn names(world: &World) -> BTreeMap<MachineId, String> {
    let cluster = world.judge.cluster();
    let mut hosts: Vec<&Host> = world.hosts.iter().collect();
    hosts.sort_by_key(|host| is_alive(&cluster, host));
    hosts.into_iter().map(|host| (host.id.clone(), host.name.clone())).collect()
}

fn is_alive(cluster: &Cluster, host: &Host) -> bool {
    cluster.machines.get(&host.id).is_some_and(|machine| machine.hostname == host.name)
}

/// Every unit: its desired state, its placement or why it waits, and the report of its host.
pub(crate) fn units(world: &World) -> String {
    let (cluster, names) = (world.judge.cluster(), names(world));
    let mut rows = Vec::new();
    for (name, unit) in &cluster.units {
        let on = cluster.schedule.iter().filter(|(_, slice)| slice.contains_key(name)).map(|(host, _)| host);
        let mut places: Vec<(String, String)> =
            on.map(|host| (names[host].clone(), state(&cluster, name, host))).collect();
        places.sort();
        match cluster.placements.get(name).map(|placement| &placement.value) {
            Some(Placement::Waiting { why, .. }) => places.push(("-".into(), format!("waits: {why}"))),
            Some(Placement::Done { done, .. }) => places.push(("-".into(), format!("done on {}", names[&done.host]))),
            Some(Placement::On { .. }) | None => {}
        }
        if places.is_empty() {
            places.push(("-".into(), "-".into()));
        }
        for (at, (place, state)) in places.into_iter().enumerate() {
            let first = at == 0;
            let (name, desired) = if first { (name.as_str(), unit.desired.as_str()) } else { ("", "") };
            rows.push([name.to_owned(), desired.to_owned(), place, state]);
        }
    }
    table(&rows)
}

/// Every set: how many members it should have, how many there are, and how many of these each host runs.
pub(crate) fn sets(world: &World) -> String {
    let (cluster, names) = (plan::gate::effective(&world.judge.cluster()).into_owned(), names(world));
    let mut rows = Vec::new();
    for (template, unit) in &cluster.units {
        let Some(replicas) = unit.replicas else { continue };
        let members: Vec<&UnitName> = cluster.units.keys().filter(|name| name.number_in(template).is_some()).collect();
        let mut hosts: BTreeMap<&str, usize> = BTreeMap::new();
        for name in &members {
            for (host, report) in cluster.reports(name).filter(|(_, report)| report.active == ActiveState::Active) {
                assert_eq!(&report.hash, &cluster.units[*name].hash, "{name} on {host}");
                *hosts.entry(names[host].as_str()).or_default() += 1;
            }
        }
        let hosts: Vec<String> = hosts.iter().map(|(host, count)| format!("{host}: {count}")).collect();
        rows.push([template.to_string(), replicas.to_string(), members.len().to_string(), hosts.join(", ")]);
    }
    table(&rows)
}

fn state(cluster: &Cluster, name: &UnitName, host: &MachineId) -> String {
    let line = |state: &UnitReport| {
        let mut line = format!("{}/{}", state.active, state.sub);
        if let Some(error) = &state.error {
            write!(line, " ({error})").unwrap();
        }
        match (state.ready, &state.health) {
            (Some(true), _) => line += ", ready",
            (Some(false), Some(why)) => write!(line, ", not ready: {why}").unwrap(),
            (Some(false), None) => line += ", not ready",
            (None, _) => {}
        }
        line
    };
    cluster.report(name, host).map_or_else(|| "not reported".into(), line)
}

/// The keys of all reports, with the names of the hosts.
pub(crate) async fn report_keys(world: &World) -> String {
    let (_, reports) = mirror::list(&world.store, STATES).await.unwrap();
    let named = |key: String| world.hosts.iter().fold(key, |key, host| key.replace(host.id.as_str(), &host.name));
    reports.into_iter().fold(String::new(), |lines, report| lines + &named(report.key) + "\n")
}

/// Every host that is alive to the cluster.
pub(crate) fn machines(world: &World) -> String {
    let (cluster, leader) = (world.judge.cluster(), world.judge.leader());
    let row = |host: &Host| {
        let alive = if is_alive(&cluster, host) { "alive" } else { "gone" };
        let metadata = cluster.effective_metadata(&host.id);
        let metadata: Vec<String> = metadata.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let metadata = if metadata.is_empty() { "-".into() } else { metadata.join(" ") };
        let leads = if leader.as_ref() == Some(&host.id) && alive == "alive" { "leads" } else { "" };
        [host.name.clone(), alive.into(), metadata, leads.into()]
    };
    table(&world.hosts.iter().map(row).collect::<Vec<_>>())
}

/// The assignments of each host.
pub(crate) fn schedule(world: &World) -> String {
    let (cluster, names) = (world.judge.cluster(), names(world));
    let mut rows = Vec::new();
    for (host, slice) in &cluster.schedule {
        for (name, entry) in slice {
            let target = format!("{:?}", entry.value.target).to_lowercase();
            rows.push([names[host].clone(), name.to_string(), target, entry.value.hash.short().to_owned()]);
        }
    }
    rows.sort();
    table(&rows)
}

/// The reports of each host.
pub(crate) fn reports(world: &World) -> String {
    let (cluster, names) = (world.judge.cluster(), names(world));
    let mut rows = Vec::new();
    for (name, states) in &cluster.states {
        for (host, report) in states.iter() {
            let target = format!("{:?}", report.value.target).to_lowercase();
            rows.push([names[host].clone(), name.to_string(), target, state(&cluster, name, host)]);
        }
    }
    rows.sort();
    table(&rows)
}

/// The files in the store, and the units that refer to them; in parentheses, those that had them before.
pub(crate) fn files(world: &World) -> String {
    let cluster = world.judge.cluster();
    let row = |hash: &flotilla::model::name::UnitHash| {
        let refers = |unit: &Unit| unit.hash == *hash || unit.text.as_ref() == Some(hash);
        let users = cluster.units.iter().filter(|(_, unit)| refers(unit)).map(|(name, _)| name.to_string());
        let former = cluster.histories.iter().filter(|(_, kept)| kept.value.keys.contains(hash));
        let users: Vec<String> = users.chain(former.map(|(name, _)| format!("({name})"))).collect();
        [hash.short().to_owned(), users.join(" ")]
    };
    table(&cluster.files.keys().map(row).collect::<Vec<_>>())
}

/// The files on each host, and the first line of each.
pub(crate) fn disk(world: &World) -> String {
    let mut rows = Vec::new();
    for host in &world.hosts {
        let files = host.fake.on_disk();
        let line = |text: &str| text.lines().next().unwrap_or_default().to_owned();
        rows.extend(files.into_iter().map(|(name, text)| [host.name.clone(), name.to_string(), line(&text)]));
    }
    table(&rows)
}

/// Why a unit isn't where it should be.
pub(crate) fn explain(world: &World, unit: &UnitName) -> String {
    let mut text = plan::explain::explain(&world.judge.cluster(), unit).to_string();
    for (id, name) in names(world) {
        text = text.replace(id.short(), &name);
    }
    text + "\n"
}

/// What the leader decided and what the hosts did.
pub(crate) fn log(world: &World, lines: &[(Duration, String)]) -> String {
    let mut text = String::new();
    for (time, line) in lines {
        if line.ends_with(": Rebooted") {
            continue; // the host in memory boots as soon as it loses its power, but has no daemon until `boot`
        }
        let host = world.hosts.iter().any(|host| line.starts_with(&format!("{}: ", host.name)));
        let failed = line.strip_prefix("  WARN engine: rollout of ").map(|failed| format!("rollout of {failed}"));
        let decided = line.strip_prefix("  INFO engine: ").map(str::to_owned).or(failed);
        let shown = if let Some(decision) = &decided {
            let Some((why, unit)) = decision.rsplit_once(" unit=") else { continue };
            let mut shown = format!("{unit} {why}");
            for (id, _) in names(world) {
                shown = shown.replace(&format!(" ({})", id.short()), "").replace(id.short(), &names(world)[&id]);
            }
            format!("leader: {shown}")
        } else if host || line.starts_with("* ") || line.contains(" is not ours or is damaged") {
            line.clone()
        } else {
            continue;
        };
        writeln!(text, "{:>8.3} {shown}", time.as_secs_f64()).unwrap();
    }
    text
}

/// A table whose columns are as wide as their longest value.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let mut text = String::new();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    for row in rows {
        let line: Vec<String> = row.iter().enumerate().map(|(at, cell)| format!("{cell:<0$}", width(at))).collect();
        writeln!(text, "  {}", line.join("  ").trim_end()).unwrap();
    }
    if text.is_empty() { "  (none)\n".into() } else { text }
}
