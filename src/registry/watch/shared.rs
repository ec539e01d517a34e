//! One copy of the cluster for all of a daemon's watchers, so that each change is read and decoded once, regardless of
//! their number. Owns when the copy exists (from the first watcher until some time after the last; as it was last seen,
//! while the store is unreachable), and which units each watcher has yet to examine. Must never cost anything while
//! there are no watchers.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use crate::clock::Clock;
use crate::model::cluster::{Change, Cluster};
use crate::model::name::UnitName;
use crate::model::revision::Revision;
use crate::registry::reader::Reader;
use crate::registry::scope::Scope;
use crate::registry::sight::LastSeen;
use crate::store::{Error, Store};

use super::Touched;
use super::cluster::{Changes, Update};

/// The shared copy. Cheap to clone; clones share it.
#[derive(Debug, Clone)]
pub struct Shared<S> {
    reader: Reader<S>,
    linger: Duration,
    clock: Clock,
    picture: Arc<Mutex<Option<Arc<Picture>>>>,
    /// What the last copy showed when its watch of the store broke; kept until the store answers again.
    last: Arc<Mutex<Option<LastSeen>>>,
}

impl<S: Store> Shared<S> {
    /// A shared copy of what `reader` reads, kept for `linger` after its last watcher, since another may follow soon.
    #[must_use]
    pub fn new(reader: Reader<S>, linger: Duration, clock: Clock) -> Self {
        Self { reader, linger, clock, picture: Arc::default(), last: Arc::default() }
    }

    /// The cluster as the last copy showed it, if its watch broke because the store can't be reached. Files are not
    /// part of it.
    #[must_use]
    pub fn last_seen(&self) -> Option<LastSeen> {
        lock(&self.last).clone()
    }

    pub(super) fn reader(&self) -> &Reader<S> {
        &self.reader
    }

    /// A commit with the store's revision `revision` was made: new watchers will see it at once.
    pub fn committed(&self, revision: Revision) {
        if let Some(picture) = &*lock(&self.picture) {
            let mut state = lock(&picture.state);
            state.committed = state.committed.max(revision);
        }
    }

    /// Watch the units of `scope`. An existing copy doesn't prove that the store is reachable, nor that it is still the
    /// same one: a restored backup may never have had the copy's revision.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Refused`].
    pub(super) async fn watch(&self, scope: Scope) -> Result<Watcher, Error> {
        let current = lock(&self.picture).clone();
        if let Some(picture) = current.filter(|picture| lock(&picture.state).end.is_none()) {
            let seen = lock(&picture.state).cluster.revision;
            let (now, _) = self.reader.points(&BTreeSet::new()).await?;
            if now < seen {
                lock(&picture.state).end(Error::Unavailable("the store is older than it was".into()));
            }
        }
        Ok(self.join(scope))
    }

    fn join(&self, scope: Scope) -> Watcher {
        let mut current = lock(&self.picture);
        if let Some(picture) = &*current
            && lock(&picture.state).end.is_none()
        {
            return Watcher::of(picture, scope);
        }
        let picture = Arc::new(Picture::default());
        let watcher = Watcher::of(&picture, scope);
        tokio::spawn(self.clone().keep(Arc::clone(&picture)));
        *current = Some(picture);
        watcher
    }

    /// Keep the copy up to date until that fails, or until there has been no watcher for `linger`.
    async fn keep(self, picture: Arc<Picture>) {
        let mut changes = Changes::new(self.reader.clone());
        let mut abandoned = pin!(abandoned(picture.watchers.subscribe(), self.linger));
        let error = loop {
            // Cancel-safe as far as necessary: a list is abandoned only together with the copy.
            tokio::select! {
                update = changes.next() => match update {
                    Ok(update) => lock(&picture.state).take(update),
                    Err(error) => break error,
                },
                () = &mut abandoned => {
                    return lock(&picture.state).end(Error::Unavailable("nobody watched".into()));
                }
            }
        };
        let is_away = matches!(error, Error::Unavailable(_));
        let seen = {
            let mut state = lock(&picture.state);
            let seen = (is_away && state.known && state.end.is_none()).then(|| Arc::clone(&state.cluster));
            state.end(error);
            seen
        };
        drop(picture);
        if let Some(cluster) = seen {
            self.keep_last(cluster).await;
        }
    }

