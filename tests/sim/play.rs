//! Plays one seed: faults, requests of users, and the end, when all faults are removed. Owns the choice of what
//! happens; each seed leaves some kinds of faults out, so that the others are more frequent.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use flotilla::model::name::{MachineId, UnitName};
use flotilla::model::unit::Desired;
use flotilla::registry::maintenance::Options;
use flotilla::registry::moves::Request as MoveRequest;
use flotilla::registry::units::Intent;
use flotilla::store::embedded::History;
use flotilla::systemd::fake::{Behaviour, Outcome, Policy};
use futures_util::future::join;
use tokio::time::sleep;

use super::forge::{self, GHOST, KINDS};
use super::journal::Journal;
use super::judge::{closure, needs};
use super::line::{Cut, Weather};
use super::log::Log;
use super::marks::Reached;
use super::pool::{Kind, pool, retried};
use super::random::Random;
use super::rolled;
use super::settled::{Health, compare, idle};
use super::world::{BUS, MASS_LOSS_GRACE, SLOW_BUS, World, destroy, have, restart};

/// How soon after the last fault everything must be settled, including [`QUIET`]: a TTL, the longest hold of a unit and
/// the longest stop, some of which occur one after another.
const SETTLE: Duration = Duration::from_secs(240);

/// How long nothing must happen until everything counts as settled: longer than any delay of a daemon.
const QUIET: Duration = Duration::from_secs(40);

/// What a seed that holds has left behind.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Played {
    /// Its journal.
    pub(crate) lines: Vec<(Duration, String)>,
    /// The marks that it has reached.
    pub(crate) reached: Reached,
}

/// Play `seed`. Fails with the violation.
pub(crate) fn play(seed: u64) -> Result<Played, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut game = Game::new(seed);
        let _log = tracing::subscriber::set_default(Log(game.world.journal.clone()));
        game.run().await;
        let journal: Journal = game.world.journal.clone();
        match journal.report() {
            None => Ok(Played { lines: journal.lines(), reached: journal.reached() }),
            Some(report) => Err(format!(
                "{report}\n\nreplay: FLOTILLA_SEED={seed} cargo test --test simulation -- --nocapture\n\
                 (FLOTILLA_ALL=1 shows it from the beginning)"
            )),
        }
    })
}

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Accident {
    Kill,
    StopDaemon,
    Power,
    Cut,
    Store,
    Bus,
    Slow,
    Hand,
    Flaky,
    Disk,
    Crash,
    Compact,
    Metadata,
    Duplicate,
    Vanish,
    Freeze,
    OneWay,
    Forge,
}

const ACCIDENTS: [Accident; 18] = [
    Accident::Kill,
    Accident::StopDaemon,
    Accident::Power,
    Accident::Cut,
    Accident::Store,
    Accident::Bus,
    Accident::Slow,
    Accident::Hand,
    Accident::Flaky,
    Accident::Disk,
    Accident::Crash,
    Accident::Compact,
    Accident::Metadata,
    Accident::Duplicate,
    Accident::Vanish,
    Accident::Freeze,
    Accident::OneWay,
    Accident::Forge,
];

