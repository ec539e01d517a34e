//! `fleetctl journal` with a fake API and a fake journalctl on this host: which units are selected, what is passed on,
//! merged and printed, and the exit status. The lab has tests with several hosts and a real journald.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "cli/fake.rs"]
#[allow(dead_code, reason = "shared with the other tests of the command line")]
mod fake;

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command};

use fake::{CLOSE, Fake, Ran, Script, finish, run};
use serde_json::{Value, json};

/// Stands for journalctl on a host.
const JOURNALCTL: &str = include_str!("support/journalctl");

struct Host {
    fake: Fake,
}

/// The host this test runs on.
fn here() -> Value {
    let id = std::fs::read_to_string("/etc/machine-id").unwrap();
    json!({ "id": id.trim(), "ip": "10.88.0.11", "hostname": "n1" })
}

fn unit(name: &str, placed: bool) -> Value {
    json!({
        "name": name, "hash": "3750b3e9f3962a56c7582929426e9abb012754cf", "desired": "launched", "generation": 7,
        "machine": if placed { here() } else { Value::Null }, "states": [],
    })
}

fn told(unit: &Value) -> String {
    json!({ "unit": unit }).to_string()
}

fn synced() -> String {
    json!({ "synced": 7 }).to_string()
}

fn entry(unit: &str, number: u64, message: &str) -> String {
    // 2001-09-09, so that lines name the day, a second apart.
    let at = 1_000_000_000_000_000 + number * 1_000_000;
    json!({
        "__CURSOR": format!("s=a;i={number:x};b=b;t={at:x}"), "__REALTIME_TIMESTAMP": at.to_string(),
        "__MONOTONIC_TIMESTAMP": number.to_string(), "_SYSTEMD_UNIT": unit, "MESSAGE": message, "_HOSTNAME": "n1",
        "SYSLOG_IDENTIFIER": "sh", "_PID": "12",
    })
    .to_string()
}

