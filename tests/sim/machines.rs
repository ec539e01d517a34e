//! Judges the hosts: what runs where, since when, and whether it was requested. Owns the invariants about processes; it
//! sees the log of each host, with its times, and the changes of the hosts' assignments.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use flotilla::model::body::{BodyHash, is_same_to_systemd};
use flotilla::model::cluster::Cluster;
use flotilla::model::disconnect::stops_on_disconnect;
use flotilla::model::file::UnitFile;
use flotilla::model::machine::Machine;
use flotilla::model::name::{MachineId, UnitHash, UnitName};
use flotilla::model::revision::Revision;
use flotilla::model::systemd::JobKind;
use flotilla::model::unit::{Assignment, Target, UnitReport};
use flotilla::plan::host::BACK_OFF;
use flotilla::store::LeaseId;
use flotilla::systemd::fake::{Fake, LogEntry, What};

use super::forge;
use super::health::Answers;
use super::journal::Journal;
use super::judge::{closure, needs, options};
use super::requests::{Asks, Meanwhile, Requests};
use super::told::{Reader, Told};
use super::world::TTL;

/// A job that was requested at least this long before the cluster treated its host as dead, and hasn't begun by then,
/// waits in systemd's queue and can't be cancelled. Agents request nothing when less than a third of the TTL is left.
const QUEUED: Duration = TTL.checked_div(4).unwrap();

/// How long a request takes until it has an effect; what it changes may have begun meanwhile.
const BUS: Duration = Duration::from_millis(20);

/// All hosts, by number.
#[derive(Default)]
pub(crate) struct Machines {
    all: Vec<Watched>,
    pub(crate) told: Told,
    /// The longest time that a call to systemd takes.
    pub(crate) call: Duration,
    /// What systemd has of each file that the store ever had.
    bodies: BTreeMap<UnitHash, BodyHash>,
    /// Since when a host has no assignment of a unit that it had.
    unassigned: BTreeMap<(MachineId, UnitName), Duration>,
    /// Since when there are no faults any more.
    calm: Option<Duration>,
}

/// One host.
struct Watched {
    name: String,
    id: MachineId,
    fake: Fake,
    answers: Arc<Answers>,
    born: Duration,
    /// The number of entries of its log that were judged.
    seen: usize,
    /// Whether it is registered, and whether its system is shutting down.
    present: bool,
    going_down: bool,
    /// When the store was last restored, and the units that the host may have had then and that the restored store
    /// doesn't assign to it, until it does.
    restored: Option<Duration>,
    orphans: BTreeSet<UnitName>,
    /// When the cluster last treated it as dead, and when it last registered.
    lost: Option<Duration>,
    registered: Option<Duration>,
    /// When its daemon was last suspended, and until when.
    frozen: Option<(Duration, Option<Duration>)>,
    requests: Requests,
    /// When a person last started each unit, and last stopped it.
    hand_starts: BTreeMap<UnitName, Duration>,
    hand_stops: BTreeMap<UnitName, Duration>,
    /// When a person last started each unit, or one that needs it, while systemd didn't hold the host's lease.
    hand_starts_without_lease: BTreeMap<UnitName, Duration>,
    /// When the agent last wrote the file of each unit.
    installed: BTreeMap<UnitName, Duration>,
    running: BTreeMap<UnitName, Duration>,
    stopping: BTreeSet<UnitName>,
    up: BTreeSet<UnitName>,
    /// When each unit was last started in this boot, and when it last failed.
    started: BTreeMap<UnitName, Duration>,
    /// Since when the agent has known of each unit that it is down, and whether it has saved that.
    seen_down: BTreeMap<UnitName, (Duration, bool)>,
    /// When systemd last let go of the host's lease.
    lapsed: Option<Duration>,
    /// When each unit that ends with the lease, or needs one that does, last went down with it, as far as the agent can
    /// tell. Its file may have another text since, and what it needed may be gone. It is due to return until its next
    /// start is requested, even if systemd holds the lease and lets go of it again before that.
    ended: BTreeMap<UnitName, Duration>,
    /// The file with which each unit was started.
    with: BTreeMap<UnitName, String>,
    failed: BTreeMap<UnitName, Duration>,
    /// When a call that changes a unit last failed.
    call_failed: Option<Duration>,
}

impl Watched {
    /// When its daemon has noticed what happened on the host `at` some time, which takes it so long.
    fn noticed(&self, at: Duration, takes: Duration) -> Duration {
        match self.frozen {
            Some((since, until)) if at + takes >= since && until.is_none_or(|until| at <= until) => {
                until.map_or(Duration::MAX, |until| until + takes)
            }
            _ => at + takes,
        }
    }