struct Game {
    world: World,
    random: Random,
    pool: Vec<Kind>,
    /// The generator that decides about restarts, if this seed has restarts.
    restarts: Option<Random>,
    /// The generator that decides whose file gets other sections that systemd skips, if this seed has such changes.
    sections: Option<Random>,
    /// The generator of a second user, who makes requests at the same time, if this seed has one.
    other_user: Option<Random>,
    /// The generator that decides which other wrong records somebody writes, if this seed has them.
    forgeries: Option<Random>,
    /// The generator that decides who is rolled out and with what, if this seed has rollouts.
    rollouts: Option<Random>,
    /// The same for a global unit.
    global_rollouts: Option<Random>,
    accidents: Vec<Accident>,
    /// The generator that decides when a clock is set and to what, if this seed has clocks that are.
    clocks: Option<Random>,
    /// The generator that decides which host is cordoned or uncordoned and when, if this seed has such hosts.
    maintenance: Option<Random>,
    /// The generator that decides which hosts are to reboot and when, if this seed has such hosts.
    reboots: Option<Random>,
    /// The generator that decides on which hosts programs are to reboot them, if this seed has such programs.
    programs: Option<Random>,
    /// The hosts on which one is about to.
    updating: BTreeSet<usize>,
    /// The generator that decides which units are asked to move, and where, if this seed has such units.
    movement: Option<Random>,
    /// The generator that decides when units are to go to better hosts, if this seed has that.
    balance: Option<Random>,
    /// The generator that decides which units don't answer to their probes, if this seed has such units.
    sickness: Option<Random>,
    weather: Weather,
    /// A unit that the first host has from a package until everything heals.
    packaged: Option<UnitName>,
    /// Set when units must not fail any more.
    healthy: Arc<AtomicBool>,
    /// The host with the machine id of another one.
    twin: Option<usize>,
    store_is_down: bool,
    seed: u64,
}

impl Game {
    fn new(seed: u64) -> Self {
        let random = Random::new(seed).fork("game");
        let mut choose = random.fork("choices");
        // With a short history, slow readers must list again.
        let history =
            if choose.chance(300) { History { revisions: 30, ..History::default() } } else { History::default() };
        let mut world = World::new(seed, history);
        let healthy = Arc::new(AtomicBool::new(false));
        let hosts = choose.within(2..=5);
        let wild = if choose.chance(600) { choose.within(20..=200) } else { 0 };
        for number in 1..=hosts {
            let name = format!("n{number}");
            let zone = if choose.chance(500) { "a" } else { "b" };
            let policy = behaviour(random.fork(&name), wild, &healthy);
            world.add_host(&name, u32::try_from(number).unwrap(), &[("zone", zone)], Some(policy));
        }
        let accidents: Vec<Accident> = ACCIDENTS.into_iter().filter(|_| choose.chance(450)).collect();
        let mut rough = |per_mille| if choose.chance(400) { choose.within(1..=per_mille) } else { 0 };
        let weather = Weather {
            delay: 3 + rough(300),
            lost: rough(60),
            unanswered: rough(60),
            late: rough(20),
            watch_ends: rough(100),
            slow_watch: rough(2000),
        };
        let mut pool = pool();
        // At least a third of the units, so that there are conflicts and chains.
        let keep = choose.within(350..=1000);
        pool.retain(|_| choose.chance(keep));
        if pool.is_empty() {
            pool = super::pool::pool();
        }
        // In seeds of their own, so that all others go as before.
        if choose.fork("retried").chance(300) {
            pool.extend(retried());
        }
        world.journal.note(format!("{hosts} hosts, {} units, {accidents:?}, {weather:?}, wild {wild}", pool.len()));
        let restarts = Some(random.fork("restarts")).filter(|_| choose.fork("restarts").chance(600));
        world.versions = Some(random.fork("versions")).filter(|_| choose.fork("versions").chance(300));
        let sections = Some(random.fork("sections")).filter(|_| choose.fork("sections").chance(400));
        let other_user = Some(random.fork("other user")).filter(|_| choose.fork("other user").chance(400));
        let forgeries = Some(random.fork("forgeries")).filter(|_| choose.fork("forgeries").chance(700));
        let clocks = Some(random.fork("clocks")).filter(|_| choose.fork("clocks").chance(300));
        let sickness = Some(random.fork("sickness")).filter(|_| choose.fork("sickness").chance(600));
        let rollouts = Some(random.fork("rollouts")).filter(|_| choose.fork("rollouts").chance(500));
        let global_rollouts = Some(random.fork("globals")).filter(|_| choose.fork("globals").chance(300));
        let maintenance = Some(random.fork("maintenance")).filter(|_| choose.fork("maintenance").chance(300));
        // Two hosts with one machine id are one to whoever reboots them.
        let may_reboot = !accidents.contains(&Accident::Duplicate);
        let reboots = Some(random.fork("reboots")).filter(|_| may_reboot && choose.fork("reboots").chance(200));
        let programs = Some(random.fork("programs")).filter(|_| may_reboot && choose.fork("programs").chance(200));
        let movement = Some(random.fork("movement")).filter(|_| choose.fork("movement").chance(300));
        let balance = Some(random.fork("balance")).filter(|_| choose.fork("balance").chance(300));
        let mut slow = choose.fork("planning");
        if slow.chance(300) {
            let each = Duration::from_millis(*slow.pick(&[50, 500, 2000, 6000]));
            world.journal.note(format!("each computation of a leader takes {} ms", each.as_millis()));
            world.slow_planning(each);
        }
        let mut packages = choose.fork("packages");
        // None that another unit pulls in: that would run the host's own, as it should.
        let packaged = *packages.pick(&["a.service", "b.service", "c.service"]);
        let packaged: Option<UnitName> = packages.chance(300).then(|| packaged.parse().unwrap());
        if let Some(unit) = &packaged {
            world.package(0, unit, true);
        }
        let (twin, store_is_down) = (None, false);
        Self {
            world,
            random,
            pool,
            restarts,
            sections,
            other_user,
            forgeries,
            rollouts,
            global_rollouts,
            accidents,
            clocks,
            maintenance,
            reboots,
            programs,
            updating: BTreeSet::new(),
            movement,
            balance,
            sickness,
            weather,
            packaged,
            healthy,
            twin,
            store_is_down,
            seed,
        }
    }