impl Host {
    fn new(units: &[Value], watches: Vec<Vec<String>>) -> Self {
        let fake = Fake::new(Script { units: units.to_vec(), watches: watches.into(), ..Script::default() });
        fake.file("bin/journalctl", JOURNALCTL);
        let program = fake.dir.path().join("bin/journalctl");
        std::fs::set_permissions(program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        fake.file("journal", "");
        Self { fake }
    }

    fn say(&self, unit: &str, numbers: std::ops::RangeInclusive<u64>) {
        let mut file = std::fs::OpenOptions::new().append(true).open(self.fake.dir.path().join("journal")).unwrap();
        let lines: String = numbers.map(|number| entry(unit, number, &format!("{unit} {number}")) + "\n").collect();
        file.write_all(lines.as_bytes()).unwrap();
    }

    fn command(&self, args: &str) -> Command {
        let mut command = self.fake.command(args);
        let dir = self.fake.dir.path().display();
        command
            .env("PATH", format!("{dir}/bin:/usr/bin:/bin"))
            .env("JOURNAL", format!("{dir}/journal"))
            .env("TZ", "UTC");
        command
    }

    fn run(&self, args: &str) -> Ran {
        run(self.command(args))
    }

    #[track_caller]
    fn expect(&self, args: &str, code: i32, out: &str, err: &str) {
        assert_eq!(self.run(args), Ran { code: Some(code), out: out.into(), err: err.into() }, "fleetctl {args}");
    }
}

#[test]
fn bad_usage_exits_2_and_asks_nobody() {
    let host = Host::new(&[unit("a.service", true), unit("b.service", true)], vec![]);
    for (args, message) in [
        ("journal", "No units given"),
        ("journal a --output yaml", "`--output yaml`: it must be one of short, short-precise, "),
        ("journal a --lines many", "it must be a number, or `all`"),
        ("journal a b --output verbose", "entries can't be merged as `verbose`"),
        ("journal a -f --output export", "entries can't be followed as `export`"),
    ] {
        let Ran { code, out, err } = host.run(args);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{args}: {err}");
        assert!(err.contains(message), "{args}: {err}");
    }
}

#[test]
fn one_unit_is_passed_on_as_journalctl_prints_it() {
    let host = Host::new(&[unit("a.service", true)], vec![]);
    host.say("a.service", 1..=20);
    host.say("b.service", 21..=22);
    host.expect("journal a -lines 2", 0, "a.service 19\na.service 20\n", "");
    assert_eq!(host.run("journal a").out.lines().count(), 10);
    assert_eq!(host.run("journal a --since=-1h").out.lines().count(), 20);
    assert_eq!(host.run("journal a --until=-1h").out.lines().count(), 20);
    // Which journalctl would take for the first two, or for none.
    for time in ["--since=-1h", "--until=-1h"] {
        host.expect(&format!("journal a {time} -n 2 --output cat"), 0, "a.service 19\na.service 20\n", "");
    }
    assert_eq!(host.run("journal a --output verbose").out.lines().count(), 10);
    // Its exit status and its output.
    host.expect("journal a --priority bogus", 1, "", "Unknown log level bogus\n");
    assert_eq!(host.run("journal a --grep x").code, Some(1));
    let json = host.run("journal a --output json --lines 1").out;
    assert_eq!(json, entry("a.service", 20, "a.service 20") + "\n");
}

#[test]
fn what_isnt_there_is_said_as_fleet_did() {
    let host = Host::new(&[unit("a.service", false), unit("b.service", true), unit("t@.service", false)], vec![]);
    host.say("b.service", 1..=1);
    host.expect("journal nope", 1, "", "Unit nope.service does not exist.\n");
    host.expect("journal a", 1, "", "Unit a.service does not appear to be running.\n");
    host.expect("journal x*", 1, "", "no unit matches `x*`\n");
    host.expect("journal a*", 1, "", "no unit that matches `a*` appears to be running\n");
    host.expect("journal t@.service", 1, "", "Template t@.service has no instances.\n");
    host.expect("journal -f nope", 1, "", "Unit nope.service does not exist.\n");
    host.expect("journal a/b/c*d!", 1, "", "no unit matches `a/b/c*d!`\n");
    host.expect("journal a!", 1, "", "a!: invalid character '!' in unit name\n");
    // The other units are shown nevertheless.
    host.expect("journal b nope", 1, "n1 b  Sep 09 01:46:41.000  b.service 1\n", "Unit nope.service does not exist.\n");
}

#[test]
fn many_units_are_one_journal() {
    let units = [
        unit("web@1.service", true),
        unit("web@2.service", true),
        unit("db.service", true),
        unit("web@.service", false),
    ];
    let host = Host::new(&units, vec![]);
    host.say("web@1.service", 1..=2);
    host.say("db.service", 3..=3);
    host.say("web@2.service", 4..=5);
    for time in ["--since=-1h", "--until=-1h"] {
        host.expect(&format!("journal web@* {time} -n 2 --output cat"), 0, "web@2.service 4\nweb@2.service 5\n", "");
    }
    host.say("other.service", 6..=9);
    let merged = "n1 web@1  Sep 09 01:46:42.000  web@1.service 2\n\
                  n1 db     Sep 09 01:46:43.000  db.service 3\n\
                  n1 web@2  Sep 09 01:46:44.000  web@2.service 4\n\
                  n1 web@2  Sep 09 01:46:45.000  web@2.service 5\n";
    host.expect("journal web@* db -n 4", 0, merged, "");
    assert_eq!(host.run("journal web@.service --output cat").out.lines().count(), 4);
    // A pattern that matches one unit is still a pattern.
    assert_eq!(host.run("journal d* --output cat").out, "db.service 3\n");
    let json = host.run("journal web@* --output json -n 1").out;
    let entry: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&entry["host"], &entry["unit"]), (&json!("n1"), &json!("web@2.service")));
    assert_eq!((&entry["MESSAGE"], &entry["_PID"]), (&json!("web@2.service 5"), &json!("12")));
    // A host where nothing matches prints nothing; if nothing matches on any host, the exit status is journalctl's 1.
    assert_eq!(host.run("journal web@* --grep 2.service --output cat").out, "web@2.service 4\nweb@2.service 5\n");
    host.expect("journal web@* --grep nothing", 1, "", "");
    host.expect("journal web@* --priority bogus", 1, "", "-- n1: Unknown log level bogus\n");
    assert!(
        host.run("journal * --output short-iso -n 1").out.contains("  2001-09-09T01:46:45+0000  web@2.service 5\n")
    );
    host.expect("journal web@* -n 0", 0, "", "");
}

