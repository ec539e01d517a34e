//! `fleetctl doctor` on real hosts with a real etcd: it says nothing while all is well, and finds each fault, with what
//! to do about it, until that was done.

use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Lab, eventually};

const LIMIT: Duration = Duration::from_secs(60);

/// How large etcd's database may get, in bytes: little, so that it is soon full.
const QUOTA: &str = "8388608";

const SLEEP: &str = "[Service]\nExecStart=/bin/sleep infinity\n[X-Fleet]\n";

/// Where systemd finds what is added to `fleetd.service`.
const DROP_IN: &str = "/etc/systemd/system/fleetd.service.d";

/// What `doctor` says of the only thing that is wrong. `text` is its beginning: it may end with how long it lasts.
struct Expected<'a> {
    kind: &'a str,
    name: &'a str,
    host: &'a str,
    text: &'a str,
    advice: &'a str,
}

/// Nothing is wrong, and `doctor` says nothing.
fn is_well(lab: &Lab, after: &str) {
    eventually(LIMIT, &format!("`doctor` finds nothing after {after}"), || {
        let ran = lab.fleetctl(&["doctor"]);
        let is_silent = ran.stdout.is_empty() && ran.stderr.is_empty();
        if ran.code == 0 && is_silent { Ok(()) } else { Err(format!("{ran:?}")) }
    });
    let json: Value = serde_json::from_str(&lab.fleetctl(&["doctor", "--output=json"]).ok()).unwrap();
    assert_eq!((&json["healthy"], &json["findings"]), (&json!(true), &json!([])), "after {after}: {json}");
    assert_eq!(json["store"]["members"][0]["leads"], true, "after {after}: {json}");
}

/// `doctor` finds this, and nothing else, for people and in JSON.
fn is_found(lab: &Lab, expected: &Expected<'_>) {
    let Expected { kind, name, host, text, advice } = expected;
    let line = eventually(LIMIT, &format!("`doctor` finds {kind} {name}: {text}… {advice}"), || {
        let ran = lab.fleetctl(&["doctor"]);
        let line = ran.stdout.strip_suffix('\n').filter(|line| !line.contains('\n')).unwrap_or_default();
        let words: Vec<&str> = line.split('\t').collect();
        let is_it = matches!(&words[..], ["problem", found, of, on, _, why, what]
            if found == kind && of == name && on == host && why.starts_with(text) && what == advice);
        if ran.code == 3 && is_it { Ok(line.to_owned()) } else { Err(format!("{ran:?}")) }
    });
    let ran = lab.fleetctl(&["doctor", "--output=json"]);
    let json: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((ran.code, &json["healthy"]), (3, &json!(false)), "{json}");
    let [found] = json["findings"].as_array().unwrap().as_slice() else { panic!("one finding: {json}") };
    let host = if *host == "-" { "" } else { host };
    let fields = ["problem", "name", "host", "advice"].map(|field| found[field].as_str().unwrap());
    assert_eq!(fields, [*kind, name, host, advice], "{json}");
    assert!(found["text"].as_str().unwrap().starts_with(text), "{json}");
    assert_eq!(found["since"].to_string(), line.split('\t').nth(4).unwrap(), "{json}");
}

#[test]
fn doctor_finds_each_fault_and_says_nothing_when_all_is_well() {
    let lab = Lab::named(&format!("t{}", std::process::id()));
    lab.up_with(3, &["--quota", QUOTA], &[]);
    lab.start_fleet(3);
    is_well(&lab, "the start");
    a_unit_has_failed(&lab);
    a_unit_waits(&lab);
    etcd_is_full(&lab);
    a_host_is_cut_off(&lab);
    a_clock_is_ahead(&lab);
}

fn a_unit_has_failed(lab: &Lab) {
    let program = "/opt/api/bin/api";
    let file = format!("[Service]\nExecStart={program} infinity\n[X-Fleet]\nMachineMetadata=host=n2");
    lab.file("api.service", &file);
    assert_eq!(lab.fleetctl(&["start", "api.service"]).code, 1);
    is_found(
        lab,
        &Expected {
            kind: "failed",
            name: "api.service",
            host: "n2",
            text: "failed: exit status 203/EXEC: /opt/api/bin/api (no such file or directory)",
            advice: "`fleetctl journal api.service` shows why; once that is mended, `fleetctl reset-failed \
                     api.service` starts it",
        },
    );
    lab.sh("n2", &format!("mkdir -p /opt/api/bin; ln -s /bin/sleep {program}")).ok();
    lab.fleetctl(&["reset-failed", "api.service"]).ok();
    is_well(lab, "the program was installed");
}

