//! While the store is away: lists of what one host knows, marked as such, and `status` and `journal` of what it runs.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use super::fake::{Ran, fleetctl, run};
use super::real::Real;
use super::{N1, OK};

const UNITS: &[(&str, &str)] = &[("hello.service", OK), ("web@1.service", OK)];

/// A `fleetd` on n1 that can't reach its store.
fn cut_off() -> Real {
    let fleetd = Real::on(N1, UNITS);
    fleetd.cut_off();
    fleetd
}

/// The two lines on stderr: why, without its age, and what is shown.
fn said(err: &str) -> (&str, &str) {
    let (why, what) = err.split_once('\n').unwrap_or_else(|| panic!("{err}"));
    (why.split(" since ").next().unwrap(), what)
}

const WHY: &str = "fleetd on n1 can't reach its store: etcd at 10.88.0.1:2379 refuses connections";
const SINCE: &str = "the store has been unreachable since 03:12:04 UTC (2 min); ";

#[test]
fn lists_show_what_one_host_knows_and_fail() {
    let fleetd = cut_off();
    let table = "UNIT\t\tMACHINE\t\t\tACTIVE\tSUB\n\
        hello.service\ta2d7e4a6.../10.88.0.11\tactive\trunning\n\
        web@1.service\ta2d7e4a6.../10.88.0.11\tactive\trunning\n";
    let ran = fleetd.run("list-units");
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), table));
    let what = format!("{SINCE}these are the 2 units of n1 as of 03:14:05 UTC\n");
    assert_eq!(said(&ran.err), (WHY, what.as_str()));

    let ran = fleetd.run("list-unit-files --no-legend --fields=unit,dstate,state hello");
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), "hello.service\tlaunched\tlaunched\n"));
    assert_eq!(said(&ran.err).1, format!("{SINCE}this is the 1 unit of n1 as of 03:14:05 UTC\n"));
    let ran = fleetd.run("list-machines --no-legend --fields=hostname");
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), "n1\n"));
    assert_eq!(said(&ran.err).1, format!("{SINCE}this is n1 alone as of 03:14:05 UTC\n"));

    let ran = fleetd.run("list-units --no-legend other db*");
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""));
    assert!(ran.err.ends_with("\nUnit other.service not found on n1\nno unit matches `db*` on n1\n"), "{}", ran.err);
}

#[test]
fn json_is_marked() {
    let fleetd = cut_off();
    let host = json!({ "id": N1, "ip": "10.88.0.11", "hostname": "n1" });
    let mark = json!({ "host": host, "at": 11_645_000, "since": 11_524_000 });
    for command in ["list-units", "list-unit-files", "list-machines", "status hello"] {
        let rows: Value = serde_json::from_str(&fleetd.run(&format!("{command} --output json")).out).unwrap();
        let rows = rows.as_array().unwrap();
        assert!(!rows.is_empty() && rows.iter().all(|row| row["offline"] == mark), "{command}: {rows:?}");
    }
    let file: Value = serde_json::from_str(&fleetd.run("cat --output json hello").out).unwrap();
    assert_eq!((&file["text"], &file["offline"]), (&json!(OK), &mark));
}

#[test]
fn files_are_those_that_the_host_has_installed() {
    let fleetd = cut_off();
    let ran = fleetd.run("cat hello");
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), OK));
    assert_eq!(said(&ran.err).1, format!("{SINCE}this is the file on n1 as of 03:14:05 UTC\n"));
    let ran = fleetd.run("cat *");
    assert_eq!((ran.code, ran.out), (Some(1), format!("# hello.service\n{OK}\n# web@1.service\n{OK}")));
}

#[test]
fn what_would_change_something_is_refused_as_before() {
    let fleetd = cut_off();
    for command in ["stop hello", "destroy *", "start hello"] {
        let ran = fleetd.run(command);
        assert_eq!((ran.code, ran.out.as_str(), said(&ran.err).0), (Some(1), "", WHY), "{command}");
        assert!(ran.err.contains("nothing was changed"), "{command}: {}", ran.err);
    }
}

