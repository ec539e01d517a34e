//! A cluster in one thread: a store, hosts that outlive their daemons, and what users and faults do to them. Owns
//! these; a seed or a script decides what happens when.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use flotilla::agent::{self, Agent};
use flotilla::clock::Clock;
use flotilla::engine::{self, Brake, Engine};
use flotilla::model::author::Author;
use flotilla::model::file::UnitFile;
use flotilla::model::format::{Format, ReportKeyForm};
use flotilla::model::machine::{Machine, Metadata};
use flotilla::model::name::{MachineId, UnitName};
use flotilla::model::reboot::Group;
use flotilla::model::resources::Resources;
use flotilla::model::rollout::Request;
use flotilla::model::unit::Desired;
use flotilla::plan::gate;
use flotilla::plan::rebalance::{Rebalance, Relocation, rebalance};
use flotilla::plan::schedule::Scheduler;
use flotilla::reboot::{self, Rebooter};
use flotilla::registry::apply::{Applied, Why, apply};
use flotilla::registry::ask;
use flotilla::registry::forget::forget;
use flotilla::registry::keys::{Key, STATES};
use flotilla::registry::maintenance::{self, Options as DrainOptions, Request as HostRequest};
use flotilla::registry::moves::Request as MoveRequest;
use flotilla::registry::reader::Reader;
use flotilla::registry::reboots;
use flotilla::registry::reboots::Refusal;
use flotilla::registry::reboots::program::{self, Denied, Program};
use flotilla::registry::settings::{self, Wish};
use flotilla::registry::units::{Intent, OnDifferentFile, UnitChange, check};
use flotilla::registry::{delete, point, put};
use flotilla::store::embedded::{Backup, Counter, Embedded, History};
use flotilla::store::{Error, Guard, Op, Store, Txn};
use flotilla::systemd::Systemd as _;
use flotilla::systemd::fake::{Fake, Options, Policy};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::forge;
use super::health::Answers;
use super::journal::Journal;
use super::judge::Judge;
use super::line::{Cut, Line};
use super::probe::Probe;
use super::random::Random;

/// The lease's TTL of every daemon.
pub(crate) const TTL: Duration = Duration::from_secs(10);

/// The percentage of hosts that must vanish together for a mass loss.
pub(crate) const MASS_LOSS_SHARE: u8 = 33;

/// How long their units are held then.
pub(crate) const MASS_LOSS_GRACE: Duration = Duration::from_secs(60);

/// How long a bus call takes.
pub(crate) const BUS: Duration = Duration::from_millis(2);

/// What the clocks show in the beginning, since the epoch: a midnight, and long enough after the epoch for a clock to
/// be set back.
pub(crate) const EPOCH: Duration = Duration::from_secs(10_000 * 24 * 3600);

/// The longest time that a bus call takes while PID 1 is slow.
pub(crate) const SLOW_BUS: Duration = Duration::from_millis(300);

/// How long a host takes to come up again.
const BOOT: Duration = Duration::from_secs(3);

/// The boot file from which a daemon knows that the store was restored.
const HORIZON: &str = "horizon.json";

/// How many calls one pass makes, one after the other, between reading its assignments and its last request: a unit is
/// replaced and another one installed, each with its stop, its files, a reload and what must be observed in between.
const CALLS: u32 = 12;

/// The cluster and its surroundings.
pub(crate) struct World {
    pub(crate) journal: Journal,
    pub(crate) judge: Judge,
    pub(crate) store: Embedded,
    pub(crate) hosts: Vec<Host>,
    pub(crate) user: Line,
    reader: Reader<Line>,
    clock: Clock,
    random: Random,
    /// Chooses the version of each daemon that starts, if hosts are upgraded and downgraded.
    pub(crate) versions: Option<Random>,
    /// How long each computation of a leader takes.
    computing: Duration,
    /// What somebody has written past the daemons, until it is removed.
    forged: Mutex<Vec<Forged>>,
    /// The last backup of the store.
    backup: Option<Backup>,
    /// Whether daemons carry out what is asked of reboots. Unless anything is, they needn't look.
    reboots: bool,
}

/// A record that somebody has written past the daemons.
struct Forged {
    key: String,
    value: Vec<u8>,
    /// What was there before.
    before: Option<Vec<u8>>,
}

/// A host, on or off.
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) id: MachineId,
    pub(crate) fake: Fake,
    pub(crate) probe: Probe,
    pub(crate) answers: Arc<Answers>,
    pub(crate) line: Line,
    pub(crate) metadata: Metadata,
    /// What it reports of itself.
    pub(crate) builtin: Metadata,
    /// What its configuration keeps from units.
    pub(crate) reserved: Resources,
    /// The newest format of the store that its daemon reads and writes.
    pub(crate) format: Format,
    /// Whether it has power.
    pub(crate) on: bool,
    /// By how many ms its clock is ahead. Daemons have copies of their clock: it lives as long as the test.
    ahead: &'static AtomicI64,
    boot: u32,
    daemon: Option<Daemon>,
}

