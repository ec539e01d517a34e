//! What every host was told, and how much of it each daemon can know. Owns the history of all assignments, by revision,
//! and the revisions that have reached each daemon: so a request is judged by what its sender knew, not by the clock.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use flotilla::model::name::{MachineId, UnitName};
use flotilla::model::revision::Revision;
use flotilla::model::unit::Assignment;

/// Who reads the store in a daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reader {
    /// The agent reads the assignments of its host.
    Agent,
    /// The engine reads everything.
    Engine,
}

/// What was written for one unit of one host, oldest first; `None` where its assignment was deleted.
type Writes = Vec<(Revision, Option<Assignment>)>;

/// All assignments and all that was heard of them.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// What was written for each host's unit, oldest first.
    history: BTreeMap<(MachineId, UnitName), Writes>,
    /// Units whose last assignment was deleted while their host wasn't registered.
    cleared: BTreeSet<(MachineId, UnitName)>,
    /// The revisions that reached each host's daemon, oldest first.
    heard: BTreeMap<(usize, Reader), Vec<(Duration, Revision)>>,
    /// How long a reader may still act on what it knew before the newest that has reached it, because of its way to the
    /// store and because of its calls of systemd.
    way: Duration,
    calls: Duration,
}

impl Told {
    /// Allow readers this much time, or more if they were allowed more before.
    pub(crate) fn allow(&mut self, lag: Duration) {
        self.way = self.way.max(lag);
    }

    /// The same for the calls of systemd that it makes meanwhile.
    pub(crate) fn allow_calls(&mut self, lag: Duration) {
        self.calls = self.calls.max(lag);
    }

    pub(crate) fn lag(&self) -> Duration {
        self.way + self.calls
    }

    pub(crate) fn written(
        &mut self,
        host: &MachineId,
        unit: &UnitName,
        revision: Revision,
        now: Option<Assignment>,
        registered: bool,
    ) {
        let key = (host.clone(), unit.clone());
        if now.is_none() && !registered {
            self.cleared.insert(key.clone());
        } else {
            self.cleared.remove(&key);
        }
        self.history.entry(key).or_default().push((revision, now));
    }

    /// Whether the unit has no assignment because its host was taken for dead, not because it should leave.
    pub(crate) fn was_cleared(&self, host: &MachineId, unit: &UnitName) -> bool {
        self.cleared.contains(&(host.clone(), unit.clone()))
    }

    /// The store's answer has reached a daemon, or a watched change has.
    pub(crate) fn heard(&mut self, host: usize, reader: Reader, revision: Revision, now: Duration) {
        self.heard.entry((host, reader)).or_default().push((now, revision));
    }

    /// A new daemon knows nothing.
    pub(crate) fn daemon_starts(&mut self, host: usize) {
        self.heard.retain(|(of, _), _| *of != host);
    }

    /// The oldest and the newest revision that a daemon may act on now; `None` when it has read nothing yet.
    pub(crate) fn known(&self, host: usize, reader: Reader, now: Duration) -> Option<(Revision, Revision)> {
        let heard = self.heard.get(&(host, reader))?;
        let newest = heard.last()?.1;
        let before = heard.iter().rev().find(|(at, _)| *at + self.lag() < now).or(heard.first());
        before.map(|(_, oldest)| ((*oldest).min(newest), newest))
    }

    /// All that an agent may take for its assignment of `unit`; `None` among them is that it has none. Empty when it
    /// knows nothing yet.
    pub(crate) fn assignments(
        &self,
        host: usize,
        id: &MachineId,
        unit: &UnitName,
        now: Duration,
    ) -> Vec<Option<&Assignment>> {
        let Some((oldest, newest)) = self.known(host, Reader::Agent, now) else { return Vec::new() };
        let history = self.history.get(&(id.clone(), unit.clone())).map_or(&[][..], Vec::as_slice);
        let begin = history.iter().rev().find(|(revision, _)| *revision <= oldest);
        let rest = history.iter().filter(|(revision, _)| (oldest.next()..=newest).contains(revision));
        let mut all = vec![begin.and_then(|(_, assignment)| assignment.as_ref())];
        all.extend(rest.map(|(_, assignment)| assignment.as_ref()));
        all
    }
}