    async fn run(&mut self) {
        for host in 0..self.world.hosts.len() {
            self.world.start_daemon(host);
        }
        for host in &self.world.hosts {
            host.line.set_weather(self.weather);
        }
        for _ in 0..self.random.within(15..=60) {
            let longest = *self.random.pick(&[50, 50, 2000, 2000, 15_000]);
            sleep(self.random.millis(1..=longest)).await;
            self.world.carry_out_reboots().await;
            if self.accidents.is_empty() || self.random.chance(500) {
                self.user_acts().await;
            } else {
                self.accident().await;
            }
            self.roll_out().await;
            self.set_clocks();
            self.maintain().await;
            self.reboot().await;
            self.update().await;
            self.relocate().await;
            self.rebalance().await;
            self.sicken();
            self.look();
            if self.world.journal.is_violated() {
                return;
            }
        }
        self.heal().await;
        self.finish().await;
    }

    fn look(&self) {
        self.world.judge.look();
        self.world.look_after_daemons();
    }

    async fn user_acts(&mut self) {
        let random = &mut self.random;
        let mut intents: Vec<Intent> = Vec::new();
        let mut twice: Vec<Intent> = Vec::new();
        for _ in 0..random.within(1..=4) {
            let kind = random.pick(&self.pool).clone();
            if intents.iter().any(|intent| intent.name == kind.name) {
                continue;
            }
            let mut text = kind.text(random.within(1..=3));
            let mut first = kind.text(1);
            if self.sections.as_mut().is_some_and(|sections| sections.chance(400)) {
                (text, first) = (kind.with_other_sections(&text), kind.with_other_sections(&first));
            }
            let (file, name) = (Some(text.as_str()), &kind.name);
            // A template can't be started; a request to start it is refused together with the whole batch.
            let launched = if name.is_template() { None } else { Some(Desired::Launched) };
            intents.push(match random.within(0..=11) {
                0..=4 => have(name, Some(&first), launched),
                5 => have(name, file, Some(Desired::Loaded).filter(|_| !name.is_template())),
                6 => have(name, file, Some(Desired::Inactive)),
                7 => have(name, file, None),
                8 => have(name, Some(&first), Some(Desired::Loaded).filter(|_| !name.is_template())),
                9 | 10 => destroy(name),
                _ => {
                    twice.push(have(name, file, launched));
                    destroy(name)
                }
            });
        }
        // Drawn from a generator of its own, so that other choices don't depend on it.
        let mut again: Vec<Intent> = Vec::new();
        if let Some(restarts) = &mut self.restarts
            && restarts.chance(400)
        {
            let names = [restarts.pick(&self.pool).name.clone(), restarts.pick(&self.pool).name.clone()];
            again.extend(BTreeSet::from(names).iter().map(restart));
        }
        let meanwhile = self.other_user_acts();
        join(self.ask_each(&[intents, twice, again]), self.ask_each(&[meanwhile])).await;
    }

