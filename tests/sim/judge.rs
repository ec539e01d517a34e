//! Watches a simulation and reports violations. Owns the cluster in the store, revision by revision, and the invariants
//! over it; the events of hosts are judged in `machines`. It must never change anything.
//!
//! Every commit goes through [`Judge::commit`], which delays the next commit until this revision has been judged, so
//! that each revision is judged by itself. Only leases that expire may be judged together with a commit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use flotilla::model::cluster::{Change, Cluster, Versioned};
use flotilla::model::format::ReportKeyForm;
use flotilla::model::machine::{Gone, KnownHost};
use flotilla::model::maintenance::Drain;
use flotilla::model::move_after::MoveAfter;
use flotilla::model::name::{MachineId, UnitHash, UnitName};
use flotilla::model::placement::Constraints;
use flotilla::model::revision::Revision;
use flotilla::model::rollout::Gate;
use flotilla::model::rollout::hosts::HeldFile;
use flotilla::model::settings::{ALL, Setting, Settings};
use flotilla::model::systemd::{ActiveState, JobKind, JobResult, UnitState};
use flotilla::model::unit::{Assignment, Desired, Placement, Target, UnitReport};
use flotilla::plan::check::always;
use flotilla::plan::fit::{Question, Stance, View as _, first_misfit};
use flotilla::plan::gate::effective;
use flotilla::registry::decode;
use flotilla::registry::keys::{Key, SCHEDULE};
use flotilla::registry::presence::Presences;
use flotilla::registry::records::file::FileRecord;
use flotilla::registry::records::leader::LeaderRecord;
use flotilla::store::embedded::{Backup, Counter, Embedded};
use flotilla::store::{Batch, Error, Event, Guard, Kv, LeaseId, Op, Store, Txn};
use flotilla::systemd::fake::Fake;
use tokio::sync::watch;

use super::forge;
use super::health::Answers;
use super::journal::Journal;
use super::machines::Machines;
use super::marks::JUDGE;
use super::reboots;
use super::retries::{self, Retries};
use super::rollouts::{self, Silence};
use super::told::{Point, Reader};
use super::world::{MASS_LOSS_GRACE, MASS_LOSS_SHARE, TTL};

/// The judge. Clones share it.
#[derive(Clone)]
pub(crate) struct Judge {
    pub(crate) journal: Journal,
    facts: Arc<Mutex<Facts>>,
    gate: Arc<tokio::sync::Mutex<()>>,
    seen: Arc<watch::Sender<Revision>>,
}

/// What the judge knows.
#[derive(Default)]
struct Facts {
    cluster: Cluster,
    /// Whose reports count.
    presences: Presences,
    leader: Option<MachineId>,
    machines: Machines,
    /// Violations that were reported already.
    standing: BTreeSet<String>,
    /// Which restart was asked for last, and when; `None` once the unit isn't to run any more.
    restarts: BTreeMap<UnitName, (Revision, Option<Duration>)>,
    /// All states of the cluster that may matter for a plan, oldest first: a leader may have planned from any that has
    /// reached it, and nothing may reach a leader for as long as its host receives nothing or is suspended.
    past: Vec<(Duration, Point, Cluster)>,
    /// Units that have run to their end, by their generations.
    ended: BTreeSet<(UnitName, Revision)>,
    /// The hosts that carry out nothing, while there are rollouts.
    silence: Silence,
    /// The units that have failed, or are well.
    retries: Retries,
    /// The hosts that have slots for their reboot.
    reboots: reboots::Seen,
    /// When each host that isn't registered was last.
    lost: BTreeMap<MachineId, Duration>,
    /// When each host vanished last that was remembered as present: since then it is gone, as far as a leader can know.
    gone: BTreeMap<MachineId, Duration>,
    /// When the last mass loss that the leader has recorded began.
    mass_loss: Duration,
    /// When each host vanished that the leader has recorded as one of many.
    losses: BTreeMap<MachineId, Duration>,
    /// When a leader first recorded each host as gone that is recorded so.
    found: BTreeMap<MachineId, Duration>,
    /// The revision with which the leader's term began.
    term: Revision,
    /// The term in which the hold of each host was written.
    held_in: BTreeMap<MachineId, Revision>,
    /// Whether the clock of any host was ever set.
    clock_was_set: bool,
    /// The writer of the commit that is being judged.
    writer: Writer,
    /// The keys of records that somebody has written past the daemons, and that can't be read.
    forged: BTreeSet<String>,
    /// Which of them were written properly again, and when: a leader may have planned before that.
    mended: Vec<(Point, String)>,
    /// Whether the commit that is being judged forges records, or restores what was there before.
    forging: bool,
    /// All keys that were ever forged: a backup may have what is there no more.
    ever_forged: BTreeSet<String>,
    /// The id of the store's cluster, which is another one after each restore.
    epoch: u64,
    /// Whether the store is being restored: what it contains then is no decision of anybody.
    restoring: bool,
}

/// Who sends a commit.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Writer {
    /// The host of the daemon; users have none.
    host: Option<usize>,
    /// When it was sent.
    sent: Duration,
    /// The oldest revision that its engine may have planned from.
    planned_from: Option<Point>,
}

impl Judge {
    /// A judge of `store`, which must be empty.
    pub(crate) fn new(journal: Journal, store: &Embedded) -> Self {
        let judge = Self {
            journal,
            facts: Arc::default(),
            gate: Arc::default(),
            seen: Arc::new(watch::channel(Revision(1)).0),
        };
        judge.follow(store, Revision(1));
        judge
    }

    /// Judge each revision of `store` after `seen`, until its history ends.
    fn follow(&self, store: &Embedded, seen: Revision) {
        self.facts().epoch = store.cluster();
        let mut raw = store.watch("", seen.next());
        let follower = self.clone();
        tokio::spawn(async move {
            while let Ok(batch) = raw.next().await {
                follower.take(&batch);
                follower.seen.send_replace(batch.revision);
            }
        });
    }

    /// Restore a backup of the store.
    pub(crate) async fn restore(&self, store: &Embedded, backup: &Backup, counter: Counter) {
        let _gate = self.gate.lock().await;
        let before = loop {
            let before = store.backup();
            if before.revision() == self.revision() {
                break before;
            }
            self.wait(before.revision()).await;
        };
        self.look();
        store.restore(backup, counter);
        let after = store.backup();
        self.facts().restored(&before, &after, backup.cluster(), &self.journal);
        self.seen.send_replace(after.revision());
        self.follow(store, after.revision());
    }

    /// The daemon of `host` (or a user) is about to send a commit.
    pub(crate) fn writer(&self, host: Option<usize>) -> Writer {
        let (now, facts) = (self.journal.now(), self.facts());
        let known = host.and_then(|host| facts.machines.told.known(host, Reader::Engine, now));
        Writer { host, sent: now, planned_from: known.map(|(oldest, _)| oldest) }
    }

    /// Commit for `writer`, and judge the result before the next commit.
    pub(crate) async fn commit(&self, store: &Embedded, writer: Writer, txn: Txn) -> Result<Revision, Error> {
        let _gate = self.gate.lock().await;
        let key = |op: &Op| match op {
            Op::Put { key, .. } | Op::Delete(key) => key.clone(),
        };
        let places = |key: &String| key.starts_with("placement/") || key.starts_with("schedule/");
        let placing = txn.ops.iter().map(key).find(places);
        let fenced = txn.guards.iter().any(|guard| matches!(guard, Guard::Unchanged(key, _) if key == "leader"));
        let before = *self.seen.borrow();
        self.facts().writer = writer;
        let revision = store.commit(txn).await?;
        self.wait(revision).await;
        if let Some(key) = placing.filter(|_| revision > before) {
            let leader = self.facts().leader.clone();
            let writer = writer.host.and_then(|host| self.facts().machines.id(host));
            if leader != writer || writer.is_none() || !fenced {
                self.journal.violate(format!("{key} was written by {writer:?}, and the leader is {leader:?}"));
            }
        }
        Ok(revision)
    }

