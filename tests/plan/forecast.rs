//! The forecast of a change is what happens after it: the change is made in a world that has settled, and what its
//! hosts then do is compared. The world has its own engine and its own hosts.

use std::collections::{BTreeMap, BTreeSet};

use flotilla::model::forecast::What;
use flotilla::plan::forecast::{Effect, Forecast, Present, forecast};

use super::*;

/// A change of a unit by a user.
#[derive(Debug, Clone)]
enum Asked {
    Unit(usize, usize, Desired),
    Restart(usize),
    Destroy(usize),
}

/// The template of the numbered units isn't among them: as a set, it would have rollouts, which this world doesn't.
const PLAIN: usize = UNITS.len() - 1;

fn asked() -> impl Strategy<Value = Asked> {
    prop_oneof![
        4 => (0..PLAIN, 0..FILES.len(), desired()).prop_map(|(unit, file, desired)| Asked::Unit(unit, file, desired)),
        1 => (0..PLAIN).prop_map(Asked::Restart),
        2 => (0..PLAIN).prop_map(Asked::Destroy),
    ]
}

/// Whether it concerns neither a set nor a gate. A gate without a rollout is opened by the forecast, and by nothing in
/// this world.
fn is_plain(op: &Op) -> bool {
    !matches!(op, Op::Unit(PLAIN, ..) | Op::Desire(PLAIN, _) | Op::Restart(PLAIN) | Op::Gate(..))
}

impl World {
    fn changes(&self, asked: &[Asked]) -> Vec<Change> {
        let next = self.store.revision.next();
        let mut records = self.store.units.clone();
        let mut files = Vec::new();
        for one in asked {
            match one {
                Asked::Unit(unit, at, desired) => {
                    let (hash, value) = file(*at);
                    let known = records.get(&unit_name(*unit));
                    if known.is_some_and(|known| known.hash == hash && known.desired == *desired) {
                        continue;
                    }
                    let restart = known.and_then(|known| known.restart);
                    let record = Unit { restart, ..Unit::new(*desired, hash.clone(), next) };
                    files.push(Change::File(hash, Some(Versioned { value, revision: next })));
                    records.insert(unit_name(*unit), record);
                }
                Asked::Restart(unit) => {
                    if let Some(record) = records.get_mut(&unit_name(*unit)) {
                        (record.desired, record.generation, record.restart) = (Desired::Launched, next, Some(next));
                    }
                }
                Asked::Destroy(unit) => drop(records.remove(&unit_name(*unit))),
            }
        }
        let names: BTreeSet<&UnitName> = self.store.units.keys().chain(records.keys()).collect();
        let changed = names.into_iter().filter(|name| self.store.units.get(*name) != records.get(*name));
        files.into_iter().chain(changed.map(|name| Change::Unit(name.clone(), records.get(name).cloned()))).collect()
    }

    /// Which hosts have a unit, and how.
    fn told(&self) -> BTreeMap<UnitName, BTreeMap<MachineId, Assignment>> {
        let mut all: BTreeMap<UnitName, BTreeMap<MachineId, Assignment>> = BTreeMap::new();
        for (host, slice) in &self.store.schedule {
            for (name, told) in slice {
                all.entry(name.clone()).or_default().insert(host.clone(), told.value.clone());
            }
        }
        all
    }

    /// Settle, and say which hosts were told to remove which units on the way.
    fn settle_and_watch(&mut self) -> BTreeSet<(UnitName, MachineId)> {
        const ROUNDS: usize = 60;
        let mut removed = BTreeSet::new();
        for _ in 0..ROUNDS {
            let revision = self.store.revision;
            self.plan_and_commit(usize::MAX);
            let planned = self.store.revision != revision;
            for (name, told) in self.told() {
                let gone = told.into_iter().filter(|(_, told)| told.target == Target::Removed);
                removed.extend(gone.map(|(host, _)| (name.clone(), host)));
            }
            self.hosts(|_| true);
            if !planned && !self.scheduler.is_dirty() {
                return removed;
            }
        }
        panic!("doesn't settle");
    }

    fn waits(&self) -> BTreeSet<UnitName> {
        let waits = |placement: &Placement| matches!(placement, Placement::Waiting { .. });
        self.store.placements.iter().filter(|(_, p)| waits(&p.value)).map(|(name, _)| name.clone()).collect()
    }
}

/// What happens on a host, or by a move from the other one.
type Happens = (What, Option<MachineId>, Option<MachineId>);

/// What must have happened on hosts that had `before`, and have `after`. On a host from which it was removed meanwhile,
/// everything began anew.
fn expected(
    before: &BTreeMap<MachineId, Assignment>,
    after: &BTreeMap<MachineId, Assignment>,
    is_global: bool,
    was_removed: impl Fn(&MachineId) -> bool,
    bodies: impl Fn(&UnitHash, &UnitHash) -> bool,
) -> Vec<Happens> {
    let left: Vec<&MachineId> = before.keys().filter(|host| !after.contains_key(*host)).collect();
    let came: Vec<&MachineId> = after.keys().filter(|host| !before.contains_key(*host)).collect();
    if let ([from], [to], false) = (&left[..], &came[..], is_global) {
        return vec![(What::Moves, Some((*from).clone()), Some((*to).clone()))];
    }
    let mut all = Vec::new();
    for host in before.keys().chain(came) {
        let launched = |told: &Assignment| told.target == Target::Launched;
        let what = match (before.get(host), after.get(host)) {
            (Some(before), None) if launched(before) => Some(What::Leaves),
            (Some(_), None) => Some(What::Unloaded),
            (None, Some(after)) if launched(after) => Some(What::Placed),
            (None, _) => Some(What::Loaded),
            (Some(before), Some(after)) => match (launched(before), launched(after)) {
                (true, true) if was_removed(host) => Some(What::Restarts),
                (true, true) if !bodies(&before.hash, &after.hash) => Some(What::Restarts),
                (true, true) if after.restart.is_some_and(|at| at > before.generation) => Some(What::Restarts),
                (false, true) => Some(What::Starts),
                (true, false) => Some(What::Stops),
                _ => (before.hash != after.hash || was_removed(host)).then_some(What::Rewritten),
            },
        };
        all.extend(what.map(|what| (what, None, Some(host.clone()))));
    }
    all
}

