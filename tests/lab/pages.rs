//! The pages of `docs` that show a session: each command is run, and its output is compared with the page.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::harness::{Lab, eventually};
use crate::page::{Item, Page, is_as_shown};

/// How long an output may take until it is what the page shows.
const LIMIT: Duration = Duration::from_secs(40);

/// Commands that change nothing and may be repeated. Others are run once.
const QUESTIONS: [&str; 10] = [
    "fleetctl doctor",
    "fleetctl list-",
    "fleetctl service",
    "fleetctl status",
    "fleetctl journal",
    "systemctl s",
    "journalctl",
    "cat",
    "curl",
    "for ",
];

fn page(name: &str) -> Page {
    let path = format!("{}/docs/{name}.md", env!("CARGO_MANIFEST_DIR"));
    Page::parse(&std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}")))
}

/// Carry out the steps of the page, and compare the outputs.
pub(crate) fn play<'a>(lab: &Lab, items: impl IntoIterator<Item = &'a Item>) {
    let mut typed = 0;
    for item in items {
        match item {
            Item::File { name, text } => lab.file(name, text),
            Item::Command { line, host, command, shown } => {
                typed += 1;
                let look = || {
                    let seen = answer(lab, host.as_deref(), command);
                    if is_as_shown(shown, &seen) { Ok(()) } else { Err(format!("\n{seen}\n")) }
                };
                let what = format!("line {line}: `{command}` answers as shown:\n{}\n", shown.join("\n"));
                if QUESTIONS.iter().any(|question| command.starts_with(question)) {
                    eventually(LIMIT, &what, look);
                } else if let Err(seen) = look() {
                    panic!("{what}; saw {seen}");
                }
            }
        }
    }
    assert!(typed > 0, "there is something to type");
}

