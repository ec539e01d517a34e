//! What goes on on the hosts, judged: who runs what, since when, and whether anybody asked for it. Owns the invariants
//! about processes; it sees each host's own log, with its times, and the changes of the hosts' slices.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use flotilla::model::cluster::Cluster;
use flotilla::model::file::UnitFile;
use flotilla::model::machine::Machine;
use flotilla::model::name::{MachineId, UnitName};
use flotilla::model::unit::Target;
use flotilla::systemd::fake::{Entry, Fake, What};

use super::journal::Journal;
use super::judge::{SLACK, closure, needs, options};

/// How long after a start its record may still be unwritten.
const UNWRITTEN: Duration = Duration::from_secs(2);

/// All hosts, by number.
#[derive(Default)]
pub(crate) struct Machines {
    all: Vec<Watched>,
    /// When a slice's entry changed last.
    told: BTreeMap<(MachineId, UnitName), Duration>,
}

/// One host.
struct Watched {
    name: String,
    id: MachineId,
    fake: Fake,
    born: Duration,
    /// Entries of its log that were looked at.
    seen: usize,
    /// Since when it is registered.
    present: bool,
    /// When it was last taken for dead.
    lost: Option<Duration>,
    /// When its daemon may last have failed to write down what it had done.
    trouble: Option<Duration>,
    /// Whether it can write nothing down now, and whether it ever couldn't.
    full: bool,
    was_full: bool,
    /// When its agent asked for a start last.
    asked: BTreeMap<UnitName, Duration>,
    running: BTreeMap<UnitName, Duration>,
    stopping: BTreeSet<UnitName>,
    up: BTreeSet<UnitName>,
    /// When each unit was last started in this boot, and when it last failed.
    started: BTreeMap<UnitName, Duration>,
    /// The file it was started with.
    with: BTreeMap<UnitName, String>,
    failed: BTreeMap<UnitName, Duration>,
}

impl Machines {
    pub(crate) fn add(&mut self, name: &str, id: &MachineId, fake: &Fake, now: Duration) -> usize {
        self.all.push(Watched {
            name: name.into(),
            id: id.clone(),
            fake: fake.clone(),
            born: now,
            seen: 0,
            present: false,
            lost: None,
            trouble: None,
            full: false,
            was_full: false,
            asked: BTreeMap::new(),
            running: BTreeMap::new(),
            stopping: BTreeSet::new(),
            up: BTreeSet::new(),
            started: BTreeMap::new(),
            with: BTreeMap::new(),
            failed: BTreeMap::new(),
        });
        self.all.len() - 1
    }

    pub(crate) fn id(&self, host: usize) -> Option<MachineId> {
        self.all.get(host).map(|machine| machine.id.clone())
    }

    pub(crate) fn name(&self, id: &MachineId) -> String {
        let mine = |machine: &&Watched| machine.id == *id;
        let present = self.all.iter().filter(mine).find(|machine| machine.present);
        present.or(self.all.iter().find(mine)).map_or_else(|| id.short().into(), |machine| machine.name.clone())
    }

    pub(crate) fn disk(&mut self, host: usize, full: bool, now: Duration) {
        let machine = &mut self.all[host];
        machine.full = full;
        machine.was_full |= full;
        machine.trouble = Some(now);
    }

    /// Whether the host could ever not write down what it knew.
    pub(crate) fn may_have_forgotten(&self, id: &MachineId) -> bool {
        self.all.iter().any(|machine| machine.id == *id && machine.was_full)
    }

    pub(crate) fn trouble(&mut self, host: usize, now: Duration) {
        self.all[host].trouble = Some(now);
    }

    pub(crate) fn starts(&mut self, host: usize, unit: &UnitName, now: Duration) {
        self.all[host].asked.insert(unit.clone(), now);
    }

    /// The host's key in the store has changed.
    pub(crate) fn presence(&mut self, id: &MachineId, record: Option<&Machine>, now: Duration) {
        for machine in self.all.iter_mut().filter(|machine| machine.id == *id) {
            let present = record.is_some_and(|record| record.hostname == machine.name);
            if machine.present && !present {
                machine.lost = Some(now);
            }
            machine.present = present;
        }
    }

    pub(crate) fn told(&mut self, host: &MachineId, unit: &UnitName, now: Duration) {
        self.told.insert((host.clone(), unit.clone()), now);
    }

    /// Whether a slice has changed of late.
    pub(crate) fn told_lately(&self, host: &MachineId, now: Duration) -> bool {
        self.told.iter().any(|((id, _), at)| id == host && now < *at + SLACK)
    }

