//! A unit that runs once is done when its host says that it has ended, and isn't placed again until it is asked for.

use super::*;

#[test]
fn a_unit_that_has_run_once_is_placed_again_only_if_somebody_asks_for_it() {
    let mut bench = Bench::new(2);
    bench.submit(&[("job.service", "RunOnce=yes\n[Service]\nType=oneshot")]);
    let name: UnitName = "job.service".parse().unwrap();
    let assignment = bench.scheduler.cluster().schedule[&id(1)][&name].value.clone();
    let ended = |assignment: &Assignment| match report(&name, &id(1), assignment) {
        Change::Report(name, host, form, Some(mut report)) => {
            (report.value.active, report.value.result) = ("inactive".into(), Some("done".into()));
            Change::Report(name, host, form, Some(report))
        }
        other => other,
    };
    // With one of the two writes alone, the unit would run again.
    bench.scheduler.apply(ended(&assignment));
    let plan = bench.scheduler.plan(7);
    let [Decision { placement: Some(placement), assignments, .. }] = &plan.decisions[..] else { panic!("{plan:?}") };
    let done = placement.after.as_ref().and_then(Placement::done);
    assert_eq!(done.map(|done| (&done.host, done.generation)), Some((&id(1), assignment.generation)));
    let gone = assignments[0].1.after.as_ref().unwrap();
    assert_eq!((assignments.len(), gone.target), (1, Target::Removed));
    assert_eq!(plan.decisions[0].to_string(), "job.service is done on n1 (00000001), and leaves it");
    // Its host removes it, dies, and others come and go.
    let gone = gone.clone();
    bench.then([ended(&gone)]);
    bench.then([Change::Machine(id(1), None)]);
    bench.host(1);
    let cluster = bench.scheduler.cluster();
    assert_eq!((check(cluster), cluster.placed_on(&name)), (vec![], None));
    assert!(cluster.done(&name).is_some() && !cluster.schedule.values().any(|host| host.contains_key(&name)));
    assert_eq!(explain(cluster, &name).to_string(), "job.service: has run once on 00000001, and is done");
    assert!(Scheduler::new(cluster.clone()).plan(9).decisions.is_empty(), "another leader sees the same");
    // Each request is another generation.
    bench.revision = bench.revision.next();
    let placed = bench.desire("job.service", Desired::Launched);
    assert_eq!(placed, ["job.service placed on n1 (00000001): the least loaded host"]);
}
