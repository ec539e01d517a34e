//! How units start and stop on the host in memory, by systemd's rules for transactions, ordering and failure. Owns jobs
//! and the passing of time. It must never read or write a file.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::definition::{End, Load};
use super::host::{Host, Job, Kind, Next};
use super::{Outcome, What};
use crate::model::name::UnitName;
use crate::systemd::Error;

impl Host {
    /// Queue a start job and those it requires (mode `replace`). Nothing runs before [`Host::settle`]. While the system
    /// shuts down, systemd refuses to start what is to stop with it: the job of `shutdown.target` can't be replaced.
    pub(super) fn queue_start(&mut self, name: &UnitName) -> Result<(), Error> {
        let mut jobs = BTreeMap::new();
        self.pull_start(name, &mut jobs)?;
        let starts = |(unit, kind): (&UnitName, &Kind)| *kind == Kind::Start && !self.staying.contains(unit);
        if self.going_down && jobs.iter().any(starts) {
            let why = "shutdown.target has 'start' job queued, but 'stop' is included in transaction";
            return Err(Error::Refused(format!("Transaction for {name}/start is destructive ({why}).")));
        }
        self.install_jobs(name, jobs);
        Ok(())
    }

    /// Queue a stop job and those of all units that require this one. `false` if systemd doesn't know the unit.
    pub(super) fn queue_stop(&mut self, name: &UnitName) -> bool {
        self.load(name);
        if self.units.get(name).is_none_or(|unit| unit.load != Load::Loaded && unit.is_down()) {
            return false;
        }
        let mut jobs = BTreeMap::new();
        self.pull_stop(name, &mut jobs);
        self.install_jobs(name, jobs);
        true
    }

    fn pull_start(&mut self, name: &UnitName, jobs: &mut BTreeMap<UnitName, Kind>) -> Result<(), Error> {
        if jobs.contains_key(name) {
            return Ok(());
        }
        self.load(name);
        let Some(unit) = self.units.get(name) else { return Ok(()) };
        match unit.load {
            Load::Loaded => {}
            Load::NotFound => return Err(Error::Missing(format!("Unit {name} not found."))),
            Load::BadSetting => return Err(Error::Refused(format!("Unit {name} has a bad unit file setting."))),
            Load::Error => {
                let advice = "failed to load properly, please adjust/correct and reload service manager: Bad message";
                return Err(Error::Refused(format!("Unit {name} {advice}")));
            }
        }
        let needs: BTreeSet<_> = unit.definition.requires.union(&unit.definition.binds_to).cloned().collect();
        let (wants, conflicts) = (unit.definition.wants.clone(), unit.definition.conflicts.clone());
        jobs.insert(name.clone(), Kind::Start);
        for need in needs {
            self.pull_start(&need, jobs)?;
        }
        for want in wants {
            let mut with = jobs.clone();
            if self.pull_start(&want, &mut with).is_ok() {
                *jobs = with;
            }
        }
        for conflict in conflicts {
            self.pull_stop(&conflict, jobs);
        }
        Ok(())
    }

    /// The units that are stopped together with this one.
    pub(super) fn stopped_with(&self, name: &UnitName) -> BTreeSet<UnitName> {
        let mut jobs = BTreeMap::new();
        self.pull_stop(name, &mut jobs);
        jobs.remove(name);
        jobs.into_keys().collect()
    }

    fn pull_stop(&self, name: &UnitName, jobs: &mut BTreeMap<UnitName, Kind>) {
        if jobs.insert(name.clone(), Kind::Stop) == Some(Kind::Stop) {
            return;
        }
        let needing =
            self.units.iter().filter(|(_, u)| u.definition.needs(name) || u.definition.part_of.contains(name));
        let needing: Vec<_> = needing.map(|(name, _)| name.clone()).collect();
        for unit in needing {
            self.pull_stop(&unit, jobs);
        }
    }

    fn install_jobs(&mut self, anchor: &UnitName, jobs: BTreeMap<UnitName, Kind>) {
        for (name, kind) in jobs {
            let Some(unit) = self.units.get(&name) else { continue };
            let redundant = match kind {
                Kind::Start => unit.active == "active",
                Kind::Stop => unit.is_down(),
            };
            match unit.job {
                Some(job) if job.kind == kind => continue,
                Some(_) => self.finish(&name, "canceled"),
                None if redundant && name != *anchor => continue,
                None => {}
            }
            if let Some(unit) = self.units.get_mut(&name) {
                unit.job = Some(Job { kind, running: false });
            }
            self.changed(&name);
            self.ready.insert(name);
        }
    }

    /// Run every job that can run, until none can.
    pub(super) fn settle(&mut self) {
        while let Some(name) = self.ready.pop_first() {
            let Some(unit) = self.units.get(&name) else { continue };
            match unit.job {
                Some(Job { kind, running: false }) if !self.waits(&name, kind) => self.run(&name, kind),
                _ => {}
            }
        }
        self.collect();
    }

