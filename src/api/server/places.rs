//! Limits of what may be in progress at once on one listener: connections, requests, watches, bytes of bodies. Owns
//! which connection must give way when a limit is reached, so that neither slow clients nor many sidecars can lock out
//! an operator or Prometheus. Each listener has limits of its own. Must never know what a request asks.
//!
//! A connection without a request in progress occupies no place, whether it is idle, slow to send its head or its body,
//! or slow to read its answer. If there are too many connections, the one that has been in this state for longest is
//! closed, and the new one is served.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// The limits of one listener.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections. More than all requests and watches together, so that one can always give way.
    pub connections: usize,
    /// Requests that are being answered.
    pub requests: usize,
    /// Watches of units, as `fleetctl` has them.
    pub watches: usize,
    /// Watches of services, and of units on one host, as sidecars have them.
    pub sidecar_watches: usize,
    /// Bytes of bodies that are being received or processed.
    pub body_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 2048, requests: 256, watches: 256, sidecar_watches: 1024, body_bytes: 64 * 1024 * 1024 }
    }
}

/// Metrics that are being collected: few, and in nobody's way.
const METRICS: usize = 16;

/// How a request is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// `/metrics`.
    Metrics,
    /// An ordinary request.
    Request,
    /// A watch of units.
    Watch,
    /// A watch of a sidecar.
    SidecarWatch,
}

impl Kind {
    /// Whether it occupies its place as long as its answer, which doesn't end by itself.
    pub(super) fn is_stream(self) -> bool {
        matches!(self, Self::Watch | Self::SidecarWatch)
    }
}

/// The places of one listener.
#[derive(Debug)]
pub(super) struct Places {
    limits: Limits,
    bodies: Arc<Semaphore>,
    state: Mutex<Occupied>,
}

#[derive(Debug, Default)]
struct Occupied {
    open: usize,
    taken: BTreeMap<Kind, usize>,
    /// Connections that can be closed, oldest in this state first.
    yielding: BTreeMap<u64, CancellationToken>,
    next: u64,
}

