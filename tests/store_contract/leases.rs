//! Leases: which keys they bind, how they end, and the lease that renews itself.

use std::time::Duration;

use flotilla::store::lease::Lease;
use flotilla::store::{Error, LeaseId, Revision, Store};
use tokio::time::{Instant, sleep, timeout};

use crate::support::{
    Backend, PATIENCE, bound, commit, events, get, is_lost, next, ops, prefix, put, read, said, until,
};

/// The shortest TTL that etcd grants.
const TTL: Duration = Duration::from_secs(2);

pub(crate) async fn expiry_deletes_in_one_revision(backend: &impl Backend) {
    let store = backend.store();
    let lease = store.grant(TTL).await.expect("a lease");
    let other = store.grant(Duration::from_secs(60)).await.expect("a lease");
    let begun = Instant::now();
    for n in 0..10 {
        commit(&store, [bound(&format!("mine/{n}"), "", lease), bound(&format!("other/{n}"), "", other)]).await;
    }
    let last = commit(&store, [put("free", "")]).await;
    let mut watch = store.watch("", last.next());
    let batch = next(&mut watch, "the end of a lease").await.expect("a batch");
    let lived = begun.elapsed();
    assert!(lived >= TTL - Duration::from_millis(500), "it lived only {lived:?}");
    let mut gone: Vec<String> = batch.events.iter().map(said).collect();
    gone.sort();
    assert_eq!(gone, (0..10).map(|n| format!("-mine/{n}")).collect::<Vec<_>>(), "all of it, and nothing else");
    assert_eq!(batch.revision, last.next(), "in one revision");
    assert_eq!(read(&store, prefix("")).await.kvs.len(), 11);
    assert_eq!(store.keep_alive(lease, PATIENCE).await, Err(Error::LeaseLost));
    assert!(store.keep_alive(other, PATIENCE).await.is_ok());
}

pub(crate) async fn keep_alive_keeps_alive(backend: &impl Backend) {
    let store = backend.store();
    let lease = store.grant(TTL).await.expect("a lease");
    commit(&store, [bound("mine", "", lease)]).await;
    for _ in 0..5 {
        sleep(TTL / 3).await;
        let ttl = store.keep_alive(lease, PATIENCE).await.expect("it is alive");
        assert!((TTL..TTL * 3).contains(&ttl), "asked for {TTL:?}, got {ttl:?}");
    }
    assert_eq!(get(&store, "mine").await.and_then(|kv| kv.lease), Some(lease));
    until("the key to vanish with its lease", async || {
        let kv = get(&store, "mine").await;
        (kv.is_none(), format!("{kv:?}"))
    })
    .await;
    assert_eq!(store.keep_alive(lease, PATIENCE).await, Err(Error::LeaseLost));
}

pub(crate) async fn rebinding(backend: &impl Backend) {
    let store = backend.store();
    let (one, two) = (store.grant(TTL * 10).await.expect("a lease"), store.grant(TTL * 10).await.expect("a lease"));
    commit(
        &store,
        [bound("stays", "", one), bound("moves", "", one), bound("freed", "", one), bound("joins", "", two)],
    )
    .await;
    commit(&store, [bound("moves", "2", two), put("freed", "2"), bound("joins", "2", one)]).await;

    store.revoke(one).await.expect("revoked");
    let left = read(&store, prefix("")).await.kvs;
    let left: Vec<_> = left.iter().map(|kv| (kv.key.as_str(), kv.lease)).collect();
    assert_eq!(left, [("freed", None), ("moves", Some(two))]);
    store.revoke(two).await.expect("revoked");
    assert_eq!(read(&store, prefix("")).await.kvs.len(), 1);
}

