//! Watches what is announced. Owns the connection to the API and what is assumed while it is unreachable: the last
//! known state. An instance that is missing after a reconnect is kept for its TTL: its announcement may have expired
//! only because it couldn't be renewed, and its announcer, if it is alive, announces it again by then.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::{Api, REQUEST_TIMEOUT, brief};
use crate::api::client::{Client, ClientError, For, News};
use crate::api::wire::services::{InstanceView, ServiceLine};
use crate::model::service::{InstanceName, ServiceName};

/// Instances by service and name.
pub(super) type Instances = BTreeMap<(ServiceName, InstanceName), Arc<InstanceView>>;

/// The known state.
#[derive(Debug, Clone, Default)]
pub(super) struct Live {
    /// All instances.
    pub(super) instances: Arc<Instances>,
    /// Whether they have ever been received; until then, an empty list means nothing.
    pub(super) heard: bool,
    /// Why nothing can be received at present.
    pub(super) trouble: Option<String>,
}

/// Watch these services, or all if the list is empty. Ends when the receiver is dropped.
pub(super) fn follow(api: &Api, services: &[ServiceName]) -> watch::Receiver<Live> {
    let (tell, live) = watch::channel(Live::default());
    let patterns = services.iter().map(ToString::to_string).collect();
    let mut follower = Follower { api: api.clone(), patterns, tell, known: Known::default() };
    tokio::spawn(async move { follower.run().await });
    live
}

struct Follower {
    api: Api,
    patterns: Vec<String>,
    tell: watch::Sender<Live>,
    known: Known,
}

/// What was received, and what may be outdated.
#[derive(Debug, Default)]
struct Known {
    instances: Instances,
    /// Missing after a reconnect, and kept until this time.
    doubtful: BTreeMap<(ServiceName, InstanceName), Instant>,
    /// Since when the connection is broken.
    broken: Option<Instant>,
    /// The instances reported on this connection; `None` once the initial list is complete.
    listed: Option<BTreeSet<(ServiceName, InstanceName)>>,
}

impl Known {
    /// A new connection: everything is reported again. Missing instances couldn't be announced again while it was
    /// broken, so that time doesn't count.
    fn begin(&mut self, now: Instant) {
        self.listed = Some(BTreeSet::new());
        if let Some(since) = self.broken.take() {
            for until in self.doubtful.values_mut() {
                *until += now - since;
            }
        }
    }

    /// The connection has ended.
    fn end(&mut self, now: Instant) {
        self.broken.get_or_insert(now);
    }

    /// Apply a line; returns whether the list is complete and may have changed.
    fn take(&mut self, line: ServiceLine, now: Instant) -> bool {
        match line {
            ServiceLine::Instance(view) => {
                let name = (view.service.clone(), view.instance.clone());
                self.doubtful.remove(&name);
                if let Some(listed) = &mut self.listed {
                    listed.insert(name.clone());
                }
                self.instances.insert(name, Arc::new(*view));
            }
            ServiceLine::Gone(gone) => {
                let name = (gone.service, gone.instance);
                self.doubtful.remove(&name);
                self.instances.remove(&name);
            }
            ServiceLine::Synced(_) => {
                if let Some(listed) = self.listed.take() {
                    for (name, view) in self.instances.iter().filter(|(name, _)| !listed.contains(name)) {
                        let until = now + Duration::from_secs(view.is.ttl.into());
                        self.doubtful.entry(name.clone()).or_insert(until);
                    }
                }
            }
            ServiceLine::Error(_) => return false,
        }
        self.listed.is_none()
    }

    /// Remove instances that have been missing for too long; returns whether there were any.
    fn expire(&mut self, now: Instant) -> bool {
        let over: Vec<_> =
            self.doubtful.iter().filter(|(_, until)| **until <= now).map(|(name, _)| name.clone()).collect();
        for name in &over {
            tracing::info!("{} of {} has not come back", name.1, name.0);
            self.doubtful.remove(name);
            self.instances.remove(name);
        }
        !over.is_empty()
    }

    fn next_expiry(&self) -> Option<Instant> {
        if self.broken.is_some() { None } else { self.doubtful.values().min().copied() }
    }
}

