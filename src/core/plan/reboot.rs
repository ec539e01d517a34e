//! When a host may reboot: whose turn it is, and what comes next of a reboot that a person has asked for, or a program
//! on the host. Pure. Must never know time, nor how a host is rebooted.
//!
//! A host that is to reboot takes a slot and is drained, reboots once nothing is left on it that another host could
//! run, takes its units back, and gives up its slot. If a program has asked, it reboots the host, and says when the
//! host is back.

use std::collections::BTreeMap;

use super::drain::Verdict;
use crate::model::cluster::Cluster;
use crate::model::maintenance::Maintenance;
use crate::model::name::{MachineId, UnitName};
use crate::model::reboot::{Group, Holder, Reboots};
use crate::model::revision::Revision;

/// Whether a host may take a slot now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// It may.
    Now,
    /// Others have all slots.
    Full,
    /// This one is to take it first.
    After(MachineId),
}

/// Whether `host` may take one of `slots`: those that people have asked for come first, in their order. One of them
/// that isn't registered waits until it is back, and holds nobody up.
#[must_use]
pub fn turn(all: &Reboots, host: &MachineId, slots: usize, is_registered: impl Fn(&MachineId) -> bool) -> Turn {
    if all.holders.len() >= slots {
        return Turn::Full;
    }
    match before(all, host).find(|other| is_registered(other)) {
        Some(other) => Turn::After(other.clone()),
        None => Turn::Now,
    }
}

/// The hosts that come before `host` if it waits; otherwise all that wait.
pub fn before<'a>(all: &'a Reboots, host: &MachineId) -> impl Iterator<Item = &'a MachineId> {
    all.queue.iter().map(|request| &request.host).take_while(move |other| *other != host)
}

/// What comes next of a reboot that a person has asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing is asked of the host, or it isn't this daemon's to go on with.
    Nothing,
    /// It waits for its turn.
    Take,
    /// Nothing is left to do: the host gives up its slot, or waits no more.
    Release(Release),
    /// Units leave the host; when they have, it reboots.
    Reboot,
    /// Units leave the host; when they have, its program may reboot it.
    Permit,
    /// It is back, and takes its units back.
    BringBack,
    /// Its units are coming back; when they are there, it gives up its slot.
    Settle,
}

/// Why a host gives up its slot, or waits no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// It has rebooted while it waited.
    RebootedBefore,
    /// A person has undrained it before its reboot was begun.
    Undrained,
    /// It is back, and so are its units.
    Done,
}

/// What a host knows of its present boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Boot<'a> {
    /// The kernel's name for it. A container may have that of the machine that it is on, which goes on running.
    pub id: &'a str,
    /// The request for which a reboot was begun in this boot, by its generation.
    pub begun: Option<Revision>,
}

/// What comes next for `host`, of which `asked` is asked.
#[must_use]
pub fn next(all: &Reboots, (host, boot): (&MachineId, Boot<'_>), asked: &Maintenance) -> Step {
    if let Some(request) = all.queued(host) {
        let is_same = request.boot == boot.id;
        return if is_same { Step::Take } else { Step::Release(Release::RebootedBefore) };
    }
    let Some(Holder { request, down, back, .. }) = all.holder(host) else { return Step::Nothing };
    if *back {
        return if asked.restore.is_some() { Step::Settle } else { Step::Release(Release::Done) };
    }
    let Some(request) = request else {
        return match (down, &asked.drain) {
            // It may go down at any moment, whatever is asked of the host now: the slot is kept until it is back.
            (true, _) => Step::Nothing,
            (false, None) => Step::Release(Release::Undrained),
            (false, Some(_)) => Step::Permit,
        };
    };
    let has_rebooted = request.boot != boot.id || *down && boot.begun != Some(request.generation);
    match &asked.drain {
        _ if has_rebooted => Step::BringBack,
        None => Step::Release(Release::Undrained),
        Some(_) => Step::Reboot,
    }
}

/// Whether the leader knows what `host` has: it is registered, and isn't remembered as gone any more. To one that comes
/// back, the leader has yet to assign again what can run nowhere else.
#[must_use]
pub fn is_seen(cluster: &Cluster, host: &MachineId) -> bool {
    let is_gone = cluster.roster.get(host).is_some_and(|known| known.value.gone.is_some());
    cluster.machines.contains_key(host) && !is_gone
}

/// What is left on a host that is drained for its reboot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Left {
    /// Nothing that a reboot could do without: global units, and those that belong to the host.
    Nothing,
    /// Units leave, or could.
    Leaving,
    /// These fit no other host.
    Stuck(Vec<UnitName>),
}