    /// Keep `cluster` as what was seen last, until the store answers again.
    async fn keep_last(self, cluster: Arc<Cluster>) {
        *lock(&self.last) = Some(LastSeen { cluster: Arc::clone(&cluster), at: self.clock.now_ms() });
        loop {
            sleep(self.linger).await;
            let answers = self.reader.points(&BTreeSet::new()).await.is_ok();
            let mut last = lock(&self.last);
            let is_last = last.as_ref().is_some_and(|last| Arc::ptr_eq(&last.cluster, &cluster));
            if is_last && answers {
                *last = None;
            }
            if answers || !is_last {
                return;
            }
        }
    }
}

async fn abandoned(mut watchers: watch::Receiver<usize>, linger: Duration) {
    while watchers.wait_for(|number| *number == 0).await.is_ok() {
        if timeout(linger, watchers.wait_for(|number| *number > 0)).await.is_err() {
            return;
        }
    }
}

#[derive(Debug, Default)]
struct Picture {
    state: Mutex<PictureState>,
    /// The number of watchers.
    watchers: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct PictureState {
    /// Copied for a change only while somebody else has it.
    cluster: Arc<Cluster>,
    /// Whether the cluster has been read.
    known: bool,
    /// Why it is no longer kept up to date.
    end: Option<Error>,
    /// The last commit that this daemon has made since the copy was created.
    committed: Revision,
    watchers: BTreeMap<u64, Watching>,
    /// The most recent watcher.
    last: u64,
}

#[derive(Debug)]
struct Watching {
    scope: Scope,
    /// The first copy that it sees is at least this new.
    from: Revision,
    /// What it has yet to examine.
    pending: Option<Touched>,
    wakeup: Arc<Notify>,
}

impl PictureState {
    fn take(&mut self, update: Update) {
        if self.end.is_some() {
            return;
        }
        match update {
            Update::Picture(cluster) => {
                (self.cluster, self.known) = (Arc::from(cluster), true);
                self.watchers.values_mut().for_each(|watching| watching.pending = Some(Touched::All));
            }
            Update::Changes(revision, changes) => {
                Arc::make_mut(&mut self.cluster).revision = revision;
                for change in changes {
                    self.touch(&change);
                    Arc::make_mut(&mut self.cluster).apply(change);
                }
            }
        }
        self.watchers.values().filter(|watching| watching.pending.is_some()).for_each(|one| one.wakeup.notify_one());
    }

    fn touch(&mut self, change: &Change) {
        match change {
            Change::Unit(name, _)
            | Change::Gate(name, _)
            | Change::Placement(name, _)
            | Change::Assignment(_, name, _)
            | Change::Report(name, ..) => self.watchers.values_mut().for_each(|watching| watching.touch(name)),
            // It says why the units behind its gates don't get their files.
            Change::Rollout(rollout, _) => {
                self.watchers.values_mut().for_each(|watching| watching.touch(rollout));
                let gates = self.cluster.gates.iter().filter(|(_, gate)| gate.value.rollout == *rollout);
                for name in gates.map(|(name, _)| name) {
                    self.watchers.values_mut().for_each(|watching| watching.touch(name));
                }
            }
            // A host's name and address are shown with each of its units. Hosts are rarely added or removed.
            Change::Machine(id, _) => {
                let placements = self.cluster.placements.iter();
                let placed = placements.filter_map(|(name, p)| (p.value.host() == Some(id)).then_some(name));
                let reported =
                    self.cluster.states.iter().filter_map(|(name, states)| states.contains_key(id).then_some(name));
                for name in placed.chain(reported) {
                    self.watchers.values_mut().for_each(|watching| watching.touch(name));
                }
            }
            Change::File(..) | Change::History(..) | Change::Roster(..) => {}
            Change::Metadata(..) | Change::Maintenance(..) | Change::Settings(..) => {}
        }
    }

