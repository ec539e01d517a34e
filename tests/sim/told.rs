//! The assignments of every host, and which of them each daemon can know. Owns the history of all assignments, by
//! revision, and the revisions that each daemon has received, so that a request is judged by what its sender knew. A
//! store that is restored begins another history, in which revisions are used a second time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use flotilla::model::name::{MachineId, UnitName};
use flotilla::model::revision::Revision;
use flotilla::model::unit::Assignment;

/// A moment of the store's histories: the id of the cluster, which grows with each restore, and the revision.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Point {
    pub(crate) cluster: u64,
    pub(crate) revision: Revision,
}

impl Point {
    pub(crate) fn new(cluster: u64, revision: Revision) -> Self {
        Self { cluster, revision }
    }
}

/// The parts of a daemon that read the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reader {
    /// The agent reads the assignments of its host.
    Agent,
    /// The engine reads everything.
    Engine,
}

/// The assignments of one unit to one host, oldest first; `None` where the assignment was deleted.
type Writes = Vec<(Point, Option<Assignment>)>;

/// All assignments, and what the daemons have received of them.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// The assignments of each unit to each host.
    history: BTreeMap<(MachineId, UnitName), Writes>,
    /// Units whose last assignment was deleted while their host wasn't registered.
    cleared: BTreeSet<(MachineId, UnitName)>,
    /// When each unit was destroyed, oldest first.
    destroyed: BTreeMap<UnitName, Vec<Revision>>,
    /// What each daemon has received, oldest first.
    heard: BTreeMap<(usize, Reader), Vec<(Duration, Point)>>,
    /// Each cluster that was restored: the revision that it had then, and the cluster whose backup it was.
    restored: BTreeMap<u64, (Revision, u64)>,
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
        at: Point,
        now: Option<Assignment>,
        registered: bool,
    ) {
        let now = now.map(|told| Assignment {
            generation: self.numbered(at.cluster, told.generation),
            restart: told.restart.map(|restart| self.numbered(at.cluster, restart)),
            ..told
        });
        let key = (host.clone(), unit.clone());
        if now.is_none() && !registered {
            self.cleared.insert(key.clone());
        } else {
            self.cleared.remove(&key);
        }
        self.history.entry(key).or_default().push((at, now));
    }

    /// The last assignment of a unit that an agent has received, and when it was written, if it may know no other.
    pub(crate) fn only(
        &self,
        host: usize,
        id: &MachineId,
        unit: &UnitName,
        now: Duration,
    ) -> Option<(Point, &Assignment)> {
        let known = self.assignments(host, id, unit, now);
        let newest = self.newest(host, Reader::Agent)?;
        let history = self.history.get(&(id.clone(), unit.clone()))?;
        let (at, last) = history.iter().rev().find(|(at, _)| *at <= newest)?;
        (known.iter().flatten().count() == 1).then_some((*at, last.as_ref()?))
    }

    /// Whether the unit has no assignment because the cluster treated its host as dead, not because it should leave.
    pub(crate) fn was_cleared(&self, host: &MachineId, unit: &UnitName) -> bool {
        self.cleared.contains(&(host.clone(), unit.clone()))
    }

    /// The store was restored from a backup of the cluster `of`: another history begins here.
    pub(crate) fn restored(&mut self, at: Point, of: u64) {
        self.restored.insert(at.cluster, (at.revision, of));
    }

    /// A number that is written while the store is `cluster`, so that those of a later history are higher than all
    /// earlier ones. What the backup contained keeps its number: it was requested at an earlier revision than that of
    /// the backup.
    pub(crate) fn numbered(&self, cluster: u64, number: Revision) -> Revision {
        match self.restored.get(&cluster) {
            Some((restored, _)) if number >= *restored => Revision(number.0.saturating_add(cluster << 40)),
            Some((_, of)) => self.numbered(*of, number),
            None => number,
        }
    }

    /// The last assignment of an earlier generation than this.
    pub(crate) fn before(&self, host: &MachineId, unit: &UnitName, generation: Revision) -> Option<&Assignment> {
        let history = self.history.get(&(host.clone(), unit.clone()))?;
        history.iter().rev().filter_map(|(_, written)| written.as_ref()).find(|earlier| earlier.generation < generation)
    }

    /// Whether the assignment of this generation took the place of another one, which was there until then.
    pub(crate) fn was_replaced(&self, host: &MachineId, unit: &UnitName, generation: Revision) -> bool {
        let history = self.history.get(&(host.clone(), unit.clone())).map(Vec::as_slice).unwrap_or_default();
        let is_it = |written: &Option<Assignment>| written.as_ref().is_some_and(|now| now.generation == generation);
        history.windows(2).rev().find(|pair| is_it(&pair[1].1)).is_some_and(|pair| pair[0].1.is_some())
    }

    /// A unit was destroyed.
    pub(crate) fn destroyed(&mut self, unit: &UnitName, at: Point) {
        let number = self.numbered(at.cluster, at.revision);
        self.destroyed.entry(unit.clone()).or_default().push(number);
    }

    /// When a unit was last destroyed before it got this generation.
    pub(crate) fn destroyed_before(&self, unit: &UnitName, generation: Revision) -> Option<Revision> {
        self.destroyed.get(unit)?.iter().copied().filter(|at| *at <= generation).max()
    }

    /// A daemon has received an answer of the store, or a change from a watch.
    pub(crate) fn heard(&mut self, host: usize, reader: Reader, at: Point, now: Duration) {
        self.heard.entry((host, reader)).or_default().push((now, at));
    }

    /// The newest moment of the store that a daemon has heard of.
    pub(crate) fn newest(&self, host: usize, reader: Reader) -> Option<Point> {
        self.heard.get(&(host, reader))?.iter().map(|(_, at)| *at).max()
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
    pub(crate) fn known(&self, host: usize, reader: Reader, now: Duration) -> Option<(Point, Point)> {
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
        let begin = history.iter().rev().find(|(at, _)| *at <= oldest);
        let rest = history.iter().filter(|(at, _)| *at > oldest && *at <= newest);
        let mut all = vec![begin.and_then(|(_, assignment)| assignment.as_ref())];
        all.extend(rest.map(|(_, assignment)| assignment.as_ref()));
        all
    }
}
