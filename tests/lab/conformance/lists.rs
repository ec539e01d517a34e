//! list-machines, list-units, list-unit-files: scripts parse their output.

use serde_json::json;

use super::ground::{Ground, RUNS};

super::cases![
    list_machines_has_fleets_columns,
    list_units_has_fleets_columns,
    list_unit_files_has_fleets_columns,
    a_field_that_isnt_there_exits_1,
    no_fields_at_all_exit_1,
    empty_lists_have_a_legend_only,
    lists_are_sorted_by_name_then_machine,
    a_host_without_metadata_has_a_dash,
    full_shows_whole_ids_and_hashes,
    awk_finds_what_it_always_found,
    json_has_the_same_names,
];

/// Submit units whose placement is known: globals, units on hosts, units without a host.
fn populate(g: &Ground) {
    g.file("app.service", &format!("[Unit]\nDescription=The app\n{RUNS}"));
    g.file("db.service", &format!("{RUNS}\n[X-Fleet]\nMachineMetadata=rank=3"));
    g.file("every.service", &format!("{RUNS}\n[X-Fleet]\nGlobal=true"));
    g.file("idle@.service", RUNS);
    g.fleetctl("submit idle@.service").ok();
    g.fleetctl("start app.service").ok();
    g.fleetctl("load db.service").ok();
    g.fleetctl("start every.service").ok();
}

fn list_machines_has_fleets_columns(g: &Ground) {
    g.session(
        "fleetctl list-machines
        fleetctl list-machines --no-legend
        fleetctl list-machines --full
        fleetctl list-machines --fields=ip,machine
        fleetctl list-machines --no-legend --fields=metadata",
    );
}

fn list_units_has_fleets_columns(g: &Ground) {
    populate(g);
    g.session(
        "fleetctl list-units
        fleetctl list-units --no-legend --fields=unit,load,active,sub
        fleetctl list-units --fields=hash,unit,machine --full
        fleetctl list-units --fields=hash,unit 'd*'",
    );
}

fn list_unit_files_has_fleets_columns(g: &Ground) {
    populate(g);
    g.session(
        "fleetctl list-unit-files
        fleetctl list-unit-files --no-legend --fields=unit,global,desc
        fleetctl list-unit-files --fields=unit,tmachine
        fleetctl list-unit-files --full --no-legend",
    );
}

fn a_field_that_isnt_there_exits_1(g: &Ground) {
    for list in ["list-machines", "list-units", "list-unit-files"] {
        let ran = g.fleetctl(&format!("{list} --fields=unit,bogus"));
        let said = ran.stderr.contains("Invalid key in output format: \"");
        assert!(ran.code == 1 && ran.stdout.is_empty() && said, "{list}: {ran:?}");
    }
}

fn no_fields_at_all_exit_1(g: &Ground) {
    for list in ["list-machines", "list-units", "list-unit-files"] {
        let ran = g.fleetctl(&format!("{list} --fields="));
        assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.trim()), (1, "", "Must define output format"), "{list}");
    }
}

fn empty_lists_have_a_legend_only(g: &Ground) {
    g.session(
        "fleetctl list-units
        fleetctl list-unit-files
        fleetctl list-units --no-legend",
    );
}

fn lists_are_sorted_by_name_then_machine(g: &Ground) {
    g.file("b@.service", RUNS).file("a.service", &format!("{RUNS}\n[X-Fleet]\nGlobal=true"));
    g.fleetctl("start b@10 b@2 a.service").ok();
    let listed = g.fleetctl("list-units --no-legend --full --fields=unit,machine").ok();
    let rows: Vec<(String, usize)> = listed
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .map(|row| (row[0].to_owned(), g.rank(row[1].split('/').next().unwrap())))
        .collect();
    let names: Vec<&str> = rows.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["a.service", "a.service", "a.service", "b@10.service", "b@2.service"]);
    assert_eq!(rows[..3].iter().map(|(_, rank)| *rank).collect::<Vec<_>>(), [1, 2, 3]);
}

fn a_host_without_metadata_has_a_dash(g: &Ground) {
    let remove = |key: &str| json!({ "op": "remove", "path": format!("/{}/metadata/{key}", g.id(1)) });
    let body = json!([remove("rank"), remove("zone")]).to_string();
    assert_eq!(g.http("PATCH", "/machines", &[], Some(&body)).status, 204);
    assert_eq!(g.fleetctl("list-machines --no-legend --fields=metadata").ok(), "-\nrank=2,zone=a\nrank=3,zone=b\n");
}

fn full_shows_whole_ids_and_hashes(g: &Ground) {
    g.file("a.service", RUNS);
    g.fleetctl("start a.service").ok();
    let row = g.fleetctl("list-units --no-legend --full --fields=machine,hash").ok();
    let row: Vec<&str> = row.split_whitespace().collect();
    assert_eq!((row[0], row[1].len()), (format!("{}/10.0.0.1", g.id(1)).as_str(), 40));
}

fn awk_finds_what_it_always_found(g: &Ground) {
    populate(g);
    let find = |line: &str| g.sh(line).ok();
    assert_eq!(find("fleetctl list-units | grep db.service | awk '{print $2}' | cut -d/ -f2"), "10.0.0.3\n");
    assert_eq!(
        find("fleetctl list-units --no-legend | awk '$3 == \"active\" {print $1}' | sort -u"),
        "app.service\nevery.service\n"
    );
    assert_eq!(
        find("fleetctl list-unit-files -no-legend | awk '$3 == \"launched\" && $5 != \"global\" {print $1}'"),
        "app.service\n"
    );
    assert_eq!(
        find("fleetctl list-machines -no-legend -fields=machine | cut -c1-8 | head -1"),
        format!("{}\n", &g.id(1)[..8])
    );
    assert_eq!(find("fleetctl list-machines | grep zone=b | wc -l"), "1\n");
}

/// fleet had no JSON output.
fn json_has_the_same_names(g: &Ground) {
    populate(g);
    let units = g.fleetctl("list-units --output json").ok();
    let units: serde_json::Value = serde_json::from_str(&units).unwrap();
    assert_eq!((&units[0]["unit"], &units[0]["machine"]), (&"app.service".into(), &g.id(1).into()));
    assert_eq!(
        (&units[0]["active"], &units[0]["sub"], &units[0]["load"]),
        (&"active".into(), &"running".into(), &"loaded".into())
    );
}
