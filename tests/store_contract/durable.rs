//! Promises of the store on disk only: no answered commit is ever lost.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use flotilla::store::embedded::{Embedded, History, OpenError};
use flotilla::store::{Error, Guard, Range, Revision, Store, Txn};

use crate::support::{PATIENCE, bound, commit, delete, events, get, next, prefix, put, read, read_all, texts, until};

const CHILD: &str = "FLOTILLA_TEST_STORE_CHILD";

fn folder() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("store");
    (dir, path)
}

async fn open(path: &Path) -> Embedded {
    Embedded::open(path).await.unwrap_or_else(|error| panic!("{error}"))
}

#[tokio::test]
async fn reopening_keeps_everything() {
    let (_dir, path) = folder();
    let store = open(&path).await;
    let lease = store.grant(Duration::from_secs(3)).await.expect("a lease");
    let mut revisions = Vec::new();
    for n in 0..20 {
        let changes = [put("a", &n.to_string()), put(&format!("n/{n}"), ""), delete(&format!("n/{}", n - 2))];
        revisions.push(commit(&store, changes).await);
    }
    revisions.push(commit(&store, [bound("mine", "1", lease)]).await);
    store.compact(revisions[4]).await.expect("compaction");
    let (before, revision) = read_all(&store, Range::default()).await;
    let mut all = store.watch("", revisions[5]);
    let history = events(&mut all, 15 * 3 + 1).await;
    drop((all, store));

    let store = open(&path).await;
    assert_eq!(read_all(&store, Range::default()).await, (before, revision), "every key, value, revision and lease");
    for (n, revision) in revisions.iter().enumerate().take(20).skip(4) {
        let then = read(&store, Range { at: Some(*revision), ..prefix("") }).await;
        let mut expected = vec![("a".into(), n.to_string())];
        expected.extend([n - 1, n].map(|n| (format!("n/{n}"), String::new())));
        expected.sort();
        assert_eq!(texts(&then.kvs), expected, "as it was {n} commits in");
    }
    let old = Range { at: Some(revisions[3]), ..prefix("") };
    assert_eq!(store.range(old).await, Err(Error::Compacted), "what was compacted stays so");
    assert_eq!(next(&mut store.watch("", revisions[3]), "the end").await, Err(Error::Compacted));
    let mut all = store.watch("", revisions[5]);
    assert_eq!(events(&mut all, history.len()).await, history, "the history too");
    assert_eq!(commit(&store, [put("a", "new")]).await, revision.next(), "revisions go on");
    assert_eq!(events(&mut all, 1).await, ["+a=new"]);

    // The lease still exists, has its whole TTL again, and then expires.
    assert!(store.grant(Duration::from_secs(3)).await.expect("a lease") > lease, "names are not given twice");
    let granted = Instant::now();
    store.keep_alive(lease, PATIENCE).await.expect("it survived");
    until("the lease to run out after all", async || {
        let kv = get(&store, "mine").await;
        (kv.is_none(), format!("{kv:?}"))
    })
    .await;
    assert!(granted.elapsed() >= Duration::from_secs(3));
}

#[tokio::test]
async fn leases_run_out_after_reopening() {
    let (_dir, path) = folder();
    let store = open(&path).await;
    let lease = store.grant(Duration::from_millis(800)).await.expect("a lease");
    let revision = commit(&store, [bound("mine", "1", lease)]).await;
    drop(store);
    let store = open(&path).await;
    assert!(get(&store, "mine").await.is_some(), "it has its whole TTL again after the time without a store");
    let mut watch = store.watch("", revision.next());
    assert_eq!(events(&mut watch, 1).await, ["-mine"]);
    drop((watch, store));
    let store = open(&path).await;
    assert_eq!(get(&store, "mine").await, None);
    assert_eq!(store.keep_alive(lease, PATIENCE).await, Err(Error::LeaseLost));
}

#[tokio::test]
async fn history_on_disk_is_bounded_too() {
    let (_dir, path) = folder();
    let history = History { revisions: 50, bytes: usize::MAX };
    let store = Embedded::open_with(&path, history).await.expect("a new store");
    let value = "x".repeat(30_000);
    for n in 0..300 {
        commit(&store, [put("k", &format!("{n}{value}"))]).await;
    }
    drop(store);
    let size = std::fs::metadata(&path).expect("the file").len();
    assert!(size < 6_000_000, "9 MB were written over one key, and {size} bytes are kept");
    let store = Embedded::open_with(&path, history).await.expect("the same store");
    let now = read(&store, prefix("k")).await.revision;
    assert!(store.range(Range { at: Some(Revision(now.0 - 49)), ..prefix("k") }).await.is_ok());
    assert_eq!(store.range(Range { at: Some(Revision(now.0 - 51)), ..prefix("k") }).await, Err(Error::Compacted));
}

