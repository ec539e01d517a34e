//! The engine with the embedded store: what it writes and logs, and what it does when a commit is refused, lost or
//! late. The test plays the hosts and the API, key by key; time is paused unless a test says otherwise.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

#[path = "support/log_line.rs"]
mod log_line;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flotilla::clock::Clock;
use flotilla::engine::{Brake, Braked, Engine, Options, Status};
use flotilla::metrics::Metrics;
use flotilla::model::file::UnitFile;
use flotilla::model::format::{Format, ReportKeyForm};
use flotilla::model::history::History;
use flotilla::model::machine::{KnownHost, Machine};
use flotilla::model::name::{MachineId, UnitName};
use flotilla::model::revision::Revision;
use flotilla::model::unit::{Assignment, Desired, Move, Placement, Target, Unit};
use flotilla::registry::keys::Key;
use flotilla::registry::records::file::FileRecord;
use flotilla::registry::records::leader::LeaderRecord;
use flotilla::registry::sight::{LastSeen, Sight};
use flotilla::registry::{decode, delete, put};
use flotilla::store::embedded::{Backup, Counter, Embedded};
use flotilla::store::{Error, Kv, LeaseId, Op, Page, Range, Store, Txn, Watch};
use log_line::LogLine;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Metadata, Subscriber};

const TTL: Duration = Duration::from_secs(10);

/// The time at which every test begins, ms since the epoch.
const BEGIN: u64 = 1_000_000_000;

/// What happens to a commit that places a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Refused, as if the record had changed meanwhile.
    Conflict,
    /// Done, and the answer is lost.
    Lost,
    /// Not done, and not answered either: it may still be done later.
    Late,
    /// The store is restored from the last backup before it arrives.
    Restored,
}

/// The store as the engine sees it.
#[derive(Clone)]
struct Line {
    store: Embedded,
    fates: Arc<Mutex<VecDeque<Fate>>>,
    late: Arc<Mutex<Vec<Txn>>>,
    backup: Arc<Mutex<Option<Backup>>>,
    /// From this time, no lease is renewed any more: the store reports that they have ended.
    leases_end: Arc<Mutex<Option<Instant>>>,
    /// Whether nothing is answered, and watches break.
    away: watch::Sender<bool>,
}

impl Line {
    fn reach(&self) -> Result<&Embedded, Error> {
        if *self.away.borrow() { Err(Error::Unavailable("connection refused".into())) } else { Ok(&self.store) }
    }
}

impl Store for Line {
    async fn range(&self, range: Range) -> Result<Page, Error> {
        self.reach()?.range(range).await
    }

    async fn commit(&self, txn: Txn) -> Result<Revision, Error> {
        self.reach()?;
        let places = format!("{:?}", txn.ops).contains("placement/");
        let fate = if places { self.fates.lock().unwrap().pop_front() } else { None };
        let silent = || Error::Unavailable("no answer".into());
        match fate {
            None => self.store.commit(txn).await,
            Some(Fate::Conflict) => Err(Error::Conflict),
            Some(Fate::Lost) => self.store.commit(txn).await.and(Err(silent())),
            Some(Fate::Restored) => {
                let backup = self.backup.lock().unwrap().take().unwrap();
                self.store.restore(&backup, Counter::GoesBack);
                self.store.commit(txn).await
            }
            Some(Fate::Late) => {
                self.late.lock().unwrap().push(txn);
                Err(silent())
            }
        }
    }

    fn watch(&self, prefix: &str, from: Revision) -> Watch {
        let (mut batches, mut away) = (self.store.watch(prefix, from), self.away.subscribe());
        let (send, delivered) = mpsc::channel(1);
        tokio::spawn(async move {
            loop {
                let batch = tokio::select! {
                    biased;
                    _ = away.wait_for(|away| *away) => Err(Error::Unavailable("the connection broke".into())),
                    batch = batches.next() => batch,
                };
                let ends = batch.is_err();
                if send.send(batch).await.is_err() || ends {
                    return;
                }
            }
        });
        Watch::new(delivered)
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, Error> {
        self.reach()?.grant(ttl).await
    }

    async fn keep_alive(&self, lease: LeaseId, within: Duration) -> Result<Duration, Error> {
        let ends = *self.leases_end.lock().unwrap();
        if ends.is_some_and(|ends| ends <= Instant::now()) {
            return Err(Error::LeaseLost);
        }
        self.reach()?.keep_alive(lease, within).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), Error> {
        self.reach()?.revoke(lease).await
    }
}

/// The log of this thread, one line for each event.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::INFO && metadata.target().starts_with("flotilla")
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = LogLine(String::new());
        event.record(&mut text);
        self.0.lock().unwrap().push(format!("{} {}", event.metadata().level(), text.0.trim_end()));
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

impl Log {
    fn with(&self, part: &str) -> Vec<String> {
        self.0.lock().unwrap().iter().filter(|line| line.contains(part)).cloned().collect()
    }
}

struct World {
    line: Line,
    clock: Clock,
    log: Log,
    _logging: DefaultGuard,
    engines: Vec<Daemon>,
    /// What all of them count.
    metrics: Metrics,
}

struct Daemon {
    stop: CancellationToken,
    task: JoinHandle<()>,
    status: watch::Receiver<Status>,
    sight: watch::Receiver<Sight>,
}

fn id(at: u32) -> MachineId {
    format!("{at:032x}").parse().unwrap()
}

fn unit(name: &str) -> UnitName {
    name.parse().unwrap()
}

fn machine(at: u32, since: u64) -> Machine {
    Machine { since, format: Format::CURRENT, ..Machine::new(id(at), format!("n{at}")) }
}

impl World {
    fn new(clock: Clock) -> Self {
        let log = Log::default();
        let logging = tracing::subscriber::set_default(log.clone());
        let (fates, late, backup, leases_end) = Default::default();
        let away = watch::Sender::new(false);
        let line = Line { store: Embedded::in_memory(), fates, late, backup, leases_end, away };
        let metrics = Metrics::default();
        Self { line, clock, log, _logging: logging, engines: Vec::new(), metrics }
    }

