//! What a rebalance costs when every tenth host is empty, because it has been uncordoned: the index, the whole search,
//! and what a request gets of it.

use std::time::{Duration, Instant};

use flotilla::model::cluster::{Change, Versioned};
use flotilla::model::maintenance::{Cordon, Maintenance};
use flotilla::model::revision::Revision;
use flotilla::plan::rebalance::rebalance;
use flotilla::plan::schedule::Scheduler;

use super::rollout::reports;
use super::{Watch, cluster, id};

/// Longer than this isn't waited for the whole search.
const PATIENCE: Duration = Duration::from_secs(60);

/// As long as a request may search.
const REQUEST: Duration = Duration::from_secs(3);

pub(super) fn scenario(title: &str, hosts: usize, units: usize, section: impl Fn(usize) -> String) {
    let mut cluster = cluster(hosts, units, &section);
    let tenth = || (0..hosts).step_by(10).map(id);
    for host in tenth() {
        let value = Maintenance { cordon: Some(Cordon::default()), ..Maintenance::default() };
        cluster.apply(Change::Maintenance(host, Some(Versioned { value, revision: Revision(1) })));
    }
    let mut scheduler = Scheduler::new(cluster);
    let plan = scheduler.plan(0);
    let placed = plan.decisions.iter().flat_map(|decision| decision.changes(Revision(3)));
    for change in placed.chain(reports(&plan, Revision(3))) {
        scheduler.apply(change);
    }
    for host in tenth() {
        scheduler.apply(Change::Maintenance(host, None));
    }
    assert!(scheduler.plan(0).decisions.is_empty(), "nothing moves by itself");
    let cluster = scheduler.cluster().clone();
    drop(scheduler);
    let start = Watch::start();
    let scheduler = Scheduler::new(cluster);
    let indexed = start.took();
    let start = Watch::start();
    let begun = Instant::now();
    let whole = rebalance(&scheduler, &[], 10, &|| begun.elapsed() > PATIENCE);
    let took = start.took();
    let begun = Instant::now();
    let request = rebalance(&scheduler, &[], 10, &|| begun.elapsed() + indexed > REQUEST);
    let early = |ended_early: bool| if ended_early { ", ended early" } else { "" };
    println!(
        "  {title:<28} index {indexed:>7.1?}, {:>6} moves in {took:>7.1?}{}; a request finds {} in {:.1?}{}",
        whole.all,
        early(whole.ended_early),
        request.all,
        begun.elapsed() + indexed,
        early(request.ended_early),
    );
}
