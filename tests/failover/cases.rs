//! Single cases: a member that was set up again as a cluster of its own, a cluster that was replaced, one that was
//! restored from a backup, and answers that are late.

use std::sync::Arc;
use std::time::Duration;

use flotilla::registry::mirror::{Mirror, Update};
use flotilla::store::etcd::Etcd;
use flotilla::store::lease::Lease;
use flotilla::store::{Error, Op, Range, Revision, Store, Txn};
use futures_util::FutureExt as _;
use tokio::time::{sleep, timeout};

use crate::judge::Judge;
use crate::members::{Cluster, PREFIX, REQUEST_TIMEOUT, Simulated};

const TTL: Duration = Duration::from_secs(10);

/// The adapter over members of several clusters.
fn over<const N: usize>(members: [(&Cluster, usize); N]) -> Etcd<Simulated> {
    let members = members.map(|(cluster, node)| cluster.member(0, node)).into();
    Etcd::over(members, PREFIX, REQUEST_TIMEOUT).expect("there are members")
}

async fn put(store: &Etcd<Simulated>, key: &str, value: &str) -> Result<Revision, Error> {
    let put = Op::Put { key: key.into(), value: value.into(), lease: None };
    store.commit(Txn { guards: vec![], ops: vec![put] }).await
}

/// The values of all keys, or the error's text.
async fn values(store: &Etcd<Simulated>) -> Result<Vec<String>, String> {
    let page = store.range(Range::default()).await.map_err(|error| error.to_string())?;
    Ok(page.kvs.into_iter().map(|kv| String::from_utf8_lossy(&kv.value).into_owned()).collect())
}

