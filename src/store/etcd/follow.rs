//! Watches: one task and one stream each.
//!
//! Owns how etcd's watch responses become batches, and what ends a watch. It must never resume a watch or hide its end:
//! the caller knows which revision it has seen, and whether to list again.

use std::sync::Arc;

use etcd_client::{Client, EventType, WatchOptions, WatchResponse, WatchStream};
use tokio::sync::mpsc;

use super::Inner;
use super::members::Again;
use super::trouble::{Failure, Troubles, classify};
use crate::store::{Batch, Error, Event, Revision};

/// Batches buffered for a slow reader before the stream isn't read any more, so that etcd buffers them.
pub(super) const CHANNEL: usize = 4;

/// The largest accepted response in bytes: etcd puts up to 1,000 revisions into one when a watch catches up. A larger
/// one is reported as `Compacted`: listing again is cheaper, and retrying would never succeed.
const RESPONSE_BYTES: usize = 64 * 1024 * 1024;

/// Watch `prefix` from `from` on until the watch is dropped or ends.
pub(super) async fn follow(
    inner: Arc<Inner>,
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
async fn run(
    inner: &Inner,
    prefix: &str,
    from: Revision,
    batches: &mpsc::Sender<Result<Batch, Error>>,
) -> Result<(), Error> {
    // To etcd, revision 0 means "from now on".
    let from = super::signed(from.max(Revision(1)));
    let (key, range_end) = inner.bounds(prefix);
    let way = inner.way();
    let way = &*way;
    let open = |client: Client| {
        let (key, range_end) = (key.clone(), range_end.clone());
        async move { open(client, way.authenticated, key, range_end, from).await }
    };
    // The endpoint on which it was opened: the current one may have changed meanwhile because of another request.
    let (mut stream, at) = way.members.call_at(Again::Always, open).await?;
    let address = way.members.address(at);
    loop {
        let response = match stream.message().await {
            Ok(Some(response)) => response,
            Ok(None) => return Err(ended(address, "ended the watch".into())),
            // The stream would repeat the error forever, so it is closed.
            Err(error) => match classify(&error) {
                Failure::Final(error) => return Err(error),
                Failure::TooLarge => return Err(Error::Compacted),
                Failure::Here(trouble) => {
                    way.members.leave(at, &trouble.text);
                    return Err(ended(address, trouble.text));
                }
            },
        };
        if response.canceled() {
            if response.compact_revision() > 0 {
                return Err(Error::Compacted);
            }
            let reason = response.cancel_reason();
            let reason = reason.strip_prefix("etcdserver: ").unwrap_or(reason);
            if reason == "no leader" {
                way.members.leave(at, "has no leader (no quorum)");
                return Err(ended(address, "has no leader (no quorum)".into()));
            }
            return Err(ended(address, format!("ended the watch: {reason}")));
        }
        if let Some(batch) = batch(inner, &response)
            && batches.send(Ok(batch)).await.is_err()
        {
            return Ok(());
        }
    }
}

/// Open the stream and wait until etcd has confirmed the watch.
async fn open(
    mut client: Client,
    authenticated: bool,
    key: Vec<u8>,
    range_end: Vec<u8>,
    from: i64,
) -> Result<WatchStream, etcd_client::Error> {
    if authenticated {
        // etcd rejects a watch with an expired token as "not permitted", always; any other request renews the token.
        let options = etcd_client::GetOptions::new().with_keys_only().with_limit(1);
        client.get(key.clone(), Some(options)).await?;
    }
    let options = WatchOptions::new().with_range(range_end).with_start_revision(from);
    let mut watches = client.watch_client().max_decoding_message_size(RESPONSE_BYTES);
    let mut stream = watches.watch(key, Some(options)).await?;
    match stream.message().await? {
        // A refusal arrives as a second message, or as the only one; the loop handles both.
        Some(created) if created.created() && !created.canceled() => Ok(stream),
        Some(refused) if refused.cancel_reason().contains("permission denied") => {
            Err(etcd_client::Error::GRpcStatus(tonic::Status::permission_denied(refused.cancel_reason())))
        }
        Some(refused) => Err(etcd_client::Error::WatchError(refused.cancel_reason().to_owned())),
        None => Err(etcd_client::Error::WatchError("the stream ended".into())),
    }
}

/// etcd never splits a revision over responses unless asked to.
fn batch(inner: &Inner, response: &WatchResponse) -> Option<Batch> {
    let mut batch = Batch { revision: Revision(0), events: Vec::new() };
    for event in response.events() {
        let Some(kv) = event.kv() else { continue };
        batch.revision = batch.revision.max(super::revision(kv.mod_revision()));
        let Some(key) = inner.plain(kv.key()) else { continue };
        batch.events.push(match event.event_type() {
            EventType::Put => Event::Put(super::kv(key, kv)),
            EventType::Delete => Event::Delete(key),
        });
    }
    Some(batch).filter(|batch| !batch.events.is_empty())
}

fn ended(address: &str, text: String) -> Error {
    let mut troubles = Troubles::default();
    troubles.note(address, text);
    troubles.into_error()
}
