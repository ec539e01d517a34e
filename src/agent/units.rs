//! What this host knows of the units that are or were assigned to it: assigned, observed, carried out, reported. Values
//! only; `pass` asks the store and systemd.

mod assignments;
mod foreign;
mod ordering;
mod reports;
mod restart;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::clock::Clock;
use crate::model::file::UnitFile;
use crate::model::name::{UnitHash, UnitName};
use crate::model::unit::{Assignment, Target};
use crate::plan::converge::{Seen, Step, Steps, converge, next};
use crate::systemd::{self, Event};

use super::HOLD;
use super::boot_state::{Executed, StoreHistory};
use super::unit::Unit;

pub(super) use ordering::Needs;

/// All of them.
#[derive(Debug)]
pub(super) struct Units {
    clock: Clock,
    units: BTreeMap<UnitName, Unit>,
    /// Those that something happened to since they were last settled.
    dirty: BTreeSet<UnitName>,
    /// Those that systemd must be asked about.
    unseen: BTreeSet<UnitName>,
    /// Whether the assignments are known: until then nothing may be concluded from one that isn't there.
    followed: bool,
    /// How far the store's history was seen to go.
    history: StoreHistory,
    /// Whether that differs from the note in more than its revision.
    pub(super) history_changed: bool,
    /// Units whose files were here before us, and that the cluster knows nothing of: left alone. `None` until the note
    /// was read.
    pub(super) foreign: Option<BTreeSet<UnitName>>,
    /// Whether the disk and the notes must be read (again).
    pub(super) disk_unread: bool,
    /// Whether the records differ from the note.
    pub(super) records_changed: bool,
    /// Units whose loaded file has changed, or that were enabled, and systemd hasn't been told of it.
    pub(super) reload_due: BTreeSet<UnitName>,
    /// Units that are stopped for a new file and don't have it yet.
    replacing: BTreeSet<UnitName>,
    /// Units whose start waits for others to have stopped.
    deferred: BTreeSet<UnitName>,
    /// Removed units that systemd may still hold in memory, to be looked at once more.
    pub(super) forgotten: BTreeMap<UnitName, Instant>,
}

