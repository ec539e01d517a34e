//! Answers for this host's units while the store is away, or before the host is registered: reads the disk and asks
//! systemd, and keeps nothing. Independent of the running agent, which may be waiting for the store.

use std::time::Duration;

use crate::model::machine::Machine;
use crate::plan::host::Now;
use crate::plan::host::local::{HostView, LocalUnits};
use crate::systemd::{Error, Systemd};

use super::boot_state;

/// The units that the cluster has installed on this host, as they are at `wall_ms` (ms since the epoch).
///
/// # Errors
/// The disk can't be read, or systemd doesn't answer.
pub async fn look<H: Systemd>(host: &H, machine: Machine, wall_ms: u64) -> Result<HostView, Error> {
    let mut units = LocalUnits::new(machine, boot_state::disk(host).await?);
    let seen = host.units(units.names()).await?;
    let more = units.observed(seen, Now { monotonic: Duration::ZERO, wall_ms });
    if !more.is_empty() {
        units.inspected(&more, host.details(more.clone()).await?);
    }
    Ok(units.view())
}
