//! What planning costs at 5,000 hosts and 150,000 units, on one core: all at once, then one change at a time; and what
//! a step of a rollout, a rebalance, an explanation and a question what if cost. Every figure of the first scenarios is
//! printed as a ratio to a reference measured in the same run, so that runs on different machines can be compared: one
//! insertion of a unit's name into a plain `BTreeMap` of as many.
//!
//! Long steps are measured in processor time, so that other load on the machine doesn't matter.
//!
//! `cargo bench --bench plan [hosts] [units]`

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

mod explain;
mod rebalance;
mod rollout;
mod whatif;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flotilla::model::cluster::{Change, Cluster, Versioned};
use flotilla::model::file::UnitFile;
use flotilla::model::machine::Machine;
use flotilla::model::name::{MachineId, UnitHash, UnitName};
use flotilla::model::placement::Constraints;
use flotilla::model::revision::Revision;
use flotilla::model::settings::Order;
use flotilla::model::unit::{Desired, Placement, Unit};
use flotilla::plan::check::always;
use flotilla::plan::schedule::{Plan, Scheduler};

/// Instances of one service.
const INSTANCES: usize = 30;
const ZONES: usize = 5;

/// A comment in the section: the cluster packs units.
const PACKED: &str = "# placement=pack\n";

fn main() {
    let numbers: Vec<usize> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    let hosts = numbers.first().copied().unwrap_or(5_000);
    let units = numbers.get(1).copied().unwrap_or(150_000);
    let reference = reference(units);
    println!("{hosts} hosts, {units} units; 1 insertion into a BTreeMap of {units} names = {reference:.0?}");
    scenario("no constraints", reference, hosts, units, |_| String::new());
    scenario("conflicts and metadata", reference, hosts, units, |service| {
        format!("Conflicts=s{service}@*\nMachineMetadata=zone=z{}", service % ZONES)
    });
    scenario("conflicts by specifier", reference, hosts, units, |_| "Conflicts=%p@*".into());
    scenario("spread and operators", reference, hosts, units, spread);
    scenario("spread, operators, memory and CPU", reference, hosts, units, |service| {
        format!("{}\n{}", spread(service), amounts(service))
    });
    scenario("memory and CPU, packed", reference, hosts, units, |service| format!("{PACKED}{}", amounts(service)));
    println!("\nevery tenth host is empty: a rebalance");
    rebalance::scenario("no constraints", hosts, units, |_| String::new());
    rebalance::scenario("memory and CPU", hosts, units, amounts);
    rebalance::scenario("spread and operators", hosts, units, spread);
    println!("\nwhy units wait or run, and what would place them");
    explain::scenario("no constraints", hosts, units, |_| String::new());
    explain::scenario("memory and CPU", hosts, units, amounts);
    explain::scenario("spread and operators", hosts, units, spread);
    println!("\nwhat the loss of hosts would lead to");
    whatif::scenario("no constraints", hosts, units, |_| String::new());
    whatif::scenario("spread, operators, memory and CPU", hosts, units, |service| {
        format!("{}\n{}", spread(service), amounts(service))
    });
    println!("\na set is rolled out one member at a time");
    let looks = [10, 100, 1_000, 3_000].map(|members| (members, rollout::scenario(reference, members)));
    let [(_, ten), .., (_, thousand), _] = looks;
    println!("  a look at 1,000 members costs {:.2} times as much as one at 10", thousand / ten);
    println!("\nwhat another file for a set would lead to (`--plan`)");
    for members in [10, 100, 1_000, 3_000] {
        rollout::planned(members);
    }
    println!("peak memory: {}", peak());
}

fn spread(service: usize) -> String {
    format!("Spread=zone\nMaxSkew=1\nMachineMetadata=zone!=z{} rack~r*", service % ZONES)
}

fn amounts(service: usize) -> String {
    format!("Memory={}M\nCPU={}%", 50 + service % 7 * 10, 10 + service % 5)
}

