//! The state of the host in memory: files, links, loaded units, and the log of what has happened. Owns loading,
//! unloading and events. It must never queue or end a job: that belongs to `jobs`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::definition::{Definition, End, Load};
use super::{Counters, LogEntry, Options, What};
use crate::model::name::UnitName;
use crate::systemd::{Details, Error, Event, ProbeEnd, UnitState, host_has};

/// The content of the folders. A reboot deletes all of it: `/run` is a tmpfs.
#[derive(Debug, Default)]
pub(super) struct Disk {
    pub(super) files: BTreeMap<UnitName, String>,
    /// Files that systemd finds (`/run/systemd/system/<name>`).
    pub(super) links: BTreeSet<UnitName>,
    /// Links of `[Install]` sections: unit → (the unit whose `.wants` or `.requires` it is in, whether it is
    /// `.requires`).
    pub(super) enabled: BTreeMap<UnitName, Vec<(UnitName, bool)>>,
    pub(super) boot_files: BTreeMap<String, String>,
    /// The next files of units.
    pub(super) staged: BTreeMap<UnitName, String>,
}

impl Disk {
    /// Nothing is left of a unit.
    pub(super) fn forget(&mut self, name: &UnitName) {
        self.enabled.remove(name);
        self.links.remove(name);
        self.files.remove(name);
        self.staged.remove(name);
    }
}

/// A job of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) kind: Kind,
    pub(super) running: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Start,
    Stop,
}

impl Kind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
        }
    }
}

/// A unit in systemd's memory.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) load: Load,
    pub(super) definition: Definition,
    pub(super) active: &'static str,
    pub(super) sub: &'static str,
    pub(super) job: Option<Job>,
    pub(super) main_pid: u32,
    /// How long its running stop takes, from the policy at its start.
    pub(super) stop_time: Duration,
    /// How long it runs before it fails by itself.
    pub(super) life: Option<Duration>,
    /// How its last process ended, if it failed.
    pub(super) end: Option<End>,
    /// The process that ignores the watchdog's signal and is killed later; 0 if there is none.
    pub(super) signalled: u32,
    /// `NRestarts`.
    pub(super) restarts: u32,
    /// When the interval of its start limit began, and how often it was started since.
    pub(super) starts: Option<(Instant, u32)>,
    /// Changes with every change of state, so that what was scheduled for an earlier state becomes void.
    pub(super) epoch: u64,
}

impl Loaded {
    fn new(load: Load, definition: Definition) -> Self {
        Self {
            load,
            definition,
            active: "inactive",
            sub: "dead",
            job: None,
            main_pid: 0,
            stop_time: Duration::ZERO,
            life: None,
            end: None,
            signalled: 0,
            restarts: 0,
            starts: None,
            epoch: 0,
        }
    }

    pub(super) fn is_down(&self) -> bool {
        matches!(self.active, "inactive" | "failed")
    }
}

/// What a unit does by itself later.
#[derive(Debug, Clone, Copy)]
pub(super) enum Next {
    Started,
    Stopped,
    Died(End),
    Restart,
}

/// The host's lease: whether it is held, and which deadlines count.
#[derive(Debug, Default)]
pub(super) struct Lease {
    pub(super) held: bool,
    /// The number of the deadlines that were set last: earlier ones are void.
    pub(super) deadlines: u64,
}

/// The probes that are commands.
#[derive(Debug, Default)]
pub(super) struct Probes {
    /// The units in which they run, and when they end.
    pub(super) running: BTreeMap<String, Instant>,
    /// How they end, by the probed unit and the program.
    pub(super) ends: BTreeMap<(UnitName, String), ProbeEnd>,
    /// Whether the runs passed that a test hasn't asked for yet, by the probed unit.
    pub(super) results: BTreeMap<UnitName, Vec<bool>>,
}

pub(super) struct Host {
    pub(super) options: Options,
    pub(super) me: Weak<Mutex<Host>>,
    born: Instant,
    pub(super) disk: Disk,
    pub(super) disk_full: bool,
    pub(super) units: BTreeMap<UnitName, Loaded>,
    /// What is scheduled to happen, in order of time and then of scheduling.
    pub(super) agenda: BTreeMap<(Instant, u64), (UnitName, u64, Next)>,
    sequence: u64,
    /// Units whose waiting job may be able to run now.
    pub(super) ready: BTreeSet<UnitName>,
    pub(super) activations: BTreeMap<UnitName, u32>,
    pub(super) next_pid: u32,
    pub(super) bus_up: bool,
    pub(super) going_down: bool,
    /// The units that stay up until the power is off.
    pub(super) staying: BTreeSet<UnitName>,
    /// Whether a reboot was asked for.
    pub(super) is_to_reboot: bool,
    pub(super) signals_lost: bool,
    pub(super) refuses_reloads: bool,
    pub(super) busy_until: Instant,
    pub(super) lease: Lease,
    pub(super) probes: Probes,
    ours: BTreeSet<UnitName>,
    /// Requested units that the host has of its own.
    pub(super) refused: BTreeSet<UnitName>,
    events: Option<mpsc::UnboundedSender<Event>>,
    pub(super) log: Vec<LogEntry>,
    pub(super) counters: Counters,
}