    /// systemd's `job_compare`: stop jobs run first; otherwise `Before=` and `After=` decide.
    fn waits(&self, name: &UnitName, kind: Kind) -> bool {
        let Some(mine) = self.units.get(name) else { return false };
        self.units.iter().any(|(other, theirs)| {
            let Some(job) = theirs.job.filter(|_| other != name) else { return false };
            let after = mine.definition.after.contains(other) || theirs.definition.before.contains(name);
            let before = mine.definition.before.contains(other) || theirs.definition.after.contains(name);
            (after && kind == Kind::Start) || (before && job.kind == Kind::Stop)
        })
    }

    fn run(&mut self, name: &UnitName, kind: Kind) {
        let held = self.holds_lease();
        let Some(unit) = self.units.get_mut(name) else { return };
        match (kind, unit.active, unit.sub) {
            (Kind::Start, "active", _) => self.finish(name, "done"),
            (Kind::Start, "inactive" | "failed", _) if !held && unit.definition.ends_with_lease => {
                self.finish(name, "dependency");
            }
            (Kind::Start, "inactive" | "failed", _) | (Kind::Start, _, "auto-restart") => self.begin_start(name),
            // Waits for the running stop, whose end makes this job ready again.
            (Kind::Start, "deactivating", _) => {}
            (Kind::Stop, "inactive" | "failed", _) => self.finish(name, "done"),
            (Kind::Stop, _, "auto-restart") => {
                self.set_state(name, "inactive", "dead");
                self.finish(name, "done");
            }
            (Kind::Stop, "active" | "activating", _) => self.begin_stop(name),
            _ => unit.job = Some(Job { kind, running: true }),
        }
    }

    fn begin_start(&mut self, name: &UnitName) {
        if name.kind() != "service" {
            let sub = match name.kind() {
                "socket" => "listening",
                "timer" | "path" | "automount" => "waiting",
                "mount" => "mounted",
                _ => "active",
            };
            self.note(Some(name), What::Started);
            self.set_state(name, "active", sub);
            return self.finish(name, "done");
        }
        if self.has_hit_start_limit(name) {
            self.note(Some(name), What::Failed);
            self.set_state(name, "failed", "failed");
            return self.finish(name, "failed");
        }
        let count = self.activations.entry(name.clone()).or_default();
        *count += 1;
        let policy = (self.options.policy)(name, *count);
        self.next_pid += 1;
        let pid = self.next_pid;
        let Some(unit) = self.units.get_mut(name) else { return };
        unit.restarts = if unit.sub == "auto-restart" { unit.restarts + 1 } else { 0 };
        unit.end = None;
        let behaviour = unit.definition.behaviour(policy);
        unit.main_pid = pid;
        unit.stop_time = behaviour.stop;
        unit.life = match behaviour.outcome {
            Outcome::Die(life) => Some(life),
            _ => None,
        };
        unit.job = unit.job.map(|job| Job { running: true, ..job });
        self.note(Some(name), What::Starting);
        self.set_state(name, "activating", "start");
        match behaviour.outcome {
            Outcome::Hang => {}
            Outcome::Fail => self.plan(name, behaviour.start, Next::Died(End::Exited)),
            Outcome::Succeed | Outcome::Die(_) => self.plan(name, behaviour.start, Next::Started),
        }
    }

    /// Count a start, unless it is one too many.
    fn has_hit_start_limit(&mut self, name: &UnitName) -> bool {
        let Some(unit) = self.units.get_mut(name) else { return false };
        let Some((burst, interval)) = unit.definition.start_limit else { return false };
        let now = Instant::now();
        let (began, count) = unit.starts.filter(|(began, _)| now - *began < interval).unwrap_or((now, 0));
        unit.starts = Some((began, count + 1));
        count >= burst
    }

    fn begin_stop(&mut self, name: &UnitName) {
        let Some(unit) = self.units.get_mut(name) else { return };
        unit.job = unit.job.map(|job| Job { running: true, ..job });
        let service = unit.main_pid != 0;
        let time = unit.stop_time;
        self.note(Some(name), What::Stopping);
        if service {
            self.set_state(name, "deactivating", "stop-sigterm");
            self.plan(name, time, Next::Stopped);
        } else {
            self.stopped(name);
        }
    }

    fn stopped(&mut self, name: &UnitName) {
        if let Some(unit) = self.units.get_mut(name) {
            unit.main_pid = 0;
        }
        self.note(Some(name), What::Stopped);
        self.set_state(name, "inactive", "dead");
        match self.units.get(name).and_then(|unit| unit.job) {
            Some(Job { kind: Kind::Stop, .. }) => self.finish(name, "done"),
            _ => {
                self.ready.insert(name.clone());
            }
        }
    }

