//! `Port=`: on each host, a port belongs to one unit.

use super::*;

fn at(bench: &Bench, name: &str) -> Option<MachineId> {
    bench.scheduler.cluster().placed_on(&name.parse().unwrap()).cloned()
}

#[test]
fn a_port_belongs_to_one_unit_of_a_host_until_that_has_stopped() {
    let mut bench = Bench::new(2);
    let said = bench.submit(&[
        ("a.service", "Port=80"),
        ("b.service", "Port=80 53/udp"),
        ("c.service", "Port=53/udp 80"),
        ("d.service", "Port=53"),
        ("e.service", "Port=53/udp\nMachineOf=b.service"),
    ]);
    assert!(said.contains(&"c.service waits: 2 of 2 hosts: port taken".to_owned()), "{said:?}");
    assert!(at(&bench, "a.service") != at(&bench, "b.service") && at(&bench, "d.service").is_some());
    assert_eq!(at(&bench, "e.service"), None, "{said:?}");
    let reasons = explain(bench.scheduler.cluster(), &"c.service".parse().unwrap()).to_string();
    assert!(reasons.contains("port 80 is that of a.service, which runs there"), "{reasons}");
    bench.answer();
    let host = at(&bench, "a.service");
    assert_eq!(bench.desire("a.service", Desired::Inactive).len(), 1, "it has yet to stop");
    assert_eq!(at(&bench, "c.service"), None);
    bench.answer();
    assert_eq!(at(&bench, "c.service"), host);
    bench.settled();
}

#[test]
fn what_is_on_a_host_stays_there_and_what_arrives_together_must_not_need_the_same() {
    let mut bench = Bench::new(2);
    bench.submit(&[("a.service", "Port=80"), ("b.service", "MachineOf=a.service")]);
    bench.answer();
    let host = at(&bench, "a.service");
    // From now on it says that it needs the same port.
    bench.submit(&[("b.service", "MachineOf=a.service\nPort=80")]);
    bench.answer();
    assert_eq!(at(&bench, "b.service"), host);
    let both = [("c.service", "Port=81\nMachineOf=d.service"), ("d.service", "Port=81\nMachineOf=c.service")];
    let said = bench.submit(&both);
    assert!(said.contains(&"c.service waits: 2 of 2 hosts: conflict".to_owned()), "{said:?}");
    let other = [("d.service", "Port=82\nMachineOf=c.service")];
    bench.submit(&other);
    assert_eq!(at(&bench, "c.service"), at(&bench, "d.service"));
    assert!(at(&bench, "c.service").is_some());
    bench.settled();
}

#[test]
fn a_global_unit_is_where_its_port_is_free() {
    let mut bench = Bench::new(3);
    bench.submit(&[("a.service", "Port=80")]);
    bench.submit(&[("every.service", "Global=true\nPort=80")]);
    let there = |bench: &Bench| {
        let hosts = bench.scheduler.cluster().schedule.values();
        hosts.filter(|assignment| assignment.contains_key("every.service")).count()
    };
    assert_eq!(there(&bench), 2);
    bench.answer();
    bench.desire("a.service", Desired::Inactive);
    bench.answer();
    bench.answer();
    assert_eq!(there(&bench), 3);
    bench.settled();
}
