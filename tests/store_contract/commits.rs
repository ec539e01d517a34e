//! Commits: guards, atomicity, revisions, limits.

use flotilla::store::{Error, Guard, LeaseId, MAX_BYTES, MAX_OPS, Op, Range, Revision, Store, Txn};
use std::time::Duration;

use crate::support::{Backend, bound, commit, delete, get, next, ops, prefix, put, read};

pub(crate) async fn guards_decide(backend: &impl Backend) {
    let store = backend.store();
    let lease = store.grant(Duration::from_secs(60)).await.expect("a lease");
    let written = commit(&store, [put("a", "1")]).await;
    let held = commit(&store, [bound("h", "1", lease)]).await;

    let absent = |key: &str| Guard::Absent(key.into());
    let unchanged = |key: &str, revision| Guard::Unchanged(key.into(), revision);
    let cluster = store.range(Range::default()).await.expect("a page").cluster;
    let cases = [
        (absent("nothing"), true),
        (absent("a"), false),
        (unchanged("a", written), true),
        (unchanged("a", held), false),
        (unchanged("a", Revision(0)), false),
        (unchanged("nothing", Revision(0)), false),
        (unchanged("nothing", written), false),
        (unchanged("h", held), true),
        (absent("h"), false),
        (Guard::Cluster(cluster), true),
        (Guard::Cluster(cluster ^ 1), false),
    ];
    for (guard, expected) in &cases {
        for changes in [vec![], vec![put("x", "1")]] {
            let got = store.commit(Txn { guards: vec![guard.clone()], ops: changes }).await;
            match expected {
                true => assert!(got.is_ok(), "{guard:?} holds, but: {got:?}"),
                false => assert_eq!(got, Err(Error::Conflict), "{guard:?} does not hold"),
            }
        }
    }
    let all: Vec<Guard> = cases.iter().filter(|(_, expected)| *expected).map(|(guard, _)| guard.clone()).collect();
    assert!(store.commit(Txn { guards: all.clone(), ops: vec![] }).await.is_ok(), "all of them hold at once");
    let mut but_one = all;
    but_one.push(absent("a"));
    assert_eq!(store.commit(Txn { guards: but_one, ops: vec![] }).await, Err(Error::Conflict), "one does not hold");
}

pub(crate) async fn a_commit_is_all_or_nothing(backend: &impl Backend) {
    let store = backend.store();
    commit(&store, [put("b", "old"), put("c", "old")]).await;
    let before = read(&store, Range::default()).await;

    let changes = vec![put("a", "new"), put("b", "new"), delete("c")];
    let conflict = Txn { guards: vec![Guard::Absent("d".into()), Guard::Absent("b".into())], ops: changes.clone() };
    assert_eq!(store.commit(conflict).await, Err(Error::Conflict));
    let dead = [changes.clone(), vec![bound("d", "new", LeaseId(4711))]].concat();
    assert_eq!(store.commit(ops(dead)).await, Err(Error::LeaseLost));
    assert_eq!(read(&store, Range::default()).await, before, "a commit that fails changes nothing");

    let done = store.commit(Txn { guards: vec![Guard::Absent("d".into())], ops: changes }).await.expect("it holds now");
    let page = read(&store, Range::default()).await;
    let seen: Vec<_> = page.kvs.iter().map(|kv| (kv.key.as_str(), &*kv.value, kv.revision)).collect();
    assert_eq!(seen, [("a", &b"new"[..], done), ("b", b"new", done)]);
    assert_eq!(page.revision, done);

    // A failed guard takes precedence over a lost lease.
    let both = Txn { guards: vec![Guard::Absent("a".into())], ops: vec![bound("d", "new", LeaseId(4711))] };
    assert_eq!(store.commit(both).await, Err(Error::Conflict));
}

