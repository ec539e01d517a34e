//! One pass: look at what something happened to, do what it needs, phase by phase, write down what was done, report it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::model::file::UnitFile;
use crate::model::name::{UnitHash, UnitName};
use crate::plan::converge::Steps;
use crate::registry::keys::{FileRecord, Key};
use crate::registry::{decode, point};
use crate::store::lease::Lease;
use crate::store::{self, Kv, Store};
use crate::systemd::{self, Systemd};

use super::{Agent, HOLD, Progress, Trouble, boot_state};

/// When to look whether systemd has let go of a removed unit by itself, as it does with what nothing refers to.
const FORGET_AFTER: Duration = Duration::from_secs(2);

/// Files fetched at once.
const FETCHES: usize = 32;

/// Files of the store by hash: the text, or why it can't be used.
type Texts = BTreeMap<UnitHash, Result<String, String>>;

/// The text of the file `hash`, if its record holds that file. One with any other text would be written, found to be
/// another file than the one wanted, and written again.
fn usable(hash: &UnitHash, record: Option<&Kv>) -> Result<String, String> {
    let key = Key::File(hash.clone());
    let Some(record) = record else { return Err(format!("its file is not in the store: there is no key `{key}`")) };
    let text = decode::<FileRecord>(record).map_err(|corrupt| format!("its file is unusable: {corrupt}"))?.text;
    match UnitFile::parse(text.as_bytes()) {
        Ok(file) if file.hash() == *hash => Ok(text),
        Ok(file) => Err(format!(
            "its file is damaged in the store: the text under the key `{key}` has the hash {}",
            file.hash().short()
        )),
        Err(error) => Err(format!("its file is damaged in the store, under the key `{key}`: {error}")),
    }
}

impl<S: Store, H: Systemd> Agent<S, H> {
    /// Look, do, write down, report. What can't be finished now is kept for the next pass.
    pub(super) async fn pass(&mut self, lease: &Lease<S>) -> Result<Progress, Trouble> {
        self.units.end_back_off();
        if self.units.disk_unread {
            let files = self.host.files().await?;
            if self.units.foreign.is_none() {
                self.units.respect(boot_state::foreign(&self.host, files.keys()).await?);
            }
            let records = boot_state::read(&self.host).await?;
            self.units.read_from_disk(&files, records);
        }
        // Before anything is done with a unit that has become ours: a daemon that comes after must know that it is.
        if let Some(foreign) = self.units.take_over() {
            boot_state::write_foreign(&self.host, foreign).await;
        }
        self.units.protect_orphans();
        if self.units.history_changed
            && let Err(error) = self.note().await
        {
            tracing::debug!(%error, "what the store has forgotten could not be noted");
        }
        // One that failed in an earlier pass.
        self.reload().await?;
        self.look().await?;
        self.forget().await?;
        loop {
            self.pulse.beat();
            let returning = self.units.replaced();
            if !returning.is_empty() {
                self.units.requeue(returning.clone());
                self.look().await?;
                self.units.restart_dependents(&returning);
            }
            let steps = self.units.steps();
            // Its assignments may be out of date and its units may run elsewhere: nothing is begun, nothing is stopped.
            // Jobs that are asked for now are begun a little later, hence the margin.
            if !steps.is_empty() && lease.lives_until() < Instant::now() + self.options.ttl / 3 {
                return Ok(Progress::Unsure);
            }
            for name in &steps.record {
                self.units.record(name, None);
            }
            if !steps.install.is_empty() {
                self.install(steps.install).await?;
                self.reload().await?;
            } else if !steps.stop.is_empty() || !steps.start.is_empty() {
                self.run_jobs(steps).await?;
            } else if !steps.remove.is_empty() {
                self.remove(steps.remove).await?;
            } else {
                break;
            }
            self.look().await?;
        }
        self.pulse.beat();
        let changed = self.units.records_changed || self.units.history_changed;
        let noted = if changed { self.note().await } else { Ok(()) };
        // A host that can't write its own files must not fall silent too.
        self.publish(lease).await?;
        noted?;
        Ok(Progress::Done)
    }

