//! What must hold when a host goes down because its daemon has asked for that: it has one of the slots, is drained, and
//! has nothing left that could run elsewhere, as far as the leader has seen that it is there.

use std::collections::{BTreeMap, BTreeSet};

use flotilla::model::cluster::{Cluster, Versioned};
use flotilla::model::name::{MachineId, UnitName};
use flotilla::model::reboot::Holder;
use flotilla::model::unit::{Assignment, Desired, Target, Unit};
use flotilla::registry::keys::REBOOTS;
use flotilla::registry::records::{Family as _, reboots};
use flotilla::store::Event;

use super::journal::Journal;

/// What was seen last of the reboots of each group, by its key.
pub(crate) type Seen = BTreeMap<String, Group>;

/// Of one group.
#[derive(Debug, Default)]
pub(crate) struct Group {
    /// The hosts with a slot.
    holders: BTreeSet<MachineId>,
    /// Those of them whose reboot has begun, or may begin.
    down: BTreeSet<MachineId>,
}

/// Judge a record of reboots. `runs` tells what runs on a host.
pub(crate) fn judge(
    event: &Event,
    cluster: &Cluster,
    seen: &mut Seen,
    runs: &dyn Fn(&MachineId, &UnitName) -> bool,
    journal: &Journal,
) {
    let Event::Put(kv) = event else {
        if let Event::Delete(key) = event {
            seen.remove(key);
        }
        return;
    };
    if !kv.key.starts_with(REBOOTS) {
        return;
    }
    let Ok(all) = reboots::Records::read(kv) else { return };
    let those = |of: fn(&Holder) -> bool| all.holders.iter().filter(|it| of(it)).map(|it| it.host.clone()).collect();
    let now = Group { holders: those(|_| true), down: those(|holder| holder.down) };
    let before = seen.insert(kv.key.clone(), Group::default()).unwrap_or_default();
    // Slots that are taken away while hosts have them are missing until these have rebooted.
    let is_new = now.holders.iter().any(|host| !before.holders.contains(host));
    if is_new && now.holders.len() > cluster.settings.reboot_slots() {
        journal.violate(format!("{} hosts have slots for their reboot", now.holders.len()));
    }
    for host in now.down.difference(&before.down) {
        let name = cluster.hostname(host).unwrap_or(host.short());
        left(cluster, host).for_each(|unit| journal.violate(format!("{name} reboots, and {unit} is left on it")));
        unassigned(cluster, host).filter(|unit| runs(host, unit)).for_each(|unit| {
            journal.violate(format!("{name} reboots, and the leader has yet to assign {unit}, which runs there"));
        });
    }
    seen.insert(kv.key.clone(), now);
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
    // What is to be down, or was destroyed, needn't run elsewhere.
    let wanted = |unit: &UnitName| cluster.units.get(unit).filter(|record| record.desired != Desired::Inactive);
    // Nor what is only loaded there and was asked for anew since: it may have been destroyed when the host decided.
    let stays =
        |record: &Unit, told: &Assignment| told.target == Target::Launched || told.generation >= record.generation;
    let is_wanted = move |unit: &UnitName, told: &Assignment| wanted(unit).is_some_and(|record| stays(record, told));
    let left = there.filter(move |(unit, told)| could_leave(told) && is_wanted(unit, &told.value) && !belongs(unit));
    missing.into_iter().chain(left.map(|(unit, _)| unit.to_string()))
}
