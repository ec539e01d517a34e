//! What becomes of the units that are to leave their hosts, because of a drain, of the end of one, or of a person, as
//! the leader would decide it now. Owns what is read for it; decides nothing itself (`plan::drain`).

use crate::model::cluster::Cluster;
use crate::plan::drain::{Found, Timers, look};
use crate::plan::gate;
use crate::plan::schedule::Scheduler;
use crate::store::{Error, Store};

use super::apply::present;
use super::reader::Reader;

/// What becomes of them, with the cluster in which that is so; `None` unless `is_asked` in it. Reads the whole cluster,
/// and computes beside the runtime's thread.
///
/// # Errors
/// [`Error::Unavailable`], [`Error::Refused`].
pub async fn looked<S: Store, T: Send + 'static>(
    reader: &Reader<S>,
    now: u64,
    is_asked: impl FnOnce(&Cluster) -> bool,
    of: impl FnOnce(&Cluster, Found) -> T + Send + 'static,
) -> Result<Option<T>, Error> {
    let mut cluster = present(reader).await?;
    if !is_asked(&cluster) {
        return Ok(None);
    }
    let work = move || {
        gate::apply(&mut cluster);
        let scheduler = Scheduler::new(cluster);
        let found = look(&scheduler, &Timers::default(), now);
        of(scheduler.cluster(), found)
    };
    // It fails only if the runtime ends.
    let found = tokio::task::spawn_blocking(work).await;
    found.map(Some).map_err(|error| Error::Refused(format!("the look failed: {error}")))
}