    /// The processes of a unit that is stopping are killed.
    pub(super) fn killed(&mut self, name: &UnitName) {
        if let Some(unit) = self.units.get_mut(name) {
            (unit.main_pid, unit.end) = (0, Some(End::Killed));
        }
        self.note(Some(name), What::Killed);
        self.set_state(name, "failed", "failed");
        match self.units.get(name).and_then(|unit| unit.job) {
            Some(Job { kind: Kind::Stop, .. }) => self.finish(name, "done"),
            _ => drop(self.ready.insert(name.clone())),
        }
    }

    fn started(&mut self, name: &UnitName) {
        let Some(unit) = self.units.get_mut(name) else { return };
        let (oneshot, remain) = (unit.definition.oneshot, unit.definition.remain);
        let life = unit.life;
        self.note(Some(name), What::Started);
        match (oneshot, remain) {
            (false, _) => {
                self.set_state(name, "active", "running");
                if let Some(life) = life {
                    self.plan(name, life, Next::Died(End::Exited));
                }
            }
            (true, true) => self.set_state(name, "active", "exited"),
            (true, false) => {
                if let Some(unit) = self.units.get_mut(name) {
                    unit.main_pid = 0;
                }
                self.set_state(name, "inactive", "dead");
            }
        }
        self.finish(name, "done");
    }

    /// A process failed: while starting (its job fails), or later by itself.
    pub(super) fn died(&mut self, name: &UnitName, end: End) {
        let Some(unit) = self.units.get_mut(name).filter(|unit| !unit.is_down()) else { return };
        let (was, restart) = (unit.active, unit.definition.restarts_after(end));
        unit.main_pid = 0;
        unit.end = Some(end);
        self.note(Some(name), What::Failed);
        match restart {
            Some(wait) if was == "active" => {
                self.set_state(name, "activating", "auto-restart");
                return self.plan(name, wait, Next::Restart);
            }
            _ => self.set_state(name, "failed", "failed"),
        }
        match self.units.get(name).and_then(|unit| unit.job) {
            Some(Job { kind: Kind::Start, .. }) => self.finish(name, "failed"),
            Some(Job { kind: Kind::Stop, .. }) => self.finish(name, "done"),
            None => {}
        }
        let bound: Vec<_> =
            self.units.iter().filter(|(_, u)| u.definition.binds_to.contains(name)).map(|(n, _)| n.clone()).collect();
        for unit in bound {
            self.queue_stop(&unit);
        }
    }

    fn finish(&mut self, name: &UnitName, result: &str) {
        let Some(job) = self.units.get_mut(name).and_then(|unit| unit.job.take()) else { return };
        self.changed(name);
        self.job_done(name, result);
        if job.kind == Kind::Start && result != "done" && result != "canceled" {
            let waiting = self
                .units
                .iter()
                .filter(|(_, u)| u.definition.needs(name) && u.job.is_some_and(|job| job.kind == Kind::Start));
            let waiting: Vec<_> = waiting.map(|(name, _)| name.clone()).collect();
            for unit in waiting {
                self.finish(&unit, "dependency");
            }
        }
        let jobs = self.units.iter().filter(|(_, u)| u.job.is_some_and(|job| !job.running));
        let related = |unit: &UnitName, waiting: &super::host::Loaded| {
            let definition = &waiting.definition;
            let mine = self.units.get(name).map(|u| &u.definition);
            definition.after.contains(name)
                || definition.before.contains(name)
                || mine.is_some_and(|d| d.after.contains(unit) || d.before.contains(unit))
        };
        let ready: Vec<_> = jobs.filter(|(unit, waiting)| related(unit, waiting)).map(|(n, _)| n.clone()).collect();
        self.ready.extend(ready);
    }

    /// Do what is due now.
    pub(super) fn pass_time(&mut self) {
        let now = Instant::now();
        while let Some(entry) = self.agenda.first_entry().filter(|entry| entry.key().0 <= now) {
            let (name, epoch, next) = entry.remove();
            if self.units.get(&name).is_none_or(|unit| unit.epoch != epoch) {
                continue;
            }
            match next {
                Next::Started => self.started(&name),
                Next::Stopped => self.stopped(&name),
                Next::Died(end) => self.died(&name, end),
                Next::Restart => {
                    if self.queue_start(&name).is_err() {
                        self.set_state(&name, "failed", "failed");
                    }
                }
            }
            self.settle();
        }
    }

    /// How long PID 1 doesn't answer while it reloads.
    pub(super) fn reload_time(&self) -> Duration {
        self.options.reload_time * u32::try_from(self.units.len()).unwrap_or(u32::MAX)
    }
}
