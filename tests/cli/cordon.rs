//! Hosts are cordoned and uncordoned, and every list shows it.

use super::real::Real;

const N1: &str = "a2d7e4a6000000000000000000000001";
const N2: &str = "b2d7e4a6000000000000000000000002";

#[test]
fn hosts_are_cordoned_and_every_list_shows_it() {
    let fleetd = Real::new();
    fleetd.host(N1);
    fleetd.host(N2);
    let before = fleetd.run("list-machines").out;
    let cordoned = fleetd.run("cordon a2d7 --why kernel");
    assert_eq!((cordoned.code, cordoned.err.as_str()), (Some(0), ""));
    assert!(cordoned.out.starts_with("Cordoned ") && cordoned.out.ends_with(", a2d7e4a6)\n"), "{}", cordoned.out);
    let again = fleetd.run("cordon a2d7 --why kernel").out;
    assert!(again.contains(" is cordoned already by ") && again.ends_with(": kernel\n"), "{again}");
    // Scripts see what they saw before.
    assert_eq!(fleetd.run("list-machines").out, before);
    let rows = fleetd.run("list-machines --no-legend --fields=machine,state,cordon").out;
    let lines: Vec<&str> = rows.lines().collect();
    assert!(lines[0].starts_with("a2d7e4a6...\tcordoned since ") && lines[0].ends_with("\tkernel"), "{rows}");
    assert_eq!(lines[1].split_whitespace().collect::<Vec<_>>(), ["b2d7e4a6...", "up", "-"]);
    let json: serde_json::Value = serde_json::from_str(&fleetd.run("list-machines --output json").out).unwrap();
    assert_eq!((&json[0]["state"], &json[0]["cordon"]["why"]), (&"cordoned".into(), &"kernel".into()));
    let status = fleetd.run("status").out;
    let line = status.lines().find(|line| line.starts_with("cordoned\t")).unwrap();
    assert!(line.contains("\tcordoned by ") && line.ends_with(": kernel"), "{status}");
    let all = fleetd.run("cordon b2d7 --output json");
    let json: serde_json::Value = serde_json::from_str(&all.out).unwrap();
    assert_eq!((&json[0]["machine"], &json[0]["changed"]), (&N2.into(), &true.into()));
    assert_eq!(all.err, "every host is cordoned now: nothing new can run anywhere\n");
    let free = fleetd.run("uncordon a2d7 b2d7").out;
    assert_eq!(free.lines().filter(|line| line.starts_with("Uncordoned ")).count(), 2, "{free}");
    assert!(fleetd.run("uncordon a2d7").out.ends_with(" isn't cordoned\n"));
}

#[test]
fn a_host_that_is_not_known_or_not_unique_changes_nothing() {
    let fleetd = Real::new();
    fleetd.host(N1);
    fleetd.expect("cordon a2d7 n9", 1, "", "no host n9 is known\nnothing was changed\n");
    fleetd.expect("list-machines --no-legend --fields=state", 0, "up\n", "");
}
