//! Watches: each is a task that reads the history, and sleeps when it is up to date.
//!
//! Owns which watches a change wakes. It must never delay a commit or buffer events: a slow watch reads the history
//! later, and ends with `Compacted` if its position was compacted.

use std::collections::BTreeMap;
use std::sync::Weak;

use tokio::sync::{mpsc, oneshot};

use super::Shared;
use super::state::Change;
use crate::store::{Batch, Error, Revision};

/// Batches buffered for a slow reader before its watch stops reading the history.
pub(super) const CHANNEL: usize = 4;

/// The watches that are up to date, in the order in which they are woken.
#[derive(Debug, Default)]
pub(super) struct Sleepers {
    next: u64,
    of: BTreeMap<u64, Sleeper>,
}

#[derive(Debug)]
struct Sleeper {
    prefix: String,
    wake: oneshot::Sender<Revision>,
}

impl Sleepers {
    /// Wake the watches that `change` concerns.
    pub(super) fn wake(&mut self, change: &Change) {
        if change.edits.is_empty() {
            return;
        }
        let concerns = |prefix: &str| change.edits.iter().any(|edit| edit.key.starts_with(prefix));
        for (_, sleeper) in self.of.extract_if(.., |_, sleeper| concerns(&sleeper.prefix)) {
            // The watch may have been dropped meanwhile.
            let _ = sleeper.wake.send(change.revision);
        }
    }

    fn sleep(&mut self, prefix: &str) -> (u64, oneshot::Receiver<Revision>) {
        let (wake, woken) = oneshot::channel();
        let place = self.next;
        self.next += 1;
        self.of.insert(place, Sleeper { prefix: prefix.to_owned(), wake });
        (place, woken)
    }
}

enum Step {
    Send(Result<Batch, Error>),
    Sleep(u64, oneshot::Receiver<Revision>),
}

/// Watch `prefix` from `next` on until the watch is dropped, the store is closed, or the position was compacted.
pub(super) async fn follow(
    shared: Weak<Shared>,
    prefix: String,
    mut next: Revision,
    batches: mpsc::Sender<Result<Batch, Error>>,
) {
    let mut cluster = None;
    loop {
        // Reading and going to sleep happen under one lock, so that no change is missed between them.
        let step = {
            let Some(shared) = shared.upgrade() else { return };
            let mut held = shared.held();
            if *cluster.get_or_insert(held.state.cluster) != held.state.cluster {
                // Its revisions mean something else now.
                return;
            }
            match held.state.events(&prefix, next) {
                Ok(Some(batch)) => Step::Send(Ok(batch)),
                Ok(None) => {
                    let (place, woken) = held.sleepers.sleep(&prefix);
                    Step::Sleep(place, woken)
                }
                Err(error) => Step::Send(Err(error)),
            }
        };
        match step {
            Step::Send(Ok(batch)) => {
                next = batch.revision.next();
                if batches.send(Ok(batch)).await.is_err() {
                    return;
                }
            }
            Step::Send(Err(error)) => {
                // The receiver may be gone.
                let _ = batches.send(Err(error)).await;
                return;
            }
            Step::Sleep(place, woken) => tokio::select! {
                biased;
                () = batches.closed() => {
                    if let Some(shared) = shared.upgrade() {
                        shared.held().sleepers.of.remove(&place);
                    }
                    return;
                }
                // No revision before the one that woke us concerned this prefix, so those may be compacted now.
                woken = woken => match woken {
                    Ok(revision) => next = next.max(revision),
                    Err(_) => return,
                },
            },
        }
    }
}
