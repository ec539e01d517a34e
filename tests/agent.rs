//! The agent of one host with the embedded store and a host in memory: what it does with its assignments, in which
//! order, and what it leaves alone. The test plays the engine, key by key.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

#[path = "agent/health.rs"]
mod health;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flotilla::agent::{Agent, Options, Status, Unreachable};
use flotilla::clock::Clock;
use flotilla::model::file::UnitFile;
use flotilla::model::format::Format;
use flotilla::model::machine::Machine;
use flotilla::model::name::{MachineId, UnitHash, UnitName};
use flotilla::model::revision::Revision;
use flotilla::model::rollout::{File, Gate};
use flotilla::model::systemd::ActiveState;
use flotilla::model::systemd::{JobResult, LoadState};
use flotilla::model::unit::{Assignment, Desired, Target, Unit, UnitReport};
use flotilla::registry::keys::{self, Key};
use flotilla::registry::records::file::FileRecord;
use flotilla::registry::records::leader::LeaderRecord;
use flotilla::registry::{decode, delete, put};
use flotilla::store::embedded::{Counter, Embedded};
use flotilla::store::{Error, Kv, LeaseId, Op, Page, Range, Store, Txn, Watch};
use flotilla::systemd::Systemd as _;
use flotilla::systemd::fake::{self, Fake, What};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const TTL: Duration = Duration::from_secs(10);
const ID: &str = "3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a";

struct World {
    store: Embedded,
    host: Fake,
    daemon: Option<(JoinHandle<()>, watch::Receiver<Status>)>,
    clock: Clock,
    network: Arc<health::Answers>,
}

fn id() -> MachineId {
    ID.parse().unwrap()
}

fn unit(name: &str) -> UnitName {
    name.parse().unwrap()
}

fn machine(hostname: &str) -> Machine {
    Machine {
        id: id(),
        ip: "10.0.0.1".into(),
        hostname: hostname.into(),
        metadata: Default::default(),
        builtin: Default::default(),
        reserved: Default::default(),
        version: "test".into(),
        boot_id: "boot".into(),
        since: 0,
        format: Format::CURRENT,
        leaving: false,
    }
}

impl World {
    /// A host without a daemon.
    fn stopped() -> Self {
        let (host, network) = (Fake::default(), Default::default());
        Self { store: Embedded::in_memory(), host, daemon: None, clock: Clock::simulated(0), network }
    }

    async fn new() -> Self {
        let mut world = Self::stopped();
        world.start("n1");
        world
    }

    fn start(&mut self, hostname: &str) {
        self.start_as(machine(hostname));
    }

    fn start_as(&mut self, machine: Machine) {
        let options = Options { machine, ttl: TTL, alone: false, clock: self.clock };
        let (agent, status) = Agent::new(self.store.clone(), self.host.clone(), options);
        let agent = agent.in_network(self.network.clone());
        self.daemon = Some((tokio::spawn(agent.run(CancellationToken::new())), status));
    }

    /// As `kill -9`.
    async fn kill(&mut self) {
        if let Some((task, _)) = self.daemon.take() {
            task.abort();
            let _ = task.await;
        }
    }

    /// Publish the lowest format of the registered hosts, as a leader does.
    async fn lead(&self, format: &str) {
        let (hostname, ip) = Default::default();
        let leader = LeaderRecord { machine: id(), hostname, ip, since: 0, format: format.parse().unwrap() };
        self.store.commit(Txn { guards: vec![], ops: vec![put(&Key::Leader, &leader, None)] }).await.unwrap();
    }

    /// The only key of the report of `name`, after everything has settled.
    async fn state_key(&self, name: &str) -> String {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mut keys = self.state_keys(name).await;
        assert_eq!(keys.len(), 1, "{keys:?}");
        keys.remove(0).key
    }

    async fn revision(&self) -> u64 {
        self.store.range(Range { limit: 1, ..Range::default() }).await.unwrap().revision.0
    }

    async fn tell(&self, units: &[(&str, &str, Target, u64)]) {
        let mut ops = BTreeMap::new();
        for (name, text, target, generation) in units {
            let hash = UnitFile::parse(text.as_bytes()).unwrap().hash();
            let file = Key::File(hash.clone());
            ops.insert(file.to_string(), put(&file, &FileRecord { text: (*text).into() }, None));
            let entry = Assignment::new(hash, *target, Revision(*generation));
            let key = Key::Schedule(id(), unit(name));
            ops.insert(key.to_string(), put(&key, &entry, None));
        }
        self.store.commit(Txn { guards: vec![], ops: ops.into_values().collect() }).await.unwrap();
    }

    /// Assign a restart as the engine does: the same assignment with another generation.
    async fn restart(&self, name: &str, text: &str, generation: u64) {
        let hash = UnitFile::parse(text.as_bytes()).unwrap().hash();
        let generation = Revision(generation);
        let entry = Assignment { restart: Some(generation), ..Assignment::new(hash, Target::Launched, generation) };
        let ops = vec![put(&Key::Schedule(id(), unit(name)), &entry, None)];
        self.store.commit(Txn { guards: vec![], ops }).await.unwrap();
    }

    async fn untell(&self, name: &str) {
        let ops = vec![delete(&Key::Schedule(id(), unit(name)))];
        self.store.commit(Txn { guards: vec![], ops }).await.unwrap();
    }

    /// The host as it is registered.
    async fn machine(&self) -> Machine {
        let prefix = Key::Machine(id()).to_string();
        let page = self.store.range(Range { prefix, ..Range::default() }).await.unwrap();
        decode(page.kvs.first().unwrap()).unwrap()
    }

    /// When the report of `name` was last written.
    async fn written(&self, name: &str) -> Option<Revision> {
        self.state_keys(name).await.first().map(|kv| kv.revision)
    }

    async fn state(&self, name: &str) -> Option<UnitReport> {
        let mut reports = self.state_keys(name).await;
        assert!(reports.len() < 2, "{name} is reported under two keys: {reports:?}");
        reports.pop().map(|kv| decode(&kv).unwrap())
    }

    /// The report of `name`, under every form of its key.
    async fn state_keys(&self, name: &str) -> Vec<Kv> {
        let page = self.store.range(Range { prefix: keys::STATES.into(), ..Range::default() }).await.unwrap();
        let keys: Vec<String> = Key::states(&id(), &unit(name)).map(|key| key.to_string()).collect();
        page.kvs.into_iter().filter(|kv| keys.contains(&kv.key)).collect()
    }

