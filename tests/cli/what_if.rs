//! Where units would be if hosts were lost or added, or units started. No leader is there, so that units are where they
//! are placed by hand.

use super::real::Real;

const N1: &str = "a2d7e4a6000000000000000000000001";
const N2: &str = "b2d7e4a6000000000000000000000002";
const N3: &str = "c2d7e4a6000000000000000000000003";

/// Three hosts: n1 in zone a, and two others. `web@` excludes itself, and `db` needs zone a.
fn three() -> Real {
    let fleetd = Real::new();
    fleetd.host(N1);
    fleetd.named_alike(N2, "n2");
    fleetd.named_alike(N3, "n3");
    let pin = format!("MachineID={N2}");
    for (unit, section, host) in [
        ("db.service", "MachineMetadata=zone=a", N1),
        ("free.service", "", N2),
        ("late.service", "MoveAfterSec=10min", N2),
        ("pin.service", &*pin, N2),
        ("web@1.service", "Conflicts=web@*", N2),
        ("web@2.service", "Conflicts=web@*", N3),
    ] {
        file(&fleetd, unit, section);
        let ran = fleetd.run(&format!("start --no-block {unit}"));
        assert_eq!(ran.code, Some(0), "{}", ran.err);
        fleetd.runs(unit, host);
    }
    fleetd
}

fn file(fleetd: &Real, unit: &str, section: &str) {
    let text = format!("[Service]\nExecStart=/bin/true\n[X-Fleet]\n{section}\n");
    std::fs::write(fleetd.dir.path().join(unit), text).unwrap();
}

#[test]
fn the_loss_of_a_host_is_told_unit_by_unit() {
    let fleetd = three();
    let two = "free.service   n2 -> n1\n\
               web@1.service  n2 -> n1\n\
               late.service   n2 -> n3  after 10 min (MoveAfterSec=)\n\
               pin.service stays with n2: it runs on that host only (MachineID=)\n\
               3 units would move, none would wait, 1 would stay with a lost host\n";
    fleetd.expect("what-if --lose n2", 0, two, "");
    let zone = "db.service would leave n1 and wait: 2 of 2 hosts: metadata\nno unit would move, 1 would wait\n";
    fleetd.expect("what-if --lose zone=a", 3, zone, "");
    let json = fleetd.run("what-if --lose n2 --output json");
    let json: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(json["moves"][0]["name"], "free.service");
}

#[test]
fn several_things_are_supposed_at_once() {
    let fleetd = three();
    file(&fleetd, "new.service", "MachineMetadata=zone=c");
    let waits = "new.service would wait: 3 of 3 hosts: metadata\nno unit would move, 1 would wait\n";
    fleetd.expect("what-if --start new.service", 3, waits, "");
    let moves = "db.service   n1 -> new-2\n\
                 new.service  (no host) -> new-1\n\
                 2 units would move, none would wait\n";
    fleetd.expect("what-if --lose n1 --add 1:zone=c --add 1:zone=a --start new.service", 0, moves, "");
    assert_eq!(fleetd.run("status new.service").code, Some(1), "nothing is stored");
}

#[test]
fn each_loss_has_a_line() {
    let fleetd = three();
    let each = "n1: 1 of 1 unit would wait: db.service (2 of 2 hosts: metadata)\n\
                n2: 3 units would move; 1 unit would stay with it\n\
                n3: 1 unit would move\n\
                1 of 3 losses would leave units without a host\n";
    fleetd.expect("what-if --each-host", 3, each, "");
    let json = fleetd.run("what-if --each-host --output json");
    let json: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!((json["each"].as_array().unwrap().len(), &json["each"][1]["units"]), (3, &4.into()));
    let zone = "no unit would move, none would wait\n\
                zone=a: 1 unit would move\n\
                no loss would leave a unit without a host\n";
    fleetd.expect("what-if --each zone --add 1:zone=a", 0, zone, "");
}

#[test]
fn without_any_host_every_unit_waits() {
    let fleetd = three();
    let ran = fleetd.run("what-if --lose n1 --lose n2 --lose n3 --each-host");
    assert_eq!((ran.code, ran.err.as_str()), (Some(3), ""));
    let waits = |name: &str| ran.out.contains(&format!("{name} and wait: no hosts\n"));
    assert!(waits("free.service would leave n2") && waits("web@2.service would leave n3"), "{}", ran.out);
    let total = "no unit would move, 5 would wait, 1 would stay with a lost host\n";
    assert!(ran.out.ends_with(total), "{}", ran.out);
}

#[test]
fn what_is_wrong_is_said() {
    let fleetd = three();
    let wrong = |args: &str, code: i32, why: &str| {
        let ran = fleetd.run(args);
        assert_eq!((ran.code, ran.out.as_str()), (Some(code), ""), "{args}");
        assert!(ran.err.contains(why) && !ran.err.contains("submitted"), "{args}: {}", ran.err);
    };
    wrong("what-if", 2, "--lose");
    wrong("what-if --lose n9", 1, "no host n9 is known");
    wrong("what-if --lose zone=q", 1, "no host has the metadata zone=q");
    wrong("what-if --each rack", 1, "no host has the metadata rack");
    wrong("what-if --each rack --each-host", 2, "--each");
    wrong("what-if --add 0", 2, "it must be a number of hosts");
    wrong("what-if --add 1:zone", 2, "`zone` must be key=value");
    wrong("what-if --start nowhere.service", 1, "nowhere.service");
    wrong("what-if --start", 2, "--start");
    file(&fleetd, "bad.service", "Nonsense=1");
    wrong("what-if --start bad.service", 1, "Nonsense");
    wrong("what-if --start none*", 1, "no unit matches `none*`");
}
