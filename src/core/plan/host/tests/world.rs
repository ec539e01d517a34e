//! A host made of values: files, processes and jobs in maps, driven only by [`HostState`], and the part of the store
//! that the host sees. Owns two invariants: a unit that runs as assigned is never stopped, and no unit is started with
//! a file that was replaced.

use std::collections::{BTreeMap, BTreeSet};

use super::super::*;
use crate::model::body::is_same_to_systemd;
use crate::model::file::UnitFile;
use crate::model::systemd::{ActiveState, JobKind, JobResult, LoadState};
use crate::model::unit::Target;

pub(super) const ID: &str = "3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a";
pub(super) const TTL: Duration = Duration::from_secs(30);
pub(super) const PLAIN: &str = "[Service]\nExecStart=/bin/a\n";
pub(super) const OTHER: &str = "[Service]\nExecStart=/bin/b\n";
pub(super) const NEEDY: &str = "[Unit]\nRequires=base.service\n[Service]\nExecStart=/bin/needy\n";
pub(super) const GLOBAL: &str = "[Service]\nExecStart=/bin/g\n[X-Fleet]\nGlobal=true\n";

pub(super) const STOPS: &str = "[Service]\nExecStart=/bin/s\n[X-Fleet]\nOnDisconnect=stop\n";

pub(super) const ONCE: &str = "[Service]\nType=oneshot\nExecStart=/bin/o\n";
pub(super) const NOTIFIES: &str = "[Service]\nType=notify\nExecStart=/bin/n\n";
pub(super) const RESTARTS: &str = "[Service]\nExecStart=/bin/r\nRestart=always\n";

pub(super) fn unit(name: &str) -> UnitName {
    name.parse().unwrap()
}

pub(super) fn hash(text: &str) -> UnitHash {
    UnitFile::parse(text.as_bytes()).unwrap().hash()
}

pub(super) fn assignment(text: &str, target: Target, generation: u64) -> Assignment {
    Assignment::new(hash(text), target, Revision(generation))
}

/// What a process was started for: its file, and the restart requested at that time.
pub(super) type Reason = (UnitHash, Option<Revision>);

/// A host, its daemon's state machine, and the part of the store that the host sees.
pub(super) struct World {
    pub(super) state: HostState,
    pub(super) now: Duration,
    pub(super) disk: BTreeMap<UnitName, String>,
    pub(super) running: BTreeMap<UnitName, Reason>,
    /// The files of the units that systemd has in memory.
    pub(super) memory: BTreeMap<UnitName, UnitHash>,
    /// Units whose stop job is queued.
    pub(super) stopping: BTreeSet<UnitName>,
    pub(super) saved: (Option<BTreeMap<UnitName, Executed>>, StoreHistory, Option<BTreeSet<UnitName>>),
    /// Units whose start job waits.
    pub(super) starting: BTreeSet<UnitName>,
    /// Units that are neither up nor simply stopped, and their states.
    pub(super) troubled: BTreeMap<UnitName, (ActiveState, &'static str)>,
    pub(super) details: BTreeMap<UnitName, Details>,
    /// The units that are probed, and how.
    pub(super) probed: BTreeMap<UnitName, Probing>,
    /// The last lines of every journal; `None` while they can't be read.
    pub(super) journal: Option<Vec<String>>,
    /// Reports that were written.
    pub(super) written: usize,
    /// Units that a drop-in binds to others.
    pub(super) drop_ins: BTreeMap<UnitName, UnitName>,
    /// Whether systemd holds the host's lease.
    pub(super) held: bool,
    /// Why it can't hold it.
    pub(super) cant_hold: Option<Error>,
    /// Whether no file can be staged.
    pub(super) full: bool,
    /// Units that a person starts just before their files are removed.
    pub(super) raced: BTreeSet<UnitName>,
    /// Whether the boot state can be written.
    pub(super) writable: bool,
    pub(super) assigned: BTreeMap<UnitName, Assignment>,
    pub(super) texts: BTreeMap<UnitHash, String>,
    pub(super) reports: BTreeMap<UnitName, UnitReport>,
    pub(super) leader: Option<Revision>,
    /// Whether the cluster's record of this host says that it is registered.
    pub(super) seen: bool,
    pub(super) wanted: BTreeMap<UnitName, UnitHash>,
    /// The actions of the last pass, without questions.
    pub(super) done: Vec<String>,
    pub(super) revision: u64,
    pub(super) cluster: u64,
}

impl World {
    pub(super) fn new() -> Self {
        let texts =
            [PLAIN, OTHER, NEEDY, GLOBAL, RESTARTS, NOTIFIES, ONCE, STOPS].map(|text| (hash(text), text.to_owned()));
        let mut world = Self {
            state: HostState::new(ID.parse().unwrap(), TTL),
            now: Duration::ZERO,
            disk: BTreeMap::new(),
            running: BTreeMap::new(),
            memory: BTreeMap::new(),
            stopping: BTreeSet::new(),
            starting: BTreeSet::new(),
            saved: Default::default(),
            troubled: BTreeMap::new(),
            details: BTreeMap::new(),
            probed: BTreeMap::new(),
            journal: Some(Vec::new()),
            written: 0,
            drop_ins: BTreeMap::new(),
            held: false,
            cant_hold: None,
            full: false,
            raced: BTreeSet::new(),
            writable: true,
            assigned: BTreeMap::new(),
            texts: texts.into(),
            reports: BTreeMap::new(),
            leader: Some(Revision(3)),
            seen: true,
            wanted: BTreeMap::new(),
            done: Vec::new(),
            revision: 100,
            cluster: 7,
        };
        world.begin();
        world
    }