    /// Sometimes a set, a unit or a global unit that is rolled out gets another file, or something else happens to it.
    async fn roll_out(&mut self) {
        if let Some(random) = self.rollouts.as_mut()
            && random.chance(300)
        {
            let event = rolled::next(&self.world.judge.cluster(), random);
            self.happens(event).await;
        }
        if let Some(random) = self.global_rollouts.as_mut()
            && random.chance(200)
        {
            let event = rolled::next_of_global(&self.world.judge.cluster(), random);
            self.happens(event).await;
        }
    }

    async fn happens(&mut self, event: rolled::Event) {
        match event {
            rolled::Event::Batch(intents) => self.ask_each(&[intents]).await,
            rolled::Event::Ask(name, what) => {
                if let Err(error) = self.world.ask_of_rollout(&name, what).await {
                    self.world.journal.note(format!("* refused: {error}"));
                }
            }
            rolled::Event::Sicken(unit, sick) => {
                self.world.journal.note(format!("* {unit} answers to its probes: {}", !sick));
                self.world.hosts.iter().for_each(|host| host.answers.sicken(&unit, sick));
            }
        }
    }

    /// Sometimes the clock of a host is set: a little wrong, by hours, by days, or right again.
    fn set_clocks(&mut self) {
        let Some(clocks) = &mut self.clocks else { return };
        let hosts = u64::try_from(self.world.hosts.len()).unwrap();
        let host = usize::try_from(clocks.within(0..=hosts - 1)).unwrap();
        let most = *clocks.pick(&[0, 5_000, 60_000, 3_600_000, 3 * 24 * 3_600_000]);
        let ahead = i64::try_from(clocks.within(0..=2 * most)).unwrap() - i64::try_from(most).unwrap();
        if clocks.chance(150) {
            self.world.set_clock(host, ahead);
        }
    }

    /// Sometimes hosts are to reboot, or no longer.
    async fn reboot(&mut self) {
        let Some(random) = &mut self.reboots else { return };
        let hosts = u64::try_from(self.world.hosts.len()).unwrap();
        let host = usize::try_from(random.within(0..=hosts - 1)).unwrap();
        if random.chance(150) {
            let others = (0..self.world.hosts.len()).filter(|_| random.chance(300));
            let these: Vec<usize> = std::iter::once(host).chain(others).collect();
            let force = random.chance(300);
            if let Err(error) = self.world.ask_reboots(&these, force).await {
                self.world.journal.note(format!("* refused: {error}"));
            }
        } else if random.chance(60) {
            let _ = self.world.cancel_reboot(host).await;
        }
    }

    /// Sometimes a program on a host is to reboot it. It asks until it may, and says when it is back; sometimes it
    /// begins anew in between.
    async fn update(&mut self) {
        let Some(random) = &mut self.programs else { return };
        let hosts = u64::try_from(self.world.hosts.len()).unwrap();
        let host = usize::try_from(random.within(0..=hosts - 1)).unwrap();
        let (begins, asks, is_steady) = (random.chance(200), random.chance(700), random.chance(300));
        if begins {
            self.updating.insert(host);
        }
        if self.updating.contains(&host) && asks {
            if self.world.program_asks(host, true).await == Ok(Ok(())) {
                self.updating.remove(&host);
            }
        } else if is_steady && self.world.program_is_steady(host).await.is_ok() {
            self.updating.remove(&host);
        }
    }

