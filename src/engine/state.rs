//! The leader's state of the cluster, fed by the mirror. Owns the handling of records that can't be decoded: they are
//! skipped with a warning, no unit is stopped or moved because of them, and those that only the engine writes are
//! repaired.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::cluster::{Change, Cluster, Versioned};
use crate::model::maintenance::{Cordon, Maintenance};
use crate::model::name::{UnitHash, UnitName};
use crate::model::revision::{Moment, Revision};
use crate::model::rollout::Phase;
use crate::model::unit::{Assignment, Placement, Target, Unit};
use crate::plan::drain::{self, Timers};
use crate::plan::reschedule;
use crate::plan::rollouts::{Rollouts, Writes};
use crate::plan::schedule::{Brake, Plan, Scheduler};
use crate::registry::commit::batch::{Group, Packed, Step, pack};
use crate::registry::damage::Damage;
use crate::registry::keys::Key;
use crate::registry::mirror::Update;
use crate::registry::presence::Presences;
use crate::store::{Event, Kv, LeaseId};

use super::commit::Fence;
use super::cost::{Cost, Suspect};
use super::sets::{Sets, Taken};

/// The leader's state of the cluster.
#[derive(Debug, Default)]
pub(super) struct LeaderState {
    scheduler: Option<Scheduler>,
    /// What stands between the units as they are requested and the scheduler.
    rollouts: Rollouts,
    /// What was seen of drains.
    drains: Timers,
    /// Whether anything has happened since hosts that are drained were looked at.
    happened: bool,
    /// When drains are to be looked at again: the next deadline of one passes, in ms since the epoch.
    drain_due: Option<u64>,
    /// What was seen of units that have failed.
    failures: reschedule::Timers,
    /// How the members of sets stand.
    sets: Sets,
    /// What has been followed so far.
    at: Moment,
    /// Whether the store was restored from a backup or replaced since somebody asked.
    rolled_back: bool,
    leader: Option<LeaseId>,
    /// Whose reports count.
    presences: Presences,
    /// Writes that repair damaged records of the engine's own families.
    repairs: Vec<Step<()>>,
    /// Whether a damaged record was found since the last list: it can only be interpreted together with a complete
    /// list.
    needs_list: bool,
    /// Units about which so little can be decoded that they are left alone. They may be running; when one is submitted
    /// again, a new list shows where.
    left_alone: BTreeSet<UnitName>,
    /// Files whose records can't be decoded, or have the text of another one. They are warned of when they are found.
    unreadable_files: BTreeSet<UnitHash>,
    /// Units that aren't planned while they have these files.
    left_out: BTreeMap<UnitName, UnitHash>,
    /// When the units of hosts that are gone are held; never, without one.
    brake: Option<Brake>,
    /// The unit whose patterns are the most expensive.
    suspect: Suspect,
    damage: Damage,
}

impl LeaderState {
    /// An empty state. Units that are about to be indexed are passed to `suspect` first.
    pub(super) fn new(left_out: BTreeMap<UnitName, UnitHash>, brake: Brake, suspect: Suspect) -> Self {
        Self { left_out, brake: Some(brake), suspect, ..Self::default() }
    }

    /// The planner, once the first list is in.
    pub(super) fn scheduler(&mut self) -> Option<&mut Scheduler> {
        self.scheduler.as_mut()
    }

    /// Whether [`Self::plan`] has anything to do at `now_ms`.
    pub(super) fn is_dirty(&self, now_ms: u64) -> bool {
        let Some(scheduler) = &self.scheduler else { return false };
        let drains = self.happened && drain::is_under_way(scheduler);
        let due = scheduler.due().into_iter().chain(self.drain_due).any(|due| due <= now_ms);
        drains || due || self.failures.is_dirty(now_ms) || scheduler.is_dirty() || self.rollouts.is_dirty(now_ms)
    }

    /// When there is something to do although nothing has happened, in ms since the epoch.
    pub(super) fn due(&self) -> Option<u64> {
        let holds = self.scheduler.as_ref().and_then(Scheduler::due);
        holds.into_iter().chain(self.rollouts.due()).chain(self.drain_due).chain(self.failures.due()).min()
    }

    /// How many rollouts are in this phase.
    pub(super) fn rollouts(&self, phase: Phase) -> usize {
        self.rollouts.count(phase)
    }

