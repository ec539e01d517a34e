//! Hosts are to reboot. Nobody carries it out here, so that they wait.

use serde_json::json;

use super::OK;
use super::real::Real;

const N1: &str = "a2d7e4a6000000000000000000000001";
const N2: &str = "b2d7e4a6000000000000000000000002";

#[test]
fn hosts_are_asked_to_reboot_and_it_is_cancelled() {
    let fleetd = Real::new();
    fleetd.host(N1);
    fleetd.host(N2);
    let asked = fleetd.run("reboot --all --why kernel --no-block");
    assert_eq!((asked.code, asked.err.as_str()), (Some(0), ""));
    assert_eq!(asked.out.matches(" is to reboot\n").count(), 2, "{}", asked.out);
    assert!(fleetd.run("reboot a2d7 --no-block").out.ends_with(" is to reboot already\n"));
    let json = fleetd.run("reboot b2d7 --cancel --output json");
    assert!(json.code == Some(0) && json.out.contains("\"cancelled\""), "{}", json.out);
    let again = fleetd.run("reboot b2d7 --cancel");
    assert!(again.err.contains(": it isn't to reboot\n") && again.code == Some(1), "{}", again.err);
    assert!(fleetd.run("reboot a2d7 --cancel").out.ends_with(" is to reboot no longer\n"));
    for wrong in ["reboot", "reboot --all a2d7", "reboot a2d7 --cancel --force", "reboot --all --parallel 0"] {
        assert_eq!(fleetd.run(wrong).code, Some(2), "{wrong}");
    }
    let unknown = fleetd.run("reboot n9");
    assert!(unknown.err.contains("no host n9 is known\n") && unknown.code == Some(1), "{}", unknown.err);
}

#[test]
fn what_can_not_go_on_is_named() {
    let fleetd = Real::new();
    fleetd.host(N1);
    fleetd.host(N2);
    let request = json!({ "host": N1, "boot": "" });
    let holder = json!({ "host": N1, "since": 5, "request": request, "error": "it fits nowhere" });
    fleetd.record("reboot/default", &json!({ "holders": [holder] }));
    let watched = fleetd.run("reboot b2d7");
    assert_eq!(watched.code, Some(1), "{}{}", watched.out, watched.err);
    assert!(watched.out.contains(": waits for "), "{}", watched.out);
    assert!(watched.err.contains("`fleetctl reboot --cancel`"), "{}", watched.err);
    let status = fleetd.run("status --output json").out;
    assert!(status.contains("is to reboot and can't: it fits nowhere"), "{status}");
}

#[test]
fn a_plan_says_what_would_leave() {
    let fleetd = Real::new();
    fleetd.host(N1);
    fleetd.host(N2);
    std::fs::write(fleetd.dir.path().join("a.service"), OK).unwrap();
    fleetd.run("start --no-block a.service");
    fleetd.place("a.service", N1, "active");
    let plan = fleetd.run("reboot a2d7 b2d7 --plan");
    assert_eq!(plan.code, Some(3), "{}{}", plan.out, plan.err);
    assert!(plan.out.contains("would be drained, rebooted") && plan.out.contains("a.service"), "{}", plan.out);
    assert!(fleetd.run("reboot a2d7 --cancel").err.contains("it isn't to reboot"), "nothing was asked");
    assert_eq!(fleetd.run("reboot a2d7 b2d7 --plan --output json").code, Some(1), "one document for one host");
}
