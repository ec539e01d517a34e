//! Rankings in the order in which their hosts are tried. Owns that full hosts are passed over together; must never
//! leave out a host that fits.

use std::cmp::Reverse;
use std::collections::btree_set;
use std::iter::{Peekable, Rev};

use crate::model::name::MachineId;

use super::super::score::{Load, Place, Ranking, Score};
use super::rooms::{Need, Rooms};

/// In which order hosts are tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Trying {
    /// The one first of which the least is taken.
    Best,
    /// The fullest one first, of those that may have as much left.
    Fullest(Need),
}

/// The hosts of a ranking.
pub(super) enum Way<'a> {
    Best(btree_set::Iter<'a, Score>),
    Fullest(Fullest<'a>),
}

impl<'a> Way<'a> {
    pub(super) fn of(ranking: &'a Ranking, rooms: Option<&'a Rooms>, trying: &Trying) -> Self {
        match trying {
            Trying::Best => Self::Best(ranking.iter()),
            Trying::Fullest(need) => Self::Fullest(Fullest { ranking, rooms, need: need.clone(), run: None }),
        }
    }
}

/// The fullest hosts first. Places in which no host has enough left are passed over: all hosts there break
/// `Rule::Resources` for one of the units that arrive.
pub(super) struct Fullest<'a> {
    ranking: &'a Ranking,
    /// `None`: none are passed over.
    rooms: Option<&'a Rooms>,
    need: Need,
    /// The hosts of a place, or of all, and then those of the places below.
    run: Option<(Option<Place>, Rev<btree_set::Range<'a, Score>>)>,
}

impl<'a> Iterator for Fullest<'a> {
    type Item = &'a Score;

    fn next(&mut self) -> Option<&'a Score> {
        loop {
            let below = match &mut self.run {
                Some((place, run)) => match run.next() {
                    Some(score) if place.is_none_or(|place| place == score.place()) => return Some(score),
                    _ => Some((*place)?),
                },
                None => None,
            };
            let Some(rooms) = self.rooms else {
                self.run = Some((None, self.ranking.range(..).rev()));
                continue;
            };
            let place = rooms.fullest(&self.need, below)?;
            // No host has so many units, so this comes after all hosts of the place.
            let (load, host) = (Load { share: place.1, units: usize::MAX }, self.ranking.first()?.host.clone());
            let end = Score { cordoned: place.0, load, host };
            self.run = Some((Some(place), self.ranking.range(..end).rev()));
        }
    }
}

impl<'a> Iterator for Way<'a> {
    type Item = Ranked<'a>;

    fn next(&mut self) -> Option<Ranked<'a>> {
        match self {
            Self::Best(scores) => scores.next().map(Ranked::Best),
            Self::Fullest(scores) => scores.next().map(|score| Ranked::Fullest(Reverse(score))),
        }
    }
}

/// A host in the order of its ranking, the first is the smallest. All rankings that are merged have the same order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ranked<'a> {
    Best(&'a Score),
    Fullest(Reverse<&'a Score>),
}

impl<'a> Ranked<'a> {
    pub(super) fn host(self) -> &'a MachineId {
        match self {
            Self::Best(score) | Self::Fullest(Reverse(score)) => &score.host,
        }
    }
}

/// Several rankings merged into one.
pub(in super::super) struct Merge<'a>(Vec<Peekable<Way<'a>>>);

impl<'a> Merge<'a> {
    pub(super) fn of(ways: impl Iterator<Item = Way<'a>>) -> Self {
        Self(ways.map(Iterator::peekable).collect())
    }
}

impl<'a> Iterator for Merge<'a> {
    type Item = &'a MachineId;

    fn next(&mut self) -> Option<&'a MachineId> {
        let first = |(at, ranking): (usize, &mut Peekable<Way<'a>>)| ranking.peek().map(|ranked| (*ranked, at));
        let (_, at) = self.0.iter_mut().enumerate().filter_map(first).min()?;
        self.0.get_mut(at)?.next().map(Ranked::host)
    }
}