    /// How the members of sets stand that something has happened to since the last call.
    pub(super) fn take_sets(&mut self) -> Option<Taken> {
        Some(self.sets.take(self.scheduler.as_ref()?.cluster()))
    }

    /// Whether what is decided depends on how much time passes.
    pub(super) fn is_timing(&self, now_ms: u64) -> bool {
        self.rollouts.is_timing()
            || self.drain_due.is_some()
            || self.failures.due().is_some()
            || self.scheduler.as_ref().is_none_or(|scheduler| scheduler.is_timing(now_ms))
    }

    /// What the rollouts and the scheduler decide; `None` before the first list.
    pub(super) fn plan(&mut self, now_ms: u64) -> Option<(Writes, Plan)> {
        let scheduler = self.scheduler.as_mut()?;
        let rollouts = self.rollouts.step(scheduler, now_ms);
        let again = drain::step(scheduler, &mut self.drains, now_ms).then_some(now_ms);
        self.drain_due = again.or_else(|| self.drains.due(scheduler.cluster(), now_ms));
        reschedule::step(scheduler, &mut self.failures, now_ms);
        self.happened = false;
        Some((rollouts, scheduler.plan(now_ms)))
    }

    /// If nothing is to be done: what isn't as a plan from scratch would have it, and the invariants that don't hold,
    /// each as a sentence.
    pub(super) fn check_itself(&mut self, now_ms: u64) -> Vec<String> {
        let Some(scheduler) = &mut self.scheduler else { return Vec::new() };
        let mut found = scheduler.check_itself(now_ms, &self.unreadable_files);
        found.extend(self.rollouts.check_itself(scheduler, now_ms));
        scheduler.expire(now_ms);
        found
    }

    /// The revision up to which the state follows the store's history.
    pub(super) fn revision(&self) -> Revision {
        self.at.revision
    }

    /// The id of the store's cluster, if it has one.
    pub(super) fn cluster(&self) -> Option<u64> {
        Some(self.at.cluster).filter(|id| *id != 0)
    }

    /// Whether the store was restored from a backup or replaced since the last call: then it may never reach a revision
    /// that it had before.
    pub(super) fn take_rolled_back(&mut self) -> bool {
        std::mem::take(&mut self.rolled_back)
    }

    /// The lease that the leader's key is bound to.
    pub(super) fn leader(&self) -> Option<LeaseId> {
        self.leader
    }

    /// Whether everything should be listed again.
    pub(super) fn needs_list(&self) -> bool {
        self.needs_list
    }

    /// Apply an update from the mirror.
    pub(super) fn follow(&mut self, update: Update) {
        match update {
            Update::Reset { at, kvs } => {
                self.rolled_back |= self.at.is_lost_at(at);
                self.reset(at, kvs);
            }
            Update::Batch(batch) => {
                self.happened = true;
                for event in batch.events {
                    self.see_leader(&event);
                    match self.read(&event) {
                        Ok(change) => {
                            if let Some(Change::Unit(name, _)) = &change {
                                self.needs_list |= self.left_alone.contains(name);
                            }
                            if let Some((scheduler, change)) = self.scheduler.as_mut().zip(change) {
                                if let Change::Unit(name, Some(unit)) = &change {
                                    self.suspect.consider(Cost::of(scheduler.cluster(), name, &unit.hash));
                                }
                                self.sets.see(&change);
                                let about = reschedule::about(&change);
                                self.rollouts.apply(scheduler, change);
                                about.into_iter().for_each(|unit| self.failures.happened(scheduler.cluster(), unit));
                            }
                        }
                        Err(Some(
                            Key::Placement(_) | Key::Schedule(..) | Key::Roster(_) | Key::Gate(_) | Key::Rollout(_),
                        )) => self.needs_list = true,
                        // What was decoded of it before remains valid.
                        Err(_) => {}
                    }
                }
                self.at.revision = batch.revision;
            }
        }
        if let Some(scheduler) = &mut self.scheduler {
            scheduler.advance(self.at.revision);
        }
    }

    /// The writes that repair damaged records, if the leader still leads.
    pub(super) fn repairs(&mut self, fence: Fence) -> Vec<Packed<()>> {
        pack(std::mem::take(&mut self.repairs).into_iter().map(Group::from), Some(fence.guard()))
    }