    /// Commit for somebody who writes past the daemons. Whatever is wrong with these records is no violation; what the
    /// daemons make of it may be one.
    pub(crate) async fn forge(&self, store: &Embedded, txn: Txn) -> Result<Revision, Error> {
        let _gate = self.gate.lock().await;
        let written = txn.ops.iter().filter_map(|op| match op {
            Op::Put { key, .. } => Some(key.clone()),
            Op::Delete(_) => None,
        });
        {
            let facts = &mut *self.facts();
            (facts.writer, facts.forging) = (Writer::default(), true);
            let written: Vec<String> = written.collect();
            facts.forged.extend(written.iter().cloned());
            facts.ever_forged.extend(written);
        }
        let done = store.commit(txn).await;
        if let Ok(revision) = done {
            self.wait(revision).await;
        }
        self.facts().forging = false;
        done
    }

    /// Revoke a lease, and judge the result.
    pub(crate) async fn revoke(&self, store: &Embedded, lease: LeaseId) -> Result<(), Error> {
        let _gate = self.gate.lock().await;
        store.revoke(lease).await
    }

    async fn wait(&self, revision: Revision) {
        let mut seen = self.seen.subscribe();
        let _ = seen.wait_for(|seen| *seen >= revision).await;
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The cluster at the last revision that was judged.
    pub(crate) fn cluster(&self) -> Cluster {
        self.facts().cluster.clone()
    }

    pub(crate) fn revision(&self) -> Revision {
        *self.seen.borrow()
    }

    pub(crate) fn leader(&self) -> Option<MachineId> {
        self.facts().leader.clone()
    }

    /// Add a host to watch; returns its number.
    pub(crate) fn add_machine(&self, name: &str, id: &MachineId, fake: &Fake, answers: &Arc<Answers>) -> usize {
        self.facts().machines.add(name, id, (fake, answers), self.journal.now())
    }

    /// Judge what has happened on the hosts.
    pub(crate) fn look(&self) {
        let facts = &mut *self.facts();
        facts.machines.look(&self.journal, &facts.cluster);
    }

    /// The clock of a host is set. Of times of day that another leader has written, a leader can't know what they mean.
    pub(crate) fn clock_is_set(&self) {
        self.facts().clock_was_set = true;
    }

    /// Allow readers this much time between receiving a change and acting on it.
    pub(crate) fn allow(&self, lag: Duration) {
        self.facts().machines.told.allow(lag);
    }

    /// Each computation of a leader takes this long: it may act on what it knew two or three of them before.
    pub(crate) fn allow_planning(&self, each: Duration) {
        self.facts().machines.told.allow_planning(each * 3);
    }

    /// Allow each call to systemd this much time, and a reader that makes `calls` of them, that many times as much.
    pub(crate) fn allow_calls(&self, latency: Duration, calls: u32) {
        let machines = &mut self.facts().machines;
        machines.call = machines.call.max(latency);
        machines.told.allow_calls(latency * calls);
    }

    /// A daemon starts on `host`; it has read nothing yet.
    pub(crate) fn daemon_starts(&self, host: usize) {
        self.facts().machines.daemon_starts(host);
    }

    /// The daemon of `host` has ended, for whatever reason.
    pub(crate) fn daemon_ends(&self, host: usize) {
        self.facts().machines.daemon_ends(host);
    }

    /// The daemon of `host` is suspended, or continues.
    pub(crate) fn freezes(&self, host: usize, frozen: bool) {
        self.look();
        let now = self.journal.now();
        self.facts().machines.freezes(host, frozen, now);
    }

    /// A person is about to start or stop a unit on `host` with `systemctl`.
    pub(crate) fn by_hand(&self, host: usize, unit: &UnitName, start: bool) {
        self.look();
        let now = self.journal.now();
        self.facts().machines.by_hand(host, unit, start, now);
    }

    /// A person says that `host` is to run only what the store assigns to it.
    pub(crate) fn accepts(&self, host: usize) {
        self.facts().machines.accepts(host);
    }

    /// Whether a person has stopped the unit since it was started last.
    pub(crate) fn was_stopped_by_hand(&self, host: &MachineId, unit: &UnitName) -> bool {
        self.facts().machines.was_stopped_by_hand(host, unit)
    }

    /// The system of `host` shuts down: systemd stops all units without a request of the agent.
    pub(crate) fn shuts_down(&self, host: usize) {
        self.facts().machines.shuts_down(host);
    }

    /// Since when a unit has a process on a registered host.
    pub(crate) fn runs_since(&self, host: &MachineId, unit: &UnitName) -> Option<Duration> {
        self.facts().machines.runs_since(host, unit).map(|(_, since)| since)
    }

    /// The daemon of `host` has received the store's keys that begin with `prefix`, as of `at`.
    pub(crate) fn heard(&self, host: usize, prefix: &str, at: Point) {
        let reader = match prefix {
            "" => Reader::Engine,
            _ if prefix.starts_with(SCHEDULE) => Reader::Agent,
            _ => return,
        };
        let now = self.journal.now();
        self.facts().machines.told.heard(host, reader, at, now);
    }

    /// Whether the daemon of a host may have lost what it did with a unit, because it could not save it.
    pub(crate) fn may_have_forgotten(&self, host: &MachineId, unit: &UnitName) -> bool {
        self.facts().machines.may_have_forgotten(host, unit)
    }

    /// The agent of `host` has saved what it has carried out.
    pub(crate) fn noted(&self, host: usize) {
        self.facts().machines.noted(host);
    }

    /// The agent of `host` is about to write these files.
    pub(crate) fn installs(&self, host: usize, units: &[(UnitName, String)]) {
        let now = self.journal.now();
        self.facts().machines.installs(host, units, now);
    }

    /// The agent of `host` requests the start of `units`.
    pub(crate) fn starts(&self, host: usize, units: &[UnitName]) {
        self.look();
        let now = self.journal.now();
        self.facts().machines.starts(&self.journal, host, units, now);
    }

    /// The agent of `host` has asked about some units and `seen` these; the others aren't in systemd's memory.
    pub(crate) fn observed(&self, host: usize, asked: &[UnitName], seen: &BTreeMap<UnitName, UnitState>) {
        let now = self.journal.now();
        let is_up = |unit: &UnitName| seen.get(unit).is_some_and(|state| state.active.is_up());
        let facts = &mut *self.facts();
        asked.iter().for_each(|unit| facts.machines.observed(host, unit, is_up(unit), now));
    }

    /// The agent of `host` has received the answer to its request to start `unit`.
    pub(crate) fn start_answered(&self, host: usize, unit: &UnitName) {
        self.facts().machines.start_answered(host, unit);
    }

    /// A call of the agent of `host` has failed, or its answer was lost.
    pub(crate) fn call_failed(&self, host: usize) {
        let now = self.journal.now();
        self.facts().machines.call_failed(host, now);
    }

    /// There are no faults from now on.
    pub(crate) fn calms(&self) {
        let now = self.journal.now();
        self.facts().machines.calms(now);
    }

    /// The agent of `host` requests the stop of `units`.
    pub(crate) fn stops(&self, host: usize, units: &[UnitName]) {
        self.look();
        let now = self.journal.now();
        let facts = &mut *self.facts();
        // An agent that waits for the leader's decision reads its assignments every second.
        let lag = facts.machines.told.lag() + Duration::from_secs(2);
        let before = facts.past.iter().rposition(|(at, ..)| *at + lag < now).unwrap_or_default();
        let past = facts.past[before..].iter();
        // A state in which the host isn't registered doesn't show what should run there.
        let belongs = |host: &MachineId, unit: &UnitName, is_same: &dyn Fn(&UnitHash) -> bool| {
            let same = |cluster: &Cluster| {
                let cluster = effective(cluster);
                cluster.units.contains_key(unit) && cluster.file_on(unit, host).is_some_and(is_same)
            };
            let mut there = past.clone().filter(|(.., cluster)| cluster.machines.contains_key(host)).peekable();
            there.peek().is_some() && there.all(|(.., cluster)| is_tied(cluster, host, unit) && same(cluster))
        };
        facts.machines.stops(&self.journal, host, units, now, belongs);
    }

    /// The agent of `host` is about to remove `units`.
    pub(crate) fn removes(&self, host: usize, units: &[UnitName]) {
        self.look();
        let machines = &mut self.facts().machines;
        let now = self.journal.now();
        units.iter().for_each(|unit| machines.removes(&self.journal, host, unit, now));
        machines.files(host, units);
    }

    fn take(&self, batch: &Batch) {
        self.look();
        let facts = &mut *self.facts();
        let mut plans = false;
        let (mut leave, mut arrive, mut moved) = (Vec::new(), Vec::new(), Vec::new());
        // A batch has one commit at most, and leases that ended just before or after it. They only delete.
        let commit = batch.events.iter().find_map(|event| match event {
            Event::Put(kv) => Some(kv.revision),
            Event::Delete(_) => None,
        });
        let unreadable = facts.forged.len();
        let before = (!facts.cluster.rollouts.is_empty()).then(|| facts.cluster.clone());
        for event in &batch.events {
            let moves = (&mut leave, &mut arrive, &mut moved);
            plans |= facts.event(event, commit.unwrap_or(batch.revision), &self.journal, moves);
        }
        facts.cluster.revision = batch.revision;
        if plans {
            facts.remember(self.journal.now());
            // What somebody else has written about the unit that doesn't exist, the leader corrects at any time.
            let exists = |(_, name): &(MachineId, UnitName)| name.as_str() != forge::UNIT;
            for (host, name) in leave.iter().filter(|left| exists(left)) {
                facts.leaves(host, name, &self.journal);
            }
            for (host, name) in arrive.iter().filter(|arrived| exists(arrived)) {
                facts.arrives(host, name, &self.journal);
            }
            for (host, name) in moved.iter().filter(|moved| exists(moved)) {
                facts.moves(host, name, &self.journal);
            }
            if let Some(before) = before.filter(|_| !facts.forging) {
                facts.rolls_out(&before, &self.journal);
            }
            let wrong = |forged: &BTreeSet<String>| -> BTreeSet<String> {
                always(&without_forged(&facts.cluster, forged)).iter().map(ToString::to_string).collect()
            };
            let (found, unread) = (wrong(&facts.forged), facts.unread());
            let known = if unread == facts.forged { found.clone() } else { wrong(&unread) };
            // A leader that could not read a file may have broken its constraints: that shows when it can be read.
            let forging = facts.forging || facts.forged.len() < unreadable;
            for violation in found.intersection(&known).filter(|it| !facts.standing.contains(*it) && !forging) {
                self.journal.violate(format!("at revision {}: {violation}", batch.revision));
            }
            facts.standing = found;
        }
        if !facts.cluster.rollouts.is_empty() {
            facts.silence.look(&facts.cluster, self.journal.now());
        }
    }
}

impl Facts {
    /// The moment that was judged last.
    fn point(&self) -> Point {
        Point::new(self.epoch, self.cluster.revision)
    }