impl Host {
    pub(super) fn new(options: Options, me: Weak<Mutex<Host>>) -> Self {
        let now = Instant::now();
        Self {
            options,
            me,
            born: now,
            disk: Disk::default(),
            disk_full: false,
            units: BTreeMap::new(),
            agenda: BTreeMap::new(),
            sequence: 0,
            ready: BTreeSet::new(),
            activations: BTreeMap::new(),
            next_pid: 100,
            bus_up: true,
            going_down: false,
            staying: BTreeSet::new(),
            is_to_reboot: false,
            signals_lost: false,
            refuses_reloads: false,
            busy_until: now,
            lease: Lease::default(),
            probes: Probes::default(),
            ours: BTreeSet::new(),
            refused: BTreeSet::new(),
            events: None,
            log: Vec::new(),
            counters: Counters::default(),
        }
    }

    /// Schedule `next` for `unit` after a delay, unless its state changes before.
    pub(super) fn plan(&mut self, unit: &UnitName, after: Duration, next: Next) {
        let at = Instant::now() + after;
        self.sequence += 1;
        let epoch = self.units.get(unit).map_or(0, |u| u.epoch);
        self.agenda.insert((at, self.sequence), (unit.clone(), epoch, next));
        let me = Weak::clone(&self.me);
        tokio::spawn(async move {
            sleep_until(at).await;
            if let Some(host) = me.upgrade() {
                host.lock().unwrap_or_else(PoisonError::into_inner).pass_time();
            }
        });
    }

    /// The file in which systemd finds a unit now: its own, the host's own unit, or its template's.
    pub(super) fn find(&self, name: &UnitName) -> Option<&String> {
        let linked = |name: &UnitName| self.disk.links.get(name).and_then(|name| self.disk.files.get(name));
        linked(name)
            .or_else(|| self.options.system.get(name))
            .or_else(|| name.template().and_then(|template| linked(&template)))
    }

    /// Why a unit can't be installed: the host has it, or its template, from elsewhere.
    pub(super) fn refusal(&self, name: &UnitName) -> Option<Error> {
        let has = |name: &UnitName| self.options.system.contains_key(name) && !self.disk.links.contains(name);
        let found = [Some(name.clone()), name.template()].into_iter().flatten().find(has)?;
        Some(host_has(name, &Path::new("/usr/lib/systemd/system").join(found.as_str())))
    }

    /// Load a unit and all that it refers to. A unit that is already loaded and was found isn't read again.
    pub(super) fn load(&mut self, name: &UnitName) {
        let mut wanted = vec![name.clone()];
        while let Some(name) = wanted.pop() {
            if self.units.get(&name).is_some_and(|u| u.load != Load::NotFound) {
                continue;
            }
            let (load, definition) = self.read(&name);
            if load == Load::NotFound && self.units.contains_key(&name) {
                continue;
            }
            wanted.extend(definition.references().cloned());
            match self.units.get_mut(&name) {
                Some(unit) => (unit.load, unit.definition) = (load, definition),
                None => {
                    self.units.insert(name, Loaded::new(load, definition));
                }
            }
        }
    }

    fn read(&self, name: &UnitName) -> (Load, Definition) {
        let Some(text) = self.find(name) else { return (Load::NotFound, Definition::default()) };
        match Definition::parse(name, text) {
            Ok(mut definition) => {
                for (unit, targets) in &self.disk.enabled {
                    for (_, requires) in targets.iter().filter(|(target, _)| target == name) {
                        let links = if *requires { &mut definition.requires } else { &mut definition.wants };
                        links.insert(unit.clone());
                    }
                }
                (Load::Loaded, definition)
            }
            Err(load) => (load, Definition { text: text.clone(), ..Definition::default() }),
        }
    }

    /// The load state of a unit, if it is ours.
    fn read_ours(&self, name: &UnitName) -> Load {
        if self.refused.contains(name) { Load::NotFound } else { self.read(name).0 }
    }

    /// `daemon-reload`: read every file again; states and processes stay.
    pub(super) fn read_all_again(&mut self) {
        let names: Vec<_> = self.units.keys().cloned().collect();
        for name in names {
            let (load, definition) = self.read(&name);
            let references: Vec<_> = definition.references().cloned().collect();
            if let Some(unit) = self.units.get_mut(&name) {
                (unit.load, unit.definition) = (load, definition);
            }
            for reference in references {
                self.load(&reference);
            }
        }
    }

