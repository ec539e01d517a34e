//! Watches: one task and one stream each.
//!
//! Owns how etcd's messages become batches, and what ends a watch. It must never resume a watch or hide its end:
//! the caller knows which revision it has seen, and whether to list again.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::Inner;
use super::classify::{Failure, NO_LEADER, Troubles, classify};
use super::client::{Change, Connection as _, Member, Message, Stream as _};
use super::members::Again;
use crate::store::{Batch, Error, Event, Revision};

/// Batches buffered for a slow reader before the stream isn't read any more, so that etcd buffers them.
pub(super) const CHANNEL: usize = 4;

/// Watch `prefix` from `from` on until the watch is dropped or ends.
pub(super) async fn follow<M: Member>(
    inner: Arc<Inner<M>>,
    prefix: String,
    from: Revision,
    batches: mpsc::Sender<Result<Batch, Error>>,
) {
    let end = tokio::select! {
        biased;
        () = batches.closed() => return,
        end = run(&inner, &prefix, from, &batches) => end,
    };
    if let Err(error) = end {
        // The receiver may be gone.
        let _ = batches.send(Err(error)).await;
    }
}

/// Returns `Ok` only if the receiver is gone.
async fn run<M: Member>(
    inner: &Inner<M>,
    prefix: &str,
    from: Revision,
    batches: &mpsc::Sender<Result<Batch, Error>>,
) -> Result<(), Error> {
    // To etcd, revision 0 means "from now on".
    let from = from.max(Revision(1));
    let (begin, end) = inner.bounds(prefix);
    let (begin, end) = (&*begin, &*end);
    let members = inner.members();
    let open = |connection: M::Connection| async move { connection.watch(begin, end, from).await };
    let mut replaced = members.replaced();
    // The endpoint on which it was opened: the current one may have changed meanwhile because of another request.
    let (mut stream, at) = members.call_at(Again::Always, open).await?;
    let fails = |text: &str| {
        members.leave(at, text);
        ended(members.address(at), text.into())
    };
    loop {
        let message = tokio::select! {
            biased;
            _ = replaced.changed() => return Err(Error::Compacted),
            message = stream.next() => message,
        };
        let changes = match message {
            Ok(Message::Changes(changes)) => changes,
            Ok(Message::Compacted) => return Err(Error::Compacted),
            Ok(Message::Cancelled(reason)) if reason == "no leader" => return Err(fails(NO_LEADER)),
            Ok(Message::Cancelled(reason)) => {
                return Err(ended(members.address(at), format!("ended the watch: {reason}")));
            }
            Ok(Message::Ended) => return Err(ended(members.address(at), "ended the watch".into())),
            Err(fault) => match classify(fault) {
                Failure::Final(error) => return Err(error),
                // Listing again is cheaper than such a message, and opening the watch again would never succeed.
                Failure::TooLarge => return Err(Error::Compacted),
                Failure::Here(trouble) => return Err(fails(&trouble.text)),
            },
        };
        if let Some(batch) = batch(inner, changes)
            && batches.send(Ok(batch)).await.is_err()
        {
            return Ok(());
        }
    }
}

/// etcd never splits a revision over messages unless asked to.
fn batch<M: Member>(inner: &Inner<M>, changes: Vec<Change>) -> Option<Batch> {
    let mut batch = Batch { revision: Revision(0), events: Vec::new() };
    for change in changes {
        let (modified, event) = match change {
            Change::Put(kv) => (kv.modified, inner.kv(kv).map(Event::Put)),
            Change::Delete(key, at) => (at, inner.plain(key).map(Event::Delete)),
        };
        batch.revision = batch.revision.max(modified);
        batch.events.extend(event);
    }
    Some(batch).filter(|batch| !batch.events.is_empty())
}

fn ended(address: &str, text: String) -> Error {
    let mut troubles = Troubles::default();
    troubles.note(address, text);
    troubles.into_error()
}
