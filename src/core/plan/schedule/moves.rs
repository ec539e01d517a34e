//! Units that a person wants on another host. Owns what is noted of it in their placements, and that they are placed
//! where they were sent, if they still fit there. Must never decide who moves when (`plan::drain` does).

use std::collections::BTreeSet;

use crate::model::cluster::Cluster;
use crate::model::name::{MachineId, UnitName};
use crate::model::unit::{Move, Moved, Placement};

use super::Scheduler;
use super::decision::{Because, Departure, Reason};
use super::dirty::Rescan;
use super::round::Round;

/// The units that are to move and haven't been told to, and those that are on their way.
pub(super) fn moving(cluster: &Cluster) -> BTreeSet<UnitName> {
    let named = cluster.units.iter().filter(|(_, unit)| unit.moves.is_some()).map(|(name, _)| name);
    let noted = cluster.placements.iter().filter(|(_, known)| known.value.moved().is_some()).map(|(name, _)| name);
    named.chain(noted).filter(|name| is_moving(cluster, name)).cloned().collect()
}

fn is_moving(cluster: &Cluster, unit: &UnitName) -> bool {
    leaves_for(cluster, unit).is_some() || asked(cluster, unit).is_some()
}

/// The host that a unit was sent to, while it is still on another one.
fn leaves_for<'a>(cluster: &'a Cluster, unit: &UnitName) -> Option<&'a MachineId> {
    cluster.placements.get(unit)?.value.moved()?.to.as_ref()
}

/// The request to move a unit on which the leader has yet to act.
fn asked<'a>(cluster: &'a Cluster, unit: &UnitName) -> Option<&'a Move> {
    let asked = cluster.units.get(unit)?.moves.as_deref()?;
    asked.is_open(cluster.placements.get(unit).map(|known| &known.value)).then_some(asked)
}

impl Scheduler {
    /// The units that a person wants on another host, and that haven't been told to leave, with the requests.
    pub fn asked_to_move(&self) -> impl Iterator<Item = (&UnitName, &Move)> {
        self.moving.iter().filter_map(|unit| Some((unit, asked(&self.cluster, unit)?)))
    }

    /// The units that leave their hosts because a person wants them elsewhere, and where they go.
    pub fn on_their_way(&self) -> impl Iterator<Item = (&UnitName, &MachineId)> {
        self.moving.iter().filter_map(|unit| Some((unit, leaves_for(&self.cluster, unit)?)))
    }

    /// A unit stays where it is, although a person wanted it elsewhere.
    pub fn keep_unmoved(&mut self, unit: UnitName, why: String) {
        self.dirty.unit(&unit, Rescan::Keep);
        self.unmoved.insert(unit, why);
    }

    /// The record or the placement of a unit has changed.
    pub(super) fn move_changed(&mut self, unit: &UnitName) {
        if is_moving(&self.cluster, unit) {
            self.moving.insert(unit.clone());
        } else {
            self.moving.remove(unit);
        }
    }
}

impl Round<'_> {
    /// Tell a unit to leave `home`, and note where it goes, if a person wants that.
    pub(super) fn send(&mut self, unit: &UnitName, home: &MachineId, why: Departure) {
        if let Departure::Moves { to } = &why {
            let to = Some(to.id.clone());
            self.note_move(unit, Moved { to, ..self.moved(unit).map(|moved| *moved).unwrap_or_default() });
        }
        self.leave(unit, home, why);
        // What is away stops nothing, and acknowledges nothing.
        if !self.scheduler.cluster.machines.contains_key(home) {
            self.scheduler.dirty.unit(unit, Rescan::Explain);
        }
    }

    /// Note that a unit isn't moved, if that was decided.
    pub(super) fn stay_unmoved(&mut self, unit: &UnitName) {
        let Some(why) = self.scheduler.unmoved.remove(unit) else { return };
        let Some(moved) = self.moved(unit) else { return };
        self.note_move(unit, Moved { why: Some(why.clone()), ..*moved });
        self.pending.why(unit, Reason::StaysUnmoved { why });
    }

    fn note_move(&mut self, unit: &UnitName, moved: Moved) {
        let placement = self.scheduler.cluster.placements.get(unit).map(|known| known.value.clone());
        let Some(Placement::On { host, since, from, tried, .. }) = placement else { return };
        // Where a drain took it from, a person doesn't want it any more.
        let from = from.filter(|_| moved.to.is_none());
        self.set_placement(unit, Some(Placement::On { host, since, from, tried, moved: Some(Box::new(moved)) }));
    }

    /// That the last request to move a unit has been acted on.
    pub(super) fn moved(&self, unit: &UnitName) -> Option<Box<Moved>> {
        let asked = self.scheduler.cluster.units.get(unit)?.moves.as_deref()?;
        Some(Box::new(Moved { generation: asked.generation, ..Moved::default() }))
    }

    /// The host that a unit was sent to, while its placement says so.
    pub(super) fn moves_to(&self, unit: &UnitName) -> Option<MachineId> {
        leaves_for(&self.scheduler.cluster, unit).cloned()
    }

    /// Where units that have no host are placed because a person wants them there; `None` if nobody does, or they
    /// don't fit.
    pub(super) fn move_to(&self, group: &[UnitName]) -> Option<(MachineId, Because)> {
        let host = group.iter().find_map(|unit| self.unplaced.get(unit)?.to.clone())?;
        let view = self.scheduler.view();
        // Elsewhere, it would run twice.
        view.running_on(group).is_empty().then(|| view.at(group, &host, Because::Asked)).flatten()
    }
}
