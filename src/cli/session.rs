//! What every command works with, once the command line is understood. Decides nothing.

use crate::api::client::Client;
use crate::cli::args::Format;
use crate::cli::output::Printer;
use crate::remote::Hosts;

/// One run of one command.
#[derive(Debug)]
pub(super) struct Session {
    /// The cluster.
    pub(super) client: Client,
    /// Its hosts.
    pub(super) hosts: Hosts,
    /// The person, or the script.
    pub(super) out: Printer,
    /// What stdout is for.
    pub(super) format: Format,
}

impl Session {
    /// Whether stdout gets one JSON document and nothing else.
    pub(super) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// A line of data, if stdout is for lines.
    pub(super) fn line(&self, line: &str) {
        if !self.is_json() {
            self.out.line(line);
        }
    }
}
