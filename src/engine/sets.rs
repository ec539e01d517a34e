//! How the members of each set stand, for the leader's metrics. Owns the counts, and which of them have changed; looks
//! only at members that something has happened to, and must never decide anything.

use std::collections::{BTreeMap, BTreeSet};

use crate::metrics::SetCounts;
use crate::model::cluster::{Change, Cluster};
use crate::model::name::UnitName;
use crate::model::unit::{Desired, UnitReport};
use crate::plan::gate::{instances, is_spare};

/// For how many sets there are series, the first ones by name: with four series each, a cluster with more sets doesn't
/// fill a Prometheus.
const SHOWN: usize = 256;

/// How a member stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It isn't to run.
    Off,
    /// It serves.
    Ready,
    /// It runs once, and has.
    Done,
    /// It is on no host.
    Waiting,
    /// It is on a host, and doesn't serve.
    Unready,
}

impl Standing {
    /// `None` if there is no such member.
    fn of(cluster: &Cluster, member: &UnitName) -> Option<Self> {
        let unit = cluster.units.get(member).filter(|_| !is_spare(cluster, member))?;
        Some(match unit.desired {
            Desired::Inactive | Desired::Loaded => Self::Off,
            Desired::Launched if cluster.done(member).is_some() => Self::Done,
            Desired::Launched => match cluster.placed_on(member) {
                None => Self::Waiting,
                Some(host) if cluster.report(member, host).is_some_and(UnitReport::is_ready) => Self::Ready,
                Some(_) => Self::Unready,
            },
        })
    }
}

/// The members of one set.
#[derive(Debug, Default)]
struct Tally {
    replicas: usize,
    /// By their numbers.
    members: BTreeMap<u32, Standing>,
    /// How many of them stand in which way.
    counts: [usize; Standing::Unready as usize + 1],
}

impl Tally {
    fn set(&mut self, number: u32, standing: Option<Standing>) {
        let before = match standing {
            Some(standing) => self.members.insert(number, standing),
            None => self.members.remove(&number),
        };
        before.into_iter().for_each(|before| self.counts[before as usize] -= 1);
        standing.into_iter().for_each(|standing| self.counts[standing as usize] += 1);
    }

    fn count(&self) -> SetCounts {
        let count = |standing: Standing| self.counts[standing as usize];
        SetCounts {
            // Members that aren't there yet are wanted as well, and none of a set that was stopped.
            wanted: self.replicas.saturating_sub(count(Standing::Off)),
            ready: count(Standing::Ready),
            waiting: count(Standing::Waiting),
            done: count(Standing::Done),
        }
    }
}

/// All sets of a cluster.
#[derive(Debug, Default)]
pub(super) struct Sets {
    sets: BTreeMap<UnitName, Tally>,
    /// Templates and members that something has happened to.
    dirty: BTreeSet<UnitName>,
    /// Sets whose counts may be others than those that were taken.
    changed: BTreeSet<UnitName>,
    /// The sets that are shown since counts were taken last.
    shown: BTreeSet<UnitName>,
}

/// What has changed since counts were taken last.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Taken {
    /// How many sets there are.
    pub(super) all: usize,
    /// The counts; `None` of a set that is no longer shown.
    pub(super) counts: Vec<(UnitName, Option<SetCounts>)>,
}

impl Sets {
    /// Begin again, with a cluster as it was listed.
    pub(super) fn listed(&mut self, cluster: &Cluster) {
        let sets = cluster.units.iter().filter(|(_, unit)| unit.replicas.is_some()).map(|(name, _)| name);
        self.dirty = sets.chain(self.sets.keys()).cloned().collect();
        self.sets.clear();
    }

    /// Note which set a change is about.
    pub(super) fn see(&mut self, change: &Change) {
        let (Change::Unit(name, _) | Change::Gate(name, _) | Change::Placement(name, _) | Change::Report(name, ..)) =
            change
        else {
            return;
        };
        let is_member =
            || !self.sets.is_empty() && name.set().is_some_and(|template| self.sets.contains_key(&template));
        if name.is_template() || is_member() {
            self.dirty.insert(name.clone());
        }
    }