fn a_unit_waits(lab: &Lab) {
    lab.file("fast.service", &format!("{SLEEP}MachineMetadata=disk=ssd"));
    lab.fleetctl(&["start", "--no-block", "fast.service"]).ok();
    is_found(
        lab,
        &Expected {
            kind: "waiting",
            name: "fast.service",
            host: "-",
            text: "waiting: 3 of 3 hosts: metadata",
            advice: "`fleetctl explain fast.service` shows which rule excludes which host, and what would place it",
        },
    );
    lab.fleetctl(&["set-metadata", "n1", "disk=ssd"]).ok();
    is_well(lab, "a host fits");
}

/// etcd sets the alarm itself: one key is written again and again, and nobody compacts.
fn etcd_is_full(lab: &Lab) {
    let endpoints = lab.lab(&["etcd", "endpoints"]).ok();
    let address = endpoints.trim().strip_prefix("http://").unwrap();
    let shell = |line: &str| {
        let mut bash = Command::new("bash");
        bash.args(["-euo", "pipefail", "-c", line]).stdin(Stdio::null());
        bash.env("ETCDCTL_API", "3").env("ETCDCTL_ENDPOINTS", endpoints.trim()).output().unwrap()
    };
    let filled = shell("for i in {1..20}; do head -c 1000000 /dev/urandom | etcdctl put big; done");
    let said = String::from_utf8_lossy(&filled.stderr);
    assert!(!filled.status.success() && said.contains("database space exceeded"), "{filled:?}");
    is_found(
        lab,
        &Expected {
            kind: "store-full",
            name: &format!("etcd at {address}"),
            host: "-",
            text: "its database has reached its quota: nothing in the cluster can be changed",
            advice: "compact and defragment etcd, then `etcdctl alarm disarm`; \"etcd is full\" in the runbook has the \
                     commands",
        },
    );
    let runbook = include_str!("../../docs/runbook.md");
    let section = runbook.split_once("\n## etcd is full\n").unwrap().1;
    let commands = section.split_once("```sh\n").unwrap().1.split_once("```").unwrap().0;
    assert!(commands.contains("etcdctl alarm disarm"), "{commands}");
    let mended = shell(commands);
    assert!(mended.status.success(), "{commands}{mended:?}");
    is_well(lab, "the runbook's commands");
}

fn a_host_is_cut_off(lab: &Lab) {
    let address = lab.run("n1", &["getent", "hosts", "n3"]).ok();
    lab.lab(&["cut", "n3"]).ok();
    is_found(
        lab,
        &Expected {
            kind: "gone",
            name: "n3",
            host: address.split_whitespace().next().unwrap(),
            text: "gone since ",
            advice: "look on it with `systemctl status fleetd`; if it won't be back, `fleetctl forget n3` removes it",
        },
    );
    lab.lab(&["join", "n3"]).ok();
    is_well(lab, "the host has its network again");
}

/// All hosts of the lab share one clock, so only the `fleetd` of n3 is given another one.
fn a_clock_is_ahead(lab: &Lab) {
    let address = lab.run("n1", &["getent", "hosts", "n3"]).ok();
    let library = lab.sh("n3", "ls /usr/lib/*/faketime/libfaketime.so.1").ok();
    let variables = [&*format!("LD_PRELOAD={}", library.trim()), "FAKETIME=+60s", "FAKETIME_DONT_FAKE_MONOTONIC=1"];
    let drop_in = variables.map(|variable| format!("Environment={variable}\\n")).concat();
    let set = format!("mkdir -p {DROP_IN}; printf '[Service]\\n{drop_in}' > {DROP_IN}/clock.conf");
    lab.sh("n3", &format!("{set}; systemctl daemon-reload; systemctl restart fleetd")).ok();
    // It says since when.
    lab.file("late.service", &format!("{SLEEP}MachineMetadata=host=n3"));
    lab.fleetctl(&["start", "late.service"]).ok();
    let pid = lab.main_pid("n3", "late.service");
    is_found(
        lab,
        &Expected {
            kind: "clock",
            name: "n3",
            host: address.split_whitespace().next().unwrap(),
            text: "its clock is ahead of this machine's by ",
            advice: "look on it with `timedatectl` whether its clock is synchronized; once it is, `systemctl restart \
                     fleetd` corrects the times that it has told",
        },
    );
    lab.sh("n3", &format!("rm {DROP_IN}/clock.conf; systemctl daemon-reload; systemctl restart fleetd")).ok();
    is_well(lab, "the clock was set, without the minute having passed");
    assert_eq!(lab.main_pid("n3", "late.service"), pid, "nothing was restarted");
}
