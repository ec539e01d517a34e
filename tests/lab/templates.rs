//! Templates of which a unit's file names an instance: they come to the unit's host, follow changes, and go with it.

use std::time::Duration;

use crate::harness::{Lab, eventually};

const SOON: Duration = Duration::from_secs(10);

const CONNECTS: &str = "import socket
s = socket.create_connection(('127.0.0.1', 7007), 3)
s.settimeout(3)
s.sendall(b'hello\\n')
print(s.recv(64).decode())";

/// The service of one connection: it says which version it is, then what the client says.
fn echo(version: &str) -> String {
    format!(
        "[Service]\nExecStart=/bin/sh -c 'read line; echo {version} $line'\nStandardInput=socket\n\
        StandardOutput=socket\n"
    )
}

fn files(lab: &Lab, host: &str) -> String {
    lab.sh(host, "ls -A /run/fleet/units 2>/dev/null").stdout
}

/// The answer on the host's port, once it is `expected`.
fn answers(lab: &Lab, host: &str, expected: &str) {
    eventually(SOON, &format!("`{expected}` from the socket on {host}"), || {
        let answer = lab.run(host, &["python3", "-c", CONNECTS]);
        (answer.stdout.trim() == expected).then_some(()).ok_or_else(|| format!("{answer:?}"))
    });
}

#[test]
fn a_socket_that_accepts_brings_its_template_to_its_host() {
    let lab = Lab::cluster(2);
    lab.file("echo@.service", &echo("first"));
    lab.file("echo.socket", "[Socket]\nListenStream=127.0.0.1:7007\nAccept=yes\n[X-Fleet]\nMachineMetadata=host=n2\n");
    lab.fleetctl(&["submit", "echo@.service"]).ok();
    lab.fleetctl(&["start", "echo.socket"]).ok();
    answers(&lab, "n2", "first hello");
    assert!(!files(&lab, "n1").contains("echo"), "the other host needs no file");
    // Only units are reported.
    let units = lab.fleetctl(&["list-units", "--no-legend", "--fields=unit"]).ok();
    assert_eq!(units.trim(), "echo.socket");

    // The socket isn't restarted for another version of its template.
    let since = ["systemctl", "show", "-P", "ActiveEnterTimestampMonotonic", "echo.socket"];
    let before = lab.run("n2", &since).ok();
    lab.file("echo@.service", &echo("second"));
    lab.fleetctl(&["submit", "--replace", "echo@.service"]).ok();
    answers(&lab, "n2", "second hello");
    assert_eq!(lab.run("n2", &since).ok(), before);

    // A restarted daemon finds all as it was.
    lab.lab(&["fleet", "restart", "n2"]);
    answers(&lab, "n2", "second hello");
    lab.fleetctl(&["destroy", "echo.socket"]).ok();
    eventually(SOON, "n2 to have no file left", || {
        let left = files(&lab, "n2");
        left.trim().is_empty().then_some(()).ok_or(left)
    });
}

#[test]
fn a_timer_that_names_an_instance_brings_its_template_even_if_that_comes_later() {
    let lab = Lab::cluster(1);
    lab.file("save@.service", "[Service]\nType=oneshot\nExecStart=/bin/touch /run/saved-%i\n");
    lab.file("save.timer", "[Timer]\nOnActiveSec=1\nAccuracySec=100ms\nUnit=save@db.service\n");
    let failed = lab.fleetctl(&["start", "save.timer"]);
    assert_eq!(failed.code, 1, "{failed:?}");
    lab.fleetctl(&["submit", "save@.service"]).ok();
    lab.fleetctl(&["start", "save.timer"]).ok();
    eventually(SOON, "the timer to start its service", || {
        let made = lab.run("n1", &["ls", "/run/saved-db"]);
        (made.code == 0).then_some(()).ok_or_else(|| {
            format!("{} {}", files(&lab, "n1"), lab.run("n1", &["systemctl", "status", "save.timer"]).stdout)
        })
    });
}

#[test]
fn a_unit_that_was_masked_is_started_by_the_next_start() {
    let lab = Lab::cluster(1);
    lab.file("m.service", "[Service]\nExecStart=/bin/sleep infinity\n");
    lab.run("n1", &["systemctl", "mask", "m.service"]).ok();
    let masked = lab.fleetctl(&["start", "m.service"]);
    assert!(masked.code == 1 && masked.stderr.contains("masked"), "{masked:?}");
    lab.run("n1", &["systemctl", "unmask", "m.service"]).ok();
    lab.fleetctl(&["start", "m.service"]).ok();
    assert_eq!(lab.run("n1", &["systemctl", "is-active", "m.service"]).stdout.trim(), "active");
}