    /// What ran when systemd let go of the lease, `at` this time. A unit that had ended before, by itself or because of
    /// a person, counts too if no daemon had observed that by then (it was dead or suspended, or the bus failed) or one
    /// had died before it saved it: systemd forgets when a unit that is down has ended, so the agent can't know which
    /// came first, and must not leave down what only the lease has stopped. What was observed in time doesn't count.
    fn ran(&self, at: Duration, lag: Duration) -> BTreeSet<UnitName> {
        let known = |unit: &UnitName| self.seen_down.get(unit).is_some_and(|(seen, _)| self.noticed(*seen, lag) < at);
        self.started.keys().filter(|unit| self.running.contains_key(*unit) || !known(unit)).cloned().collect()
    }
}

impl Watched {
    /// The units that end with the lease, and those that need one of them.
    fn bound(&self) -> BTreeSet<UnitName> {
        let texts = self.fake.on_disk();
        let graph = graph(&texts);
        let ends = |name: &UnitName| texts.get(name).is_some_and(|text| stops_on_disconnect(text));
        let is_bound = |name: &&UnitName| closure(BTreeSet::from([(*name).clone()]), &graph).iter().any(ends);
        texts.keys().filter(is_bound).cloned().collect()
    }

    /// Whether its key was lost with the store's data, and its daemon may not know that yet: it notices when it renews
    /// its lease.
    fn was_registered_before_a_restore(&self, now: Duration) -> bool {
        self.restored.is_some_and(|restored| self.lost == Some(restored) && now < restored + TTL)
    }
}

impl Machines {
    pub(crate) fn add(
        &mut self,
        name: &str,
        id: &MachineId,
        (fake, answers): (&Fake, &Arc<Answers>),
        now: Duration,
    ) -> usize {
        self.all.push(Watched {
            name: name.into(),
            id: id.clone(),
            fake: fake.clone(),
            answers: Arc::clone(answers),
            born: now,
            seen: 0,
            present: false,
            going_down: false,
            restored: None,
            orphans: BTreeSet::new(),
            lost: None,
            registered: None,
            frozen: None,
            requests: Requests::default(),
            hand_starts: BTreeMap::new(),
            hand_stops: BTreeMap::new(),
            hand_starts_without_lease: BTreeMap::new(),
            installed: BTreeMap::new(),
            running: BTreeMap::new(),
            stopping: BTreeSet::new(),
            up: BTreeSet::new(),
            started: BTreeMap::new(),
            seen_down: BTreeMap::new(),
            lapsed: None,
            ended: BTreeMap::new(),
            with: BTreeMap::new(),
            failed: BTreeMap::new(),
            call_failed: None,
        });
        self.all.len() - 1
    }

    /// The store was restored: `had` are the units that were assigned to hosts before, `cluster` is what it contains.
    pub(crate) fn restored(&mut self, had: &[(MachineId, UnitName)], cluster: &Cluster, now: Duration) {
        for machine in &mut self.all {
            let slice = cluster.schedule.get(&machine.id);
            let has = |unit: &UnitName| {
                slice.and_then(|slice| slice.get(unit)).is_some_and(|entry| entry.value.target != Target::Removed)
            };
            let mine = had.iter().filter(|(host, _)| *host == machine.id).map(|(_, unit)| unit.clone());
            let units = machine.running.keys().cloned().chain(machine.fake.on_disk().into_keys()).chain(mine);
            machine.orphans.extend(units.filter(|unit| !has(unit)));
            machine.orphans.retain(|unit| !has(unit));
            machine.restored = Some(now);
        }
    }

    /// A person says that a host is to run only what the store assigns to it.
    pub(crate) fn accepts(&mut self, host: usize) {
        self.all[host].orphans.clear();
    }

    /// There are no faults from now on.
    pub(crate) fn calms(&mut self, now: Duration) {
        self.calm = Some(now);
    }

    /// The assignment of a unit to a host is deleted.
    pub(crate) fn unassigned(&mut self, id: &MachineId, unit: &UnitName, now: Duration) {
        self.unassigned.insert((id.clone(), unit.clone()), now);
    }

    /// A unit is assigned to a host.
    pub(crate) fn assigned(&mut self, id: &MachineId, unit: &UnitName) {
        self.unassigned.remove(&(id.clone(), unit.clone()));
        for machine in self.all.iter_mut().filter(|machine| machine.id == *id) {
            machine.orphans.remove(unit);
        }
    }

    pub(crate) fn id(&self, host: usize) -> Option<MachineId> {
        self.all.get(host).map(|machine| machine.id.clone())
    }

    pub(crate) fn name(&self, id: &MachineId) -> String {
        let mine = |machine: &&Watched| machine.id == *id;
        let present = self.all.iter().filter(mine).find(|machine| machine.present);
        present.or(self.all.iter().find(mine)).map_or_else(|| id.short().into(), |machine| machine.name.clone())
    }

