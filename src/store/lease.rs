//! A lease that renews itself, on any store.
//!
//! Owns when a lease is renewed and when it counts as lost: only when the store says so. Silence must never be taken
//! for a loss: an unreachable store comes back, and its leases with it. A user that must stop before its lease can have
//! expired has to compare the time itself.

use std::future::Future;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{Error, LeaseId, Store};

/// A lease that is renewed until it is dropped, revoked or lost. Dropping it doesn't end it: its keys stay for its TTL,
/// and [`Lease::adopt`] can continue it.
#[derive(Debug)]
pub struct Lease<S: Store> {
    store: S,
    id: LeaseId,
    life: watch::Receiver<Life>,
    keeper: AbortHandle,
}

/// The state of a lease, as far as it is known.
#[derive(Debug, Clone, Copy)]
struct Life {
    /// The store has reported that it has ended.
    lost: bool,
    /// The last renewal failed.
    failing: bool,
    /// When it can expire at the earliest: one TTL after the last successful renewal was sent.
    until: Instant,
}

impl<S: Store> Lease<S> {
    /// A new lease of at least `ttl`. Must be called within a runtime: it is renewed by a task.
    ///
    /// # Errors
    /// As [`Store::grant`].
    pub async fn grant(store: &S, ttl: Duration) -> Result<Self, Error> {
        let asked = Instant::now();
        let id = store.grant(ttl).await?;
        Ok(Self::keep(store, id, ttl, asked))
    }

    /// Continue a lease that was granted earlier, perhaps by another process. The store determines whether it is still
    /// alive and its TTL. `ttl` is the presumed TTL: the store has a third of it to answer.
    ///
    /// # Errors
    /// `LeaseLost` if it has ended; `Unavailable` if the store can't tell: retry.
    pub async fn adopt(store: &S, id: LeaseId, ttl: Duration) -> Result<Self, Error> {
        let asked = Instant::now();
        let ttl = attempt(store, id, ttl).await?;
        Ok(Self::keep(store, id, ttl, asked))
    }

    fn keep(store: &S, id: LeaseId, ttl: Duration, asked: Instant) -> Self {
        let (tell, life) = watch::channel(Life { lost: false, failing: false, until: asked + ttl });
        let keeper = tokio::spawn(keep(store.clone(), id, ttl, asked, tell)).abort_handle();
        Self { store: store.clone(), id, life, keeper }
    }

    /// The id, for binding keys.
    #[must_use]
    pub fn id(&self) -> LeaseId {
        self.id
    }

    /// Resolves when the lease is lost; never if it is dropped or revoked before. Cancel-safe; any number may wait.
    pub fn lost(&self) -> impl Future<Output = ()> + Send + use<S> {
        self.until_life(|life| life.lost)
    }

    /// Resolves while renewals fail because the store is unreachable. Cancel-safe. For a loop that makes no requests of
    /// its own, this is the first sign of an outage.
    pub fn failing(&self) -> impl Future<Output = ()> + Send + use<S> {
        self.until_life(|life| life.failing)
    }

    /// Resolves when the lease was renewed to live longer than `until`, so the store answers again. Cancel-safe.
    pub fn renewed_beyond(&self, until: Instant) -> impl Future<Output = ()> + Send + use<S> {
        self.until_life(move |life| !life.failing && life.until > until)
    }

    /// How long the lease lives, each time it was renewed.
    #[must_use]
    pub fn renewals(&self) -> Renewals {
        Renewals { life: self.life.clone() }
    }