    /// A daemon starts in this boot.
    pub(super) fn begin(&mut self) {
        self.state = HostState::new(ID.parse().unwrap(), TTL);
        self.probed.clear();
        self.input(Input::History(self.saved.1.clone()));
        self.input(Input::Registered);
        self.list();
    }

    pub(super) fn at(&self) -> Now {
        Now { monotonic: self.now, wall_ms: u64::try_from(self.now.as_millis()).unwrap() }
    }

    pub(super) fn input(&mut self, input: Input) {
        let at = self.at();
        self.state.apply(input, at);
    }

    pub(super) fn list(&mut self) {
        let all = self.assigned.iter().map(|(name, assignment)| (name.clone(), Ok(assignment.clone()))).collect();
        let at = Moment { cluster: self.cluster, revision: Revision(self.revision) };
        self.input(Input::Assignments(Assignments::All(at, all)));
    }

    pub(super) fn assign(&mut self, name: &str, assignment: Assignment) {
        self.revision += 1;
        self.assigned.insert(unit(name), assignment.clone());
        let changes = vec![(unit(name), Some(Ok(assignment)))];
        self.input(Input::Assignments(Assignments::Changed(Revision(self.revision), changes)));
    }

    pub(super) fn unassign(&mut self, name: &str) {
        self.revision += 1;
        self.assigned.remove(&unit(name));
        self.input(Input::Assignments(Assignments::Changed(Revision(self.revision), vec![(unit(name), None)])));
    }

    pub(super) fn describe(&self, name: &UnitName) -> UnitState {
        // systemd answers nothing about templates.
        let found = self.disk.contains_key(name) && !name.is_template();
        let load = if found { LoadState::Loaded } else { LoadState::NotFound };
        let mut state = UnitState::stopped(load);
        if self.running.contains_key(name) {
            (state.active, state.sub) = (ActiveState::Active, "running".into());
        }
        if let Some((active, sub)) = self.troubled.get(name) {
            (state.active, state.sub) = (active.clone(), (*sub).into());
        }
        state.job = self.stopping.contains(name).then_some(JobKind::Stop);
        if self.starting.contains(name) {
            state = UnitState { job: Some(JobKind::Start), ..UnitState::stopped(state.load) };
        }
        state
    }

    /// The units that systemd stops together with this one, because of their files or a drop-in.
    fn stopped_with(&self, name: &UnitName) -> BTreeSet<UnitName> {
        let requires = format!("Requires={name}\n");
        let by_file = self.disk.iter().filter(|(_, text)| text.contains(&requires)).map(|(other, _)| other);
        let by_drop_in = self.drop_ins.iter().filter(|(_, base)| *base == name).map(|(other, _)| other);
        by_file.chain(by_drop_in).cloned().collect()
    }

    /// All stop jobs end, together with the units that require those.
    pub(super) fn jobs_end(&mut self) {
        for name in std::mem::take(&mut self.stopping) {
            self.running.remove(&name);
            self.memory.remove(&name);
            self.input(Input::Event(Event::JobDone { unit: name, result: JobResult::Done }));
        }
    }

    /// systemd lets go of the lease, which stops these units. Nobody listens to its signals.
    pub(super) fn lapse(&mut self, names: &[&str]) {
        self.held = false;
        for name in names {
            self.running.remove(&unit(name));
        }
    }

    /// systemd signals that these units have changed.
    pub(super) fn signal(&mut self, names: &[&str]) {
        for name in names {
            self.input(Input::Event(Event::Changed(unit(name))));
        }
    }