/// The values that a mirror delivers next, after any number of errors.
async fn next(mirror: &mut Mirror<Etcd<Simulated>>) -> Vec<String> {
    let update = timeout(Duration::from_secs(60), async {
        loop {
            match mirror.next().await {
                Ok(update) => return update,
                Err(_) => sleep(Duration::from_millis(200)).await,
            }
        }
    });
    match update.await.expect("waited for an update for 60 s") {
        Update::Reset { kvs, .. } => {
            kvs.into_iter().map(|kv| format!("={}", String::from_utf8_lossy(&kv.value))).collect()
        }
        Update::Batch(batch) => batch.events.iter().map(|event| format!("{event:?}")).collect(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_member_of_another_cluster_is_not_used() {
    let (ours, other) = (Cluster::start(1), Cluster::start(2));
    put(&other.store(0), "k", "theirs").await.expect("a commit");
    let store = over([(&ours, 0), (&ours, 1), (&other, 2)]);
    put(&store, "k", "ours").await.expect("a commit");
    let lease = Lease::grant(&store, TTL).await.expect("a lease");
    let mut mirror = Mirror::new(store.clone(), "");
    assert_eq!(next(&mut mirror).await, ["=ours"]);

    // Only the other cluster can be reached.
    ours.kill(0);
    ours.kill(1);
    for _ in 0..10 {
        let read = values(&store).await;
        let says = read.as_ref().is_err_and(|text| text.contains("m2:2379 belongs to another cluster"));
        assert!(says, "{read:?}");
        assert!(matches!(put(&store, "k", "lost").await, Err(Error::Unavailable(_))));
        assert!(matches!(timeout(TTL, mirror.next()).await, Ok(Err(Error::Unavailable(_)))));
        assert!(lease.lost().now_or_never().is_none(), "a lease that another cluster doesn't know is not lost");
    }
    assert_eq!(values(&other.store(0)).await, Ok(vec!["theirs".into()]), "nothing was sent there");
    ours.boot(0, false);
    ours.boot(1, false);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(values(&store).await, Ok(vec!["ours".into()]));
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_was_replaced_is_listed_again() {
    let (old, new) = (Cluster::start(1), Cluster::start(2));
    for value in ["1", "2", "new"] {
        put(&new.store(0), "k", value).await.expect("a commit");
    }
    let store = over([(&old, 0), (&new, 1), (&new, 2)]);
    put(&store, "k", "old").await.expect("a commit");
    let mut mirror = Mirror::new(store.clone(), "");
    assert_eq!(next(&mut mirror).await, ["=old"]);

    // The member in use is silent, so others are tried, of which most belong to the new cluster. A change of the old
    // one, which the member delivers when it continues, must not be taken for one of the new.
    old.freeze(0, true);
    let followed = tokio::spawn(async move { (next(&mut mirror).await, mirror) });
    let older = async { while put(&old.store(1), "k", "older").await.is_err() {} };
    timeout(TTL * 3, older).await.expect("the old cluster elects another leader");
    let read = async {
        loop {
            if let Ok(values) = values(&store).await {
                return values;
            }
        }
    };
    assert_eq!(timeout(TTL, read).await.expect("an answer in time"), ["new"]);
    old.freeze(0, false);
    let (seen, mut mirror) = followed.await.expect("no panic");
    assert_eq!(seen, ["=new"]);
    put(&new.store(0), "k", "newer").await.expect("a commit");
    let seen = next(&mut mirror).await.join(" ");
    assert!(seen.contains("Put"), "{seen}");
}

#[tokio::test(start_paused = true)]
async fn a_restored_backup_is_listed_again() {
    let cluster = Cluster::start(3);
    let store = cluster.store(0);
    let kept = Lease::grant(&store, TTL).await.expect("a lease");
    put(&store, "k", "1").await.expect("a commit");
    let backup = cluster.backup();
    let lost = Lease::grant(&store, TTL).await.expect("a lease");
    put(&store, "k", "2").await.expect("a commit");
    let mut mirror = Mirror::new(store.clone(), "");
    assert_eq!(next(&mut mirror).await, ["=2"]);
    put(&store, "k", "3").await.expect("a commit");
    assert_eq!(next(&mut mirror).await.len(), 1, "it watches now");

    cluster.restore(backup);
    assert_eq!(next(&mut mirror).await, ["=1"], "a watch from a revision that doesn't exist would wait for it");
    timeout(TTL, lost.lost()).await.expect("the lease that the backup doesn't have is lost");
    assert!(timeout(TTL * 3, kept.lost()).await.is_err(), "the other one is renewed");
    assert_eq!(values(&store).await, Ok(vec!["1".into()]));
}

/// A renewal counts from when it was sent: the members count from when they received it.
#[tokio::test(start_paused = true)]
async fn a_lease_does_not_live_from_the_answer_on() {
    let (cluster, ttl) = (Cluster::start(4), Duration::from_secs(5));
    let judge = Judge::new(&cluster);
    let lease = Arc::new(Lease::grant(&cluster.store(0), ttl).await.expect("a lease"));
    judge.keeps(0, ttl, &lease);
    cluster.answers_after(Duration::from_millis(600));
    // The last renewal, after six thirds of the TTL, has been answered, and the next one isn't due.
    sleep(ttl * 2 + Duration::from_secs(1)).await;
    (0..3).for_each(|node| cluster.cut(0, node, true));
    let gone = async {
        while cluster.look(|world| world.history.leases.contains_key(&lease.id().0)) {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(ttl * 2, gone).await.expect("the lease expires");
    assert_eq!(judge.violation(), None);
}

/// One member is asked after the other was killed and a third is suspended: each answers for itself.
#[tokio::test(start_paused = true)]
async fn each_member_says_how_it_is_or_why_it_cannot_be_asked() {
    let cluster = Cluster::start(7);
    let store = over([(&cluster, 0), (&cluster, 1), (&cluster, 2)]);
    let members = store.members().await;
    let states: Vec<_> = members.iter().map(|member| member.answer.clone().expect("a state")).collect();
    assert_eq!(states.iter().map(|state| state.id).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(states.iter().all(|state| state.leader == states[0].leader && state.troubles.is_empty()), "{states:?}");
    let (killed, frozen) = ((states[0].leader % 3) as usize, ((states[0].leader + 1) % 3) as usize);
    cluster.kill(killed);
    cluster.freeze(frozen, true);
    sleep(Duration::from_secs(5)).await;
    let members = store.members().await;
    let why = |node: usize| members[node].answer.clone().expect_err("it can't answer");
    assert!(why(killed).contains("refuses connections"), "{}", why(killed));
    assert!(why(frozen).contains("does not answer within"), "{}", why(frozen));
    let left = 3 - killed - frozen;
    assert!(why(left).contains("has no leader"), "{}", why(left));
}
