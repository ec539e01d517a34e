//! `set-metadata` and `unset-metadata` against the real API: how a host is named, what is said, and what is refused.

use serde_json::{Value, json};

use super::real::Real;
use super::{N1, N2};

fn metadata(fleetd: &Real) -> String {
    fleetd.run("list-machines --no-legend --fields=hostname,metadata").out
}

#[test]
fn a_host_gets_and_loses_metadata_by_whatever_names_it() {
    let fleetd = Real::new();
    fleetd.host(N1);
    fleetd.expect("set-metadata n1 disk=ssd zone=b", 0, "n1: disk=ssd\nn1: zone=b (was a)\n", "");
    assert_eq!(metadata(&fleetd), "n1\tdisk=ssd,zone=b\n");
    fleetd.expect("set-metadata 10.88.0.11 disk=ssd=fast", 0, "n1: disk=ssd=fast (was ssd)\n", "");
    fleetd.expect(&format!("unset-metadata {} disk gpu zone", &N1[..4]), 0, REMOVED, "");
    assert_eq!(metadata(&fleetd), "n1\t-\n", "what its configuration says is hidden");
    fleetd.expect(&format!("set-metadata {N1} a=1 a=2"), 0, "n1: a=1\nn1: a=2\n", "");
    assert_eq!(metadata(&fleetd), "n1\ta=2\n", "the last one counts");
    let restored = "n1: what was set is removed; what its fleet.conf says applies again\n";
    fleetd.expect("unset-metadata --all n1", 0, restored, "");
    assert_eq!(metadata(&fleetd), "n1\tzone=a\n");
    fleetd.expect("unset-metadata --all n1", 0, "n1: nothing was set\n", "");

    let json = |args: &str| -> Value { serde_json::from_str(&fleetd.run(args).out).unwrap() };
    let host = |metadata| json!({ "machine": N1, "ip": "10.88.0.11", "hostname": "n1", "metadata": metadata });
    assert_eq!(json("set-metadata -o json n1 disk=ssd"), host(json!({ "disk": "ssd", "zone": "a" })));
    assert_eq!(json("unset-metadata -o json n1 disk zone"), host(json!({})));
}

const REMOVED: &str = "n1: disk removed (was ssd=fast)\nn1: there was no gpu\nn1: zone removed (was b)\n";

#[test]
fn a_host_that_is_yet_to_join_is_named_by_its_whole_id() {
    let fleetd = Real::new();
    fleetd.host(N1);
    fleetd.expect(&format!("set-metadata {N2} zone=b"), 0, &format!("{}: zone=b\n", &N2[..8]), "");
    fleetd.expect(&format!("unset-metadata {N2} zone"), 0, &format!("{}: zone removed\n", &N2[..8]), "");
    for name in ["n7", &N2[..8], "a2d"] {
        let unknown = format!("no host {name} is known\nnothing was changed\n");
        fleetd.expect(&format!("set-metadata {name} zone=b"), 1, "", &unknown);
        fleetd.expect(&format!("unset-metadata {name} zone"), 1, "", &unknown);
    }
    // A second host with the first eight digits of this one.
    fleetd.named_alike(&format!("{}{}", &N1[..8], "f".repeat(24)), "n3");
    let ran = fleetd.run(&format!("set-metadata {} zone=b", &N1[..8]));
    assert!(ran.code == Some(1) && ran.err.starts_with("a2d7e4a6 could be any of these hosts:\n"), "{ran:?}");
    assert_eq!(metadata(&fleetd), "n1\tzone=a\nn3\t-\n");
}

#[test]
fn what_can_be_no_metadata_is_refused_before_anything_is_asked() {
    let fleetd = Real::new();
    for (args, why) in [
        ("set-metadata n1 disk", "it must be key=value"),
        ("set-metadata n1 disk=", "a value is missing; `unset-metadata` removes disk"),
        ("set-metadata n1 a!=b", "`a!` is no key of metadata: it must consist of letters, digits, `_`, `.` and `-`"),
        ("set-metadata n1 @arch=arm64", "`@arch` can't be set: each host reports what begins with @ by itself"),
        ("unset-metadata n1 @arch", "`@arch` can't be set: each host reports what begins with @ by itself"),
        ("unset-metadata n1 a=b", "`a=b` is no key of metadata"),
        ("set-metadata n1", "KEY=VALUE"),
        ("unset-metadata n1", "KEY"),
        ("unset-metadata --all n1 a", "--all"),
    ] {
        let ran = fleetd.run(args);
        assert!(ran.code == Some(2) && ran.out.is_empty() && ran.err.contains(why), "{args}: {ran:?}");
    }
}

/// What hosts report of themselves is a column of its own, which no script gets that didn't ask for it.
#[test]
fn built_in_metadata_is_a_field() {
    let fleetd = Real::new();
    fleetd.reporting(N1, &[("@arch", "arm64"), ("@systemd", "257")]);
    let plain = "MACHINE\t\tIP\t\tMETADATA\na2d7e4a6...\t10.88.0.11\tzone=a\n";
    fleetd.expect("list-machines", 0, plain, "");
    let builtin = "n1\t@arch=arm64,@systemd=257\n";
    fleetd.expect("list-machines --no-legend --fields=hostname,builtin", 0, builtin, "");
    let json: Value = serde_json::from_str(&fleetd.run("list-machines --output json").out).unwrap();
    assert_eq!(json[0]["builtin"], json!({ "@arch": "arm64", "@systemd": "257" }));
    assert_eq!(json[0]["metadata"], json!({ "zone": "a" }));
}
