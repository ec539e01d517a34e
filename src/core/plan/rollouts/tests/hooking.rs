//! Units that rollouts run once, before their members or after them.

use super::*;

fn once(program: &str) -> UnitFile {
    file(program, "Type=oneshot")
}

/// The file of a set with these hooks.
fn hooked(program: &str, hooks: &str) -> UnitFile {
    file(program, &format!("[X-Rollout]\nHealthySec=1\n{hooks}"))
}

const MIGRATE: &str = "migrate.service";

impl Bench {
    /// A set of three that runs, and a unit that is submitted.
    fn with_hook(restless: bool) -> Self {
        let mut bench = Self { restless, ..Self::new(3) };
        bench.ask(MIGRATE, &once("migrate"), |unit| unit.desired = Desired::Inactive);
        bench.ask_set(&web("old"));
        bench.settle();
        assert_eq!((bench.starts.len(), bench.store.gates.len()), (0, 0));
        bench
    }

    fn started(&self) -> Vec<&str> {
        self.starts.iter().map(UnitName::as_str).collect()
    }

    fn is_anywhere(&self, unit: &str) -> bool {
        self.store.schedule.values().any(|host| host.contains_key(&name(unit)))
    }
}

#[test]
fn each_hook_runs_once_for_each_rollout() {
    for restless in [false, true] {
        let mut bench = Bench::with_hook(restless);
        bench.ask("smoke.service", &once("smoke"), |unit| unit.desired = Desired::Inactive);
        bench.busy = vec![once("migrate").hash(), once("smoke").hash()];
        let new = hooked("new", "Before=migrate.service\nAfter=smoke.service");
        bench.ask_set(&new);
        bench.pass(10);
        assert_eq!((bench.runs(), bench.rollout().phase), (three(&web("old")), Phase::Before));
        assert_eq!(bench.rollout().running().unwrap().unit, name(MIGRATE));
        bench.busy.remove(0);
        bench.pass(20);
        assert_eq!((bench.runs(), bench.rollout().phase), (three(&new), Phase::After));
        bench.busy.clear();
        bench.settle();
        assert_eq!((bench.started(), bench.rollout().phase), (vec![MIGRATE, "smoke.service"], Phase::Done));
        let runs = &bench.rollout().hooks;
        let ended: Vec<bool> = runs.iter().map(|run| run.took.is_some() && run.host == Some(id(1))).collect();
        assert_eq!((ended, runs[1].after), (vec![true, true], true), "{runs:?}");
        assert!(bench.gated().is_empty() && !bench.is_anywhere(MIGRATE) && bench.store.placements.len() == 3);
        // The next one runs it again. A file of its own alone runs nothing, nor does another section.
        bench.ask(MIGRATE, &once("migrate2"), |_| {});
        bench.ask_set(&hooked("new", "Before=migrate.service"));
        bench.settle();
        assert_eq!(bench.starts.len(), 2);
        bench.ask_set(&hooked("newer", "Before=migrate.service"));
        bench.settle();
        assert_eq!(bench.started()[2..], [MIGRATE]);
        // A person who goes back to a file can ask for none.
        bench.ask_set(&hooked("newest", "Before=migrate.service"));
        bench.ask(SET, &hooked("newest", "Before=migrate.service"), |set| set.without_hooks = true);
        bench.settle();
        assert_eq!((bench.starts.len(), bench.rollout().phase), (3, Phase::Done));
    }
}

#[test]
fn a_hook_that_fails_stops_the_rollout_before_it_has_begun() {
    for restless in [false, true] {
        let mut bench = Bench::with_hook(restless);
        bench.bad = vec![once("migrate").hash()];
        bench.ask_set(&hooked("new", "Before=migrate.service"));
        bench.settle();
        assert_eq!((bench.runs(), bench.rollout().phase), (three(&web("old")), Phase::Reverted));
        let why = bench.rollout().why.clone().unwrap();
        assert!(why.starts_with("migrate.service failed on n1"), "{why}");
        assert_eq!(bench.rollout().failed, Some(name(MIGRATE)));
        assert_eq!(bench.rollout().lines, ["web[7]: no such table"]);
        assert!(!bench.log.iter().any(|line| line.contains("through")), "{:#?}", bench.log);
        assert!(!bench.is_anywhere(MIGRATE), "it is removed");
        // Its file is mended, and somebody asks for another attempt.
        bench.ask(MIGRATE, &once("mended"), |_| {});
        let new = hooked("new", "Before=migrate.service");
        let generation = bench.store.revision.next();
        let ask = crate::model::rollout::Ask { what: crate::model::rollout::Request::Retry, generation, by: None };
        bench.ask(SET, &new, |set| set.ask = Some(Box::new(ask)));
        bench.settle();
        assert_eq!((bench.runs(), bench.started()), (three(&new), vec![MIGRATE, MIGRATE]));
        // One that isn't there fails it, too.
        bench.tell(Change::Unit(name(MIGRATE), None));
        bench.ask_set(&hooked("newer", "Before=migrate.service"));
        bench.settle();
        assert_eq!(bench.rollout().phase, Phase::Reverted);
        let why = bench.rollout().why.clone().unwrap();
        assert_eq!(why, "there is no migrate.service, which runs before or after the members");
    }
}