/// What is left, by what becomes of the units on the host.
#[must_use]
pub fn left(verdicts: &BTreeMap<UnitName, Verdict>) -> Left {
    if !is_settled(verdicts) {
        return Left::Leaving;
    }
    let stays = |verdict: &Verdict| matches!(verdict, Verdict::Stays(_) | Verdict::Tied(_));
    let stuck: Vec<UnitName> =
        verdicts.iter().filter(|(_, verdict)| stays(verdict)).map(|(unit, _)| unit.clone()).collect();
    if stuck.is_empty() { Left::Nothing } else { Left::Stuck(stuck) }
}

/// Whether nothing more leaves a host, or comes back to it, by what becomes of the units that are to.
#[must_use]
pub fn is_settled(verdicts: &BTreeMap<UnitName, Verdict>) -> bool {
    !verdicts.values().any(|verdict| matches!(verdict, Verdict::Leaves | Verdict::Leaving | Verdict::Waits(_)))
}

/// How far a host has got, for a program on it that asks whether it may reboot the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It has no slot, and a person hasn't asked for its reboot.
    Outside,
    /// A person has asked for its reboot, which comes by itself.
    Asked,
    /// It has a slot, and its units leave.
    Leaves,
    /// The same, but it can't go on, for this reason.
    Stuck(String),
    /// It has a slot of this group, and a person has undrained it since its program was told that it may reboot it.
    Undrained(Group),
    /// Its program may reboot it.
    Granted,
    /// It is back, and its units are coming back.
    Returns,
}