struct Daemon {
    stop: CancellationToken,
    agent: JoinHandle<()>,
    engine: JoinHandle<()>,
    rebooter: Option<JoinHandle<()>>,
    agent_status: tokio::sync::watch::Receiver<agent::Status>,
}

impl Host {
    pub(crate) fn has_daemon(&self) -> bool {
        self.daemon.is_some()
    }

    pub(crate) fn agent_status(&self) -> Option<agent::Status> {
        self.daemon.as_ref().map(|daemon| daemon.agent_status.borrow().clone())
    }
}

impl World {
    /// A cluster without hosts.
    pub(crate) fn new(seed: u64, history: History) -> Self {
        let (journal, random) = (Journal::new(), Random::new(seed));
        let store = Embedded::in_memory_with(history);
        let judge = Judge::new(journal.clone(), &store);
        let user = Line::new(None, store.clone(), judge.clone(), random.fork("user"));
        let reader = Reader::new(user.clone());
        Self {
            journal,
            judge,
            store,
            hosts: Vec::new(),
            user,
            reader,
            clock: Clock::simulated(u64::try_from(EPOCH.as_millis()).unwrap()),
            random,
            versions: None,
            computing: Duration::ZERO,
            forged: Mutex::default(),
            backup: None,
            reboots: false,
        }
    }

    /// From now on, each computation of the leaders that start takes this long.
    pub(crate) fn slow_planning(&mut self, each: Duration) {
        self.judge.allow_planning(each);
        self.computing = each;
    }

    /// How long each computation of a leader takes.
    pub(crate) fn computing(&self) -> Duration {
        self.computing
    }

    /// A new host with power and no daemon yet. Its id is made from `number`: two hosts may share one.
    pub(crate) fn add_host(
        &mut self,
        name: &str,
        number: u32,
        metadata: &[(&str, &str)],
        policy: Option<Policy>,
    ) -> usize {
        let id = format!("{}{number:024x}", format!("{number:x}").repeat(8).chars().take(8).collect::<String>());
        let id: MachineId = id.parse().unwrap();
        let mut options = Options { latency: BUS, reload_time: Duration::from_millis(1), ..Options::default() };
        if let Some(policy) = policy {
            options.policy = policy;
        }
        let fake = Fake::new(options);
        let answers = Arc::new(Answers::new(fake.clone()));
        let host = self.judge.add_machine(name, &id, &fake, &answers);
        let fork = |what: &str| self.random.fork(&format!("{what} of {name}"));
        let probe = Probe::new(host, fake.clone(), self.judge.clone(), answers.clone(), fork("bus"));
        let line = Line::new(Some(host), self.store.clone(), self.judge.clone(), fork("line"));
        let metadata = metadata.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        let name = name.into();
        self.hosts.push(Host {
            name,
            id,
            fake,
            probe,
            answers,
            line,
            metadata,
            builtin: Metadata::new(),
            reserved: Resources::default(),
            format: Format::CURRENT,
            on: true,
            ahead: Box::leak(Box::default()),
            boot: 1,
            daemon: None,
        });
        host
    }

    pub(crate) fn start_daemon(&mut self, host: usize) {
        let me = &mut self.hosts[host];
        if me.daemon.is_some() || !me.on {
            return;
        }
        if let Some(versions) = &mut self.versions {
            me.format = if versions.chance(400) { Format::FIRST } else { Format::CURRENT };
        }
        let version = if me.format == Format::CURRENT { "" } else { ", of an older version" };
        self.journal.note(format!("* daemon of {} starts{version}", me.name));
        let machine = Machine {
            id: me.id.clone(),
            ip: format!("10.0.0.{}", host + 1),
            hostname: me.name.clone(),
            metadata: me.metadata.clone(),
            builtin: me.builtin.clone(),
            reserved: me.reserved,
            version: "simulated".into(),
            boot_id: me.boot.to_string(),
            since: 0,
            format: me.format,
            leaving: false,
        };
        self.judge.daemon_starts(host);
        let stop = CancellationToken::new();
        let clock = self.clock.set_by(me.ahead).started();
        let options = agent::Options { machine: machine.clone(), ttl: TTL, alone: false, clock };
        let (agent, agent_status) = Agent::new(me.line.clone(), me.probe.clone(), options);
        let agent = agent.in_network(me.answers.clone());
        let brake = Brake::new(MASS_LOSS_SHARE, MASS_LOSS_GRACE, TTL);
        let clock = clock.computing(self.computing);
        let options = engine::Options { machine, ttl: TTL, brake, clock };
        let (engine, _) = Engine::new(me.line.clone(), options);
        let agent = tokio::spawn(me.line.freeze.clone().pausing(agent.run(stop.clone())));
        let until = stop.clone();
        let engine = tokio::spawn(me.line.freeze.clone().pausing(async move { engine.run(until).await }));
        me.daemon = Some(Daemon { stop, agent, engine, rebooter: None, agent_status });
        if self.reboots {
            self.start_rebooter(host);
        }
    }