    /// systemd's garbage collection: unload every unit that is down, has no job, and isn't referred to by one that
    /// stays.
    pub(super) fn collect(&mut self) {
        let stays = |unit: &Loaded| unit.active != "inactive" || unit.job.is_some();
        let mut kept: BTreeSet<UnitName> = BTreeSet::new();
        let mut wanted: Vec<UnitName> =
            self.units.iter().filter(|(_, u)| stays(u)).map(|(name, _)| name.clone()).collect();
        while let Some(name) = wanted.pop() {
            if let Some(unit) = self.units.get(&name) {
                wanted.extend(unit.definition.references().filter(|r| !kept.contains(*r)).cloned());
            }
            kept.insert(name);
        }
        self.units.retain(|name, _| kept.contains(name));
    }

    /// systemd's answer about a unit that may not be in memory.
    pub(super) fn describe(&self, name: &UnitName) -> UnitState {
        match self.units.get(name).filter(|_| !self.refused.contains(name)) {
            Some(unit) => UnitState {
                load: unit.load.as_str().into(),
                active: unit.active.into(),
                sub: unit.sub.into(),
                job: unit.job.map(|job| job.kind.as_str().into()),
            },
            None => UnitState::stopped(self.read_ours(name).as_str().into()),
        }
    }

    /// What systemd knows of a unit beyond its state. Its activations are numbered, and so are its invocations.
    pub(super) fn details(&self, name: &UnitName) -> Option<Details> {
        let unit = self.units.get(name).filter(|_| !self.refused.contains(name))?;
        Some(Details {
            result: unit.end.map_or("success", End::result).into(),
            exit: unit.end.map(|end| end.exit().into()),
            command: unit.end.and_then(|_| unit.definition.command.clone()),
            restarts: unit.restarts,
            retry_ms: unit.definition.restart.and_then(|(_, delay)| u64::try_from(delay.as_millis()).ok()),
            invocation: self.activations.get(name).map(ToString::to_string).unwrap_or_default(),
            status: String::new(),
        })
    }

    pub(super) fn set_state(&mut self, name: &UnitName, active: &'static str, sub: &'static str) {
        // A number that no epoch had before, including those of an unloaded unit of this name: what was scheduled for
        // that one is void.
        self.sequence += 1;
        if let Some(unit) = self.units.get_mut(name) {
            (unit.active, unit.sub) = (active, sub);
            unit.epoch = self.sequence;
        }
        self.changed(name);
    }

    /// A unit hasn't failed any more, and was never started.
    pub(super) fn reset_failed(&mut self, name: &UnitName) {
        let Some(unit) = self.units.get_mut(name).filter(|_| !self.refused.contains(name)) else { return };
        (unit.starts, unit.end, unit.restarts) = (None, None, 0);
        if unit.active == "failed" {
            self.set_state(name, "inactive", "dead");
        }
    }

    pub(super) fn own(&mut self, name: &UnitName) {
        self.ours.insert(name.clone());
    }

    pub(super) fn disown(&mut self, name: &UnitName) {
        self.ours.remove(name);
    }

    pub(super) fn changed(&mut self, name: &UnitName) {
        if self.is_ours(name) {
            self.tell(Event::Changed(name.clone()));
        }
    }

    pub(super) fn job_done(&mut self, name: &UnitName, result: &str) {
        if self.is_ours(name) {
            self.tell(Event::JobDone { unit: name.clone(), result: result.into() });
        }
    }

    fn is_ours(&self, name: &UnitName) -> bool {
        self.ours.contains(name) || self.disk.files.contains_key(name)
    }

    /// Send an event of any unit. It is lost while the bus is down, as on a real host.
    pub(super) fn tell(&mut self, event: Event) {
        let heard = self.bus_up && !self.signals_lost;
        if heard && self.events.as_ref().is_some_and(|events| events.send(event).is_err()) {
            self.events = None;
        }
    }

    pub(super) fn subscribe(&mut self) -> mpsc::UnboundedReceiver<Event> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.events = Some(sender);
        self.tell(Event::Resync);
        receiver
    }

    pub(super) fn note(&mut self, unit: Option<&UnitName>, what: What) {
        self.log.push(LogEntry { at: self.born.elapsed(), unit: unit.cloned(), what });
    }

    /// Turn the power off and on: processes, memory and `/run` are lost.
    pub(super) fn reboot(&mut self) {
        let running: Vec<_> =
            self.units.iter().filter(|(_, u)| u.main_pid != 0).map(|(name, _)| name.clone()).collect();
        for name in running {
            self.note(Some(&name), What::Killed);
        }
        self.note(None, What::Rebooted);
        self.disk = Disk::default();
        self.units.clear();
        self.agenda.clear();
        self.ready.clear();
        self.ours.clear();
        self.refused.clear();
        self.events = None;
        self.probes.running.clear();
        self.set_deadlines(None);
        self.hold_lease(false);
        self.bus_up = true;
        self.going_down = false;
        self.staying.clear();
        self.is_to_reboot = false;
        self.signals_lost = false;
        self.busy_until = Instant::now();
    }
}
