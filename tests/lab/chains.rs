//! Order: chains start from the bottom and stop from the top, in whatever order they were submitted, according to
//! systemd's own journal.

use std::time::Duration;

use crate::harness::{Lab, eventually};

const UNITS: [&str; 2] = ["base.service", "top.service"];
const BASE: &str = "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sleep 0.3\nExecStop=/bin/sleep 0.3";
const TOP: &str =
    "[Unit]\nRequires=base.service\nAfter=base.service\n[Service]\nExecStart=/bin/sleep 1000\nExecStop=/bin/sleep 0.3";

#[test]
fn a_chain_sent_dependents_first_starts_in_order_and_stops_in_reverse() {
    let lab = Lab::cluster(1);
    lab.file("base.service", BASE);
    lab.file("top.service", TOP);
    lab.fleetctl(&["start", "top.service", "base.service"]).ok();
    assert_eq!(lab.order("n1", "Started", &UNITS), ["base.service", "top.service"]);
    lab.fleetctl(&["stop", "base.service", "top.service"]).ok();
    assert_eq!(lab.order("n1", "Stopped", &UNITS), ["top.service", "base.service"]);
    // Again, from loaded, and then destroyed without a stop.
    lab.fleetctl(&["start", "top.service", "base.service"]).ok();
    lab.fleetctl(&["destroy", "base.service", "top.service"]).ok();
    assert_eq!(lab.order("n1", "Stopped", &UNITS)[2..], ["top.service", "base.service"]);
}

#[test]
fn a_chain_through_v1_one_unit_per_request() {
    let lab = Lab::cluster(1);
    let put = |name: &str, options: &[(&str, &str, &str)]| {
        let options: Vec<_> = options
            .iter()
            .map(|(section, name, value)| serde_json::json!({"section": section, "name": name, "value": value}))
            .collect();
        let body = serde_json::json!({"name": name, "desiredState": "launched", "options": options}).to_string();
        let url = format!("http://fleet/fleet/v1/units/{name}");
        let args =
            ["curl", "-sS", "--unix-socket", "/run/fleet.sock", "-X", "PUT", "-H", "Content-Type: application/json"];
        let rest = ["-d", &body, "-o", "/dev/null", "-w", "%{http_code}", &url];
        assert_eq!(lab.run("n1", &[&args[..], &rest].concat()).ok(), "201", "{name}");
    };
    put(
        "top.service",
        &[
            ("Unit", "Requires", "base.service"),
            ("Unit", "After", "base.service"),
            ("Service", "ExecStart", "/bin/sleep 1000"),
        ],
    );
    // The host has the unit, and reports what it waits for.
    eventually(Duration::from_secs(10), "top.service refused for want of base.service", || {
        let units = lab.units().unwrap();
        let error = units.first().and_then(|unit| unit.states.first()).and_then(|state| state.report.error.clone());
        error.filter(|error| error.contains("base.service")).ok_or(format!("{units:?}"))
    });
    put(
        "base.service",
        &[
            ("Service", "Type", "oneshot"),
            ("Service", "RemainAfterExit", "yes"),
            ("Service", "ExecStart", "/bin/sleep 0.3"),
        ],
    );
    lab.until_active("top.service", Duration::from_secs(10));
    assert_eq!(lab.order("n1", "Started", &UNITS), ["base.service", "top.service"]);
    for name in ["base.service", "top.service"] {
        let url = format!("http://fleet/fleet/v1/units/{name}");
        lab.run("n1", &["curl", "-sS", "--unix-socket", "/run/fleet.sock", "-X", "DELETE", &url]).ok();
    }
    eventually(Duration::from_secs(10), "both forgotten", || {
        let files = lab.sh("n1", "ls /run/fleet/units").ok();
        if files.is_empty() { Ok(()) } else { Err(files) }
    });
    assert_eq!(lab.order("n1", "Stopped", &UNITS), ["top.service", "base.service"]);
}

#[test]
fn a_file_is_replaced_in_place_after_a_proper_stop() {
    let lab = Lab::cluster(2);
    lab.file("a.service", "[Service]\nExecStart=/bin/sleep 1000");
    lab.fleetctl(&["start", "a.service"]).ok();
    let host = lab.active_on("n1", "a.service").unwrap();
    lab.file("a.service", "[Service]\nExecStart=/bin/sleep 2000");
    let warned = lab.fleetctl(&["start", "a.service"]);
    assert!(warned.stderr.contains("differs from local unit file"), "{warned:?}");
    lab.fleetctl(&["start", "--replace", "a.service"]).ok();
    assert_eq!(lab.active_on("n1", "a.service").unwrap(), host);
    let command = lab.run(&host, &["systemctl", "show", "--value", "-p", "ExecStart", "a.service"]).ok();
    assert!(command.contains("/bin/sleep 2000"), "{command}");
}
