//! What becomes of the units on a host that is drained, or of those that come back to it, as the leader would decide it
//! now. Owns what is read for it; decides nothing itself (`plan::drain`).

use crate::model::cluster::Cluster;
use crate::model::name::MachineId;
use crate::plan::drain::{Timers, Verdicts, look};
use crate::plan::gate;
use crate::plan::schedule::Scheduler;
use crate::store::{Error, Store};

use super::apply::present;
use super::reader::Reader;

/// What becomes of the units on drained hosts, and of those that return to hosts, with the cluster in which that is so.
/// `None` unless `is_asked`, of what is asked of `host`. Reads the whole cluster, and computes beside the runtime's
/// thread.
///
/// # Errors
/// [`Error::Unavailable`], [`Error::Refused`].
pub async fn looked<S: Store, T: Send + 'static>(
    reader: &Reader<S>,
    host: &MachineId,
    now: u64,
    is_asked: impl FnOnce(&Cluster) -> bool,
    of: impl FnOnce(&Cluster, (Verdicts, Verdicts), &MachineId) -> T + Send + 'static,
) -> Result<Option<T>, Error> {
    let mut cluster = present(reader).await?;
    if !is_asked(&cluster) {
        return Ok(None);
    }
    let host = host.clone();
    let work = move || {
        gate::apply(&mut cluster);
        let scheduler = Scheduler::new(cluster);
        let found = look(&scheduler, &Timers::default(), now);
        of(scheduler.cluster(), (found.drained, found.returning), &host)
    };
    // It fails only if the runtime ends.
    let found = tokio::task::spawn_blocking(work).await;
    found.map(Some).map_err(|error| Error::Refused(format!("the look failed: {error}")))
}