pub(crate) async fn revoking(backend: &impl Backend) {
    let store = backend.store();
    let lease = store.grant(TTL * 10).await.expect("a lease");
    let last = commit(&store, [bound("a", "", lease), bound("b", "", lease)]).await;
    let mut watch = store.watch("", last.next());
    store.revoke(lease).await.expect("revoked");
    let batch = next(&mut watch, "two deletions").await.expect("a batch");
    assert_eq!((batch.events.len(), batch.revision), (2, last.next()));
    store.revoke(lease).await.expect("revoked twice");
    store.revoke(LeaseId(4711)).await.expect("one that never was");
    assert_eq!(read(&store, prefix("")).await.revision, last.next(), "ending nothing changes nothing");
    assert_eq!(store.keep_alive(lease, PATIENCE).await, Err(Error::LeaseLost));

    let idle = store.grant(TTL * 10).await.expect("a lease");
    store.revoke(idle).await.expect("one without keys");
    assert_eq!(read(&store, prefix("")).await.revision, last.next());
}

pub(crate) async fn a_dead_lease_binds_nothing(backend: &impl Backend) {
    let store = backend.store();
    let lease = store.grant(TTL * 10).await.expect("a lease");
    store.revoke(lease).await.expect("revoked");
    for dead in [lease, LeaseId(4711)] {
        assert_eq!(store.commit(ops([bound("a", "", dead)])).await, Err(Error::LeaseLost));
        assert_eq!(store.keep_alive(dead, PATIENCE).await, Err(Error::LeaseLost));
    }
    assert_eq!(get(&store, "a").await, None);
}

pub(crate) async fn a_lease_keeps_itself_alive(backend: &impl Backend) {
    let store = backend.store();
    let lease = Lease::grant(&store, TTL).await.expect("a lease");
    commit(&store, [bound("mine", "", lease.id())]).await;
    let early = timeout(TTL * 2, lease.lost()).await;
    assert!(early.is_err() && !is_lost(&lease), "it was lost, but had not ended");
    assert!(get(&store, "mine").await.is_some());

    // When it is dropped, it expires.
    let id = lease.id();
    drop(lease);
    until("the key of a dropped lease to vanish", async || {
        let kv = get(&store, "mine").await;
        (kv.is_none(), format!("{kv:?}"))
    })
    .await;
    assert_eq!(store.keep_alive(id, PATIENCE).await, Err(Error::LeaseLost));
}

pub(crate) async fn a_lease_is_adopted(backend: &impl Backend) {
    let store = backend.store();
    let before = Lease::grant(&store, TTL).await.expect("a lease");
    let id = before.id();
    let revision = commit(&store, [bound("mine", "", id)]).await;
    drop(before);
    let after = Lease::adopt(&store, id, TTL).await.expect("it is still alive");
    assert_eq!(after.id(), id);
    sleep(TTL * 3 / 2).await;
    assert_eq!(get(&store, "mine").await.map(|kv| kv.revision), Some(revision), "the key is unchanged");

    after.revoke().await.expect("revoked");
    assert_eq!(get(&store, "mine").await, None);
    let late = Lease::adopt(&store, id, TTL).await;
    assert_eq!(late.map(|lease| lease.id()), Err(Error::LeaseLost));
}

pub(crate) async fn a_lost_lease_says_so(backend: &impl Backend) {
    let store = backend.store();
    let lease = Lease::grant(&store, TTL).await.expect("a lease");
    let waiting = tokio::spawn(lease.lost());
    let mut watch = store.watch("", Revision(0));
    commit(&store, [bound("mine", "", lease.id())]).await;
    store.revoke(lease.id()).await.expect("revoked by somebody else");
    assert_eq!(events(&mut watch, 2).await, ["+mine=", "-mine"]);
    for lost in [timeout(PATIENCE, lease.lost()).await, timeout(PATIENCE, lease.lost()).await] {
        lost.unwrap_or_else(|_| panic!("waited {PATIENCE:?} for a lease to say that it is lost"));
    }
    timeout(PATIENCE, waiting).await.expect("a caller that waited before is notified too").expect("no panic");
    assert!(is_lost(&lease));
    lease.revoke().await.expect("revoking what is lost");
}