    /// From now on, daemons carry out what is asked of reboots.
    pub(crate) fn allow_reboots(&mut self) {
        if !std::mem::replace(&mut self.reboots, true) {
            (0..self.hosts.len()).for_each(|host| self.start_rebooter(host));
        }
    }

    fn start_rebooter(&mut self, host: usize) {
        let me = &mut self.hosts[host];
        let Some(daemon) = &mut me.daemon else { return };
        let clock = self.clock.set_by(me.ahead).started();
        let options = reboot::Options { id: me.id.clone(), boot: me.boot.to_string(), ttl: TTL, clock };
        let rebooter = Rebooter::new(me.line.beside(), me.probe.clone(), options);
        let (stop, mut status) = (daemon.stop.clone(), daemon.agent_status.clone());
        let when_registered = async move {
            let registered = status.wait_for(|status| matches!(status, agent::Status::Present { .. })).await.is_ok();
            if registered {
                rebooter.run(stop).await;
            }
        };
        daemon.rebooter = Some(tokio::spawn(me.line.freeze.clone().pausing(when_registered)));
    }

    /// A person asks hosts to reboot, in this order.
    pub(crate) async fn ask_reboots(&mut self, hosts: &[usize], force: bool) -> Result<(), String> {
        self.allow_reboots();
        let names: Vec<&str> = hosts.iter().map(|host| self.hosts[*host].name.as_str()).collect();
        self.journal.note(format!("* user: {} is to reboot", names.join(" ")));
        let ids: Vec<MachineId> = hosts.iter().map(|host| self.hosts[*host].id.clone()).collect();
        let options = reboots::Options { parallel: 10, deadline: 3600, force, why: "kernel".into() };
        let asked = reboots::ask(&self.reader, &ids, &options, &Author::default(), self.clock.now_ms()).await;
        asked.map(drop).map_err(|refusal| format!("{refusal:?}"))
    }

    /// A person says that a host is to reboot no longer.
    pub(crate) async fn cancel_reboot(&self, host: usize) -> Result<(), String> {
        self.journal.note(format!("* user: {} is to reboot no longer", self.hosts[host].name));
        let cancelled = reboots::forget(&self.reader, &self.hosts[host].id, true).await;
        cancelled.map(drop).map_err(|refusal| format!("{refusal:?}"))
    }

    /// A program on `host` asks its daemon whether it may reboot it, and, if it `goes` on then, does so. Returns the
    /// answer.
    pub(crate) async fn program_asks(&mut self, host: usize, goes: bool) -> Result<Result<(), Denied>, String> {
        self.allow_reboots();
        let me = &self.hosts[host];
        let (reader, clock) = (Reader::new(me.line.beside()), self.clock.set_by(me.ahead));
        let program = Program { host: me.id.clone(), group: Group::default(), name: me.name.clone() };
        let asked = async {
            match program::pre_reboot(&reader, &program, clock).await {
                Err(Denied::Failed(refusal)) => Err(refusal),
                answer => Ok(answer),
            }
        };
        let answer = self.answered(host, asked).await?;
        let (name, told) = (&self.hosts[host].name, self.told(&answer));
        self.journal.note(format!("* a program on {name} is to reboot it: {told}"));
        if goes && answer.is_ok() {
            let _ = self.hosts[host].fake.request_reboot().await;
        }
        Ok(answer)
    }

    /// A program on `host` says that the host is back, or isn't to be rebooted any more.
    pub(crate) async fn program_is_steady(&mut self, host: usize) -> Result<(), String> {
        self.allow_reboots();
        let me = &self.hosts[host];
        let (reader, id) = (Reader::new(me.line.beside()), me.id.clone());
        self.answered(host, program::steady_state(&reader, &id)).await?;
        self.journal.note(format!("* a program on {} says that it is back", self.hosts[host].name));
        Ok(())
    }

