//! The journals of units, wherever they run. Decides whether one host's journalctl answers alone or many are merged.
//! Never knows the command line or the terminal: it prints through the [`Output`] it is given.
//!
//! ```text
//! one unit on one host ─▶ journalctl's own output, passed on
//! many ─▶ reader (a host's journalctl, again and again) ─┐
//!         reader ─┼─▶ merge (by time) ─▶ render ─▶ stdout
//! fleetd's watch ─▶ places (which unit is where) ─▶ readers come and go
//! ```

mod cluster;
mod entry;
mod handover;
mod merge;
mod places;
mod query;
mod reader;
mod readers;
mod render;
mod show;
mod tail;

use std::io;

use crate::api::client::{Client, ClientError};
use crate::api::wire::{MachineRef, UnitView};
use crate::remote::{self, Hosts, Stdin, Streams};
pub use places::hosts;
pub use query::{Format, Query};
pub use tail::journal_tail;

/// Where entries and messages about hosts go.
pub trait Output: Streams {
    /// A line about hosts and units.
    fn message(&self, line: &str);

    /// Whether entries may be coloured.
    fn has_colours(&self) -> bool;

    /// Whether nobody reads the entries any longer.
    fn is_closed(&self) -> bool;

    /// Wait until nobody reads the entries any longer.
    fn closed(&self) -> impl Future<Output = ()>;
}

/// Where journals come from.
#[derive(Debug)]
pub struct Source<'a> {
    /// Says which unit is where.
    pub client: &'a Client,
    /// The hosts that have the journals.
    pub hosts: &'a Hosts,
}

/// The units whose journals are meant.
#[derive(Debug)]
pub struct Units {
    /// Patterns for all of them, also for those that come later.
    pub patterns: Vec<String>,
    /// Those that exist, sorted by name. No templates: they never run.
    pub units: Vec<UnitView>,
    /// Whether one unit was named, and no more than one can ever be meant.
    pub one: bool,
}

/// Why journals can't be shown to their end.
#[derive(Debug)]
pub enum Error {
    /// fleetd can't be asked.
    Api(ClientError),
    /// The one host that was asked can't be reached.
    Remote(remote::Error),
    /// The connection to a host broke before the end.
    Lost {
        /// The host's name.
        host: String,
        /// How it broke.
        why: io::Error,
    },
    /// A host's journalctl refuses to follow.
    Refused {
        /// Its exit status.
        status: u8,
        /// Which host, and what journalctl says.
        line: String,
    },
    /// Signals can't be waited for.
    Signal(io::Error),
}

impl Source<'_> {
    /// Show what `query` asks of the journals of `units`. Returns the exit status, as shells number it: 0; 1 when
    /// nothing is there to show; that of the first journalctl that failed; 255 when a host can't be reached.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn show<O: Output>(&self, query: &Query, units: &Units, out: &O) -> Result<u8, Error> {
        // Of a span of time, journalctl before systemd 254 doesn't find the last lines: they are counted here, where
        // their form allows it.
        let counted = query.is_timed() && query.lines.is_some() && !query.format.is_journalctls();
        let placed = |unit: &&UnitView| !hosts(unit).is_empty();
        match units.units.iter().find(placed) {
            // A unit that isn't there may come; a name that doesn't exist is more likely a mistake.
            None if !query.follow || (units.one && units.units.is_empty()) => Ok(1),
            Some(UnitView { name, machine: Some(machine), .. }) if units.one && !query.follow && !counted => {
                self.pass_on(query, name.as_str(), machine, out).await
            }
            _ if query.follow => show::follow(self, query, units, out).await,
            _ => show::list(self, query, units, out).await,
        }
    }

    /// journalctl's own output, byte by byte.
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