/// How far `host` has got, of which `asked` is asked. It has one slot at most, whatever the groups are that its program
/// names.
#[must_use]
pub fn standing(groups: &[(Group, Reboots)], host: &MachineId, asked: &Maintenance) -> Standing {
    let held = groups.iter().find_map(|(group, all)| Some((group, all.holder(host)?)));
    let is_queued = groups.iter().any(|(_, all)| all.queued(host).is_some());
    match held {
        Some((_, Holder { request: Some(_), .. })) => Standing::Asked,
        Some((_, Holder { back: true, .. })) => Standing::Returns,
        Some((group, Holder { down: true, .. })) if asked.drain.is_none() => Standing::Undrained(group.clone()),
        Some((_, Holder { down: true, .. })) => Standing::Granted,
        Some((_, Holder { error, .. })) if !error.is_empty() => Standing::Stuck(error.clone()),
        Some(_) => Standing::Leaves,
        None if is_queued => Standing::Asked,
        None => Standing::Outside,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::maintenance::Restore;
    use crate::model::reboot::Request;
    use crate::plan::drain::Wait;

    fn id(number: u8) -> MachineId {
        format!("{number:032x}").parse().unwrap()
    }

    /// Of the n-th host, in its first boot.
    fn request(number: u8) -> Request {
        let (boot, generation) = ("first".into(), Revision(3));
        let (parallel, deadline, force, why, by) = (10, 60, false, String::new(), None);
        Request { host: id(number), boot, generation, since: 1, parallel, deadline, force, why, by }
    }

    fn reboots(holders: &[u8], queue: &[u8]) -> Reboots {
        let holders = holders.iter().map(|number| Holder::of(request(*number), 2)).collect();
        Reboots { holders, queue: queue.iter().map(|number| request(*number)).collect() }
    }

    #[test]
    fn slots_go_in_the_order_of_the_requests_and_hosts_that_are_away_hold_nobody_up() {
        for (holders, queue, slots, away, expected) in [
            (&[][..], &[1, 2][..], 1, &[][..], Turn::After(id(1))),
            (&[], &[1, 2], 1, &[1], Turn::Now),
            (&[], &[2, 1], 1, &[], Turn::Now),
            (&[1], &[2], 1, &[], Turn::Full),
            // Its holder is away: it keeps the slot.
            (&[1], &[2], 1, &[1], Turn::Full),
            (&[1], &[2], 2, &[], Turn::Now),
            (&[1], &[3, 2], 2, &[], Turn::After(id(3))),
            // It has asked by itself: whom people have asked comes first.
            (&[], &[1], 1, &[], Turn::After(id(1))),
            (&[], &[], 1, &[], Turn::Now),
            (&[], &[], 0, &[], Turn::Full),
        ] {
            let is_registered = |host: &MachineId| !away.iter().any(|number| id(*number) == *host);
            let found = turn(&reboots(holders, queue), &id(2), slots, is_registered);
            assert_eq!(found, expected, "{holders:?} {queue:?} {slots} {away:?}");
        }
    }

    #[test]
    fn a_reboot_goes_on_step_by_step() {
        let drain = |reboot| {
            let drain = request(2).drain(None, (5, Revision(7)));
            Maintenance { drain: Some(Box::new(crate::model::maintenance::Drain { reboot, ..drain })), ..none() }
        };
        let restore = Restore { generation: Revision(9), drain: Revision(7), parallel: 10, by: None };
        let back = Maintenance { restore: Some(Box::new(restore)), ..none() };
        let (queued, held, others) = (reboots(&[1], &[2]), reboots(&[2], &[]), reboots(&[1], &[3]));
        let with = |change: fn(&mut Holder)| {
            let mut all = held.clone();
            change(&mut all.holders[0]);
            all
        };
        let (begun, returned) = (with(|holder| holder.down = true), with(|holder| holder.back = true));
        let program = with(|holder| holder.request = None);
        let permitted = with(|holder| (holder.request, holder.down) = (None, true));
        let programs_back = with(|holder| (holder.request, holder.down, holder.back) = (None, true, true));
        let (first, second) = (Boot { id: "first", begun: None }, Boot { id: "second", begun: None });
        let noted = Boot { begun: Some(Revision(3)), ..first };
        for (all, boot, asked, expected) in [
            (&others, first, none(), Step::Nothing),
            (&queued, first, none(), Step::Take),
            (&queued, second, none(), Step::Release(Release::RebootedBefore)),
            (&held, first, drain(true), Step::Reboot),
            (&held, first, drain(false), Step::Reboot),
            (&held, first, none(), Step::Release(Release::Undrained)),
            (&held, second, drain(true), Step::BringBack),
            // It is begun again until it has happened, which a container can't tell by the kernel's boot.
            (&begun, noted, drain(true), Step::Reboot),
            (&begun, first, drain(true), Step::BringBack),
            (&returned, second, back.clone(), Step::Settle),
            (&returned, first, back.clone(), Step::Settle),
            // A person drains it, and goes on doing so.
            (&held, second, drain(false), Step::BringBack),
            (&returned, second, drain(false), Step::Release(Release::Done)),
            (&returned, second, none(), Step::Release(Release::Done)),
            // A program has asked, which says when it is back.
            (&program, first, drain(true), Step::Permit),
            (&program, second, drain(false), Step::Permit),
            (&program, first, none(), Step::Release(Release::Undrained)),
            (&permitted, first, drain(true), Step::Nothing),
            (&permitted, second, none(), Step::Nothing),
            (&programs_back, second, back, Step::Settle),
            (&programs_back, first, none(), Step::Release(Release::Done)),
        ] {
            assert_eq!(next(all, (&id(2), boot), &asked), expected, "{all:?} {boot:?} {asked:?}");
        }
    }

    fn none() -> Maintenance {
        Maintenance::default()
    }

    #[test]
    fn a_host_reboots_when_only_what_belongs_to_it_is_left() {
        let unit = |name: &str| -> UnitName { name.parse().unwrap() };
        let (a, b) = (|| unit("a.service"), || unit("b.service"));
        let stays = || Verdict::Stays(vec![b()]);
        for (verdicts, expected) in [
            (vec![], Left::Nothing),
            (vec![(a(), Verdict::Global), (b(), Verdict::Bound(b()))], Left::Nothing),
            (vec![(a(), Verdict::Leaving), (b(), stays())], Left::Leaving),
            (vec![(a(), Verdict::Waits(Wait::Hook)), (b(), Verdict::Leaves)], Left::Leaving),
            (vec![(a(), Verdict::Global), (b(), stays())], Left::Stuck(vec![b()])),
        ] {
            let found = left(&verdicts.iter().cloned().collect());
            assert_eq!(found, expected, "{verdicts:?}");
            let is_over = !matches!(expected, Left::Leaving);
            assert_eq!(is_settled(&verdicts.into_iter().collect()), is_over);
        }
    }

    #[test]
    fn a_program_learns_how_far_its_host_has_got() {
        let rack = || "rack".parse::<Group>().unwrap();
        let drained = || Maintenance { drain: Some(Box::new(request(2).drain(None, (5, Revision(7))))), ..none() };
        let mine = |change: fn(&mut Holder)| {
            let mut holder = Holder::of_program(id(2), "c988", 5);
            change(&mut holder);
            vec![(Group::default(), reboots(&[1], &[3])), (rack(), Reboots { holders: vec![holder], queue: vec![] })]
        };
        let default = |holders: &[u8], queue: &[u8]| vec![(Group::default(), reboots(holders, queue))];
        for (groups, asked, expected) in [
            (vec![], none(), Standing::Outside),
            (default(&[1], &[3]), drained(), Standing::Outside),
            (default(&[2], &[]), drained(), Standing::Asked),
            (default(&[1], &[2]), none(), Standing::Asked),
            (mine(|_| {}), drained(), Standing::Leaves),
            // Its daemon sees to that it has a slot no longer.
            (mine(|_| {}), none(), Standing::Leaves),
            (mine(|holder| holder.error = "no".into()), drained(), Standing::Stuck("no".into())),
            (mine(|holder| holder.down = true), drained(), Standing::Granted),
            (mine(|holder| holder.down = true), none(), Standing::Undrained(rack())),
            (mine(|holder| (holder.down, holder.back) = (true, true)), none(), Standing::Returns),
        ] {
            assert_eq!(standing(&groups, &id(2), &asked), expected, "{groups:?} {asked:?}");
        }
    }
}
