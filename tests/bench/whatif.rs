//! What it costs to find out what the loss of hosts would lead to: of one, of each one after another, and of a zone.

use std::collections::BTreeSet;
use std::time::Instant;

use flotilla::model::name::MachineId;
use flotilla::model::revision::Revision;
use flotilla::plan::schedule::Scheduler;
use flotilla::plan::whatif::{Supposed, what_if};

use super::rollout::reports;
use super::{Watch, cluster, id};

/// After so long, a request begins with no further loss.
const REQUEST: std::time::Duration = std::time::Duration::from_secs(3);

pub(super) fn scenario(title: &str, hosts: usize, units: usize, section: impl Fn(usize) -> String) {
    let mut scheduler = Scheduler::new(cluster(hosts, units, &section));
    let plan = scheduler.plan(0);
    let placed = plan.decisions.iter().flat_map(|decision| decision.changes(Revision(3)));
    for change in placed.chain(reports(&plan, Revision(3))) {
        scheduler.apply(change);
    }
    let cluster = scheduler.cluster().clone();
    drop(scheduler);
    let start = Watch::start();
    let mut scheduler = Scheduler::new(cluster);
    let indexed = start.took();
    println!("  {title} (indexes: {indexed:.1?})");
    let zone: BTreeSet<MachineId> = (0..hosts).step_by(super::ZONES).map(id).collect();
    for (what, lost) in [("one host", [id(7)].into()), ("a fifth of the hosts", zone)] {
        let start = Watch::start();
        let (found, _) = what_if(&mut scheduler, &Supposed { lost, ..Supposed::default() }, &[], 0, &|| false);
        let (moves, waits, took) = (found.moves.len(), found.waits.len(), start.took());
        println!("    {what:<24} {moves:>6} would move, {waits:>6} would wait: {took:>8.1?}");
    }
    let losses: Vec<BTreeSet<MachineId>> = (0..hosts.min(500)).map(|at| [id(at)].into()).collect();
    let (begun, start) = (Instant::now(), Watch::start());
    let (_, each) = what_if(&mut scheduler, &Supposed::default(), &losses, 0, &|| begun.elapsed() > REQUEST);
    println!("    {} of {} losses, each alone: {:.1?}", each.len(), losses.len(), start.took());
}