impl Places {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        let bodies = Arc::new(Semaphore::new(limits.body_bytes.min(Semaphore::MAX_PERMITS)));
        Arc::new(Self { limits, bodies, state: Mutex::default() })
    }

    /// A connection was accepted. Another one may be closed for it.
    pub(super) fn enter(self: &Arc<Self>) -> Seat {
        let mut state = self.lock();
        if state.open >= self.limits.connections
            && let Some((_, closed)) = state.yielding.pop_first()
        {
            closed.cancel();
        }
        state.open += 1;
        let closed = CancellationToken::new();
        let key = state.offer(&closed);
        Seat(Arc::new(Connection { places: Arc::clone(self), key: Mutex::new(key), closed }))
    }

    fn most(&self, kind: Kind) -> usize {
        match kind {
            Kind::Metrics => METRICS,
            Kind::Request => self.limits.requests,
            Kind::Watch => self.limits.watches,
            Kind::SidecarWatch => self.limits.sidecar_watches,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Occupied> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Occupied {
    fn offer(&mut self, closed: &CancellationToken) -> u64 {
        self.next += 1;
        self.yielding.insert(self.next, closed.clone());
        self.next
    }
}

/// One connection.
#[derive(Debug, Clone)]
pub(super) struct Seat(Arc<Connection>);

#[derive(Debug)]
struct Connection {
    places: Arc<Places>,
    /// Its position among those that can be closed, if it is one.
    key: Mutex<u64>,
    closed: CancellationToken,
}

impl Seat {
    /// Resolves when the connection must give way.
    pub(super) async fn closed(&self) {
        self.0.closed.cancelled().await;
    }

    /// A place for a request, or, if there is none, the message for the client.
    pub(super) fn take(&self, kind: Kind) -> Result<Place, String> {
        let Connection { places, key, .. } = &*self.0;
        let most = places.most(kind);
        let mut state = places.lock();
        let taken = state.taken.entry(kind).or_default();
        if *taken >= most {
            let what = match kind {
                Kind::Metrics => "collections of metrics are under way",
                Kind::Request => "requests are under way",
                Kind::Watch => "watches of units are open",
                Kind::SidecarWatch => "watches of sidecars are open",
            };
            return Err(format!("{taken} {what} on this socket, and more are not possible; try again later"));
        }
        *taken += 1;
        let key = *key.lock().unwrap_or_else(PoisonError::into_inner);
        state.yielding.remove(&key);
        Ok(Place { seat: self.clone(), kind })
    }

    /// Room for `bytes` more of a body, added to `held`; `false` if there is none.
    pub(super) fn hold(&self, held: &mut Option<OwnedSemaphorePermit>, bytes: usize) -> bool {
        let Ok(count) = u32::try_from(bytes) else { return false };
        let Ok(more) = Arc::clone(&self.0.places.bodies).try_acquire_many_owned(count) else { return false };
        match held {
            Some(held) => held.merge(more),
            None => *held = Some(more),
        }
        true
    }

    /// The message if there is no room for a body.
    pub(super) fn no_room(&self) -> String {
        let most = self.0.places.limits.body_bytes;
        format!("the bodies of requests under way take all of the {most} bytes there are for them; try again later")
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let key = *self.key.get_mut().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.places.lock();
        state.open -= 1;
        state.yielding.remove(&key);
    }
}

/// A request's place, held until it is dropped: meanwhile its connection can't be closed for another one.
#[derive(Debug)]
pub(super) struct Place {
    seat: Seat,
    kind: Kind,
}

impl Drop for Place {
    fn drop(&mut self) {
        let Connection { places, key, closed } = &*self.seat.0;
        let mut state = places.lock();
        if let Some(taken) = state.taken.get_mut(&self.kind) {
            *taken -= 1;
        }
        *key.lock().unwrap_or_else(PoisonError::into_inner) = state.offer(closed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Arc<Places> {
        Places::new(Limits { connections: 4, requests: 1, watches: 1, sidecar_watches: 1, body_bytes: 100 })
    }

    #[test]
    fn the_connection_that_has_done_nothing_for_longest_gives_way() {
        let places = places();
        let seats: Vec<Seat> = (0..4).map(|_| places.enter()).collect();
        let busy = seats[0].take(Kind::Request).unwrap();
        let closed = |seats: &[Seat]| seats.iter().map(|seat| seat.0.closed.is_cancelled()).collect::<Vec<_>>();
        assert_eq!(closed(&seats), [false; 4]);
        let fifth = places.enter();
        assert_eq!(closed(&seats), [false, true, false, false]);
        // What has been served is the last to go; the other one is gone by now.
        drop(busy);
        drop(fifth);
        let _sixth = places.enter();
        assert_eq!(closed(&seats), [false, true, true, false]);
        drop(seats);
        let state = places.lock();
        assert_eq!((state.open, state.yielding.len()), (1, 1));
    }

    #[test]
    fn each_kind_has_places_of_its_own() {
        let places = places();
        let (one, other) = (places.enter(), places.enter());
        let kinds = [Kind::Metrics, Kind::Request, Kind::Watch, Kind::SidecarWatch];
        let taken: Vec<Place> = kinds.into_iter().map(|kind| one.take(kind).unwrap()).collect();
        for kind in [Kind::Request, Kind::Watch, Kind::SidecarWatch] {
            let why = other.take(kind).unwrap_err();
            assert!(why.starts_with("1 ") && why.ends_with("try again later"), "{why}");
        }
        assert!(other.take(Kind::Metrics).is_ok());
        drop(taken);
        assert!(other.take(Kind::Request).is_ok());
    }

    #[test]
    fn bodies_share_their_bytes() {
        let places = places();
        let (one, other) = (places.enter(), places.enter());
        let (mut held, mut more) = (None, None);
        assert!(one.hold(&mut held, 60) && one.hold(&mut held, 30));
        assert!(!other.hold(&mut more, 20) && other.hold(&mut more, 10));
        drop(held);
        assert!(other.hold(&mut more, 90) && !other.hold(&mut more, 1));
    }
}
