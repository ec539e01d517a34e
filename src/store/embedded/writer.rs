//! The durable store's one writer: a thread, because a disk makes its caller wait.
//!
//! Owns the order of all changes on disk. Requests that have queued up meanwhile are written together, so the
//! cost of making them safe is shared. It must never show or acknowledge what is not on disk: readers see a
//! change only when it is written, and so does who asked for it.

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

/// Requests written together at most, and waiting at most.
const GROUP: usize = 256;

type Answer = oneshot::Sender<Result<Done, Error>>;

/// The way to the thread. Dropping it waits until all that was asked is on disk and the file is closed.
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
            .spawn(move || Head { disk, shared, state: head, doubt: None }.run(queue))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Once sent, a request is carried out, whether its caller waits for the answer or not.
    pub(super) async fn submit(&self, request: Request) -> Result<Done, Error> {
        let ended = || Error::Unavailable("the store is closed".into());
        let (answer, answered) = oneshot::channel();
        let Some(jobs) = &self.jobs else { return Err(ended()) };
        jobs.send((request, answer)).await.map_err(|_| ended())?;
        answered.await.map_err(|_| ended())?
    }

    /// As [`Self::submit`], without waiting for a place in the queue.
    pub(super) fn hand_in(&self, request: Request) -> oneshot::Receiver<Result<Done, Error>> {
        let (answer, answered) = oneshot::channel();
        if let Some(jobs) = &self.jobs
            && let Err(TrySendError::Full((_, answer))) = jobs.try_send((request, answer))
        {
            // Nobody waiting is fine.
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

/// The thread's own view: the shared state, and ahead of it what is being written just now.
struct Head {
    disk: Disk,
    shared: Arc<Shared>,
    state: State,
    /// What a failed write would have done: on disk perhaps.
    doubt: Option<Vec<Change>>,
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
                // Even a refusal may rest on what was not written: then it is none. Nobody waiting is fine.
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
            self.doubt = Some(changes);
            return Err(unwritten(self.disk.path(), &error.to_string()));
        }
        self.publish(&changes);
        Ok(())
    }

    fn publish(&self, changes: &[Change]) {
        let mut held = self.shared.held();
        changes.iter().for_each(|change| self.shared.publish(&mut held, change));
    }

    /// After a failed write, find out what it did before anything else is done.
    fn settle(&mut self) -> Result<(), Error> {
        let Some(changes) = self.doubt.take() else { return Ok(()) };
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
                self.doubt = Some(changes);
                Err(unwritten(self.disk.path(), &error.to_string()))
            }
        }
    }
}

fn unwritten(path: &Path, reason: &str) -> Error {
    Error::Unavailable(format!("the store `{}` can't be written: {reason}", path.display()))
}
