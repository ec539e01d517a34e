//! What is free on hosts that are equally full, in a cluster that packs units. Owns that no host has more free than is
//! known here, so that full hosts needn't be looked at one by one; must never decide whether a unit fits.

use std::collections::BTreeMap;

use crate::model::cluster::Cluster;
use crate::model::name::MachineId;
use crate::model::resources::{Kind, Resources};
use crate::model::settings::Order;

use super::super::super::fit::resources::{offered, share_of};
use super::super::score::Place;

/// What is free on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Free {
    amount: Resources,
    /// Of this, the smaller share is free.
    scarce: Kind,
}

impl Free {
    /// What is free of a host of which so much is taken; `None` if the cluster doesn't pack units.
    pub(super) fn of(cluster: &Cluster, host: &MachineId, taken: Resources) -> Option<Self> {
        if cluster.settings.order() == Order::Spread {
            return None;
        }
        let [memory, cpu] = Kind::ALL.map(|kind| offered(cluster, host, kind).saturating_sub(taken.of(kind)));
        let scarce = Kind::ALL.into_iter().max_by_key(|kind| share_of(cluster, host, *kind, taken));
        Some(Self { amount: Resources { memory, cpu }, scarce: scarce.unwrap_or(Kind::Memory) })
    }
}

/// What units need that arrive together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in super::super) struct Need {
    /// At least so much, on hosts that have none of them.
    pub(in super::super) amount: Resources,
    /// Where the hosts are that have some of them.
    pub(in super::super) there: Vec<Place>,
}

/// The hosts by their place in the rankings, and by what is scarce on them: where there is little memory, there may be
/// much CPU, and the other way round.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in super::super) struct Rooms(BTreeMap<(Place, Kind), Room>);

/// How many hosts have so much free, of each kind.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Room([BTreeMap<u64, usize>; 2]);

impl Rooms {
    /// A host has this place and so much free, or no longer.
    pub(super) fn changed(&mut self, place: Place, Free { amount, scarce }: Free, comes: bool) {
        let room = self.0.entry((place, scarce)).or_default();
        for (hosts, kind) in room.0.iter_mut().zip(Kind::ALL) {
            let count = hosts.entry(amount.of(kind)).or_default();
            *count = if comes { *count + 1 } else { count.saturating_sub(1) };
            if *count == 0 {
                hosts.remove(&amount.of(kind));
            }
        }
        if room.0[0].is_empty() {
            self.0.remove(&(place, scarce));
        }
    }

    /// The fullest place below this one, or of all, with a host that may have enough.
    pub(super) fn fullest(&self, need: &Need, below: Option<Place>) -> Option<Place> {
        let places = match below {
            Some(place) => self.0.range(..(place, Kind::ALL[0])),
            None => self.0.range(..),
        };
        let may_have = |((place, _), room): &(&(Place, Kind), &Room)| need.there.contains(place) || room.may_have(need);
        places.rev().find(may_have).map(|((place, _), _)| *place)
    }

    /// Whether no host is known.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a host that has this place and so much free is known.
    pub(super) fn has(&self, place: Place, free: Free) -> bool {
        let need = Need { amount: free.amount, there: Vec::new() };
        self.0.get(&(place, free.scarce)).is_some_and(|room| room.may_have(&need))
    }
}

impl Room {
    /// Whether there may be a host with so much free: of each kind, one of them has.
    fn may_have(&self, need: &Need) -> bool {
        let most = |hosts: &BTreeMap<u64, usize>| hosts.last_key_value().map_or(0, |(free, _)| *free);
        self.0.iter().zip(Kind::ALL).all(|(hosts, kind)| most(hosts) >= need.amount.of(kind))
    }
}
