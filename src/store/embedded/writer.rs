//! The single writer of the durable store: a thread, because writing to disk blocks.
//!
//! Owns the order of all changes on disk. Requests that queue up meanwhile are written together, to share the cost of a
//! sync. It must never show or acknowledge a change that isn't on disk: readers and the requester see a change only
//! after it was written.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use super::disk::Disk;
use super::state::{Change, Request, State};
use super::{Done, Shared};
use crate::store::Error;

/// The most requests that are written together, and that may be queued.
const GROUP: usize = 256;

type Answer = oneshot::Sender<Result<Done, Error>>;

/// The handle of the thread. Dropping it waits until all requests are on disk and the file is closed.
#[derive(Debug)]
pub(super) struct Writer {
    jobs: Option<mpsc::Sender<(Request, Answer)>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(disk: Disk, shared: Arc<Shared>) -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel(GROUP);
        let head = shared.held().state.without_past();
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || Head { disk, shared, state: head, unconfirmed: None }.run(queue))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// A request that was sent is carried out, whether or not its caller waits for the answer.
    pub(super) async fn submit(&self, request: Request) -> Result<Done, Error> {
        let ended = || Error::Unavailable("the store is closed".into());
        let (answer, answered) = oneshot::channel();
        let Some(jobs) = &self.jobs else { return Err(ended()) };
        jobs.send((request, answer)).await.map_err(|_| ended())?;
        answered.await.map_err(|_| ended())?
    }

    /// As [`Self::submit`], without waiting for room in the queue.
    pub(super) fn hand_in(&self, request: Request) -> oneshot::Receiver<Result<Done, Error>> {
        let (answer, answered) = oneshot::channel();
        if let Some(jobs) = &self.jobs
            && let Err(TrySendError::Full((_, answer))) = jobs.try_send((request, answer))
        {
            // The receiver may be gone.
            let _ = answer.send(Err(Error::Unavailable("the store is busy".into())));
        }
        answered
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("the store's writer has panicked");
        }
    }
}

/// The thread's own state: the shared state plus the changes that are being written.
struct Head {
    disk: Disk,
    shared: Arc<Shared>,
    state: State,
    /// The changes of a failed write, which may be on disk.
    unconfirmed: Option<Vec<Change>>,
}

impl Head {
    fn run(mut self, mut queue: mpsc::Receiver<(Request, Answer)>) {
        while let Some(first) = queue.blocking_recv() {
            let mut group = vec![first];
            while group.len() < GROUP
                && let Ok(next) = queue.try_recv()
            {
                group.push(next);
            }
            if let Err(error) = self.settle() {
                group.into_iter().for_each(|(_, answer)| drop(answer.send(Err(error.clone()))));
                continue;
            }
            let mut changes = Vec::new();
            let mut answers = Vec::new();
            for (request, answer) in group {
                let decided = self.state.decide(request);
                answers.push((answer, decided.as_ref().map(Done::from).map_err(Clone::clone)));
                if let Ok(change) = decided
                    && !change.is_nothing()
                {
                    self.state.apply(&change);
                    changes.push(change);
                }
            }
            let written = self.write(changes);
            for (answer, decided) in answers {
                // Even a refusal may depend on a change that wasn't written, so a failed write applies to it too. The
                // receiver may be gone.
                let _ = answer.send(written.clone().and(decided));
            }
        }
    }

    fn write(&mut self, changes: Vec<Change>) -> Result<(), Error> {
        if changes.is_empty() {
            return Ok(());
        }
        let compacted = self.shared.held().state.compacted;
        if let Err(error) = self.disk.write(&changes, compacted) {
            tracing::error!(path = %self.disk.path().display(), %error, "store can't be written");
            self.state = self.shared.held().state.without_past();
            self.unconfirmed = Some(changes);
            return Err(unwritten(self.disk.path(), &error.to_string()));
        }
        self.publish(&changes);
        Ok(())
    }

    fn publish(&self, changes: &[Change]) {
        let mut held = self.shared.held();
        changes.iter().for_each(|change| self.shared.publish(&mut held, change));
    }

    /// After a failed write, find out whether it took effect before doing anything else.
    fn settle(&mut self) -> Result<(), Error> {
        let Some(changes) = self.unconfirmed.take() else { return Ok(()) };
        match self.disk.recover() {
            Ok(written) => {
                if written {
                    self.publish(&changes);
                    self.state = self.shared.held().state.without_past();
                }
                tracing::info!(path = %self.disk.path().display(), written, "store opened again");
                Ok(())
            }
            Err(error) => {
                self.unconfirmed = Some(changes);
                Err(unwritten(self.disk.path(), &error.to_string()))
            }
        }
    }
}

fn unwritten(path: &Path, reason: &str) -> Error {
    Error::Unavailable(format!("the store `{}` can't be written: {reason}", path.display()))
}