    /// Write down what was carried out, and how far the store's history was seen to go: together, since it was told by
    /// a history that went that far.
    async fn note(&mut self) -> Result<(), systemd::Error> {
        let history = boot_state::write_history(&self.host, self.units.history()).await;
        self.units.history_changed = history.is_err();
        let records = boot_state::write(&self.host, &self.units.records()).await;
        self.units.records_changed = history.is_err() || records.is_err();
        history.and(records)
    }

    /// Ask systemd about the units that something happened to.
    async fn look(&mut self) -> Result<(), systemd::Error> {
        let (read, recall) = self.units.take_unseen();
        let mut failed = None;
        if !read.is_empty() {
            match self.host.units(read.clone()).await {
                Ok(seen) => self.units.observe(seen),
                Err(error) => {
                    self.units.requeue(read);
                    failed = Some(error);
                }
            }
        }
        if !recall.is_empty() {
            match self.host.in_memory(recall.clone()).await {
                Ok(seen) => {
                    self.units.observe_unloaded(recall.into_iter().filter(|name| !seen.contains_key(name)));
                    self.units.observe(seen);
                }
                Err(error) => {
                    self.units.requeue(recall);
                    failed = Some(error);
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }

    async fn install(&mut self, names: Vec<UnitName>) -> Result<(), Trouble> {
        let texts = self.fetch(&names).await?;
        let mut files = Vec::new();
        let mut need_reload = BTreeSet::new();
        for name in names {
            let Some(unit) = self.units.get(&name) else { continue };
            let Some(text) = unit.entry.as_ref().and_then(|entry| texts.get(&entry.hash)) else { continue };
            let text = match text {
                Ok(text) => text,
                Err(why) => {
                    self.units.back_off(&name, &systemd::Error::Io(why.clone()));
                    continue;
                }
            };
            // What systemd has in memory it reads again only when told to; links into targets likewise. A file it has
            // never seen needs no reload, and a reload with a thousand units stops PID 1 for a second.
            if !matches!(unit.systemd.load.as_str(), "" | "not-found")
                || UnitFile::parse(text.as_bytes()).is_ok_and(|file| file.has_install())
            {
                need_reload.insert(name.clone());
            }
            files.push((name, text.clone()));
        }
        let written: BTreeMap<UnitName, String> = files.iter().cloned().collect();
        self.units.requeue(written.keys().cloned().collect());
        let mut unknown = Ok(());
        for (name, outcome) in self.host.install(files).await {
            match outcome {
                Ok(()) => {
                    tracing::debug!(unit = %name, "installed");
                    self.units.forgotten.remove(&name);
                    self.units.reload_due.extend(need_reload.get(&name).cloned());
                    self.units.installed(&name, written.get(&name).map_or("", |text| text));
                }
                Err(error @ systemd::Error::Unavailable(_)) => {
                    // Written, linked, or neither: only the disk can say, and only a reload makes sure.
                    self.units.disk_unread = true;
                    self.units.reload_due.extend(need_reload.get(&name).cloned());
                    unknown = Err(error);
                }
                Err(error) => self.units.back_off(&name, &error),
            }
        }
        unknown?;
        self.units.retry_missing();
        Ok(())
    }

    /// Once for all files of a batch, and before any of them is started. If systemd answers and yet doesn't reload,
    /// those that need it wait, and the others go on.
    async fn reload(&mut self) -> Result<(), systemd::Error> {
        let due = self.units.due_for_reload();
        if due.is_empty() {
            return Ok(());
        }
        tracing::debug!("reloading systemd: a loaded file has changed or was enabled");
        match self.pulse.during(self.host.reload()).await {
            Ok(()) => self.units.reload_due.clear(),
            Err(error) => {
                self.answers().await?;
                for name in &due {
                    self.units.back_off(name, &error);
                }
            }
        }
        Ok(())
    }

    /// The texts of the files that `names` should have, by hash; or why one can't be used, naming its key.
    async fn fetch(&self, names: &[UnitName]) -> Result<Texts, store::Error> {
        let hashes = names.iter().filter_map(|name| Some(self.units.get(name)?.entry.as_ref()?.hash.clone()));
        let hashes: Vec<UnitHash> = hashes.collect::<BTreeSet<_>>().into_iter().collect();
        let mut texts = BTreeMap::new();
        for part in hashes.chunks(FETCHES) {
            let fetches =
                part.iter().map(async |hash| point(&self.store, &Key::File((*hash).clone()).to_string(), None).await);
            for (hash, found) in part.iter().zip(futures_util::future::join_all(fetches).await) {
                texts.insert(hash.clone(), usable(hash, found?.1.as_ref()));
            }
        }
        Ok(texts)
    }

    /// All stop jobs, then all start jobs, none awaited: systemd orders what it has in its queue.
    async fn run_jobs(&mut self, Steps { stop, start, .. }: Steps) -> Result<(), Trouble> {
        self.units.requeue(stop.iter().chain(&start).cloned().collect());
        let mut unknown = Ok(());
        if !stop.is_empty() {
            self.units.stopping(&stop);
            for name in &stop {
                self.units.undo(name);
            }
            // Before they are asked for: a daemon that is killed now would take a stopped unit for one that was
            // started. If it can't be written, stopping is what matters.
            if let Err(error) = boot_state::write(&self.host, &self.units.records()).await {
                tracing::debug!(%error, "stops could not be noted");
            }
            for (name, outcome) in self.host.stop(stop).await {
                match outcome {
                    Ok(()) => {
                        tracing::info!(unit = %name, "stopping");
                        self.units.stopped(&name);
                    }
                    Err(error @ systemd::Error::Unavailable(_)) => unknown = Err(error.into()),
                    Err(error) => self.units.back_off(&name, &error),
                }
            }
        }
        if !start.is_empty() {
            // Likewise: a unit that was started must not be stopped once more for the same restart.
            if self.units.restarting(&start)
                && let Err(error) = boot_state::write(&self.host, &self.units.records()).await
            {
                tracing::debug!(%error, "restarts could not be noted");
            }
            for (name, outcome) in self.host.start(start).await {
                match outcome {
                    Ok(()) => {
                        tracing::info!(unit = %name, "starting");
                        self.units.record(&name, None);
                    }
                    Err(error @ systemd::Error::Unavailable(_)) => unknown = Err(error.into()),
                    Err(error) => {
                        tracing::warn!(unit = %name, %error, "can't be started");
                        self.units.record(&name, Some(&error));
                    }
                }
            }
            // Not at the end of the pass, which may take long and be broken off: a oneshot that is over by then would
            // be started again.
            if let Err(error) = self.note().await {
                tracing::debug!(%error, "starts could not be noted");
            }
        }
        unknown
    }

    async fn remove(&mut self, names: Vec<UnitName>) -> Result<(), Trouble> {
        // A unit that was started just now may have pulled one of them in again.
        self.units.requeue(names.clone());
        self.look().await?;
        let still = self.units.steps().remove;
        let names: Vec<UnitName> = names.into_iter().filter(|name| still.contains(name)).collect();
        let mut unknown = Ok(());
        for (name, outcome) in self.host.remove(names).await {
            match outcome {
                Ok(()) => {
                    tracing::info!(unit = %name, "removed");
                    self.units.removed(&name);
                    self.units.forgotten.insert(name, Instant::now() + FORGET_AFTER);
                }
                Err(error @ systemd::Error::Unavailable(_)) => {
                    self.units.disk_unread = true;
                    unknown = Err(error.into());
                }
                Err(error) => self.units.back_off(&name, &error),
            }
        }
        unknown
    }

    /// One reload if systemd still holds a removed unit in memory (another one refers to it): else starting that other
    /// unit would start the removed one.
    async fn forget(&mut self) -> Result<(), systemd::Error> {
        let now = Instant::now();
        let due: Vec<UnitName> =
            self.units.forgotten.iter().filter(|(_, at)| **at <= now).map(|(name, _)| name.clone()).collect();
        if due.is_empty() {
            return Ok(());
        }
        let held = self.host.in_memory(due.clone()).await?;
        if held.values().any(|unit| unit.load != "not-found") {
            tracing::debug!("reloading systemd: it still holds a unit that was removed");
            if let Err(error) = self.pulse.during(self.host.reload()).await {
                self.answers().await?;
                let hold = HOLD.as_secs();
                tracing::warn!(%error, "systemd can't be made to forget removed units; trying again in {hold} s");
                let later = Instant::now() + HOLD;
                self.units.forgotten.extend(due.into_iter().map(|name| (name, later)));
                return Ok(());
            }
        }
        for name in due {
            self.units.forgotten.remove(&name);
        }
        Ok(())
    }
}