    /// Wait (in paused time) until the report of `name` is as wanted.
    async fn until(&self, name: &str, what: &str, wanted: impl Fn(Option<&UnitReport>) -> bool) -> Option<UnitReport> {
        for _ in 0..600 {
            let state = self.state(name).await;
            if wanted(state.as_ref()) {
                return state;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("waited 60 s for {name} to be {what}; it is {:?}; host: {:?}", self.state(name).await, self.host.log());
    }

    async fn until_active(&self, name: &str) -> UnitReport {
        self.until(name, "active", |s| s.is_some_and(|s| s.active == ActiveState::Active && s.job.is_none()))
            .await
            .unwrap()
    }

    fn order(&self, what: What) -> Vec<String> {
        let log = self.host.log();
        log.iter().filter(|e| e.what == what).filter_map(|e| e.unit.as_ref().map(ToString::to_string)).collect()
    }
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap().block_on(test);
}

const PLAIN: &str = "[Service]\nExecStart=/bin/sleep 1000\n";
const TOP: &str = "[Unit]\nRequires=base.service\nAfter=base.service\n[Service]\nExecStart=/bin/top\n";

/// A foreign unit, for example of a package, isn't changed, whatever the cluster's unit of that name requires.
#[test]
fn a_unit_of_the_hosts_own_is_neither_shadowed_nor_started_nor_stopped() {
    run(async {
        let mut world = World::new().await;
        world
            .tell(&[
                ("basic.target", "[Unit]\nDescription=ours\n", Target::Launched, 5),
                ("a.service", PLAIN, Target::Launched, 5),
            ])
            .await;
        let said = world.until("basic.target", "refused", |s| s.is_some_and(|s| s.error.is_some())).await.unwrap();
        assert_eq!(
            (said.error.as_deref(), said.load.as_str(), said.active.as_str()),
            (
                Some("the host has a basic.target of its own: /usr/lib/systemd/system/basic.target"),
                "not-found",
                "inactive"
            )
        );
        world.until_active("a.service").await;
        assert!(!world.host.on_disk().contains_key(&unit("basic.target")));
        world.kill().await;
        world.start("n1");
        world.tell(&[("basic.target", "[Unit]\nDescription=ours\n", Target::Removed, 6)]).await;
        world
            .until("basic.target", "gone", |s| {
                s.is_some_and(|s| s.target == Target::Removed && s.generation == Revision(6))
            })
            .await;
        let touched = world.host.log().into_iter().filter(|entry| entry.unit == Some(unit("basic.target"))).count();
        assert_eq!((touched, world.order(What::Starting)), (0, vec!["a.service".to_owned()]));
    });
}

/// CoreOS fleet wrote to the same folder. On a host where this daemon has never run, the files there are fleet's, and
/// so are the units that run.
#[test]
fn units_that_were_here_before_are_left_alone_until_they_are_ours_and_then_taken_over_as_they_run() {
    run(async {
        let mut world = World::stopped();
        for name in ["kept.service", "taken.service", "other.service"] {
            world.host.install(vec![(unit(name), PLAIN.into())]).await;
            world.host.start(vec![unit(name)]).await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let pid = |world: &World, name: &str| world.host.main_pid(&unit(name));
        let before = ["kept.service", "taken.service"].map(|name| pid(&world, name));
        assert!(before.iter().all(Option::is_some));

        world.start("n1");
        world.tell(&[("taken.service", PLAIN, Target::Launched, 5), ("new.service", PLAIN, Target::Launched, 5)]).await;
        world.tell(&[("other.service", "[Service]\nExecStart=/bin/other\n", Target::Launched, 5)]).await;
        world.until_active("taken.service").await;
        world.until_active("new.service").await;
        world.until_active("other.service").await;
        assert_eq!(["kept.service", "taken.service"].map(|name| pid(&world, name)), before, "neither was restarted");
        assert_eq!(world.state("kept.service").await, None, "it isn't this cluster's to report");

        // An adopted unit is ours, also for a later daemon: without an assignment, it is stopped.
        world.kill().await;
        world.untell("taken.service").await;
        world.untell("new.service").await;
        world.start("n1");
        world.until("taken.service", "gone", |state| state.is_none()).await;
        world.until("new.service", "gone", |state| state.is_none()).await;
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert_eq!(world.host.running().into_iter().collect::<Vec<_>>(), [unit("kept.service"), unit("other.service")]);
        assert_eq!(pid(&world, "kept.service"), before[0]);
    });
}

#[test]
fn a_launched_unit_runs_and_is_reported() {
    run(async {
        let world = World::new().await;
        world.tell(&[("a.service", PLAIN, Target::Launched, 7)]).await;
        let state = world.until_active("a.service").await;
        assert_eq!((state.generation, state.target, state.load.as_str()), (Revision(7), Target::Launched, "loaded"));
        assert_eq!(state.result, Some(JobResult::Done));
        assert_eq!(world.host.counters().reload, 0, "a brand-new unit needs no reload");
    });
}

#[test]
fn a_failure_is_reported_with_its_reason_also_by_the_next_daemon() {
    run(async {
        let mut world = World::new().await;
        let text = "[Service]\nExecStart=/bin/a --flag\n[X-Fake]\nOutcome=fail\n";
        world.tell(&[("a.service", text, Target::Launched, 7)]).await;
        let failed = |s: Option<&UnitReport>| s.is_some_and(|s| s.active == ActiveState::Failed && s.failure.is_some());
        let before = world.until("a.service", "failed", failed).await.unwrap();
        let failure = before.failure.clone().unwrap();
        assert_eq!(failure.sentence(), "exit status 1/FAILURE: /bin/a");
        assert_eq!(failure.lines, ["a.service: activation 1 ended"]);
        let written = world.written("a.service").await;
        tokio::time::sleep(Duration::from_secs(1000)).await;
        assert_eq!(world.written("a.service").await, written, "an unchanged report isn't written again");
        assert_eq!(world.host.counters().journals, 1, "full checks read no journal again");
        world.kill().await;
        world.start("n1");
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(world.state("a.service").await, Some(before));
    });
}

#[test]
fn a_crash_loop_is_counted_and_writes_little() {
    run(async {
        let world = World::new().await;
        let text = "[Service]\nExecStart=/bin/a\nRestart=always\nRestartSec=1\n[X-Fake]\nOutcome=die\nLiveSec=1\n";
        world.tell(&[("a.service", text, Target::Launched, 7)]).await;
        world.until("a.service", "restarted", |s| s.is_some_and(|s| s.restarts > 3)).await;
        let mut writes = 0;
        let mut last = world.written("a.service").await;
        for _ in 0..6000 {
            tokio::time::sleep(Duration::from_millis(10)).await;
            let now = world.written("a.service").await;
            writes += usize::from(now != last);
            last = now;
        }
        let started = world.order(What::Starting).len();
        assert!(started > 30 && writes <= 14, "{started} starts, {writes} reports in a minute");
        assert!(world.state("a.service").await.unwrap().restarts > 20);
    });
}

#[test]
fn a_chain_starts_in_order_and_stops_in_reverse() {
    run(async {
        let world = World::new().await;
        world.tell(&[("top.service", TOP, Target::Launched, 1), ("base.service", PLAIN, Target::Launched, 1)]).await;
        world.until_active("top.service").await;
        assert_eq!(world.order(What::Started), ["base.service", "top.service"]);
        world.tell(&[("top.service", TOP, Target::Removed, 2), ("base.service", PLAIN, Target::Removed, 2)]).await;
        for name in ["top.service", "base.service"] {
            world.until(name, "gone", |s| s.is_some_and(|s| s.target == Target::Removed)).await;
        }
        assert_eq!(world.order(What::Stopped), ["top.service", "base.service"]);
    });
}

#[test]
fn a_missing_dependency_is_waited_for() {
    run(async {
        let world = World::new().await;
        world.tell(&[("top.service", TOP, Target::Launched, 1)]).await;
        let state = world.until("top.service", "refused", |s| s.is_some_and(|s| s.error.is_some())).await.unwrap();
        assert!(state.error.as_ref().unwrap().contains("base.service"), "{state:?}");
        world.tell(&[("base.service", PLAIN, Target::Launched, 2)]).await;
        let state = world.until_active("top.service").await;
        assert_eq!(state.error, None);
        assert_eq!(world.order(What::Started), ["base.service", "top.service"]);
    });
}

#[test]
fn gone_is_said_only_after_the_stop_is_done() {
    run(async {
        let world = World::new().await;
        let slow = "[Service]\nExecStart=/bin/a\n[X-Fake]\nStopSec=20\n";
        world.tell(&[("a.service", slow, Target::Launched, 1)]).await;
        world.until_active("a.service").await;
        world.tell(&[("a.service", slow, Target::Removed, 2)]).await;
        tokio::time::sleep(Duration::from_secs(15)).await;
        let state = world.state("a.service").await.unwrap();
        assert_eq!((state.active.as_str(), state.target), ("deactivating", Target::Launched));
        world.until("a.service", "gone", |s| s.is_some_and(|s| s.target == Target::Removed)).await;
        world.untell("a.service").await;
        world.until("a.service", "forgotten", |s| s.is_none()).await;
    });
}

#[test]
fn a_changed_file_replaces_in_place() {
    run(async {
        let world = World::new().await;
        world.tell(&[("a.service", PLAIN, Target::Launched, 1)]).await;
        world.until_active("a.service").await;
        let changed = "[Service]\nExecStart=/bin/sleep 2000\n";
        world.tell(&[("a.service", changed, Target::Launched, 2)]).await;
        let hash = UnitFile::parse(changed.as_bytes()).unwrap().hash();
        world
            .until("a.service", "replaced", |s| s.is_some_and(|s| s.hash == hash && s.active == ActiveState::Active))
            .await;
        assert_eq!(
            world.host.loaded_text(&unit("a.service")).as_deref(),
            Some(changed),
            "systemd was told to read it again"
        );
        assert_eq!(world.order(What::Stopped), ["a.service"]);
    });
}

#[test]
fn a_restart_stops_and_starts_once_and_brings_dependents_back() {
    run(async {
        let mut world = World::new().await;
        world.tell(&[("top.service", TOP, Target::Launched, 1), ("base.service", PLAIN, Target::Launched, 1)]).await;
        world.until_active("top.service").await;
        world.restart("base.service", PLAIN, 5).await;
        let done = |s: Option<&UnitReport>| {
            s.is_some_and(|s| s.generation == Revision(5) && s.result == Some(JobResult::Done) && s.job.is_none())
        };
        let state = world.until("base.service", "restarted", done).await.unwrap();
        assert_eq!((state.active.as_str(), state.error), ("active", None));
        tokio::time::sleep(Duration::from_secs(5)).await;
        world.until_active("top.service").await;
        assert_eq!(world.order(What::Stopped), ["top.service", "base.service"]);
        assert_eq!(world.order(What::Started), ["base.service", "top.service", "base.service", "top.service"]);
        assert_eq!(world.host.counters().written, 2, "the files stay");
        let log = world.host.log().len();
        world.kill().await;
        world.start("n1");
        tokio::time::sleep(Duration::from_secs(400)).await;
        assert_eq!(world.host.log().len(), log, "no daemon does it again");
    });
}

#[test]
fn a_restart_is_neither_lost_nor_repeated_when_the_daemon_dies() {
    let slow = "[Service]\nExecStart=/bin/a\n[X-Fake]\nStartSec=2\nStopSec=2\n";
    for killed_after in (0..=5000).step_by(250) {
        run(async {
            let mut world = World::new().await;
            world.tell(&[("a.service", slow, Target::Launched, 1)]).await;
            world.until_active("a.service").await;
            world.restart("a.service", slow, 5).await;
            tokio::time::sleep(Duration::from_millis(killed_after)).await;
            world.kill().await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            world.start("n1");
            let done = |s: Option<&UnitReport>| {
                s.is_some_and(|s| s.generation == Revision(5) && s.active == ActiveState::Active)
            };
            world.until("a.service", "restarted", done).await;
            tokio::time::sleep(Duration::from_secs(20)).await;
            let counts = (world.order(What::Stopped).len(), world.order(What::Started).len());
            assert_eq!(counts, (1, 2), "killed after {killed_after} ms: {:?}", world.host.log());
        });
    }
}

#[test]
fn a_restart_starts_what_has_failed_or_ended_and_a_reboot_is_one() {
    run(async {
        let mut world = World::new().await;
        let once = "[Service]\nType=oneshot\nExecStart=/bin/once\n";
        world.tell(&[("a.service", PLAIN, Target::Launched, 1), ("once.service", once, Target::Launched, 1)]).await;
        world.until_active("a.service").await;
        assert!(world.host.crash(&unit("a.service")));
        world.until("a.service", "failed", |s| s.is_some_and(|s| s.active == ActiveState::Failed)).await;
        world.restart("a.service", PLAIN, 5).await;
        world.restart("once.service", once, 6).await;
        world.until_active("a.service").await;
        let through = |s: Option<&UnitReport>| s.is_some_and(|s| s.generation == Revision(6) && s.result.is_some());
        world.until("once.service", "through", through).await;
        assert_eq!(world.order(What::Started).iter().filter(|unit| *unit == "once.service").count(), 2);
        world.kill().await;
        world.restart("a.service", PLAIN, 9).await;
        let before = world.order(What::Stopped).len();
        world.host.reboot();
        world.start("n1");
        tokio::time::sleep(Duration::from_secs(2)).await;
        world
            .until("a.service", "up", |s| {
                s.is_some_and(|s| s.generation == Revision(9) && s.active == ActiveState::Active)
            })
            .await;
        assert_eq!(world.order(What::Stopped).len(), before, "{:?}", world.host.log());
    });
}

/// systemd has given it up, and would refuse to start it for an hour: but somebody asks for it, and it comes up.
#[test]
fn what_hit_its_start_limit_is_started_when_somebody_asks() {
    run(async {
        let world = World::new().await;
        let text = "[Unit]\nStartLimitIntervalSec=1h\nStartLimitBurst=1\n[Service]\nExecStart=/bin/a\n\
                    Restart=on-failure\n";
        world.tell(&[("a.service", text, Target::Launched, 1)]).await;
        world.until_active("a.service").await;
        for generation in [5, 6] {
            assert!(world.host.crash(&unit("a.service")));
            let failed = |s: Option<&UnitReport>| s.is_some_and(|s| s.active == ActiveState::Failed);
            world.until("a.service", "given up", failed).await;
            world.restart("a.service", text, generation).await;
            world
                .until("a.service", "started again", |s| s.is_some_and(|s| s.generation == Revision(generation)))
                .await;
            assert_eq!(world.until_active("a.service").await.failure, None);
        }
        assert_eq!(world.order(What::Starting).len(), 3, "{:?}", world.host.log());
    });
}

#[test]
fn dependents_come_back_although_the_daemon_died_in_the_middle() {
    let slow = "[Service]\nExecStart=/bin/a\n[X-Fake]\nStopSec=3\n";
    let changed = slow.replace("/bin/a", "/bin/b");
    for killed_after in (0..=6000).step_by(500) {
        run(async {
            let mut world = World::new().await;
            let top = |target, generation| ("top.service", TOP, target, generation);
            world.tell(&[top(Target::Launched, 1), ("base.service", slow, Target::Launched, 1)]).await;
            world.until_active("top.service").await;
            world.tell(&[("base.service", &changed, Target::Launched, 5)]).await;
            tokio::time::sleep(Duration::from_millis(killed_after)).await;
            world.kill().await;
            tokio::time::sleep(Duration::from_secs(5)).await;
            world.start("n1");
            tokio::time::sleep(Duration::from_secs(20)).await;
            let running: Vec<String> = world.host.running().iter().map(ToString::to_string).collect();
            let log = world.host.log();
            assert_eq!(running, ["base.service", "top.service"], "killed after {killed_after} ms: {log:?}");
            assert_eq!(world.order(What::Started).len(), 4, "killed after {killed_after} ms: {log:?}");
        });
    }
}

#[test]
fn a_start_pulls_nothing_back_in_that_is_leaving() {
    run(async {
        let world = World::new().await;
        let slow = "[Service]\nExecStart=/bin/a\n[X-Fake]\nStopSec=5\n";
        world.tell(&[("base.service", slow, Target::Launched, 1), ("top.service", TOP, Target::Loaded, 1)]).await;
        world.until_active("base.service").await;
        world.tell(&[("base.service", slow, Target::Removed, 2), ("top.service", TOP, Target::Launched, 3)]).await;
        world.until("base.service", "gone", |s| s.is_some_and(|s| s.target == Target::Removed)).await;
        let state = world.until("top.service", "refused", |s| s.is_some_and(|s| s.error.is_some())).await.unwrap();
        assert!(state.error.unwrap().contains("base.service"));
        assert_eq!(
            (world.order(What::Started), world.order(What::Stopped)),
            (vec!["base.service".into()], vec!["base.service".into()])
        );
    });
}

#[test]
fn restart_of_the_daemon_touches_nothing() {
    run(async {
        let mut world = World::new().await;
        let oneshot = "[Service]\nType=oneshot\nExecStart=/bin/once\n";
        world.tell(&[("a.service", PLAIN, Target::Launched, 1), ("once.service", oneshot, Target::Launched, 1)]).await;
        world.until_active("a.service").await;
        world.until("once.service", "done", |s| s.is_some_and(|s| s.result == Some(JobResult::Done))).await;
        let (pid, log) = (world.host.main_pid(&unit("a.service")), world.host.log().len());
        for _ in 0..3 {
            world.kill().await;
            world.start("n1");
            tokio::time::sleep(Duration::from_secs(30)).await;
        }
        assert_eq!((world.host.main_pid(&unit("a.service")), world.host.log().len()), (pid, log));
        assert!(world.state("a.service").await.is_some());
    });
}

/// Only the call and the save may come between a start and the record of it; everything else in a pass may be
/// interrupted.
#[test]
fn what_was_started_is_noted_at_once() {
    let latency = Duration::from_secs(2);
    run(async {
        let slow = fake::Options { latency, ..fake::Options::default() };
        let mut world = World { host: Fake::new(slow), ..World::stopped() };
        world.start("n1");
        world.tell(&[("once.service", "[Service]\nType=oneshot\nExecStart=/bin/once\n", Target::Launched, 1)]).await;
        while world.order(What::Starting).is_empty() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        tokio::time::sleep(latency).await;
        world.kill().await;
        world.start("n1");
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(world.order(What::Starting), ["once.service"]);
    });
}

#[test]
fn what_left_the_slice_meanwhile_is_stopped() {
    run(async {
        let mut world = World::new().await;
        world.tell(&[("a.service", PLAIN, Target::Launched, 1)]).await;
        world.until_active("a.service").await;
        world.kill().await;
        world.untell("a.service").await;
        world.start("n1");
        world.until("a.service", "forgotten", |s| s.is_none()).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(world.host.running().is_empty());
    });
}

#[test]
fn a_reboot_brings_the_units_back() {
    run(async {
        let mut world = World::new().await;
        world.tell(&[("a.service", PLAIN, Target::Launched, 1)]).await;
        world.until_active("a.service").await;
        world.kill().await;
        world.host.reboot();
        world.start("n1");
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(world.host.running().contains(&unit("a.service")), "{:?}", world.host.log());
        world.until_active("a.service").await;
    });
}

#[test]
fn one_bad_unit_harms_only_itself() {
    run(async {
        let world = World::new().await;
        let bad = "[Service]\nType=nonsense\n";
        world.tell(&[("bad.service", bad, Target::Launched, 1), ("good.service", PLAIN, Target::Launched, 1)]).await;
        world.until_active("good.service").await;
        let why = "Unit bad.service has a bad unit file setting.";
        world.until("bad.service", "refused", |s| s.is_some_and(|s| s.error.as_deref() == Some(why))).await;
        let calls = world.host.counters();
        assert_eq!((calls.install, calls.remove, calls.stop, calls.reload), (1, 0, 0, 0), "for both at once");
        assert!(world.host.on_disk().contains_key(&unit("bad.service")), "it stays as it was submitted");
        assert_eq!(world.host.running(), [unit("good.service")].into());
    });
}

#[test]
fn a_host_that_was_taken_for_dead_registers_again() {
    run(async {
        let world = World::new().await;
        world.tell(&[("a.service", PLAIN, Target::Launched, 1)]).await;
        world.until_active("a.service").await;
        let machine = Key::Machine(id()).to_string();
        let range = Range { prefix: machine, ..Range::default() };
        let lease: LeaseId = world.store.range(range.clone()).await.unwrap().kvs[0].lease.unwrap();
        world.store.revoke(lease).await.unwrap();
        assert!(world.state("a.service").await.is_none(), "reports vanish with the lease");
        world.until_active("a.service").await;
        assert_ne!(world.store.range(range).await.unwrap().kvs[0].lease, Some(lease));
    });
}

#[test]
fn another_hosts_machine_id_is_refused() {
    run(async {
        let mut world = World::new().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let first = world.daemon.take();
        world.host = Fake::default();
        world.start("clone");
        tokio::time::sleep(Duration::from_secs(1)).await;
        let status = world.daemon.as_ref().unwrap().1.borrow().clone();
        let Status::Away { why, .. } = status else { panic!("{status:?}") };
        assert!(why.contains("n1 (10.0.0.1)") && why.contains("clone (10.0.0.1)"), "{why}");
        drop(first);
    });
}

/// No daemon writes a host's key without a lease: it isn't another live host's, and would never end by itself.
#[test]
fn a_key_of_this_host_that_is_bound_to_no_lease_is_taken_over() {
    run(async {
        let world = World::new().await;
        world.tell(&[("a.service", PLAIN, Target::Launched, 1)]).await;
        world.until_active("a.service").await;
        let other = Machine { ip: "10.9.9.9".into(), since: u64::MAX, ..machine("other") };
        let key = Key::Machine(id());
        world.store.commit(Txn { guards: vec![], ops: vec![put(&key, &other, None)] }).await.unwrap();
        world.tell(&[("b.service", PLAIN, Target::Launched, 2)]).await;
        world.until_active("b.service").await;
        let range = Range { prefix: key.to_string(), ..Range::default() };
        let held = world.store.range(range).await.unwrap().kvs.remove(0);
        let record: Machine = serde_json::from_slice(&held.value).unwrap();
        assert!(held.lease.is_some() && record.hostname == "n1" && record.since < u64::MAX, "{record:?}");
        assert_eq!(world.host.counters().stop, 0);
    });
}

#[test]
fn loaded_is_not_started_and_stop_keeps_the_file() {
    run(async {
        let world = World::new().await;
        world.tell(&[("a.service", PLAIN, Target::Loaded, 1)]).await;
        world
            .until("a.service", "loaded", |s| {
                s.is_some_and(|s| s.target == Target::Loaded && s.load == LoadState::Loaded)
            })
            .await;
        assert!(world.host.running().is_empty());
        world.tell(&[("a.service", PLAIN, Target::Launched, 2)]).await;
        world.until_active("a.service").await;
        world.tell(&[("a.service", PLAIN, Target::Loaded, 3)]).await;
        let loaded = |s: Option<&UnitReport>| {
            s.is_some_and(|s| s.generation == Revision(3) && s.active == ActiveState::Inactive)
        };
        world.until("a.service", "stopped", loaded).await;
        assert_eq!(world.host.counters().written, 1);
    });
}

#[test]
fn a_bus_that_goes_away_is_waited_for() {
    run(async {
        let world = World::new().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.host.go_down();
        world.tell(&[("a.service", PLAIN, Target::Launched, 1)]).await;
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert!(world.host.running().is_empty());
        world.host.come_up();
        world.until_active("a.service").await;
    });
}

/// systemd answers, but refuses to reload: only the units that need a reload wait.
#[test]
fn a_reload_that_is_refused_holds_up_only_those_that_need_it() {
    run(async {
        let world = World::new().await;
        world.tell(&[("old.service", PLAIN, Target::Launched, 1)]).await;
        world.until_active("old.service").await;
        world.host.refuse_reloads(true);
        let enabled = format!("{PLAIN}[Install]\nWantedBy=multi-user.target\n");
        world
            .tell(&[("enabled.service", &enabled, Target::Launched, 2), ("old.service", PLAIN, Target::Removed, 2)])
            .await;
        world.until("enabled.service", "explained", |s| s.is_some_and(|s| s.error.is_some())).await;
        world.tell(&[("plain.service", PLAIN, Target::Launched, 3)]).await;
        world.until_active("plain.service").await;
        world.until("old.service", "gone", |s| s.is_some_and(|s| s.target == Target::Removed)).await;
        tokio::time::sleep(Duration::from_secs(100)).await;
        assert!(!world.host.running().contains(&unit("enabled.service")));
        assert!(world.host.counters().reload < 10, "{}", world.host.counters().reload);
        world.host.refuse_reloads(false);
        let state = world.until_active("enabled.service").await;
        assert_eq!(state.error, None);
    });
}

#[test]
fn a_damaged_file_in_the_store_is_said_and_harms_nothing() {
    run(async {
        let world = World::new().await;
        let hash = UnitHash::new("0123456789012345678901234567890123456789");
        let entry = Assignment::new(hash, Target::Launched, Revision(1));
        let ops = vec![put(&Key::Schedule(id(), unit("ghost.service")), &entry, None)];
        world.store.commit(Txn { guards: vec![], ops }).await.unwrap();
        world.tell(&[("a.service", PLAIN, Target::Launched, 1)]).await;
        world.until_active("a.service").await;
        let state = world.until("ghost.service", "explained", |s| s.is_some_and(|s| s.error.is_some())).await.unwrap();
        assert!(state.error.unwrap().contains("not in the store"));
    });
}

/// As a later version may write it: the assignment would stop the unit, but it can't be understood.
#[test]
fn an_assignment_with_a_hash_by_an_unknown_algorithm_leaves_the_unit_as_it_is() {
    run(async {
        let world = World::new().await;
        world.tell(&[("a.service", PLAIN, Target::Launched, 1)]).await;
        world.until_active("a.service").await;
        let key = Key::Schedule(id(), unit("a.service")).to_string();
        let value = r#"{"hash":"sha256:9f86d081","target":"gone","generation":2}"#;
        let ops = vec![Op::Put { key, value: value.as_bytes().into(), lease: None }];
        world.store.commit(Txn { guards: vec![], ops }).await.unwrap();
        world.tell(&[("b.service", PLAIN, Target::Launched, 3)]).await;
        world.until_active("b.service").await;
        assert_eq!(world.until_active("a.service").await.generation, Revision(1));
        assert!(world.host.on_disk().contains_key(&unit("a.service")));
    });
}

/// A record whose file doesn't match its key, after a manual change in the store: the unit is held, its report says so,
/// the pass ends, and no other unit of the host waits for it.
#[test]
fn a_file_of_another_hash_in_the_store_is_never_installed_and_holds_up_nothing() {
    run(async {
        let world = World::new().await;
        world.tell(&[("old.service", PLAIN, Target::Launched, 1)]).await;
        world.until_active("old.service").await;
        let new = "[Service]\nExecStart=/bin/new\n";
        let hash = UnitFile::parse(new.as_bytes()).unwrap().hash();
        let key = Key::File(hash.clone());
        let spoil = put(&key, &FileRecord { text: "[Service]\nExecStart=/bin/other\n".into() }, None);
        let entry = |name: &str, generation| {
            let (hash, generation) = (hash.clone(), Revision(generation));
            let entry = Assignment::new(hash, Target::Launched, generation);
            put(&Key::Schedule(id(), unit(name)), &entry, None)
        };
        let ops = vec![spoil, entry("new.service", 2), entry("old.service", 2)];
        world.store.commit(Txn { guards: vec![], ops }).await.unwrap();
        for name in ["new.service", "old.service"] {
            let explained = |s: Option<&UnitReport>| s.is_some_and(|s| s.error.is_some());
            let error = world.until(name, "explained", explained).await.unwrap().error.unwrap();
            assert!(error.contains(&key.to_string()), "{error}");
        }
        world.tell(&[("a.service", PLAIN, Target::Launched, 3)]).await;
        world.until_active("a.service").await;
        let counters = world.host.counters();
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(world.host.counters(), counters, "nothing is tried again and again");
        assert!(!world.host.on_disk().contains_key(&unit("new.service")));
        world.tell(&[("new.service", new, Target::Launched, 4)]).await;
        assert_eq!(world.until_active("new.service").await.error, None);
    });
}

/// The daemon can't write its own files: this is reported, and not that systemd is unreachable.
#[test]
fn a_full_run_directory_is_called_by_its_name() {
    run(async {
        let world = World::new().await;
        world.tell(&[("a.service", PLAIN, Target::Launched, 1)]).await;
        world.until_active("a.service").await;
        world.host.fill_disk(true);
        assert!(world.host.crash(&unit("a.service")));
        world.until("a.service", "failed", |s| s.is_some_and(|s| s.active == ActiveState::Failed)).await;
        world.restart("a.service", PLAIN, 5).await;
        world.until_active("a.service").await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        let status = world.daemon.as_ref().unwrap().1.borrow().clone();
        let Status::Present { unreachable: Some(Unreachable::Files { why, .. }), .. } = status else {
            panic!("{status:?}")
        };
        let named = why.starts_with("cannot write boot file ") && why.ends_with(".json: No space left on device");
        assert!(named, "{why}");
        world.host.fill_disk(false);
        tokio::time::sleep(Duration::from_secs(5)).await;
        let status = world.daemon.as_ref().unwrap().1.borrow().clone();
        assert!(matches!(status, Status::Present { unreachable: None, settled: true, .. }), "{status:?}");
    });
}

/// A host registers with the version of its systemd beside what the daemon has found, and no unit is needed for that.
#[test]
fn a_host_reports_its_systemd() {
    run(async {
        let mut world = World::new().await;
        world.kill().await;
        let builtin = [("@arch".to_owned(), "arm64".to_owned())].into();
        world.start_as(Machine { builtin, ..machine("n1") });
        tokio::time::sleep(Duration::from_secs(3)).await;
        let reported = world.machine().await.builtin.into_iter().collect::<Vec<_>>();
        assert_eq!(reported, [("@arch".into(), "arm64".into()), ("@systemd".into(), "257".to_owned())]);
    });
}

/// The times since when a unit is in its state and its host is registered don't change with a new daemon.
#[test]
fn since_outlives_the_daemon() {
    run(async {
        let mut world = World::new().await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        world.tell(&[("a.service", PLAIN, Target::Launched, 1)]).await;
        let began = world.until_active("a.service").await.since;
        assert!((3000..4000).contains(&began), "{began}");
        let registered = world.machine().await.since;
        assert!(registered < 1000, "{registered}");
        for _ in 0..2 {
            world.kill().await;
            tokio::time::sleep(Duration::from_secs(5)).await;
            world.start("n1");
            tokio::time::sleep(Duration::from_secs(60)).await;
            assert_eq!(world.until_active("a.service").await.since, began);
            assert_eq!(world.machine().await.since, registered);
        }
        let before = world.clock.now_ms();
        assert!(world.host.crash(&unit("a.service")));
        let failed = |s: Option<&UnitReport>| s.is_some_and(|s| s.active == ActiveState::Failed);
        let since = world.until("a.service", "failed", failed).await.unwrap().since;
        assert!((before..before + 1000).contains(&since), "{since}, and it crashed at {before}");
        // After its lease has expired it registers again, and its presence begins then.
        let lease = presence(&world.store).await.unwrap();
        world.store.revoke(lease).await.unwrap();
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(world.machine().await.since > registered);
    });
}

/// A time that is still to come can't be right: it was noted while the clock was ahead. The next daemon corrects it.
#[test]
fn a_daemon_corrects_the_times_that_one_with_a_clock_ahead_has_told() {
    static AHEAD: AtomicI64 = AtomicI64::new(0);
    run(async {
        let mut world = World::stopped();
        world.clock = world.clock.set_by(&AHEAD);
        AHEAD.store(60_000, Ordering::Relaxed);
        world.start("n1");
        world.tell(&[("a.service", PLAIN, Target::Launched, 1)]).await;
        let (told, registered) = (world.until_active("a.service").await.since, world.machine().await.since);
        assert!(told.min(registered) >= 60_000, "{told}, {registered}");
        // Without another daemon, nothing changes.
        AHEAD.store(0, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(world.until_active("a.service").await.since, told);
        world.kill().await;
        let again = world.clock.now_ms();
        world.start("n1");
        tokio::time::sleep(Duration::from_secs(5)).await;
        let (told, registered) = (world.until_active("a.service").await.since, world.machine().await.since);
        assert!((again..again + 5000).contains(&told.min(registered)), "{again}: {told}, {registered}");
        assert!((again..again + 5000).contains(&told.max(registered)), "{again}: {told}, {registered}");
        assert_eq!(world.order(What::Starting).len(), 1, "{:?}", world.host.log());
    });
}

/// The daemon can't save that it has restarted a unit; its report in the store shows it.
#[test]
fn a_restart_that_could_not_be_saved_is_not_done_again() {
    run(async {
        let mut world = World::new().await;
        world.tell(&[("a.service", PLAIN, Target::Launched, 1)]).await;
        world.until_active("a.service").await;
        world.host.fill_disk(true);
        world.restart("a.service", PLAIN, 5).await;
        let done =
            |s: Option<&UnitReport>| s.is_some_and(|s| s.generation == Revision(5) && s.active == ActiveState::Active);
        world.until("a.service", "restarted", done).await;
        let pid = world.host.main_pid(&unit("a.service"));
        for full in [true, false, false] {
            world.kill().await;
            world.host.fill_disk(full);
            world.start("n1");
            tokio::time::sleep(Duration::from_secs(20)).await;
            world.until("a.service", "restarted", done).await;
            assert_eq!(world.host.main_pid(&unit("a.service")), pid, "full: {full}; {:?}", world.host.log());
        }
        // After a reboot, the report of the previous boot doesn't apply.
        world.kill().await;
        world.host.reboot();
        world.start("n1");
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(world.host.running().contains(&unit("a.service")));
    });
}

/// A daemon that can't save that it has a unit dies, and the unit leaves meanwhile. The lease lives on, and with it the
/// report, which the next daemon deletes.
#[test]
fn what_was_reported_and_could_not_be_saved_is_forgotten_in_the_store_too() {
    run(async {
        let mut world = World::new().await;
        world.lead("2").await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.host.fill_disk(true);
        world.tell(&[("a.service", PLAIN, Target::Launched, 1), ("b.service", PLAIN, Target::Launched, 1)]).await;
        for name in ["a.service", "b.service"] {
            world.until(name, "refused", |s| s.is_some_and(|s| s.error.is_some())).await;
        }
        world.kill().await;
        world.untell("a.service").await;
        world.start("n1");
        world.until("a.service", "forgotten", |s| s.is_none()).await;
        assert!(world.state("b.service").await.is_some(), "it is still assigned");
        world.host.fill_disk(false);
        world.until_active("b.service").await;
        assert_eq!(world.order(What::Starting), ["b.service"]);
    });
}

/// A store that was restored from a backup has the report of a unit that had left its host by then.
#[test]
fn what_a_restored_store_has_reports_of_and_nobody_knows_is_forgotten_again() {
    run(async {
        let world = World::new().await;
        world.lead("2").await;
        world.tell(&[("a.service", PLAIN, Target::Launched, 1)]).await;
        world.until_active("a.service").await;
        world.tell(&[("a.service", PLAIN, Target::Removed, 2)]).await;
        world.until("a.service", "gone", |s| s.is_some_and(|s| s.target == Target::Removed)).await;
        world.untell("a.service").await;
        let backup = world.store.backup();
        world.until("a.service", "forgotten", |s| s.is_none()).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.store.restore(&backup, Counter::GoesBack);
        assert!(world.state("a.service").await.is_some());
        world.until("a.service", "forgotten", |s| s.is_none()).await;
    });
}

/// The leader deletes the assignments of a host that it treats as dead, and writes them again when the host is back. A
/// unit that can run nowhere else isn't touched meanwhile.
#[test]
fn a_host_that_returns_restarts_nothing_that_ran_nowhere_else() {
    for (leader_takes, is_held_back) in [(0, false), (20, false), (5000, false), (5000, true)] {
        run(async {
            let mut world = World::new().await;
            let global = "[Service]\nExecStart=/bin/g\n[X-Fleet]\nGlobal=true\n";
            let pinned = format!("[Service]\nExecStart=/bin/p\n[X-Fleet]\nMachineID={ID}\n");
            let units = [("g.service", global), ("moved.service", PLAIN), ("p.service", pinned.as_str())];
            for (name, text) in units {
                world.tell(&[(name, text, Target::Launched, 1)]).await;
                let wanted =
                    Unit::new(Desired::Launched, UnitFile::parse(text.as_bytes()).unwrap().hash(), Revision(1));
                let ops = vec![put(&Key::Unit(unit(name)), &wanted, None)];
                world.store.commit(Txn { guards: vec![], ops }).await.unwrap();
                world.until_active(name).await;
            }
            if is_held_back {
                // It is asked for another file, which its rollout hasn't let through to this host.
                let (name, new) = (unit("g.service"), UnitHash::new("new"));
                let old = File { hash: UnitFile::parse(global.as_bytes()).unwrap().hash(), text: None };
                let gate = Gate::new(&name, &new, old.held(Revision(1), None), Revision(2));
                let gate = Gate { hosts: Some(Box::default()), ..gate };
                let wanted = Unit::new(Desired::Launched, new, Revision(2));
                let ops = vec![put(&Key::Unit(name.clone()), &wanted, None), put(&Key::Gate(name), &gate, None)];
                world.store.commit(Txn { guards: vec![], ops }).await.unwrap();
            }
            let pid = |world: &World, name: &str| world.host.main_pid(&unit(name));
            let before = [pid(&world, "g.service"), pid(&world, "p.service")];
            world.kill().await;
            tokio::time::sleep(TTL * 2).await;
            assert_eq!(presence(&world.store).await, None, "it was taken for dead");
            let ops = units.map(|(name, _)| delete(&Key::Schedule(id(), unit(name)))).to_vec();
            world.store.commit(Txn { guards: vec![], ops }).await.unwrap();
            world.start("n1");
            tokio::time::sleep(Duration::from_millis(leader_takes)).await;
            world
                .tell(&[("g.service", global, Target::Launched, 1), ("p.service", &pinned, Target::Launched, 1)])
                .await;
            world.until("moved.service", "gone", |state| state.is_none()).await;
            for name in ["g.service", "p.service"] {
                world.until_active(name).await;
            }
            tokio::time::sleep(TTL * 5).await;
            assert_eq!([pid(&world, "g.service"), pid(&world, "p.service")], before, "{:?}", world.host.log());
            assert_eq!(pid(&world, "moved.service"), None);
        });
    }
}

#[test]
fn a_changed_machine_id_ends_the_old_identity_and_a_refused_host_keeps_nothing_alive() {
    run(async {
        let mut world = World::new().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.kill().await;
        // The same host, with an identity that belongs to another.
        let other: MachineId = "00000000000000000000000000000001".parse().unwrap();
        let theirs = Machine { id: other.clone(), ip: "10.0.0.9".into(), ..machine("n9") };
        let lease = world.store.grant(TTL * 10).await.unwrap();
        let ops = vec![put(&Key::Machine(other.clone()), &theirs, Some(lease))];
        world.store.commit(Txn { guards: vec![], ops }).await.unwrap();
        let options = Options {
            machine: Machine { id: other.clone(), ..machine("n1") },
            ttl: TTL,
            alone: false,
            clock: Clock::simulated(0),
        };
        let (agent, status) = Agent::new(world.store.clone(), world.host.clone(), options);
        let task = tokio::spawn(agent.run(CancellationToken::new()));
        tokio::time::sleep(TTL * 3).await;
        assert!(matches!(&*status.borrow(), Status::Away { why, .. } if why.contains("another live host")));
        let range = Range { prefix: "machine/".into(), ..Range::default() };
        let alive = world.store.range(range).await.unwrap().kvs;
        assert_eq!(alive.iter().map(|kv| kv.key.clone()).collect::<Vec<_>>(), [Key::Machine(other).to_string()]);
        task.abort();
    });
}

#[test]
fn reports_are_written_in_the_format_that_the_leader_publishes() {
    run(async {
        let mut world = World::new().await;
        world.tell(&[("a.service", PLAIN, Target::Launched, 1), ("b.service", PLAIN, Target::Launched, 1)]).await;
        let reported = world.until_active("a.service").await;
        let (unit_first, host_first) = (format!("state/a.service/{ID}"), format!("state/{ID}/a.service"));
        // There is no leader yet; and a leader of an older version publishes no format.
        assert_eq!(world.state_key("a.service").await, unit_first);
        for (format, expected) in [("2", &host_first), ("1", &unit_first), ("3", &host_first)] {
            world.lead(format).await;
            assert_eq!(world.state_key("a.service").await, *expected, "format {format}");
            assert_eq!(world.state("a.service").await, Some(reported.clone()));
            // A restarted daemon continues in that format, with the reports of the earlier one.
            world.kill().await;
            let before = world.revision().await;
            world.start("n1");
            assert_eq!(world.state_key("a.service").await, *expected, "format {format}, restarted");
            assert!(world.revision().await - before <= 2, "the host's key and its reports are written once each");
        }
        world.untell("b.service").await;
        world.until("b.service", "forgotten", |report| report.is_none()).await;
        assert_eq!(world.order(What::Stopped), ["b.service"]);
    });
}

/// A store that permits a host to write its own keys, in the current format, and no others, as a role in etcd does; and
/// the reads of it.
#[derive(Debug, Clone)]
struct Limited(Embedded, Arc<Mutex<Vec<String>>>);

impl Limited {
    /// How many reads of a report in the first format there were since the last call.
    fn asked_for_unit_first(&self) -> usize {
        let reads = std::mem::take(&mut *self.1.lock().unwrap());
        reads.iter().filter(|key| key.ends_with(&format!(".service/{ID}"))).count()
    }
}

impl Store for Limited {
    async fn range(&self, range: Range) -> Result<Page, Error> {
        self.1.lock().unwrap().push(range.prefix.clone());
        self.0.range(range).await
    }

    async fn commit(&self, txn: Txn) -> Result<Revision, Error> {
        let (machine, reports) = (format!("machine/{ID}"), format!("state/{ID}/"));
        let permits = |key: &str| key == machine || key.starts_with(&reports);
        let refused = txn.ops.iter().find(|op| match op {
            Op::Put { key, .. } | Op::Delete(key) => !permits(key),
        });
        refused.map_or(Ok(()), |op| Err(Error::Refused(format!("permission denied: {op:?}"))))?;
        self.0.commit(txn).await
    }

    fn watch(&self, prefix: &str, from: Revision) -> Watch {
        self.0.watch(prefix, from)
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, Error> {
        self.0.grant(ttl).await
    }

    async fn keep_alive(&self, lease: LeaseId, within: Duration) -> Result<Duration, Error> {
        self.0.keep_alive(lease, within).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), Error> {
        self.0.revoke(lease).await
    }
}

#[test]
fn a_host_writes_no_keys_but_its_own() {
    run(async {
        let mut world = World::stopped();
        world.lead("2").await;
        let store = Limited(world.store.clone(), Arc::default());
        for generation in [1, 3] {
            let options = Options { machine: machine("n1"), ttl: TTL, alone: false, clock: world.clock };
            let (agent, status) = Agent::new(store.clone(), world.host.clone(), options);
            world.daemon = Some((tokio::spawn(agent.run(CancellationToken::new())), status));
            let units = [("a.service", PLAIN, Target::Launched, generation), ("b.service", PLAIN, Target::Loaded, 1)];
            world.tell(&units).await;
            world.until("a.service", "reported", |s| s.is_some_and(|s| s.generation == Revision(generation))).await;
            world.untell("b.service").await;
            world.until("b.service", "forgotten", |report| report.is_none()).await;
            // With a new lease nothing can have been reported in another form. With the lease of another daemon, each
            // unit is read once, and when a restarted daemon reads its own reports.
            assert_eq!(store.asked_for_unit_first(), if generation == 1 { 0 } else { 3 }, "generation {generation}");
            world.kill().await;
        }
        assert_eq!(world.state_key("a.service").await, format!("state/{ID}/a.service"));
    });
}

/// Each unit has a file of its own, and they lie close together in the store.
#[test]
fn many_files_are_read_at_once() {
    run(async {
        let mut world = World::stopped();
        world.lead("2").await;
        let units: Vec<(String, String)> =
            (0..60).map(|n| (format!("u{n}.service"), format!("{PLAIN}Environment=N={n}\n"))).collect();
        let told: Vec<_> = units.iter().map(|(name, text)| (&**name, &**text, Target::Launched, 1)).collect();
        world.tell(&told).await;
        let store = Limited(world.store.clone(), Arc::default());
        let options = Options { machine: machine("n1"), ttl: TTL, alone: false, clock: world.clock };
        let (agent, status) = Agent::new(store.clone(), world.host.clone(), options);
        world.daemon = Some((tokio::spawn(agent.run(CancellationToken::new())), status));
        for (name, _) in &units {
            world.until_active(name).await;
        }
        let reads = std::mem::take(&mut *store.1.lock().unwrap());
        let of_files = reads.iter().filter(|prefix| prefix.starts_with(keys::FILES)).count();
        assert!((1..=3).contains(&of_files), "{of_files} reads of files for 60 units");
    });
}

/// A store in which the leader's key can't be read any more once the flag is set.
#[derive(Debug, Clone)]
struct WithoutLeader(Embedded, watch::Receiver<bool>);

impl Store for WithoutLeader {
    async fn range(&self, range: Range) -> Result<Page, Error> {
        if range.prefix == keys::LEADER && *self.1.borrow() {
            return Err(Error::Unavailable("the leader's key can't be read".into()));
        }
        self.0.range(range).await
    }

    async fn commit(&self, txn: Txn) -> Result<Revision, Error> {
        self.0.commit(txn).await
    }

    fn watch(&self, prefix: &str, from: Revision) -> Watch {
        if prefix != keys::LEADER {
            return self.0.watch(prefix, from);
        }
        let (batches, watch) = mpsc::channel(1);
        let mut fails = self.1.clone();
        tokio::spawn(async move {
            let _ = fails.wait_for(|fails| *fails).await;
            let _ = batches.send(Err(Error::Unavailable("the watch of the leader's key has ended".into()))).await;
        });
        Watch::new(watch)
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, Error> {
        self.0.grant(ttl).await
    }

    async fn keep_alive(&self, lease: LeaseId, within: Duration) -> Result<Duration, Error> {
        self.0.keep_alive(lease, within).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), Error> {
        self.0.revoke(lease).await
    }
}

#[test]
fn assignments_dont_wait_while_the_leaders_key_cant_be_read() {
    run(async {
        let mut world = World::stopped();
        let options = Options { machine: machine("n1"), ttl: TTL, alone: false, clock: world.clock };
        let (fails, are_failing) = watch::channel(false);
        let store = WithoutLeader(world.store.clone(), are_failing);
        let (agent, status) = Agent::new(store, world.host.clone(), options);
        world.daemon = Some((tokio::spawn(agent.run(CancellationToken::new())), status));
        tokio::time::sleep(Duration::from_secs(1)).await;
        fails.send_replace(true);
        // The pauses between the attempts to read the leader's key become long.
        tokio::time::sleep(Duration::from_secs(60)).await;
        for generation in 1..=20 {
            world.tell(&[("a.service", PLAIN, Target::Loaded, generation)]).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
            let reported = world.state("a.service").await.map(|state| state.generation);
            assert_eq!(reported, Some(Revision(generation)));
            tokio::time::sleep(Duration::from_millis(230)).await;
        }
    });
}

/// The keys of reports that an older version doesn't know are bound to a lease that it can't adopt.
#[test]
fn a_downgraded_daemon_takes_a_new_lease_and_an_upgraded_one_adopts_it() {
    run(async {
        let mut world = World::new().await;
        world.lead("2").await;
        world.tell(&[("a.service", PLAIN, Target::Launched, 1)]).await;
        world.until_active("a.service").await;
        let lease = world.state_keys("a.service").await[0].lease;
        world.kill().await;
        world.start_as(Machine { format: Format::FIRST, ..machine("n1") });
        // It reports in its own format, although the leader hasn't seen it yet. Its report replaces the other one.
        assert_eq!(world.state_key("a.service").await, format!("state/a.service/{ID}"));
        let older = world.state_keys("a.service").await[0].lease;
        assert_ne!(older, lease);
        world.kill().await;
        world.start("n1");
        assert_eq!(world.state_key("a.service").await, format!("state/{ID}/a.service"));
        assert_eq!(world.state_keys("a.service").await[0].lease, older, "its presence continues");
        assert_eq!(world.order(What::Started), ["a.service"]);
    });
}

/// A report that was published and not saved is found under either key.
#[test]
fn a_restart_that_was_reported_under_the_older_key_is_not_repeated() {
    run(async {
        let mut world = World::new().await;
        world.tell(&[("a.service", PLAIN, Target::Launched, 1)]).await;
        world.until_active("a.service").await;
        world.host.fill_disk(true);
        world.restart("a.service", PLAIN, 5).await;
        world.until("a.service", "restarted", |s| s.is_some_and(|s| s.generation == Revision(5))).await;
        assert!(world.state_keys("a.service").await[0].key.starts_with("state/a.service/"));
        world.kill().await;
        world.host.fill_disk(false);
        world.lead("2").await;
        world.start("n1");
        assert_eq!(world.state_key("a.service").await, format!("state/{ID}/a.service"));
        assert_eq!(world.order(What::Started), ["a.service", "a.service"]);
    });
}

#[test]
fn a_store_that_lost_its_data_stops_nothing() {
    run(async {
        let mut world = World::new().await;
        for (generation, name) in [(1, "x.service"), (2, "x.service"), (3, "a.service")] {
            world.tell(&[(name, PLAIN, Target::Launched, generation)]).await;
            world.until_active(name).await;
        }
        let pids = |world: &World| ["a.service", "x.service"].map(|name| world.host.main_pid(&unit(name)));
        let before = pids(&world);
        // A new, empty etcd at the same address, and two daemons that use it one after the other.
        world.kill().await;
        world.store = Embedded::in_memory();
        for _ in 0..2 {
            world.start("n1");
            tokio::time::sleep(Duration::from_secs(60)).await;
            assert_eq!(pids(&world), before, "{:?}", world.host.log());
            world.kill().await;
        }
        world.start("n1");
        // Submitted again, the running unit is adopted, and can be stopped.
        world.tell(&[("a.service", PLAIN, Target::Launched, 1)]).await;
        world.until_active("a.service").await;
        assert_eq!(pids(&world), before);
        world.tell(&[("a.service", PLAIN, Target::Removed, 2)]).await;
        world.until("a.service", "gone", |s| s.is_some_and(|s| s.target == Target::Removed)).await;
        assert_eq!(world.host.running().len(), 1, "x.service goes on");
    });
}

/// Units that the store has lost keep running. A unit that the store has again is like any other: if it was moved away
/// while this host was cut off, it is stopped here.
#[test]
fn after_a_loss_only_what_was_forgotten_then_is_left_alone() {
    run(async {
        let mut world = World::new().await;
        for (generation, name) in [(1, "x.service"), (2, "x.service"), (3, "a.service")] {
            world.tell(&[(name, PLAIN, Target::Launched, generation)]).await;
            world.until_active(name).await;
        }
        world.kill().await;
        world.store = Embedded::in_memory();
        world.start("n1");
        tokio::time::sleep(Duration::from_secs(60)).await;
        world.tell(&[("a.service", PLAIN, Target::Launched, 1), ("new.service", PLAIN, Target::Launched, 1)]).await;
        world.until_active("a.service").await;
        world.until_active("new.service").await;
        let running = |world: &World| world.host.running().iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(running(&world), ["a.service", "new.service", "x.service"]);
        world.untell("new.service").await;
        world.until("new.service", "forgotten", |state| state.is_none()).await;
        world.kill().await;
        world.untell("a.service").await;
        for _ in 0..2 {
            world.start("n1");
            tokio::time::sleep(Duration::from_secs(60)).await;
            assert_eq!(running(&world), ["x.service"]);
            world.kill().await;
        }
    });
}

/// It is a foreign unit, and thus not one that is about to leave.
#[test]
fn a_unit_that_needs_one_that_was_here_before_is_started() {
    run(async {
        let mut world = World::stopped();
        world.host.install(vec![(unit("base.service"), PLAIN.into())]).await;
        world.host.start(vec![unit("base.service")]).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let pid = world.host.main_pid(&unit("base.service"));
        world.start("n1");
        world.tell(&[("top.service", TOP, Target::Launched, 5)]).await;
        world.until_active("top.service").await;
        assert_eq!(world.host.main_pid(&unit("base.service")), pid);
    });
}

/// The remaining keys of the host's presence.
async fn presence(store: &Embedded) -> Option<LeaseId> {
    let range = Range { prefix: Key::Machine(id()).to_string(), ..Range::default() };
    store.range(range).await.unwrap().kvs.first().and_then(|kv| kv.lease)
}

/// An agent that can be stopped.
fn stoppable(world: &World) -> (JoinHandle<()>, CancellationToken, watch::Receiver<Status>) {
    let options = Options { machine: machine("n1"), ttl: TTL, alone: false, clock: Clock::simulated(0) };
    let (agent, status) = Agent::new(world.store.clone(), world.host.clone(), options);
    let stop = CancellationToken::new();
    (tokio::spawn(agent.run(stop.clone())), stop, status)
}

/// The agent waits for the store for as long as it takes, and a daemon may be started meanwhile.
#[tokio::test(start_paused = true)]
async fn a_host_answers_for_its_units_without_its_store_and_its_agent() {
    let mut world = World::new().await;
    world.tell(&[("a.service", PLAIN, Target::Launched, 5), ("b.service", PLAIN, Target::Loaded, 6)]).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    world.kill().await;
    let view = flotilla::agent::look(&world.host, machine("n1"), 9000).await.unwrap();
    let report = |name: &str| view.cluster.report(&unit(name), &id()).unwrap();
    let (a, b) = (report("a.service"), report("b.service"));
    assert_eq!((a.active.as_str(), a.target, a.generation), ("active", Target::Launched, Revision(5)));
    assert_eq!((b.active.as_str(), b.target, b.generation), ("inactive", Target::Loaded, Revision(6)));
    assert!(a.since < 9000, "as the agent saved it: {a:?}");
    assert_eq!(view.cluster.units[&unit("b.service")].desired, Desired::Loaded);
    assert!(view.texts.len() == 2 && view.texts.values().all(|text| text == PLAIN), "{:?}", view.texts);
}

const SLOW_STOP: &str = "[Service]\nExecStart=/bin/sleep 1000\n[X-Fake]\nStopSec=40\n";

/// Its lease lives, and it has nothing to report.
#[tokio::test(start_paused = true)]
async fn a_host_writes_its_key_again_when_the_store_was_restored() {
    let mut world = World::new().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let backup = world.store.backup();
    world.kill().await;
    world.start_as(Machine { version: "later".into(), ..machine("n1") });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.machine().await.version, "later");
    world.store.restore(&backup, Counter::GoesBack);
    assert_eq!(world.machine().await.version, "test");
    tokio::time::sleep(TTL).await;
    assert_eq!(world.machine().await.version, "later");
}

#[tokio::test(start_paused = true)]
async fn a_stopped_daemon_leaves_units_and_presence() {
    let mut world = World::new().await;
    world.kill().await;
    let (task, stop, _) = stoppable(&world);
    world.tell(&[("a.service", SLOW_STOP, Target::Launched, 5)]).await;
    world.until("a.service", "active", |state| state.is_some_and(|state| state.active == ActiveState::Active)).await;
    stop.cancel();
    task.await.unwrap();
    assert!(presence(&world.store).await.is_some());
    assert_eq!(world.host.unit(&unit("a.service")).active, ActiveState::Active);
}

/// The presence ends soon after the last unit has stopped, however long that takes.
#[tokio::test(start_paused = true)]
async fn a_host_that_goes_down_leaves_the_cluster_when_its_units_have_stopped() {
    let mut world = World::new().await;
    world.kill().await;
    let (task, stop, status) = stoppable(&world);
    world.tell(&[("a.service", SLOW_STOP, Target::Launched, 5)]).await;
    world.until("a.service", "active", |state| state.is_some_and(|state| state.active == ActiveState::Active)).await;
    world.host.shut_down();
    stop.cancel();
    let begun = tokio::time::Instant::now();
    while !task.is_finished() {
        let up = world.host.unit(&unit("a.service")).active.is_up();
        assert!(!up || presence(&world.store).await.is_some(), "gone after {:?}, while a unit runs", begun.elapsed());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(*status.borrow(), Status::Leaving { units: 1 });
    assert_eq!(presence(&world.store).await, None);
    assert!(begun.elapsed() > TTL && begun.elapsed() < Duration::from_secs(42), "{:?}", begun.elapsed());
}

/// A unit that the shutdown doesn't stop may run until the power is off: it must not be started elsewhere before the
/// lease has expired.
#[tokio::test(start_paused = true)]
async fn a_unit_that_does_not_stop_with_the_system_keeps_its_host_registered() {
    let mut world = World::new().await;
    world.kill().await;
    let (task, stop, _) = stoppable(&world);
    world.tell(&[("a.service", SLOW_STOP, Target::Launched, 5)]).await;
    world.until("a.service", "active", |state| state.is_some_and(|state| state.active == ActiveState::Active)).await;
    world.host.shut_down_but(&[unit("a.service")]);
    stop.cancel();
    task.await.unwrap();
    assert!(presence(&world.store).await.is_some());
}

/// Its start, which never ends, isn't a stop for which the daemon would wait.
#[tokio::test(start_paused = true)]
async fn a_unit_whose_start_hangs_does_not_stop_with_the_system_either() {
    let mut world = World::new().await;
    world.kill().await;
    let (task, stop, _) = stoppable(&world);
    let hangs = "[Service]\nType=notify\nExecStart=/bin/a\n[X-Fake]\nOutcome=hang\n";
    world.tell(&[("a.service", hangs, Target::Launched, 5)]).await;
    let hanging = |state: Option<&UnitReport>| state.is_some_and(|state| state.active == ActiveState::Activating);
    world.until("a.service", "activating", hanging).await;
    world.host.shut_down_but(&[unit("a.service")]);
    stop.cancel();
    tokio::time::timeout(TTL * 4, task).await.unwrap().unwrap();
    assert!(presence(&world.store).await.is_some());
}

/// The new TTL needs a new lease; all keys of the old one are bound to the new one before the old one ends.
#[tokio::test(start_paused = true)]
async fn another_ttl_takes_effect_with_the_next_daemon_and_nothing_blinks() {
    let mut world = World::new().await;
    world.tell(&[("a.service", SLOW_STOP, Target::Launched, 5)]).await;
    world.until("a.service", "active", |state| state.is_some_and(|state| state.active == ActiveState::Active)).await;
    let before = presence(&world.store).await.unwrap();
    world.kill().await;
    let options = Options { machine: machine("n1"), ttl: TTL * 6, alone: false, clock: Clock::simulated(0) };
    let (agent, _status) = Agent::new(world.store.clone(), world.host.clone(), options);
    tokio::spawn(agent.run(CancellationToken::new()));
    for second in 0..60 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(presence(&world.store).await.is_some(), "after {second} s");
        assert!(world.state("a.service").await.is_some(), "after {second} s");
    }
    let after = presence(&world.store).await.unwrap();
    assert_ne!(before, after);
    assert_eq!(world.store.keep_alive(after, TTL).await, Ok(TTL * 6));
    assert!(world.store.keep_alive(before, TTL).await.is_err());
}