    /// The store was restored from a backup of the cluster `of`: it had what is in `before`, and has what is in
    /// `after`.
    fn restored(&mut self, before: &Backup, after: &Backup, of: u64, journal: &Journal) {
        let at = Point::new(after.cluster(), after.revision());
        (self.epoch, self.restoring, self.writer) = (at.cluster, true, Writer::default());
        self.forged = self.ever_forged.clone();
        self.machines.told.restored(at, of);
        let kept: BTreeMap<String, Kv> = after.kvs().into_iter().map(|kv| (kv.key.clone(), kv)).collect();
        let old: BTreeMap<String, Kv> = before.kvs().into_iter().map(|kv| (kv.key.clone(), kv)).collect();
        let had: Vec<(MachineId, UnitName)> = slices(&self.cluster).collect();
        let lost = old.keys().filter(|key| !kept.contains_key(*key)).cloned().map(Event::Delete);
        let changed = kept.values().filter(|kv| old.get(&kv.key) != Some(kv)).cloned().map(Event::Put);
        for event in lost.chain(changed).collect::<Vec<_>>() {
            self.event(&event, at.revision, journal, (&mut Vec::new(), &mut Vec::new(), &mut Vec::new()));
        }
        // As somebody sees it who lists: reports count only under the lease of their host.
        (self.presences, self.cluster) =
            (Presences::default(), Cluster { revision: at.revision, ..Cluster::default() });
        for kv in kept.into_values() {
            if let Ok(Some(change)) = self.presences.change(&Event::Put(kv)) {
                self.cluster.apply(change);
            }
        }
        // They were requested long ago.
        self.restarts.values_mut().for_each(|(_, asked)| *asked = None);
        self.machines.restored(&had, &self.cluster, journal.now());
        self.remember(journal.now());
        self.standing = always(&without_forged(&self.cluster, &self.forged)).iter().map(ToString::to_string).collect();
        self.restoring = false;
    }