    /// Sometimes a host is cordoned or drained, or no longer, and sometimes what has left it comes back.
    async fn maintain(&mut self) {
        let Some(random) = &mut self.maintenance else { return };
        if !random.chance(250) {
            return;
        }
        let hosts = u64::try_from(self.world.hosts.len()).unwrap();
        let host = usize::try_from(random.within(0..=hosts - 1)).unwrap();
        // Two hosts with one machine id are one to whoever cordons or drains them.
        if self.twin == Some(host) {
            return;
        }
        let cluster = self.world.judge.cluster();
        let asked = cluster.asked_of(&self.world.hosts[host].id).cloned().unwrap_or_default();
        let done = match random.within(0..=5) {
            0..=2 if asked.drain.is_some() => self.world.bring_back(&[host], 2).await,
            _ if asked.drain.is_some() => self.world.drain(&[host], None).await,
            0..=2 => self.world.cordon(host, asked.cordon.is_none()).await,
            kind => {
                let (parallel, why) = (u32::try_from(random.within(1..=3)).unwrap(), String::new());
                let (globals, force) = (random.chance(300), random.chance(200));
                let options = Options { parallel, deadline: *random.pick(&[20, 3600]), globals, force, why };
                let other = usize::try_from(random.within(0..=hosts - 1)).unwrap();
                let both = if kind == 3 { vec![host, other] } else { vec![host] };
                self.world.drain(&both, Some(options)).await
            }
        };
        if let Err(error) = done {
            self.world.journal.note(format!("* refused: {error}"));
        }
    }

    /// Sometimes units are asked to move, to one host or to any other.
    async fn relocate(&mut self) {
        let Some(random) = &mut self.movement else { return };
        if !random.chance(300) {
            return;
        }
        let hosts: Vec<MachineId> = self.world.hosts.iter().map(|host| host.id.clone()).collect();
        // What was written past the daemons is removed only as long as nobody has changed it.
        let is_forged = |name: &UnitName| name.as_str() == forge::UNIT;
        let mut placed: Vec<UnitName> = self.world.judge.cluster().placements.into_keys().collect();
        placed.retain(|name| !is_forged(name));
        if placed.is_empty() {
            return;
        }
        let units = (0..random.within(1..=3)).map(|_| random.pick(&placed).clone()).collect();
        let to = Some(random.pick(&hosts).clone()).filter(|_| random.chance(700));
        let request = MoveRequest { units, to, force: random.chance(300), ..MoveRequest::default() };
        if let Err(error) = self.world.move_units(request).await {
            self.world.journal.note(format!("* refused: {error}"));
        }
    }

    /// Sometimes a person asks for what is better on other hosts.
    async fn rebalance(&mut self) {
        let Some(random) = self.balance.as_mut().filter(|_| !self.store_is_down) else { return };
        if random.chance(200) {
            let limit = usize::try_from(random.within(1..=5)).unwrap();
            if let Err(error) = self.world.rebalance(limit).await {
                self.world.journal.note(format!("* refused: {error}"));
            }
        }
    }

    /// Sometimes a unit no longer answers on a host, or answers again.
    fn sicken(&mut self) {
        let Some(sickness) = &mut self.sickness else { return };
        if sickness.chance(300) {
            let (unit, sick) = (sickness.pick(&self.pool).name.clone(), sickness.chance(600));
            sickness.pick(&self.world.hosts).answers.sicken(&unit, sick);
        }
    }

    async fn ask_each(&self, batches: &[Vec<Intent>]) {
        for batch in batches.iter().filter(|batch| !batch.is_empty()) {
            if let Err(error) = self.world.ask(batch).await {
                self.world.journal.note(format!("* refused: {error}"));
            }
        }
    }

    /// What a second user requests while the first one does.
    fn other_user_acts(&mut self) -> Vec<Intent> {
        let Some(other) = self.other_user.as_mut().filter(|_| !self.pool.is_empty()) else { return Vec::new() };
        let kind = other.pick(&self.pool);
        let mut text = kind.text(other.within(1..=3));
        if self.sections.is_some() && other.fork("sections").chance(400) {
            text = kind.with_other_sections(&text);
        }
        let launched = Some(Desired::Launched).filter(|_| !kind.name.is_template());
        match other.within(0..=3) {
            0 => Vec::new(),
            1 => vec![have(&kind.name, Some(&text), launched)],
            2 => vec![restart(&kind.name)],
            _ => vec![destroy(&kind.name)],
        }
    }

