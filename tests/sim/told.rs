//! The assignments of every host, and which of them each daemon can know. Owns the history of all assignments, by
//! revision, and the revisions that each daemon has received, so that a request is judged by what its sender knew.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use flotilla::model::name::{MachineId, UnitName};
use flotilla::model::revision::Revision;
use flotilla::model::unit::Assignment;

/// The parts of a daemon that read the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reader {
    /// The agent reads the assignments of its host.
    Agent,
    /// The engine reads everything.
    Engine,
}

/// The assignments of one unit to one host, oldest first; `None` where the assignment was deleted.
type Writes = Vec<(Revision, Option<Assignment>)>;

/// All assignments, and what the daemons have received of them.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// The assignments of each unit to each host.
    history: BTreeMap<(MachineId, UnitName), Writes>,
    /// Units whose last assignment was deleted while their host wasn't registered.
    cleared: BTreeSet<(MachineId, UnitName)>,
    /// The revisions that each daemon has received, oldest first.
    heard: BTreeMap<(usize, Reader), Vec<(Duration, Revision)>>,
    /// How long a reader may still act on an older revision than the newest that it has received, because of the
    /// latency of the store and of its calls to systemd.
    way: Duration,
    calls: Duration,
    /// The same for an engine, because it computes.
    planning: Duration,
}

impl Told {
    /// Allow readers this much time, or more if they were allowed more before.
    pub(crate) fn allow(&mut self, lag: Duration) {
        self.way = self.way.max(lag);
    }

    /// The same for the calls to systemd that they make meanwhile.
    pub(crate) fn allow_calls(&mut self, lag: Duration) {
        self.calls = self.calls.max(lag);
    }

    /// The same for the computations of an engine.
    pub(crate) fn allow_planning(&mut self, lag: Duration) {
        self.planning = self.planning.max(lag);
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

    /// Whether the unit has no assignment because the cluster treated its host as dead, not because it should leave.
    pub(crate) fn was_cleared(&self, host: &MachineId, unit: &UnitName) -> bool {
        self.cleared.contains(&(host.clone(), unit.clone()))
    }

    /// A daemon has received an answer of the store, or a change from a watch.
    pub(crate) fn heard(&mut self, host: usize, reader: Reader, revision: Revision, now: Duration) {
        self.heard.entry((host, reader)).or_default().push((now, revision));
    }

    /// A daemon that was suspended continues: what it had received and may not have processed counts from now.
    pub(crate) fn continues(&mut self, host: usize, suspended: Duration, now: Duration) {
        let lag = self.lag();
        let heard = self.heard.iter_mut().filter(|((of, _), _)| *of == host).flat_map(|(_, heard)| heard);
        heard.filter(|(at, _)| *at + lag >= suspended).for_each(|(at, _)| *at = now);
    }

    /// A daemon starts; it has read nothing yet.
    pub(crate) fn daemon_starts(&mut self, host: usize) {
        self.heard.retain(|(of, _), _| *of != host);
    }

    /// The oldest and the newest revision that a daemon may act on now; `None` when it has read nothing yet.
    pub(crate) fn known(&self, host: usize, reader: Reader, now: Duration) -> Option<(Revision, Revision)> {
        let heard = self.heard.get(&(host, reader))?;
        let newest = heard.last()?.1;
        let lag = self.lag() + if reader == Reader::Engine { self.planning } else { Duration::ZERO };
        let before = heard.iter().rev().find(|(at, _)| *at + lag < now).or(heard.first());
        before.map(|(_, oldest)| ((*oldest).min(newest), newest))
    }

    /// The assignments of `unit` that an agent may know as the current one, with `None` for no assignment. Empty if it
    /// has read nothing yet.
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
