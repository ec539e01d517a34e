//! Why units wait, or are where they are. No leader is there, so that what isn't placed by hand waits.

use super::real::Real;

const N1: &str = "a2d7e4a6000000000000000000000001";
const N2: &str = "b2d7e4a6000000000000000000000002";

fn two() -> Real {
    let fleetd = Real::new();
    fleetd.host(N1);
    for (unit, section) in
        [("web@1.service", "Conflicts=web@*"), ("web@2.service", "Conflicts=web@*\nPort=80"), ("db.service", "Port=80")]
    {
        let text = format!("[Service]\nExecStart=/bin/true\n[X-Fleet]\n{section}\n");
        std::fs::write(fleetd.dir.path().join(unit), text).unwrap();
        fleetd.run(&format!("start --no-block {unit}"));
    }
    fleetd.runs("web@1.service", N1);
    fleetd.named_alike(N2, "n2");
    fleetd.runs("db.service", N2);
    fleetd
}

const WAITS: &str = "\
web@2.service waits: it can't run anywhere yet
  n1:
    conflicts with web@1.service, which runs there (Conflicts=web@*)
      web@2.service:4 Conflicts=web@*
  n2:
    port 80 is that of db.service, which runs there
      web@2.service:5 Port=80
  To place it:
    move web@1.service to n2; it goes to n1 then
      fleetctl move web@1.service n2
    take line 5 out of the file of web@2.service: Port=80; it goes to n2 then
      fleetctl edit web@2.service
    add a host like n1, without its units; it goes to the new host then
";

#[test]
fn a_unit_that_waits_is_told_every_rule_and_what_would_place_it() {
    let fleetd = two();
    let ran = fleetd.run("explain web@2");
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (Some(0), WAITS, ""));
    let json: serde_json::Value = serde_json::from_str(&fleetd.run("explain web@2 --output json").out).unwrap();
    assert_eq!(json["units"][0]["hosts"][0]["obstacles"][0]["option"]["line"], 4);
}

#[test]
fn a_unit_that_runs_is_told_why_there() {
    let fleetd = two();
    let ran = fleetd.run("explain web@1.service");
    let told = "  why there: units 0 < 1; the next best is n2\n  \
                it moves when n1 is gone, n1 is drained or a person moves it\n    (`fleetctl move`)\n";
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    assert!(ran.out.starts_with("web@1.service is on n1") && ran.out.ends_with(told), "{}", ran.out);
}

#[test]
fn what_is_not_there_is_an_error_and_the_others_are_told() {
    let fleetd = two();
    let ran = fleetd.run("explain db.service nowhere.service 'x@*'");
    assert_eq!(ran.code, Some(1));
    assert!(ran.out.starts_with("db.service is on n2"), "{}", ran.out);
    assert!(ran.err.contains("nowhere.service") && ran.err.contains("x@*"), "{}", ran.err);
    let both = fleetd.run("explain web@");
    assert_eq!(both.code, Some(1), "{}", both.out);
    let both = fleetd.run("explain web@*");
    assert!(both.out.starts_with("web@1.service is") && both.out.contains("\n\nweb@2.service waits"), "{}", both.out);
}