    fn until_life<F>(&self, is: F) -> impl Future<Output = ()> + Send + use<S, F>
    where
        F: Fn(&Life) -> bool + Send + Sync,
    {
        let mut life = self.life.clone();
        async move {
            if life.wait_for(|life| is(life)).await.is_err() {
                // It isn't renewed any more, so the condition can never be met.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Until when the lease certainly lives. Later it may have expired unnoticed, and its keys may belong to another
    /// owner.
    #[must_use]
    pub fn lives_until(&self) -> Instant {
        self.life.borrow().until
    }

    /// End the lease, and delete its keys.
    ///
    /// # Errors
    /// `Unavailable`: it then expires by itself, after its TTL.
    pub async fn revoke(self) -> Result<(), Error> {
        // Before the revocation: otherwise the task could find the lease ended and report it as lost.
        self.keeper.abort();
        self.store.revoke(self.id).await
    }
}

/// How long a lease lives, each time it was renewed. Independent of the lease: it doesn't renew it.
#[derive(Debug, Clone)]
pub struct Renewals {
    life: watch::Receiver<Life>,
}

impl Renewals {
    /// Until when the lease certainly lives, once that is later than `known`; never, if it isn't renewed any more.
    /// Cancel-safe.
    pub async fn beyond(&mut self, known: Option<Instant>) -> Instant {
        let until = self.life.wait_for(|life| Some(life.until) > known).await.ok().map(|life| life.until);
        match until {
            Some(until) => until,
            None => std::future::pending().await,
        }
    }
}

impl<S: Store> Drop for Lease<S> {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

/// Renew after every third of the TTL, counted from when the last renewal was *sent*: the store may have renewed the
/// lease then, however late its answer came.
async fn keep<S: Store>(store: S, id: LeaseId, mut ttl: Duration, mut asked: Instant, life: watch::Sender<Life>) {
    loop {
        sleep_until(asked + ttl / 3).await;
        // At most a tenth of the TTL between attempts, so that the lease is renewed soon after the store comes back.
        let (mut pause, longest) = (ttl / 80, ttl / 10);
        let mut failing = false;
        loop {
            asked = Instant::now();
            match attempt(&store, id, ttl).await {
                Ok(now) => {
                    ttl = now;
                    life.send_modify(|life| (life.until, life.failing) = (asked + ttl, false));
                    break;
                }
                Err(Error::LeaseLost) => {
                    tracing::warn!(lease = id.0, "lease lost");
                    life.send_modify(|life| life.lost = true);
                    return;
                }
                Err(error) => {
                    if !failing {
                        tracing::warn!(lease = id.0, %error, "the lease can't be renewed; retrying");
                        failing = true;
                        life.send_modify(|life| life.failing = true);
                    }
                    sleep(pause).await;
                    pause = (pause * 2).min(longest);
                }
            }
        }
        if failing {
            tracing::info!(lease = id.0, "the lease is renewed again");
        }
    }
}

/// One keep-alive, which times out early enough for the next one.
async fn attempt<S: Store>(store: &S, id: LeaseId, ttl: Duration) -> Result<Duration, Error> {
    timeout(ttl / 3, store.keep_alive(id, ttl / 3))
        .await
        .unwrap_or_else(|_| Err(Error::Unavailable(format!("no answer to a keep-alive within {:?}", ttl / 3))))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use futures_util::FutureExt as _;

    use super::*;
    use crate::store::embedded::Embedded;
    use crate::store::{Page, Range, Revision, Txn, Watch};

    const TTL: Duration = Duration::from_secs(12);

    /// The outcome of a keep-alive.
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Weather {
        Fine,
        /// It fails at once.
        Away,
        /// It is never answered.
        Silent,
    }

    /// A store whose keep-alives can be made to fail, and which records when they were sent.
    #[derive(Clone)]
    struct Flaky {
        store: Embedded,
        weather: Arc<Mutex<(Weather, Vec<Instant>)>>,
    }

    impl Flaky {
        fn new() -> Self {
            Self { store: Embedded::in_memory(), weather: Arc::new(Mutex::new((Weather::Fine, Vec::new()))) }
        }

        fn set(&self, weather: Weather) {
            *self.weather.lock().unwrap() = (weather, Vec::new());
        }

        fn tried(&self) -> Vec<Instant> {
            self.weather.lock().unwrap().1.clone()
        }
    }

    impl Store for Flaky {
        async fn range(&self, range: Range) -> Result<Page, Error> {
            self.store.range(range).await
        }

        async fn commit(&self, txn: Txn) -> Result<Revision, Error> {
            self.store.commit(txn).await
        }

        fn watch(&self, prefix: &str, from: Revision) -> Watch {
            self.store.watch(prefix, from)
        }

        async fn grant(&self, ttl: Duration) -> Result<LeaseId, Error> {
            self.store.grant(ttl).await
        }

        async fn keep_alive(&self, lease: LeaseId, within: Duration) -> Result<Duration, Error> {
            let weather = {
                let mut weather = self.weather.lock().unwrap();
                weather.1.push(Instant::now());
                weather.0
            };
            match weather {
                Weather::Fine => self.store.keep_alive(lease, within).await,
                Weather::Away => Err(Error::Unavailable("away".into())),
                Weather::Silent => std::future::pending().await,
            }
        }

        async fn revoke(&self, lease: LeaseId) -> Result<(), Error> {
            self.store.revoke(lease).await
        }
    }

    fn is_lost(lease: &Lease<Flaky>) -> bool {
        lease.lost().now_or_never().is_some()
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_renewed_at_every_third() {
        let store = Flaky::new();
        let begun = Instant::now();
        let lease = Lease::grant(&store, TTL).await.unwrap();
        sleep(TTL * 10 + TTL / 6).await;
        let tried: Vec<u64> = store.tried().iter().map(|at| (*at - begun).as_millis() as u64 / 100).collect();
        assert_eq!(tried, (1..=30).map(|n| n * 40).collect::<Vec<_>>(), "in tenths of a second");
        assert!(!is_lost(&lease));
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_is_away_is_no_loss() {
        let store = Flaky::new();
        let lease = Lease::grant(&store, TTL).await.unwrap();
        for weather in [Weather::Away, Weather::Silent] {
            store.set(weather);
            sleep(TTL / 2).await;
            let tried = store.tried();
            let longest = tried.windows(2).map(|two| two[1] - two[0]).max();
            assert!(longest.is_none_or(|longest| longest <= TTL / 2), "{weather:?}: {longest:?} between attempts");
            store.set(Weather::Fine);
            sleep(TTL / 2).await;
            assert!(!is_lost(&lease) && store.store.keep_alive(lease.id(), TTL).await.is_ok(), "{weather:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_go_on_well_under_a_third() {
        let store = Flaky::new();
        let lease = Lease::grant(&store, TTL).await.unwrap();
        store.set(Weather::Away);
        sleep(TTL * 20).await;
        let tried = store.tried();
        assert!(tried.windows(2).all(|two| two[1] - two[0] <= TTL / 10), "{tried:?}");
        assert!(!is_lost(&lease), "only the store can say that");
        store.set(Weather::Fine);
        timeout(TTL / 10, lease.lost()).await.expect("and says so as soon as it is back");
    }

    #[tokio::test(start_paused = true)]
    async fn revoking_is_no_loss() {
        let store = Flaky::new();
        let lease = Lease::grant(&store, TTL).await.unwrap();
        let lost = lease.lost();
        lease.revoke().await.unwrap();
        assert!(timeout(TTL * 10, lost).await.is_err());
        assert_eq!(store.tried().len(), 0, "it is not kept alive any more");
    }
}
