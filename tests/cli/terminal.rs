//! The real `fleetctl` on terminals of 80 and of 45 columns. The other tests show that without a terminal, stdout has
//! CoreOS fleet's bytes.

use serde_json::{Value, json};

use super::fake::{Fake, Script};
use super::{N1, N2, global, running, script, snapshot, state, unit, waiting};

/// Without colours, to compare lines.
const PLAIN: [(&str, &str); 1] = [("NO_COLOR", "1")];

fn machines() -> Vec<Value> {
    let machine = |id: &str, name: &str, ip: &str, zone: &str| {
        let metadata = json!({ "zone": zone });
        json!({ "id": id, "ip": ip, "hostname": name, "metadata": metadata, "version": "0.1.0", "since": 0 })
    };
    vec![machine(N2, "n2", "10.88.0.12", "b"), machine(N1, "n1", "10.88.0.11", "a")]
}

fn cluster() -> Fake {
    let units = [
        running("batch@10.service", N1),
        unit("batch@2.service", "launched", Some(N2), &[state(N2, "7 failed failed result=failed")]),
        global("exporter.service", "launched", &[state(N2, "7 active running"), state(N1, "7 active running")]),
        running("order-backend-recalculation-worker-for-customers@eu-west-1.service", N2),
        waiting("web@1.service", "2 of 2 hosts: conflict"),
    ];
    let mut fake = Fake::new(Script { machines: machines(), ..script(&units, vec![]) });
    fake.variables = PLAIN.into();
    fake
}

#[track_caller]
fn fits(text: &str, columns: usize) {
    assert!(text.lines().all(|line| line.chars().count() < columns), "wider than {columns}:\n{text}");
}

#[test]
fn list_units_on_a_terminal_has_hosts_states_and_counts_and_fits() {
    let fake = cluster();
    let (code, text) = fake.on_terminal("list-units", 80, "");
    assert_eq!(
        (code, text.as_str()),
        (
            Some(0),
            "   UNIT                             HOST  STATE                           SINCE\n\
             ×  batch@2                          n2    failed                          -\n\
             ●  batch@10                         n1    running                         -\n\
             ●  exporter                         2/2   running                         -\n\
             ●  order-backend-r…omers@eu-west-1  n2    running                         -\n\
             …  web@1                            -     waiting: 2 of 2 hosts: confli…  -\n\
             5 units: 1 failed, 1 waiting, 3 running\n"
        )
    );
    for list in ["list-units", "list-unit-files", "list-machines"] {
        for columns in [80, 45] {
            let (_, text) = fake.on_terminal(list, columns, "");
            // The lines after the table are sentences.
            let table = text.split("web@1.service waits").next().unwrap();
            fits(table, columns.into());
        }
    }
    let (_, text) = fake.on_terminal("list-units -l", 45, "");
    assert!(text.contains("order-backend-recalculation-worker-for-customers@eu-west-1.service  n2"), "{text}");
}

#[test]
fn list_machines_on_a_terminal_is_ordered_by_name_and_counts_units() {
    let (_, text) = cluster().on_terminal("list-machines", 80, "");
    assert_eq!(
        text,
        "HOST  ADDRESS     UNITS  SINCE  VERSION  METADATA\n\
         n1    10.88.0.11  2      -      0.1.0    zone=a\n\
         n2    10.88.0.12  3      -      0.1.0    zone=b\n\
         2 hosts\n"
    );
}

#[test]
fn a_terminal_has_colours_unless_they_are_unwanted() {
    let mut fake = cluster();
    assert!(!fake.on_terminal("list-units", 80, "").1.contains('\u{1b}'));
    fake.variables = vec![];
    let (_, text) = fake.on_terminal("list-units", 80, "");
    assert!(text.contains("\u{1b}[1;31mfailed\u{1b}[0m"), "{text}");
    fake.variables = vec![("TERM", "dumb")];
    assert!(!fake.on_terminal("list-units", 80, "").1.contains('\u{1b}'));
}

#[test]
fn columns_that_are_chosen_are_those_on_a_terminal_too() {
    let fake = cluster();
    let (_, text) = fake.on_terminal("list-units --fields=unit,sub,hostname batch@10", 80, "");
    assert_eq!(text, "UNIT              SUB      HOSTNAME\nbatch@10.service  running  n1\n");
    let (_, json) = fake.on_terminal("list-units -o json batch@10", 80, "");
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()[0]["unit"], "batch@10.service");
}