    pub(crate) fn daemon_starts(&mut self, host: usize) {
        self.told.daemon_starts(host);
        self.all[host].requests.daemon_starts();
    }

    pub(crate) fn freezes(&mut self, host: usize, frozen: bool, now: Duration) {
        let machine = &mut self.all[host];
        match machine.frozen {
            Some((since, None)) if !frozen => {
                machine.frozen = Some((since, Some(now)));
                self.told.continues(host, since, now);
            }
            _ => machine.frozen = frozen.then_some((now, None)),
        }
    }

    pub(crate) fn by_hand(&mut self, host: usize, unit: &UnitName, start: bool, now: Duration) {
        let Watched { fake, hand_starts, hand_stops, hand_starts_without_lease, .. } = &mut self.all[host];
        if start && !fake.has_lease() {
            let all = closure(BTreeSet::from([unit.clone()]), &graph(&fake.on_disk()));
            hand_starts_without_lease.extend(all.into_iter().map(|unit| (unit, now)));
        }
        let asked = if start { hand_starts } else { hand_stops };
        asked.insert(unit.clone(), now);
    }

    pub(crate) fn was_stopped_by_hand(&self, id: &MachineId, unit: &UnitName) -> bool {
        let stopped = |machine: &Watched| machine.hand_stops.get(unit).copied() > machine.started.get(unit).copied();
        self.all.iter().any(|machine| machine.id == *id && stopped(machine))
    }

    pub(crate) fn shuts_down(&mut self, host: usize) {
        self.all[host].going_down = true;
    }

    pub(crate) fn daemon_ends(&mut self, host: usize) {
        let machine = &mut self.all[host];
        machine.requests.daemon_ends();
        machine.seen_down.retain(|_, (_, saved)| *saved);
    }

    pub(crate) fn noted(&mut self, host: usize) {
        let machine = &mut self.all[host];
        machine.requests.noted();
        machine.seen_down.values_mut().for_each(|(_, saved)| *saved = true);
    }

    /// Whether the host's daemon may not know what an earlier one did with a unit, because that one died before it
    /// could save it.
    pub(crate) fn may_have_forgotten(&self, id: &MachineId, unit: &UnitName) -> bool {
        self.all.iter().any(|machine| machine.id == *id && machine.requests.may_have_forgotten(unit))
    }

    /// The store has a text under this key.
    pub(crate) fn stored(&mut self, key: &UnitHash, text: &str) {
        self.bodies.extend(BodyHash::of_text(text).map(|body| (key.clone(), body)));
    }

    /// The agent is about to write these files. A change of comments, or of sections that systemd skips, is no reason
    /// to start a unit again; nor is the generation that such a file carries out.
    pub(crate) fn installs(&mut self, host: usize, units: &[(UnitName, String)], now: Duration) {
        let on_disk = self.all[host].fake.on_disk();
        let is_rewritten = |(unit, text): &(UnitName, String)| {
            on_disk.get(unit).is_some_and(|before| before != text && is_same_to_systemd(before, text))
        };
        let (rewritten, changed): (Vec<_>, Vec<_>) = units.iter().cloned().partition(is_rewritten);
        for (unit, text) in rewritten {
            let machine = &self.all[host];
            let told = self.told.assignments(host, &machine.id, &unit, now);
            let of = |text: &String| UnitFile::parse(text.as_bytes()).unwrap().hash();
            let hash = of(&text);
            // With other comments only it is no other file, and carries nothing out.
            if on_disk.get(&unit).map(of).as_ref() == Some(&hash) {
                continue;
            }
            let launched = told.iter().flatten().filter(|told| told.target == Target::Launched && told.hash == hash);
            // It may be the oldest of these that the agent carries out.
            let oldest = launched.min_by_key(|told| told.generation).map(|told| (told.generation, told.restart));
            // A unit that is down, or that the agent may believe to be down, is started for any new generation.
            let up = machine.started.get(&unit).is_some_and(|since| machine.noticed(*since, self.told.lag()) < now);
            let rests = machine.seen_down.contains_key(&unit) && !is_done(&text, machine.failed.contains_key(&unit));
            // A start that is asked for besides the file is requested: nothing but the file differs in what was asked.
            let launches = |generation: Revision| {
                let before = self.told.before(&machine.id, &unit, generation);
                before.is_none_or(|before| before.target != Target::Launched)
            };
            if let Some((generation, restart)) = oldest {
                let start = !up || rests || launches(generation);
                let destroyed = self.told.destroyed_before(&unit, generation);
                let replaced = self.told.was_replaced(&machine.id, &unit, generation);
                self.all[host].requests.rewritten(&unit, Asks { generation, restart, start, destroyed, replaced });
            }
        }
        let changed: Vec<UnitName> = changed.into_iter().map(|(unit, _)| unit).collect();
        self.files(host, &changed);
        self.all[host].installed.extend(units.iter().map(|(unit, _)| (unit.clone(), now)));
    }

