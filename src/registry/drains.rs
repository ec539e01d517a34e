//! What becomes of the units that are to leave their hosts, because of a drain, of the end of one, or of a person, as
//! the leader would decide it now; which ones a person may want on other hosts; and what else is asked of the cluster
//! as it is scheduled. Owns what is read for it; decides nothing itself (`plan::drain`, `plan::rebalance`,
//! `plan::account`, `plan::whatif`).

use crate::clock::Clock;
use crate::model::cluster::{Change, Cluster};
use crate::model::glob::Glob;
use crate::plan::drain::{Found, Timers, look};
use crate::plan::gate;
use crate::plan::rebalance::{Rebalance, rebalance};
use crate::plan::schedule::{Brake, Scheduler};
use crate::store::{Error, Store};

use super::apply::{Trial, Why, present, trial};
use super::reader::Reader;
use super::units::Intent;

/// What becomes of them at the time of `clock`, with the cluster in which that is so; `None` unless `is_asked` in it.
/// Reads the whole cluster, and computes beside the runtime's thread.
///
/// # Errors
/// [`Error::Unavailable`], [`Error::Refused`].
pub async fn looked<S: Store, T: Send + 'static>(
    reader: &Reader<S>,
    clock: Clock,
    is_asked: impl FnOnce(&Cluster) -> bool,
    of: impl FnOnce(&Cluster, Found) -> T + Send + 'static,
) -> Result<Option<T>, Error> {
    let cluster = present(reader).await?;
    if !is_asked(&cluster) {
        return Ok(None);
    }
    let now = clock.now_ms();
    let work = move |scheduler: &mut Scheduler| {
        let found = look(scheduler, &Timers::default(), now);
        of(scheduler.cluster(), found)
    };
    computed(cluster, clock, Brake::off(), work).await.map(Some)
}

/// Which units would be better on other hosts, of those that match one of `only`, and of that the first `limit` moves.
/// The search ends early if it `is_enough`.
///
/// # Errors
/// [`Error::Unavailable`], [`Error::Refused`].
pub async fn better<S: Store, T: Send + 'static>(
    reader: &Reader<S>,
    clock: Clock,
    only: Vec<Glob>,
    limit: usize,
    is_enough: impl Fn() -> bool + Send + 'static,
    of: impl FnOnce(&Cluster, Rebalance) -> T + Send + 'static,
) -> Result<T, Error> {
    let cluster = present(reader).await?;
    let work = move |scheduler: &mut Scheduler| of(scheduler.cluster(), rebalance(scheduler, &only, limit, &is_enough));
    computed(cluster, clock, Brake::off(), work).await
}

/// What `work` finds in the cluster as it is scheduled now, by a leader with this brake on mass loss. Reads the whole
/// cluster, and computes beside the runtime's thread.
///
/// # Errors
/// [`Error::Unavailable`], [`Error::Refused`].
pub async fn scheduled<S: Store, T: Send + 'static>(
    reader: &Reader<S>,
    clock: Clock,
    brake: Brake,
    work: impl FnOnce(&mut Scheduler) -> T + Send + 'static,
) -> Result<T, Error> {
    computed(present(reader).await?, clock, brake, work).await
}

/// The same, with what `intents`, which name a unit at most once, would change in it. Nothing is changed.
///
/// # Errors
/// As [`trial`].
pub async fn supposed<S: Store, T: Send + 'static>(
    reader: &Reader<S>,
    clock: Clock,
    brake: Brake,
    intents: &[Intent],
    work: impl FnOnce(&mut Scheduler, Vec<Change>) -> T + Send + 'static,
) -> Result<T, Why> {
    let Trial { changes, mut cluster, unreadable, .. } = trial(reader, intents, clock.now_ms()).await?;
    unreadable.iter().for_each(|name| cluster.preserve(name));
    cluster.placements.retain(|name, _| !unreadable.contains(name) || cluster.units.contains_key(name));
    let work = move |scheduler: &mut Scheduler| work(scheduler, changes);
    computed(cluster, clock, brake, work).await.map_err(Why::Store)
}

/// Look at a cluster as it is scheduled, beside the runtime's thread; on it in a simulation, which can be replayed only
/// if no other thread takes part.
async fn computed<T: Send + 'static>(
    mut cluster: Cluster,
    clock: Clock,
    brake: Brake,
    work: impl FnOnce(&mut Scheduler) -> T + Send + 'static,
) -> Result<T, Error> {
    let work = move || {
        gate::apply(&mut cluster);
        work(&mut Scheduler::new(cluster).with_brake(brake))
    };
    if clock.simulated_computing().is_some() {
        return Ok(work());
    }
    // It fails only if the runtime ends.
    let found = tokio::task::spawn_blocking(work).await;
    found.map_err(|error| Error::Refused(format!("the look failed: {error}")))
}