    async fn accident(&mut self) {
        let accident = *self.random.pick(&self.accidents);
        let hosts = u64::try_from(self.world.hosts.len()).unwrap();
        let host = usize::try_from(self.random.within(0..=hosts - 1)).unwrap();
        let world = &mut self.world;
        let has_daemon = world.hosts[host].has_daemon();
        match accident {
            Accident::Kill if has_daemon => {
                world.kill_daemon(host).await;
                if self.random.chance(700) {
                    world.start_daemon(host);
                }
            }
            Accident::StopDaemon if has_daemon => {
                world.stop_daemon(host).await;
                if self.random.chance(500) {
                    world.start_daemon(host);
                }
            }
            Accident::Kill | Accident::StopDaemon => world.start_daemon(host),
            Accident::Power if world.hosts[host].on => {
                world.power_off(host).await;
                if self.random.chance(500) {
                    sleep(self.random.millis(0..=30_000)).await;
                    world.power_on(host);
                }
            }
            Accident::Power => world.power_on(host),
            Accident::Cut => {
                let cut = if world.hosts[host].line.is_cut() { Cut::No } else { Cut::Both };
                self.cut(host, cut).await;
            }
            Accident::OneWay => {
                let cut = *self.random.pick(&[Cut::Requests, Cut::Answers]);
                self.cut(host, cut).await;
            }
            Accident::Freeze if has_daemon && !world.hosts[host].line.freeze.is_frozen() => {
                world.freeze(host);
                if self.random.chance(700) {
                    sleep(self.random.millis(0..=30_000)).await;
                    self.world.thaw(host);
                }
            }
            Accident::Freeze => world.thaw(host),
            Accident::Forge => {
                let unit = self.random.pick(&self.pool).name.clone();
                // A host doesn't notice that somebody has overwritten its report; it writes its next one over that.
                let cluster = world.judge.cluster();
                let other = |random: &mut Random| random.chance(700).then(|| random.pick(&KINDS).1);
                if let Some(kind) = self.forgeries.as_mut().and_then(other) {
                    world.forge_record(kind, host, &unit).await;
                } else if !unit.is_template() && cluster.report(&unit, &world.hosts[host].id).is_none() {
                    let _ = world.forge(host, &unit).await;
                }
            }
            Accident::Store => {
                self.store_is_down = !self.store_is_down;
                world.store(self.store_is_down);
            }
            Accident::Bus => {
                world.journal.note(format!("* the bus of {} is away for a while", world.hosts[host].name));
                let fake = world.hosts[host].fake.clone();
                fake.go_down();
                sleep(self.random.millis(0..=8_000)).await;
                fake.come_up();
            }
            Accident::Slow => {
                let slow = u64::try_from(SLOW_BUS.as_millis()).unwrap();
                let latency = if self.random.chance(600) { self.random.millis(20..=slow) } else { BUS };
                world.slow_systemd(host, latency);
            }
            Accident::Hand => self.by_hand(host),
            Accident::Flaky => {
                let per_mille = *self.random.pick(&[0, 50, 200]);
                world
                    .journal
                    .note(format!("* {per_mille} ‰ of the bus's answers are lost on {}", world.hosts[host].name));
                world.hosts[host].probe.set_flaky(per_mille);
            }
            Accident::Disk => {
                let full = self.random.chance(600);
                world.journal.note(format!("* the disk of {} is full: {full}", world.hosts[host].name));
                world.hosts[host].fake.fill_disk(full);
            }
            Accident::Crash => {
                let running: Vec<UnitName> = world.hosts[host].fake.running().into_iter().collect();
                if !running.is_empty() {
                    let unit = self.random.pick(&running);
                    world.journal.note(format!("* {unit} crashes on {}", world.hosts[host].name));
                    world.hosts[host].fake.crash(unit);
                }
            }
            Accident::Compact => world.compact().await,
            Accident::Metadata => {
                let value = *self.random.pick(&[Some("a"), Some("b"), Some(""), None]);
                let _ = world.set_metadata(host, "zone", value).await;
            }
            Accident::Duplicate => self.duplicate().await,
            Accident::Vanish => self.vanish().await,
        }
    }