    /// A cluster of hosts that were registered long ago, with an engine on the first one.
    async fn leading(hosts: u32) -> Self {
        let mut world = Self::new(Clock::simulated(BEGIN));
        for at in 1..=hosts {
            world.host(at, 0).await;
        }
        world.start(1);
        wait(1).await;
        world
    }

    fn start(&mut self, at: u32) {
        self.start_with(at, TTL, Brake::off());
    }

    fn start_with(&mut self, at: u32, ttl: Duration, brake: Brake) {
        let (stop, machine) = (CancellationToken::new(), machine(at, 0));
        let (engine, status) = Engine::new(self.line.clone(), Options { machine, ttl, brake, clock: self.clock });
        let engine = engine.measured(self.metrics.clone());
        let (until, shown) = (stop.clone(), watch::Sender::default());
        let sight = shown.subscribe();
        let task = tokio::spawn(async move { engine.showing(shown).run(until).await });
        self.engines.push(Daemon { stop, task, status, sight });
    }

    async fn host(&self, at: u32, since: u64) {
        self.commit(vec![put(&Key::Machine(id(at)), &machine(at, since), None)]).await;
    }

    async fn commit(&self, ops: Vec<Op>) -> Revision {
        self.line.store.commit(Txn { guards: vec![], ops }).await.unwrap()
    }

    /// Write a unit as the API does, without checking it.
    async fn submit(&self, name: &str, section: &str) {
        let file = UnitFile::parse(format!("[Service]\nExecStart=/bin/a\n[X-Fleet]\n{section}").as_bytes()).unwrap();
        let (hash, generation) = (file.hash(), Revision(self.revision().await + 1));
        let record = Unit::new(Desired::Launched, hash, generation);
        let text = FileRecord { text: file.text().into() };
        let ops = vec![put(&Key::File(file.hash()), &text, None), put(&Key::Unit(unit(name)), &record, None)];
        self.commit(ops).await;
    }

    async fn revision(&self) -> u64 {
        self.line.store.range(Range { limit: 1, ..Range::default() }).await.unwrap().revision.0
    }

    async fn held(&self, key: &Key) -> Option<Kv> {
        let prefix = key.to_string();
        let page = self.line.store.range(Range { prefix: prefix.clone(), ..Range::default() }).await.unwrap();
        page.kvs.into_iter().find(|kv| kv.key == prefix)
    }

    /// Where a unit is placed.
    async fn place(&self, name: &str) -> Option<MachineId> {
        match decode(&self.held(&Key::Placement(unit(name))).await?).unwrap() {
            Placement::On { host, .. } => Some(host),
            Placement::Waiting { .. } | Placement::Done { .. } => None,
        }
    }

    /// How many units are to move that wait and that leave, and of how many it was decided that they go, and stay.
    fn moves(&self) -> ([u64; 2], [u64; 2]) {
        let text = self.metrics.text();
        let value = |series: &str| {
            let mut values = text.lines().filter_map(|line| line.strip_prefix(series)?.trim_start().parse().ok());
            values.next().unwrap_or_else(|| panic!("no {series} in\n{text}"))
        };
        let stage = |stage: &str| value(&format!("fleet_engine_moves{{stage=\"{stage}\"}}"));
        let end = |end: &str| value(&format!("fleet_engine_move_count_total{{type=\"{end}\"}}"));
        (["waits", "leaves"].map(stage), ["move", "stay"].map(end))
    }

