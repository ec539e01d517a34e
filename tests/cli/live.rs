//! What is kept up to date: `-w` of the lists, on terminals of 80 and of 45 columns and without one, and
//! `start --watch`. Both follow the cluster's watch and never ask again.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::fake::{Fake, LATER, Ran, finish, run};
use super::{N1, N2, OK, removed, running, script, snapshot, state, told, unit, waiting};

const LONG: &str = "order-backend-recalculation-worker-for-customers@eu-west-1.service";

fn failed(name: &str) -> Value {
    let mut unit = unit(name, "launched", Some(N1), &[state(N1, "7 failed failed")]);
    unit["states"][0]["failure"] = json!({ "result": "exit-code", "exit": "exited 7/NOTRUNNING", "lines": ["boom"] });
    unit
}

/// A watch that first tells of `units`, and a moment later the other lines.
fn followed_by(units: &[Value], later: &[String]) -> Vec<String> {
    let mut lines = snapshot(units);
    lines.push(LATER.into());
    lines.extend(later.iter().cloned());
    lines
}

fn changing() -> Fake {
    let units = [running("a.service", N1), running(LONG, N2), waiting("w@1.service", "2 of 2 hosts: conflict")];
    let watch = followed_by(&units, &[told(&failed("a.service")), removed("w@1.service")]);
    let mut fake = Fake::new(script(&units, vec![watch]));
    fake.variables = vec![("NO_COLOR", "1")];
    fake
}

/// The pictures that were drawn one over the other, without control sequences.
fn pictures(text: &str) -> Vec<String> {
    let plain = text.replace("\u{1b}[?7l", "").replace("\u{1b}[?7h", "");
    plain.split("\u{1b}[J").map(|part| part.split("\r\u{1b}[").next().unwrap().to_owned()).collect()
}

#[test]
fn a_list_is_rewritten_in_place_and_fits() {
    for (list, columns, head) in [
        ("list-units --watch", 80, "   UNIT"),
        ("list-units -w", 45, "   UNIT"),
        ("list-unit-files -w", 80, "   UNIT"),
        ("list-unit-files -w", 45, "   UNIT"),
        ("list-units -w --fields=unit,active", 45, "UNIT"),
    ] {
        let fake = changing();
        let (code, text) = fake.on_terminal_after(list, columns, "\u{3}", "failed");
        assert_eq!(code, Some(130), "{list}: {text:?}");
        let drawn = pictures(&text);
        assert!(drawn.len() >= 3, "{list}: {text:?}");
        for picture in &drawn {
            let lines = || picture.lines().filter(|line| *line != "^C");
            assert!(lines().all(|line| line.chars().count() < columns.into()), "{list} {columns}:\n{picture}");
            assert!(picture.starts_with(head), "{list}: {picture}");
        }
        // Ctrl-C leaves the last picture, and nothing behind it.
        let (first, last) = (&drawn[0], &drawn[drawn.len() - 1]);
        assert!((first.contains("w@1") || list.contains("fields")) && !first.contains("failed"), "{list}: {first}");
        assert!(last.contains("failed") && !last.contains("w@1") && !last.contains("^C"), "{list}: {last:?}");
        assert!(last.ends_with('\n'), "{list}: {last:?}");
        assert_eq!(fake.asked(), ["GET /fleet/v2/watch"], "it isn't asked again and again");
    }
}

#[test]
fn a_list_follows_the_size_of_its_terminal() {
    let fake = changing();
    let steps = json!([
        ["expect", "3 units"],
        ["resize", 45, 20],
        ["expect", "\u{1b}[H\u{1b}[2J"],
        ["expect", "failed"],
        ["send", "\u{3}"]
    ]);
    let mut python = Command::new("python3");
    python.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/ssh/terminal.py")).arg(steps.to_string());
    python.arg(env!("CARGO_BIN_EXE_fleetctl")).args(["list-units", "-w"]);
    python.env("FLEETCTL_ENDPOINT", fake.endpoint()).env("TERM", "xterm").env("NO_COLOR", "1");
    python.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let ran = finish(python.spawn().unwrap());
    let played: Value = serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{ran:?}"));
    assert_eq!((&played["problem"], &played["code"]), (&Value::Null, &json!(130)), "{played:#}");
    let screen = played["screen"].as_str().unwrap().replace("\r\n", "\n");
    let (wide, narrow) = screen.split_once("\u{1b}[H\u{1b}[2J").unwrap();
    assert!(wide.contains("waiting: 2 of 2 hosts: conflict "), "{wide:?}");
    for picture in pictures(narrow) {
        let lines = || picture.lines().filter(|line| *line != "^C");
        assert!(lines().all(|line| line.chars().count() < 45), "{picture:?}");
    }
}

/// What `fleetctl` prints until `count` lines are read; then nobody reads on.
fn first_lines(fake: &Fake, args: &str, count: usize) -> Vec<String> {
    let mut child = fake.command(args).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let read = lines.by_ref().take(count).map(Result::unwrap).collect();
    drop(lines);
    let Ran { code, err, .. } = finish(child);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{args}");
    read
}

#[test]
fn programs_get_the_rows_and_then_a_line_for_each_that_changes() {
    assert_eq!(
        first_lines(&changing(), "list-units -w", 4),
        [
            "UNIT\tMACHINE\tACTIVE\tSUB",
            "a.service\ta2d7e4a6.../10.88.0.11\tactive\trunning",
            &format!("{LONG}\t844a981f.../10.88.0.12\tactive\trunning"),
            "a.service\ta2d7e4a6.../10.88.0.11\tfailed\tfailed",
        ]
    );
    assert_eq!(
        first_lines(&changing(), "list-unit-files --watch --no-legend --fields=unit,dstate", 4)[2..],
        ["w@1.service\tlaunched", "w@1.service\t-"]
    );
    let lines = first_lines(&changing(), "list-unit-files -w -o json --fields=unit,dstate", 4);
    let last: Value = serde_json::from_str(&lines[3]).unwrap();
    assert_eq!(last, json!({ "unit": "w@1.service", "dstate": "launched", "removed": true }));
    // A unit that a filter doesn't show any more has ended as well.
    assert_eq!(
        first_lines(&changing(), "list-units -w --no-legend --state=active --host n1 --fields=unit,sub", 2),
        ["a.service\trunning", "a.service\t-"]
    );
}

#[test]
fn start_watches_what_it_started_and_asks_for_it_once() {
    let start = |watch: Vec<String>| {
        let fake = Fake::new(script(&[], vec![snapshot(&[running("a.service", N1)]), watch]));
        fake.file("a.service", OK);
        fake
    };
    let fake = start(followed_by(&[running("a.service", N1)], &[told(&failed("a.service"))]));
    let Ran { code, err, .. } = run(fake.command("start --watch 60s a"));
    assert_eq!(
        (code, err.contains("a.service failed on n1: exit status 7/NOTRUNNING\n  boom\n")),
        (Some(1), true),
        "{err}"
    );
    let lists = fake.asked().iter().filter(|line| line.starts_with("GET /fleet/v2/units")).count();
    assert_eq!(lists, 1, "{:?}", fake.asked());

    let fake = start(snapshot(&[running("a.service", N1)]));
    fake.expect("start --watch 1s a", 0, "Unit a.service launched on a2d7e4a6.../10.88.0.11\n", "");
}
