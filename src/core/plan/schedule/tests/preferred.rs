//! Preferences: an order among the hosts that fit, and nothing else changes for them.

use super::*;
use crate::plan::explain::Explanation;

/// A host in a zone.
fn host(at: u64, metadata: &[(&str, &str)]) -> Change {
    let metadata = metadata.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
    Change::Machine(id(at), Some(Machine { metadata, ..Machine::new(id(at), format!("n{at}")) }))
}

fn in_zones(zones: &[&str]) -> Bench {
    let mut bench = Bench::new(0);
    bench.then((1..).zip(zones).map(|(at, zone)| host(at, &[("zone", zone)])));
    bench
}

/// Where each of these is, by the number of its host; 0 for one that waits.
fn places(bench: &Bench, names: &[&str]) -> Vec<u64> {
    let at = |name: &&str| {
        let host = bench.scheduler.cluster().placed_on(&name.parse().unwrap())?;
        (1..20).find(|at| id(*at) == *host)
    };
    names.iter().map(|name| at(name).unwrap_or_default()).collect()
}

fn explained(bench: &Bench, name: &str) -> Explanation {
    explain(bench.scheduler.cluster(), &name.parse().unwrap())
}

const WEB: [&str; 5] = ["web@1.service", "web@2.service", "web@3.service", "web@4.service", "web@5.service"];

#[test]
fn five_members_in_three_zones_lose_a_zone_and_get_it_back() {
    let mut bench = in_zones(&["a", "a", "b", "b", "c", "c"]);
    let units = WEB.map(|name| (name, "Spread=zone"));
    let said = bench.submit(&units);
    assert_eq!(places(&bench, &WEB), [1, 3, 5, 2, 4]);
    let told = "web@5.service placed on n4 (00000004): no zone with a host that fits has fewer of its kind than b (1)";
    assert_eq!(said[4], told);
    bench.answer();
    let told = explained(&bench, "web@3.service").to_string();
    assert_eq!(told, "web@3.service: placed on 00000005\n  on n5: equal, but for the machine id; runner-up n6");
    let moves = bench.then([Change::Machine(id(5), None), Change::Machine(id(6), None)]);
    assert_eq!(moves.len(), 1, "{moves:#?}");
    assert_eq!(places(&bench, &WEB), [1, 3, 1, 2, 4]);
    // It comes back: nobody moves, and the next one goes there.
    assert_eq!(bench.then([host(5, &[("zone", "c")]), host(6, &[("zone", "c")])]), [""; 0]);
    bench.submit(&[("web@6.service", "Spread=zone")]);
    assert_eq!(places(&bench, &["web@6.service"]), [5]);
    bench.settled();
}

#[test]
fn a_zone_in_which_nothing_fits_holds_nobody_up() {
    let mut bench = Bench::new(0);
    bench.then([host(1, &[("zone", "a")]), host(2, &[("zone", "b")]), host(3, &[("zone", "c"), ("disk", "hdd")])]);
    let units = WEB.map(|name| (name, "Spread=zone\nMaxSkew=1\nMachineMetadata=disk!=hdd"));
    bench.submit(&units);
    assert_eq!(places(&bench, &WEB), [1, 2, 1, 2, 1], "c doesn't count");
    bench.settled();
}

#[test]
fn a_zone_that_is_full_keeps_the_others_from_getting_too_many() {
    let mut bench = in_zones(&["a", "a", "a", "b"]);
    let units = WEB.map(|name| (name, "Spread=zone\nMaxSkew=1\nConflicts=%p@*"));
    let said = bench.submit(&units);
    assert_eq!(places(&bench, &WEB), [1, 4, 2, 0, 0]);
    let why = "web@4.service waits: 3 of 4 hosts: conflict; 1 of 4 hosts: too many of its kind";
    assert!(said.contains(&why.to_owned()), "{said:#?}");
    let told = explained(&bench, "web@4.service").to_string();
    let misfit = "n3  of web@*.service there are 2 in zone a and 1 in zone b (MaxSkew=1)";
    assert!(told.contains(misfit), "{told}");
    // A second host in b takes one, and then a may have another.
    bench.then([host(5, &[("zone", "b")])]);
    assert_eq!(places(&bench, &WEB), [1, 4, 2, 5, 3]);
    bench.settled();
}

/// That one leaves the fuller zone helps those that wait, as does that one arrives in the other.
#[test]
fn who_waits_for_a_smaller_skew_is_looked_at_when_others_come_and_go() {
    let mut bench = in_zones(&["a", "a", "a", "b"]);
    bench.submit(&WEB.map(|name| (name, "Spread=zone\nMaxSkew=1\nConflicts=%p@*")));
    assert_eq!(places(&bench, &WEB), [1, 4, 2, 0, 0]);
    bench.then([Change::Unit("web@1.service".parse().unwrap(), None)]);
    bench.answer();
    assert_eq!(places(&bench, &WEB), [0, 4, 2, 3, 0]);
    bench.settled();
}

