//! Members of a set: new ones avoid the hosts of the others, and nothing else changes for it.

use super::*;

#[test]
fn a_new_member_of_a_set_goes_where_the_fewest_of_it_are() {
    let mut bench = Bench::new(3);
    // n2 and n3 are busier, so that all members would go to n1 by load alone.
    let on = |at: u64, zone: &str| format!("MachineMetadata=zone={zone}\nMachineOf=base{at}.service");
    bench.submit(&[("base1.service", ""), ("base2.service", ""), ("base3.service", "")]);
    let others: Vec<(String, String)> = [(2, "b"), (3, "a")]
        .iter()
        .flat_map(|(at, zone)| (0..5).map(move |n| (format!("other{at}-{n}.service"), on(*at, zone))))
        .collect();
    bench.submit(&others.iter().map(|(name, section)| (name.as_str(), section.as_str())).collect::<Vec<_>>());
    let members = |numbers: std::ops::Range<u32>| numbers.map(|n| format!("w@{n}.service")).collect::<Vec<_>>();
    let placed = |bench: &mut Bench, names: &[String]| {
        bench.submit(&names.iter().map(|name| (name.as_str(), "")).collect::<Vec<_>>())
    };
    // Instances of a template that is no set go where they always went.
    assert!(
        placed(&mut bench, &members(1..4)).iter().all(|line| line.ends_with("n1 (00000001): the least loaded host"))
    );
    bench.submit(&[("w@.service", "")]);
    let name: UnitName = "w@.service".parse().unwrap();
    let template = bench.scheduler.cluster().units[&name].clone();
    let set = |replicas| Change::Unit("w@.service".parse().unwrap(), Some(Unit { replicas, ..template.clone() }));
    // Those that are there count, and none of them moves for it.
    assert_eq!(bench.then([set(Some(9))]), [""; 0]);
    assert_eq!(
        placed(&mut bench, &members(4..9)),
        [
            "w@4.service placed on n2 (00000002): no other member of its set is there",
            "w@5.service placed on n3 (00000003): no other member of its set is there",
            "w@6.service placed on n2 (00000002): no host that fits has fewer members of its set (1)",
            "w@7.service placed on n3 (00000003): no host that fits has fewer members of its set (1)",
            // Three on n1 and two on each of the others.
            "w@8.service placed on n2 (00000002): no host that fits has fewer members of its set (2)",
        ]
    );
    // What is no member of it, or can go to one host only, is placed as ever.
    assert_eq!(
        bench.submit(&[("w@blue.service", ""), ("w@9.service", "MachineMetadata=zone=b")]),
        [
            "w@9.service placed on n2 (00000002): no host that fits has fewer members of its set (3)",
            "w@blue.service placed on n1 (00000001): the least loaded host",
        ]
    );
    // The host of a member dies, and it avoids the others.
    let moves = bench.then([Change::Machine(id(3), None)]);
    let to =
        |line: &String| line.starts_with("w@") && line.contains("to n1 (00000001): the host is gone; no host that");
    assert_eq!(moves.iter().filter(|line| to(line)).count(), 1, "{moves:#?}");
    bench.then([set(None)]);
    bench.then([Change::Unit("w@3.service".parse().unwrap(), None)]);
    bench.answer();
    assert!(placed(&mut bench, &["w@3.service".to_owned()])[0].ends_with("(00000001): the least loaded host"));
    bench.settled();
}