    /// What watcher `id` has yet to examine, if the copy is recent enough. Changes before the end are delivered first.
    fn pending(&mut self, id: u64) -> Result<Option<Touched>, Error> {
        let new_enough = |watching: &&mut Watching| self.known && self.cluster.revision >= watching.from;
        let pending = self.watchers.get_mut(&id).filter(new_enough).and_then(|watching| watching.pending.take());
        match (&self.end, pending) {
            (Some(error), None) => Err(error.clone()),
            (_, pending) => Ok(pending),
        }
    }

    fn end(&mut self, error: Error) {
        self.end = Some(error);
        self.watchers.values().for_each(|watching| watching.wakeup.notify_one());
        self.forget();
    }

    /// Drop a copy that no watcher can look at any more.
    fn forget(&mut self) {
        if self.end.is_some() && self.watchers.is_empty() {
            self.cluster = Arc::default();
        }
    }
}

impl Watching {
    fn touch(&mut self, name: &UnitName) {
        match &mut self.pending {
            Some(Touched::All) => {}
            _ if !self.scope.has(name) => {}
            Some(Touched::Units(names)) => drop(names.insert(name.clone())),
            None => self.pending = Some(Touched::Units(BTreeSet::from([name.clone()]))),
        }
    }
}

/// A watcher of some units of the shared copy.
#[derive(Debug)]
pub(super) struct Watcher {
    picture: Arc<Picture>,
    id: u64,
    wakeup: Arc<Notify>,
}

impl Watcher {
    fn of(picture: &Arc<Picture>, scope: Scope) -> Self {
        let (picture, wakeup) = (Arc::clone(picture), Arc::new(Notify::new()));
        let mut state = lock(&picture.state);
        state.last += 1;
        let (id, from) = (state.last, state.committed);
        let watching = Watching { scope, from, pending: Some(Touched::All), wakeup: Arc::clone(&wakeup) };
        state.watchers.insert(id, watching);
        drop(state);
        picture.watchers.send_modify(|number| *number += 1);
        Self { picture, id, wakeup }
    }

    /// The cluster as it is now, at least as new as the last [`Watcher::next`].
    pub(super) fn read<T>(&self, look: impl FnOnce(&Cluster) -> T) -> T {
        look(&lock(&self.picture.state).cluster)
    }