#[tokio::test]
async fn a_second_opener_is_told_so() {
    let (_dir, path) = folder();
    let store = open(&path).await;
    match Embedded::open(&path).await {
        Err(error @ OpenError::Locked(_)) => {
            assert_eq!(error.to_string(), format!("the store `{}` is in use by another process", path.display()));
        }
        other => panic!("a second opener got {other:?}"),
    }
    commit(&store, [put("a", "1")]).await;
    drop(store);
    assert!(get(&open(&path).await, "a").await.is_some(), "closed, it can be opened at once");
}

#[tokio::test]
async fn what_is_no_store_is_told_so() {
    let (dir, path) = folder();
    for content in [vec![b'x'; 100_000], b"hello".to_vec()] {
        std::fs::write(&path, &content).expect("a file");
        match Embedded::open(&path).await {
            Err(error @ OpenError::Corrupt { .. }) => {
                assert!(error.to_string().contains("store` is damaged"), "{error}")
            }
            other => panic!("{} bytes of something else: {other:?}", content.len()),
        }
        assert!(std::fs::read(&path).expect("the file") == content, "it was left as it is");
    }
    match Embedded::open(&dir.path().join("nowhere/store")).await {
        Err(error @ OpenError::Io { .. }) => assert!(error.to_string().contains("No such file"), "{error}"),
        other => panic!("no such folder: {other:?}"),
    }
}

#[tokio::test]
async fn commits_share_their_syncs() {
    let (_dir, path) = folder();
    let store = open(&path).await;
    let begun = Instant::now();
    const ALONE: u32 = 100;
    for n in 0..ALONE {
        commit(&store, [put(&format!("a/{n}"), &"x".repeat(1000)), put("b", &"x".repeat(1000))]).await;
    }
    let alone = begun.elapsed() / ALONE;
    let begun = Instant::now();
    const TOGETHER: u32 = 2000;
    let all: Vec<_> = (0..TOGETHER)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move {
                let txn = Txn { guards: vec![Guard::Absent(format!("c/{n}"))], ops: vec![put(&format!("c/{n}"), "1")] };
                store.commit(txn).await
            })
        })
        .collect();
    let mut revisions = Vec::new();
    for one in all {
        revisions.push(one.await.expect("no panic").expect("a commit"));
    }
    let together = begun.elapsed() / TOGETHER;
    println!("durable: {alone:?} per commit of 2 × 1 KB alone, {together:?} among many");
    revisions.sort();
    revisions.dedup();
    assert_eq!(revisions.len(), TOGETHER as usize, "each is a revision of its own");
}

/// The child process of the test below; does nothing by itself. Writes as fast as it can, and prints each
/// acknowledged commit.
#[tokio::test]
async fn child() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    let store = open(Path::new(&path)).await;
    let first: u64 = read_all(&store, prefix("n/")).await.0.len() as u64;
    let mut out = std::io::stdout();
    for n in first.. {
        let value = format!("{n}").repeat(100);
        commit(&store, [put(&format!("n/{n:08}"), &value), put("last", &n.to_string())]).await;
        writeln!(out, "acknowledged {n}").and_then(|()| out.flush()).expect("the parent listens");
    }
}

#[tokio::test]
async fn kill_9_loses_nothing_acknowledged() {
    let (_dir, path) = folder();
    let mut expected = 0;
    for round in 0..5 {
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["durable_only::child", "--exact", "--nocapture"])
            .env(CHILD, &path)
            .stdout(Stdio::piped())
            .spawn()
            .expect("a child");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let mut last = None;
        let mut note = |line: std::io::Result<String>| {
            let number = line.ok()?.split("acknowledged ").nth(1)?.trim().parse::<u64>().ok()?;
            last = Some(number);
            Some(number)
        };
        let goal = expected + 60 + round * 17;
        for line in lines.by_ref() {
            if note(line).is_some_and(|number| number >= goal) {
                break;
            }
        }
        child.kill().expect("SIGKILL");
        child.wait().expect("its end");
        lines.for_each(|line| _ = note(line));
        let last = last.expect("something was acknowledged");
        assert!(last >= goal, "the child ended by itself after {last}");

        let store = open(&path).await;
        let (kvs, _) = read_all(&store, prefix("n/")).await;
        let numbers: Vec<u64> = kvs.iter().filter_map(|kv| kv.key[2..].parse().ok()).collect();
        let count = numbers.len() as u64;
        assert_eq!(numbers, (0..count).collect::<Vec<_>>(), "no gaps");
        assert!(count > last, "{last} was acknowledged, but only {count} are there");
        let newest = get(&store, "last").await.expect("it was written with each");
        assert_eq!(newest.value, (count - 1).to_string().into_bytes(), "both or none");
        expected = count;
    }
}
