//! The wording of the agent's log lines about units.

use crate::plan::host::{BACK_OFF, Log};

/// Write one line.
pub(super) fn write(log: Log) {
    match log {
        Log::Installed(unit) => tracing::debug!(%unit, "installed"),
        Log::Stopping(unit) => tracing::info!(%unit, "stopping"),
        Log::Starting(unit) => tracing::info!(%unit, "starting"),
        Log::CantStart(unit, error) => tracing::warn!(%unit, %error, "can't be started"),
        Log::Removed(unit) => tracing::info!(%unit, "removed"),
        Log::BacksOff(unit, error) => {
            tracing::warn!(%unit, %error, "could not be carried out; retrying every {} s", BACK_OFF.as_secs());
        }
        Log::TextLost(unit) => {
            tracing::warn!(%unit, "its text isn't in the store; installed with the one that differs in comments only");
        }
        Log::CantUnload(error) => {
            let seconds = BACK_OFF.as_secs();
            tracing::warn!(%error, "systemd can't unload removed units; retrying in {seconds} s");
        }
        Log::Foreign(units) => {
            let units = units.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            tracing::warn!(
                units,
                "there are unit files that this cluster didn't write (CoreOS fleet's?): they are left alone, and what \
                 runs is taken over as it runs once the cluster puts a unit of that name here"
            );
        }
        Log::StoreRolledBack { seen, now } => tracing::error!(
            %seen,
            %now,
            "the store has lost data: it was restored from a backup or replaced; units that it no longer has keep \
             running here. Restore a backup, or submit them again, or stop them with systemctl"
        ),
        Log::LeaseEnds => tracing::debug!("no job is requested so late in the lease"),
        Log::Deferred(unit) => tracing::debug!(%unit, "waits until units that it needs have stopped"),
        Log::Returns(unit) => tracing::debug!(%unit, "returns with a unit that it needs"),
        Log::KnownFromReport(unit) => tracing::debug!(%unit, "its report is more recent than what was saved here"),
        Log::LeaseLapsed(units) => {
            let units = units.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            tracing::warn!(
                units,
                "the lease of this host was not renewed in time, and systemd has stopped the units with \
                 OnDisconnect=stop; they are started again here, unless they run elsewhere by then"
            );
        }
        Log::AwaitsLeader(units) => {
            let units = units.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            tracing::info!(units, "keep running without an assignment until the leader has decided about them");
        }
    }
}
