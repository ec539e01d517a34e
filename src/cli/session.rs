//! What all commands share after the command line was parsed. Decides nothing.

use crate::api::client::Client;
use crate::cli::args::Format;
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
}

impl Session {
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