    /// The agent is about to write or to remove the files of `units`.
    pub(crate) fn files(&mut self, host: usize, units: &[UnitName]) {
        units.iter().for_each(|unit| self.all[host].requests.file(unit));
    }

    /// The agent asks for the starts of `units`.
    pub(crate) fn starts(&mut self, journal: &Journal, host: usize, units: &[UnitName], now: Duration) {
        self.starts_together(journal, host, units, now);
        let machine = &mut self.all[host];
        let texts = machine.fake.on_disk();
        let graph = graph(&texts);
        for unit in units {
            let told = self.told.assignments(host, &machine.id, unit, now);
            let mut needed = closure(BTreeSet::from([unit.clone()]), &graph);
            let stopped = last_of(&machine.hand_stops, &needed);
            let started = machine.started.get(unit).copied().max(machine.requests.last_start([unit]));
            let stopped = stopped.filter(|stopped| started < Some(*stopped));
            let down = stopped.map(|stopped| machine.noticed(stopped, self.told.lag()));
            needed.remove(unit);
            let wanted = |need: &&UnitName| {
                let told = self.told.assignments(host, &machine.id, need, now);
                told.iter().flatten().any(|told| told.target == Target::Launched)
            };
            let wanted: BTreeSet<UnitName> = needed.iter().filter(wanted).cloned().collect();
            let ends = |name: &UnitName| texts.get(name).is_some_and(|text| stops_on_disconnect(text));
            let bound = needed.iter().chain([unit]).any(ends);
            // It ran then; or its last start was requested since, and systemd refused it. systemd's signal doesn't say
            // who requested that: a unit that should run, and that a person started in vain, is started as well when
            // systemd holds the lease again.
            let by_hand = machine.hand_starts_without_lease.get(unit).copied();
            let refused = machine.started.get(unit).copied() < machine.requests.last_start([unit]).max(by_hand);
            let refused = machine.lapsed.filter(|_| refused && bound).map(|_| now);
            let lapsed = refused.or(machine.ended.get(unit).copied());
            let forged = unit.as_str() == forge::UNIT;
            let meanwhile = Meanwhile { down, lapsed, forged };
            if let Err(what) = machine.requests.start(unit, &told, (&needed, &wanted), meanwhile, now) {
                journal.violate(format!("{} asks for a start of {unit}, {what}", machine.name));
            }
        }
        if !machine.present && !machine.was_registered_before_a_restore(now) {
            journal.violate(format!("{} asks for starts while it isn't registered", machine.name));
        }
    }

    /// Of a chain that was requested as one batch, all jobs are queued before the first of them runs: a start is not
    /// requested without that of a unit which needs it, if neither was requested before and both have their files.
    fn starts_together(&self, journal: &Journal, host: usize, units: &[UnitName], now: Duration) {
        let machine = &self.all[host];
        // What failed is left alone for a while.
        if machine.call_failed.is_some_and(|failed| now < failed + BACK_OFF + self.told.lag()) {
            return;
        }
        let texts = machine.fake.on_disk();
        let graph = graph(&texts);
        // What the agent has yet to do anything for. What was written together, it knows together.
        let due = |unit: &UnitName| {
            let (at, told) = self.told.only(host, &machine.id, unit, now)?;
            if told.target != Target::Launched {
                return None;
            }
            let is_new = !machine.started.contains_key(unit) && machine.requests.last_start([unit]).is_none();
            let body = texts.get(unit).and_then(|text| BodyHash::of_text(text));
            let has_file = body.is_some_and(|body| self.bodies.get(&told.hash) == Some(&body));
            (is_new && has_file && !machine.hand_stops.contains_key(unit)).then_some(at)
        };
        for late in texts.keys().filter(|late| !units.contains(*late)) {
            let Some(at) = due(late) else { continue };
            let needs = closure(BTreeSet::from([late.clone()]), &graph);
            let are_all = needs.iter().all(|need| need == late || units.contains(need));
            if are_all && units.iter().any(|unit| needs.contains(unit) && due(unit) == Some(at)) {
                journal.violate(format!("{} asks for the start of what {late} needs, and not of {late}", machine.name));
            }
        }
    }

    /// A call that changes a unit of this host has failed, or its answer was lost.
    pub(crate) fn call_failed(&mut self, host: usize, now: Duration) {
        self.all[host].call_failed = Some(now);
    }

    /// The agent has observed that the unit is up or down.
    pub(crate) fn observed(&mut self, host: usize, unit: &UnitName, is_up: bool, now: Duration) {
        let seen_down = &mut self.all[host].seen_down;
        if is_up {
            seen_down.remove(unit);
        } else {
            seen_down.entry(unit.clone()).or_insert((now, false));
        }
    }