#[test]
fn filters_leave_out_rows_with_and_without_a_terminal() {
    let fake = cluster();
    let names = |args: &str| fake.run(&format!("list-units --no-legend --fields=unit {args}")).out;
    assert_eq!(names("--failed"), "batch@2.service\n");
    assert_eq!(names("--host n1"), "batch@10.service\nexporter.service\n");
    assert_eq!(names("--state running --host n2 --type service exporter"), "exporter.service\n");
    assert_eq!(names("--not-running"), "batch@2.service\n");
    assert_eq!(
        fake.run("list-unit-files --no-legend --fields=unit --not-running").out,
        "batch@2.service\nweb@1.service\n"
    );
    let (_, text) = fake.on_terminal("list-units --failed", 80, "");
    assert!(text.ends_with("1 unit: 1 failed\n") && text.lines().count() == 3, "{text}");
    let help = fake.run("help list-units").out;
    assert!(help.contains("unit, machine, active, sub, load, hash, ip"), "{help}");
    let completion = fake.run("completion bash").out;
    assert!(
        completion.contains("unit machine active sub load hash ip hostname job error missing restarts failure"),
        "{completion}"
    );
}

#[test]
fn waiting_for_many_units_shows_counts_and_takes_a_third_of_the_screen() {
    let starting =
        |number: u32| unit(&format!("b@{number}.service"), "launched", Some(N1), &[state(N1, "7 activating start")]);
    let units: Vec<Value> = (0..50).map(starting).collect();
    let fake = Fake::new(script(&units, vec![snapshot(&units)]));
    let (code, text) = fake.on_terminal("start --block-attempts 1 'b@*'", 80, "");
    assert_eq!(code, Some(1));
    assert!(text.contains("\n0 of 50 done, 0 failed, 50 to go, 1 s\n") && !text.contains(", 0 s"), "{text:?}");
    // The progress of 40 rows has 13 lines, which are cleared from the first column.
    assert!(text.contains("\r\u{1b}[13A\u{1b}[J") && !text.contains("\u{1b}[14A"), "{text:?}");
}

/// A host that went at 00:01:00 UTC, long ago.
fn gone() -> Value {
    let gone = json!({ "since": 60_000, "moved": 3, "waiting": 1, "ended": 0 });
    let id = "3".repeat(32);
    json!({ "id": id, "ip": "10.88.0.13", "hostname": "n3", "metadata": {}, "version": "0.1.0", "gone": gone })
}

fn host_gone() -> Script {
    let units = [running("a.service", N1), waiting("web@1.service", "2 of 2 hosts: conflict")];
    Script { machines: machines(), gone: vec![gone()], ..script(&units, vec![]) }
}

fn with_a_host_gone() -> Fake {
    let mut fake = Fake::new(host_gone());
    fake.variables = PLAIN.into();
    fake
}

#[test]
fn a_host_that_is_gone_stays_in_sight_on_a_terminal_and_elsewhere_on_request() {
    let fake = with_a_host_gone();
    let (code, text) = fake.on_terminal("list-machines", 80, "");
    let lines: Vec<&str> = text.lines().collect();
    assert!(code == Some(0) && lines[3].starts_with("n3    10.88.0.13  -      gone for 2"), "{text}");
    assert_eq!(lines[4..], ["2 hosts, 1 gone", "hint: if n3 won't be back: `fleetctl forget n3`"]);
    fits(&fake.on_terminal("list-machines", 45, "").1.replace(lines[5], ""), 45);

    // Scripts count the lines.
    assert_eq!(fake.run("list-machines --no-legend").out.lines().count(), 2);
    assert_eq!(fake.run("list-machines --no-legend --all").out.lines().count(), 3);
    let gone = fake.run("list-machines --no-legend --fields=hostname,gone").out;
    assert_eq!(gone, "n2\t-\nn1\t-\nn3\t60000\n");
    let json: Value = serde_json::from_str(&fake.run("list-machines --output json").out).unwrap();
    assert_eq!((&json[0]["gone"], &json[2]["gone"]["moved"]), (&json!(null), &json!(3)), "{json}");
}

#[test]
fn a_host_that_is_gone_is_forgotten_and_others_are_not() {
    let fake = with_a_host_gone();
    let unknown = "no host n7 is known\nn1 (10.88.0.11) isn't gone; only a host that is gone can be forgotten\n\
                   nothing was changed\n";
    fake.expect("forget n3 n7 n1", 1, "", unknown);
    assert!(!fake.asked().iter().any(|line| line.starts_with("DELETE")));
    fake.expect("forget n3 10.88.0.13", 0, "Forgot n3 (10.88.0.13, 33333333)\n", "");
    fake.expect("forget n3", 1, "", "no host n3 is known\nnothing was changed\n");
    fake.expect("forget --output json n3", 1, "", "no host n3 is known\nnothing was changed\n");
    let json: Value = serde_json::from_str(&with_a_host_gone().run("forget --output json n3").out).unwrap();
    assert_eq!(json, json!([{ "machine": "3".repeat(32), "ip": "10.88.0.13", "hostname": "n3" }]));
    let (_, text) = fake.on_terminal("forget n3", 80, "");
    assert_eq!(text, "no host n3 is known\nhint: no host is gone\nnothing was changed\n");
}

