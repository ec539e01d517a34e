//! The settings of the whole cluster, and what units take of hosts.

use super::real::Real;

const N1: &str = "a2d7e4a6000000000000000000000001";

#[test]
fn settings_are_listed_set_and_unset() {
    let fleetd = Real::new();
    let listed = fleetd.run("settings");
    assert_eq!((listed.code, listed.err.as_str()), (Some(0), ""));
    let values: Vec<&str> = listed.out.lines().filter(|line| !line.starts_with("# ")).collect();
    let reboots = ["reboot-slots=1", "reboot-windows=always"];
    let placement = ["overcommit-cpu=100%", "overcommit-memory=100%", "placement=spread"];
    assert_eq!(values, [&placement[..], &reboots].concat());
    let told = "# whether units with Memory= or CPU= go to the host of which the least is taken, or the most \
                (spread or pack)\n";
    assert!(listed.out.contains(told), "{}", listed.out);
    let said = "overcommit-cpu=250% (was 100%)\nplacement=pack (was spread)\n";
    fleetd.expect("set placement=pack overcommit-cpu=250%", 0, said, "");
    fleetd.expect("set placement=pack", 0, "placement=pack, as before\n", "");
    let now = fleetd.run("settings").out;
    assert!(now.contains("(spread or pack; unless set, spread)\nplacement=pack\n"), "{now}");
    let json: serde_json::Value = serde_json::from_str(&fleetd.run("settings --output json").out).unwrap();
    assert_eq!((&json[0]["name"], &json[0]["value"]), (&"overcommit-cpu".into(), &"250%".into()));
    let json: serde_json::Value = serde_json::from_str(&fleetd.run("unset overcommit-cpu --output json").out).unwrap();
    assert_eq!((&json[0]["value"], &json[0]["was"]), (&"100%".into(), &"250%".into()));
    fleetd.expect("unset placement", 0, "placement=spread, the default (was pack)\n", "");
}

#[test]
fn what_can_not_be_set_changes_nothing() {
    let fleetd = Real::new();
    let refused = fleetd.run("set placement=pack overcommit-memory=lots");
    assert_eq!((refused.code, refused.out.as_str()), (Some(1), ""));
    assert!(refused.err.starts_with("`overcommit-memory=lots`: must be a percentage"), "{}", refused.err);
    for (args, why) in [
        ("set placement", "it must be SETTING=VALUE; for a host, see `set-metadata`"),
        ("set placement=", "a value is missing; `unset placement` gives it its default"),
        ("set placement=pack placement=spread", "`placement` is there twice"),
    ] {
        let refused = fleetd.run(args);
        assert!(refused.code == Some(2) && refused.err.contains(why), "{args}: {}", refused.err);
    }
    assert!(fleetd.run("settings").out.contains("\nplacement=spread\n"));
    let refused = fleetd.run("set reboot-slots=2 reboot-windows=Sat").err;
    assert!(refused.contains("isn't [DAYS] HH:MM/LENGTH [ZONE], such as `Sat,Sun 01:00/2h`"), "{refused}");
}

#[test]
fn hosts_are_listed_with_what_is_taken_of_them() {
    let fleetd = Real::new();
    fleetd.reporting(N1, &[("@memory", "1000"), ("@cpus", "4")]);
    let file = "[Service]\nExecStart=/bin/a\n[X-Fleet]\nMemory=250M\nCPU=50%\n";
    std::fs::write(fleetd.dir.path().join("a.service"), file).unwrap();
    assert_eq!(fleetd.run("submit a.service").code, Some(0));
    fleetd.place("a.service", N1, "active");
    let listed = "n1\t250 MiB of 1000 MiB\t50% of 400%\n";
    fleetd.expect("list-machines --no-legend --fields=hostname,memory,cpu", 0, listed, "");
    let json: serde_json::Value =
        serde_json::from_str(&fleetd.run("list-machines --output json --fields=memory").out).unwrap();
    let memory = serde_json::json!({ "has": 1000 << 20, "reserved": 0, "offered": 1000 << 20, "taken": 250 << 20 });
    assert_eq!(json[0]["memory"], memory);
    let plain = fleetd.run("list-machines --no-legend").out;
    assert!(!plain.contains("MiB"), "scripts see what they saw before: {plain}");
}