    /// What the host has of a unit that it says is gone.
    pub(crate) fn has(&self, id: &MachineId, unit: &UnitName) -> Option<(String, &'static str)> {
        let machine = self.all.iter().find(|machine| machine.id == *id && machine.present)?;
        let what = if machine.fake.running().contains(unit) {
            "runs"
        } else if machine.fake.on_disk().contains_key(unit) {
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

    pub(crate) fn removes(&self, journal: &Journal, host: usize, unit: &UnitName) {
        let machine = &self.all[host];
        if machine.fake.running().contains(unit) {
            journal.violate(format!("{} removes {unit} while it runs", machine.name));
        }
    }

    /// Take in what the hosts' logs say since the last look.
    pub(crate) fn look(&mut self, journal: &Journal, cluster: &Cluster) {
        let mut news: Vec<(Duration, u8, usize, Entry)> = Vec::new();
        for (host, machine) in self.all.iter_mut().enumerate() {
            let entries = machine.fake.log_after(machine.seen);
            machine.seen += entries.len();
            // What has ended at some instant makes room for what begins at the same on another host.
            let begins = |at| entries.iter().any(|entry| entry.at == at && entry.what == What::Starting);
            news.extend(entries.iter().map(|e| (machine.born + e.at, u8::from(begins(e.at)), host, e.clone())));
        }
        // Stable: one host's entries of one instant stay in order.
        news.sort_by_key(|(at, last, host, _)| (*at, *last, *host));
        for (at, _, host, entry) in news {
            self.happened(journal, cluster, at, host, &entry);
        }
    }

    fn happened(&mut self, journal: &Journal, cluster: &Cluster, at: Duration, host: usize, entry: &Entry) {
        let name = self.all[host].name.clone();
        let Some(unit) = &entry.unit else {
            journal.note(format!("{name}: {:?}", entry.what));
            if entry.what == What::Rebooted {
                let machine = &mut self.all[host];
                machine.running.clear();
                machine.up.clear();
                machine.stopping.clear();
                machine.started.clear();
                machine.failed.clear();
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
                    machine.running.remove(unit); // it is through, and nothing is left of it
                } else {
                    machine.up.insert(unit.clone());
                }
            }
            What::Stopping => {
                self.stopping(journal, cluster, at, host, unit);
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
            What::Reloaded | What::Rebooted => {}
        }
    }

    fn starting(&mut self, journal: &Journal, cluster: &Cluster, at: Duration, host: usize, unit: &UnitName) {
        let me = &self.all[host];
        if me.stopping.contains(unit) {
            journal.violate(format!("{} starts {unit} before its stop is over", me.name));
        }
        let texts = me.fake.on_disk();
        self.start_is_asked_for(journal, cluster, at, host, unit, &texts);
        if let Some(text) = texts.get(unit) {
            let after = options(unit, text, &["After"]);
            for need in needs(unit, text).intersection(&after).filter(|need| texts.contains_key(*need)) {
                if me.fake.unit(need).sub == "running" || me.up.contains(need) {
                    continue;
                }
                journal.violate(format!("{} starts {unit} before {need}, which it needs", me.name));
            }
        }
        let global = texts.get(unit).is_some_and(|text| text.contains("Global=true"));
        for other in self.all.iter().enumerate().filter(|(other, _)| *other != host && !global).map(|(_, m)| m) {
            let Some(since) = other.running.get(unit) else { continue };
            let lost = !other.present || other.lost.is_some_and(|lost| lost >= *since);
            // A job that waited in systemd's queue while its host was taken for dead: nobody can call it back from
            // there.
            let asked = askers(unit, &texts).iter().filter_map(|name| me.asked.get(name)).max().copied();
            let queued = !me.present && asked <= me.lost;
            // It has no place there any more, and another unit that is launched there pulls it in before it has left:
            // the price of a `Requires=` without a `MachineOf=`.
            let slice = cluster.schedule.get(&me.id);
            let live = |name: &UnitName| {
                slice.and_then(|slice| slice.get(name)).is_some_and(|entry| entry.value.target != Target::Removed)
            };
            let pulled = !live(unit) && askers(unit, &texts).iter().any(|name| name != unit && live(name));
            if !lost && !queued && !pulled {
                journal.violate(format!(
                    "{unit} starts on {} while it runs on {}, which was there all the time",
                    me.name, other.name
                ));
            }
        }
        let me = &mut self.all[host];
        me.running.insert(unit.clone(), at);
        me.started.insert(unit.clone(), at);
        me.with.extend(texts.get(unit).map(|text| (unit.clone(), text.clone())));
    }

    /// A unit is started because its entry says so, or because one that needs it is: once for each time that was said.
    fn start_is_asked_for(
        &self,
        journal: &Journal,
        cluster: &Cluster,
        at: Duration,
        host: usize,
        unit: &UnitName,
        texts: &BTreeMap<UnitName, String>,
    ) {
        let me = &self.all[host];
        let askers = askers(unit, texts);
        let told = |name: &UnitName| self.told.get(&(me.id.clone(), name.clone())).copied();
        let slice = cluster.schedule.get(&me.id);
        let launched = |name: &UnitName| {
            let entry = slice.and_then(|slice| slice.get(name));
            entry.is_some_and(|entry| entry.value.target == Target::Launched)
        };
        let lately = askers.iter().any(|name| told(name).is_some_and(|told| told + SLACK >= at));
        if me.present && !lately && !askers.iter().any(launched) {
            journal.violate(format!("{} starts {unit}, which nobody asked for", me.name));
        }
        let Some(before) = me.started.get(unit).copied() else { return };
        let unwritten = me.full || me.trouble.is_some_and(|trouble| trouble >= before.saturating_sub(UNWRITTEN));
        let again = askers.iter().any(|name| {
            let first = name != unit && me.started.get(name).is_none_or(|started| *started < before);
            told(name).is_some_and(|told| told + SLACK >= before) || (first && launched(name))
        });
        // It, or what it needs, was replaced or began again since, and it was stopped with that.
        let graph = texts.iter().map(|(name, text)| (name.clone(), needs(name, text))).collect();
        let needs = closure(BTreeSet::from([unit.clone()]), &graph);
        let renewed = texts.get(unit) != me.with.get(unit);
        let back = renewed || needs.iter().any(|name| me.started.get(name).is_some_and(|started| *started > before));
        if !again && !back && !unwritten {
            journal.violate(format!("{} starts {unit} once more, which nobody asked for", me.name));
        }
    }

    /// A unit is stopped because its entry has changed, or that of one that it needs, or because such a one died.
    fn stopping(&self, journal: &Journal, cluster: &Cluster, at: Duration, host: usize, unit: &UnitName) {
        let me = &self.all[host];
        let Some(since) = me.running.get(unit).copied() else { return };
        let texts = me.fake.on_disk();
        let mut graph: BTreeMap<UnitName, BTreeSet<UnitName>> =
            texts.iter().map(|(name, text)| (name.clone(), needs(name, text))).collect();
        if let Some(text) = me.fake.loaded_text(unit) {
            graph.entry(unit.clone()).or_default().extend(needs(unit, &text));
        }
        let causes = closure(BTreeSet::from([unit.clone()]), &graph);
        // Told long ago and not done yet: the disk was full, say, and another unit has pulled it in with its old file.
        let slice = cluster.schedule.get(&me.id);
        let stale = |name: &UnitName| {
            let entry = slice.and_then(|slice| slice.get(name));
            entry.zip(texts.get(name)).is_some_and(|(entry, text)| {
                UnitFile::parse(text.as_bytes()).is_ok_and(|file| file.hash() != entry.value.hash)
            })
        };
        let leaving = |name: &UnitName| {
            slice.and_then(|slice| slice.get(name)).is_none_or(|entry| entry.value.target == Target::Removed)
        };
        if causes.iter().any(|name| texts.contains_key(name) && (stale(name) || leaving(name))) {
            return;
        }
        let told = causes.iter().filter_map(|name| self.told.get(&(me.id.clone(), name.clone()))).max();
        let failed = causes.iter().filter_map(|name| me.failed.get(name)).max();
        if told.is_none_or(|told| *told + SLACK < since) && failed.is_none_or(|failed| *failed < since) {
            let ran = (at - since).as_secs();
            journal.violate(format!("{} stops {unit} after {ran} s, which nobody asked for", me.name));
        }
    }
}

/// A unit, and those whose start starts it too.
fn askers(unit: &UnitName, texts: &BTreeMap<UnitName, String>) -> BTreeSet<UnitName> {
    let needs: BTreeMap<UnitName, BTreeSet<UnitName>> =
        texts.iter().map(|(name, text)| (name.clone(), needs(name, text))).collect();
    let pulls = |name: &&UnitName| closure(BTreeSet::from([(*name).clone()]), &needs).contains(unit);
    needs.keys().filter(pulls).chain([unit]).cloned().collect()
}