    async fn leader(&self) -> Option<Kv> {
        self.held(&Key::Leader).await
    }
}

async fn wait(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn a_unit_is_placed_and_the_decision_logged() {
    let world = World::leading(2).await;
    world.submit("a.service", "").await;
    wait(1).await;
    assert_eq!(world.place("a.service").await, Some(id(1)));
    let key = Key::Schedule(id(1), unit("a.service"));
    let assignment: Assignment = decode(&world.held(&key).await.unwrap()).unwrap();
    assert_eq!(assignment.target, Target::Launched);
    assert_eq!(world.log.with("placed on"), ["INFO placed on n1 (00000000): the least loaded host unit=a.service"]);
}

/// Ten go at a time. One can be on its host only, and stays.
#[tokio::test(start_paused = true)]
async fn units_that_are_to_move_are_counted() {
    let world = World::leading(1).await;
    let names: Vec<String> = (1..=12).map(|at| format!("a{at:02}.service")).collect();
    world.submit("pinned.service", &format!("MachineID={}", id(1))).await;
    for name in &names {
        world.submit(name, "").await;
    }
    wait(1).await;
    world.host(2, 0).await;
    wait(1).await;
    assert_eq!(world.moves(), ([0, 0], [0, 0]));
    for name in names.iter().map(String::as_str).chain(["pinned.service"]) {
        let key = Key::Unit(unit(name));
        let mut record: Unit = decode(&world.held(&key).await.unwrap()).unwrap();
        let (generation, from) = (Revision(world.revision().await + 1), id(1));
        record.moves = Some(Box::new(Move { generation, from, to: Some(id(2)), force: false, by: None }));
        world.commit(vec![put(&key, &record, None)]).await;
    }
    wait(1).await;
    assert_eq!(world.moves(), ([2, 10], [10, 1]), "{:?}", world.log.0);
}

#[tokio::test(start_paused = true)]
async fn what_a_refused_commit_would_have_done_is_logged_when_it_is_done() {
    let world = World::leading(1).await;
    world.line.fates.lock().unwrap().extend([Fate::Conflict; 3]);
    world.submit("a.service", "").await;
    wait(5).await;
    assert!(world.line.fates.lock().unwrap().is_empty(), "it was refused three times");
    assert_eq!(world.place("a.service").await, Some(id(1)));
    assert_eq!(world.log.with("placed on").len(), 1, "{:?}", world.log.0);
    assert_eq!(world.log.with("WARN"), [""; 0], "a conflict is no outage");
}

#[tokio::test(start_paused = true)]
async fn a_commit_with_an_unknown_outcome_is_looked_at_and_not_done_twice() {
    let world = World::leading(1).await;
    let claimed = world.leader().await.unwrap();
    world.line.fates.lock().unwrap().push_back(Fate::Lost);
    world.submit("a.service", "").await;
    wait(5).await;
    let placement = world.held(&Key::Placement(unit("a.service"))).await.unwrap();
    let assignment = world.held(&Key::Schedule(id(1), unit("a.service"))).await.unwrap();
    assert_eq!(placement.revision, assignment.revision, "one commit wrote both");
    // The next commit is guarded by a leader's key that was written after it.
    world.submit("b.service", "").await;
    wait(5).await;
    assert_eq!(world.place("b.service").await, Some(id(1)));
    let again = world.leader().await.unwrap();
    assert!(again.revision > placement.revision && again.lease == claimed.lease, "claimed again under the same lease");
    assert_eq!(world.held(&Key::Placement(unit("a.service"))).await.unwrap().revision, placement.revision);
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_comes_late_is_refused() {
    let world = World::leading(2).await;
    world.line.fates.lock().unwrap().push_back(Fate::Late);
    world.submit("a.service", "").await;
    wait(5).await;
    assert_eq!(world.place("a.service").await, Some(id(1)), "it was committed again");
    let late = world.line.late.lock().unwrap().pop().unwrap();
    // Also if only the guard of the leader's key fails: the leader has ended, while its lease still lives.
    for engine in &world.engines {
        engine.task.abort();
    }
    let keys = [Key::Placement(unit("a.service")), Key::Schedule(id(1), unit("a.service"))];
    world.commit(keys.iter().map(delete).collect()).await;
    assert!(world.leader().await.is_some());
    assert_eq!(world.line.store.commit(late).await, Err(Error::Conflict));
}

/// The file of a running unit is deleted by hand, which no later change repairs.
/// The leader's key in the backup is the one that fences its commits, and the keys that it writes are as it knows them.
#[tokio::test(start_paused = true)]
async fn what_was_planned_before_the_store_was_restored_is_not_written_into_it() {
    let world = World::leading(1).await;
    *world.line.backup.lock().unwrap() = Some(world.line.store.backup());
    world.line.fates.lock().unwrap().push_back(Fate::Restored);
    world.submit("a.service", "").await;
    wait(60).await;
    assert_eq!(world.line.fates.lock().unwrap().len(), 0);
    // The store has neither the unit nor its file any more.
    assert_eq!(world.place("a.service").await, None);
    assert_eq!(world.held(&Key::Schedule(id(1), unit("a.service"))).await, None);
    world.submit("b.service", "").await;
    wait(60).await;
    assert_eq!(world.place("b.service").await, Some(id(1)), "it leads on");
}

#[tokio::test(start_paused = true)]
async fn the_self_check_speaks() {
    let world = World::leading(1).await;
    world.submit("a.service", "").await;
    wait(1).await;
    let record: Unit = decode(&world.held(&Key::Unit(unit("a.service"))).await.unwrap()).unwrap();
    world.commit(vec![delete(&Key::File(record.hash))]).await;
    wait(200).await;
    assert_eq!(world.log.with("please report"), [""; 0], "it isn't time yet");
    wait(400).await;
    let said = world.log.with("the schedule breaks a rule: a.service on 00000000 has no file");
    assert!(!said.is_empty(), "{:?}", world.log.0.lock().unwrap());
}

#[tokio::test(start_paused = true)]
async fn the_self_check_of_a_sound_cluster_says_nothing() {
    let world = World::leading(2).await;
    world.submit("a.service", "").await;
    world.submit("b.service", "Conflicts=*").await;
    world.submit("c.service", "MachineMetadata=zone=a").await;
    wait(700).await;
    assert_eq!(world.log.with("please report"), [""; 0]);
}

/// The leader's host has been registered all the time, so a missing host is dead, and the leader doesn't wait for it.
#[tokio::test(start_paused = true)]
async fn a_leader_that_was_just_restarted_moves_the_units_of_a_dead_host_at_once() {
    let mut world = World::leading(2).await;
    world.submit("a.service", "").await;
    world.submit("b.service", "").await;
    wait(1).await;
    assert_eq!(world.place("b.service").await, Some(id(2)));
    let old = world.engines.pop().unwrap();
    old.task.abort();
    let _ = old.task.await;
    world.commit(vec![delete(&Key::Machine(id(2)))]).await;
    world.start(1);
    wait(1).await;
    assert_eq!(world.place("b.service").await, Some(id(1)));
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_host_has_just_registered_waits_for_the_others_first() {
    let mut world = World::leading(2).await;
    world.submit("a.service", "").await;
    world.submit("b.service", "").await;
    wait(1).await;
    let old = world.engines.pop().unwrap();
    old.stop.cancel();
    old.task.await.unwrap();
    // After an outage of the store: all leases have expired, and the leader's host is the first to return.
    world.commit(vec![delete(&Key::Machine(id(2)))]).await;
    world.host(1, world.clock.now_ms()).await;
    world.start(1);
    wait(TTL.as_secs() - 2).await;
    assert_eq!(world.place("b.service").await, Some(id(2)), "n2 may still come back");
    wait(4).await;
    assert_eq!(world.place("b.service").await, Some(id(1)));
}

#[tokio::test(start_paused = true)]
async fn leadership_is_given_back_when_the_engine_is_stopped_and_taken_by_the_next() {
    let mut world = World::leading(2).await;
    world.start(2);
    wait(1).await;
    let candidate = world.engines[1].status.clone();
    assert_eq!(*candidate.borrow(), Status::Candidate);
    world.engines[0].stop.cancel();
    wait(1).await;
    assert!(matches!(*candidate.borrow(), Status::Leading { hosts: 2, .. }), "{:?}", candidate.borrow());
    world.submit("a.service", "").await;
    wait(1).await;
    assert!(world.place("a.service").await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_key_is_deleted_leads_no_more_and_stands_again() {
    let world = World::leading(1).await;
    let first = world.leader().await.unwrap();
    world.commit(vec![delete(&Key::Leader)]).await;
    wait(1).await;
    let second = world.leader().await.unwrap();
    assert!(second.lease != first.lease && second.revision > first.revision);
    world.submit("a.service", "").await;
    wait(1).await;
    assert_eq!(world.place("a.service").await, Some(id(1)));
}

/// Real time passes until `done`, at most a minute.
#[tokio::test(start_paused = true)]
async fn the_leader_publishes_the_lowest_format_of_the_registered_hosts() {
    let mut world = World::leading(2).await;
    let published = async |world: &World| {
        wait(1).await;
        decode::<LeaderRecord>(&world.leader().await.unwrap()).unwrap().format
    };
    assert_eq!(published(&world).await, Format::CURRENT);
    let old = Machine { format: Format::FIRST, ..machine(3, 0) };
    world.commit(vec![put(&Key::Machine(id(3)), &old, None)]).await;
    assert_eq!(published(&world).await, Format::FIRST);
    // Its commits are guarded by the key that it wrote again.
    world.submit("a.service", "").await;
    wait(1).await;
    assert!(world.place("a.service").await.is_some());
    // The next leader knows the hosts before it claims leadership: no host changes its reports in between.
    world.start(2);
    let before = world.revision().await;
    world.engines.remove(0).stop.cancel();
    assert_eq!(published(&world).await, Format::FIRST);
    assert_eq!(world.revision().await, before + 2, "the leader's key was deleted and written once");
    world.commit(vec![delete(&Key::Machine(id(3)))]).await;
    assert_eq!(published(&world).await, Format::CURRENT);
}

/// An engine of an older version publishes no format, which stands for the first one.
#[tokio::test(start_paused = true)]
async fn the_key_of_an_earlier_daemon_of_another_version_is_taken_over() {
    let mut world = World::leading(1).await;
    let lease = world.leader().await.unwrap().lease;
    world.engines.remove(0).task.abort();
    let value = format!(r#"{{"machine":"{}","hostname":"n1","ip":"","since":5}}"#, id(1)).into_bytes();
    world.commit(vec![Op::Put { key: Key::Leader.to_string(), value, lease }]).await;
    world.start(1);
    wait(1).await;
    let leader: LeaderRecord = decode(&world.leader().await.unwrap()).unwrap();
    assert_eq!((leader.machine, leader.format), (id(1), Format::CURRENT));
}

async fn until(what: &str, log: &Log, done: impl AsyncFn() -> bool) {
    let begin = Instant::now();
    while !done().await {
        assert!(begin.elapsed() < Duration::from_secs(60), "not within a minute: {what}: {:?}", log.0.lock().unwrap());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// In real time, with a planner of its own: 250 units with names of 200 characters, and one whose 9,000 patterns almost
/// match each of them. It is in the store already, so no limit was applied to it.
#[tokio::test]
async fn a_stored_unit_with_thousands_of_patterns_harms_only_itself() {
    let mut world = World::new(Clock::system());
    for at in 1..=3 {
        world.host(at, 0).await;
    }
    for at in 0..250 {
        world.submit(&format!("{}{at:03}.service", "a".repeat(189)), "").await;
    }
    let patterns: String = (0..9_000).map(|at| format!("Conflicts=*a*a*a*a*a*b{at}x\n")).collect();
    world.submit("poison.service", &patterns).await;
    world.start(1);
    let poison = Key::Placement(unit("poison.service"));
    until("a reason why it waits", &world.log, async || world.held(&poison).await.is_some()).await;
    assert_eq!(world.place("poison.service").await, None);
    let leader = world.leader().await.unwrap();
    world.submit("b.service", "").await;
    until("b.service is placed", &world.log, async || world.place("b.service").await.is_some()).await;
    assert_eq!(world.leader().await.unwrap().revision, leader.revision, "the same term of leadership");
    world.commit(vec![delete(&Key::Unit(unit("poison.service")))]).await;
    until("it can be destroyed", &world.log, async || world.held(&poison).await.is_none()).await;
}

/// In real time: the most patterns that are planned, of the slowest kind, and a store that ends the leader's lease
/// while they are compared with a thousand names.
#[tokio::test]
async fn a_leader_whose_lease_ends_while_it_plans_leaves_the_most_expensive_unit_out_next_time() {
    let ttl = Duration::from_secs(1);
    let mut world = World::new(Clock::system());
    world.host(1, 0).await;
    for at in 0..1_000 {
        world.submit(&format!("{}{at:04}.service", "a".repeat(80)), "").await;
    }
    let patterns: String = (0..1_000).map(|at| format!("Conflicts=*a*a*a*a*a*b{at}*\n")).collect();
    world.submit("slow.service", &patterns).await;
    *world.line.leases_end.lock().unwrap() = Some(Instant::now() + ttl + ttl / 10);
    world.start_with(1, ttl, Brake::off());
    let blamed = "planning took too long: 1000 patterns of Conflicts= and Replaces= are compared with 1001 names; \
                  this unit is left out until its file changes unit=slow.service";
    until("the unit is blamed", &world.log, async || !world.log.with(blamed).is_empty()).await;
    assert_eq!(world.log.with("placed on"), [""; 0], "nothing comes of a plan whose lease has ended");
    *world.line.leases_end.lock().unwrap() = None;
    let slow = Key::Placement(unit("slow.service"));
    until("the next term says that the unit waits", &world.log, async || world.held(&slow).await.is_some()).await;
    assert_eq!(world.place("slow.service").await, None);
    world.submit("b.service", "").await;
    until("b.service is placed", &world.log, async || world.place("b.service").await.is_some()).await;
    // With another file, it is planned like any other unit.
    world.submit("slow.service", "Conflicts=x*").await;
    until("slow.service is placed", &world.log, async || world.place("slow.service").await.is_some()).await;
}

/// What is remembered of a host.
async fn remembered(world: &World, at: u32) -> Option<KnownHost> {
    world.held(&Key::Roster(id(at))).await.map(|kv| decode(&kv).unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_host_that_goes_is_one_warning_with_what_became_of_its_units_and_is_remembered_until_it_is_back() {
    let mut world = World::leading(2).await;
    world.submit("a.service", "").await;
    world.submit("b.service", "Conflicts=a.service").await;
    world.submit("c.service", "MachineID=00000000000000000000000000000002").await;
    world.submit("g.service", "Global=true").await;
    wait(1).await;
    assert_eq!(remembered(&world, 2).await.map(|known| known.gone), Some(None));
    let before = world.revision().await;
    wait(60).await;
    assert_eq!(world.revision().await, before, "nothing is written while nothing changes");
    assert_eq!(world.log.with("WARN"), [""; 0]);

    world.commit(vec![delete(&Key::Machine(id(2)))]).await;
    wait(1).await;
    let warnings = world.log.with("WARN");
    let [warning] = &warnings[..] else { panic!("{warnings:?}") };
    for part in [
        "n2 (00000000) is gone: its lease has ended; of its 3 units ",
        "2 wait (b.service: ",
        "1 ended (g.service)",
        "c.service: ",
        "machine=00000000000000000000000000000002",
    ] {
        assert!(warning.contains(part), "{part}: {warning}");
    }
    let gone = remembered(&world, 2).await.unwrap().gone.unwrap();
    assert_eq!((gone.moved, gone.waiting, gone.ended), (0, 2, 1));
    assert!(gone.since > BEGIN && gone.since <= world.clock.now_ms());

    // Another leader reads it, and says nothing again.
    let old = world.engines.pop().unwrap();
    old.stop.cancel();
    old.task.await.unwrap();
    world.start(1);
    wait(60).await;
    assert_eq!(world.log.with("WARN"), warnings);
    assert_eq!(remembered(&world, 2).await.unwrap().gone, Some(gone));

    world.host(2, world.clock.now_ms()).await;
    wait(1).await;
    assert_eq!(remembered(&world, 2).await.map(|known| known.gone), Some(None));
    let back = "INFO n2 (00000000) is back after 61 s machine=00000000000000000000000000000002";
    assert_eq!(world.log.with("is back"), [back]);
}

/// Its own host died together with it: nobody who remembers it in memory is left.
#[tokio::test(start_paused = true)]
async fn a_leader_that_dies_with_its_host_is_named_by_the_next_one() {
    let mut world = World::leading(2).await;
    world.submit("a.service", "").await;
    wait(1).await;
    let old = world.engines.pop().unwrap();
    old.stop.cancel();
    old.task.await.unwrap();
    world.commit(vec![delete(&Key::Machine(id(1)))]).await;
    world.start(2);
    wait(1).await;
    let warning = "WARN n1 (00000000) is gone: its lease has ended; of its 1 unit 1 was moved (a.service to n2) \
                   machine=00000000000000000000000000000001";
    assert_eq!(world.log.with("WARN"), [warning]);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_was_forgotten_is_not_written_again() {
    let world = World::leading(2).await;
    world.commit(vec![delete(&Key::Machine(id(2)))]).await;
    wait(1).await;
    world.commit(vec![delete(&Key::Roster(id(2)))]).await;
    wait(700).await;
    assert_eq!(remembered(&world, 2).await, None);
    assert_eq!(world.log.with("please report"), [""; 0]);
}

/// What nobody can read is written again for a host that is there.
#[tokio::test(start_paused = true)]
async fn a_damaged_record_of_a_host_is_written_again() {
    let world = World::leading(2).await;
    let value = b"{".to_vec();
    world.commit(vec![Op::Put { key: Key::Roster(id(2)).to_string(), value, lease: None }]).await;
    wait(5).await;
    assert_eq!(remembered(&world, 2).await.map(|known| known.hostname), Some("n2".into()));
}

/// Three of five hosts vanish: said once, held, and over when the period is; the next leader holds no longer.
#[tokio::test(start_paused = true)]
async fn a_mass_loss_is_announced_once_and_ends_with_its_period() {
    let brake = Brake::new(33, Duration::from_secs(60), TTL);
    let mut world = World::new(Clock::simulated(BEGIN));
    for at in 1..=5 {
        world.host(at, 0).await;
    }
    world.start_with(1, TTL, brake);
    wait(1).await;
    for (at, name) in [(1, "a.service"), (2, "b.service"), (3, "c.service")] {
        world.submit(name, "").await;
        wait(1).await;
        assert_eq!(world.place(name).await, Some(id(at)));
    }
    world.commit([2, 3, 4].map(|at| delete(&Key::Machine(id(at)))).into()).await;
    wait(50).await;
    let status = world.engines[0].status.borrow().clone();
    let Status::Leading { hosts: 2, braked: Some(Braked { hosts: 3, until }), .. } = status else {
        panic!("{status:?}");
    };
    assert!((BEGIN + 64_000..BEGIN + 64_100).contains(&until), "{until}");
    assert_eq!(world.place("b.service").await, Some(id(2)));
    let said = world.log.with("WARN");
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("3 of 5 hosts have vanished together"), "{said:?}");
    assert!(said[0].contains("held until") && said[0].contains("fleetctl forget --held"), "{said:?}");
    wait(20).await;
    for name in ["b.service", "c.service"] {
        assert!(matches!(world.place(name).await, Some(host) if [id(1), id(5)].contains(&host)), "{name}");
    }
    let ended = world.log.with("INFO 3 hosts that vanished together aren't back in time");
    assert_eq!(ended.len(), 1, "{:?}", world.log.0.lock().unwrap());
    assert_eq!(world.log.with("is gone: its lease has ended; of its 1 unit 1 was moved").len(), 2);
    assert!(matches!(*world.engines[0].status.borrow(), Status::Leading { braked: None, .. }));
}

#[tokio::test(start_paused = true)]
async fn a_mass_loss_ends_when_the_hosts_are_back() {
    let mut world = World::new(Clock::simulated(BEGIN));
    for at in 1..=5 {
        world.host(at, 0).await;
    }
    world.start_with(1, TTL, Brake::new(33, Duration::from_secs(60), TTL));
    wait(1).await;
    world.submit("a.service", "MachineID=00000000000000000000000000000002").await;
    wait(1).await;
    let placed = world.held(&Key::Placement(unit("a.service"))).await.unwrap();
    world.commit([2, 3, 4].map(|at| delete(&Key::Machine(id(at)))).into()).await;
    wait(20).await;
    for at in 2..=4 {
        world.host(at, BEGIN + 20_000).await;
    }
    wait(80).await;
    let ended = world.log.with("INFO the hosts that vanished together are back or forgotten");
    assert_eq!(ended.len(), 1, "{:?}", world.log.0.lock().unwrap());
    assert_eq!(world.held(&Key::Placement(unit("a.service"))).await.unwrap().revision, placed.revision);
    for at in 2..=4 {
        let known: KnownHost = decode(&world.held(&Key::Roster(id(at))).await.unwrap()).unwrap();
        assert_eq!(known.gone, None);
    }
}

/// As a host does that shuts down: its units have stopped, so nobody waits for others to follow.
#[tokio::test(start_paused = true)]
async fn a_host_that_leaves_is_not_held() {
    for (leaving, moved) in [(false, false), (true, true)] {
        let mut world = World::new(Clock::simulated(BEGIN));
        for at in 1..=5 {
            world.host(at, 0).await;
        }
        world.start_with(1, TTL, Brake::new(33, Duration::from_secs(60), TTL));
        wait(1).await;
        world.submit("a.service", "").await;
        world.submit("b.service", "").await;
        wait(1).await;
        assert_eq!(world.place("b.service").await, Some(id(2)));
        let last = Machine { leaving, ..machine(2, 0) };
        world.commit(vec![put(&Key::Machine(id(2)), &last, None)]).await;
        world.commit(vec![delete(&Key::Machine(id(2)))]).await;
        wait(1).await;
        assert_eq!(world.place("b.service").await != Some(id(2)), moved, "leaving: {leaving}");
        wait(5).await;
        assert_eq!(world.place("b.service").await, Some(id(3)));
    }
}

/// A move waits for the host that has the unit to say that it is gone. No other host, and nobody without that host's
/// lease, can say so for it.
#[tokio::test(start_paused = true)]
async fn only_a_host_itself_acknowledges_that_a_unit_is_gone() {
    let mut world = World::new(Clock::simulated(BEGIN));
    let [first, other, renewed] = [(); 3].map(|()| world.line.store.grant(Duration::from_secs(3600)));
    let (first, other, renewed) = (first.await.unwrap(), other.await.unwrap(), renewed.await.unwrap());
    let register = |lease| put(&Key::Machine(id(1)), &machine(1, 0), Some(lease));
    world.commit(vec![register(first)]).await;
    world.start(1);
    wait(1).await;
    world.submit("a.service", "MachineMetadata=zone=a").await;
    world.commit(vec![put(&Key::Metadata(id(1), "zone".into()), &"a", None)]).await;
    wait(1).await;
    assert_eq!(world.place("a.service").await, Some(id(1)));
    // It no longer fits, and has to go.
    world.commit(vec![put(&Key::Metadata(id(1), "zone".into()), &"b", None)]).await;
    wait(1).await;
    let entry = Key::Schedule(id(1), unit("a.service"));
    let told: Assignment = decode(&world.held(&entry).await.unwrap()).unwrap();
    assert_eq!(told.target, Target::Removed);
    let json = format!(
        r#"{{"generation":{},"target":"gone","hash":"0","load":"","active":"inactive","sub":"dead","since":0}}"#,
        told.generation.0
    );
    let report = |form, lease| Op::Put {
        key: Key::state(&id(1), &unit("a.service"), form).to_string(),
        value: json.clone().into(),
        lease,
    };
    for form in ReportKeyForm::ALL {
        for lease in [None, Some(other)] {
            world.commit(vec![report(form, lease)]).await;
            wait(1).await;
            assert!(world.held(&entry).await.is_some(), "{form:?} {lease:?}: believed");
        }
    }
    // A host that has registered again writes its reports again.
    world.commit(vec![register(renewed)]).await;
    world.commit(vec![report(ReportKeyForm::HostFirst, Some(first))]).await;
    wait(1).await;
    assert!(world.held(&entry).await.is_some(), "under an earlier lease: believed");
    world.commit(vec![report(ReportKeyForm::HostFirst, Some(renewed))]).await;
    wait(1).await;
    assert!(world.held(&entry).await.is_none(), "its own report isn't believed");
}

/// A week in ms.
const WEEK: u64 = 604_800_000;

/// Write the history of a unit that had the file of `submit` with this section, and was destroyed then.
async fn lost(world: &World, name: &str, section: &str, gone: u64) -> Key {
    let file = UnitFile::parse(format!("[Service]\nExecStart=/bin/a\n[X-Fleet]\n{section}").as_bytes()).unwrap();
    let unit_then = Unit::new(Desired::Launched, file.hash(), Revision(1));
    let (key, text) = (Key::File(file.hash()), FileRecord { text: file.text().into() });
    let history = History::default().and(&unit_then, gone, true);
    world.commit(vec![put(&key, &text, None), put(&Key::History(unit(name)), &history, None)]).await;
    key
}

#[tokio::test(start_paused = true)]
async fn the_texts_of_a_destroyed_unit_are_kept_for_a_week() {
    let world = World::leading(1).await;
    let soon = lost(&world, "soon.service", "MachineMetadata=a=1", BEGIN - WEEK + 400_000).await;
    let later = lost(&world, "later.service", "MachineMetadata=a=2", BEGIN).await;
    let back = lost(&world, "back.service", "MachineMetadata=a=3", BEGIN - WEEK).await;
    world.submit("back.service", "MachineMetadata=a=4").await;
    // The leader looks every five minutes.
    wait(310).await;
    for key in [&soon, &later, &back, &Key::History(unit("soon.service"))] {
        assert!(world.held(key).await.is_some(), "{key} is kept");
    }
    wait(300).await;
    for key in [&soon, &Key::History(unit("soon.service"))] {
        assert!(world.held(key).await.is_none(), "{key} is over");
    }
    for key in [&later, &back, &Key::History(unit("later.service")), &Key::History(unit("back.service"))] {
        assert!(world.held(key).await.is_some(), "{key} is kept: destroyed later, or there again");
    }
    assert_eq!(world.log.with("ERROR"), [""; 0]);
}

/// The leader keeps what it has seen for as long as the store is away, and nobody keeps anything otherwise.
#[tokio::test(start_paused = true)]
async fn what_the_leader_saw_last_is_kept_while_the_store_is_away() {
    let mut world = World::leading(2).await;
    world.start(2);
    world.submit("a.service", "").await;
    wait(2).await;
    let sight = |world: &World, engine: usize| world.engines[engine].sight.borrow().clone();
    let leader = |world: &World, engine| sight(world, engine).leader.map(|leader| leader.hostname);
    let kept = |world: &World, engine| sight(world, engine).cluster.is_some();
    let of_both = |world: &World| [(leader(world, 0), kept(world, 0)), (leader(world, 1), kept(world, 1))];
    let n1 = || Some("n1".to_owned());
    assert_eq!(of_both(&world), [(n1(), false), (n1(), false)]);

    let (lost, revision) = (world.clock.now_ms(), world.revision().await);
    world.line.away.send_replace(true);
    // Longer than any lease.
    for _ in 0..3 {
        wait(60).await;
        assert_eq!(of_both(&world), [(n1(), true), (n1(), false)], "only the leader has a copy");
    }
    let LastSeen { cluster, at } = sight(&world, 0).cluster.unwrap();
    assert_eq!((cluster.revision, at), (Revision(revision), lost), "as of when it was lost");
    assert_eq!(cluster.placements[&unit("a.service")].value.host(), world.place("a.service").await.as_ref());

    world.line.away.send_replace(false);
    wait(20).await;
    let [(first, one), (second, two)] = of_both(&world);
    assert_eq!((first == second && first.is_some(), one, two), (true, false, false), "{first:?} {second:?}");
}