#[test]
fn a_key_that_no_host_has_spreads_nothing_and_holds_nobody_up() {
    let mut bench = in_zones(&["a", "b"]);
    bench.submit(&WEB.map(|name| (name, "Spread=rack\nMaxSkew=1")));
    assert_eq!(places(&bench, &WEB), [1, 2, 1, 2, 1], "by load");
    bench.settled();
}

#[test]
fn a_unit_without_a_template_is_spread_apart_from_what_it_names() {
    let mut bench = in_zones(&["a", "a", "b"]);
    bench.submit(&[("web@1.service", "")]);
    bench.submit(&[("lone.service", "Spread=zone web@*")]);
    assert_eq!(places(&bench, &["web@1.service", "lone.service"]), [1, 3]);
    bench.settled();
}

#[test]
fn avoided_units_come_before_preferred_hosts_and_those_before_load() {
    let mut bench = Bench::new(0);
    let hosts = [("a", "hdd"), ("b", "hdd"), ("a", "ssd"), ("b", "ssd")];
    bench.then((1..).zip(hosts).map(|(at, (zone, disk))| host(at, &[("zone", zone), ("disk", disk)])));
    let wishes = "MachinePrefers=disk=ssd\nMachinePrefers=zone!=a";
    assert_eq!(
        bench.submit(&[("x.service", wishes)]),
        ["x.service placed on n4 (00000004): the least loaded host that is as it prefers"]
    );
    assert_eq!(explained(&bench, "x.service").choice.unwrap().to_string(), "on n4: prefers zone!=a; runner-up n3");
    // Load counts for nothing as long as one is preferred.
    bench.submit(&[("y.service", wishes), ("z.service", wishes)]);
    assert_eq!(places(&bench, &["y.service", "z.service"]), [4, 4]);
    let avoiding = format!("{wishes}\nAvoids=x* y* z*");
    bench.submit(&[("shy.service", &avoiding)]);
    assert_eq!(places(&bench, &["shy.service"]), [3], "disk=ssd decides before zone!=a");
    let told = "on n3: prefers disk=ssd; runner-up n2";
    assert_eq!(explained(&bench, "shy.service").choice.unwrap().to_string(), told);
    // Whoever is avoided avoids nobody.
    bench.submit(&[("x2.service", "")]);
    assert_eq!(places(&bench, &["x2.service"]), [1]);
    bench.settled();
}

/// The leader's preferences count, and those of the units that follow it don't.
#[test]
fn a_group_goes_where_its_leader_prefers() {
    let mut bench = in_zones(&["a", "b"]);
    bench.submit(&[("db.service", "")]);
    let said = bench.submit(&[
        ("log.service", "MachineOf=app.service\nMachinePrefers=zone=a"),
        ("app.service", "Avoids=db*\nMachinePrefers=zone=a"),
    ]);
    assert_eq!(places(&bench, &["db.service", "app.service", "log.service"]), [1, 2, 2]);
    let told = "app.service placed on n2 (00000002): no host that fits is more as it prefers (0 avoided units, 1 \
                preferences not met)";
    assert_eq!(said[0], told);
    bench.settled();
}

#[test]
fn who_has_priority_is_placed_first_when_there_is_room() {
    let mut bench = in_zones(&["a"]);
    let section = "MachineMetadata=zone=b\nConflicts=*-job.service";
    let names = ["a-job.service", "b-job.service", "c-job.service"];
    let high = format!("{section}\nPriority=10");
    let low = format!("{section}\nPriority=-10");
    bench.submit(&[(names[0], &low), (names[1], section), (names[2], &high)]);
    assert_eq!(places(&bench, &names), [0, 0, 0]);
    bench.then([host(2, &[("zone", "b")])]);
    assert_eq!(places(&bench, &names), [0, 0, 2]);
    bench.then([host(3, &[("zone", "b")])]);
    assert_eq!(places(&bench, &names), [0, 3, 2]);
    bench.settled();
}

#[test]
fn a_unit_leaves_a_host_that_gets_what_it_must_not_have() {
    let mut bench = in_zones(&["a", "a"]);
    bench.submit(&[("a.service", "MachineMetadata=!reserved")]);
    let reserve = |value: Option<&str>| Change::Metadata(id(1), "reserved".into(), value.map(Into::into));
    let leaves = "a.service leaves n1 (00000001): metadata reserved is yes, wanted none";
    assert_eq!(bench.then([reserve(Some("yes"))]), [leaves]);
    bench.answer();
    assert_eq!(places(&bench, &["a.service"]), [2]);
    assert_eq!(bench.then([reserve(None)]), [""; 0]);
    bench.settled();
}