/// A running `fleetctl journal -f`, read line by line.
struct Following {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
}

impl Following {
    fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Self { child, out }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line
    }

    fn interrupt(self) -> Ran {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        finish(self.child)
    }
}

#[test]
fn what_comes_is_followed_also_of_units_that_come() {
    let [a, b] = [unit("web@1.service", true), unit("web@2.service", true)];
    // The first watch ends immediately; the second one has another unit.
    let watches = vec![vec![told(&a), synced(), CLOSE.into()], vec![told(&a), told(&b), synced()]];
    let host = Host::new(std::slice::from_ref(&a), watches);
    host.say("web@1.service", 1..=3);
    let mut following = Following::start(host.command("journal -f web@* --output cat -n 2"));
    assert_eq!([following.line(), following.line()], ["web@1.service 2\n", "web@1.service 3\n"]);
    for round in 1..=5 {
        host.say("web@1.service", 10 * round..=10 * round);
        assert_eq!(following.line(), format!("web@1.service {}\n", 10 * round));
    }
    // The entries of the new unit are waited for, and are of now.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    host.say("web@2.service", now - 1_000_000_000..=now - 1_000_000_000);
    assert_eq!(following.line(), format!("web@2.service {}\n", now - 1_000_000_000));
    let Ran { code, err, .. } = following.interrupt();
    assert_eq!((code, err.as_str()), (Some(130), "-- web@2 is on n1 now\n"));
}

#[test]
fn one_unit_that_is_followed_looks_as_journalctl_shows_it() {
    let a = unit("a.service", true);
    let host = Host::new(std::slice::from_ref(&a), vec![vec![told(&a), synced()]]);
    host.say("a.service", 1..=1);
    let mut following = Following::start(host.command("journal -f a"));
    assert_eq!(following.line(), "Sep 09 01:46:41 n1 sh[12]: a.service 1\n");
    host.say("a.service", 2..=2);
    assert_eq!(following.line(), "Sep 09 01:46:42 n1 sh[12]: a.service 2\n");
    assert_eq!(following.interrupt().code, Some(130));
    // It ends when its reader has ended, even if no entry follows.
    let mut following = Following::start(host.command("journal -f a"));
    following.line();
    drop(following.out);
    let Ran { code, err, .. } = finish(following.child);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let mut following = Following::start(host.command("journal -f a"));
    following.line();
    drop(following.out);
    host.say("a.service", 3..=4);
    let Ran { code, err, .. } = finish(following.child);
    assert_eq!((code, err.as_str()), (Some(0), ""));
}

#[test]
fn a_pattern_that_nothing_matches_yet_is_followed() {
    let a = unit("a.service", true);
    let host = Host::new(std::slice::from_ref(&a), vec![vec![told(&a), synced()]]);
    host.say("a.service", 1..=1);
    let mut following = Following::start(host.command("journal -f a --grep 2 --output cat"));
    host.say("a.service", 2..=2);
    assert_eq!(following.line(), "a.service 2\n");
    assert_eq!(following.interrupt().code, Some(130));
}

#[test]
fn what_journalctl_refuses_ends_the_following() {
    let a = unit("a.service", true);
    let host = Host::new(std::slice::from_ref(&a), vec![]);
    host.expect("journal -f a --priority bogus", 1, "", "n1: Unknown log level bogus\n");
}
