//! What must hold when a host goes down because its daemon has asked for that: it has one of the slots, is drained, and
//! has nothing left that could run elsewhere, as far as the leader has seen that it is there.

use std::collections::BTreeSet;

use flotilla::model::cluster::{Cluster, Versioned};
use flotilla::model::name::{MachineId, UnitName};
use flotilla::model::unit::{Assignment, Desired, Target};
use flotilla::plan::reboot::SLOTS;
use flotilla::registry::keys::REBOOTS;
use flotilla::registry::records::{Family as _, reboots};
use flotilla::store::Event;

use super::journal::Journal;

/// Judge a record of reboots. `down` has the hosts whose reboot has begun, `runs` tells what runs on a host.
pub(crate) fn judge(
    event: &Event,
    cluster: &Cluster,
    down: &mut BTreeSet<MachineId>,
    runs: &dyn Fn(&MachineId, &UnitName) -> bool,
    journal: &Journal,
) {
    let Event::Put(kv) = event else {
        if matches!(event, Event::Delete(key) if key.starts_with(REBOOTS)) {
            down.clear();
        }
        return;
    };
    if !kv.key.starts_with(REBOOTS) {
        return;
    }
    let Ok(all) = reboots::Records::read(kv) else { return };
    if all.holders.len() > SLOTS {
        journal.violate(format!("{} hosts have slots for their reboot", all.holders.len()));
    }
    let begun: BTreeSet<MachineId> =
        all.holders.iter().filter(|holder| holder.down).map(|holder| holder.host.clone()).collect();
    for host in begun.difference(down) {
        let name = cluster.hostname(host).unwrap_or(host.short());
        left(cluster, host).for_each(|unit| journal.violate(format!("{name} reboots, and {unit} is left on it")));
        unassigned(cluster, host).filter(|unit| runs(host, unit)).for_each(|unit| {
            journal.violate(format!("{name} reboots, and the leader has yet to assign {unit}, which runs there"));
        });
    }
    *down = begun;
}

/// The units that can run nowhere else, and that a host which has come back may have, before the leader has seen it.
fn unassigned<'a>(cluster: &'a Cluster, host: &'a MachineId) -> impl Iterator<Item = &'a UnitName> {
    let is_unseen = cluster.roster.get(host).is_some_and(|known| known.value.gone.is_some());
    let is_forced = cluster.asked_of(host).and_then(|asked| asked.drain.as_ref()).is_some_and(|drain| drain.force);
    let is_assigned = |unit: &UnitName| cluster.schedule.get(host).is_some_and(|told| told.contains_key(unit));
    let is_tied = |unit: &UnitName| cluster.constraints(unit).is_some_and(|c| c.machine_id.is_some() && !c.global);
    let launched = cluster.units.iter().filter(|(_, unit)| unit.desired == Desired::Launched).map(|(name, _)| name);
    launched.filter(move |unit| is_unseen && !is_forced && !is_assigned(unit) && is_tied(unit))
}

/// The units that were on a host when its drain began, and could have left.
fn left<'a>(cluster: &'a Cluster, host: &'a MachineId) -> impl Iterator<Item = String> + 'a {
    let drain = cluster.asked_of(host).and_then(|asked| asked.drain.as_ref());
    let missing = drain.is_none().then(|| "its drain".to_owned());
    let there = cluster.schedule.get(host).into_iter().flatten();
    let could_leave = move |told: &Versioned<Assignment>| {
        let before = drain.is_some_and(|drain| told.revision <= drain.generation);
        before && !told.value.global && told.value.target != Target::Removed
    };
    let belongs =
        |unit: &_| cluster.constraints(unit).is_none_or(|c| c.belongs_to_its_host() || !c.machine_of.is_empty());
    let left = there.filter(move |(unit, told)| could_leave(told) && !belongs(unit));
    missing.into_iter().chain(left.map(|(unit, _)| unit.to_string()))
}