    fn reset(&mut self, at: Moment, kvs: Vec<Kv>) {
        self.leader = None;
        self.presences = Presences::default();
        self.needs_list = false;
        self.repairs.clear();
        self.unreadable_files.clear();
        let mut cluster = Cluster { revision: at.revision, ..Cluster::default() };
        let mut damaged = Vec::new();
        for kv in kvs {
            let revision = kv.revision;
            let event = Event::Put(kv);
            self.see_leader(&event);
            match self.read(&event) {
                Ok(change) => change.into_iter().for_each(|change| cluster.apply(change)),
                Err(key) => damaged.extend(key.map(|key| (key, revision))),
            }
        }
        let rollouts =
            damaged.iter().filter_map(|(key, _)| if let Key::Rollout(name) = key { Some(name) } else { None });
        let rollouts: BTreeSet<UnitName> = rollouts.cloned().collect();
        let unreadable = self.mend(&mut cluster, damaged);
        self.at = at;
        self.suspect.consider_all(&cluster);
        self.rollouts = Rollouts::of(&mut cluster, unreadable, rollouts);
        let mut scheduler = Scheduler::leaving_out(cluster, self.left_out.clone());
        self.rollouts.hold_files(&mut scheduler);
        self.sets.listed(scheduler.cluster());
        self.failures.listed(scheduler.cluster());
        self.happened = true;
        self.scheduler = Some(scheduler.with_brake(self.brake.unwrap_or_else(Brake::off)));
    }

    /// No unit is stopped or moved because a record about it can't be decoded; its other records remain valid. Returns
    /// the units whose own records can't be decoded.
    fn mend(&mut self, cluster: &mut Cluster, mut damaged: Vec<(Key, Revision)>) -> BTreeSet<UnitName> {
        // Assignments first: units and placements are inferred from them.
        damaged.sort_by_key(|(key, _)| !matches!(key, Key::Schedule(..)));
        let unit = |(key, _): &(Key, Revision)| if let Key::Unit(name) = key { Some(name.clone()) } else { None };
        let unreadable: BTreeSet<UnitName> = damaged.iter().filter_map(unit).collect();
        for (key, revision) in damaged {
            let repair = || Step::new(()).guard(key.clone(), Some(revision));
            match &key {
                Key::Schedule(host, name) => match cluster.units.get(name) {
                    // Different from anything that the unit requests, so that the record is rewritten in place.
                    Some(unit) => {
                        let (hash, generation) = (unit.hash.clone(), Revision::default());
                        let value = Assignment::new(hash, Target::Launched, generation);
                        let assignment = Some(Versioned { value, revision });
                        cluster.apply(Change::Assignment(host.clone(), name.clone(), assignment));
                    }
                    // Nothing is known about the unit: its host leaves it as it is, and so does the engine.
                    None if unreadable.contains(name) => {}
                    None => self.repairs.push(repair().delete(key.clone())),
                },
                Key::Unit(name) => cluster.preserve(name),
                Key::Placement(name) => match cluster.first_assigned(name).map(|(host, _)| host.clone()) {
                    Some(host) => {
                        let value = Placement::On { host, since: 0, from: None, tried: None, moved: None };
                        self.repairs.push(repair().put(key.clone(), &value));
                        cluster.apply(Change::Placement(name.clone(), Some(Versioned { value, revision })));
                    }
                    None if unreadable.contains(name) => {}
                    None => self.repairs.push(repair().delete(key.clone())),
                },
                // It is written again if the host is there; of a host that is gone, nothing is known any more.
                Key::Roster(_) => self.repairs.push(repair().delete(key.clone())),
                // Until a person asks again, no unit is placed there.
                Key::Host(id) => {
                    let why = "what was asked of it can't be read".into();
                    let cordon = Some(Cordon { why, ..Cordon::default() });
                    let value = Maintenance { cordon, ..Maintenance::default() };
                    cluster.apply(Change::Maintenance(id.clone(), Some(Versioned { value, revision })));
                }
                // A gate is closed again, because its unit runs another file than it should; a rollout is paused.
                Key::Gate(_) | Key::Rollout(_) => self.repairs.push(repair().delete(key.clone())),
                _ => {}
            }
        }
        // A placement without a placed unit would simply be deleted.
        let is_known = |name: &&UnitName| cluster.units.contains_key(*name);
        self.left_alone = unreadable.iter().filter(|name| !is_known(name)).cloned().collect();
        self.left_alone.iter().for_each(|name| cluster.apply(Change::Placement(name.clone(), None)));
        unreadable
    }

