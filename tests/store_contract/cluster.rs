//! Promises of the etcd adapter only: a member that dies, hangs or is restarted causes only short delays.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use flotilla::store::etcd::{Etcd, Options};
use flotilla::store::lease::Lease;
use flotilla::store::{Error, Guard, Op, Range, Revision, Store, Txn, Watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::port::Port;
use crate::server::{Cluster, Single, Worst};
use crate::support::{Backend, PATIENCE, bound, commit, events, get, is_lost, next, prefix, put, read, said, until};

/// Follows a prefix as a caller does: opens a new watch where the last one ended. Counts the watches.
fn follow(store: &Etcd, of: &'static str, count: usize) -> (Arc<AtomicUsize>, JoinHandle<Vec<String>>) {
    let (store, ends) = (store.clone(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&ends);
    let task = tokio::spawn(async move {
        let (mut seen, mut from) = (Vec::new(), Revision(0));
        let mut watch: Watch = store.watch(of, from);
        while seen.len() < count {
            match watch.next().await {
                Ok(batch) => {
                    seen.extend(batch.events.iter().map(said));
                    from = batch.revision.next();
                }
                Err(Error::Unavailable(_)) => {
                    counted.fetch_add(1, Ordering::Relaxed);
                    sleep(Duration::from_millis(50)).await;
                    watch = store.watch(of, from);
                }
                Err(error) => panic!("the watch ended with {error:?}"),
            }
        }
        seen
    });
    (ends, task)
}

/// 200 reads and guarded commits, a watch and a lease, while the member in use is killed: the leader if `leads`.
async fn one_of_three_dies(leads: bool) -> String {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let victim = if leads { leader } else { (leader + 1) % 3 };
    let mut endpoints = cluster.options().endpoints;
    endpoints.rotate_left(victim);
    let store = Etcd::new(&Options { endpoints, ..Options::default() }).expect("options that work");

    let lease = Lease::grant(&store, Duration::from_secs(5)).await.expect("a lease");
    commit(&store, [bound("mine", "", lease.id())]).await;
    let (ends, watching) = follow(&store, "n/", 200);

    let (mut unknown, mut read_worst, mut commit_worst) = (Vec::new(), Worst::default(), Worst::default());
    for n in 0..200 {
        if n == 50 {
            cluster.members[victim].kill();
        }
        let key = format!("n/{n:03}");
        let begun = Instant::now();
        loop {
            let txn = Txn { guards: vec![Guard::Absent(key.clone())], ops: vec![put(&key, "1")] };
            match store.commit(txn).await {
                Ok(_) => break,
                Err(Error::Unavailable(why)) => unknown.push(why),
                // The commit with the unknown outcome had been carried out.
                Err(Error::Conflict) if !unknown.is_empty() => break,
                Err(error) => panic!("commit {n}: {error:?}"),
            }
        }
        commit_worst.note(begun.elapsed());
        let begun = Instant::now();
        let page = store.range(prefix(&key)).await.unwrap_or_else(|error| panic!("read {n} failed: {error}"));
        assert_eq!(page.kvs.len(), 1, "what was committed can be read");
        read_worst.note(begun.elapsed());
        sleep(Duration::from_millis(10)).await;
    }
    let figures = format!(
        "{} unknown commits {unknown:?}, worst commit {:?}, worst read {:?}, watch ended {} times",
        unknown.len(),
        commit_worst.0,
        read_worst.0,
        ends.load(Ordering::Relaxed)
    );
    assert!(unknown.len() <= 3, "commits were answered with {unknown:?}");
    let seen = timeout(PATIENCE, watching).await.expect("200 events").expect("no panic");
    assert_eq!(seen, (0..200).map(|n| format!("+n/{n:03}=1")).collect::<Vec<_>>(), "the watch missed nothing");
    sleep(Duration::from_secs(2)).await;
    assert!(!is_lost(&lease), "the lease went on");
    assert!(get(&store, "mine").await.is_some());

    // The dead member returns, and the one in use now dies, so the first one is used again.
    cluster.members[victim].start();
    cluster.answers(victim).await;
    cluster.members[(victim + 1) % 3].kill();
    for n in 0..20 {
        store.range(prefix("n/")).await.unwrap_or_else(|error| panic!("read {n} after the second death: {error}"));
    }
    figures
}

#[tokio::test]
async fn a_follower_dies() {
    println!("a follower dies: {}", one_of_three_dies(false).await);
}

#[tokio::test]
async fn the_leader_dies() {
    println!("the leader dies: {}", one_of_three_dies(true).await);
}

#[tokio::test]
async fn two_of_three_die() {
    let mut cluster = Cluster::start(3).await;
    let store = cluster.store();
    let revision = commit(&store, [put("a", "1")]).await;
    let mut watch = store.watch("", revision.next());
    cluster.members[1].kill();
    cluster.members[2].kill();
    until("all to notice that there is no quorum", async || {
        let answer = store.commit(Txn { guards: vec![], ops: vec![put("a", "2")] }).await;
        (matches!(&answer, Err(Error::Unavailable(why)) if why.contains("no quorum")), format!("{answer:?}"))
    })
    .await;
    match next(&mut watch, "the watch to end without a leader").await {
        Err(Error::Unavailable(why)) => println!("watch without a quorum: {why}"),
        other => panic!("a watch without a quorum said {other:?}"),
    }
    cluster.members[1].start();
    cluster.members[2].start();
    until("the cluster to be back", async || {
        let answer = store.commit(Txn { guards: vec![], ops: vec![put("b", "3")] }).await;
        (answer.is_ok(), format!("{answer:?}"))
    })
    .await;
}

#[tokio::test]
async fn a_restarted_server_is_found_again() {
    let mut single = Single::start().await;
    let store = single.store();
    let lease = Lease::grant(&store, Duration::from_secs(5)).await.expect("a lease");
    let revision = commit(&store, [bound("mine", "", lease.id())]).await;
    let (ends, watching) = follow(&store, "n/", 2);
    commit(&store, [put("n/1", "1")]).await;
    single.cluster.members[0].kill();
    sleep(Duration::from_millis(200)).await;
    let begun = Instant::now();
    match store.range(Range::default()).await {
        Err(Error::Unavailable(why)) => {
            assert_eq!(why, format!("etcd at {} refuses connections", single.cluster.members[0].address()));
        }
        other => panic!("a dead server answered {other:?}"),
    }
    assert!(begun.elapsed() < Duration::from_secs(1), "refusals are no reason to wait, but {:?}", begun.elapsed());
    sleep(Duration::from_secs(3)).await;
    single.cluster.members[0].start();
    until("the store to be back", async || {
        let answer = store.commit(Txn { guards: vec![Guard::Absent("n/2".into())], ops: vec![put("n/2", "1")] }).await;
        (matches!(answer, Ok(_) | Err(Error::Conflict)), format!("{answer:?}"))
    })
    .await;
    let seen = timeout(PATIENCE, watching).await.expect("the watch goes on").expect("no panic");
    assert_eq!(seen, ["+n/1=1", "+n/2=1"]);
    assert!(ends.load(Ordering::Relaxed) > 0, "the watch said that it had ended");
    assert!(!is_lost(&lease), "a server that was away is no lost lease");
    assert_eq!(get(&store, "mine").await.map(|kv| kv.revision), Some(revision));
}

/// Slow: pings are 10 s apart, and etcd refuses more frequent ones.
#[tokio::test]
async fn a_server_that_hangs_is_noticed() {
    let single = Single::start().await;
    let store = single.store();
    let revision = commit(&store, [put("a", "1")]).await;
    let mut watch = store.watch("", revision);
    assert_eq!(events(&mut watch, 1).await, ["+a=1"]);
    single.cluster.members[0].freeze().await;
    let address = single.cluster.members[0].address();

    let begun = Instant::now();
    let (answer, (ended, silent)) = tokio::join!(store.range(Range::default()), async {
        let ended = timeout(Duration::from_secs(18), watch.next()).await;
        (ended, begun.elapsed())
    });
    println!("hanging server: request {answer:?}, watch {ended:?} after {silent:?}");
    assert_eq!(answer, Err(Error::Unavailable(format!("etcd at {address} does not answer within 2 s"))));
    match ended {
        Ok(Err(Error::Unavailable(_))) => {}
        other => panic!("after {silent:?} a watch on a hanging server said {other:?}"),
    }
    single.cluster.members[0].thaw();
    until("the server to answer again", async || {
        let answer = store.range(Range::default()).await;
        (answer.is_ok(), format!("{answer:?}"))
    })
    .await;
    let mut watch = store.watch("", revision.next());
    commit(&store, [put("a", "2")]).await;
    assert_eq!(events(&mut watch, 1).await, ["+a=2"]);
}

#[tokio::test]
async fn a_dead_endpoint_is_passed_over() {
    let single = Single::start().await;
    let dead = Port::reserve();
    let endpoints = vec![dead.address().to_string(), single.cluster.members[0].address()];
    let store = Etcd::new(&Options { endpoints, ..Options::default() }).expect("options that work");
    // The very first request is a commit. It is retried, because it was never sent.
    let revision = commit(&store, [put("a", "1")]).await;
    let mut watch = store.watch("", revision);
    assert_eq!(events(&mut watch, 1).await, ["+a=1"]);
    for _ in 0..50 {
        store.range(Range::default()).await.expect("a read");
    }
}

/// A listener that accepts connections and never answers, like a frozen member.
#[tokio::test]
async fn a_silent_member_costs_no_lease() {
    const TTL: Duration = Duration::from_secs(3);
    let single = Single::start().await;
    let lease = single.store().grant(TTL).await.expect("a lease");
    commit(&single.store(), [bound("mine", "", lease)]).await;

    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = silent.local_addr().expect("its number").to_string();
    // A request may take longer than the time for a renewal.
    let request_timeout = Duration::from_secs(5);
    let endpoints = vec![address, single.cluster.members[0].address()];
    let store = Etcd::new(&Options { endpoints, request_timeout, ..Options::default() }).expect("options that work");
    let adopted = Lease::adopt(&store, lease, TTL).await.expect("the other member is asked in time");
    sleep(TTL * 2).await;
    assert!(get(&single.store(), "mine").await.is_some(), "the lease was kept");
    adopted.revoke().await.expect("revoked");
}

#[tokio::test]
async fn keys_of_others_are_not_seen() {
    let single = Single::start().await;
    let mut client = single.cluster.client(0).await;
    let ours = |prefix: &str| {
        Etcd::new(&Options { prefix: prefix.into(), ..single.cluster.options() }).expect("options that work")
    };
    let (one, two) = (ours("/one/"), ours("/two/"));
    let mut watch = one.watch("", Revision(0));
    commit(&one, [put("a", "1")]).await;
    commit(&two, [put("a", "2"), put("b", "2")]).await;
    client.put("/one0", "x", None).await.expect("a put");
    // Keys that aren't UTF-8 are skipped in ranges, even if they fill whole pages, and in watches.
    for n in 0..3u8 {
        client.put([b"/one/b", &[0xff, n][..]].concat(), "x", None).await.expect("a put");
    }
    commit(&one, [put("c", "3")]).await;
    assert_eq!(events(&mut watch, 2).await, ["+a=1", "+c=3"]);
    assert_eq!(client.get("/one/a", None).await.expect("a get").kvs()[0].value(), b"1");
    let page = read(&one, Range { after: Some("a".into()), limit: 1, ..Range::default() }).await;
    assert_eq!((page.kvs[0].key.as_str(), page.more), ("c", false), "a page of skipped keys is no page");

    let whole = ours("");
    let all = read(&whole, Range::default()).await;
    assert_eq!(
        all.kvs.iter().map(|kv| &*kv.key).collect::<Vec<_>>(),
        ["/one/a", "/one/c", "/one0", "/two/a", "/two/b"]
    );
}

#[tokio::test]
async fn users_are_let_in_and_kept_out() {
    let single = Single::start().await;
    let mut root = single.cluster.client(0).await;
    root.user_add("root", "secret", None).await.expect("root");
    root.role_add("root").await.expect("its role");
    root.user_grant_role("root", "root").await.expect("granted");
    root.user_add("guest", "guest", None).await.expect("a guest without a role");
    root.auth_enable().await.expect("authentication");

    let ask = async |user: Option<(&str, &str)>| {
        let user = user.map(|(name, password)| (name.to_owned(), password.to_owned()));
        let store = Etcd::new(&Options { user, ..single.cluster.options() }).expect("options that work");
        (store.range(Range::default()).await.map(drop), store)
    };
    let refused = |why: &str| Err(Error::Refused(why.into()));
    assert_eq!(ask(None).await.0, refused("etcd requires a user name and a password"));
    assert_eq!(ask(Some(("root", "wrong"))).await.0, refused("etcd does not accept the user name or the password"));
    assert_eq!(ask(Some(("guest", "guest"))).await.0, refused("etcd does not permit this user to do that"));
    let (answer, store) = ask(Some(("root", "secret"))).await;
    assert_eq!(answer, Ok(()));
    let version = store.version().await.expect("a version");
    assert!(version.starts_with("3.") && version.split('.').all(|part| part.parse::<u32>().is_ok()), "{version}");
    let mut watch = store.watch("", Revision(0));
    let lease = store.grant(Duration::from_secs(60)).await.expect("a lease");
    let op = Op::Put { key: "a".into(), value: b"1".to_vec(), lease: Some(lease) };
    commit(&store, [op]).await;
    store.keep_alive(lease, PATIENCE).await.expect("alive");
    assert_eq!(events(&mut watch, 1).await, ["+a=1"]);
    let mut guest = ask(Some(("guest", "guest"))).await.1.watch("", Revision(0));
    assert!(matches!(next(&mut guest, "a refusal").await, Err(Error::Refused(_))), "watching isn't permitted either");
    let debug = format!("{:?}", Options { user: Some(("root".into(), "secret".into())), ..Options::default() });
    assert!(!debug.contains("secret"), "{debug}");
}

#[tokio::test]
async fn options_that_can_not_work_are_refused() {
    let with = |endpoints: &[&str], ca: Option<&str>| {
        let endpoints = endpoints.iter().map(ToString::to_string).collect();
        Etcd::new(&Options { endpoints, ca: ca.map(Into::into), ..Options::default() }).map(drop)
    };
    assert_eq!(with(&["127.0.0.1:2379", "http://localhost:2379"], None), Ok(()));
    let no_file = Some("/nonexistent/ca.pem");
    for (endpoints, ca, says) in [
        (&[][..], None, "no etcd endpoint"),
        (&["ftp://host:1"][..], None, "http:// or https://"),
        (&["http://bad host"][..], None, "is invalid"),
        (&["https://host:2379"][..], None, "needs a CA certificate"),
        (&["host:2379"][..], no_file, "`/nonexistent/ca.pem` can't be read"),
    ] {
        match with(endpoints, ca) {
            Err(Error::Refused(why)) if why.contains(says) => {}
            other => panic!("{endpoints:?} with {ca:?}: {other:?}"),
        }
    }
}
