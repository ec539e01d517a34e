//! What an explanation costs, and the search for fixes of a unit that waits, in a cluster that has settled; and what a
//! request does for both, which has to build the indexes first, and doesn't know that all is decided.

use std::sync::Arc;

use flotilla::model::cluster::{Change, Versioned};
use flotilla::model::file::UnitFile;
use flotilla::model::name::UnitName;
use flotilla::model::placement::Constraints;
use flotilla::model::revision::Revision;
use flotilla::model::unit::{Desired, Unit};
use flotilla::plan::account::account;
use flotilla::plan::remedy::remedies;
use flotilla::plan::schedule::Scheduler;

use super::rollout::reports;
use super::{Watch, cluster, name};

/// Units that wait: for metadata, for room, and because of all others.
const WAITING: [(&str, &str); 3] =
    [("gpu.service", "MachineMetadata=gpu"), ("large.service", "Memory=3900M"), ("alone.service", "Conflicts=s*")];

pub(super) fn scenario(title: &str, hosts: usize, units: usize, section: impl Fn(usize) -> String) {
    let mut cluster = cluster(hosts, units, &section);
    for (name, section) in WAITING {
        let (file, constraints) = file(section);
        let value = Versioned { value: constraints, revision: Revision(1) };
        cluster.apply(Change::File(file.hash(), Some(value)));
        let unit = Unit::new(Desired::Launched, file.hash(), Revision(2));
        cluster.apply(Change::Unit(name.parse().unwrap_or_else(|error| panic!("{error}")), Some(unit)));
    }
    let mut scheduler = Scheduler::new(cluster);
    let plan = scheduler.plan(0);
    let placed = plan.decisions.iter().flat_map(|decision| decision.changes(Revision(3)));
    for change in placed.chain(reports(&plan, Revision(3))) {
        scheduler.apply(change);
    }
    let _ = scheduler.plan(0);
    println!("  {title}");
    let runs = [("one that runs", name(0, 0))].into_iter();
    let waits = WAITING.iter().filter_map(|(name, section)| Some((*section, name.parse::<UnitName>().ok()?)));
    for (what, unit) in runs.chain(waits) {
        let start = Watch::start();
        let told = account(&mut scheduler, &unit);
        let took = start.took();
        let start = Watch::start();
        let found = remedies(&mut scheduler, &unit, Some(&file(what).0), 0);
        println!(
            "    {what:<24} {:>5} hosts told in {took:>8.1?}; {} fixes of {} tried in {:>8.1?}",
            told.hosts.len(),
            found.found.len(),
            found.attempts,
            start.took(),
        );
    }
    let cluster = scheduler.cluster().clone();
    drop(scheduler);
    let (section, unit) = (WAITING[1].1, WAITING[1].0.parse().unwrap_or_else(|error| panic!("{error}")));
    let start = Watch::start();
    let mut scheduler = Scheduler::new(cluster);
    let indexed = start.took();
    let told = account(&mut scheduler, &unit);
    let found = remedies(&mut scheduler, &unit, Some(&file(section).0), 0);
    let (hosts, fixes) = (told.hosts.len(), found.found.len());
    println!(
        "    a request: {:.1?}, of which {indexed:.1?} for the indexes ({hosts} hosts, {fixes} fixes)",
        start.took()
    );
}

fn file(section: &str) -> (UnitFile, Arc<Constraints>) {
    let text = format!("[Service]\nExecStart=/bin/true\n[X-Fleet]\n{section}\n");
    let file = UnitFile::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
    let constraints = Constraints::parse(&file).unwrap_or_default();
    (file, Arc::new(constraints))
}
