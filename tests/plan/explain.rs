//! Properties of `plan::account`: what it says of a host is what the scheduler does, over the random clusters of the
//! other properties.

use flotilla::plan::account::{Account, Because, account};
use flotilla::plan::explain::Standing;

use super::*;

impl World {
    /// The whole explanation of a unit, which leaves the scheduler as it was.
    fn account(&mut self, name: &UnitName) -> Account {
        let before = self.scheduler.cluster().clone();
        let account = account(&mut self.scheduler, name);
        assert_eq!(*self.scheduler.cluster(), before);
        assert_eq!(self.scheduler.check_itself(0, &Default::default()), [""; 0], "its indexes are as they were");
        account
    }

    /// Every host that is said to fit is one to which the scheduler would go, and no other one is. Of a host that has
    /// the unit already, because that was global or is leaving, something else is told.
    fn hold_to_fits(&self, account: &Account) {
        let mut group = account.with.clone();
        group.push(account.unit.clone());
        assert_eq!(group, self.scheduler.arriving_with(&account.unit));
        let has_it = |host: &MachineId| self.store.schedule.get(host).is_some_and(|it| it.contains_key(&account.unit));
        for stand in account.hosts.iter().filter(|stand| !has_it(&stand.host)) {
            let fits = !account.apart && stand.obstacles.is_empty();
            let only = |host: &MachineId| *host == stand.host;
            let goes = self.scheduler.best(&group, None, &only).is_some() && !self.scheduler.exclude_each_other(&group);
            assert_eq!(fits, goes, "{} on {}: {:?}", account.unit, stand.host, stand.obstacles);
        }
    }
}

proptest! {
    #![proptest_config(config())]

    /// Of a unit that waits, exactly those hosts fit to which the scheduler would go; when all has settled, none.
    #[test]
    fn a_host_is_said_to_fit_exactly_when_the_scheduler_goes_there(ops in proptest::collection::vec(op(), 1..50)) {
        let mut world = World::new();
        ops.iter().for_each(|op| world.act(op));
        for settled in [false, true] {
            if settled {
                world.settle();
            }
            for name in world.store.units.keys().cloned().collect::<Vec<_>>() {
                let account = world.account(&name);
                if account.standing != Standing::Waiting {
                    continue;
                }
                prop_assert_eq!(account.hosts.len(), world.store.machines.len());
                world.hold_to_fits(&account);
                prop_assert!(!settled || !account.fits_somewhere(), "{} waits: {:?}", name, account.hosts);
            }
        }
    }

    /// Nothing else has changed: a new unit is placed on a host that was said to fit, and waits if none was.
    #[test]
    fn a_new_unit_goes_where_it_was_said_to_fit(
        ops in proptest::collection::vec(op(), 1..40),
        of in any_file(),
        new in prop_oneof![Just(3_usize), Just(8)],
    ) {
        let mut world = World::new();
        ops.iter().for_each(|op| world.act(op));
        world.act(&Op::Destroy(new));
        world.settle();
        world.act(&Op::Unit(new, of, Desired::Launched));
        let name = unit_name(new);
        let account = world.account(&name);
        if account.standing != Standing::Waiting {
            return Ok(());
        }
        // Others that are placed with it, or first because of their priority, may be in its way.
        world.plan_and_commit(usize::MAX);
        let fits: BTreeSet<MachineId> =
            account.hosts.iter().filter(|stand| stand.obstacles.is_empty()).map(|stand| stand.host.clone()).collect();
        match world.store.placed_on(&name) {
            Some(host) => prop_assert!(!account.apart && fits.contains(host), "it is on {}, of {:?}", host, fits),
            None => prop_assert!(account.apart || fits.is_empty(), "it waits, and fits {:?}", fits),
        }
    }

    /// Of a unit that runs: the next best host fits it, and those that were passed over don't.
    #[test]
    fn what_decided_is_so(ops in proptest::collection::vec(op(), 1..50)) {
        let mut world = World::new();
        ops.iter().for_each(|op| world.act(op));
        world.settle();
        for name in world.store.units.keys().cloned().collect::<Vec<_>>() {
            let Some(place) = world.account(&name).place else { continue };
            prop_assert_eq!(Some(&place.host), world.store.placed_on(&name));
            prop_assert!(place.passed.iter().all(|stand| !stand.obstacles.is_empty()), "{}: {:?}", name, place);
            let mut group = place.with.clone();
            group.push(name.clone());
            let fits = |world: &mut World, other: &MachineId| {
                let seen = |scheduler: &Scheduler| scheduler.fits_on(&group, other);
                world.scheduler.without(&group, &place.host, seen)
            };
            match &place.because {
                Because::With(_) => {}
                Because::Compared { runner_up, .. } => prop_assert!(fits(&mut world, runner_up), "{}", runner_up),
                Because::OnlyHost => {
                    let all: Vec<MachineId> = world.store.machines.keys().cloned().collect();
                    for other in all.into_iter().filter(|other| *other != place.host) {
                        prop_assert!(!fits(&mut world, &other), "{} fits {}", name, other);
                    }
                }
            }
        }
    }
}
