//! Watches: where they begin, their order, whole revisions, and how they end.

use flotilla::store::{Error, Event, Op, Revision, Store};

use crate::support::{Backend, commit, delete, events, next, prefix, put, read, said};

pub(crate) async fn a_watch_from_the_past(backend: &impl Backend) {
    let store = backend.store();
    let first = commit(&store, [put("a", "1")]).await;
    let second = commit(&store, [put("a", "2"), put("b", "1")]).await;
    commit(&store, [delete("a")]).await;

    let mut from_start = store.watch("", Revision(0));
    assert_eq!(events(&mut from_start, 4).await, ["+a=1", "+a=2", "+b=1", "-a"]);
    let mut from_first = store.watch("", first);
    assert_eq!(events(&mut from_first, 4).await, ["+a=1", "+a=2", "+b=1", "-a"]);
    let mut from_second = store.watch("", second);
    assert_eq!(events(&mut from_second, 3).await, ["+a=2", "+b=1", "-a"]);

    // Then all continue, from past revisions to new ones.
    commit(&store, [put("c", "1")]).await;
    for watch in [&mut from_start, &mut from_first, &mut from_second] {
        assert_eq!(events(watch, 1).await, ["+c=1"]);
    }
}

pub(crate) async fn a_watch_from_the_future(backend: &impl Backend) {
    let store = backend.store();
    let now = commit(&store, [put("a", "0")]).await;
    let mut watch = store.watch("a", Revision(now.0 + 3));
    for n in 1..=5 {
        commit(&store, [put("a", &n.to_string())]).await;
    }
    assert_eq!(events(&mut watch, 3).await, ["+a=3", "+a=4", "+a=5"]);
}

pub(crate) async fn a_revision_is_one_batch(backend: &impl Backend) {
    let store = backend.store();
    let changes = |round: usize| (0..100).map(|n| put(&format!("k{n:02}"), &round.to_string())).collect::<Vec<_>>();
    let mut live = store.watch("", Revision(0));
    let mut revisions = Vec::new();
    for round in 0..20 {
        revisions.push(commit(&store, changes(round)).await);
    }
    let mut late = store.watch("", revisions[0]);
    for watch in [&mut live, &mut late] {
        let mut seen = Vec::new();
        while seen.len() < 20 {
            let batch = next(watch, "20 large revisions").await.expect("a batch");
            assert_eq!(batch.events.len() % 100, 0, "a revision was split: {} events", batch.events.len());
            for chunk in batch.events.chunks(100) {
                let revision = match &chunk[0] {
                    Event::Put(kv) => kv.revision,
                    Event::Delete(key) => panic!("{key} was deleted"),
                };
                let all = chunk.iter().enumerate().all(|(n, event)| {
                    matches!(event, Event::Put(kv) if kv.revision == revision && kv.key == format!("k{n:02}"))
                });
                assert!(all, "revision {revision} is not whole, or not in order");
                seen.push(revision);
            }
            assert_eq!(seen.last(), Some(&batch.revision), "a batch says where it ends");
        }
        assert_eq!(seen, revisions);
    }
}

pub(crate) async fn a_watch_sees_its_prefix_only(backend: &impl Backend) {
    let store = backend.store();
    let lease = store.grant(std::time::Duration::from_secs(60)).await.expect("a lease");
    let mut watch = store.watch("a/", Revision(0));
    commit(&store, [put("a", "no"), put("a/1", "yes"), put("a0", "no"), put("b/1", "no")]).await;
    commit(&store, [put("b/2", "no")]).await;
    let bound = Op::Put { key: "a/2".into(), value: b"yes".to_vec(), lease: Some(lease) };
    let last = commit(&store, [delete("b/1"), delete("a/1"), bound]).await;
    let mut seen = Vec::new();
    let batch = loop {
        let batch = next(&mut watch, "three events").await.expect("a batch");
        seen.extend(batch.events.iter().map(said));
        if seen.len() >= 3 {
            break batch;
        }
    };
    assert_eq!(seen, ["+a/1=yes", "-a/1", "+a/2=yes"]);
    let stored = read(&store, prefix("a/2")).await.kvs.remove(0);
    assert_eq!((batch.revision, batch.events.last()), (last, Some(&Event::Put(stored))), "with revision and lease");
}

