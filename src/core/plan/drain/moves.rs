//! Which units move because a person asked for it, and which wait or stay where they are, and why. Draws on the same
//! budgets as drains. A request is carried out once: a unit that doesn't fit any more when its turn comes stays, and
//! what fits later isn't moved unless somebody asks again.

use std::collections::BTreeMap;

use super::super::explain::verdict_of;
use super::super::fit::is_wanted;
use super::super::schedule::{Departure, Host, Scheduler};
use super::budget::Budgets;
use super::{Cause, OnItsWay, Supposed, Timers, Verdict, Verdicts, Wait, group};
use crate::model::cluster::Cluster;
use crate::model::name::{MachineId, UnitName};
use crate::model::unit::{Move, Target};

/// How many units that belong to no set move at once.
pub const PARALLEL: u32 = 10;

/// What becomes of a unit that is to move, or that must be with one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moving {
    /// What becomes of it.
    pub verdict: Verdict,
    /// The host that it goes to, if it goes.
    pub to: Option<MachineId>,
    /// The host that it is on.
    pub home: MachineId,
}

/// What becomes of units that are to move, and of those that must be with them.
pub type Moves = BTreeMap<UnitName, Moving>;

/// What becomes of them; `drained` has those that leave anyway.
pub(super) fn look(
    scheduler: &Scheduler,
    supposed: &mut Supposed<'_>,
    budgets: &mut Budgets<'_>,
    drained: &Verdicts,
) -> Moves {
    let cluster = scheduler.cluster();
    let mut found = Moves::new();
    for (unit, to) in scheduler.on_their_way() {
        let Some(home) = cluster.placed_on(unit) else { continue };
        found.insert(unit.clone(), Moving { verdict: Verdict::Leaving, to: Some(to.clone()), home: home.clone() });
    }
    for (unit, asked) in scheduler.asked_to_move() {
        let home = &asked.from;
        let assignment = cluster.schedule.get(home).and_then(|there| there.get(unit));
        let Some(assignment) = assignment.filter(|_| is_wanted(cluster, unit) && !found.contains_key(unit)) else {
            continue;
        };
        let leaves = drained.get(home).and_then(|units| units.get(unit)) == Some(&Verdict::Leaves);
        if leaves || assignment.value.target == Target::Removed {
            found.insert(unit.clone(), Moving { verdict: Verdict::Leaving, to: None, home: home.clone() });
            continue;
        }
        let group = group::group_of(cluster, home, unit);
        let (verdict, to) = judge(cluster, (&group, asked), supposed, budgets);
        let moving = |unit: &UnitName| {
            let moving = Moving { verdict: verdict.clone(), to: to.clone(), home: home.clone() };
            (unit.clone(), moving)
        };
        found.extend(group.iter().map(moving));
    }
    found
}

/// Units that must be together: all of them move, or none.
fn judge(
    cluster: &Cluster,
    (group, asked): (&[UnitName], &Move),
    supposed: &mut Supposed<'_>,
    budgets: &mut Budgets<'_>,
) -> (Verdict, Option<MachineId>) {
    let constraints = |unit: &UnitName| cluster.constraints(unit);
    if group.iter().any(|unit| constraints(unit).is_some_and(|constraints| constraints.global)) {
        return (Verdict::Global, None);
    }
    let belongs = |unit: &&UnitName| constraints(unit).is_some_and(|c| c.belongs_to_its_host());
    if let Some(bound) = group.iter().find(belongs).filter(|_| asked.to.is_none() && !asked.force) {
        return (Verdict::Bound(bound.clone()), None);
    }
    if !asked.force && !cluster.machines.contains_key(&asked.from) {
        return (Verdict::Waits(Wait::Away), None);
    }
    let to = match &asked.to {
        Some(to) => Some(to.clone()).filter(|to| *to != asked.from && supposed.0.fits_on(group, to)),
        None => supposed.0.elsewhere(group, &asked.from),
    };
    let Some(to) = to else { return (Verdict::Stays(group.to_vec()), None) };
    if let Some(wait) = group.iter().find_map(|unit| budgets.wait(unit, &Cause::Asked, PARALLEL)) {
        return (Verdict::Waits(wait), None);
    }
    group.iter().for_each(|unit| budgets.take(unit, &Cause::Asked));
    supposed.0.to_mut().suppose(group, &to);
    (Verdict::Leaves, Some(to))
}

/// Tell those to leave that move now, and note of those that can't move why.
pub(super) fn step(scheduler: &mut Scheduler, timers: &mut Timers, moving: Moves) {
    for (unit, Moving { verdict, to, home }) in moving {
        match (verdict, to) {
            (Verdict::Leaves, Some(to)) => {
                let name = scheduler.cluster().hostname(&to).map(str::to_owned);
                timers.leaves(unit.clone(), OnItsWay { home, cause: Cause::Asked });
                scheduler.send_away(unit, Departure::Moves { to: Host { id: to, name } });
            }
            (verdict, _) => {
                let asked = scheduler.asked_to_move().find(|(asked, _)| **asked == unit);
                let why = asked.and_then(|(_, asked)| refusal(scheduler.cluster(), &unit, asked, &verdict));
                if let Some(why) = why {
                    scheduler.keep_unmoved(unit, why);
                }
            }
        }
    }
}

/// Whether a unit that no other one is tied to would move as soon as a person asks for it: nobody waits for others.
#[must_use]
pub fn goes_at_once(scheduler: &Scheduler, unit: &UnitName) -> bool {
    Budgets::of(scheduler, &Timers::default()).wait(unit, &Cause::Asked, PARALLEL).is_none()
}

/// Why a unit can't move as it was `asked`, as a sentence without its name; `None` if it can, now or later.
#[must_use]
pub fn refusal(cluster: &Cluster, unit: &UnitName, asked: &Move, verdict: &Verdict) -> Option<String> {
    let name = |host: &MachineId| cluster.hostname(host).unwrap_or(host.short()).to_owned();
    match verdict {
        Verdict::Stays(group) => Some(match &asked.to {
            None => "fits no other host".to_owned(),
            Some(to) if *to == asked.from => format!("it is on {} already", name(to)),
            Some(to) => format!("doesn't fit {}: {}", name(to), misfits(cluster, unit, group, to)),
        }),
        Verdict::Bound(bound) => {
            let it = if bound == unit { "it" } else { bound.as_str() };
            let from = name(&asked.from);
            Some(format!("{it} belongs to {from} (MoveAfterSec=infinity): name the host to move to, or use --force"))
        }
        Verdict::Global => Some("it is global".to_owned()),
        Verdict::Tied(_) | Verdict::Leaves | Verdict::Leaving | Verdict::Waits(_) => None,
    }
}

/// What a host has against a unit, and against those that must be with it.
fn misfits(cluster: &Cluster, unit: &UnitName, group: &[UnitName], host: &MachineId) -> String {
    let mut all = Vec::new();
    for member in std::iter::once(unit).chain(group.iter().filter(|member| *member != unit)) {
        let Some(verdict) = verdict_of(cluster, member, host, group) else { return "the host is away".to_owned() };
        let whose = if member == unit { String::new() } else { format!("{member}: ") };
        all.extend(verdict.misfits.iter().map(|misfit| format!("{whose}{misfit}")));
    }
    // Others that are on their way may leave no room for it.
    if all.is_empty() { "others that are on their way go there".to_owned() } else { all.join("; ") }
}