    /// What a program was told, with the names of hosts.
    pub(crate) fn told(&self, answer: &Result<(), Denied>) -> String {
        let told = match answer {
            Ok(()) => "Granted".into(),
            Err(Denied::Full(holders)) => {
                format!("Full({:?})", holders.iter().map(|holder| &holder.host).collect::<Vec<_>>())
            }
            Err(denied) => format!("{denied:?}"),
        };
        let known = self.hosts.iter().map(|me| (format!("{:?}", me.id), &me.name));
        known.fold(told, |text, (id, name)| text.replace(&id, name))
    }

    /// What the daemon of `host` answers to a program, within the time of a request.
    async fn answered<T>(&self, host: usize, done: impl Future<Output = Result<T, Refusal>>) -> Result<T, String> {
        let daemon = self.hosts[host].daemon.as_ref().ok_or("its daemon doesn't run")?;
        if !matches!(*daemon.agent_status.borrow(), agent::Status::Present { .. }) {
            return Err("its daemon isn't registered".into());
        }
        let done = tokio::time::timeout(Duration::from_secs(5), done).await;
        done.map_err(|_| "no answer within 5 s".to_owned())?.map_err(|refusal| format!("{refusal:?}"))
    }

    /// The hosts that have asked their systemd for it are shut down, and come up again after a while.
    pub(crate) async fn carry_out_reboots(&mut self) {
        for host in 0..self.hosts.len() {
            if self.hosts[host].on && self.hosts[host].fake.is_to_reboot() {
                self.shut_down(host, false).await;
                sleep(BOOT).await;
                self.power_on(host);
            }
        }
    }

    /// As `kill -9`.
    pub(crate) async fn kill_daemon(&mut self, host: usize) {
        let Some(daemon) = self.hosts[host].daemon.take() else { return };
        self.journal.note(format!("* daemon of {} is killed", self.hosts[host].name));
        for task in [daemon.agent, daemon.engine].into_iter().chain(daemon.rebooter) {
            task.abort();
            self.ended(host, task.await);
        }
        self.judge.daemon_ends(host);
        self.thaw(host);
    }

    /// As `systemctl stop fleetd`.
    pub(crate) async fn stop_daemon(&mut self, host: usize) {
        self.stop_daemon_within(host, TTL).await;
    }

    async fn stop_daemon_within(&mut self, host: usize, limit: Duration) {
        let Some(daemon) = self.hosts[host].daemon.take() else { return };
        self.journal.note(format!("* daemon of {} is stopped", self.hosts[host].name));
        // systemd continues what it stops.
        self.thaw(host);
        daemon.stop.cancel();
        for mut task in [daemon.agent, daemon.engine].into_iter().chain(daemon.rebooter) {
            match tokio::time::timeout(limit, &mut task).await {
                Ok(ended) => self.ended(host, ended),
                Err(_) => {
                    self.journal.violate(format!("the daemon of {} doesn't stop", self.hosts[host].name));
                    task.abort();
                }
            }
        }
        self.judge.daemon_ends(host);
    }

    /// Suspend the daemon of a host.
    pub(crate) fn freeze(&self, host: usize) {
        self.journal.note(format!("* daemon of {} is suspended", self.hosts[host].name));
        self.judge.freezes(host, true);
        self.hosts[host].line.freeze.set(true);
    }

    /// Let it continue, if it is suspended.
    pub(crate) fn thaw(&self, host: usize) {
        let Host { name, line, .. } = &self.hosts[host];
        if line.freeze.is_frozen() {
            self.journal.note(format!("* daemon of {name} continues"));
            self.judge.freezes(host, false);
            line.freeze.set(false);
        }
    }

    fn ended(&self, host: usize, ended: Result<(), tokio::task::JoinError>) {
        if let Err(error) = ended
            && error.is_panic()
        {
            self.journal.violate(format!("the daemon of {} panicked: {error}", self.hosts[host].name));
        }
    }

    /// Report daemons that have ended by themselves, which must not happen.
    pub(crate) fn look_after_daemons(&self) {
        for host in &self.hosts {
            let is_over = |daemon: &Daemon| {
                let tasks = [&daemon.agent, &daemon.engine];
                tasks.into_iter().chain(&daemon.rebooter).any(JoinHandle::is_finished)
            };
            if host.daemon.as_ref().is_some_and(is_over) {
                self.journal.violate(format!("a task of the daemon of {} has ended by itself", host.name));
            }
        }
    }

    /// As `systemctl poweroff`: systemd stops all units, including fleetd. With `bus_lost`, the bus fails a second
    /// later.
    pub(crate) async fn shut_down(&mut self, host: usize, bus_lost: bool) {
        self.journal.note(format!("* {} shuts down", self.hosts[host].name));
        self.judge.shuts_down(host);
        let fake = self.hosts[host].fake.clone();
        fake.shut_down();
        if bus_lost {
            tokio::spawn(async move {
                sleep(Duration::from_secs(1)).await;
                fake.go_down();
            });
        }
        // Each request may go unanswered for as long as it has time.
        self.stop_daemon_within(host, 4 * TTL).await;
        self.power_off(host).await;
    }