    pub(crate) fn start_answered(&mut self, host: usize, unit: &UnitName) {
        self.all[host].requests.start_answered(unit);
    }

    /// The agent requests the stop of `units`. A unit whose assignment was deleted only because the cluster treated its
    /// host as dead keeps running where it `belongs`, with the file that it has.
    pub(crate) fn stops(
        &mut self,
        journal: &Journal,
        host: usize,
        units: &[UnitName],
        now: Duration,
        belongs: impl Fn(&MachineId, &UnitName, &dyn Fn(&UnitHash) -> bool) -> bool,
    ) {
        let machine = &mut self.all[host];
        let (texts, staged) = (machine.fake.on_disk(), machine.fake.staged());
        for unit in units {
            let told = self.told.assignments(host, &machine.id, unit, now);
            let body = |text: Option<&String>| BodyHash::of_text(text?);
            let (on_disk, with) = (body(texts.get(unit)), body(machine.with.get(unit)));
            let is =
                |body: Option<BodyHash>, hash: &UnitHash| body.is_some_and(|body| self.bodies.get(hash) == Some(&body));
            let differs = |told: &Assignment| {
                !is(on_disk, &told.hash) || (machine.running.contains_key(unit) && !is(with, &told.hash))
            };
            let absent = !told.is_empty() && told.iter().all(Option::is_none);
            if absent
                && self.told.was_cleared(&machine.id, unit)
                && machine.running.contains_key(unit)
                && !machine.requests.may_have_forgotten(unit)
                && belongs(&machine.id, unit, &|hash| is(with, hash))
            {
                journal.violate(format!("{} has come back and stops {unit}, which can run nowhere else", machine.name));
            }
            let notices = self.told.newest(host, Reader::Agent).is_some_and(|at| at.cluster > 1);
            if absent && notices && machine.orphans.contains(unit) && !machine.requests.may_have_forgotten(unit) {
                journal.violate(format!("{} stops {unit}, which only the store has lost", machine.name));
            }
            let next = body(staged.get(unit));
            let lacks = |told: &Assignment| {
                let is_there = is(on_disk, &told.hash) || is(next, &told.hash);
                told.target == Target::Launched && self.bodies.contains_key(&told.hash) && !is_there
            };
            if !told.is_empty() && told.iter().all(|told| told.is_some_and(lacks)) {
                journal.violate(format!("{} stops {unit} for a file that it hasn't written", machine.name));
            }
            if let Err(what) = machine.requests.stop(unit, &told, differs, now) {
                journal.violate(format!("{} asks for a stop of {unit} {what}", machine.name));
            }
        }
        if !machine.present && !machine.was_registered_before_a_restore(now) {
            journal.violate(format!("{} asks for stops while it isn't registered", machine.name));
        }
    }

    /// The host's key in the store has changed, or its lease.
    pub(crate) fn presence(&mut self, id: &MachineId, record: Option<&Machine>, lease: Option<LeaseId>, now: Duration) {
        for machine in self.all.iter_mut().filter(|machine| machine.id == *id) {
            let present = record.is_some_and(|record| record.hostname == machine.name);
            machine.requests.registered(lease.filter(|_| present));
            if machine.present && !present {
                machine.lost = Some(now);
            }
            if present && !machine.present {
                machine.registered = Some(now);
            }
            machine.present = present;
        }
    }

    /// A report of the host in the store has changed.
    pub(crate) fn reported(
        &mut self,
        id: &MachineId,
        unit: &UnitName,
        report: Option<&UnitReport>,
        lease: Option<LeaseId>,
    ) {
        for machine in self.all.iter_mut().filter(|machine| machine.id == *id && machine.present) {
            machine.requests.reported(unit, report, lease);
        }
    }

    /// The host whose report says that a unit isn't ready any more, and that can't know that.
    pub(crate) fn makes_unready(
        &self,
        id: &MachineId,
        unit: &UnitName,
        old: Option<&UnitReport>,
        new: &UnitReport,
    ) -> Option<String> {
        let machine = self.all.iter().find(|machine| machine.id == *id && machine.present)?;
        (!machine.answers.may_report(unit, old, new)).then(|| machine.name.clone())
    }

    /// What the host has of a unit that it says is gone, and had when it sent that.
    pub(crate) fn had(&self, id: &MachineId, unit: &UnitName, sent: Duration) -> Option<(String, &'static str)> {
        let machine = self.all.iter().find(|machine| machine.id == *id && machine.present)?;
        let before = |times: &BTreeMap<UnitName, Duration>| times.get(unit).is_none_or(|at| *at <= sent);
        let what = if machine.fake.running().contains(unit) && before(&machine.running) {
            "runs"
        } else if machine.fake.on_disk().contains_key(unit) && before(&machine.installed) {
            "has a file"
        } else {
            return None;
        };
        Some((machine.name.clone(), what))
    }