    /// Cut a connection, or restore it; one that is cut may be restored soon.
    async fn cut(&mut self, host: usize, cut: Cut) {
        self.world.cut(host, cut, self.random.chance(500));
        if cut != Cut::No && self.random.chance(500) {
            sleep(self.random.millis(0..=25_000)).await;
            self.world.cut(host, Cut::No, true);
        }
    }

    /// A person uses `systemctl` on a host, for a unit that has a file there, as have all units that it needs.
    fn by_hand(&mut self, host: usize) {
        let fake = &self.world.hosts[host].fake;
        let (files, running) = (fake.on_disk(), fake.running());
        let graph = files.iter().map(|(name, text)| (name.clone(), needs(name, text))).collect();
        let whole =
            |name: &&UnitName| closure(BTreeSet::from([(*name).clone()]), &graph).iter().all(|n| files.contains_key(n));
        let units: Vec<UnitName> = files.keys().filter(whole).filter(|name| !name.is_template()).cloned().collect();
        if !units.is_empty() {
            let unit = self.random.pick(&units);
            self.world.by_hand(host, unit, !running.contains(unit));
        }
    }

    /// Several hosts vanish together, as if a part of the network had failed; some of them are back soon, some much
    /// later, and a person may say that one of them is really gone.
    async fn vanish(&mut self) {
        let connected = |host: &usize| !self.world.hosts[*host].line.is_cut();
        let mut hosts: Vec<usize> = (0..self.world.hosts.len()).filter(connected).collect();
        let stays = usize::try_from(self.random.within(0..=1)).unwrap();
        for _ in 0..stays.min(hosts.len()) {
            let at = self.random.within(0..=u64::try_from(hosts.len()).unwrap() - 1);
            hosts.remove(usize::try_from(at).unwrap());
        }
        for host in &hosts {
            self.world.cut(*host, Cut::Both, self.random.chance(500));
        }
        sleep(self.random.millis(0..=40_000)).await;
        if let Some(host) = hosts.first().filter(|_| self.random.chance(200)) {
            let _ = self.world.forget(*host).await;
        }
        sleep(self.random.millis(0..=60_000)).await;
        for host in hosts {
            if self.random.chance(700) {
                self.world.cut(host, Cut::No, true);
                sleep(self.random.millis(0..=2_000)).await;
            }
        }
    }

    /// A clone of the first host appears or disappears.
    async fn duplicate(&mut self) {
        match self.twin {
            None => {
                let policy = behaviour(self.random.fork("twin"), 0, &self.healthy);
                let twin = self.world.add_host("twin", 1, &[("zone", "a")], Some(policy));
                self.world.start_daemon(twin);
                self.twin = Some(twin);
            }
            Some(twin) if self.world.hosts[twin].on => self.world.power_off(twin).await,
            Some(twin) => self.world.power_on(twin),
        }
    }