    /// Turn the power off.
    pub(crate) async fn power_off(&mut self, host: usize) {
        self.kill_daemon(host).await;
        self.journal.note(format!("* {} loses its power", self.hosts[host].name));
        self.judge.look();
        let me = &mut self.hosts[host];
        me.fake.reboot();
        me.on = false;
        me.boot += 1;
        self.judge.look();
    }

    pub(crate) fn power_on(&mut self, host: usize) {
        self.hosts[host].on = true;
        self.start_daemon(host);
    }

    /// A person starts or stops a unit that has a file on the host, with `systemctl`.
    pub(crate) fn by_hand(&self, host: usize, unit: &UnitName, start: bool) {
        let me = &self.hosts[host];
        let fake = &me.fake;
        let word = if start { "starts" } else { "stops" };
        self.journal.note(format!("* a person {word} {unit} on {}", me.name));
        self.judge.by_hand(host, unit, start);
        if start {
            // It may be refused, as the daemon's own start would be.
            let _ = fake.start_by_hand(unit);
        } else {
            fake.stop_by_hand(unit);
        }
        self.judge.look();
    }

    /// A package that has a unit of this name is installed on a host, or removed.
    pub(crate) fn package(&self, host: usize, unit: &UnitName, installed: bool) {
        let host = &self.hosts[host];
        let word = if installed { "has" } else { "no longer has" };
        self.journal.note(format!("* {} {word} {unit} from a package", host.name));
        host.fake.set_packaged(unit, installed.then(|| format!("[Unit]\nDescription={unit}\n")));
    }

    /// From now on, PID 1 takes this long for each call.
    pub(crate) fn slow_systemd(&self, host: usize, latency: Duration) {
        let host = &self.hosts[host];
        self.journal.note(format!("* each call takes {} ms on {}", latency.as_millis(), host.name));
        self.judge.allow_calls(latency, CALLS);
        host.fake.set_latency(latency);
    }

    pub(crate) fn cut(&self, host: usize, cut: Cut, watches_end: bool) {
        let word = match cut {
            Cut::No => "joined again",
            Cut::Both => "cut off",
            Cut::Requests => "cut off: it receives, and what it sends doesn't arrive",
            Cut::Answers => "cut off: what it sends arrives, and it receives nothing",
        };
        self.journal.note(format!("* {} is {word}", self.hosts[host].name));
        self.hosts[host].line.cut(cut, watches_end);
    }

    /// Somebody sets the clock of a host, by this many ms from the right time.
    pub(crate) fn set_clock(&self, host: usize, ahead: i64) {
        let host = &self.hosts[host];
        let before = host.ahead.swap(ahead, Ordering::Relaxed);
        if ahead != before {
            let (by, ahead) = (Duration::from_millis(ahead.unsigned_abs()), ahead >= 0);
            let word = if by.is_zero() {
                "right"
            } else if ahead {
                "ahead"
            } else {
                "behind"
            };
            let by = if by.is_zero() { String::new() } else { format!(" by {} s", by.as_secs_f64()) };
            self.journal.note(format!("* the clock of {} is set: it is {word}{by}", host.name));
            self.judge.clock_is_set();
        }
    }

    /// A person says that a host is really gone.
    pub(crate) async fn forget(&self, host: usize) -> Result<(), String> {
        self.journal.note(format!("* user: {} is forgotten", self.hosts[host].name));
        forget(&self.reader, &self.hosts[host].id).await.map(drop).map_err(|refusal| format!("{refusal:?}"))
    }

    /// A person cordons a host, or uncordons it.
    pub(crate) async fn cordon(&self, host: usize, cordoned: bool) -> Result<(), String> {
        let Host { name, id, .. } = &self.hosts[host];
        self.journal.note(format!("* user: {name} is {}", if cordoned { "cordoned" } else { "uncordoned" }));
        let cordon = HostRequest::Cordon { why: "kernel".into() };
        let request = if cordoned { cordon } else { HostRequest::Uncordon };
        let asked = maintenance::ask(&self.reader, &[id.clone()].into(), &request, &Author::default(), 0).await;
        asked.map(drop).map_err(|refusal| format!("{refusal:?}"))
    }

