//! Reads why units failed: systemd's details as a part of a pass, and journals beside it, since a large journal takes
//! seconds. Owns how many journals are read at a time; decides nothing.

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};

use crate::model::name::UnitName;
use crate::plan::host::Input;
use crate::store::Store;
use crate::systemd::{self, Systemd};

use super::Agent;

/// The most journals that are read at a time.
const AT_A_TIME: usize = 2;

/// Journals that are being read, and their lines once they are.
#[derive(Debug)]
pub(super) struct Journals {
    sender: mpsc::UnboundedSender<Input>,
    /// What was read, to be applied.
    pub(super) read: mpsc::UnboundedReceiver<Input>,
    permits: Arc<Semaphore>,
}

impl Default for Journals {
    fn default() -> Self {
        let (sender, read) = mpsc::unbounded_channel();
        Self { sender, read, permits: Arc::new(Semaphore::new(AT_A_TIME)) }
    }
}

impl<S: Store, H: Systemd> Agent<S, H> {
    pub(super) async fn inspect(&self, names: Vec<UnitName>) -> Result<Input, systemd::Error> {
        let details = self.host.details(names.clone()).await?;
        Ok(Input::Inspected(names, details))
    }

    /// Begin to read these journals.
    pub(super) fn read_journals(&self, asked: Vec<(UnitName, String)>) {
        for (unit, invocation) in asked {
            let (host, lines) = (self.host.clone(), self.journals.sender.clone());
            let permits = Arc::clone(&self.journals.permits);
            tokio::spawn(async move {
                // Never closed.
                let Ok(_permit) = permits.acquire().await else { return };
                let read = host.last_lines(&unit, &invocation).await.unwrap_or_else(|error| {
                    tracing::debug!(%unit, %error, "its journal can't be read");
                    Vec::new()
                });
                // An agent that has ended needs no lines.
                drop(lines.send(Input::JournalRead { unit, invocation, lines: read }));
            });
        }
    }
}
