//! All members of a rollout in brief: how many there are of each kind, and, in order, those that a decision may name.
//! Owns that this follows from the members alone, whatever the order in which they came and went; a change of one
//! member costs the same whether there are ten or thousands. Must never decide anything.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::model::name::{MachineId, UnitName};
use crate::model::rollout::MemberName;

use super::seen::Timed;
use super::{Member, MemberState};

/// What members are counted for. *Own* are those that are no spares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Count {
    /// Own.
    Own,
    /// Own, the hosts of a global unit.
    Hosts,
    /// Own, on a host that loses it with the new file.
    Leaves,
    /// Own, on no host.
    Unplaced,
    /// Own, waited for, without the new file, or not healthy with it for long enough.
    Unfinished,
    /// Own, waited for, without the new file.
    Waiting,
    /// Own, waited for, and not healthy.
    Unwell,
    /// Own, not back at the files before in all of its units.
    Through,
    /// The same, and neither healthy nor going on.
    ThroughUnwell,
    /// Own, waited for, and never healthy for long enough.
    Unserved,
    /// With the new file.
    Ungated,
    /// The same, and waited for.
    Present,
    /// Waited for, with the new file, and healthy for long enough.
    Passed,
    /// With the new file, and healthy for long enough, waited for or not.
    Proven,
    /// Own that are waited for, and spares that serve.
    Placed,
    /// Of these, those that serve, apart from those under way to the new file.
    Serving,
    /// The same with own that go on, apart from those under way back.
    ServingBack,
    /// Own, waited for, with the new file, and not healthy for long enough.
    UnderWay,
    /// Own, waited for, back at the file before, and not healthy for long enough.
    UnderWayBack,
}

const COUNTS: usize = Count::UnderWayBack as usize + 1;

/// Where a member is among all: first those that are no spares, by their names, then the spares by their numbers.
type Place = (bool, Option<u32>, MemberName);

fn place(member: &Member) -> Place {
    (member.spare, member.spare.then(|| member.name.number()).flatten(), member.name.clone())
}

/// When it is a member's turn among those that serve as well or as badly: those that have new files in part come first,
/// and then the highest number, since the first member is often the primary, and `scale` takes the same end. The hosts
/// of a global unit are ordered by their ids.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Order(bool, Reverse<(Option<u32>, UnitName)>, Option<MachineId>);

impl Order {
    fn of(member: &Member) -> Self {
        let MemberName { unit, host } = &member.name;
        Self(!member.partly, Reverse((unit.number(), unit.clone())), host.clone())
    }

    pub(super) fn name(&self) -> MemberName {
        let Self(_, Reverse((_, unit)), host) = self;
        MemberName { unit: unit.clone(), host: host.clone() }
    }
}

/// Members in the order of their turns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Turns {
    /// Those that don't serve, and have a host: a file that repairs them must reach them.
    pub(super) unwell: BTreeSet<Order>,
    /// Those that have no host.
    pub(super) unplaced: BTreeSet<Order>,
    /// Those that serve.
    pub(super) well: BTreeSet<Order>,
}

/// The members in brief.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Summary {
    counts: [usize; COUNTS],
    /// Those with the new file that have failed.
    failed: BTreeSet<Place>,
    /// Own, back at the file before, that have failed.
    failed_back: BTreeSet<Place>,
    /// Those that aren't waited for because their hosts are silent.
    silent: BTreeSet<Place>,
    spares: BTreeSet<Place>,
    /// Those with the new file that haven't been healthy for long enough.
    unproven: BTreeSet<Place>,
    /// Since when those are healthy that have the new file and are waited for, and how many since then.
    since: BTreeMap<Option<u64>, usize>,
    /// Own without the new file that can be let through, and of them those whose hosts lose them: these come last.
    next: [Turns; 2],
    /// Own that aren't back yet.
    through: Turns,
}

impl Summary {
    pub(super) fn count(&self, what: Count) -> usize {
        self.counts[what as usize]
    }

    /// Whether there are any.
    pub(super) fn has(&self, what: Count) -> bool {
        self.count(what) > 0
    }

    /// The first member with the new file that has failed.
    pub(super) fn failed(&self) -> Option<&MemberName> {
        self.failed.first().map(|(.., name)| name)
    }

    /// The first member that has failed with the file before, to which it went back.
    pub(super) fn failed_back(&self) -> Option<&MemberName> {
        self.failed_back.first().map(|(.., name)| name)
    }

    /// The first member that isn't waited for because its host is silent.
    pub(super) fn silent(&self) -> Option<&MemberName> {
        self.silent.first().map(|(.., name)| name)
    }

    /// The spares, in the order of their numbers.
    pub(super) fn spares(&self) -> impl Iterator<Item = &MemberName> {
        self.spares.iter().map(|(.., name)| name)
    }

    /// Those with the new file that haven't been healthy for long enough.
    pub(super) fn unproven(&self) -> impl ExactSizeIterator<Item = &MemberName> {
        self.unproven.iter().map(|(.., name)| name)
    }

    /// Since when all members are healthy that have the new file and are waited for. `None` if one isn't, or there are
    /// none.
    pub(super) fn all_healthy_since(&self) -> Option<u64> {
        self.since.keys().next().copied()??;
        self.since.keys().next_back().copied()?
    }