    /// Count again what was noted, in the cluster as it is now.
    pub(super) fn take(&mut self, cluster: &Cluster) -> Taken {
        // A template sorts before its members: `@.` before `@1`.
        for name in std::mem::take(&mut self.dirty) {
            match name.number().zip(name.set()) {
                None => self.look_at_template(cluster, &name),
                Some((number, template)) => {
                    if let Some(tally) = self.sets.get_mut(&template) {
                        tally.set(number, Standing::of(cluster, &name));
                        self.changed.insert(template);
                    }
                }
            }
        }
        let mut changed = std::mem::take(&mut self.changed);
        if changed.iter().any(|name| self.sets.contains_key(name) != self.shown.contains(name)) {
            let shown: BTreeSet<UnitName> = self.sets.keys().take(SHOWN).cloned().collect();
            changed.extend(shown.symmetric_difference(&self.shown).cloned());
            changed.retain(|name| shown.contains(name) || self.shown.contains(name));
            self.shown = shown;
        }
        let count = |name: UnitName| {
            let tally = self.sets.get(&name).filter(|_| self.shown.contains(&name));
            (name, tally.map(Tally::count))
        };
        Taken { all: self.sets.len(), counts: changed.into_iter().map(count).collect() }
    }

    fn look_at_template(&mut self, cluster: &Cluster, name: &UnitName) {
        match cluster.units.get(name).and_then(|unit| unit.replicas) {
            Some(replicas) => {
                let tally = self.sets.entry(name.clone()).or_insert_with(|| {
                    let mut tally = Tally::default();
                    let numbered = instances(cluster, name).filter_map(|member| Some((member.number()?, member)));
                    numbered.for_each(|(number, member)| tally.set(number, Standing::of(cluster, member)));
                    tally
                });
                tally.replicas = replicas as usize;
                self.changed.insert(name.clone());
            }
            None => {
                if self.sets.remove(name).is_some() || self.shown.contains(name) {
                    self.changed.insert(name.clone());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::cluster::Versioned;
    use crate::model::format::ReportKeyForm;
    use crate::model::machine::Machine;
    use crate::model::name::{MachineId, UnitHash};
    use crate::model::revision::Revision;
    use crate::model::unit::{Done, Placement, Target, Unit};

    fn name(name: &str) -> UnitName {
        name.parse().unwrap()
    }

    fn host() -> MachineId {
        "3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a".parse().unwrap()
    }

    fn read<T>(value: T) -> Option<Versioned<T>> {
        Some(Versioned { value, revision: Revision(1) })
    }

    fn template(replicas: Option<u32>) -> Change {
        let unit = Unit { replicas, ..Unit::new(Desired::Inactive, UnitHash::new("a"), Revision(1)) };
        Change::Unit(name("web@.service"), Some(unit))
    }

    fn member(number: u32, desired: Option<Desired>) -> Change {
        let unit = desired.map(|desired| Unit::new(desired, UnitHash::new("a"), Revision(1)));
        Change::Unit(name(&format!("web@{number}.service")), unit)
    }

    fn placed(number: u32, placement: Option<Placement>) -> Change {
        Change::Placement(name(&format!("web@{number}.service")), placement.and_then(read))
    }

    fn on() -> Option<Placement> {
        Some(Placement::On { host: host(), since: 0, from: None, tried: None, moved: None })
    }

    fn done() -> Option<Placement> {
        Some(Placement::Done { done: Done { host: host(), generation: Revision(1) }, since: 0 })
    }

    fn reported(number: u32, active: &str, ready: Option<bool>) -> Change {
        let report = serde_json::json!({
            "generation": 1, "target": Target::Launched, "hash": "a", "load": "loaded", "active": active, "sub": "",
            "since": 0, "ready": ready,
        });
        let report = read(serde_json::from_value(report).unwrap());
        Change::Report(name(&format!("web@{number}.service")), host(), ReportKeyForm::HostFirst, report)
    }

    /// A cluster and its counts.
    #[derive(Default)]
    struct World(Cluster, Sets);

    impl World {
        fn new() -> Self {
            let mut world = Self::default();
            world.0.machines.insert(host(), Machine::new(host(), "n1"));
            world
        }

        fn see(&mut self, changes: impl IntoIterator<Item = Change>) -> &mut Self {
            for change in changes {
                self.1.see(&change);
                self.0.apply(change);
            }
            self
        }

        /// Wanted, ready, waiting and done of the set, if they were taken.
        fn taken(&mut self) -> Option<Option<[usize; 4]>> {
            let Taken { counts, .. } = self.1.take(&self.0);
            assert!(counts.len() < 2, "{counts:?}");
            let (set, counts) = counts.into_iter().next()?;
            assert_eq!(set, name("web@.service"));
            Some(counts.map(|SetCounts { wanted, ready, waiting, done }| [wanted, ready, waiting, done]))
        }
    }

    #[test]
    fn members_are_counted_as_they_stand() {
        let mut world = World::new();
        let launched = Some(Desired::Launched);
        world.see([template(Some(3)), member(1, launched), member(2, launched), member(3, launched)]);
        assert_eq!(world.taken(), Some(Some([3, 0, 3, 0])));
        assert_eq!(world.taken(), None, "nothing has happened");
        world.see([placed(1, on()), placed(2, on()), placed(3, done())]);
        assert_eq!(world.taken(), Some(Some([3, 0, 0, 1])));
        world.see([reported(1, "active", None), reported(2, "active", Some(false))]);
        assert_eq!(world.taken(), Some(Some([3, 1, 0, 1])));
        world.see([reported(2, "active", Some(true)), reported(1, "failed", None)]);
        assert_eq!(world.taken(), Some(Some([3, 1, 0, 1])));
        // Some members have yet to be created, and those that are to go count no longer.
        assert_eq!(world.see([template(Some(5))]).taken(), Some(Some([5, 1, 0, 1])));
        assert_eq!(world.see([member(3, None), template(Some(2))]).taken(), Some(Some([2, 1, 0, 0])));
        // Of a set that was stopped nothing is wanted.
        world.see([member(1, Some(Desired::Inactive)), member(2, Some(Desired::Loaded))]);
        assert_eq!(world.taken(), Some(Some([0, 0, 0, 0])));
        // Others are no members.
        world.see([Change::Placement(name("db.service"), on().and_then(read))]);
        assert_eq!(world.taken(), None);
        assert_eq!(world.see([template(None)]).taken(), Some(None));
        world.see([placed(1, None), member(2, launched)]);
        assert_eq!(world.taken(), None, "it is no set any more");
        assert_eq!(world.see([template(Some(2))]).taken(), Some(Some([1, 1, 0, 0])), "its members are found again");
    }

    #[test]
    fn a_list_begins_again() {
        let mut world = World::new();
        world.see([template(Some(1)), member(1, Some(Desired::Launched)), placed(1, on())]);
        world.taken();
        let World(cluster, sets) = &mut world;
        cluster.apply(placed(1, None));
        sets.listed(cluster);
        assert_eq!(world.taken(), Some(Some([1, 0, 1, 0])));
        let World(cluster, sets) = &mut world;
        cluster.apply(template(None));
        sets.listed(cluster);
        assert_eq!(world.taken(), Some(None));
    }

    #[test]
    fn the_first_sets_are_shown_and_others_follow_when_these_go() {
        let mut world = World::new();
        let set = |number: usize, replicas: Option<u32>| {
            let unit = Unit { replicas, ..Unit::new(Desired::Inactive, UnitHash::new("a"), Revision(1)) };
            Change::Unit(name(&format!("s{number:04}@.service")), Some(unit))
        };
        world.see((0..=SHOWN).map(|number| set(number, Some(1))));
        let Taken { all, counts } = world.1.take(&world.0);
        assert_eq!((all, counts.len()), (SHOWN + 1, SHOWN));
        assert!(counts.iter().all(|(_, counts)| counts.is_some()));
        // One that isn't shown changes.
        world.see([set(SHOWN, Some(2))]);
        assert!(world.1.take(&world.0).counts.iter().all(|(_, counts)| counts.is_none()));
        world.see([set(0, None)]);
        let Taken { all, counts } = world.1.take(&world.0);
        let last = SetCounts { wanted: 2, ready: 0, waiting: 0, done: 0 };
        let expected = vec![(name("s0000@.service"), None), (name(&format!("s{SHOWN:04}@.service")), Some(last))];
        assert_eq!((all, counts), (SHOWN, expected));
    }

    /// Whatever happens in whichever order, the counts are those of a cluster that was just listed.
    #[test]
    fn counts_that_follow_changes_are_those_of_a_list() {
        let mut world = World::new();
        world.see([template(Some(4))]);
        let mut random = 1_u64;
        let mut last = None;
        for step in 0..4_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (number, what) = (u32::try_from(random >> 33).unwrap() % 6 + 1, random >> 40 & 15);
            let change = match what {
                0 => template(Some(number)),
                1 => member(number, None),
                2 => member(number, Some(Desired::Inactive)),
                3..=5 => member(number, Some(Desired::Launched)),
                6..=8 => placed(number, on()),
                9 => placed(number, None),
                10 => placed(number, done()),
                11 => reported(number, "failed", None),
                _ => reported(number, "active", None),
            };
            world.see([change]);
            last = world.taken().unwrap_or(last);
            if step % 7 == 0 {
                let mut listed = Sets::default();
                listed.listed(&world.0);
                let counts = listed.take(&world.0).counts.remove(0).1.unwrap();
                assert_eq!(last, Some([counts.wanted, counts.ready, counts.waiting, counts.done]), "step {step}");
            }
        }
    }
}