pub(crate) async fn revisions_grow_by_one(backend: &impl Backend) {
    let store = backend.store();
    let empty = read(&store, Range::default()).await;
    assert!(empty.kvs.is_empty() && !empty.more && empty.revision > Revision(0), "an empty store: {empty:?}");

    let first = commit(&store, [put("a", "1")]).await;
    assert_eq!(first, empty.revision.next());
    assert_eq!(commit(&store, [put("a", "1")]).await, first.next(), "the same value again is a change");
    let third = commit(&store, [put("a", "2"), put("b", "1")]).await;
    assert_eq!(third, first.next().next(), "one commit is one revision");

    assert_eq!(commit(&store, []).await, third, "nothing to do");
    assert_eq!(commit(&store, [delete("nothing")]).await, third, "nothing there to delete");
    let guarded = Txn { guards: vec![Guard::Unchanged("a".into(), third)], ops: vec![] };
    assert_eq!(store.commit(guarded).await, Ok(third), "only looked");
    let conflict = Txn { guards: vec![Guard::Absent("a".into())], ops: vec![put("a", "3")] };
    assert_eq!(store.commit(conflict).await, Err(Error::Conflict));
    store.grant(Duration::from_secs(60)).await.expect("a lease");
    assert_eq!(commit(&store, [delete("a"), delete("nothing")]).await, third.next());
    assert_eq!(get(&store, "b").await.map(|kv| kv.revision), Some(third), "untouched keys keep theirs");
}

pub(crate) async fn what_can_never_be_done_is_refused(backend: &impl Backend) {
    let store = backend.store();
    let puts = |count: usize| (0..count).map(|n| put(&format!("k{n:03}"), "v")).collect::<Vec<_>>();
    let guards = |count: usize| (0..count).map(|n| Guard::Absent(format!("g{n:03}"))).collect::<Vec<_>>();

    let full = Txn { guards: guards(MAX_OPS), ops: puts(MAX_OPS) };
    let revision = store.commit(full).await.expect("as much as is allowed");
    let large = |bytes: usize| ops([Op::Put { key: "large".into(), value: vec![7; bytes - 5], lease: None }]);
    let refused = [
        ("ops", ops(puts(MAX_OPS + 1))),
        ("guards", Txn { guards: guards(MAX_OPS + 1), ops: vec![] }),
        ("bytes", large(MAX_BYTES + 1)),
        ("a key twice", ops([put("a", "1"), put("a", "2")])),
        ("a key put and deleted", ops([put("a", "1"), delete("a")])),
        ("no key", ops([put("", "1")])),
    ];
    for (what, txn) in refused {
        match store.commit(txn).await {
            Err(Error::Refused(why)) => assert!(!why.is_empty()),
            other => panic!("{what}: expected a refusal, got {other:?}"),
        }
    }
    assert_eq!(store.grant(Duration::ZERO).await.map_err(|error| matches!(error, Error::Refused(_))), Err(true));
    assert_eq!(read(&store, Range::default()).await.revision, revision, "refused is not done");
    assert_eq!(store.commit(large(MAX_BYTES)).await, Ok(revision.next()), "the limit itself is allowed");
}

pub(crate) async fn large_values_are_kept(backend: &impl Backend) {
    let store = backend.store();
    let mut watch = store.watch("", Revision(0));
    let value: Vec<u8> = (0..1_000_000u32).map(|n| n.to_le_bytes()[n as usize % 4]).collect();
    let revision = commit(&store, [Op::Put { key: "binary/ä".into(), value: value.clone(), lease: None }]).await;
    let kv = get(&store, "binary/ä").await.expect("it is there");
    assert!(kv.value == value && kv.revision == revision, "{} bytes at {}", kv.value.len(), kv.revision);
    let batch = next(&mut watch, "a large value").await.expect("it is watched");
    assert_eq!(batch.events, [flotilla::store::Event::Put(kv)]);
    commit(&store, [put("empty", "")]).await;
    assert_eq!(get(&store, "empty").await.expect("empty, but there").value, b"");
}

pub(crate) async fn racing_commits_have_one_winner(backend: &impl Backend) {
    let store = backend.store();
    for round in 0..10 {
        let key = format!("race/{round}");
        let race = (0..8).map(|n| {
            let (store, key) = (store.clone(), key.clone());
            tokio::spawn(async move {
                let txn = Txn { guards: vec![Guard::Absent(key.clone())], ops: vec![put(&key, &n.to_string())] };
                (n, store.commit(txn).await)
            })
        });
        let mut winners = Vec::new();
        for racer in race.collect::<Vec<_>>() {
            match racer.await.expect("no panic") {
                (n, Ok(revision)) => winners.push((n.to_string().into_bytes(), revision)),
                (_, Err(error)) => assert_eq!(error, Error::Conflict),
            }
        }
        let stored = read(&store, prefix(&key)).await.kvs.remove(0);
        assert_eq!(winners, [(stored.value, stored.revision)], "one wins, and what it wrote is there");
    }
}