    /// Apply one event. Returns whether it may matter for a plan. Units that are sent away from a live host are added
    /// to `leave`, those that a host is given to `arrive`, those that are taken from a host that isn't registered to
    /// `moved`.
    fn event(
        &mut self,
        event: &Event,
        revision: Revision,
        journal: &Journal,
        (leave, arrive, moved): (&mut Slices, &mut Slices, &mut Slices),
    ) -> bool {
        let leader = Key::Leader.to_string();
        let runs = |host: &MachineId, unit: &UnitName| self.machines.runs_since(host, unit).is_some();
        reboots::judge(event, &self.cluster, &mut self.reboots, &runs, journal);
        match event {
            Event::Put(kv) if kv.key == leader => {
                if self.leader.is_none() {
                    self.term = revision;
                }
                let before = self.leader.take();
                self.leader = decode::<LeaderRecord>(kv).ok().map(|leader| leader.machine);
                if before != self.leader {
                    self.mark_rollouts("another leader begins", journal);
                }
                journal.note(format!("#{revision} leader {}", self.name(self.leader.as_ref())));
            }
            Event::Delete(key) if *key == leader => {
                self.leader = None;
                journal.note(format!("#{revision} no leader"));
            }
            _ => {}
        }
        let change = match self.presences.change(event) {
            Ok(Some(change)) => change,
            Ok(None) => return false,
            Err(corrupt) if self.forged.contains(&corrupt.key) => {
                journal.note(format!("#{revision} {corrupt}"));
                return false;
            }
            Err(corrupt) => {
                journal.violate(corrupt.to_string());
                return false;
            }
        };
        if let Event::Put(kv) = event
            && self.forged.remove(&kv.key)
        {
            self.mended.push((Point::new(self.epoch, revision), kv.key.clone()));
        }
        journal.note(format!("#{revision} {}", self.line(&change)));
        let now = journal.now();
        let lease = match event {
            Event::Put(kv) => kv.lease,
            Event::Delete(_) => None,
        };
        let mut plans = true;
        match &change {
            Change::Unit(name, unit) => {
                if unit.is_none() {
                    self.machines.told.destroyed(name, Point::new(self.epoch, revision));
                }
                match unit.as_ref().and_then(|unit| Some((unit.restart?, unit.desired))) {
                    Some((restart, Desired::Launched)) => {
                        if self.restarts.get(name).is_none_or(|(known, _)| *known != restart) {
                            self.restarts.insert(name.clone(), (restart, Some(now)));
                        }
                    }
                    Some((restart, _)) => drop(self.restarts.insert(name.clone(), (restart, None))),
                    None => drop(self.restarts.remove(name)),
                }
            }
            Change::File(key, _) => {
                if let Event::Put(kv) = event
                    && let Ok(record) = decode::<FileRecord>(kv)
                {
                    self.machines.stored(key, &record.text);
                }
            }
            Change::Gate(..) | Change::Rollout(..) => {}
            Change::History(..) | Change::Metadata(..) | Change::Maintenance(..) => {}
            Change::Placement(name, placement) => {
                let placement = placement.as_ref().map(|placement| &placement.value);
                let oldest = self.writer.planned_from.unwrap_or(self.point());
                let planned = self.past.iter().rev().find(|(_, at, _)| *at <= oldest).map_or(now, |(at, ..)| *at);
                let found = self.retries.placed(&self.cluster, name, placement, (planned, now));
                if let Some(what) = found.filter(|_| !self.restoring && !self.forging) {
                    journal.violate(what);
                }
            }
            Change::Settings(..) => {}
            Change::Machine(id, machine) => {
                if let (Some(before), Some(machine)) = (self.cluster.machines.get(id), machine)
                    && !self.restoring
                    && before.hostname == machine.hostname
                    // An earlier one: its clock was ahead, and was set since.
                    && before.since < machine.since
                {
                    let name = self.name(Some(id));
                    journal.violate(format!("{name} was registered all the time and says that it is new"));
                }
                self.machines.presence(id, machine.as_ref(), lease, now);
                let leaves = self.cluster.machines.get(id).is_some_and(|machine| machine.leaving);
                match machine {
                    Some(_) => drop(self.lost.remove(id)),
                    // It has said so, after its units had stopped.
                    None if leaves => {}
                    None => {
                        self.lost.insert(id.clone(), now);
                        if self.cluster.roster.get(id).is_none_or(|known| known.value.gone.is_none()) {
                            self.gone.insert(id.clone(), now);
                        }
                        self.mark_rollouts("a host is lost", journal);
                    }
                }
            }
            Change::Roster(host, known) => {
                // The period of a mass loss begins with the first host, which the leader knows from here.
                plans = known.as_ref().is_some_and(|known| mass_loss(&known.value));
                if known.as_ref().is_some_and(|known| known.value.gone.is_some()) {
                    self.found.entry(host.clone()).or_insert(now);
                }
                if known.as_ref().is_some_and(|known| mass_loss(&known.value)) {
                    // Of a host that has left in good order, another leader knows only that it is gone.
                    let lost = self.lost.get(host).or(self.found.get(host)).copied().unwrap_or(now);
                    let since = *self.losses.entry(host.clone()).or_insert(lost);
                    let others = self.cluster.roster.values().any(|known| mass_loss(&known.value));
                    self.mass_loss = if others { self.mass_loss.min(since) } else { since };
                }
                match known.as_ref().map(|known| known.value.gone) {
                    Some(Some(Gone { held: Some(_), .. })) => drop(self.held_in.insert(host.clone(), self.term)),
                    // What became of its units is written together with where they are now.
                    Some(Some(_)) => {}
                    Some(None) | None => {
                        self.losses.remove(host);
                        self.found.remove(host);
                        self.held_in.remove(host);
                    }
                }
                if known.as_ref().is_some_and(|known| known.value.gone.is_some())
                    && self.cluster.machines.contains_key(host)
                    && host.as_str() != forge::GHOST
                    && !self.restoring
                {
                    journal.violate(format!("{} is registered, and remembered as gone", self.name(Some(host))));
                }
            }
            Change::Report(name, host, form, state) => {
                // A rollout goes on by what is reported of its members, and a unit may come to a host that is cordoned
                // if that reports it.
                plans = !self.cluster.rollouts.is_empty() || !self.cluster.maintenance.is_empty();
                plans |= retries::asks(&effective(&self.cluster), name);
                self.ended.extend(state.as_ref().and_then(|state| rollouts::ended(name, &state.value)));
                let known = self.cluster.states.get(name).and_then(|reports| reports.get(host));
                let state = state.as_ref().map(|state| &state.value);
                // The deletion of the report's other key doesn't change the report.
                if state.is_some() || known.is_none_or(|known| known.form == *form) {
                    self.retries.reported(name, host, state, now);
                    self.machines.reported(host, name, state, lease);
                }
                if let Some(state) = state.filter(|_| !self.restoring) {
                    self.reported(name, host, state, journal);
                }
            }
            Change::Assignment(host, name, entry) => {
                let live = entry.as_ref().is_some_and(|entry| entry.value.target != Target::Removed);
                let before = self.cluster.schedule.get(host).and_then(|slice| slice.get(name));
                let lived = before.is_some_and(|entry| entry.value.target != Target::Removed);
                if lived && !live && self.cluster.machines.contains_key(host) {
                    leave.push((host.clone(), name.clone()));
                }
                if !lived && live {
                    arrive.push((host.clone(), name.clone()));
                }
                let registered = self.cluster.machines.contains_key(host);
                if lived && entry.is_none() && !registered {
                    moved.push((host.clone(), name.clone()));
                }
                if entry.is_none() {
                    self.machines.unassigned(host, name, now);
                }
                let told = entry.as_ref().map(|entry| entry.value.clone());
                let at = Point::new(self.epoch, revision);
                self.machines.told.written(host, name, at, told, registered);
                if live {
                    self.machines.assigned(host, name);
                }
            }
        }
        self.cluster.apply(change);
        plans
    }

    /// Something happens to the cluster while rollouts are in their phases, which is a mark for each of these.
    fn mark_rollouts(&self, what: &str, journal: &Journal) {
        for rollout in self.cluster.rollouts.values() {
            journal.logged(JUDGE, &format!("{what} while a rollout is {}", rollout.value.phase.key()));
        }
    }

    /// A report that a unit was removed must be true, and so must a report that a unit was restarted.
    fn reported(&self, name: &UnitName, host: &MachineId, state: &UnitReport, journal: &Journal) {
        let (launched, forgot) = (state.target == Target::Launched, self.machines.may_have_forgotten(host, name));
        if let Some((_, Some(asked))) = self.restarts.get(name).filter(|(restart, _)| state.generation >= *restart)
            && let Some((machine, since)) = self.machines.runs_since(host, name)
            && since < *asked
            && launched
            && !forgot
            && state.error.is_none()
        {
            journal.violate(format!("{machine} says that {name} was restarted, and it runs since before"));
        }
        let known = self.cluster.states.get(name).and_then(|reports| reports.get(host)).map(|known| &known.value);
        if let Some(machine) = self.machines.makes_unready(host, name, known, state) {
            journal.violate(format!(
                "{machine} says that {name} is no longer ready, and its probe hasn't failed in a row"
            ));
        }
        if state.target != Target::Removed {
            return;
        }
        // True or not when it was sent: it may have arrived late, when the host has the unit again.
        if let Some((machine, what)) = self.machines.had(host, name, self.writer.sent) {
            journal.violate(format!("{machine} says that {name} is gone, and it {what} there"));
        }
    }

    /// The keys of the records that the leader can't have read when it planned what it commits.
    fn unread(&self) -> BTreeSet<String> {
        let oldest = self.writer.planned_from.unwrap_or(self.point());
        let later = self.mended.iter().filter(|(at, _)| *at > oldest).map(|(_, key)| key.clone());
        self.forged.iter().cloned().chain(later).collect()
    }

    /// Keep the present state of the cluster.
    fn remember(&mut self, now: Duration) {
        self.past.push((now, self.point(), self.cluster.clone()));
    }