    /// Since when a unit runs on a host that is registered.
    pub(crate) fn runs_since(&self, id: &MachineId, unit: &UnitName) -> Option<(String, Duration)> {
        let machine = self.all.iter().find(|machine| machine.id == *id && machine.present)?;
        machine.running.get(unit).map(|since| (machine.name.clone(), *since))
    }

    pub(crate) fn removes(&self, journal: &Journal, host: usize, unit: &UnitName, now: Duration) {
        let machine = &self.all[host];
        // A person may have started it since the agent checked whether it runs: that takes two calls if some of the
        // units it asks about may not be loaded.
        let started = last_of(&machine.hand_starts, &askers(unit, &machine.fake.on_disk()));
        let surprise = started.is_some_and(|started| machine.noticed(started, BUS + 2 * self.call) >= now);
        if machine.fake.running().contains(unit) && !surprise {
            journal.violate(format!("{} removes {unit} while it runs", machine.name));
        }
    }

    /// Judge the entries of the hosts' logs since the last call.
    pub(crate) fn look(&mut self, journal: &Journal, cluster: &Cluster) {
        let mut news: Vec<(Duration, u8, usize, LogEntry)> = Vec::new();
        for (host, machine) in self.all.iter_mut().enumerate() {
            let entries = machine.fake.log_after(machine.seen);
            machine.seen += entries.len();
            // What ends on one host at an instant comes before what begins on another host at the same instant.
            let begins = |at| entries.iter().any(|entry| entry.at == at && entry.what == What::Starting);
            news.extend(entries.iter().map(|e| (machine.born + e.at, u8::from(begins(e.at)), host, e.clone())));
        }
        // The sort is stable: the entries of one host at one instant stay in order.
        news.sort_by_key(|(at, last, host, _)| (*at, *last, *host));
        for (at, _, host, entry) in news {
            self.happened(journal, cluster, at, host, &entry);
        }
        self.look_for_overdue(journal);
    }

    /// Once there are no faults any more, a registered host soon stops what isn't assigned to it any more, except for
    /// what can run nowhere else. One that returns may have to try again before it can read its assignments.
    fn look_for_overdue(&mut self, journal: &Journal) {
        let Some(calm) = self.calm else { return };
        let (now, soon) = (journal.now(), self.told.lag() + TTL);
        let mut overdue = Vec::new();
        for machine in self.all.iter().filter(|machine| machine.present && !machine.going_down) {
            for (unit, since) in &machine.running {
                let Some(left) = self.unassigned.get(&(machine.id.clone(), unit.clone())) else { continue };
                let from = calm.max(*left).max(*since).max(machine.registered.unwrap_or_default());
                if from + soon >= now || machine.stopping.contains(unit) || machine.orphans.contains(unit) {
                    continue;
                }
                let texts = machine.fake.on_disk();
                let tied = texts.get(unit).is_some_and(|text| text.contains("Global=") || text.contains("MachineID="));
                let is_pulled =
                    askers(unit, &texts).iter().any(|asker| asker != unit && machine.running.contains_key(asker));
                let is_stopped = machine.fake.unit(unit).job.is_some_and(|job| job == JobKind::Stop);
                if !tied && !is_pulled && !is_stopped && !machine.is_by_hand(unit, &texts) {
                    overdue.push((machine.id.clone(), unit.clone(), machine.name.clone(), now - from));
                }
            }
        }
        for (id, unit, name, late) in overdue {
            let late = late.as_secs();
            journal.violate(format!("{unit} still runs on {name}, without an assignment for {late} s"));
            self.unassigned.remove(&(id, unit));
        }
    }