impl Units {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            clock,
            units: BTreeMap::new(),
            dirty: BTreeSet::new(),
            unseen: BTreeSet::new(),
            followed: false,
            history: StoreHistory::default(),
            history_changed: false,
            foreign: None,
            disk_unread: true,
            records_changed: false,
            reload_due: BTreeSet::new(),
            replacing: BTreeSet::new(),
            deferred: BTreeSet::new(),
            forgotten: BTreeMap::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.units.keys().filter(|name| !self.is_foreign(name)).count()
    }

    pub(super) fn names(&self) -> Vec<UnitName> {
        self.units.keys().cloned().collect()
    }

    pub(super) fn is_settled(&self) -> bool {
        self.dirty.is_empty() && self.unseen.is_empty()
    }

    pub(super) fn get(&self, name: &UnitName) -> Option<&Unit> {
        self.units.get(name)
    }

    /// A unit to change; it will be looked at again.
    pub(super) fn mark_dirty(&mut self, name: &UnitName) -> &mut Unit {
        self.dirty.insert(name.clone());
        self.units.entry(name.clone()).or_default()
    }

    /// Everything is to be compared with the disk and with systemd.
    pub(super) fn check_all(&mut self) {
        self.disk_unread = true;
        self.resync();
    }

    fn resync(&mut self) {
        let names: Vec<UnitName> = self.units.keys().cloned().collect();
        self.unseen.extend(names.iter().cloned());
        for name in names {
            self.mark_dirty(&name).unread = true;
        }
    }

    /// A new presence begins. The assignments may have changed meanwhile, so nothing is done by the old ones; and
    /// nothing is known of what the store has of this host's reports, which vanish with a lease.
    pub(super) fn begin(&mut self) {
        self.followed = false;
        let names: Vec<UnitName> = self.units.keys().cloned().collect();
        for name in names {
            self.mark_dirty(&name).reported = None;
        }
    }

    /// Something happened on the host.
    pub(super) fn on_event(&mut self, event: &Event) {
        match event {
            Event::Resync => self.resync(),
            Event::Changed(name) => self.look_at(name),
            Event::JobDone { unit, result } => {
                self.look_at(unit);
                let Some(unit) = self.units.get_mut(unit) else { return };
                if result == "canceled" {
                    unit.stopped_for = None; // somebody's start came before the stop
                }
                if let Some(record) = &mut unit.record {
                    record.result = Some(result.clone());
                    self.records_changed = true;
                }
            }
        }
    }

    fn look_at(&mut self, name: &UnitName) {
        if self.units.contains_key(name) {
            self.unseen.insert(name.clone());
            self.dirty.insert(name.clone());
        }
    }

    /// What is on disk, and what the note says of this boot.
    pub(super) fn read_from_disk(&mut self, files: &BTreeMap<UnitName, String>, records: BTreeMap<UnitName, Executed>) {
        let known: Vec<UnitName> = self.units.keys().cloned().collect();
        for name in known.iter().chain(files.keys()).chain(records.keys()) {
            if !self.units.contains_key(name) {
                self.unseen.insert(name.clone());
            }
            let (file, needs) = match files.get(name) {
                Some(text) => read(name, text),
                None => (None, Needs::default()),
            };
            if self.mark_dirty(name).file != file {
                self.unseen.insert(name.clone());
            }
            let unit = self.mark_dirty(name);
            (unit.file, unit.needs, unit.unread) = (file, needs, true);
        }
        for (name, record) in records {
            self.mark_dirty(&name).record.get_or_insert(record);
        }
        for unit in self.units.values_mut().filter(|unit| unit.file.is_some()) {
            // A file is there again, and the call that wrote it was never answered: it isn't gone any more.
            unit.record = unit.record.take().filter(|record| record.target != Target::Removed);
        }
        self.disk_unread = false;
    }

    /// Those to ask systemd about, in two parts: those that it has in memory anyway or must read, and those that it may
    /// hold or not. They count as asked.
    pub(super) fn take_unseen(&mut self) -> (Vec<UnitName>, Vec<UnitName>) {
        let must = |name: &UnitName| self.units.get(name).is_none_or(Unit::is_for_reading);
        std::mem::take(&mut self.unseen).into_iter().partition(must)
    }

    /// A unit's file is installed. What starts next is looked at when it has: systemd would read it now, and forget it
    /// again.
    pub(super) fn installed(&mut self, name: &UnitName, text: &str) {
        let unit = self.mark_dirty(name);
        (unit.file, unit.needs) = read(name, text);
        unit.linked = true;
        unit.unread = true;
        // What was carried out was with another file, or none: a note that could not be written may know it no better.
        unit.record = unit.record.take().filter(|record| record.target != Target::Removed);
        if let Some(record) = &mut unit.record {
            record.undone = true;
        }
        if next(unit.entry.as_ref(), &unit.seen()) == Some(Step::Start) {
            self.unseen.remove(name);
        }
    }

    /// How much is under way: units that something happened to, and jobs.
    pub(super) fn under_way(&self) -> usize {
        self.dirty() + self.jobs()
    }

    /// systemd could not be asked after all.
    pub(super) fn requeue(&mut self, names: Vec<UnitName>) {
        self.unseen.extend(names);
    }

    /// systemd has none of these in memory: they are down, and it would read their files again.
    pub(super) fn observe_unloaded(&mut self, names: impl IntoIterator<Item = UnitName>) {
        let down = |name: UnitName| {
            let unit = self.units.get(&name)?;
            let load = if unit.file.is_some() { unit.systemd.load.clone() } else { "not-found".into() };
            Some((name, systemd::Unit { load, active: "inactive".into(), sub: "dead".into(), job: None }))
        };
        let down = names.into_iter().filter_map(down).collect();
        self.observe(down);
    }

    /// What systemd says now.
    pub(super) fn observe(&mut self, seen: BTreeMap<UnitName, systemd::Unit>) {
        let now = self.clock.now_ms();
        let mut stopped = Vec::new();
        for (name, now_seen) in seen {
            let Some(unit) = self.units.get_mut(&name) else { continue };
            if (&unit.systemd.active, &unit.systemd.sub) != (&now_seen.active, &now_seen.sub) {
                unit.since = now;
            }
            unit.systemd = now_seen;
            unit.unread = false;
            if unit.systemd.job.as_deref() == Some("stop") {
                stopped.push(name);
            }
            // A job whose end nobody saw (the daemon was away) has ended all the same.
            let Unit { systemd, record: Some(record), .. } = unit else { continue };
            if systemd.job.is_none() && record.result.is_none() && record.error.is_none() {
                let result = match systemd.active.as_str() {
                    "failed" => "failed",
                    "active" | "inactive" => "done",
                    _ => continue,
                };
                record.result = Some(result.into());
                self.records_changed = true;
            }
        }
        for name in stopped {
            self.is_stopped_too(&name);
        }
    }

    /// What to do next; nothing before the assignments are known.
    pub(super) fn steps(&mut self) -> Steps {
        if !self.followed {
            return Steps::default();
        }
        self.dirty.extend(std::mem::take(&mut self.deferred));
        let units = self.dirty.iter().filter_map(|name| Some((name, self.units.get(name)?)));
        let free = units
            .filter(|(name, unit)| unit.held.is_none() && !unit.unreadable && !self.is_protected(name))
            .map(|(name, unit)| (name, unit.entry.as_ref(), unit.seen()));
        let free: Vec<(&UnitName, Option<&Assignment>, Seen)> = free.collect();
        let mut steps = converge(free.iter().map(|(name, entry, seen)| (*name, *entry, seen)));
        self.defer_starts(&mut steps);
        steps
    }

    /// Every start that waits for another unit's file may be tried again.
    pub(super) fn retry_missing(&mut self) {
        let missing = |unit: &Unit| unit.record.as_ref().is_some_and(|record| record.missing);
        let names: Vec<UnitName> =
            self.units.iter().filter(|(_, unit)| missing(unit)).map(|(n, _)| n.clone()).collect();
        for name in names {
            self.mark_dirty(&name).retry = true;
        }
    }

    /// A unit is being stopped: what was carried out isn't any more.
    pub(super) fn undo(&mut self, name: &UnitName) {
        if let Some(record) = &mut self.mark_dirty(name).record {
            record.undone = true;
            self.records_changed = true;
        }
    }

    /// A unit's file could not be handled: leave it alone for a while, and say so.
    pub(super) fn back_off(&mut self, name: &UnitName, error: &systemd::Error) {
        let unit = self.mark_dirty(name);
        let text = clip(error);
        // Said once, not at every attempt: it may stay so for days.
        if unit.record.as_ref().and_then(|record| record.error.as_ref()) != Some(&text) {
            tracing::warn!(unit = %name, %error, "could not be carried out; trying again every {} s", HOLD.as_secs());
        }
        unit.held = Some(Instant::now() + HOLD);
        if let Some(entry) = &unit.entry {
            let (generation, target) = (entry.generation, unit.record.as_ref().map_or(Target::Loaded, |r| r.target));
            // Not carried out, whatever was before. And never `gone` before it is: that word lets the unit start
            // elsewhere.
            let target = if target == Target::Removed { Target::Loaded } else { target };
            let restart = unit.record.as_ref().and_then(|record| record.restart);
            unit.record = Some(Executed {
                generation,
                target,
                restart,
                result: None,
                error: Some(text),
                missing: false,
                returning: false,
                undone: true,
            });
            self.records_changed = true;
        }
    }

    /// Note that a unit's entry is carried out (or that systemd won't).
    pub(super) fn record(&mut self, name: &UnitName, error: Option<&systemd::Error>) {
        let unit = self.mark_dirty(name);
        unit.retry = false;
        unit.held = None;
        let Some(entry) = &unit.entry else { return };
        let missing = matches!(error, Some(systemd::Error::Missing(_)));
        let Assignment { generation, target, restart, .. } = *entry;
        let error = error.map(clip);
        unit.record = Some(Executed {
            generation,
            target,
            restart,
            result: None,
            error,
            missing,
            returning: false,
            undone: false,
        });
        self.records_changed = true;
    }

    /// A unit's file is gone from the disk.
    pub(super) fn removed(&mut self, name: &UnitName) {
        let unit = self.mark_dirty(name);
        (unit.file, unit.needs) = (None, Needs::default());
        unit.linked = false;
        unit.held = None;
        if unit.entry.is_none() {
            // Kept until the report is gone from the store too: a daemon that is restarted before must still know of
            // it.
            let generation = unit.record.as_ref().map(|record| record.generation).unwrap_or_default();
            unit.record = Some(Executed {
                generation,
                target: Target::Removed,
                restart: None,
                result: None,
                error: None,
                missing: false,
                returning: false,
                undone: false,
            });
            self.records_changed = true;
        }
        self.reload_due.remove(name);
        self.unseen.insert(name.clone());
    }

    /// All records, for the note.
    pub(super) fn records(&self) -> BTreeMap<&UnitName, &Executed> {
        self.units.iter().filter_map(|(name, unit)| Some((name, unit.record.as_ref()?))).collect()
    }

    /// How long until something must be looked at that no signal will announce.
    pub(super) fn next_look(&self) -> Option<Duration> {
        let held = self.units.values().filter_map(|unit| unit.held);
        let next = held.chain(self.forgotten.values().copied()).min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    /// Those that a reload is due for; not those for which it has failed a moment ago.
    pub(super) fn due_for_reload(&self) -> Vec<UnitName> {
        let waits = |name: &&UnitName| self.units.get(*name).is_some_and(|unit| unit.held.is_none());
        self.reload_due.iter().filter(waits).cloned().collect()
    }

    /// Let those go whose time on hold is over.
    pub(super) fn end_back_off(&mut self) {
        let now = Instant::now();
        let over = |unit: &Unit| unit.held.is_some_and(|until| until <= now);
        let names: Vec<UnitName> = self.units.iter().filter(|(_, unit)| over(unit)).map(|(n, _)| n.clone()).collect();
        for name in names {
            self.mark_dirty(&name).held = None;
        }
    }
}

/// The hash of a file on disk, and what the file says of others; one that can't be read as a unit file is like no
/// other.
fn read(name: &UnitName, text: &str) -> (Option<UnitHash>, Needs) {
    match UnitFile::parse(text.as_bytes()) {
        Ok(file) => (Some(file.hash()), Needs::of(name, &file)),
        Err(_) => (Some(UnitHash::new("damaged")), Needs::default()),
    }
}

/// An error for a report: a line, not a book.
fn clip(error: &systemd::Error) -> String {
    const LONGEST: usize = 500;
    error.to_string().chars().take(LONGEST).collect()
}