pub(crate) async fn a_watch_goes_on_where_another_ended(backend: &impl Backend) {
    let store = backend.store();
    let writer = {
        let store = store.clone();
        tokio::spawn(async move {
            for n in 0..300 {
                commit(&store, [put(&format!("k{}", n % 7), &n.to_string()), put("other", "")]).await;
            }
        })
    };
    // A new watch for each batch: no event is lost or delivered twice between them.
    let (mut seen, mut from) = (Vec::new(), Revision(0));
    while seen.len() < 300 {
        let mut watch = store.watch("k", from);
        let batch = next(&mut watch, &format!("300 events, after {}", seen.len())).await.expect("a batch");
        seen.extend(batch.events.iter().map(said));
        from = batch.revision.next();
    }
    writer.await.expect("the writer");
    assert_eq!(seen, (0..300).map(|n| format!("+k{}={n}", n % 7)).collect::<Vec<_>>());
}

pub(crate) async fn a_compacted_watch_ends(backend: &impl Backend) {
    let store = backend.store();
    let mut revisions = Vec::new();
    for n in 0..10 {
        revisions.push(commit(&store, [put("a", &n.to_string())]).await);
    }
    backend.compact(revisions[5]).await;
    for from in [Revision(0), Revision(1), revisions[0], revisions[4]] {
        let mut watch = store.watch("a", from);
        assert_eq!(next(&mut watch, "the end of a compacted watch").await, Err(Error::Compacted), "from {from}");
        match next(&mut watch, "nothing more after the end").await {
            Err(Error::Unavailable(_)) => {}
            other => panic!("a watch that is over said {other:?}"),
        }
    }
    let mut watch = store.watch("a", revisions[6]);
    assert_eq!(events(&mut watch, 4).await, ["+a=6", "+a=7", "+a=8", "+a=9"]);
}

pub(crate) async fn an_idle_watch_survives_compaction(backend: &impl Backend) {
    let store = backend.store();
    let start = commit(&store, [put("idle/a", "1")]).await;
    let mut watch = store.watch("idle/", start);
    assert_eq!(events(&mut watch, 1).await, ["+idle/a=1"]);
    let mut last = start;
    for n in 0..20 {
        last = commit(&store, [put("busy", &n.to_string())]).await;
    }
    backend.compact(last).await;
    commit(&store, [put("idle/a", "2")]).await;
    assert_eq!(events(&mut watch, 1).await, ["+idle/a=2"], "what it missed did not concern it");
}

pub(crate) async fn a_slow_watch_misses_nothing(backend: &impl Backend) {
    let store = backend.store();
    let mut slow = store.watch("", Revision(0));
    for n in 0..150 {
        commit(&store, (0..10).map(|m| put(&format!("k/{m}"), &n.to_string())).collect::<Vec<_>>()).await;
    }
    let all: Vec<_> = (0..1500).map(|n| format!("+k/{}={}", n % 10, n / 10)).collect();
    assert_eq!(events(&mut slow, 1500).await, all);
}

pub(crate) async fn a_dropped_watch_harms_nobody(backend: &impl Backend) {
    let store = backend.store();
    let mut stays = store.watch("", Revision(0));
    for n in 0..15 {
        let (at_once, mut read) = (store.watch("", Revision(0)), store.watch("k", Revision(0)));
        drop(at_once);
        commit(&store, [put("k", &n.to_string())]).await;
        events(&mut read, 1).await;
    }
    assert_eq!(events(&mut stays, 15).await.len(), 15);
}