    /// The members that can be let through, of which those whose hosts lose them with the new file, or the others.
    pub(super) fn next(&self, leaves: bool) -> &Turns {
        &self.next[usize::from(leaves)]
    }

    /// The members that aren't back yet.
    pub(super) fn through(&self) -> &Turns {
        &self.through
    }

    /// There is this member, of which this follows.
    pub(super) fn add(&mut self, member: &Member, timed: &Timed) {
        counts_of(member, timed).for_each(|count| self.counts[count as usize] += 1);
        for (set, _) in self.places(member, timed).into_iter().filter(|(_, is_in)| *is_in) {
            set.insert(place(member));
        }
        if is_present(member, timed) {
            *self.since.entry(timed.healthy_since).or_default() += 1;
        }
        for turns in self.turns(member, timed) {
            turns.insert(Order::of(member));
        }
    }

    /// There is no longer a member of which this follows, and which was added as it is here.
    pub(super) fn remove(&mut self, member: &Member, timed: &Timed) {
        counts_of(member, timed).for_each(|count| self.counts[count as usize] -= 1);
        for (set, _) in self.places(member, timed).into_iter().filter(|(_, is_in)| *is_in) {
            set.remove(&place(member));
        }
        if is_present(member, timed)
            && let Some(count) = self.since.get_mut(&timed.healthy_since)
        {
            *count -= 1;
            if *count == 0 {
                self.since.remove(&timed.healthy_since);
            }
        }
        for turns in self.turns(member, timed) {
            turns.remove(&Order::of(member));
        }
    }

    fn places(&mut self, member: &Member, timed: &Timed) -> [(&mut BTreeSet<Place>, bool); 5] {
        let has_failed = timed.has_failed(member);
        [
            (&mut self.failed, has_failed && !member.gated),
            (&mut self.failed_back, has_failed && !member.spare && member.is_back()),
            (&mut self.silent, timed.is_silent),
            (&mut self.spares, member.spare),
            (&mut self.unproven, !member.gated && !timed.has_passed),
        ]
    }

    /// Where the member waits for its turns. Of one whose host has yet to say anything, nothing is known, and the new
    /// file is nothing for one whose host is gone. One that only lacks a unit has others that serve: it goes back when
    /// it counts as they do, so that a new leader doesn't stop more of these at once than the one before would have.
    fn turns(&mut self, member: &Member, timed: &Timed) -> impl Iterator<Item = &mut BTreeSet<Order>> {
        let is_own = !member.spare;
        let through = if member.serves() { &mut self.through.well } else { &mut self.through.unwell };
        let next = &mut self.next[usize::from(member.leaves)];
        let next = match member.state {
            MemberState::Healthy => Some(&mut next.well),
            MemberState::Unplaced => Some(&mut next.unplaced),
            MemberState::Assigned(None) | MemberState::Away | MemberState::FitsNowhere => None,
            MemberState::Assigned(Some(_)) | MemberState::Pending(_) | MemberState::Failed(_) => Some(&mut next.unwell),
        };
        let through = Some(through).filter(|_| is_own && !member.is_back() && !timed.is_incomplete);
        through.into_iter().chain(next.filter(|_| is_own && member.gated))
    }
}

fn is_present(member: &Member, timed: &Timed) -> bool {
    !member.gated && !timed.is_nowhere
}

/// What a member is counted for.
fn counts_of(member: &Member, timed: &Timed) -> impl Iterator<Item = Count> {
    let (is_own, gated, is_back) = (!member.spare, member.gated, member.is_back());
    let (is_well, has_passed, waited_for) = (member.state == MemberState::Healthy, timed.has_passed, !timed.is_nowhere);
    let is_here = is_own && waited_for;
    let (under_way, under_way_back) = (is_here && !gated && !has_passed, is_here && is_back && !has_passed);
    let serves = waited_for && is_well && (is_own || has_passed);
    let goes_on = is_here && member.goes_on;
    [
        (Count::Own, is_own),
        (Count::Hosts, is_own && member.name.host.is_some()),
        (Count::Leaves, is_own && member.leaves),
        (Count::Unplaced, is_own && member.state == MemberState::Unplaced),
        (Count::Unfinished, is_here && (gated || !has_passed)),
        (Count::Waiting, is_here && gated),
        (Count::Unwell, is_here && !is_well),
        (Count::Through, is_own && !is_back),
        (Count::ThroughUnwell, is_own && !is_back && !member.serves()),
        (Count::Unserved, is_here && !has_passed),
        (Count::Ungated, !gated),
        (Count::Present, is_present(member, timed)),
        (Count::Passed, is_present(member, timed) && has_passed),
        (Count::Proven, !gated && has_passed),
        (Count::Placed, if is_own { is_here } else { serves }),
        (Count::Serving, serves && !under_way),
        (Count::ServingBack, (serves || goes_on) && !under_way_back),
        (Count::UnderWay, under_way),
        (Count::UnderWayBack, under_way_back),
    ]
    .into_iter()
    .filter_map(|(count, is_so)| is_so.then_some(count))
}