    /// A unit was sent away from a live host. This is right only if it didn't fit there in a state of the cluster that
    /// the leader may have planned from, or doesn't fit after the commit of the plan; or if it runs once, and had.
    fn leaves(&self, host: &MachineId, name: &UnitName, journal: &Journal) {
        let oldest = self.writer.planned_from.unwrap_or(self.point());
        let before = self.past.iter().rposition(|(_, at, _)| *at <= oldest).unwrap_or_default();
        // Also together with everything that the plan places, of which some may have been submitted only then.
        let planned = |cluster: &Cluster| {
            let Cluster { schedule, placements, gates, .. } = self.cluster.clone();
            Cluster { schedule, placements, gates, ..cluster.clone() }
        };
        // Or with the files that the plan's gates give it, before anything is placed.
        let gated = |cluster: &Cluster| Cluster { gates: self.cluster.gates.clone(), ..cluster.clone() };
        let past = || self.past[before..].iter().map(|(.., cluster)| cluster);
        let stays = |cluster: &Cluster| fits(cluster, host, name, Stance::Stay);
        if past().any(|cluster| has_run_once(cluster, host, name)) {
            return;
        }
        let is_there = |cluster: &&Cluster| cluster.schedule.get(host).is_some_and(|there| there.contains_key(name));
        let asked = |cluster: &Cluster| cluster.asked_of(host).and_then(|asked| asked.drain.clone());
        // The leader may go by an earlier drain of the host, or by a later one, as long as the unit is there.
        let drains: Vec<Box<Drain>> = past().filter(is_there).filter_map(asked).collect();
        if drains.is_empty()
            && past().any(|cluster| ![cluster, &planned(cluster), &gated(cluster)].into_iter().all(stays))
        {
            return;
        }
        // Several reasons may be conceivable, such as a drain that has just been taken back: one must be right.
        let reasons = [
            self.is_drained(host, name, (&drains, before), journal),
            self.is_rescheduled(host, name, before),
            self.is_moved(host, name, before),
            self.is_returned(host, name, before),
        ];
        if reasons.contains(&Some(Ok(()))) {
            return;
        }
        let wrong = reasons.into_iter().flatten().find_map(Result::err);
        let why = wrong.unwrap_or_else(|| "where it fits".into());
        journal.violate(format!("{name} is sent away from {}, {why}", self.name(Some(host))));
    }

    /// A unit is new on a host. This is wrong if the host was cordoned in every state of the cluster from which the
    /// leader may have planned, unless the unit is global, the host says that it runs it, or it must be with another
    /// one, which is there and is on no other host.
    fn arrives(&self, host: &MachineId, name: &UnitName, journal: &Journal) {
        let told = |cluster: &Cluster, name: &str| {
            let told = cluster.schedule.get(host).and_then(|slice| slice.get(name)).map(|told| told.value.clone());
            told.filter(|told| told.target != Target::Removed && !told.global)
        };
        let Some(entry) = told(&self.cluster, name.as_str()) else { return };
        let oldest = self.writer.planned_from.unwrap_or(self.point());
        let before = self.past.iter().rposition(|(_, at, _)| *at <= oldest).unwrap_or_default();
        let past = || self.past[before..].iter().map(|(.., cluster)| cluster);
        let runs =
            |cluster: &Cluster| cluster.report(name, host).is_some_and(|report| report.target == Target::Launched);
        if past().any(|cluster| !cluster.is_closed(host) || runs(cluster)) {
            return;
        }
        let file = self.cluster.files.get(&entry.hash).map(|file| Constraints::resolve(&file.value, name));
        let peers = file.iter().flat_map(|file| &file.machine_of);
        if !peers.into_iter().any(|peer| past().any(|cluster| told(cluster, peer).is_some())) {
            journal.violate(format!("{name} is placed on {}, which is cordoned", self.name(Some(host))));
        }
    }

    /// A state of the cluster with what the plan tells the hosts.
    fn planned(&self, cluster: &Cluster) -> Cluster {
        Cluster { schedule: self.cluster.schedule.clone(), ..cluster.clone() }
    }

    /// A unit is sent away from a host that is drained. This is wrong if no other host fitted it in any state from
    /// which the leader may have planned, or if more members of its set are away than may be because of it. `None` if
    /// that can't be why, and what is wrong otherwise.
    fn is_drained(
        &self,
        host: &MachineId,
        name: &UnitName,
        (drains, before): (&[Box<Drain>], usize),
        journal: &Journal,
    ) -> Option<Result<(), String>> {
        if drains.is_empty() {
            return None;
        }
        let past = || self.past[before..].iter().map(|(.., cluster)| cluster);
        // With the files that the gates of the plan give.
        let gated = |cluster: &Cluster| Cluster { gates: self.cluster.gates.clone(), ..cluster.clone() };
        // What the plan brings to the host may take its place there (`Replaces=`).
        let stays = |cluster: &Cluster| fits(cluster, host, name, Stance::Stay);
        if !past().all(|cluster| stays(cluster) && stays(&self.planned(cluster)) && stays(&gated(cluster)))
            || past().any(|cluster| cluster.done(name).is_some())
        {
            return Some(Ok(()));
        }
        let fits_elsewhere = |cluster: &Cluster| {
            cluster.machines.keys().any(|other| other != host && self.fits_with_all_of(cluster, host, name, other))
        };
        let global =
            self.cluster.schedule.get(host).and_then(|there| there.get(name)).is_some_and(|told| told.value.global);
        let is_forced = drains.iter().any(|drain| drain.force);
        if !is_forced && !global && !past().any(|cluster| fits_elsewhere(cluster) || fits_elsewhere(&gated(cluster))) {
            return Some(Err("which is drained, and fits nowhere else".into()));
        }
        let is_over = drains.iter().any(|drain| journal.now() >= Duration::from_secs(drain.deadline));
        // A state without the drain is none from which it was planned.
        let is_drained = |cluster: &Cluster| cluster.asked_of(host).is_some_and(|asked| asked.drain.is_some());
        if !is_over && !self.keeps_budget(name, before, &is_drained) {
            return Some(Err("which is drained, and too many of its set are away".into()));
        }
        Some(Ok(()))
    }

    /// A unit is sent away from its host because it, or one that it must be with, has failed there. This is wrong if no
    /// host fitted it where that hadn't failed, in any state from which the leader may have planned. `None` if that
    /// can't be why, and what is wrong otherwise.
    fn is_rescheduled(&self, host: &MachineId, name: &UnitName, before: usize) -> Option<Result<(), String>> {
        let past = || self.past[before..].iter().map(|(.., cluster)| cluster);
        if past().all(|cluster| retries::failing(cluster, host, name).is_none()) {
            return None;
        }
        let fits_elsewhere = |cluster: &Cluster| {
            let Some(failing) = retries::failing(cluster, host, name) else { return false };
            let (avoided, may_move) = retries::avoided(cluster, host, &failing);
            let mut others = cluster.machines.keys().filter(|other| *other != host && !avoided.contains(other));
            may_move && others.any(|other| self.fits_with_all_of(cluster, host, name, other))
        };
        let right = past().any(fits_elsewhere);
        Some(if right { Ok(()) } else { Err("after a failure, and fits nowhere else".into()) })
    }

