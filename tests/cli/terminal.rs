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
    fake.terminal = PLAIN.into();
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
    fake.terminal = vec![];
    let (_, text) = fake.on_terminal("list-units", 80, "");
    assert!(text.contains("\u{1b}[1;31mfailed\u{1b}[0m"), "{text}");
    fake.terminal = vec![("TERM", "dumb")];
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
