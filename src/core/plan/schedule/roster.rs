//! What the cluster remembers of its hosts: which of them are new, gone or back, and what became of the units of a host
//! that is gone. Owns the roster's limit; must never decide about units.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::cluster::{Cluster, Versioned};
use crate::model::machine::{Gone, KnownHost};
use crate::model::name::{MachineId, UnitName};
use crate::model::revision::Revision;
use crate::model::unit::Placement;

use super::super::absence;
use super::Scheduler;
use super::brake::held;
use super::decision::{Decision, Fate, Host, HostDecision, HostEvent, Write};

/// The most hosts that are remembered after they have gone: where each boot makes a new host, nobody forgets them.
const MAX_GONE: usize = 256;

/// Whether the roster doesn't say what is so of `host`.
pub(super) fn is_outdated(cluster: &Cluster, host: &MachineId) -> bool {
    match (cluster.machines.get(host), cluster.roster.get(host).map(|known| &known.value)) {
        (Some(machine), known) => known != Some(&KnownHost::present(machine)),
        (None, known) => known.is_some_and(|known| known.gone.is_none()),
    }
}

/// Whether `host` is said to be gone since a moment that is yet to come: the clock of an earlier leader was ahead.
pub(super) fn is_ahead(cluster: &Cluster, host: &MachineId, now: u64) -> bool {
    let known = cluster.roster.get(host).filter(|_| !cluster.machines.contains_key(host));
    known.and_then(|known| known.value.gone).is_some_and(|gone| gone.since > now)
}

/// Before anything is decided about units: remember for how long those of hosts that have just gone are held.
pub(super) fn hold(
    Scheduler { cluster, brake, left, .. }: &mut Scheduler,
    dirty: &BTreeSet<MachineId>,
    now: u64,
) -> BTreeMap<MachineId, HostDecision> {
    let mut written = BTreeMap::new();
    if dirty.iter().any(|host| !cluster.machines.contains_key(host)) {
        for (host, after) in brake.holds(cluster, left, now) {
            let known = after.clone();
            write(Arc::make_mut(cluster), &mut written, host, Some(after), HostEvent::Held(known));
        }
    }
    written
}

/// Bring the roster of `cluster` up to date for the hosts in `dirty`. `decisions` are those of the same round, and the
/// cluster already shows them, and what was `written` about hosts earlier in the round.
pub(super) fn reconcile(
    cluster: &mut Cluster,
    dirty: BTreeSet<MachineId>,
    mut written: BTreeMap<MachineId, HostDecision>,
    decisions: &[Decision],
    now: u64,
) -> Vec<HostDecision> {
    for host in dirty {
        let is_over = held(cluster, &host).is_some_and(|held| held.until <= now);
        let known = cluster.roster.get(&host).map(|known| known.value.clone());
        let is_ahead = is_ahead(cluster, &host, now);
        let (after, why) = match (cluster.machines.get(&host), known) {
            _ if !is_outdated(cluster, &host) && !is_over && !is_ahead => continue,
            (None, Some(KnownHost { gone: Some(gone), .. })) if is_ahead && !is_over => {
                let after =
                    KnownHost { gone: Some(Gone { since: now, ..gone }), ..cluster.roster[&host].value.clone() };
                (after, HostEvent::Dated)
            }
            (Some(machine), known) => {
                let why = match known {
                    Some(known) => match known.gone {
                        Some(gone) => HostEvent::Back(known, now.saturating_sub(gone.since) / 1000),
                        None => HostEvent::Changed,
                    },
                    None => HostEvent::Joined,
                };
                (KnownHost::present(machine), why)
            }
            (None, None) => continue,
            (None, Some(known)) => {
                let units: Vec<_> =
                    fates(cluster, &host, decisions).into_iter().chain(kept(cluster, &host, now)).collect();
                let since = known.gone.map_or(now, |gone| gone.since);
                (KnownHost { gone: Some(summary(&units, since)), ..known.clone() }, HostEvent::Gone { known, units })
            }
        };
        write(cluster, &mut written, host, Some(after), why);
    }
    for (host, known) in superfluous(cluster) {
        write(cluster, &mut written, host, None, HostEvent::Dropped(known));
    }
    written.into_values().collect()
}

/// A record that is written twice in a round is written once, guarded by what the store has.
fn write(
    cluster: &mut Cluster,
    written: &mut BTreeMap<MachineId, HostDecision>,
    host: MachineId,
    after: Option<KnownHost>,
    why: HostEvent,
) {
    let stored = cluster.roster.get(&host).map(|known| known.revision);
    let before = written.get(&host).map_or(stored, |earlier| earlier.write.before);
    let decision = HostDecision { host: host.clone(), write: Write { before, after }, why };
    cluster.apply(decision.change(Revision::default()));
    written.insert(host, decision);
}

/// Those that have been gone longest, beyond the limit. Hosts whose units are held, or wait for them, don't count:
/// without their records, their units would be moved.
fn superfluous(cluster: &Cluster) -> Vec<(MachineId, KnownHost)> {
    let since = |(host, known): (&MachineId, &Versioned<KnownHost>)| {
        let gone = known.value.gone.filter(|gone| gone.held.is_none())?;
        let has_units = cluster.schedule.get(host).is_some_and(|assignments| !assignments.is_empty());
        (!has_units).then(|| (gone.since, host.clone()))
    };
    let mut gone: Vec<(u64, MachineId)> = cluster.roster.iter().filter_map(since).collect();
    gone.sort();
    let most = gone.len().saturating_sub(MAX_GONE);
    let known = |(_, host): (u64, MachineId)| cluster.roster.get(&host).map(|known| (host, known.value.clone()));
    gone.into_iter().take(most).filter_map(known).collect()
}