fn scenario(title: &str, reference: Duration, hosts: usize, units: usize, section: impl Fn(usize) -> String) {
    println!("\n{title}");
    let report = |what: &str, count: usize, took: Duration| {
        let each = took.as_secs_f64() / count.max(1) as f64;
        let ratio = each / reference.as_secs_f64();
        println!("  {what:<44} {took:>10.1?}  {:>9.0}/s  {ratio:>8.1} insertions each", each.recip());
    };
    let cluster = cluster(hosts, units, &section);
    let start = Watch::start();
    let mut scheduler = Scheduler::new(cluster);
    report("index it", units, start.took());
    let (plan, took) = plan(&mut scheduler);
    let placed = plan.decisions.iter().filter(|decision| !decision.assignments.is_empty()).count();
    report(&format!("place {placed} of {units}, {} wait", plan.report.waiting), placed, took);
    echo(&mut scheduler, &plan);
    assert_eq!(always(scheduler.cluster()), []);

    let audit = Scheduler::new(scheduler.cluster().clone());
    let (nothing, took) = plan_of(audit);
    report("audit: plan again over everything", units, took);
    assert!(nothing.is_empty());

    let mut changes: Vec<(String, Vec<Change>)> = Vec::new();
    let (hash, file) = file(&section(0));
    let submit = |at: usize| {
        let unit = Unit::new(Desired::Launched, hash.clone(), Revision(2));
        let file = Versioned { value: Arc::clone(&file), revision: Revision(1) };
        vec![Change::File(hash.clone(), Some(file)), Change::Unit(name(0, INSTANCES + at), Some(unit))]
    };
    changes.push(("one unit submitted".into(), submit(0)));
    changes.push(("100 units submitted".into(), (1..101).flat_map(submit).collect()));
    let dead = scheduler.cluster().schedule.iter().max_by_key(|(_, assignments)| assignments.len());
    if let Some((host, assignments)) = dead {
        let title = format!("a host dies with its {} units", assignments.len());
        changes.push((title, vec![Change::Machine(host.clone(), None)]));
    }
    changes.push(("a host joins".into(), vec![Change::Machine(id(hosts), Some(machine(hosts)))]));
    changes.push((
        "100 hosts join".into(),
        (1..101).map(|at| Change::Machine(id(hosts + at), Some(machine(hosts + at)))).collect(),
    ));
    changes.push((
        "a host changes its zone".into(),
        vec![Change::Metadata(id(7), "zone".into(), Some("elsewhere".into()))],
    ));
    changes.push(("one unit destroyed".into(), vec![Change::Unit(name(1, 0), None)]));
    for (title, changes) in changes {
        let start = Watch::start();
        for change in changes {
            scheduler.apply(change);
        }
        let plan = scheduler.plan(0);
        let took = start.took();
        report(&format!("{title}: {} decisions", plan.decisions.len()), 1, took);
        echo(&mut scheduler, &plan);
    }
}

/// Starts now. Short intervals are measured by the clock, long ones in processor time, which is counted in ticks.
struct Watch(Instant, Duration);

impl Watch {
    fn start() -> Self {
        Self(Instant::now(), processor())
    }

    fn took(&self) -> Duration {
        const TICKS: Duration = Duration::from_millis(100);
        let by_clock = self.0.elapsed();
        if by_clock < TICKS { by_clock } else { processor().saturating_sub(self.1) }
    }
}

fn processor() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    Duration::from_nanos(stat.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or_default())
}

fn plan_of(mut scheduler: Scheduler) -> (Plan, Duration) {
    plan(&mut scheduler)
}

fn plan(scheduler: &mut Scheduler) -> (Plan, Duration) {
    let start = Watch::start();
    let plan = scheduler.plan(0);
    (plan, start.took())
}

/// Apply a decision as the watch of the store would: the same values, with their revision.
fn echo(scheduler: &mut Scheduler, plan: &Plan) {
    for change in plan.decisions.iter().flat_map(|decision| decision.changes(Revision(3))) {
        scheduler.apply(change);
    }
    assert!(!scheduler.is_dirty());
}

fn cluster(hosts: usize, units: usize, section: &impl Fn(usize) -> String) -> Cluster {
    let mut cluster = Cluster { revision: Revision(1), ..Cluster::default() };
    cluster.settings.placement = section(0).starts_with(PACKED).then_some(Order::Pack);
    for at in 0..hosts {
        cluster.apply(Change::Machine(id(at), Some(machine(at))));
    }
    for at in 0..units {
        let service = at / INSTANCES;
        let (hash, value) = file(&section(service));
        if !cluster.files.contains_key(&hash) {
            cluster.apply(Change::File(hash.clone(), Some(Versioned { value, revision: Revision(1) })));
        }
        let unit = Unit::new(Desired::Launched, hash, Revision(1));
        cluster.apply(Change::Unit(name(service, at % INSTANCES), Some(unit)));
    }
    cluster
}

fn machine(at: usize) -> Machine {
    let metadata =
        [("zone".to_owned(), format!("z{}", at % ZONES)), ("rack".to_owned(), format!("r{}", at / 40))].into();
    let builtin = [("@memory".to_owned(), "4096".to_owned()), ("@cpus".to_owned(), "8".to_owned())].into();
    Machine { metadata, builtin, ..Machine::new(id(at), format!("n{at}")) }
}

/// A machine id; they are spread over the whole range, as real ones are.
fn id(at: usize) -> MachineId {
    let spread = (at as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!("{spread:016x}{:016x}", at + 1).parse().unwrap_or_else(|error| panic!("{error}"))
}

fn name(service: usize, instance: usize) -> UnitName {
    format!("s{service}@{instance}.service").parse().unwrap_or_else(|error| panic!("{error}"))
}

fn file(section: &str) -> (UnitHash, Arc<Constraints>) {
    let text = format!("[Service]\nExecStart=/bin/true\n[X-Fleet]\n{section}\n");
    let file = UnitFile::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
    let constraints = Constraints::parse(&file).unwrap_or_else(|problems| panic!("{problems:?}"));
    (file.hash(), Arc::new(constraints))
}

fn reference(units: usize) -> Duration {
    let names: Vec<UnitName> = (0..units).map(|at| name(at / INSTANCES, at % INSTANCES)).collect();
    let start = Watch::start();
    let mut map = BTreeMap::new();
    for name in names {
        map.insert(name, Placement::Waiting { why: String::new(), reasons: None, tried: None, since: 0 });
    }
    let took = start.took();
    assert_eq!(map.len(), units);
    took / u32::try_from(units.max(1)).unwrap_or(u32::MAX)
}

fn peak() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.map_or("unknown".into(), |line| line.trim().to_owned())
}