/// Whether a unit that was told so runs.
fn runs(told: Option<&Assignment>) -> bool {
    told.is_some_and(|told| told.target == Target::Launched)
}

/// What a forecast says in all of a unit that hosts had before, and have in the end: where it only was meanwhile is
/// left out.
fn said(
    forecast: &Forecast,
    name: &UnitName,
    had: &BTreeMap<MachineId, Assignment>,
    has: &BTreeMap<MachineId, Assignment>,
) -> Vec<Happens> {
    let effects = forecast.units.get(name).into_iter().flatten().filter(|effect| effect.what != What::Waits);
    let mut all: Vec<Happens> = Vec::new();
    for effect in effects {
        let Effect { what, host, from, .. } = effect;
        let leaves = matches!(what, What::Leaves | What::Unloaded);
        match all.last_mut() {
            Some((What::Moves | What::Placed | What::Loaded, _, to)) if *what == What::Moves && to == from => {
                to.clone_from(host);
            }
            Some((before @ What::Moves, first, to)) if leaves && to == host => {
                let ran = runs(first.as_ref().and_then(|first| had.get(first)));
                (*before, *to) = (if ran { What::Leaves } else { What::Unloaded }, first.take());
            }
            // What was done before it left.
            Some((What::Rewritten | What::Starts | What::Stops | What::Restarts, _, at))
                if at == from || (leaves && at == host) =>
            {
                all.pop();
                let ran = runs(host.as_ref().and_then(|host| had.get(host)));
                let what = if leaves && ran {
                    What::Leaves
                } else if leaves {
                    What::Unloaded
                } else {
                    *what
                };
                all.push((what, from.clone(), host.clone()));
            }
            _ => all.push((*what, from.clone(), host.clone())),
        }
    }
    for (what, from, host) in &mut all {
        // It went back to where it came from.
        if *what == What::Moves && from == host {
            let runs = runs(host.as_ref().and_then(|host| has.get(host)));
            (*what, *from) = (if runs { What::Restarts } else { What::Rewritten }, None);
        }
    }
    all.retain(|(_, _, host)| host.as_ref().is_some_and(|host| had.contains_key(host) || has.contains_key(host)));
    all.sort_by(|a, b| a.2.cmp(&b.2));
    all
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_forecast_of_a_change_is_what_happens(
        ops in proptest::collection::vec(op().prop_filter("a set or a gate", is_plain), 1..40),
        asked in proptest::collection::vec(asked(), 0..5),
    ) {
        let mut world = World::new();
        for op in &ops {
            world.act(op);
        }
        world.settle();
        world.hosts(|_| true);
        let changes = world.changes(&asked);
        let (before, waited) = (world.told(), world.waits());
        let mut files = world.store.files.clone();
        let present = Present {
            cluster: world.store.clone(), unreadable: BTreeSet::new(), brake: Brake::off(), now: 0,
        };
        let forecast = forecast(present, changes.clone());
        prop_assert!(forecast.is_complete && forecast.rollouts.is_empty());
        if changes.is_empty() {
            prop_assert_eq!(&forecast.units, &BTreeMap::new());
        }
        let named: BTreeSet<UnitName> = changes.iter().filter_map(|change| match change {
            Change::Unit(name, _) => Some(name.clone()),
            _ => None,
        }).collect();
        world.commit(changes);
        files.extend(world.store.files.clone());
        let removed = world.settle_and_watch();
        let (after, none) = (world.told(), BTreeMap::new());
        let body = |hash: &UnitHash| files.get(hash).map(|file| file.value.body);
        for name in before.keys().chain(after.keys()).chain(forecast.units.keys()) {
            let (had, has) = (before.get(name).unwrap_or(&none), after.get(name).unwrap_or(&none));
            let is_global = has.values().any(|told| told.global);
            let was_removed = |host: &MachineId| removed.contains(&(name.clone(), host.clone()));
            let mut expected = expected(had, has, is_global, was_removed, |one, other| body(one) == body(other));
            expected.sort_by(|a, b| a.2.cmp(&b.2));
            let said = said(&forecast, name, had, has);
            prop_assert_eq!(&said, &expected, "{}", name);
        }
        let waits = |name: &UnitName| {
            forecast.units.get(name).is_some_and(|effects| effects.iter().any(|effect| effect.what == What::Waits))
        };
        for name in world.waits() {
            prop_assert_eq!(waits(&name), named.contains(&name) || !waited.contains(&name), "{} waits", name);
        }
        prop_assert!(forecast.units.keys().filter(|name| waits(name)).all(|name| world.waits().contains(name)));
    }
}