    /// A unit is sent away from its host because it, or one that it must be with, returns to the host that a drain took
    /// it from. This is wrong if that didn't fit it in any state from which the leader may have planned, or if more
    /// members of its set are away than may be because of it. `None` if that can't be why, and what is wrong otherwise.
    fn is_returned(&self, host: &MachineId, name: &UnitName, before: usize) -> Option<Result<(), String>> {
        let past = || self.past[before..].iter().map(|(.., cluster)| cluster);
        let goal = |cluster: &Cluster| goal(cluster, name);
        let back = past().find_map(goal)?;
        let fits_back =
            |cluster: &Cluster| goal(cluster).is_some_and(|back| self.fits_with_all_of(cluster, host, name, &back));
        if !past().any(fits_back) {
            return Some(Err(format!("to return to {}, which doesn't fit it", self.name(Some(&back)))));
        }
        if !self.keeps_budget(name, before, &|cluster| goal(cluster).is_some()) {
            return Some(Err("to return, and too many of its set are away".into()));
        }
        Some(Ok(()))
    }

    /// A unit is sent away from its host because a person wants it, or one that it must be with, elsewhere. This is
    /// wrong if nobody did in any state from which the leader may have planned, if the host that it is sent to fitted
    /// it in none, or if more members of its set are away than may be because of it. `None` if that can't be why, and
    /// what is wrong otherwise.
    fn is_moved(&self, host: &MachineId, name: &UnitName, before: usize) -> Option<Result<(), String>> {
        let to = self.cluster.placements.get(name).and_then(|known| known.value.moved()?.to.clone())?;
        let past = || self.past[before..].iter().map(|(.., cluster)| cluster);
        let is_asked = |cluster: &Cluster| is_asked_away(cluster, host, false);
        if !past().any(is_asked) {
            return Some(Err("to move, and nobody has asked for it".into()));
        }
        let gated = |cluster: &Cluster| Cluster { gates: self.cluster.gates.clone(), ..cluster.clone() };
        let fits = |cluster: &Cluster| self.fits_with_all_of(cluster, host, name, &to);
        if !past().any(|cluster| fits(cluster) || fits(&gated(cluster))) {
            return Some(Err(format!("to move to {}, which doesn't fit it", self.name(Some(&to)))));
        }
        if !self.keeps_budget(name, before, &is_asked) {
            return Some(Err("to move, and too many of its set are away".into()));
        }
        Some(Ok(()))
    }

    /// Whether a unit of `home` fits `other`, if all units of its host came along, as far as the leader can know: one
    /// that has listed everything since a file was forged doesn't know whom the units with that file exclude. They are
    /// the ones that the forged record is about.
    fn fits_with_all_of(&self, cluster: &Cluster, home: &MachineId, name: &UnitName, other: &MachineId) -> bool {
        let fits = |cluster: &Cluster| fits_with_all_of(cluster, home, name, other);
        let unread = self.unread();
        fits(cluster) || (!unread.is_empty() && fits(&without_forged(cluster, &unread)))
    }

    /// Whether, in a state from which the leader may have planned, and in which it was `asked` for, no more members of
    /// the set of `name` were away than may be, or `name` itself served nobody.
    fn keeps_budget(&self, name: &UnitName, before: usize, asked: &dyn Fn(&Cluster) -> bool) -> bool {
        let Some(set) = name.set() else { return true };
        // What the commit itself leads to is no state from which it was planned, but the same with what hosts were told
        // before is: it has the reports since the commit that is remembered last.
        let is_before = |cluster: &&Cluster| cluster.revision < self.cluster.revision;
        let last = self.past.iter().map(|(.., cluster)| cluster).rfind(is_before);
        let just_before = last.map(|last| {
            let Cluster { schedule, placements, .. } = last.clone();
            Cluster { schedule, placements, ..self.cluster.clone() }
        });
        let past = self.past[before..].iter().map(|(.., cluster)| cluster).filter(is_before);
        let states: Vec<&Cluster> = past.chain(&just_before).filter(|cluster| asked(cluster)).collect();
        // Also with the gates of the plan, which say what it should have.
        let gated = |cluster: &Cluster| Cluster { gates: self.cluster.gates.clone(), ..cluster.clone() };
        let is_up = |cluster: &Cluster| serves_as_wanted(cluster, name) && serves_as_wanted(&gated(cluster), name);
        if !states.iter().all(|cluster| is_up(cluster)) {
            return true;
        }
        let holds = |cluster: &Cluster| {
            // Spares are members as well, and may be away; a share is one of the others alone, as in rollouts.
            let is_own = |name: &&&UnitName| cluster.units.contains_key(**name);
            let cluster = &*effective(cluster);
            let Some(unit) = cluster.units.get(&set).filter(|unit| unit.replicas.is_some()) else { return true };
            let file = cluster.files.get(&unit.hash);
            let policy = file.and_then(|file| file.value.rollout.as_deref().cloned()).unwrap_or_default();
            let is_launched = |name: &UnitName| cluster.units[name].desired == Desired::Launched;
            let members: Vec<&UnitName> =
                cluster.units.keys().filter(|name| name.number_in(&set).is_some() && is_launched(name)).collect();
            let has_host = |name: &&&UnitName| {
                cluster
                    .schedule
                    .iter()
                    .any(|(host, there)| cluster.machines.contains_key(host) && there.contains_key(**name))
            };
            let after = self.planned(cluster);
            let away =
                members.iter().filter(has_host).filter(|member| **member != name && !serves(&after, member)).count();
            away < policy.parallel.at_least_one_of(members.iter().filter(is_own).count())
        };
        states.into_iter().any(holds)
    }

    /// Units may have been given other files.
    fn rolls_out(&self, before: &Cluster, journal: &Journal) {
        let oldest = self.writer.planned_from.unwrap_or(self.point());
        let from = self.past.iter().rposition(|(_, at, _)| *at <= oldest).unwrap_or_default();
        let past =
            self.past[from..].iter().map(|(.., cluster)| cluster).filter(|past| past.revision < self.cluster.revision);
        let silence = (&self.silence, journal.now());
        let judged = |silence| rollouts::judge(before, &self.cluster, past.clone(), (silence, journal.now()));
        let mut found = judged(&self.silence);
        if !found.is_empty() {
            // A report that had yet to reach the leader didn't end the silence of its host.
            let mut silence = Silence::default();
            self.past.iter().take(from + 1).for_each(|(at, _, cluster)| silence.look(cluster, *at));
            let known = judged(&silence);
            found.retain(|what| known.contains(what));
        }
        found.into_iter().for_each(|what| journal.violate(what));
        let hooks = rollouts::judge_hooks(before, &self.cluster, past, silence, &self.ended);
        hooks.into_iter().for_each(|what| journal.violate(what));
    }

