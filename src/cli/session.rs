//! What all commands share after the command line was parsed. Decides nothing.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use crate::api::client::Client;
use crate::api::wire::{Applied, Apply, ApplyUnit, Offline};
use crate::cli::args::Format;
use crate::cli::error::Error;
use crate::cli::output::Printer;
use crate::remote::Hosts;

/// One run of a command.
#[derive(Debug)]
pub(super) struct Session {
    /// The client of the cluster.
    pub(super) client: Client,
    /// The hosts of the cluster.
    pub(super) hosts: Hosts,
    /// The output.
    pub(super) out: Printer,
    /// The format of stdout.
    pub(super) format: Format,
    /// Set once something was answered by one host for itself, because the cluster can't answer.
    pub(super) offline: OnceCell<Offline>,
}

impl Session {
    /// Send a batch of units; nothing is sent if there are none.
    ///
    /// # Errors
    /// The request failed, or the cluster refused it.
    pub(super) async fn apply(&self, units: Vec<ApplyUnit>) -> Result<Applied, Error> {
        if units.is_empty() {
            return Ok(Applied::default());
        }
        let applied = self.client.apply(&Apply { units }).await;
        applied.map_err(|error| Error::of_apply(error, &BTreeMap::new()))
    }

    /// Whether stdout gets a single JSON document.
    pub(super) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Print a line of data, unless the output is JSON.
    pub(super) fn line(&self, line: &str) {
        if !self.is_json() {
            self.out.line(line);
        }
    }
}
