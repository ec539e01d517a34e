//! Kill points: each operation is repeated, and each time one process is killed at another of its calls, before or
//! after the call has taken effect. The next pass must complete the operation: everything is as requested, every
//! process of a unit was started and stopped as often as without the death, and no other unit was touched.
//!
//! `cargo nextest run --test kill_points --no-capture` prints how many kill points there are.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "kill_points/process.rs"]
mod process;
#[path = "kill_points/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use flotilla::model::file::UnitFile;
use flotilla::model::name::UnitName;
use flotilla::model::unit::Desired;
use flotilla::plan::check::check;
use flotilla::registry::keys::Key;
use flotilla::registry::put;
use flotilla::registry::units::{Intent, OnDifferentFile, UnitChange};
use flotilla::systemd::fake::What::{self, Failed, Started, Stopped};
use process::KillPoint;
use world::{Request, World};

/// Everything that an operation causes happens within this time.
const WINDOW: Duration = Duration::from_secs(5);

/// Everything that a death causes is over after this time: also if its host was dead to the cluster for a while.
const CALM: Duration = Duration::from_secs(45);

const UNIT: &str = "u.service";
const OLD: &str = "[Service]\nExecStart=/bin/old\n[X-Fleet]\nMachineMetadata=zone=a\n[X-Fake]\nStartSec=1\nStopSec=1\n";
const NEW: &str = "[Service]\nExecStart=/bin/new\n[X-Fleet]\nMachineMetadata=zone=a\n[X-Fake]\nStartSec=1\nStopSec=1\n";
/// systemd reads the same from it as from the old one.
const NOTED: &str = "[Service]\nExecStart=/bin/old\n[X-Fleet]\nMachineMetadata=zone=a\n[X-Note]\nWhy=new\n";
const ONCE: &str = "[Service]\nType=oneshot\nExecStart=/bin/once\n[X-Fleet]\nMachineMetadata=zone=a\n";
const ONCE_NOTED: &str =
    "[Service]\nType=oneshot\nExecStart=/bin/once\n[X-Fleet]\nMachineMetadata=zone=a\n[X-Note]\nWhy=new\n";
/// A file that is rolled out.
const ROLLED: &str = "[Service]\nExecStart=/bin/new\n[X-Fleet]\nMachineMetadata=zone=a\n[X-Rollout]\nHealthySec=1\n";
/// One that is rolled out and fails, and the one before it.
const FAILS: &str = "[Service]\nExecStart=/bin/new\n[X-Fleet]\nMachineMetadata=zone=a\n[X-Rollout]\nHealthySec=1\n\
     [X-Fake]\nStartSec=2\nOutcome=fail\n";
const QUICK: &str = "[Service]\nExecStart=/bin/old\n[X-Fleet]\nMachineMetadata=zone=a\n";
/// A unit that runs once. It takes longer than a daemon needs to be there again, as all here that ends by itself: of
/// what has ended by then, no daemon could know whether it ran at all, and it would run once more.
const RUNS_ONCE: &str = "[Service]\nType=oneshot\nExecStart=/bin/once\n[X-Fleet]\nMachineMetadata=zone=a\nRunOnce=yes\n\
     [X-Fake]\nStartSec=2\n";
/// A file that is rolled out once another unit has run.
const AFTER_HOOK: &str = "[Service]\nExecStart=/bin/new\n[X-Fleet]\nMachineMetadata=zone=a\n[X-Rollout]\nHealthySec=1\n\
     Before=hook.service\n";
const HOOK: &str = "hook.service";
const HOOK_TEXT: &str =
    "[Service]\nType=oneshot\nExecStart=/bin/hook\n[X-Fleet]\nMachineMetadata=zone=a\n[X-Fake]\nStartSec=2\n";
/// Units that run on either host meanwhile.
const OTHERS: [(&str, &str); 2] = [
    ("x.service", "[Service]\nExecStart=/bin/x\n[X-Fleet]\nMachineID=11111111\n"),
    ("y.service", "[Service]\nExecStart=/bin/y\n[X-Fleet]\nMachineID=22222222\n"),
];

/// The process that dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    /// What sends the request: the API server, or `fleetctl` in front of it.
    Client,
    /// The daemon of n1, the leader.
    Leader,
    /// The daemon of n2.
    Other,
}

