//! Watches: a task and a stream each.
//!
//! Owns how etcd's watch responses become batches, and what ends a watch. It must never resume one by itself,
//! nor swallow an end: whoever watches knows which revision it has seen, and whether to list again.

use std::sync::Arc;

use etcd_client::{Client, EventType, WatchOptions, WatchResponse, WatchStream};
use tokio::sync::mpsc;

use super::Inner;
use super::members::Again;
use super::trouble::{Failure, Troubles, classify};
use crate::store::{Batch, Error, Event, Revision};

/// Batches that wait for a slow reader before its stream is left unread, and etcd keeps them.
pub(super) const CHANNEL: usize = 4;

/// The largest response taken: etcd puts up to 1,000 revisions into one when a watch catches up. What is
/// larger is answered as `Compacted`: listing again is cheaper, and ends a loop that would never end.
const RESPONSE_BYTES: usize = 64 * 1024 * 1024;

/// Follow `prefix` from `from` on until the watch is dropped or something ends it.
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
        // Nobody listening is as good as told.
        let _ = batches.send(Err(error)).await;
    }
}

/// Ends with `Ok` only when nobody listens.
async fn run(
    inner: &Inner,
    prefix: &str,
    from: Revision,
    batches: &mpsc::Sender<Result<Batch, Error>>,
) -> Result<(), Error> {
    // Revision 0 would mean "from now on" to etcd.
    let from = super::signed(from.max(Revision(1)));
    let (key, range_end) = inner.bounds(prefix);
    let way = inner.way();
    let way = &*way;
    let open = |client: Client| {
        let (key, range_end) = (key.clone(), range_end.clone());
        async move { open(client, way.authenticated, key, range_end, from).await }
    };
    // Where it was opened, and not which endpoint is in use now: another request may have gone on to the next
    // meanwhile.
    let (mut stream, at) = way.members.call_at(Again::Always, open).await?;
    let address = way.members.address(at);
    loop {
        let response = match stream.message().await {
            Ok(Some(response)) => response,
            Ok(None) => return Err(ended(address, "ended the watch".into())),
            // The stream would repeat the error for ever: leave.
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

/// Open the stream and wait until etcd has said that it watches.
async fn open(
    mut client: Client,
    authenticated: bool,
    key: Vec<u8>,
    range_end: Vec<u8>,
    from: i64,
) -> Result<WatchStream, etcd_client::Error> {
    if authenticated {
        // A watch with an expired token is "not permitted", for ever; any plain request renews the token.
        let options = etcd_client::GetOptions::new().with_keys_only().with_limit(1);
        client.get(key.clone(), Some(options)).await?;
    }
    let options = WatchOptions::new().with_range(range_end).with_start_revision(from);
    let mut watches = client.watch_client().max_decoding_message_size(RESPONSE_BYTES);
    let mut stream = watches.watch(key, Some(options)).await?;
    match stream.message().await? {
        // A refusal comes as a second message, or as the only one: both are for the loop to see.
        Some(created) if created.created() && !created.canceled() => Ok(stream),
        Some(refused) if refused.cancel_reason().contains("permission denied") => {
            Err(etcd_client::Error::GRpcStatus(tonic::Status::permission_denied(refused.cancel_reason())))
        }
        Some(refused) => Err(etcd_client::Error::WatchError(refused.cancel_reason().to_owned())),
        None => Err(etcd_client::Error::WatchError("the stream ended".into())),
    }
}

/// etcd never splits a revision over responses unless asked to, which we don't.
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