    /// A person changes settings of the cluster.
    pub(crate) async fn change_settings(&self, wishes: &[Wish]) -> Result<(), String> {
        for (name, value) in wishes {
            self.journal.note(format!("* user: {name} is {}", value.as_deref().unwrap_or("as it was")));
        }
        settings::change(&self.reader, wishes).await.map(drop).map_err(|refusal| format!("{refusal:?}"))
    }

    /// A person drains hosts, all in one step, or drains them no longer.
    pub(crate) async fn drain(&self, hosts: &[usize], options: Option<DrainOptions>) -> Result<(), String> {
        let what = if options.is_some() { "drained" } else { "no longer drained" };
        self.ask_hosts(hosts, what, options.map_or(HostRequest::Undrain { restore: None }, HostRequest::Drain)).await
    }

    /// A person drains hosts no longer, and what has left comes back, with so many units at a time.
    pub(crate) async fn bring_back(&self, hosts: &[usize], parallel: u32) -> Result<(), String> {
        let request = HostRequest::Undrain { restore: Some(parallel) };
        self.ask_hosts(hosts, "no longer drained, what left comes back", request).await
    }

    /// A person wants units on other hosts.
    pub(crate) async fn move_units(&self, request: MoveRequest) -> Result<(), String> {
        let cluster = self.judge.cluster();
        let home = |unit: &UnitName| Some((unit.clone(), cluster.placed_on(unit)?.clone()));
        let on: BTreeMap<UnitName, MachineId> = request.units.iter().filter_map(home).collect();
        let names: Vec<&str> = on.keys().map(UnitName::as_str).collect();
        let to = request.to.as_ref().and_then(|id| self.hosts.iter().find(|host| host.id == *id));
        let to = to.map(|host| format!(" to {}", host.name)).unwrap_or_default();
        let force = if request.force { ", by force" } else { "" };
        self.journal.note(format!("* user: {} asked to move{to}{force}", names.join(" ")));
        let asked = request.ask(&self.reader, &on, &Author::default()).await;
        asked.map_err(|refusal| format!("{refusal:?}"))
    }

    /// A person looks at what would be better on other hosts, and asks for the first `limit` moves.
    pub(crate) async fn rebalance(&self, limit: usize) -> Result<(), String> {
        let mut cluster = self.judge.cluster();
        gate::apply(&mut cluster);
        let scheduler = Scheduler::new(cluster);
        let cluster = scheduler.cluster();
        let Rebalance { mut moves, all, .. } = rebalance(&scheduler, &[], limit, &|| false);
        // What was written past the daemons is removed only as long as nobody has changed it.
        moves.retain(|it| it.group.iter().all(|unit| unit.as_str() != forge::UNIT));
        let name = |host: &MachineId| cluster.hostname(host).unwrap_or(host.short()).to_owned();
        self.journal.note(format!("* user: rebalance, {} of {all} moves", moves.len()));
        for Relocation { group, from, to, gain } in &moves {
            let units: Vec<&str> = group.iter().map(UnitName::as_str).collect();
            self.journal.note(format!("* user: move {} from {} to {}: {gain}", units.join(" "), name(from), name(to)));
        }
        let each: BTreeMap<UnitName, MachineId> = moves.iter().map(|it| (it.group[0].clone(), it.to.clone())).collect();
        let on: BTreeMap<UnitName, MachineId> = moves.iter().map(|it| (it.group[0].clone(), it.from.clone())).collect();
        let request = MoveRequest { units: on.keys().cloned().collect(), each, ..MoveRequest::default() };
        let asked = request.ask(&self.reader, &on, &Author::default()).await;
        asked.map_err(|refusal| format!("{refusal:?}"))
    }

    async fn ask_hosts(&self, hosts: &[usize], what: &str, request: HostRequest) -> Result<(), String> {
        let names: Vec<&str> = hosts.iter().map(|host| self.hosts[*host].name.as_str()).collect();
        self.journal.note(format!("* user: {} {what}", names.join(" ")));
        let ids = hosts.iter().map(|host| self.hosts[*host].id.clone()).collect();
        let asked = maintenance::ask(&self.reader, &ids, &request, &Author::default(), 0).await;
        asked.map(drop).map_err(|refusal| format!("{refusal:?}"))
    }

    /// Make the store unreachable for all, or reachable again.
    pub(crate) fn store(&self, down: bool) {
        self.journal.note(format!("* the store {}", if down { "is away" } else { "is back" }));
        for host in &self.hosts {
            host.line.cut(if down { Cut::Both } else { Cut::No }, true);
        }
    }

    pub(crate) async fn compact(&self) {
        self.journal.note("* the store forgets its past");
        self.store.compact(self.judge.revision()).await.unwrap();
    }