#[test]
fn a_hook_runs_again_elsewhere_if_its_host_is_lost() {
    for restless in [false, true] {
        let mut bench = Bench::with_hook(restless);
        bench.busy = vec![once("migrate").hash()];
        bench.ask_set(&hooked("new", "Before=migrate.service"));
        bench.pass(5);
        assert!(bench.store.schedule[&id(1)].contains_key(&name(MIGRATE)));
        bench.tell(Change::Machine(id(1), None));
        for reports in bench.store.clone().states {
            if reports.1.contains_key(&id(1)) {
                bench.tell(Change::Report(reports.0, id(1), ReportKeyForm::HostFirst, None));
            }
        }
        bench.pass(5);
        assert_eq!((bench.rollout().phase, bench.starts.len()), (Phase::Before, 2));
        bench.busy.clear();
        bench.settle();
        assert_eq!((bench.rollout().phase, bench.starts.len()), (Phase::Done, 2));
    }
}

#[test]
fn another_request_takes_the_place_of_a_hook_that_runs() {
    for restless in [false, true] {
        let mut bench = Bench::with_hook(restless);
        bench.ask("other.service", &once("other"), |unit| unit.desired = Desired::Inactive);
        bench.busy = vec![once("migrate").hash()];
        bench.ask_set(&hooked("new", "Before=migrate.service"));
        bench.pass(5);
        // The same hook is restarted, and another one waits until this one has left its host.
        bench.ask_set(&hooked("newer", "Before=migrate.service"));
        bench.pass(5);
        assert_eq!(bench.started(), [MIGRATE, MIGRATE]);
        bench.ask_set(&hooked("newest", "Before=other.service"));
        bench.decide();
        assert!(!bench.is_anywhere("other.service"));
        bench.settle();
        assert_eq!(bench.started()[2..], ["other.service"]);
        assert_eq!((bench.rollout().phase, bench.rollout().hooks.len()), (Phase::Done, 1));
    }
}

#[test]
fn sets_that_are_asked_for_together_share_a_run_and_others_do_not() {
    for restless in [false, true] {
        let mut bench = Bench::with_hook(restless);
        let (web, db) = (|program| hooked(program, "Before=migrate.service"), "db.service");
        bench.ask(db, &file("db", "[X-Rollout]\nHealthySec=1"), |_| {});
        bench.settle();
        bench.busy = vec![once("migrate").hash()];
        bench.ask_set(&web("new"));
        bench.ask(db, &web("db2"), |_| {});
        bench.pass(5);
        let phases = |bench: &Bench| [SET, db].map(|unit| bench.store.rollouts[&name(unit)].value.phase);
        assert_eq!((phases(&bench), bench.starts.len()), ([Phase::Before; 2], 1));
        // One of them is asked for again: it waits until the other one has its result.
        bench.ask(db, &web("db3"), |_| {});
        bench.pass(5);
        assert_eq!((phases(&bench), bench.starts.len()), ([Phase::Before; 2], 1));
        bench.busy.clear();
        bench.settle();
        assert_eq!((phases(&bench), bench.starts.len()), ([Phase::Done; 2], 2));
    }
}

#[test]
fn a_unit_that_somebody_has_started_is_done_after_it_has_run_as_a_hook() {
    for restless in [false, true] {
        let mut bench = Bench::with_hook(restless);
        bench.ask(MIGRATE, &once("migrate"), |unit| unit.desired = Desired::Launched);
        bench.settle();
        assert_eq!(bench.starts.len(), 1);
        bench.ask_set(&hooked("new", "Before=migrate.service"));
        bench.settle();
        assert_eq!((bench.rollout().phase, bench.starts.len()), (Phase::Done, 2));
        assert!(bench.store.done(&name(MIGRATE)).is_some() && !bench.is_anywhere(MIGRATE));
        bench.ask(MIGRATE, &once("migrate"), |_| {});
        bench.settle();
        assert_eq!(bench.starts.len(), 3, "somebody has asked for it");
    }
}
