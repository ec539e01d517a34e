//! Promises of the store in memory only: bounded history, the same answers in every run, and speed.

use std::time::Duration;

use flotilla::store::embedded::{Embedded, History};
use flotilla::store::{Error, Range, Revision, Store};
use tokio::time::Instant;

use crate::support::{bound, commit, events, get, next, prefix, put, read, said};

#[tokio::test(start_paused = true)]
async fn history_is_bounded_by_revisions() {
    let store = Embedded::in_memory_with(History { revisions: 10, bytes: usize::MAX });
    let mut slow = store.watch("", Revision(0));
    let mut revisions = Vec::new();
    for n in 0..100 {
        revisions.push(commit(&store, [put("k", &n.to_string())]).await);
    }
    assert_eq!(next(&mut slow, "the end of a watch that is too slow").await, Err(Error::Compacted));
    let mut watch = store.watch("", revisions[90]);
    assert_eq!(events(&mut watch, 10).await.first().map(String::as_str), Some("+k=90"));
    assert_eq!(next(&mut store.watch("", revisions[89]), "the end").await, Err(Error::Compacted));
    let at = |n: usize| Range { at: Some(revisions[n]), ..prefix("k") };
    assert_eq!(read(&store, at(89)).await.kvs[0].value, b"89");
    assert_eq!(store.range(at(88)).await, Err(Error::Compacted));
}

#[tokio::test(start_paused = true)]
async fn history_is_bounded_by_bytes() {
    let store = Embedded::in_memory_with(History { revisions: usize::MAX, bytes: 100_000 });
    let large = "x".repeat(9_000);
    let mut revisions = Vec::new();
    for n in 0..100 {
        revisions.push(commit(&store, [put("k", &format!("{n}{large}"))]).await);
    }
    let kept = |n: usize| store.range(Range { at: Some(revisions[n]), ..prefix("k") });
    assert!(kept(92).await.is_ok());
    assert_eq!(kept(80).await, Err(Error::Compacted));
    // A single revision that exceeds the limit is kept until the next one.
    let huge = "x".repeat(200_000);
    let first = commit(&store, [put("k", &huge)]).await;
    let second = commit(&store, [put("k", &huge)]).await;
    assert!(store.range(Range { at: Some(first), ..prefix("k") }).await.is_ok(), "{first} at {second}");
}

/// A watch that isn't read buffers a few batches, and delays nothing.
#[tokio::test(start_paused = true)]
async fn a_watch_nobody_reads_harms_nobody() {
    let store = Embedded::in_memory_with(History { revisions: 100, bytes: usize::MAX });
    let idle: Vec<_> = (0..10).map(|_| store.watch("", Revision(0))).collect();
    let mut reader = store.watch("", Revision(0));
    for n in 0..5_000 {
        commit(&store, [put("k", &n.to_string())]).await;
        let batch = next(&mut reader, "each revision").await.expect("it keeps up");
        assert_eq!(batch.events.iter().map(said).collect::<Vec<_>>(), [format!("+k={n}")]);
    }
    drop(idle);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_dropped_ends_its_watches() {
    let store = Embedded::in_memory();
    let mut watch = store.watch("", Revision(0));
    commit(&store, [put("k", "1")]).await;
    assert_eq!(events(&mut watch, 1).await, ["+k=1"]);
    drop(store);
    assert!(matches!(next(&mut watch, "the end").await, Err(Error::Unavailable(_))));
}

/// Exact to the millisecond, as simulations need it.
#[tokio::test(start_paused = true)]
async fn leases_end_when_they_say() {
    let store = Embedded::in_memory();
    let begun = Instant::now();
    let mut ids = Vec::new();
    for n in 1..=50u64 {
        let id = store.grant(Duration::from_millis(n * 70)).await.expect("a lease");
        commit(&store, [bound(&format!("k{n:02}"), "", id)]).await;
        ids.push(id);
    }
    let mut watch = store.watch("", read(&store, Range::default()).await.revision.next());
    for n in 1..=50u64 {
        let batch = next(&mut watch, "an expiry").await.expect("a batch");
        let at = begun.elapsed().as_millis();
        assert_eq!(batch.events.iter().map(said).collect::<Vec<_>>(), [format!("-k{n:02}")]);
        assert!(at.abs_diff(u128::from(n) * 70) <= 2, "lease {n} ended after {at} ms");
    }
    assert_eq!(ids[0].0 + 49, ids[49].0, "names are given in order");
    assert_eq!(get(&store, "k50").await, None);
}

/// The number of small commits a second; run with `--release --nocapture` to see it.
#[tokio::test(start_paused = true)]
async fn commits_are_fast() {
    let store = Embedded::in_memory();
    let mut watch = store.watch("k/0", Revision(0));
    let reader = tokio::spawn(async move {
        let mut seen = 0;
        while let Ok(batch) = watch.next().await {
            seen += batch.events.len();
        }
        seen
    });
    let begun = std::time::Instant::now();
    const COMMITS: u32 = 50_000;
    for n in 0..COMMITS {
        commit(&store, [put(&format!("k/{}", n % 1000), "a small value")]).await;
    }
    let rate = f64::from(COMMITS) / begun.elapsed().as_secs_f64();
    drop(store);
    let seen = reader.await.expect("the reader");
    println!("{rate:.0} commits a second in memory, {seen} events watched");
    assert!(seen > 0 && rate > 2_000.0, "only {rate:.0} commits a second, {seen} events");
}