    /// Somebody saves what is in the store.
    pub(crate) fn back_up(&mut self) {
        self.journal.note(format!("* the store is backed up, at #{}", self.judge.revision()));
        self.backup = Some(self.store.backup());
    }

    /// The store gets the contents of the last backup, if there is one.
    pub(crate) async fn restore(&self, counter: Counter) {
        if let Some(backup) = &self.backup {
            self.journal
                .note(format!("* the store is restored, as of #{}; its counter {counter:?}", backup.revision()));
            self.judge.restore(&self.store, backup, counter).await;
        }
    }

    /// A person makes a host run only what the store assigns to it, as `docs/operating.md` says.
    pub(crate) async fn accept(&mut self, host: usize) {
        if !self.hosts[host].on {
            return;
        }
        self.stop_daemon(host).await;
        let me = &self.hosts[host];
        self.journal.note(format!("* {} is to run only what the store has", me.name));
        me.fake.delete_boot_file(HORIZON);
        self.judge.accepts(host);
        self.start_daemon(host);
    }

    /// A request of a user, as one batch.
    pub(crate) async fn ask(&self, intents: &[Intent]) -> Result<Applied, String> {
        for Intent { name, change } in intents {
            let what = match change {
                UnitChange::Restart => "restart".into(),
                UnitChange::Destroy => "destroy".into(),
                UnitChange::Ensure { file, desired, .. } => {
                    let desired = desired.map_or("as it is", Desired::as_str);
                    format!("{desired}{}", if file.is_some() { ", with its file" } else { "" })
                }
            };
            self.journal.note(format!("* user: {name} {what}"));
        }
        // The API checks files before anything else.
        let wrong = intents.iter().filter_map(|intent| match &intent.change {
            UnitChange::Ensure { file: Some(file), .. } => Some(check(&intent.name, file)),
            _ => None,
        });
        if let Some(problem) = wrong.flatten().next() {
            return Err(format!("{}: {}", problem.unit, problem.what));
        }
        let author = Author { uid: Some(1000), ..Author::default() };
        let result = apply(&self.reader, intents, &author, self.clock.now_ms()).await;
        result.map_err(|error| match error.why {
            Why::Problems(problems) => {
                problems.iter().map(|p| format!("{}: {}", p.unit, p.what)).collect::<Vec<_>>().join("\n")
            }
            Why::Store(error) | Why::Unknown(error) => error.to_string(),
            Why::Contended => "contended".into(),
        })
    }

    /// The same, and the daemon that carries it out dies after so many commits.
    pub(crate) async fn ask_a_dying_daemon(&self, commits: usize, intents: &[Intent]) -> Result<Applied, String> {
        self.user.die_after(Some(commits));
        let applied = tokio::time::timeout(TTL, self.ask(intents)).await;
        self.user.die_after(None);
        applied.unwrap_or_else(|_| Err("the daemon has died".into()))
    }

    /// Dynamic metadata; `None` removes it.
    pub(crate) async fn ask_of_rollout(&self, name: &UnitName, what: Request) -> Result<(), String> {
        self.journal.note(format!("* user: {what:?} the rollout of {name}").to_lowercase());
        let asked = ask::ask(&self.reader, name, what, &Author::default()).await;
        asked.map(drop).map_err(|refusal| format!("{refusal:?}"))
    }

    pub(crate) async fn set_metadata(&self, host: usize, key: &str, value: Option<&str>) -> Result<(), Error> {
        self.journal.note(format!(
            "* user: metadata of {}: {key}={}",
            self.hosts[host].name,
            value.unwrap_or_default()
        ));
        let key = Key::Metadata(self.hosts[host].id.clone(), key.into());
        let op = value.map_or_else(|| delete(&key), |value| put(&key, &value, None));
        self.user.commit(Txn { guards: Vec::new(), ops: vec![op] }).await.map(drop)
    }

    /// Somebody who may write reports, but has no host's lease, reports that a host has removed a unit as it was told.
    pub(crate) async fn forge(&self, host: usize, unit: &UnitName) -> Result<(), Error> {
        let Host { id, name, .. } = &self.hosts[host];
        self.journal.note(format!("* somebody reports for {name} that {unit} is removed"));
        let assigned = self.judge.cluster().schedule.get(id).and_then(|assigned| assigned.get(unit)).cloned();
        let generation = assigned.map(|assigned| assigned.value.generation).unwrap_or_default();
        let report = serde_json::json!({
            "generation": generation, "target": "gone", "hash": "", "load": "not-found", "active": "inactive",
            "sub": "dead", "since": 0,
        });
        let key = Key::state(id, unit, ReportKeyForm::HostFirst);
        let op = put(&key, &report, None);
        let value = serde_json::to_vec(&report).unwrap();
        self.forged().push(Forged { key: key.to_string(), value, before: None });
        self.user.commit(Txn { guards: Vec::new(), ops: vec![op] }).await.map(drop)
    }