    fn happened(&mut self, journal: &Journal, cluster: &Cluster, at: Duration, host: usize, entry: &LogEntry) {
        let name = self.all[host].name.clone();
        let Some(unit) = &entry.unit else {
            journal.note(format!("{name}: {:?}", entry.what));
            if entry.what == What::Lapsed {
                let lag = self.told.lag();
                let machine = &mut self.all[host];
                machine.lapsed = Some(at);
                let bound = machine.bound();
                let ended = machine.ran(at, lag).into_iter().filter(|unit| bound.contains(unit));
                machine.ended.extend(ended.map(|unit| (unit, at)));
            }
            if entry.what == What::Rebooted {
                let machine = &mut self.all[host];
                machine.running.clear();
                machine.up.clear();
                machine.stopping.clear();
                machine.started.clear();
                machine.failed.clear();
                machine.hand_starts.clear();
                machine.hand_stops.clear();
                machine.hand_starts_without_lease.clear();
                machine.installed.clear();
                machine.seen_down.clear();
                machine.lapsed = None;
                machine.ended.clear();
                machine.requests.reboot();
                machine.orphans.clear();
                machine.going_down = false;
            }
            return;
        };
        journal.note(format!("{name}: {unit} {:?}", entry.what));
        match entry.what {
            What::Starting => self.starting(journal, cluster, at, host, unit),
            What::Started => {
                let machine = &mut self.all[host];
                let text = machine.fake.on_disk().remove(unit).unwrap_or_default();
                if text.contains("Type=oneshot") && !text.contains("RemainAfterExit=yes") {
                    machine.running.remove(unit); // it has finished, and has no process
                } else {
                    machine.up.insert(unit.clone());
                }
            }
            What::Stopping => {
                self.stopping(journal, at, host, unit);
                self.all[host].up.remove(unit);
                self.all[host].stopping.insert(unit.clone());
            }
            What::Stopped | What::Failed | What::Killed => {
                let machine = &mut self.all[host];
                machine.running.remove(unit);
                machine.up.remove(unit);
                machine.stopping.remove(unit);
                if entry.what == What::Failed {
                    machine.failed.insert(unit.clone(), at);
                }
            }
            What::Reloaded | What::Rebooted | What::Lapsed => {}
        }
    }

    fn starting(&mut self, journal: &Journal, cluster: &Cluster, at: Duration, host: usize, unit: &UnitName) {
        let me = &self.all[host];
        if me.stopping.contains(unit) {
            journal.violate(format!("{} starts {unit} before its stop is over", me.name));
        }
        let texts = me.fake.on_disk();
        self.start_is_asked_for(journal, host, unit, &texts);
        if let Some(text) = texts.get(unit) {
            let after = options(unit, text, &["After"]);
            let askers = askers(unit, &texts);
            let asked = me.requests.last_start(&askers).max(last_of(&me.hand_starts, &askers));
            for need in needs(unit, text).intersection(&after).filter(|need| texts.contains_key(*need)) {
                // systemd doesn't take a queued start back when what it needs fails meanwhile.
                let failed_since = me.failed.get(need).is_some_and(|failed| Some(*failed) >= asked);
                if me.fake.unit(need).sub == "running" || me.up.contains(need) || failed_since {
                    continue;
                }
                journal.violate(format!("{} starts {unit} before {need}, which it needs", me.name));
            }
        }
        let global = texts.get(unit).is_some_and(|text| text.contains("Global=true"));
        for other in self.all.iter().enumerate().filter(|(other, _)| *other != host && !global).map(|(_, m)| m) {
            if !other.running.contains_key(unit) {
                continue;
            }
            // The cluster treats that host as dead, or has done so when it decided to place the unit elsewhere: that
            // one has yet to learn this.
            let lost = !other.present || self.told.was_cleared(&other.id, unit);
            // A job that waited in systemd's queue while the cluster treated its host as dead; it can't be cancelled
            // there.
            let asked = me.requests.last_start(&askers(unit, &texts));
            let queued = !me.present && asked.map(|asked| asked + QUEUED) <= me.lost;
            // systemd starts it again there, as long as that host has yet to learn that the unit has left it.
            let again = me.restarts_itself(unit) && (!me.present || self.told.was_cleared(&me.id, unit));
            // It must leave that host, and another unit that is launched there pulls it in before it has left: this is
            // the effect of `Requires=` without `MachineOf=`.
            let slice = cluster.schedule.get(&me.id);
            let live = |name: &UnitName| {
                slice.and_then(|slice| slice.get(name)).is_some_and(|entry| entry.value.target != Target::Removed)
            };
            let pulled = !live(unit) && askers(unit, &texts).iter().any(|name| name != unit && live(name));
            let hand = me.is_by_hand(unit, &texts) || other.is_by_hand(unit, &texts);
            // Such a unit must not run twice, whatever the cluster believes of the other host.
            let sole = texts.get(unit).is_some_and(|text| stops_on_disconnect(text));
            // Somebody else may have assigned it to two hosts.
            let forged = unit.as_str() == forge::UNIT;
            // The store has lost that it runs on one of them, where it keeps running.
            let orphan = me.orphans.contains(unit) || other.orphans.contains(unit);
            // Another host with its machine id has reported in its place that it was stopped.
            let twice = self.all.iter().filter(|machine| machine.id == other.id).count() > 1;
            if (sole || (!lost && !queued && !again && !twice)) && !pulled && !hand && !forged && !orphan {
                journal.violate(format!(
                    "{unit} starts on {} while it runs on {}, {}",
                    me.name,
                    other.name,
                    if sole { "and ends with its lease" } else { "which was there all the time" }
                ));
            }
        }
        let me = &mut self.all[host];
        let hand = me.is_by_hand(unit, &texts);
        me.running.insert(unit.clone(), at);
        me.started.insert(unit.clone(), at);
        me.seen_down.retain(|name, (seen, _)| name != unit || *seen > at);
        me.with.extend(texts.get(unit).map(|text| (unit.clone(), text.clone())));
        if !hand {
            me.requests.begins(unit);
        }
    }

