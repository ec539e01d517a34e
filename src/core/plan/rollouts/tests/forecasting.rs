//! What `plan::forecast` says before is what happens then, with hosts that answer when they like.

use super::hosts::{UNIT, agent, agent_with};
use super::*;
use crate::model::rollout::MemberName;
use crate::plan::forecast::{Forecast, Present, forecast};
use crate::plan::schedule::Brake;

impl Bench {
    /// What the change of the store since `before` would lead to.
    fn forecast_since(&self, before: Cluster) -> Forecast {
        let file = |(hash, file): (&UnitHash, &Versioned<_>)| Change::File(hash.clone(), Some(file.clone()));
        let files = self.store.files.iter().filter(|(hash, _)| !before.files.contains_key(*hash)).map(file);
        let is_new = |(name, unit): &(&UnitName, &Unit)| before.units.get(*name) != Some(*unit);
        let units = self.store.units.iter().filter(is_new);
        let changes = files.chain(units.map(|(name, unit)| Change::Unit(name.clone(), Some(unit.clone()))));
        let (unreadable, brake, now, changes) = (BTreeSet::new(), Brake::off(), self.now, changes.collect());
        forecast(Present { cluster: before, unreadable, brake, now }, changes)
    }

    /// The members that were let through according to the log, with their hosts if they are a global unit's.
    fn let_through(&self) -> Vec<String> {
        let through = self.log.iter().filter_map(|line| line.split_once(" lets ")?.1.strip_suffix(" through"));
        let members = |line: &str| match line.split_once(" on ") {
            Some((unit, hosts)) => hosts.split(", ").map(|host| format!("{unit} on {host}")).collect(),
            None => vec![line.to_owned()],
        };
        through.flat_map(members).collect()
    }
}

fn shown(members: &[MemberName]) -> Vec<String> {
    members.iter().map(ToString::to_string).collect()
}

const POLICIES: [&str; 7] = [
    "",
    "Parallel=2",
    "Parallel=100%",
    "Canary=1",
    "Canary=2\nPromote=auto\nParallel=2",
    "Before=hook.service\nAfter=hook.service",
    "Before=hook.service\nCanary=1",
];

#[test]
fn a_rollout_goes_on_as_it_was_forecast() {
    let spares = ["Spare=1", "Spare=2\nCanary=1", "Spare=100%\nParallel=2\nBefore=hook.service"];
    for (policy, under_way) in POLICIES.into_iter().chain(spares).flat_map(|policy| [(policy, false), (policy, true)]) {
        let mut bench = Bench::new(3);
        bench.ask("hook.service", &file("hook", "Type=oneshot"), |unit| unit.desired = Desired::Inactive);
        bench.ask_set(&web("old"));
        bench.settle();
        if under_way {
            bench.ask_set(&web("before"));
            bench.pass(2);
            assert_eq!(bench.rollout().phase, Phase::Rolling);
        }
        bench.log.clear();
        bench.starts.clear();
        let before = bench.store.clone();
        bench.ask_set(&file("new", &format!("[X-Rollout]\nHealthySec=1\n{policy}")));
        let forecast = bench.forecast_since(before);
        bench.settle();
        let case = format!("{policy} {under_way} {:#?}", bench.log);
        let course = &forecast.rollouts[&name(SET)];
        let gated: Vec<String> = bench.store.gates.keys().map(ToString::to_string).collect();
        assert_eq!((shown(&course.steps.concat()), shown(&course.held)), (bench.let_through(), gated), "{case}");
        assert_eq!((course.phase, &course.why), (bench.rollout().phase, &bench.rollout().why), "{case}");
        let hooks: Vec<&UnitName> = course.before.iter().chain(&course.after).collect();
        assert_eq!(hooks, bench.starts.iter().collect::<Vec<_>>(), "{case}");
        let is_member = |unit: &&UnitName| unit.number().is_some_and(|number| number <= 3);
        let restarted: BTreeSet<String> = forecast.units.keys().filter(is_member).map(ToString::to_string).collect();
        let through: BTreeSet<String> = bench.let_through().into_iter().collect();
        // What would happen without the change as well isn't told.
        assert!(if under_way { restarted.is_subset(&through) } else { restarted == through }, "{case} {restarted:?}");
    }
}

#[test]
fn a_rollout_over_hosts_goes_on_as_it_was_forecast() {
    for (policy, under_way) in POLICIES.into_iter().flat_map(|policy| [(policy, false), (policy, true)]) {
        let (old, mid, new) = (agent("old"), agent("mid"), agent_with("new", "", policy));
        let mut bench = Bench::of_agent(4, &old);
        bench.ask("hook.service", &file("hook", "Type=oneshot"), |unit| unit.desired = Desired::Inactive);
        bench.settle();
        if under_way {
            bench.ask(UNIT, &mid, |_| {});
            bench.pass(2);
        }
        bench.log.clear();
        let before = bench.store.clone();
        bench.ask(UNIT, &new, |_| {});
        let forecast = bench.forecast_since(before);
        bench.settle();
        let case = format!("{policy} {under_way} {:#?}", bench.log);
        let course = &forecast.rollouts[&name(UNIT)];
        assert_eq!(shown(&course.steps.concat()), bench.let_through(), "{case}");
        let files = bench.on_hosts(&[&old, &mid, &new]);
        assert_eq!(files.chars().filter(|file| *file != 'n').count(), course.held.len(), "{case}");
        assert_eq!((course.phase, &course.why), (bench.agent().phase, &bench.agent().why), "{case}");
        assert_eq!(forecast.units[&name(UNIT)].len(), bench.let_through().len(), "{case}");
        let hooks: Vec<&UnitName> = course.before.iter().chain(&course.after).collect();
        assert_eq!(hooks, bench.starts.iter().collect::<Vec<_>>(), "{case}");
    }
}