    /// Carry out one action and return its outcome.
    pub(super) fn carry_out(&mut self, action: Action) -> Input {
        let ok = |names: &[UnitName]| names.iter().map(|name| (name.clone(), Ok(()))).collect::<Outcomes>();
        let list = |names: &[UnitName]| names.iter().map(UnitName::as_str).collect::<Vec<_>>().join(" ");
        match action {
            Action::ReadDisk => {
                let (executed, _, foreign) = self.saved.clone();
                Input::Disk(Disk { files: self.disk.clone(), executed, foreign })
            }
            Action::Observe(question) => {
                let seen = question.read.iter().map(|name| (name.clone(), self.describe(name)));
                let up = |name: &&UnitName| self.running.contains_key(*name);
                let held = question.recall.iter().filter(up).map(|name| (name.clone(), self.describe(name)));
                let seen = seen.chain(held).collect();
                Input::Observed(question, seen)
            }
            Action::CheckUnloaded(names) => Input::Unloaded(names, BTreeMap::new()),
            Action::ReadReports(names) => {
                let found = names.iter().filter_map(|name| Some((name.clone(), self.reports.get(name)?.clone())));
                let found = found.collect();
                Input::Reports(names, found)
            }
            Action::ReadBindings(names) => {
                Input::Bindings(names.into_iter().map(|name| (name.clone(), self.stopped_with(&name))).collect())
            }
            Action::CheckLease => Input::LeaseChecked(self.held),
            Action::HoldLease(hold) => {
                self.done.push(if hold { "hold the lease".into() } else { "let go of the lease".into() });
                let outcome = self.cant_hold.clone().map_or(Ok(()), Err);
                self.held = hold && outcome.is_ok();
                Input::LeaseHeld(hold, outcome)
            }
            Action::ReadDecisions(_) => {
                Input::Decisions { leader: self.leader, seen: self.seen, wanted: self.wanted.clone() }
            }
            Action::Fetch(hashes) => {
                let text = |hash: &UnitHash| self.texts.get(hash).cloned().ok_or_else(|| format!("no {hash}"));
                Input::Fetched(hashes.into_iter().map(|hash| (hash.clone(), text(&hash))).collect())
            }
            Action::Stage(files) => {
                let full = || Err(Error::Io("No space left on device".into()));
                let outcome = |(name, _)| (name, if self.full { full() } else { Ok(()) });
                Input::Staged(files.into_iter().map(outcome).collect())
            }
            Action::Install(files) => {
                let names: Vec<UnitName> = files.iter().map(|(name, _)| name.clone()).collect();
                self.done.push(format!("install {}", list(&names)));
                self.disk.extend(files.iter().cloned());
                Input::Installed(files.into_iter().map(|(name, text)| (name, text, Ok(()))).collect())
            }
            Action::Reload => {
                for (name, file) in &mut self.memory {
                    *file = self.disk.get(name).map_or_else(|| file.clone(), |text| hash(text));
                }
                Input::Reloaded(Ok(()))
            }
            Action::Stop(names) => {
                self.done.push(format!("stop {}", list(&names)));
                for name in &names {
                    self.check_stop(name);
                    let too = self.stopped_with(name);
                    self.stopping.extend(too.into_iter().filter(|other| self.running.contains_key(other)));
                    if self.running.contains_key(name) {
                        self.stopping.insert(name.clone());
                    }
                }
                Input::Stopped(ok(&names))
            }
            Action::ResetFailed(names) => {
                self.done.push(format!("reset-failed {}", list(&names)));
                for name in &names {
                    assert_eq!(
                        self.troubled.remove(name).map(|(active, _)| active),
                        Some(ActiveState::Failed),
                        "{name}"
                    );
                }
                Input::FailuresForgotten(ok(&names))
            }
            Action::Start(names) => {
                self.done.push(format!("start {}", list(&names)));
                for name in &names {
                    assert!(self.held || self.disk[name] != STOPS, "{name} is started without the lease");
                    self.stopping.remove(name);
                    self.troubled.remove(name);
                    let restart = self.assigned.get(name).and_then(|assignment| assignment.restart);
                    let file = hash(&self.disk[name]);
                    let loaded = self.memory.entry(name.clone()).or_insert_with(|| file.clone()).clone();
                    assert!(self.is_same(&loaded, &file), "{name} is started with its previous file");
                    let started = self.running.entry(name.clone()).or_insert((file, restart));
                    started.1 = started.1.max(restart);
                }
                Input::Started(ok(&names))
            }
            Action::Remove(names) => {
                self.done.push(format!("remove {}", list(&names)));
                for name in &names {
                    assert!(!self.running.contains_key(name), "{name} is removed while it runs");
                    let file = self.disk.remove(name);
                    self.memory.remove(name);
                    if self.raced.remove(name) {
                        self.running.insert(name.clone(), (hash(&file.unwrap()), None));
                    }
                }
                Input::Removed(ok(&names))
            }
            Action::Inspect(names) => {
                let found = names.iter().filter_map(|name| Some((name.clone(), self.details.get(name)?.clone())));
                let found = found.collect();
                Input::Inspected(names, found)
            }
            Action::ReadJournals(asked) => {
                self.done
                    .push(format!("read {}", list(&asked.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>())));
                for (unit, invocation) in asked {
                    let Some(lines) = self.journal.clone() else { continue };
                    self.input(Input::JournalRead { unit, invocation, lines });
                }
                // The lines come by themselves, if at all.
                Input::Inspected(Vec::new(), BTreeMap::new())
            }
            Action::Probe(asked) => {
                for (name, probing) in asked {
                    match probing {
                        Some(probing) => drop(self.probed.insert(name, probing)),
                        None => drop(self.probed.remove(&name)),
                    }
                }
                // The results come by themselves.
                Input::Probed(BTreeMap::new())
            }
            Action::Save(BootState { executed, history, foreign }) => {
                if self.writable {
                    self.saved.0 = executed.or(self.saved.0.take());
                    self.saved.1 = history.unwrap_or(self.saved.1.clone());
                    self.saved.2 = foreign.or(self.saved.2.take());
                }
                Input::Saved(self.writable)
            }
            Action::Publish(reports) => {
                self.written += reports.len();
                for (name, report) in &reports {
                    match report {
                        Some(report) => drop(self.reports.insert(name.clone(), report.clone())),
                        None => drop(self.reports.remove(name)),
                    }
                }
                Input::Published(reports)
            }
            Action::Wait(_) => unreachable!("a wait is the end of a pass"),
        }
    }

