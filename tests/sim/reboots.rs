//! What must hold when a host goes down because its daemon has asked for that: it has one of the slots, is drained, and
//! has nothing left that could run elsewhere.

use flotilla::model::cluster::Cluster;
use flotilla::model::name::MachineId;
use flotilla::model::unit::Target;
use flotilla::plan::reboot::SLOTS;
use flotilla::registry::reader::Reader;
use flotilla::registry::reboots;
use flotilla::store::embedded::Embedded;

use super::judge::Judge;

impl Judge {
    /// Judge that `host` goes down.
    pub(crate) async fn reboots(&self, name: &str, host: &MachineId, store: &Embedded) {
        self.look();
        let (_, groups) = reboots::all(&Reader::new(store.clone())).await.unwrap();
        let group = groups.iter().find(|(_, all)| all.holder(host).is_some());
        match group {
            None => self.journal.violate(format!("{name} reboots and has no slot")),
            Some((group, all)) if all.holders.len() > SLOTS => {
                self.journal.violate(format!("{name} reboots, and {} hosts of {group} have slots", all.holders.len()));
            }
            Some(_) => {}
        }
        left(&self.cluster(), host).for_each(|unit| {
            self.journal.violate(format!("{name} reboots, and {unit} is left on it"));
        });
    }
}

/// The units that were on a host when its drain began, and could have left.
fn left<'a>(cluster: &'a Cluster, host: &'a MachineId) -> impl Iterator<Item = String> + 'a {
    let drain = cluster.asked_of(host).and_then(|asked| asked.drain.as_ref());
    let missing = drain.is_none().then(|| "its drain".to_owned());
    let there = cluster.schedule.get(host).into_iter().flatten();
    let could_leave = move |told: &flotilla::model::unit::Assignment| {
        let before = drain.is_some_and(|drain| told.generation <= drain.generation);
        before && !told.global && told.target != Target::Removed
    };
    let belongs =
        |unit: &_| cluster.constraints(unit).is_none_or(|c| c.belongs_to_its_host() || !c.machine_of.is_empty());
    let left = there.filter(move |(unit, told)| could_leave(&told.value) && !belongs(unit));
    missing.into_iter().chain(left.map(|(unit, _)| unit.to_string()))
}