/// The output of a command, stdout and stderr together.
fn answer(lab: &Lab, host: Option<&str>, command: &str) -> String {
    let shell = format!("exec 2>&1; {command}");
    if let Some(host) = host {
        return lab.run(host, &["env", "-C", "/root", "bash", "-c", &shell]).stdout;
    }
    // The hosts end with this test, even if it is killed, and use the programs that were built with it.
    let owned = format!("up --fresh --owner {}", std::process::id());
    let shell = shell.replace("up 3", &format!("{owned} 3")).replace("target/debug", &Lab::binaries());
    let output = Command::new("bash").current_dir(env!("CARGO_MANIFEST_DIR")).args(["-c", &shell]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_tutorial_shows_what_happens() {
    let lab = Lab::named("tutorial");
    play(&lab, page("tutorial").items());
}

#[test]
fn the_page_on_data_shows_what_happens() {
    let lab = Lab::named("tutorial");
    lab.up(3, 1, &[]);
    lab.start_fleet(3);
    play(&lab, page("data").items());
}

/// The runbook, and three hosts on which its faults are made.
fn runbook() -> (Lab, Page) {
    let lab = Lab::named("runbook");
    lab.up(3, 1, &[]);
    lab.start_fleet(3);
    (lab, page("runbook"))
}

/// Start a unit on the host whose name is `host` in its metadata, or anywhere.
fn start(lab: &Lab, unit: &str, service: &str, host: Option<&str>) {
    let bound = host.map(|host| format!("[X-Fleet]\nMachineMetadata=host={host}\n")).unwrap_or_default();
    lab.file(unit, &format!("[Service]\n{service}\n{bound}"));
    lab.fleetctl(&["start", unit]);
}

const SLEEP: &str = "ExecStart=/bin/sleep infinity";

#[test]
fn the_runbook_finds_out_what_is_wrong_with_a_unit() {
    let (lab, page) = runbook();
    start(&lab, "api.service", "ExecStart=/opt/api/bin/api", Some("n2"));
    play(&lab, &page.section("A unit has failed").items);

    let service = "Restart=always\nRestartSec=100ms\nStartLimitIntervalSec=0\nExecStart=/bin/sh -c 'sleep 0.5; exit 3'";
    start(&lab, "loop.service", service, Some("n2"));
    eventually(LIMIT, "restarts are counted", || {
        let listed = lab.fleetctl(&["list-units", "--no-legend", "--fields=restarts", "loop.service"]).stdout;
        if listed.trim().parse().is_ok_and(|count: u32| count > 0) { Ok(()) } else { Err(listed) }
    });
    play(&lab, &page.section("A unit restarts again and again").items);

    lab.file("fast.service", &format!("[Service]\n{SLEEP}\n[X-Fleet]\nMachineMetadata=disk=ssd"));
    lab.fleetctl(&["start", "--no-block", "fast.service"]).ok();
    play(&lab, &page.section("A unit waits and runs nowhere").items);

    start(&lab, "hello.service", SLEEP, Some("n2"));
    lab.run("n2", &["systemctl", "stop", "hello.service"]).ok();
    play(&lab, &page.section("A unit should run and does not").items);
    play(&lab, &page.section("Who did this?").items);
}

#[test]
fn the_runbook_finds_out_what_is_wrong_with_a_host() {
    let (lab, page) = runbook();
    start(&lab, "pinned.service", SLEEP, Some("n2"));
    lab.sh("n2", "sed -i 's/^metadata=.*/metadata=hots=n2/' /etc/fleet/fleet.conf; systemctl reload fleetd").ok();
    play(&lab, &page.section("A host has the wrong metadata").items);
    lab.fleetctl(&["destroy", "pinned.service"]).ok();
    lab.sh("n2", "sed -i 's/^metadata=.*/metadata=host=n2/' /etc/fleet/fleet.conf; systemctl reload fleetd").ok();

    lab.sh("n2", "mount -o remount,size=16M /run; cat /dev/zero > /run/filler; true").ok();
    start(&lab, "full.service", SLEEP, Some("n2"));
    play(&lab, &page.section("A disk is full").items);
    lab.run("n2", &["rm", "/run/filler"]).ok();
    lab.fleetctl(&["destroy", "full.service"]).ok();

    start(&lab, "stays.service", SLEEP, Some("n3"));
    start(&lab, "moves.service", SLEEP, None);
    lab.lab(&["kill", "n3"]).ok();
    play(&lab, &page.section("A host is gone").items);

    let id = lab.run("n1", &["cat", "/etc/machine-id"]).ok();
    lab.lab(&["boot", "n3"]).ok();
    lab.sh("n3", &format!("echo {} > /etc/machine-id", id.trim())).ok();
    for verb in ["kill", "boot"] {
        lab.lab(&[verb, "n3"]).ok();
    }
    play(&lab, &page.section("Two hosts have one machine id").items);
}

/// All hosts of the lab share one clock, so only the `fleetd` of n3 is given another one.
#[test]
fn the_runbook_finds_out_that_a_clock_is_wrong() {
    let lab = Lab::named("runbook");
    lab.up(3, 1, &[]);
    let library = lab.sh("n3", "ls /usr/lib/*/faketime/libfaketime.so.1").ok();
    let variables = [&*format!("LD_PRELOAD={}", library.trim()), "FAKETIME=+1h", "FAKETIME_DONT_FAKE_MONOTONIC=1"];
    let drop_in = variables.map(|variable| format!("Environment={variable}\\n")).concat();
    let folder = "/etc/systemd/system/fleetd.service.d";
    lab.sh("n3", &format!("mkdir -p {folder}; printf '[Service]\\n{drop_in}' > {folder}/clock.conf")).ok();
    lab.run("n3", &["systemctl", "daemon-reload"]).ok();
    lab.start_fleet(3);
    play(&lab, &page("runbook").section("A clock is wrong").items);
    // Nothing else is wrong with it.
    start(&lab, "hello.service", SLEEP, Some("n3"));
    assert_eq!(lab.active_on("n1", "hello.service"), Ok("n3".into()));
    lab.sh("n3", &format!("rm {folder}/clock.conf; systemctl daemon-reload")).ok();
}

/// Each fault of the runbook is made by a test.
#[test]
fn every_row_of_the_runbook_is_played() {
    let tests = include_str!("pages.rs");
    // The first section says how to use the page.
    let shows = |title: &str| tests.contains(&format!("section(\"{title}\")"));
    let page = page("runbook");
    let left: Vec<&str> = page.sections.iter().map(|section| &*section.title).filter(|title| !shows(title)).collect();
    assert_eq!(left, ["", "Runbook"]);
}

#[test]
fn the_runbook_says_what_to_do_when_many_hosts_are_gone() {
    let (lab, page) = (Lab::cluster(4), page("runbook"));
    // Another host than n1 has it, which will be the one that is left.
    lab.file("moves.service", &format!("[Service]\n{SLEEP}\n[X-Fleet]\nConflicts=stays.service"));
    start(&lab, "stays.service", SLEEP, Some("n1"));
    lab.fleetctl(&["start", "moves.service"]).ok();
    lab.fleetctl(&["destroy", "stays.service"]).ok();
    for host in ["n2", "n3", "n4"] {
        lab.lab(&["kill", host]).ok();
    }
    play(&lab, &page.section("Many hosts are gone at once").items);
}

#[test]
fn the_runbook_finds_out_what_is_wrong_with_the_store() {
    let (lab, page) = runbook();
    start(&lab, "hello.service", SLEEP, Some("n1"));
    lab.lab(&["etcd", "stop"]).ok();
    play(&lab, &page.section("etcd is down").items);
    lab.lab(&["etcd", "start"]).ok();
    eventually(LIMIT, "the store is used again", || {
        let listed = lab.fleetctl(&["list-units", "--no-legend"]);
        if listed.code == 0 { Ok(()) } else { Err(format!("{listed:?}")) }
    });

    // The alarm that etcd raises when its database has reached the quota.
    let endpoint = lab.lab(&["etcd", "endpoints"]).ok();
    let post = |path: &str, body: &str| {
        lab.run("n1", &["curl", "-sS", "--fail", "-d", body, &format!("{}{path}", endpoint.trim())]).ok()
    };
    let status: Value = serde_json::from_str(&post("/v3/maintenance/status", "{}")).unwrap();
    let member = status["header"]["member_id"].as_str().unwrap();
    let alarm = format!(r#"{{"action":"ACTIVATE","alarm":"NOSPACE","memberID":"{member}"}}"#);
    post("/v3/maintenance/alarm", &alarm);
    lab.file("late.service", &format!("[Service]\n{SLEEP}"));
    play(&lab, &page.section("etcd is full").items);
    assert_eq!(lab.run("n1", &["systemctl", "is-active", "hello.service"]).ok().trim(), "active");
}