#[test]
fn status_shows_the_cluster_on_one_screen() {
    let fake = with_a_host_gone();
    for columns in [80, 45] {
        let (code, text) = fake.on_terminal("status", columns, "");
        let (screen, hint) = text.split_once("hint: ").unwrap();
        assert_eq!((code, screen.lines().count()), (Some(3), 4), "{text}");
        assert_eq!(hint, "`fleetctl status UNIT` and `fleetctl journal UNIT` show more of a unit\n");
        fits(screen, columns.into());
        for (line, part) in
            ["×  2 hosts, 1 gone", "×  2 units: 1 waiting, 1 running", "!  n3", "…  web@1"].iter().enumerate()
        {
            assert!(screen.lines().nth(line).unwrap().starts_with(part), "{screen}");
        }
    }
    // Without a terminal: words between tabs.
    let ran = fake.run("status");
    assert_eq!((ran.code, ran.err.as_str()), (Some(3), ""));
    let problems: Vec<&str> = ran.out.lines().filter(|line| line.starts_with("problem")).collect();
    assert_eq!(
        problems,
        [
            "problem\tgone\tn3\t10.88.0.13\t60000\tgone since 00:01:00 UTC; of its units 3 moved, 1 waited",
            "problem\twaiting\tweb@1.service\t-\t0\twaiting: 2 of 2 hosts: conflict"
        ]
    );
    let json: Value = serde_json::from_str(&fake.run("status --output json").out).unwrap();
    assert_eq!((&json["healthy"], &json["states"]["waiting"]), (&json!(false), &json!(1)), "{json}");

    let mut well = Fake::new(Script { machines: machines(), ..script(&[running("a.service", N1)], vec![]) });
    well.variables = PLAIN.into();
    let (code, text) = well.on_terminal("status", 80, "");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((code, lines.len(), lines[1]), (Some(0), 2, "●  1 unit: 1 running"), "{text}");
    assert!(lines[0].starts_with("●  2 hosts; leader n2 for ") && lines[0].ends_with("; version 0.1.0"), "{text}");
    assert_eq!((well.run("status").code, well.run("status --output=json").code), (Some(0), Some(0)));
}

#[test]
fn the_doctor_says_what_to_do() {
    let members = vec![
        json!({ "address": "10.0.0.1:2379", "id": "1", "version": "3.5.16", "leads": true, "size": 25 << 20,
            "in_use": 0, "alarms": [{ "kind": "no-space", "member": "1", "text": "memberID:1 alarm:NOSPACE" }] }),
        json!({ "address": "10.0.0.2:2379", "error": "refuses connections" }),
    ];
    let gone = |store| Script { store, ..host_gone() };
    let mut fake = Fake::new(gone(Some(members)));
    fake.variables = PLAIN.into();
    let ran = fake.run("doctor");
    assert_eq!((ran.code, ran.err.as_str()), (Some(3), ""));
    let words: Vec<Vec<&str>> = ran.out.lines().map(|line| line.split('\t').collect()).collect();
    let found: Vec<(&str, &str, &str)> = words.iter().map(|words| (words[1], words[2], words[3])).collect();
    assert_eq!(
        found,
        [
            ("store-full", "etcd at 10.0.0.1:2379", "-"),
            ("gone", "n3", "10.88.0.13"),
            ("store-silent", "etcd at 10.0.0.2:2379", "-"),
            ("waiting", "web@1.service", "-"),
        ]
    );
    assert!(words.iter().all(|words| words.len() == 7 && words[0] == "problem" && !words[6].is_empty()), "{words:?}");
    let json: Value = serde_json::from_str(&fake.run("doctor --output json").out).unwrap();
    assert_eq!((&json["healthy"], json["findings"].as_array().unwrap().len()), (&json!(false), 4), "{json}");
    assert_eq!(json["store"]["members"][1]["error"], "refuses connections");
    let (code, text) = fake.on_terminal("doctor", 60, "");
    assert_eq!(code, Some(3), "{text}");
    fits(&text, 60);
    for part in [
        "×  2 hosts, 1 gone",
        "×  etcd 3.5.16: 1 of 2 members answer",
        "!  n3 (10.88.0.13)",
        "   it refuses connections",
    ] {
        assert!(text.lines().any(|line| line.starts_with(part)), "{part}: {text}");
    }
    // A fleetd of before knows nothing of its store.
    let before = Fake::new(gone(None));
    let ran = before.run("doctor");
    assert_eq!((ran.code, ran.out.lines().count()), (Some(3), 2), "{ran:?}");

    let well = Script { machines: machines(), store: Some(vec![]), ..script(&[running("a.service", N1)], vec![]) };
    let mut well = Fake::new(well);
    well.variables = PLAIN.into();
    let ran = well.run("doctor");
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (Some(0), "", ""));
    let (code, text) = well.on_terminal("doctor", 80, "");
    assert_eq!((code, text.lines().count()), (Some(0), 2), "{text}");
}