    /// The change that an event means for the cluster, if any. An undecodable record is logged, and returned as its key
    /// if that can be parsed.
    fn read(&mut self, event: &Event) -> Result<Option<Change>, Option<Key>> {
        match self.presences.change(event) {
            // Authors don't affect decisions, and the leader holds every unit of its cluster in memory.
            Ok(Some(Change::Unit(name, Some(unit)))) => {
                Ok(Some(Change::Unit(name, Some(Unit { by: None, submitter: None, ..unit }))))
            }
            Ok(change) => {
                if let Some(Change::File(hash, _)) = &change {
                    self.unreadable_files.remove(hash);
                }
                Ok(change)
            }
            Err(corrupt) => {
                self.damage.warn(&corrupt);
                let key = Key::parse(&corrupt.key).ok();
                if let Some(Key::File(hash)) = &key {
                    self.unreadable_files.insert(hash.clone());
                }
                Err(key)
            }
        }
    }

    fn see_leader(&mut self, event: &Event) {
        let leader = Key::Leader.to_string();
        match event {
            Event::Put(kv) if kv.key == leader => self.leader = kv.lease,
            Event::Delete(key) if *key == leader => self.leader = None,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::schedule::Decision;
    use crate::store::Op;

    const HOST: &str = "machine/00000000000000000000000000000001";
    const ENTRY: &str = "schedule/00000000000000000000000000000001/a.service";
    const TOLD: &str = r#"{"hash":"hash","target":"launched","generation":3}"#;
    const UNIT: &str = r#"{"desired":"launched","hash":"hash","generation":3,"submitted":0}"#;
    const PLACED: &str = r#"{"on":{"host":"00000000000000000000000000000001","since":0}}"#;
    /// The hash of the file.
    const HASH: &str = "dc244fef41a3382ca41f5c4ebc8b33614902a7ea";

    fn at(cluster: u64, revision: u64) -> Moment {
        Moment { cluster, revision: Revision(revision) }
    }

    /// One host that runs a.service, with some records replaced.
    fn state(damage: &[&str]) -> LeaderState {
        let machine = r#"{"id":"00000000000000000000000000000001","ip":"","hostname":"n1","version":"","boot_id":""}"#;
        let file = r#"{"text":"[Service]\nExecStart=/bin/a\n"}"#;
        let file_key = format!("file/{HASH}");
        let records = [
            (&*file_key, file),
            (HOST, machine),
            ("placement/a.service", PLACED),
            (ENTRY, TOLD),
            ("unit/a.service", UNIT),
            // Keys of a later version, or of unknown origin: left alone and ignored.
            ("schedule/00000000000000000000000000000001/a.service/x", "?"),
            ("unit/a.service/x", "?"),
            ("zone/1", "?"),
        ];
        let kv = |(at, (key, value)): (usize, (&str, &str))| Kv {
            key: key.into(),
            value: if damage.contains(&key) {
                b"{".to_vec()
            } else {
                value.replace("hash\",", &format!("{HASH}\",")).into_bytes()
            },
            revision: Revision(at as u64 + 1),
            lease: None,
        };
        let kvs = records.into_iter().enumerate().map(kv).collect();
        let mut state = LeaderState::default();
        state.follow(Update::Reset { at: at(1, 9), kvs });
        state
    }

    fn decisions(state: &mut LeaderState) -> Vec<Decision> {
        state.scheduler().unwrap().plan(0).decisions
    }

    #[test]
    fn sound_records_need_nothing() {
        let mut sound = state(&[]);
        assert_eq!((decisions(&mut sound), sound.repairs(Fence(Revision(1)))), (vec![], vec![]));
    }

    #[test]
    fn a_damaged_assignment_is_written_again_in_place() {
        let mut damaged = state(&[ENTRY]);
        let decisions = decisions(&mut damaged);
        let [decision] = &decisions[..] else { panic!("{decisions:?}") };
        let assignment = decision.assignments[0].1.after.as_ref().unwrap();
        assert_eq!(
            (assignment.target, assignment.generation, &assignment.hash),
            (Target::Launched, Revision(3), &UnitHash::new(HASH))
        );
        assert_eq!((decision.assignments[0].1.before, &decision.placement), (Some(Revision(4)), &None));
    }

    #[test]
    fn a_damaged_unit_or_placement_moves_nothing() {
        let mut damaged = state(&["unit/a.service", "placement/a.service"]);
        assert_eq!(decisions(&mut damaged), vec![]);
        let repairs = damaged.repairs(Fence(Revision(1)));
        assert!(matches!(&repairs[0].txn.ops[0], Op::Put { key, .. } if key == "placement/a.service"), "{repairs:?}");
    }

    #[test]
    fn when_all_is_damaged_all_is_left_alone() {
        for records in [&["unit/a.service", "placement/a.service", ENTRY][..], &["unit/a.service", ENTRY]] {
            let mut damaged = state(records);
            let left = (decisions(&mut damaged), damaged.repairs(Fence(Revision(1))));
            assert_eq!(left, (vec![], vec![]), "{records:?}");
        }
    }

    /// Its host keeps it: the unit must not be treated as unassigned.
    #[test]
    fn what_was_left_alone_is_listed_again_when_its_record_changes() {
        let change = |value: Option<&str>| {
            let mut state = state(&["unit/a.service", "placement/a.service", ENTRY]);
            let key = "unit/a.service".to_owned();
            let event = match value {
                Some(value) => Event::Put(Kv { key, value: value.into(), revision: Revision(10), lease: None }),
                None => Event::Delete(key),
            };
            state.follow(Update::Batch(crate::store::Batch { revision: Revision(10), events: vec![event] }));
            state.needs_list()
        };
        assert!(change(Some(UNIT)) && change(None));
        // Mended, as the list finds it then: in place.
        let mut mended = state(&["placement/a.service", ENTRY]);
        let placed = mended.scheduler().unwrap().cluster().placements.values().next().unwrap().value.clone();
        assert!(matches!(placed, Placement::On { .. }), "{placed:?}");
        assert_eq!(decisions(&mut mended).len(), 1, "the assignment");
    }

    /// It would be placed by the constraints of another file, and its host refuses that text.
    #[test]
    fn the_text_of_another_file_does_not_count() {
        let mut state = state(&[]);
        let value = br#"{"text":"[X-Fleet]\nMachineMetadata=zone=b\n[Service]\nExecStart=/bin/a\n"}"#.to_vec();
        let kv = Kv { key: format!("file/{HASH}"), value, revision: Revision(10), lease: None };
        let events = vec![Event::Put(kv)];
        state.follow(Update::Batch(crate::store::Batch { revision: Revision(10), events }));
        assert_eq!((decisions(&mut state), state.needs_list()), (vec![], false));
    }

    /// A person is warned of it, and asked to repair it. It is no mistake of the leader.
    #[test]
    fn a_damaged_file_breaks_no_rule_until_it_is_gone() {
        let key = format!("file/{HASH}");
        let mut state = state(&[&key]);
        assert_eq!((decisions(&mut state), state.check_itself(0)), (vec![], vec![]));
        let events = vec![Event::Delete(key)];
        state.follow(Update::Batch(crate::store::Batch { revision: Revision(10), events }));
        drop(decisions(&mut state));
        assert_eq!(state.check_itself(0).len(), 1, "{:?}", state.check_itself(0));
        // One that comes later, and damaged, breaks none either.
        let kv = Kv { key: format!("file/{HASH}"), value: b"{".to_vec(), revision: Revision(11), lease: None };
        let events = vec![Event::Put(kv)];
        state.follow(Update::Batch(crate::store::Batch { revision: Revision(11), events }));
        drop(decisions(&mut state));
        assert_eq!(state.check_itself(0), Vec::<String>::new());
    }

    #[test]
    fn a_list_shows_whether_the_store_was_restored() {
        let mut state = state(&[]);
        assert!(!state.take_rolled_back());
        for (cluster, revision, expected) in [(1, 9, false), (1, 8, true), (1, 8, false), (2, 10, true), (2, 11, false)]
        {
            state.follow(Update::Reset { at: at(cluster, revision), kvs: Vec::new() });
            assert_eq!(state.take_rolled_back(), expected, "{cluster} at {revision}");
        }
    }

    #[test]
    fn damage_between_lists_asks_for_a_list() {
        let mut state = state(&[]);
        let kv = Kv { key: ENTRY.into(), value: b"{".to_vec(), revision: Revision(10), lease: None };
        let batch = crate::store::Batch { revision: Revision(10), events: vec![Event::Put(kv)] };
        state.follow(Update::Batch(batch));
        assert!(state.needs_list());
    }
}