    /// systemd starts a unit once for each request of the agent for it, or for a unit that needs it, and again by
    /// itself when it has failed and its file says so.
    fn start_is_asked_for(&self, journal: &Journal, host: usize, unit: &UnitName, texts: &BTreeMap<UnitName, String>) {
        let me = &self.all[host];
        let askers = askers(unit, texts);
        let asked = me.requests.last_start(&askers).max(last_of(&me.hand_starts, &askers));
        if !me.restarts_itself(unit) && (asked.is_none() || asked < me.started.get(unit).copied()) {
            journal.violate(format!("{} starts {unit}, which nobody asked for", me.name));
        }
    }

    /// systemd stops a unit because the agent requests this or the stop of a unit that it needs, or because such a unit
    /// died; and only when the units that need it and follow it are down.
    fn stopping(&self, journal: &Journal, at: Duration, host: usize, unit: &UnitName) {
        let me = &self.all[host];
        let Some(since) = me.running.get(unit).copied() else { return };
        let loaded = |name: &UnitName| me.fake.loaded_text(name);
        let mut graph = graph(&me.fake.on_disk());
        graph.entry(unit.clone()).or_default().extend(loaded(unit).iter().flat_map(|text| needs(unit, text)));
        let causes = closure(BTreeSet::from([unit.clone()]), &graph);
        let failed = causes.iter().filter_map(|name| me.failed.get(name)).max().copied();
        let asked = me.requests.last_stop(&causes).map(|asked| asked + BUS + self.call);
        let by_hand = last_of(&me.hand_stops, &causes);
        let ends = |name: &UnitName| me.with.get(name).is_some_and(|text| stops_on_disconnect(text));
        let lapsed = me.lapsed.filter(|_| causes.iter().any(ends));
        if !me.going_down && asked.max(failed).max(by_hand).max(lapsed) < Some(since) {
            let ran = (at - since).as_secs();
            journal.violate(format!("{} stops {unit} after {ran} s, which nobody asked for", me.name));
        }
        for other in me.up.iter().filter(|other| *other != unit && me.running.contains_key(*other)) {
            let binds =
                |text: &String| needs(other, text).contains(unit) && options(other, text, &["After"]).contains(unit);
            if loaded(other).as_ref().is_some_and(binds) {
                journal
                    .violate(format!("{} stops {unit} while {other}, which needs it and follows it, is up", me.name));
            }
        }
    }
}

impl Watched {
    /// Whether systemd starts the unit again by itself: its file says so, and it has failed since it was started.
    fn restarts_itself(&self, unit: &UnitName) -> bool {
        let says_so = self.with.get(unit).is_some_and(|text| text.contains("\nRestart="));
        says_so && self.failed.get(unit).copied() >= self.started.get(unit).copied().max(Some(Duration::ZERO))
    }

    /// Whether the last start of the unit was requested by a person.
    fn is_by_hand(&self, unit: &UnitName, texts: &BTreeMap<UnitName, String>) -> bool {
        let askers = askers(unit, texts);
        let hand = last_of(&self.hand_starts, &askers);
        hand.is_some() && hand >= self.requests.last_start(&askers)
    }
}

/// Whether a unit that is down and has this text has ended as it was meant to.
fn is_done(text: &str, failed: bool) -> bool {
    UnitFile::parse(text.as_bytes()).is_ok_and(|file| file.ends_by_itself()) && !failed
}

/// The time of the last request for one of `units`.
fn last_of(asked: &BTreeMap<UnitName, Duration>, units: &BTreeSet<UnitName>) -> Option<Duration> {
    units.iter().filter_map(|unit| asked.get(unit)).max().copied()
}

/// The units that each unit needs, according to the files on disk.
fn graph(texts: &BTreeMap<UnitName, String>) -> BTreeMap<UnitName, BTreeSet<UnitName>> {
    texts.iter().map(|(name, text)| (name.clone(), needs(name, text))).collect()
}

/// A unit, and the units whose start starts it too.
fn askers(unit: &UnitName, texts: &BTreeMap<UnitName, String>) -> BTreeSet<UnitName> {
    let needs = graph(texts);
    let pulls = |name: &&UnitName| closure(BTreeSet::from([(*name).clone()]), &needs).contains(unit);
    needs.keys().filter(pulls).chain([unit]).cloned().collect()
}
