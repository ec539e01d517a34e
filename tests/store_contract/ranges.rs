//! Ranges: pages, order, past revisions.

use flotilla::store::{Error, Kv, Op, Range, Revision, Store};

use crate::support::{Backend, commit, delete, prefix, put, read, read_all, texts};

/// Puts `count` keys `k/0000`…, 100 to a commit.
async fn fill<S: Store>(store: &S, count: usize) {
    let all: Vec<Op> = (0..count).map(|n| put(&format!("k/{n:04}"), "old")).collect();
    for some in all.chunks(100) {
        commit(store, some).await;
    }
}

pub(crate) async fn pages_are_one_revision(backend: &impl Backend) {
    let store = backend.store();
    commit(&store, [put("j", "before"), put("l", "behind")]).await;
    fill(&store, 1203).await;

    for limit in [0, 100] {
        let (expected, now) = read_all(&store, prefix("k/")).await;
        let mut seen: Vec<Kv> = Vec::new();
        let mut range = Range { limit, ..prefix("k/") };
        let mut pages = 0;
        loop {
            let page = read(&store, range.clone()).await;
            assert_eq!(page.revision, now, "every page shows the revision asked for");
            assert!(limit == 0 || page.kvs.len() <= limit, "{} keys of {limit}", page.kvs.len());
            seen.extend(page.kvs);
            pages += 1;
            if !page.more {
                break;
            }
            range.after = Some(seen.last().expect("keys").key.clone());
            range.at = Some(page.revision);
            // Changes beyond the next page: one key changed, one deleted, one new. And the same before this page.
            let (ahead, behind) = (seen.len() + 20, seen.len() - 20);
            let changes = [
                put(&format!("k/{ahead:04}"), "new"),
                delete(&format!("k/{:04}", ahead + 1)),
                put(&format!("k/{ahead:04}+"), "new"),
                put(&format!("k/{behind:04}"), "new"),
                delete(&format!("k/{:04}", behind + 1)),
                put(&format!("k/{behind:04}+"), "new"),
            ];
            commit(&store, changes).await;
        }
        assert!(pages > 1, "{} keys came in one page", seen.len());
        assert_eq!(seen, expected, "what happened between the pages is not in them");
    }

    let exact = read(&store, Range { limit: 2, ..prefix("l") }).await;
    assert!(exact.kvs.len() == 1 && !exact.more);
    let page = read(&store, Range { limit: 1, ..prefix("") }).await;
    assert_eq!((texts(&page.kvs), page.more), (vec![("j".into(), "before".into())], true));
    let last = read(&store, Range { after: Some("l".into()), ..prefix("") }).await;
    assert!(last.kvs.is_empty() && !last.more, "nothing is behind the last");
}

pub(crate) async fn ranges_are_in_byte_order(backend: &impl Backend) {
    let store = backend.store();
    let keys = ["a", "a\u{0}", "a/", "a/b", "a0", "b", "z", "é", "\u{10ffff}"];
    commit(&store, keys.iter().rev().map(|key| put(key, "")).collect::<Vec<_>>()).await;
    let names = |page: flotilla::store::Page| page.kvs.into_iter().map(|kv| kv.key).collect::<Vec<_>>();

    assert_eq!(names(read(&store, prefix("")).await), keys);
    assert_eq!(names(read(&store, prefix("a")).await), keys[..5]);
    assert_eq!(names(read(&store, prefix("a/")).await), ["a/", "a/b"]);
    assert_eq!(names(read(&store, prefix("\u{10ffff}")).await), ["\u{10ffff}"]);
    assert_eq!(names(read(&store, prefix("nothing")).await), [""; 0]);
    let after = |after: &str, of: &str| Range { after: Some(after.into()), ..prefix(of) };
    assert_eq!(names(read(&store, after("a/", "")).await), keys[3..]);
    assert_eq!(names(read(&store, after("a/", "a")).await), keys[3..5]);
    assert_eq!(names(read(&store, after("A", "b")).await), ["b"], "before the prefix: all of it");
    assert_eq!(names(read(&store, after("c", "a")).await), [""; 0], "behind the prefix: none of it");
}

pub(crate) async fn large_ranges_are_cut(backend: &impl Backend) {
    let store = backend.store();
    for n in 0..14 {
        commit(&store, [Op::Put { key: format!("large/{n:02}"), value: vec![n; 600_000], lease: None }]).await;
    }
    for limit in [0, 5, 1000] {
        let (kvs, _) = read_all(&store, Range { limit, ..prefix("large/") }).await;
        let seen: Vec<_> = kvs.iter().map(|kv| (kv.value[0], kv.value.len())).collect();
        assert_eq!(seen, (0..14).map(|n| (n, 600_000)).collect::<Vec<_>>());
    }
}

pub(crate) async fn the_past_can_be_read(backend: &impl Backend) {
    let store = backend.store();
    let mut expected: Vec<(Revision, Vec<(String, String)>)> = Vec::new();
    for n in 0..30u8 {
        let key = format!("p/{}", n * 7 % 10);
        let change = if n % 3 == 2 { delete(&key) } else { put(&key, &n.to_string()) };
        let revision = commit(&store, [change, put("q", &n.to_string())]).await;
        expected.push((revision, texts(&read(&store, prefix("p/")).await.kvs)));
    }
    for (revision, then) in &expected {
        let page = read(&store, Range { at: Some(*revision), ..prefix("p/") }).await;
        assert_eq!((page.revision, &texts(&page.kvs)), (*revision, then));
        assert!(page.kvs.iter().all(|kv| kv.revision <= *revision), "nothing is younger than its page: {page:?}");
        let paged = read_all(&store, Range { at: Some(*revision), limit: 2, ..prefix("p/") }).await;
        assert_eq!((texts(&paged.0), paged.1), (then.clone(), *revision));
    }
    let future = Range { at: Some(Revision(1_000_000)), ..prefix("p/") };
    match store.range(future).await {
        Err(Error::Refused(_)) => {}
        other => panic!("the future was read: {other:?}"),
    }
}

pub(crate) async fn the_compacted_past_can_not(backend: &impl Backend) {
    let store = backend.store();
    let mut revisions = Vec::new();
    for n in 0..10 {
        revisions.push(commit(&store, [put("a", &n.to_string()), put(&format!("n/{n}"), "")]).await);
    }
    backend.compact(revisions[5]).await;
    for (n, revision) in revisions.iter().enumerate() {
        let page = store.range(Range { at: Some(*revision), ..prefix("a") }).await;
        match n {
            0..5 => assert_eq!(page, Err(Error::Compacted), "at {n}"),
            _ => assert_eq!(texts(&page.expect("kept").kvs), [("a".into(), n.to_string())]),
        }
    }
    let all = read(&store, prefix("n/")).await;
    assert_eq!(all.kvs.len(), 10, "compaction takes history, not keys");
}