/// An operation on [`UNIT`], and what it leads to.
struct Operation {
    name: &'static str,
    /// The file and the desired state before, if the unit exists.
    before: Option<(&'static str, Desired)>,
    request: fn(&World) -> Request,
    /// What happens to processes: on which host, of which unit.
    history: &'static [(&'static str, &'static str, What)],
    /// Its file on each host afterwards.
    files: [Option<&'static str>; 2],
    /// Its desired state afterwards, if it exists.
    after: Option<Desired>,
}

const OPERATIONS: [Operation; 14] = [
    Operation {
        name: "submit",
        before: None,
        request: |_| ensure(UNIT, Some(OLD), Some(Desired::Inactive)),
        history: &[],
        files: [None, None],
        after: Some(Desired::Inactive),
    },
    Operation {
        name: "start",
        before: None,
        request: |_| ensure(UNIT, Some(OLD), Some(Desired::Launched)),
        history: &[("n1", UNIT, Started)],
        files: [Some(OLD), None],
        after: Some(Desired::Launched),
    },
    Operation {
        name: "stop",
        before: Some((OLD, Desired::Launched)),
        request: |_| ensure(UNIT, None, Some(Desired::Loaded)),
        history: &[("n1", UNIT, Stopped)],
        files: [Some(OLD), None],
        after: Some(Desired::Loaded),
    },
    Operation {
        name: "unload",
        before: Some((OLD, Desired::Launched)),
        request: |_| ensure(UNIT, None, Some(Desired::Inactive)),
        history: &[("n1", UNIT, Stopped)],
        files: [None, None],
        after: Some(Desired::Inactive),
    },
    Operation {
        name: "restart",
        before: Some((OLD, Desired::Launched)),
        request: |_| change(UnitChange::Restart),
        history: &[("n1", UNIT, Stopped), ("n1", UNIT, Started)],
        files: [Some(OLD), None],
        after: Some(Desired::Launched),
    },
    Operation {
        name: "replace",
        before: Some((OLD, Desired::Launched)),
        request: |_| ensure(UNIT, Some(NEW), None),
        history: &[("n1", UNIT, Stopped), ("n1", UNIT, Started)],
        files: [Some(NEW), None],
        after: Some(Desired::Launched),
    },
    Operation {
        name: "roll out",
        before: Some((OLD, Desired::Launched)),
        request: |_| ensure(UNIT, Some(ROLLED), None),
        history: &[("n1", UNIT, Stopped), ("n1", UNIT, Started)],
        files: [Some(ROLLED), None],
        after: Some(Desired::Launched),
    },
    Operation {
        name: "revert",
        before: Some((QUICK, Desired::Launched)),
        request: |_| ensure(UNIT, Some(FAILS), None),
        history: &[("n1", UNIT, Stopped), ("n1", UNIT, Failed), ("n1", UNIT, Started)],
        files: [Some(QUICK), None],
        after: Some(Desired::Launched),
    },
    Operation {
        name: "run once",
        before: None,
        request: |_| ensure(UNIT, Some(RUNS_ONCE), Some(Desired::Launched)),
        history: &[("n1", UNIT, Started)],
        files: [None, None],
        after: Some(Desired::Launched),
    },
    Operation {
        name: "hook",
        before: Some((QUICK, Desired::Launched)),
        request: |_| {
            let (hook, member) = (ensure(HOOK, Some(HOOK_TEXT), None), ensure(UNIT, Some(AFTER_HOOK), None));
            Request::Units([hook, member].into_iter().flat_map(intents).collect())
        },
        history: &[("n1", HOOK, Started), ("n1", UNIT, Stopped), ("n1", UNIT, Started)],
        files: [Some(AFTER_HOOK), None],
        after: Some(Desired::Launched),
    },
    Operation {
        name: "rewrite",
        before: Some((OLD, Desired::Launched)),
        request: |_| ensure(UNIT, Some(NOTED), None),
        history: &[],
        files: [Some(NOTED), None],
        after: Some(Desired::Launched),
    },
    Operation {
        name: "rewrite once",
        before: Some((ONCE, Desired::Launched)),
        request: |_| ensure(UNIT, Some(ONCE_NOTED), None),
        history: &[],
        files: [Some(ONCE_NOTED), None],
        after: Some(Desired::Launched),
    },
    Operation {
        name: "move",
        before: Some((OLD, Desired::Launched)),
        request: swap_zones,
        history: &[("n1", UNIT, Stopped), ("n2", UNIT, Started)],
        files: [None, Some(OLD)],
        after: Some(Desired::Launched),
    },
    Operation {
        name: "destroy",
        before: Some((OLD, Desired::Launched)),
        request: |_| change(UnitChange::Destroy),
        history: &[("n1", UNIT, Stopped)],
        files: [None, None],
        after: None,
    },
];

fn unit(name: &str) -> UnitName {
    name.parse().unwrap()
}

fn change(change: UnitChange) -> Request {
    Request::Units(vec![Intent { name: unit(UNIT), change }])
}

fn ensure(name: &str, text: Option<&str>, desired: Option<Desired>) -> Request {
    let file = text.map(|text| Arc::new(UnitFile::parse(text.as_bytes()).unwrap()));
    let change = UnitChange::Ensure { file, desired, on_different_file: OnDifferentFile::Replace, replicas: None };
    Request::Units(vec![Intent { name: unit(name), change }])
}

fn intents(request: Request) -> Vec<Intent> {
    match request {
        Request::Units(intents) => intents,
        Request::Records(_) => Vec::new(),
    }
}

/// Host n2 gets the zone that the unit wants, and n1 another one.
fn swap_zones(world: &World) -> Request {
    let zone = |at: usize, zone: &str| put(&Key::Metadata(world.hosts[at].id.clone(), "zone".into()), &zone, None);
    Request::Records(vec![zone(0, "c"), zone(1, "a")])
}

/// Carry out `operation`; `victim` dies at `at`, if anybody does. Returns the number of its calls.
async fn carry_out(operation: &Operation, victim: Victim, at: Option<KillPoint>) -> usize {
    let mut world = World::new().await;
    let settle = async |world: &mut World, request: Request| {
        world.send(request.clone());
        world.pass(WINDOW, &request).await;
    };
    for (name, text) in OTHERS {
        settle(&mut world, ensure(name, Some(text), Some(Desired::Launched))).await;
    }
    if let Some((text, desired)) = operation.before {
        settle(&mut world, ensure(UNIT, Some(text), Some(desired))).await;
    }
    let before = world.history();
    let request = (operation.request)(&world);
    let process = match victim {
        Victim::Client => world.client.clone(),
        Victim::Leader => world.hosts[0].daemon.clone(),
        Victim::Other => world.hosts[1].daemon.clone(),
    };
    process.arm(at);
    settle(&mut world, request.clone()).await;
    let calls = process.calls().len();
    if at.is_some() {
        assert!(process.is_dead(), "it dies: {calls} calls");
        world.pass(CALM, &request).await;
    }
    hold(&world, operation, &before).await;
    calls
}

/// Everything is as requested.
async fn hold(world: &World, operation: &Operation, before: &[(&'static str, UnitName, What)]) {
    let history: Vec<_> = world.history().split_off(before.len());
    let expected: Vec<_> = operation.history.iter().map(|(host, name, what)| (*host, unit(name), *what)).collect();
    assert_eq!(history, expected, "what happened to processes");
    for (host, file) in world.hosts.iter().zip(operation.files) {
        assert_eq!(host.fake.on_disk().get(&unit(UNIT)).map(String::as_str), file, "the file on {}", host.id.short());
    }
    let cluster = world.cluster().await;
    assert_eq!(check(&cluster), [], "the store");
    assert_eq!(cluster.units.get(&unit(UNIT)).map(|unit| unit.desired), operation.after, "the desired state");
    let on: Vec<_> = world.hosts.iter().filter(|host| host.fake.on_disk().contains_key(&unit(UNIT))).collect();
    let reported: Vec<_> = cluster.reports(&unit(UNIT)).map(|(host, _)| host).collect();
    assert_eq!(reported, on.iter().map(|host| &host.id).collect::<Vec<_>>(), "the reports");
    if operation.after.is_none() {
        assert_eq!(world.keys_of(&unit(UNIT)).await, [""; 0], "nothing is left of it");
    }
}

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap().block_on(test)
}

/// All kill points of an operation. Returns how many there are, by victim.
fn kill_everywhere(operation: &Operation) -> BTreeMap<String, usize> {
    let mut points = BTreeMap::new();
    for victim in [Victim::Client, Victim::Leader, Victim::Other] {
        let calls = run(carry_out(operation, victim, None));
        for call in 0..calls {
            for done in [false, true] {
                let at = KillPoint { call, done };
                let name = operation.name;
                let repeated = std::panic::catch_unwind(|| run(carry_out(operation, victim, Some(at))));
                assert!(repeated.is_ok(), "{name}: {victim:?} died at {at:?} of {calls} calls: see above");
            }
        }
        points.insert(format!("{victim:?}"), 2 * calls);
    }
    points
}

#[expect(clippy::print_stdout, reason = "the number of kill points is a result")]
fn operations(names: &[&str]) {
    for name in names {
        let operation = OPERATIONS.iter().find(|operation| operation.name == *name).unwrap();
        let points = kill_everywhere(operation);
        println!("{name}: {} kill points, {points:?}", points.values().sum::<usize>());
        assert!(points["Client"] > 0 && points["Leader"] > 0, "{points:?}");
    }
}

#[test]
fn a_death_while_a_unit_is_submitted_started_or_stopped_changes_nothing_in_the_end() {
    operations(&["submit", "start", "stop", "unload"]);
}

#[test]
fn a_death_while_a_unit_is_restarted_replaced_moved_or_destroyed_changes_nothing_in_the_end() {
    operations(&["restart", "replace", "move", "destroy"]);
}

#[test]
fn a_death_while_a_file_is_rolled_out_changes_nothing_in_the_end() {
    operations(&["roll out"]);
}

#[test]
fn a_death_while_a_file_that_fails_is_taken_back_changes_nothing_in_the_end() {
    operations(&["revert"]);
}

#[test]
fn a_death_while_a_unit_runs_once_alone_or_before_others_runs_it_no_second_time() {
    operations(&["run once", "hook"]);
}

#[test]
fn a_death_while_a_file_with_the_same_body_is_written_touches_no_process() {
    operations(&["rewrite", "rewrite once"]);
}
