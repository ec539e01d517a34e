//! The journals of units, on whichever hosts they run. Decides whether one host's journalctl answers alone or many
//! journals are merged. Never knows the command line or the terminal: it prints through an [`Output`].
//!
//! ```text
//! one unit on one host ─▶ journalctl's own output, passed on
//! many ─▶ reader (a host's journalctl, again and again) ─┐
//!         reader ─┼─▶ merge (by time) ─▶ render ─▶ stdout
//! fleetd's watch ─▶ places (which unit is where) ─▶ readers come and go
//! ```

mod cluster;
pub mod entry;
mod handover;
mod merge;
mod places;
mod query;
mod reader;
mod readers;
pub mod render;
mod show;
mod tail;

use std::io;

use crate::api::client::{Client, ClientError};
use crate::api::wire::{MachineRef, UnitView};
use crate::remote::{self, Hosts, Stdin, Streams};
pub use places::hosts;
pub use query::{Format, Query};
pub use tail::{Tail, journal_tail};

/// The destination of entries and of messages about hosts.
pub trait Output: Streams {
    /// Print a message about hosts and units.
    fn message(&self, line: &str);

    /// Whether entries may be coloured.
    fn has_colours(&self) -> bool;

    /// Whether the reader of the entries is gone.
    fn is_closed(&self) -> bool;

    /// Wait until the reader of the entries is gone.
    fn closed(&self) -> impl Future<Output = ()>;
}

/// The source of journals.
#[derive(Debug)]
pub struct Source<'a> {
    /// For the hosts of units.
    pub client: &'a Client,
    /// Runs journalctl on the hosts.
    pub hosts: &'a Hosts,
}

/// The units whose journals are shown.
#[derive(Debug)]
pub struct Units {
    /// Patterns that match all of them, including units that are submitted later.
    pub patterns: Vec<String>,
    /// Those that exist, sorted by name. No templates, since they never run.
    pub units: Vec<UnitView>,
    /// Whether one unit was named, so that the patterns can't match another one.
    pub one: bool,
}

/// Why journals can't be shown completely.
#[derive(Debug)]
pub enum Error {
    /// fleetd can't be reached, or refuses.
    Api(ClientError),
    /// The only host in question can't be reached.
    Remote(remote::Error),
    /// The connection to a host broke before the end.
    Lost {
        /// The host's name.
        host: String,
        /// The error.
        why: io::Error,
    },
    /// A host's journalctl fails when asked to follow.
    Refused {
        /// Its exit status.
        status: u8,
        /// The host, and journalctl's message.
        line: String,
    },
    /// Signal handlers can't be installed.
    Signal(io::Error),
}

impl Source<'_> {
    /// Show the journals of `units` according to `query`. Returns the exit status, as in shells: 0; 1 if there is
    /// nothing to show; that of the first journalctl that failed; 255 if a host can't be reached.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn show<O: Output>(&self, query: &Query, units: &Units, out: &O) -> Result<u8, Error> {
        // For a time span, journalctl before systemd 254 doesn't find the last lines. They are counted here if the
        // format allows it.
        let counted = query.is_timed() && query.lines.is_some() && !query.format.is_journalctls();
        let placed = |unit: &&UnitView| !hosts(unit).is_empty();
        match units.units.iter().find(placed) {
            // An existing unit that isn't placed may be placed later; a name that doesn't exist is more likely a
            // mistake.
            None if !query.follow || (units.one && units.units.is_empty()) => Ok(1),
            Some(UnitView { name, machine: Some(machine), .. }) if units.one && !query.follow && !counted => {
                self.pass_on(query, name.as_str(), machine, out).await
            }
            _ if query.follow => show::follow(self, query, units, out).await,
            _ => show::list(self, query, units, out).await,
        }
    }

    /// Pass journalctl's own output on, byte for byte.
    async fn pass_on(&self, query: &Query, unit: &str, machine: &MachineRef, out: &impl Output) -> Result<u8, Error> {
        let argv = query.alone(unit);
        let mut running = self.hosts.run(machine, &argv, Stdin::Nothing).await.map_err(Error::Remote)?;
        if !running.pass_on(out).await {
            return Ok(0);
        }
        match running.wait().await {
            Ok(ended) => Ok(ended.code()),
            Err(why) => Err(Error::Lost { host: machine.name(), why }),
        }
    }
}