/// `systemctl` and `journalctl` that show what they are asked.
fn with_programs(fleetd: &Real, mut command: std::process::Command) -> Ran {
    let bin = fleetd.dir.path().join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    for (name, last) in [("systemctl", "$#"), ("journalctl", "2")] {
        let file = bin.join(name);
        std::fs::write(&file, format!("#!/bin/sh\neval echo {name} \\${{{last}}}\n")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    command.env("PATH", format!("{}:/usr/bin:/bin", bin.display()));
    run(command)
}

#[test]
fn status_and_journal_of_what_runs_here_need_no_store() {
    let id = std::fs::read_to_string("/etc/machine-id").unwrap().trim().to_owned();
    let fleetd = Real::on(id.leak(), UNITS);
    fleetd.cut_off();
    let cases = [
        ("status hello", 0, "systemctl hello.service\n"),
        ("journal hello", 0, "journalctl --unit=hello.service\n"),
        // These may also be on other hosts.
        ("status hell*", 1, "systemctl hello.service\n"),
        ("status other", 1, ""),
        ("journal other", 1, ""),
    ];
    for (args, code, out) in cases {
        let ran = with_programs(&fleetd, fleetd.command(args));
        assert_eq!((ran.code, ran.out.as_str(), said(&ran.err).0), (Some(code), out, WHY), "{args}: {}", ran.err);
    }
    let ran = with_programs(&fleetd, fleetd.command("status other"));
    assert!(ran.err.ends_with("\nUnit other.service is not on n1.\n"), "{}", ran.err);
}

#[test]
fn status_and_journal_of_what_runs_here_need_no_fleetd() {
    let fleetd = Real::new();
    let socket = fleetd.dir.path().join("none.sock");
    let asked = |args: &str| {
        let mut command = fleetctl(fleetd.dir.path());
        command.args(args.split(' ')).arg("--endpoint").arg(&socket);
        with_programs(&fleetd, command)
    };
    let unreachable = format!("can't reach fleetd at {}: no such socket", socket.display());
    let instead = format!("{unreachable}; what follows is what systemd on this host says\n");
    for (args, out) in
        [("status hello", "systemctl hello.service\n"), ("journal hello", "journalctl --unit=hello.service\n")]
    {
        assert_eq!(asked(args), Ran { code: Some(0), out: out.into(), err: instead.clone() }, "{args}");
    }
    // Which units a pattern matches only the cluster knows.
    let ran = asked("status hell*");
    assert_eq!((ran.code, ran.out, ran.err), (Some(1), String::new(), format!("{unreachable}\n")));
}

/// The cluster knows nothing of such a host: only its own `fleetd` can say so.
#[test]
fn the_doctor_says_on_a_host_that_is_refused_that_its_machine_id_clashes() {
    let fleetd = Real::on(N1, UNITS);
    let on_n1 = |out: &str| out.lines().filter(|line| line.split('\t').nth(2) == Some("n1")).count();
    assert_eq!(on_n1(&fleetd.run("doctor").out), 0);
    fleetd.is_refused();
    let ran = fleetd.run("doctor");
    let line = "problem\tmachine-id\tn1\t-\t7\tits fleetd isn't registered with its cluster: another live host has \
                the machine id a2d7e4a6: n9 (10.88.0.19), and this is n1 (10.88.0.11)\ton the one of the two hosts \
                that is to have another id, type `rm /etc/machine-id && systemd-machine-id-setup`, and restart it";
    assert_eq!(
        (ran.code, ran.out.lines().find(|found| found.contains("machine-id\t"))),
        (Some(1), Some(line)),
        "{ran:?}"
    );
    let json: Value = serde_json::from_str(&fleetd.run("doctor --output json").out).unwrap();
    assert_eq!((&json["healthy"], &json["store"]["daemon"]["waits"]["for"]), (&json!(false), &json!("machine-id")));
}