impl Follower {
    async fn run(&mut self) {
        let client = self.api.client(REQUEST_TIMEOUT);
        let gone = self.tell.clone();
        tokio::select! {
            () = gone.closed() => {}
            () = self.follow(&client) => {}
        }
    }

    async fn follow(&mut self, client: &Client) {
        let mut watch = client.follow_services(&self.patterns, For::ADaemon);
        loop {
            let news = tokio::select! {
                news = watch.next() => news,
                () = until(self.known.next_expiry()) => {
                    if self.known.expire(Instant::now()) {
                        self.publish();
                    }
                    continue;
                }
            };
            match news {
                Ok(News::Begun) => self.known.begin(Instant::now()),
                Ok(News::Line(line)) => {
                    if self.known.take(line, Instant::now()) {
                        self.publish();
                    }
                }
                Ok(News::Broken) => self.known.end(Instant::now()),
                Ok(News::Lost(error)) => self.report(&error),
                // Logged by `publish`.
                Ok(News::Back) => {}
                // Never returned to a daemon.
                Err(error) => return self.report(&error),
            }
        }
    }

    fn publish(&self) {
        let instances = Arc::new(self.known.instances.clone());
        self.tell.send_modify(|live| {
            if live.trouble.take().is_some() && live.heard {
                tracing::info!("fleetd answers again");
            }
            live.instances = instances;
            live.heard = true;
        });
    }

    fn report(&self, error: &ClientError) {
        let why = brief(error);
        self.tell.send_if_modified(|live| {
            if live.trouble.as_ref() == Some(&why) {
                return false;
            }
            let last = if live.heard { "; continuing with what was announced last" } else { "" };
            tracing::warn!("{why}{last}");
            live.trouble = Some(why);
            true
        });
    }
}

/// Wait until this time; without one, wait forever.
pub(super) async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::wire::services::InstanceRef;
    use crate::model::revision::Revision;
    use crate::model::service::Instance;

    fn up(name: &str) -> ServiceLine {
        let is = Instance::new("10.0.0.1", 1);
        let view = InstanceView { service: "web".parse().unwrap(), instance: name.parse().unwrap(), is };
        ServiceLine::Instance(Box::new(view))
    }

    fn gone(name: &str) -> ServiceLine {
        ServiceLine::Gone(InstanceRef { service: "web".parse().unwrap(), instance: name.parse().unwrap() })
    }

    fn names(known: &Known) -> String {
        known.instances.keys().map(|(_, name)| name.as_str()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_vanished_in_an_outage_is_believed_for_its_ttl() {
        let (now, synced) = (Instant::now(), || ServiceLine::Synced(Revision(1)));
        let mut known = Known::default();
        known.begin(now);
        assert!(!known.take(up("a"), now), "an incomplete list is not applied");
        known.take(up("b"), now);
        known.take(up("c"), now);
        assert!(known.take(synced(), now));
        assert!(known.take(gone("c"), now), "a withdrawn instance is removed immediately");
        assert_eq!(names(&known), "a b");

        known.begin(now);
        known.take(up("b"), now);
        assert!(known.take(synced(), now));
        assert_eq!((names(&known).as_str(), known.next_expiry()), ("a b", Some(now + Duration::from_secs(10))));
        assert!(!known.expire(now + Duration::from_secs(9)));
        known.take(up("a"), now);
        assert!(!known.expire(now + Duration::from_secs(10)), "it came back");

        known.begin(now);
        known.take(synced(), now);
        known.take(gone("b"), now);
        assert!(known.expire(now + Duration::from_secs(10)));
        assert_eq!(names(&known), "");
    }

    #[test]
    fn a_second_break_doesnt_prolong_a_doubt() {
        let now = Instant::now();
        let mut known = Known::default();
        known.begin(now);
        known.take(up("a"), now);
        known.take(ServiceLine::Synced(Revision(1)), now);
        for seconds in [0, 5] {
            known.begin(now);
            known.take(ServiceLine::Synced(Revision(1)), now + Duration::from_secs(seconds));
        }
        assert_eq!(known.next_expiry(), Some(now + Duration::from_secs(10)));
        known.end(now + Duration::from_secs(6));
        assert_eq!(known.next_expiry(), None, "no announcement could be renewed meanwhile");
        known.begin(now + Duration::from_secs(9));
        assert_eq!(known.next_expiry(), Some(now + Duration::from_secs(13)));
    }
}