    /// Whether systemd reads the same from two files.
    fn is_same(&self, one: &UnitHash, other: &UnitHash) -> bool {
        let texts = self.texts.get(one).zip(self.texts.get(other));
        one == other || texts.is_some_and(|(one, other)| is_same_to_systemd(one, other))
    }

    /// A unit that runs as assigned must not be stopped.
    pub(super) fn check_stop(&self, name: &UnitName) {
        let Some((assignment, (file, restart))) = self.assigned.get(name).zip(self.running.get(name)) else { return };
        let launched = assignment.target == Target::Launched;
        let unchanged = launched && self.is_same(&assignment.hash, file) && assignment.restart <= *restart;
        assert!(!unchanged, "{name} is stopped, and nobody asked for that");
    }

    /// Begin a pass and answer its questions, up to the first action that changes the host.
    pub(super) fn next_change(&mut self) -> Action {
        self.input(Input::PassBegins);
        loop {
            match self.state.next(self.at(), true) {
                change @ (Action::Install(_) | Action::Stop(_) | Action::Start(_) | Action::Remove(_)) => {
                    return change;
                }
                question => {
                    let outcome = self.carry_out(question);
                    self.input(outcome);
                }
            }
        }
    }

    /// Run one pass to its end; returns when to run again.
    pub(super) fn pass(&mut self) -> Option<Duration> {
        self.pass_while(true)
    }

    pub(super) fn pass_while(&mut self, lease_holds: bool) -> Option<Duration> {
        self.done.clear();
        self.input(Input::PassBegins);
        for _ in 0..1000 {
            match self.state.next(self.at(), lease_holds) {
                Action::Wait(until) => return until,
                action => {
                    let outcome = self.carry_out(action);
                    self.input(outcome);
                }
            }
        }
        panic!("the pass doesn't end: {:?}", self.done);
    }

    /// Run passes and end jobs until nothing is left to do.
    pub(super) fn settle(&mut self) -> Vec<String> {
        let mut done = Vec::new();
        for _ in 0..100 {
            let until = self.pass();
            done.append(&mut self.done);
            if !self.stopping.is_empty() {
                self.jobs_end();
            } else if let Some(until) = until {
                self.now = self.now.max(until);
            } else {
                return done;
            }
        }
        panic!("it doesn't settle: {done:?}");
    }

    pub(super) fn runs(&self) -> Vec<&str> {
        self.running.keys().map(UnitName::as_str).collect()
    }
}