    /// A unit was taken from a host that isn't registered. This is wrong during the grace period of a mass loss of
    /// which the leader knew, if the unit should run and nobody has said that the host is really gone.
    fn moves(&self, host: &MachineId, name: &UnitName, journal: &Journal) {
        let (now, oldest) = (journal.now(), self.writer.planned_from.unwrap_or(self.point()));
        let before = self.past.iter().rposition(|(_, at, _)| *at <= oldest).unwrap_or_default();
        let wanted = |cluster: &Cluster| cluster.units.get(name).is_some_and(|unit| unit.desired != Desired::Inactive);
        let mut past = self.past[before..].iter().map(|(.., cluster)| cluster);
        let Some(known) = past.next() else { return };
        if !wanted(known) || !past.all(wanted) {
            return;
        }
        self.waits(host, name, before, journal);
        // Of a host that is forgotten meanwhile, the leader may know. That one which it remembers as gone came back and
        // vanished again, it can't know, also if it waits for others that may follow that one.
        let remembered = |id: &MachineId| {
            let is_first = self.lost.get(id) == self.gone.get(id);
            let holds = |gone: Gone| gone.held.is_some_and(|held| held.mass_loss || is_first);
            let is_open = |known: &KnownHost| known.gone.is_none_or(holds);
            self.cluster.roster.contains_key(id) && known.roster.get(id).is_some_and(|known| is_open(&known.value))
        };
        let gone = |id: &MachineId| remembered(id) && !known.machines.contains_key(id);
        let Some(when) = self.lost.get(host).filter(|_| gone(host)) else { return };
        // Leases of hosts that vanish together end within the time between two renewals.
        let together = |(id, at): &(&MachineId, &Duration)| gone(id) && at.abs_diff(*when) <= TTL / 3;
        let lost: Vec<&MachineId> = self.lost.iter().filter(together).map(|(id, _)| id).collect();
        let all = lost.len() + known.machines.len();
        // A leader counts the holds of an earlier one by its own clock. It can't do better if a clock is wrong.
        if self.clock_was_set && lost.iter().any(|id| self.held_in.get(*id).is_some_and(|term| *term != self.term)) {
            return;
        }
        if lost.len() < 3 || lost.len() * 100 <= usize::from(MASS_LOSS_SHARE) * all {
            return;
        }
        // The period begins with the first host, also with one of an earlier loss that isn't over.
        let one_of_many = |id: &MachineId| known.roster.get(id).is_some_and(|known| mass_loss(&known.value));
        let began = |id: &MachineId| self.losses.get(id).copied().filter(|_| one_of_many(id));
        let joins = known.roster.keys().any(|id| began(id).is_some());
        let first = self.lost.iter().filter(|(id, _)| lost.contains(id));
        let first = first.flat_map(|(id, at)| std::iter::once(*at).chain(began(id)));
        let begin = first.chain(joins.then_some(self.mass_loss)).min().unwrap_or_default();
        if now + Duration::from_millis(1) < begin + MASS_LOSS_GRACE {
            let host = self.name(Some(host));
            journal
                .violate(format!("{name} is taken from {host}, which vanished together with {} hosts", lost.len() - 1));
        }
    }

    /// A unit that is to run was taken from a host that isn't registered, which is wrong while it waits for that
    /// (`MoveAfterSec=`). The leader has planned from a state not earlier than the one at position `from`; it may know
    /// that the host was back meanwhile, or has been forgotten.
    fn waits(&self, host: &MachineId, name: &UnitName, from: usize, journal: &Journal) {
        let past = || self.past[from..].iter().map(|(.., cluster)| cluster);
        let is_gone = |cluster: &Cluster| !cluster.machines.contains_key(host) && cluster.roster.contains_key(host);
        let is_judged = self.lost.contains_key(host) && past().all(is_gone);
        let Some(gone) = self.gone.get(host).filter(|_| is_judged) else { return };
        let after = |cluster: &Cluster| cluster.constraints_at(name, host).map(|constraints| constraints.move_after);
        let Some(after) = past().filter_map(after).min() else { return };
        let since = u64::try_from(gone.as_millis()).unwrap();
        let waits =
            after.ends(since).is_none_or(|end| journal.now() + Duration::from_millis(1) < Duration::from_millis(end));
        let is_forced = past().any(|cluster| is_asked_away(cluster, host, true));
        if !self.clock_was_set && after > MoveAfter::AT_ONCE && waits && !is_forced {
            let host = self.name(Some(host));
            journal.violate(format!("{name} is taken from {host}, for which it waits (MoveAfterSec=)"));
        }
    }

    fn name(&self, id: Option<&MachineId>) -> String {
        id.map_or("?".into(), |id| self.machines.name(id))
    }