    /// Somebody writes other wrong records, past the daemons.
    pub(crate) async fn forge_record(&self, kind: forge::Kind, host: usize, unit: &UnitName) {
        let records = kind.records(&self.judge.cluster(), &self.hosts[host].id, unit);
        if records.is_empty() {
            return;
        }
        self.journal.note(format!("* somebody writes wrong records: {kind:?}, for {}", self.hosts[host].name));
        let mut ops = Vec::new();
        for (key, record) in records {
            let value = serde_json::to_vec(&record).unwrap();
            let before = point(&self.store, &key, None).await.unwrap().1.map(|kv| kv.value);
            // A forged record isn't forged again; only a file is written over.
            if before.is_some() && (kind != forge::Kind::File || before.as_ref() == Some(&value)) {
                continue;
            }
            ops.push(Op::Put { key: key.clone(), value: value.clone(), lease: None });
            self.forged().push(Forged { key, value, before });
        }
        self.judge.forge(&self.store, Txn { guards: Vec::new(), ops }).await.unwrap();
    }

    fn forged(&self) -> MutexGuard<'_, Vec<Forged>> {
        self.forged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Restore what was there before, where nobody has replaced what was forged: nobody else does.
    pub(crate) async fn remove_forged(&self) {
        let forged = std::mem::take(&mut *self.forged());
        // The last one first: a record may have been forged over another forged one.
        for Forged { key, value, before } in forged.into_iter().rev() {
            let (_, found) = point(&self.store, &key, None).await.unwrap();
            let Some(found) = found.filter(|found| found.value == value && found.lease.is_none()) else { continue };
            let guards = vec![Guard::Unchanged(key.clone(), found.revision)];
            let is_report = key.starts_with(STATES);
            let op = match before {
                Some(value) => Op::Put { key, value, lease: None },
                None => Op::Delete(key),
            };
            let txn = Txn { guards, ops: vec![op] };
            // Its owner may replace it at the same time.
            if is_report {
                let _ = self.user.commit(txn).await;
            } else {
                let _ = self.judge.forge(&self.store, txn).await;
            }
        }
    }

    /// Let time pass until nothing has happened for `quiet`. Returns whether this was within `limit`.
    pub(crate) async fn settle(&self, quiet: Duration, limit: Duration) -> bool {
        let begin = self.journal.now();
        let mut quiet_since = begin;
        let mut last = self.traces();
        while self.journal.now() < begin + limit {
            sleep(Duration::from_secs(1)).await;
            self.judge.look();
            let now = self.traces();
            if now != last {
                (last, quiet_since) = (now, self.journal.now());
            } else if self.journal.now() >= quiet_since + quiet {
                return true;
            }
        }
        false
    }

    /// Whether any host has a systemd job.
    pub(crate) fn has_jobs(&self) -> bool {
        let busy = |host: &Host| host.fake.on_disk().keys().any(|unit| host.fake.unit(unit).job.is_some());
        self.hosts.iter().any(busy)
    }

    /// Numbers that change when something happens: commits, and calls that change a host.
    pub(crate) fn traces(&self) -> Vec<u64> {
        let host = |host: &Host| {
            let calls = host.fake.counters();
            let log = u64::try_from(host.fake.log().len()).unwrap();
            [calls.install, calls.remove, calls.start, calls.stop, calls.reload, log]
        };
        std::iter::once(self.judge.revision().0).chain(self.hosts.iter().flat_map(host)).collect()
    }
}

/// An intent for a unit, with a file or with the file that it has.
pub(crate) fn have(name: &UnitName, text: Option<&str>, desired: Option<Desired>) -> Intent {
    let file = text.map(|text| Arc::new(UnitFile::parse(text.as_bytes()).unwrap()));
    Intent {
        name: name.clone(),
        change: UnitChange::Ensure { file, desired, on_different_file: OnDifferentFile::Replace, replicas: None },
    }
}

/// An intent for a set: so many members.
pub(crate) fn scale(name: &UnitName, count: u32) -> Intent {
    let (file, desired, on_different_file, replicas) = (None, None, OnDifferentFile::Keep, Some(count));
    Intent { name: name.clone(), change: UnitChange::Ensure { file, desired, on_different_file, replicas } }
}

pub(crate) fn restart(name: &UnitName) -> Intent {
    Intent { name: name.clone(), change: UnitChange::Restart }
}

pub(crate) fn destroy(name: &UnitName) -> Intent {
    Intent { name: name.clone(), change: UnitChange::Destroy }
}
