//! Watches: each is a task that reads the history, and sleeps when it has seen all of it.
//!
//! Owns who is woken by a change. It must never make a commit wait, nor keep events for anyone: a watch that
//! is slow reads later, from the history, and is told `Compacted` if that has moved past it.

use std::collections::BTreeMap;
use std::sync::Weak;

use tokio::sync::{mpsc, oneshot};

use super::Shared;
use super::state::Change;
use crate::store::{Batch, Error, Revision};

/// Batches that wait for a slow reader before its watch stops reading the history.
pub(super) const CHANNEL: usize = 4;

/// The watches that have seen everything, in the order they are woken.
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
    /// Wake whoever `change` concerns.
    pub(super) fn wake(&mut self, change: &Change) {
        if change.edits.is_empty() {
            return;
        }
        let concerns = |prefix: &str| change.edits.iter().any(|edit| edit.key.starts_with(prefix));
        for (_, sleeper) in self.of.extract_if(.., |_, sleeper| concerns(&sleeper.prefix)) {
            // One that is gone meanwhile is not missed.
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

/// Follow `prefix` from `next` on until the watch is dropped, the store is gone, or the history is.
pub(super) async fn follow(
    shared: Weak<Shared>,
    prefix: String,
    mut next: Revision,
    batches: mpsc::Sender<Result<Batch, Error>>,
) {
    loop {
        // Looking and falling asleep happen under one lock, so no change slips in between.
        let step = {
            let Some(shared) = shared.upgrade() else { return };
            let mut held = shared.held();
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
                // Nobody listening is as good as told.
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
                // All revisions before the one that woke us had nothing for us: they may be compacted now.
                woken = woken => match woken {
                    Ok(revision) => next = next.max(revision),
                    Err(_) => return,
                },
            },
        }
    }
}