    /// A change, for the journal.
    fn line(&self, change: &Change) -> String {
        fn or_gone<T>(value: Option<&T>, line: impl Fn(&T) -> String) -> String {
            value.map_or_else(|| "deleted".into(), line)
        }
        match change {
            Change::Unit(name, unit) => {
                let unit = or_gone(unit.as_ref(), |u| format!("{} {}@{}", u.desired, u.hash.short(), u.generation));
                format!("unit {name} {unit}")
            }
            Change::File(hash, file) => format!("file {} {}", hash.short(), or_gone(file.as_ref(), |_| "put".into())),
            Change::History(name, kept) => {
                format!("history {name} {}", or_gone(kept.as_ref(), |kept| kept.value.keys.len().to_string()))
            }
            Change::Gate(name, gate) => {
                let on = |(host, file): (&MachineId, &Option<HeldFile>)| {
                    let file = file.as_ref().map_or("through", |file| file.hash.short());
                    format!(" {} {file}", self.name(Some(host)))
                };
                let hosts = |gate: &Gate| gate.hosts.iter().flat_map(|hosts| hosts.iter().map(on)).collect::<String>();
                let gate = or_gone(gate.as_ref(), |Versioned { value: gate, .. }| {
                    format!("{}@{}{}", gate.hash.short(), gate.asked, hosts(gate))
                });
                format!("gate {name} {gate}")
            }
            Change::Settings(settings) => {
                let is = |setting: &Setting, it: &Settings| Some(format!(" {}={}", setting.name, (setting.get)(it)?));
                let all = |it: &Versioned<Settings>| ALL.iter().filter_map(|s| is(s, &it.value)).collect::<String>();
                format!("settings{}", or_gone(settings.as_ref(), all))
            }
            Change::Rollout(name, rollout) => {
                let rollout = or_gone(rollout.as_ref(), |rollout| {
                    format!("{:?} to {}", rollout.value.phase, rollout.value.target.short())
                });
                format!("rollout {name} {rollout}")
            }
            Change::Machine(id, machine) => {
                let machine = or_gone(machine.as_ref(), |m| format!("{} boot {}", m.hostname, m.boot_id));
                format!("machine {} {machine}", id.short())
            }
            Change::Roster(id, known) => {
                let known = or_gone(known.as_ref(), |known| match &known.value.gone {
                    Some(Gone { held: Some(held), .. }) => {
                        format!(
                            "gone, held until {} ms{}",
                            held.until,
                            if held.mass_loss { ", one of many" } else { "" }
                        )
                    }
                    Some(gone) => format!("gone, {} moved, {} wait, {} ended", gone.moved, gone.waiting, gone.ended),
                    None => "present".into(),
                });
                format!("roster {} {known}", self.name(Some(id)))
            }
            Change::Metadata(id, key, value) => {
                format!("metadata {} {key} {}", self.name(Some(id)), or_gone(value.as_ref(), Clone::clone))
            }
            Change::Maintenance(id, asked) => {
                let asked = asked.as_ref().and_then(|asked| asked.value.closed());
                format!("host {} {}", self.name(Some(id)), or_gone(asked.as_ref(), Clone::clone))
            }
            Change::Placement(name, placement) => {
                let placement = or_gone(placement.as_ref(), |placement| match &placement.value {
                    Placement::On { host, .. } => format!("on {}", self.name(Some(host))),
                    Placement::Waiting { why, .. } => format!("waits: {why}"),
                    Placement::Done { done, .. } => format!("done on {}", self.name(Some(&done.host))),
                });
                format!("placement {name} {placement}")
            }
            Change::Assignment(host, name, entry) => {
                let entry = or_gone(entry.as_ref(), |entry| {
                    let entry = &entry.value;
                    format!("{:?} {}@{}", entry.target, entry.hash.short(), entry.generation)
                });
                format!("schedule {} {name} {entry}", self.name(Some(host)))
            }
            Change::Report(name, host, form, state) => {
                let state = or_gone(state.as_ref().map(|state| &state.value), |s| {
                    let rest = [
                        s.job.as_ref().map(JobKind::as_str),
                        s.result.as_ref().map(JobResult::as_str),
                        s.error.as_deref(),
                    ];
                    let rest = rest.into_iter().flatten().fold(String::new(), |rest, word| rest + " " + word);
                    format!("{:?} {}@{}: {}/{}{rest}", s.target, s.hash.short(), s.generation, s.active, s.sub)
                });
                let older = if *form == ReportKeyForm::UnitFirst { " under its older key" } else { "" };
                format!("state {name} {} {state}{older}", self.name(Some(host)))
            }
        }
    }
}

/// Units on hosts.
type Slices = Vec<(MachineId, UnitName)>;

/// The units that are assigned to each host, and are not to leave it.
fn slices(cluster: &Cluster) -> impl Iterator<Item = (MachineId, UnitName)> {
    let live = |(_, entry): &(&UnitName, &Versioned<Assignment>)| entry.value.target != Target::Removed;
    let slices = cluster.schedule.iter();
    slices.flat_map(move |(host, slice)| slice.iter().filter(live).map(|(name, _)| (host.clone(), name.clone())))
}

/// The cluster without what was forged about the unit that doesn't exist: the rules hold for all others. The
/// constraints in files that can't be read hold for nobody: a leader that has listed everything since can't know them.
fn without_forged(cluster: &Cluster, forged: &BTreeSet<String>) -> Cluster {
    let mut others = cluster.clone();
    for (hash, file) in &mut others.files {
        if forged.contains(&Key::File(hash.clone()).to_string()) {
            file.value = Arc::default();
        }
    }
    others.placements.remove(forge::UNIT);
    others.schedule.values_mut().for_each(|slice| drop(slice.remove(forge::UNIT)));
    others
}

/// Whether a host is remembered as one of many that vanished together.
fn mass_loss(known: &KnownHost) -> bool {
    known.gone.is_some_and(|gone| gone.held.is_some_and(|held| held.mass_loss))
}

/// Whether a unit should run on `host` and can run nowhere else instead.
fn is_tied(cluster: &Cluster, host: &MachineId, name: &UnitName) -> bool {
    let launched = cluster.units.get(name).is_some_and(|unit| unit.desired == Desired::Launched);
    let tied = cluster.constraints(name).is_some_and(|asked| asked.global || asked.machine_id.is_some());
    launched && tied && cluster.machines.contains_key(host) && fits(cluster, host, name, Stance::Arrive)
}

/// Whether a unit is up, with the file that it should have, and no start of it is to come.
fn serves_as_wanted(cluster: &Cluster, name: &UnitName) -> bool {
    let Some(unit) = effective(cluster).units.get(name).cloned() else { return false };
    let is_told = |told: &Assignment| told.hash == unit.hash && told.generation == unit.generation;
    let mut told = cluster.schedule.values().filter_map(|there| there.get(name));
    told.any(|told| is_told(&told.value)) && serves(cluster, name)
}

/// Whether a unit is up on the host that it is assigned to, and ready.
fn serves(cluster: &Cluster, name: &UnitName) -> bool {
    cluster.schedule.iter().any(|(host, there)| {
        let told = there.get(name).filter(|told| told.value.target == Target::Launched);
        let report = cluster.report(name, host).filter(|_| cluster.machines.contains_key(host));
        told.zip(report).is_some_and(|(told, report)| {
            let is_told = report.hash == told.value.hash && report.generation >= told.value.generation;
            is_told && report.active == ActiveState::Active && report.ready != Some(false)
        })
    })
}

/// Whether a unit should be on a host at all, and may stay on `host` or arrive there.
fn fits(cluster: &Cluster, host: &MachineId, name: &UnitName, stance: Stance) -> bool {
    let cluster = &*effective(cluster);
    let wanted = cluster.units.get(name).is_some_and(|unit| unit.desired != Desired::Inactive);
    cluster.constraints_at(name, host).filter(|_| wanted).is_some_and(|constraints| {
        let question = Question { unit: name, constraints: &constraints, host, stance, with: &[] };
        first_misfit(cluster, &question).is_none()
    })
}

/// Whether a unit of `home` fits `other`, if all units of its host came along.
fn fits_with_all_of(cluster: &Cluster, home: &MachineId, name: &UnitName, other: &MachineId) -> bool {
    let cluster = &*effective(cluster);
    let with: Vec<UnitName> = cluster.schedule.get(home).into_iter().flatten().map(|(name, _)| name.clone()).collect();
    cluster.constraints_at(name, other).is_some_and(|constraints| {
        let stance = Stance::Arrive;
        let question = Question { unit: name, constraints: &constraints, host: other, stance, with: &with };
        first_misfit(cluster, &question).is_none()
    })
}

/// Whether a person wants a unit of `host` elsewhere, and the leader has yet to act on it; also if the host is away, if
/// it must be so by `force`.
fn is_asked_away(cluster: &Cluster, host: &MachineId, force: bool) -> bool {
    cluster.units.iter().any(|(name, unit)| {
        let placement = cluster.placements.get(name).map(|known| &known.value);
        unit.moves
            .as_ref()
            .is_some_and(|asked| asked.from == *host && (asked.force || !force) && asked.is_open(placement))
    })
}

/// The host that a unit is to return to after a drain, or with one that it must be with.
fn goal(cluster: &Cluster, name: &UnitName) -> Option<MachineId> {
    // What its rollout has yet to let through isn't asked of it so far.
    let cluster = &*effective(cluster);
    let mut seen: Vec<String> = vec![name.to_string()];
    let mut at = 0;
    while let Some(unit) = seen.get(at).and_then(|unit| unit.parse::<UnitName>().ok()) {
        let taken = cluster.placements.get(&unit).and_then(|placement| placement.value.taken());
        if let Some(taken) = taken.filter(|taken| cluster.is_to_return(&unit, taken)) {
            return Some(taken.host.clone());
        }
        let peers = cluster.constraints(&unit).map(|constraints| constraints.machine_of.clone());
        let peers: Vec<String> = peers.into_iter().flatten().filter(|peer| !seen.contains(peer)).collect();
        seen.extend(peers);
        at += 1;
    }
    None
}

/// Whether a host has reported that a unit which runs once has run to its end, as it was asked to last.
fn has_run_once(cluster: &Cluster, host: &MachineId, name: &UnitName) -> bool {
    let is_hook = cluster.gates.get(name).is_some_and(|gate| gate.value.hook);
    let cluster = &*effective(cluster);
    let Some(unit) = cluster.units.get(name) else { return false };
    let runs_once = is_hook || cluster.files.get(&unit.hash).is_some_and(|file| file.value.run_once);
    let ended = cluster.report(name, host).is_some_and(|report| {
        let is_over =
            report.active == ActiveState::Inactive && report.result == Some(JobResult::Done) && report.job.is_none();
        is_over && report.target == Target::Launched && report.generation >= unit.generation
    });
    runs_once && unit.desired == Desired::Launched && ended
}

/// The units that `text` needs to run (`Requires=`, `BindsTo=`), instance names filled in.
pub(crate) fn needs(name: &UnitName, text: &str) -> BTreeSet<UnitName> {
    options(name, text, &["Requires", "BindsTo"])
}

/// Units named by some options of `[Unit]`.
pub(crate) fn options(name: &UnitName, text: &str, options: &[&str]) -> BTreeSet<UnitName> {
    let Ok(file) = flotilla::model::file::UnitFile::parse(text.as_bytes()) else { return BTreeSet::new() };
    let values = file.section("Unit").filter(|option| options.contains(&option.name.as_str()));
    let instance = name.instance().unwrap_or_default();
    values.flat_map(|o| o.value.split_whitespace()).filter_map(|v| v.replace("%i", instance).parse().ok()).collect()
}

/// `names` and everything they need, directly or indirectly.
pub(crate) fn closure(names: BTreeSet<UnitName>, needs: &BTreeMap<UnitName, BTreeSet<UnitName>>) -> BTreeSet<UnitName> {
    let mut all = names.clone();
    let mut open: Vec<UnitName> = names.into_iter().collect();
    while let Some(name) = open.pop() {
        for other in needs.get(&name).into_iter().flatten() {
            if all.insert(other.clone()) {
                open.push(other.clone());
            }
        }
    }
    all
}