    /// Remove all faults.
    async fn heal(&mut self) {
        self.healthy.store(true, Ordering::Relaxed);
        self.world.journal.note("* everything heals");
        for host in 0..self.world.hosts.len() {
            let me = &self.world.hosts[host];
            me.line.set_weather(Weather { delay: 3, ..Weather::default() });
            me.line.cut(Cut::No, true);
            self.world.thaw(host);
            self.world.set_clock(host, 0);
            me.probe.set_flaky(0);
            me.answers.cure();
            me.fake.fill_disk(false);
            me.fake.set_latency(BUS);
            if self.twin == Some(host) {
                self.world.power_off(host).await;
            } else {
                self.world.power_on(host);
            }
        }
        if self.reboots.is_some() || self.programs.is_some() {
            self.world.carry_out_reboots().await;
            for host in 0..self.world.hosts.len() {
                let _ = self.world.cancel_reboot(host).await;
            }
        }
        // A host that is cordoned or drained to the end would let whole batches wait.
        let cordoned = self.world.judge.cluster().maintenance;
        for host in 0..self.world.hosts.len() {
            if cordoned.contains_key(&self.world.hosts[host].id) {
                let _ = self.world.cordon(host, false).await;
                let _ = self.world.drain(&[host], None).await;
            }
        }
        let vanishes = self.world.judge.cluster().machines.keys().any(|host| host.as_str() == GHOST);
        self.world.remove_forged().await;
        if vanishes {
            // The host that doesn't exist may be one of many that have vanished: then its units are held.
            sleep(MASS_LOSS_GRACE).await;
        }
        if let Some(unit) = self.packaged.take() {
            self.world.package(0, &unit, false);
        }
        self.world.judge.calms();
    }

    /// Everything must settle, be stopped and started again on request, and then be quiet.
    async fn finish(&mut self) {
        self.settle(Health::Scarred).await;
        for desired in [Desired::Loaded, Desired::Launched] {
            let cluster = self.world.judge.cluster();
            let launched = cluster.units.iter().filter(|(name, unit)| match desired {
                Desired::Launched => unit.desired == Desired::Loaded && !name.is_template(),
                _ => unit.desired == Desired::Launched,
            });
            let again: Vec<Intent> = launched.map(|(name, _)| have(name, None, Some(desired))).collect();
            if self.world.journal.is_violated() {
                return;
            }
            if let Err(error) = self.world.ask(&again).await {
                self.world.journal.violate(format!("starting everything again was refused: {error}"));
            }
            self.settle(if desired == Desired::Launched { Health::Whole } else { Health::Scarred }).await;
        }
        if !self.world.journal.is_violated() {
            // Settling ended with a long quiet already. Some seeds wait for two full checks of every agent and of the
            // leader, and some for an hour.
            let time = match self.seed {
                seed if seed.is_multiple_of(64) => 3600,
                seed if seed.is_multiple_of(8) => 700,
                _ => 10,
            };
            idle(&self.world, Duration::from_secs(time)).await;
            self.look();
        }
    }

    async fn settle(&mut self, health: Health) {
        if self.world.journal.is_violated() {
            return;
        }
        // What needs several plans, one after the other, takes so much longer: a rollout that reaches five hosts one
        // after the other, runs its hooks and is taken back from all of them needs six for each step.
        let limit = SETTLE + 60 * self.world.computing();
        // A leader sees what it waits for, and what follows from that, two computations late each.
        let quiet = QUIET + 4 * self.world.computing();
        if !self.world.settle(quiet, limit).await {
            self.world.journal.violate(format!("not settled after {} s", limit.as_secs()));
        }
        self.look();
        if !self.world.journal.is_violated() {
            compare(&self.world, health).await;
        }
    }
}

/// The behaviour of units on one host: `wild` of a thousand activations fail in some way.
fn behaviour(random: Random, wild: u64, healthy: &Arc<AtomicBool>) -> Policy {
    let healthy = Arc::clone(healthy);
    Arc::new(move |unit: &UnitName, count: u32| {
        if healthy.load(Ordering::Relaxed) {
            return Behaviour::default();
        }
        let mut random = random.fork(&format!("{unit} {count}"));
        let mut behaviour =
            Behaviour { start: random.millis(1..=300), stop: random.millis(1..=300), ..Behaviour::default() };
        if random.chance(wild) {
            match random.within(0..=4) {
                0 => behaviour.outcome = Outcome::Fail,
                1 => behaviour.outcome = Outcome::Hang,
                2 => behaviour.outcome = Outcome::Die(random.millis(1..=20_000)),
                3 => behaviour.start = random.millis(1000..=10_000),
                _ => behaviour.stop = random.millis(1000..=20_000),
            }
        }
        behaviour
    })
}