/// The units whose assignments on `host` the decisions delete because it is gone.
fn fates(cluster: &Cluster, host: &MachineId, decisions: &[Decision]) -> Vec<(UnitName, Fate)> {
    let leaves =
        |decision: &&Decision| decision.assignments.iter().any(|(other, write)| other == host && write.after.is_none());
    let fate = |decision: &Decision| match cluster.placements.get(&decision.unit).map(|placement| &placement.value) {
        Some(Placement::On { host, .. }) => {
            Fate::Moved(Host { id: host.clone(), name: cluster.hostname(host).map(str::to_owned) })
        }
        Some(Placement::Waiting { why, .. }) => Fate::Waiting(why.clone()),
        Some(Placement::Done { .. }) | None => Fate::Ended,
    };
    decisions.iter().filter(leaves).map(|decision| (decision.unit.clone(), fate(decision))).collect()
}

/// The units that stay assigned to `host`, although it is gone.
fn kept(cluster: &Cluster, host: &MachineId, now: u64) -> Vec<(UnitName, Fate)> {
    let units = cluster.schedule.get(host).into_iter().flat_map(BTreeMap::keys);
    let waits = |unit: &&UnitName| absence::waits(cluster, unit, host, now).is_some();
    units.filter(waits).map(|unit| (unit.clone(), Fate::Kept)).collect()
}

fn summary(units: &[(UnitName, Fate)], since: u64) -> Gone {
    let mut gone = Gone { since, ..Gone::default() };
    for (_, fate) in units {
        match fate {
            Fate::Moved(_) => gone.moved += 1,
            Fate::Waiting(_) => gone.waiting += 1,
            Fate::Ended => gone.ended += 1,
            Fate::Kept => gone.kept += 1,
        }
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::cluster::Change;
    use crate::model::machine::{Held, Machine};

    fn id(number: u8) -> MachineId {
        format!("{number:032x}").parse().unwrap()
    }

    fn machine(number: u8, ip: &str) -> Machine {
        let (ip, version) = (ip.into(), "0.1.0".into());
        Machine { ip, version, ..Machine::new(id(number), format!("n{number}")) }
    }

    fn round(cluster: &mut Cluster, now: u64) -> Vec<String> {
        let all: BTreeSet<MachineId> = cluster.machines.keys().chain(cluster.roster.keys()).cloned().collect();
        reconcile(cluster, all, BTreeMap::new(), &[], now).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_host_joins_changes_goes_and_comes_back_and_each_is_written_once() {
        let mut cluster = Cluster::default();
        let mut steps = vec![];
        for host in [Some("10.0.0.1"), Some("10.0.0.9"), None, Some("10.0.0.9")] {
            cluster.apply(Change::Machine(id(1), host.map(|ip| machine(1, ip))));
            steps.push(round(&mut cluster, 7));
            assert_eq!(round(&mut cluster, 8), Vec::<String>::new(), "nothing has changed since");
            let gone = cluster.roster[&id(1)].value.gone.map(|gone| gone.since);
            assert_eq!(gone, host.is_none().then_some(7));
        }
        assert_eq!(
            steps.concat(),
            [
                "n1 (10.0.0.1, 00000000) has joined",
                "n1 (10.0.0.9, 00000000) has another name, address or version",
                "n1 (10.0.0.9, 00000000) is gone: its lease has ended; it had no units",
                "n1 (10.0.0.9, 00000000) is back after 0 s",
            ]
        );
    }

    #[test]
    fn a_host_that_was_forgotten_stays_forgotten_until_it_registers() {
        let mut cluster = Cluster::default();
        cluster.apply(Change::Machine(id(1), Some(machine(1, ""))));
        assert_eq!(round(&mut cluster, 1), ["n1 (00000000) has joined"]);
        cluster.apply(Change::Machine(id(1), None));
        round(&mut cluster, 2);
        cluster.apply(Change::Roster(id(1), None));
        assert_eq!(reconcile(&mut cluster, [id(1)].into(), BTreeMap::new(), &[], 3), []);
    }

    #[test]
    fn of_hosts_that_are_gone_the_oldest_are_dropped() {
        let host = |number: usize| format!("{:032x}", number + 1).parse::<MachineId>().unwrap();
        let mut cluster = Cluster::default();
        for number in 0..MAX_GONE + 2 {
            let known = KnownHost::present(&machine(1, ""));
            let since = if number == 40 { 1 } else { 1000 + number as u64 };
            let gone = (number > 0).then(|| Gone { since, ..Gone::default() });
            let value = KnownHost { gone, ..known };
            cluster.apply(Change::Roster(host(number), Some(Versioned { value, revision: Revision(1) })));
        }
        // Host 0 goes now.
        let written = reconcile(&mut cluster, [host(0)].into(), BTreeMap::new(), &[], 9000);
        let deleted = written.iter().filter(|decision| decision.write.after.is_none());
        assert_eq!(deleted.map(|decision| decision.host.clone()).collect::<Vec<_>>(), [host(1), host(40)]);
        assert_eq!((written.len(), cluster.roster.len()), (3, MAX_GONE));
        // Hosts that are held are never dropped, however many there are.
        let held = Some(Held { until: 99_000, mass_loss: true });
        for number in 1000..1300 {
            let value =
                KnownHost { gone: Some(Gone { held, ..Gone::default() }), ..KnownHost::present(&machine(1, "")) };
            cluster.apply(Change::Roster(host(number), Some(Versioned { value, revision: Revision(1) })));
        }
        assert_eq!(round(&mut cluster, 9001), [""; 0]);
    }
}