    /// Which units of the scope to examine again. Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<Touched, Error> {
        loop {
            if let Some(touched) = lock(&self.picture.state).pending(self.id)? {
                return Ok(touched);
            }
            self.wakeup.notified().await;
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let mut state = lock(&self.picture.state);
        state.watchers.remove(&self.id);
        state.forget();
        drop(state);
        self.picture.watchers.send_modify(|number| *number -= 1);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::slow::Slow;
    use crate::store::embedded::Embedded;
    use crate::store::{Op, Txn};

    const LINGER: Duration = Duration::from_secs(60);

    async fn put(store: &Embedded, name: &str) -> Revision {
        let value = br#"{"desired":"loaded","hash":"0","generation":1,"submitted":1}"#.to_vec();
        let op = Op::Put { key: format!("unit/{name}"), value, lease: None };
        store.commit(Txn { guards: vec![], ops: vec![op] }).await.unwrap()
    }

    fn scope(glob: &str) -> Scope {
        Scope::of(vec![glob.parse().unwrap()])
    }

    fn units(names: &[&str]) -> Touched {
        Touched::Units(names.iter().map(|name| name.parse().unwrap()).collect())
    }

    /// Each page takes a second.
    #[tokio::test(start_paused = true)]
    async fn a_picture_that_is_waited_for_impatiently_is_read_once() {
        let shared = Shared::new(Reader::new(Slow(Embedded::in_memory())), LINGER, Clock::simulated(0));
        let mut watcher = shared.watch(Scope::All).await.unwrap();
        let mut waited = 0;
        while timeout(Duration::from_millis(700), watcher.next()).await.is_err() {
            waited += 1;
            assert!(waited < 10, "it begins again each time");
        }
        assert!(waited > 0);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_kept_for_a_while_after_the_last_watcher_and_no_longer() {
        let store = Embedded::in_memory();
        put(&store, "a.service").await;
        let shared = Shared::new(Reader::new(store.clone()), LINGER, Clock::simulated(0));
        assert!(shared.picture.lock().unwrap().is_none(), "nobody has watched yet");
        let picture = || Arc::clone(shared.picture.lock().unwrap().as_ref().unwrap());
        let kept = |picture: &Picture| !picture.state.lock().unwrap().cluster.units.is_empty();
        let [mut one, mut two] = [shared.watch(Scope::All).await.unwrap(), shared.watch(Scope::All).await.unwrap()];
        assert_eq!((one.next().await, two.next().await), (Ok(Touched::All), Ok(Touched::All)));
        let first = picture();
        drop(one);
        tokio::time::sleep(2 * LINGER).await;
        drop(two);
        tokio::time::sleep(LINGER - Duration::from_secs(1)).await;
        // One who comes in time finds it, and makes it live on.
        let late = shared.watch(Scope::All).await.unwrap();
        assert!(Arc::ptr_eq(&first, &picture()));
        tokio::time::sleep(2 * LINGER).await;
        assert!(kept(&first));
        drop(late);
        // What happens meanwhile doesn't count.
        tokio::time::sleep(LINGER / 2).await;
        put(&store, "b.service").await;
        tokio::time::sleep(LINGER / 2 + Duration::from_secs(1)).await;
        assert!(!kept(&first));
        let mut next = shared.watch(Scope::All).await.unwrap();
        assert_eq!(next.next().await, Ok(Touched::All));
        assert!(!Arc::ptr_eq(&first, &picture()));
        assert_eq!(next.read(|cluster| cluster.units.len()), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_watcher_is_woken_for_its_units_only_and_hears_of_each_once() {
        let store = Embedded::in_memory();
        let shared = Shared::new(Reader::new(store.clone()), LINGER, Clock::simulated(0));
        let [mut a, mut b] = [shared.watch(scope("a*")).await.unwrap(), shared.watch(scope("b*")).await.unwrap()];
        assert_eq!((a.next().await, b.next().await), (Ok(Touched::All), Ok(Touched::All)));
        for name in ["a1.service", "a2.service", "a1.service", "b.service"] {
            put(&store, name).await;
        }
        assert_eq!(b.next().await, Ok(units(&["b.service"])), "all before it has been taken in as well");
        assert_eq!(a.next().await, Ok(units(&["a1.service", "a2.service"])));
        let quiet = Duration::from_secs(1);
        put(&store, "b.service").await;
        assert!(timeout(quiet, a.next()).await.is_err());
        assert_eq!(b.next().await, Ok(units(&["b.service"])));
    }

    /// A watch may be behind what this daemon has committed and answered.
    #[tokio::test(start_paused = true)]
    async fn the_first_look_is_at_what_was_committed_before() {
        let store = Embedded::in_memory();
        let shared = Shared::new(Reader::new(store.clone()), LINGER, Clock::simulated(0));
        let mut first = shared.watch(Scope::All).await.unwrap();
        assert_eq!(first.next().await, Ok(Touched::All));
        let revision = put(&store, "a.service").await;
        shared.committed(revision);
        let mut late = shared.join(Scope::All);
        // On one thread nothing of the watch has been read yet.
        assert_eq!(late.read(|cluster| cluster.units.len()), 0);
        assert_eq!(late.next().await, Ok(Touched::All));
        assert_eq!(late.read(|cluster| cluster.units.len()), 1);
    }
    #[tokio::test(start_paused = true)]
    async fn a_store_that_is_older_than_the_picture_makes_another() {
        let [before, backup] = [Embedded::in_memory(), Embedded::in_memory()];
        put(&before, "a.service").await;
        let shared = Shared::new(Reader::new(before), LINGER, Clock::simulated(0));
        let mut first = shared.watch(Scope::All).await.unwrap();
        assert_eq!(first.next().await, Ok(Touched::All));
        // The same daemon, after the store's data were replaced.
        let restored = Shared { reader: Reader::new(backup), ..shared.clone() };
        let mut late = restored.watch(Scope::All).await.unwrap();
        assert!(matches!(first.next().await, Err(Error::Unavailable(_))));
        assert_eq!(late.next().await, Ok(Touched::All));
        assert!(late.read(|cluster| cluster.units.is_empty()));
    }
}
