//! Unit files: syntax, hash, names, and each option of `[X-Fleet]`.

use serde_json::{Value, json};

use super::ground::{Ground, RUNS, SOON, options};
use crate::harness::eventually;

super::cases![
    the_hash_is_the_sha1_of_fleets_canonical_text,
    comments_spacing_and_names_dont_change_the_hash,
    continued_lines_keep_fleets_hash,
    repeated_sections_are_one,
    text_before_the_first_section_is_ignored,
    machine_id_takes_the_whole_id_or_its_first_eight_digits,
    machine_id_takes_its_first_value,
    the_legacy_names_mean_the_same,
    machine_boot_id_is_an_error,
    machine_of_follows,
    machine_of_takes_several_units,
    metadata_of_one_key_are_alternatives_and_of_two_both_needed,
    metadata_that_is_no_pair_is_a_condition_or_an_error,
    metadata_with_an_equals_sign_in_its_value_is_matched,
    quotes_hold_words_together_and_must_end,
    conflicts_are_globs_words_and_lines_and_hold_both_ways,
    replaces_are_globs_words_and_lines,
    a_glob_that_is_none_is_an_error,
    global_is_any_truth_and_its_last_value_counts,
    options_that_dont_go_together_are_refused_in_fleets_words,
    specifiers_are_the_names_parts,
    names_are_checked_in_fleets_words,
    every_type_that_a_file_can_define_runs,
    a_unit_with_install_is_enabled_for_this_boot,
    unit_files_are_where_fleet_put_them,
];

const HELLO: &str = "[Service]\nExecStart=/bin/bash -c \"while true; do echo Hello, World!; sleep 1; done\"";
const HELLO_HASH: &str = "3750b3e9f3962a56c7582929426e9abb012754cf";

fn the_hash_is_the_sha1_of_fleets_canonical_text(g: &Ground) {
    g.file("hello.service", HELLO);
    g.fleetctl("submit hello.service").ok();
    assert_eq!(g.field("hello.service", "hash"), HELLO_HASH);
    assert_eq!(g.fleetctl("list-unit-files --no-legend --fields=hash").ok(), "3750b3e\n");
}

fn comments_spacing_and_names_dont_change_the_hash(g: &Ground) {
    g.file("other.service", &format!("# a comment\n\n{}\n; another", HELLO.replace("ExecStart=", "ExecStart = ")));
    g.fleetctl("submit other.service").ok();
    assert_eq!(g.field("other.service", "hash"), HELLO_HASH);
}

/// fleet's hash includes the backslash and the line end.
fn continued_lines_keep_fleets_hash(g: &Ground) {
    g.file("a.service", "[Service]\nExecStart=/bin/sleep \\\n  10000\nRestart=always");
    g.fleetctl("start a.service").ok();
    let sum = g.sh("printf '[Service]\\nExecStart=/bin/sleep \\\\\\n  10000\\nRestart=always\\n' | sha1sum").ok();
    assert_eq!(g.field("a.service", "hash"), sum.split(' ').next().unwrap());
    let unit = g.get("/units/a.service").json();
    assert_eq!(unit["options"][0]["value"], "/bin/sleep \\\n  10000");
}

fn repeated_sections_are_one(g: &Ground) {
    g.file(
        "a.service",
        "[Unit]\nDescription=a\n[Service]\nType=exec\n[Unit]\nAfter=b.service\n[Service]\nExecStart=/bin/sleep 10000",
    );
    g.file("b.service", "[Unit]\nDescription=a\nAfter=b.service\n[Service]\nType=exec\nExecStart=/bin/sleep 10000");
    g.fleetctl("submit a.service b.service").ok();
    assert_eq!(g.field("a.service", "hash"), g.field("b.service", "hash"));
}

fn text_before_the_first_section_is_ignored(g: &Ground) {
    g.file("a.service", &format!("Hello=there\n{HELLO}"));
    let ran = g.fleetctl("submit a.service");
    assert!(ran.code == 0 && ran.stderr.contains("stands before any [section], ignored"), "{ran:?}");
    assert_eq!(g.field("a.service", "hash"), HELLO_HASH);
}

fn machine_id_takes_the_whole_id_or_its_first_eight_digits(g: &Ground) {
    g.file("whole.service", &format!("{RUNS}\n[X-Fleet]\nMachineID={}", g.id(2)));
    g.file("short.service", &format!("{RUNS}\n[X-Fleet]\nMachineID={}", &g.id(3)[..8]));
    g.fleetctl("start whole.service short.service").ok();
    assert_eq!((g.ranks("whole.service"), g.ranks("short.service")), (vec![2], vec![3]));
}

fn machine_id_takes_its_first_value(g: &Ground) {
    g.file("a.service", &format!("{RUNS}\n[X-Fleet]\nMachineID={}\nMachineID={}", g.id(3), g.id(2)));
    g.fleetctl("start a.service").ok();
    assert_eq!(g.ranks("a.service"), [3]);
}

fn the_legacy_names_mean_the_same(g: &Ground) {
    g.file("id.service", &format!("{RUNS}\n[X-Fleet]\nX-ConditionMachineID={}", g.id(2)));
    g.file("meta.service", &format!("{RUNS}\n[X-Fleet]\nX-ConditionMachineMetadata=rank=3"));
    g.file("of.service", &format!("{RUNS}\n[X-Fleet]\nX-ConditionMachineOf=meta.service"));
    g.file("alone@.service", &format!("{RUNS}\n[X-Fleet]\nX-Conflicts=alone@*"));
    g.fleetctl("start id meta of alone@1 alone@2").ok();
    assert_eq!((g.ranks("id.service"), g.ranks("meta.service"), g.ranks("of.service")), (vec![2], vec![3], vec![3]));
    assert_ne!(g.ranks("alone@1.service"), g.ranks("alone@2.service"));
}

/// fleet compared it with the machine id, so it never matched.
fn machine_boot_id_is_an_error(g: &Ground) {
    g.file("a.service", &format!("{RUNS}\n[X-Fleet]\nX-ConditionMachineBootID={}", g.id(1)));
    let ran = g.fleetctl("submit a.service");
    assert!(ran.code == 1 && ran.stderr.contains("`X-ConditionMachineBootID` never matched"), "{ran:?}");
}

fn machine_of_follows(g: &Ground) {
    g.file("lead.service", &format!("{RUNS}\n[X-Fleet]\nMachineMetadata=rank=3"));
    g.file("follow.service", &format!("{RUNS}\n[X-Fleet]\nMachineOf=lead.service"));
    let ran = g.fleetctl("start follow.service");
    assert!(ran.code == 1 && ran.stderr.contains("lead.service"), "it waits, and says for whom: {ran:?}");
    g.fleetctl("start lead.service").ok();
    g.until_ranks("follow.service", &[3]);
}

/// In fleet, one line was one name; now a line may have several.
fn machine_of_takes_several_units(g: &Ground) {
    g.file("a.service", &format!("{RUNS}\n[X-Fleet]\nMachineMetadata=rank=2")).file("b.service", RUNS);
    g.file("lines.service", &format!("{RUNS}\n[X-Fleet]\nMachineOf=a.service\nMachineOf=b.service"));
    g.file("words.service", &format!("{RUNS}\n[X-Fleet]\nMachineOf=a.service b.service"));
    g.fleetctl("start a b lines words").ok();
    for unit in ["b.service", "lines.service", "words.service"] {
        assert_eq!(g.ranks(unit), [2], "{unit}");
    }
}

fn metadata_of_one_key_are_alternatives_and_of_two_both_needed(g: &Ground) {
    let unit = |lines: &str| format!("{RUNS}\n[X-Fleet]\n{lines}");
    g.file("or.service", &unit("MachineMetadata=rank=9\nMachineMetadata=rank=3"));
    g.file("and.service", &unit("MachineMetadata=\"zone=a\" \"rank=2\""));
    g.file("words.service", &unit("MachineMetadata=zone=a rank=2"));
    g.file("never.service", &unit("MachineMetadata=zone=b\nMachineMetadata=rank=2"));
    g.fleetctl("start or and words").ok();
    assert_eq!((g.ranks("or.service"), g.ranks("and.service"), g.ranks("words.service")), (vec![3], vec![2], vec![2]));
    assert_eq!(g.fleetctl("start never").code, 1);
}

/// fleet dropped the condition silently, and placed the unit on any host.
fn metadata_that_is_no_pair_is_a_condition_or_an_error(g: &Ground) {
    g.file("never.service", &format!("{RUNS}\n[X-Fleet]\nMachineMetadata=disk"));
    g.file("here.service", &format!("{RUNS}\n[X-Fleet]\nMachineMetadata=!disk rank!=1 rank!=3"));
    assert_eq!(g.fleetctl("start never").code, 1, "no host has the key");
    g.fleetctl("start here").ok();
    assert_eq!(g.ranks("here.service"), [2]);
    for bad in ["disk=", "=ssd", "zone=a disk=", ""] {
        g.file("a.service", &format!("{RUNS}\n[X-Fleet]\nMachineMetadata={bad}"));
        let ran = g.fleetctl("submit a.service");
        assert!(ran.code == 1 && ran.stderr.contains("must be key=value"), "{bad}: {ran:?}");
    }
}

/// fleet dropped the condition.
fn metadata_with_an_equals_sign_in_its_value_is_matched(g: &Ground) {
    let body = json!([{ "op": "add", "path": format!("/{}/metadata/opts", g.id(3)), "value": "a=b" }]).to_string();
    assert_eq!(g.http("PATCH", "/machines", &[], Some(&body)).status, 204);
    g.file("a.service", &format!("{RUNS}\n[X-Fleet]\nMachineMetadata=opts=a=b"));
    g.fleetctl("start a.service").ok();
    assert_eq!(g.ranks("a.service"), [3]);
}

fn quotes_hold_words_together_and_must_end(g: &Ground) {
    let body =
        json!([{ "op": "add", "path": format!("/{}/metadata/region", g.id(3)), "value": "us east" }]).to_string();
    assert_eq!(g.http("PATCH", "/machines", &[], Some(&body)).status, 204);
    g.file("a.service", &format!("{RUNS}\n[X-Fleet]\nMachineMetadata=\"region=us east\""));
    g.file("b.service", &format!("{RUNS}\n[X-Fleet]\nMachineOf=\"a.service\""));
    g.fleetctl("start a b").ok();
    assert_eq!((g.ranks("a.service"), g.ranks("b.service")), (vec![3], vec![3]));
    for open in ["MachineMetadata=\"rank=1", "MachineMetadata=rank=1\"", "MachineOf=\"a.service", "Conflicts=\"a*"] {
        g.file("c.service", &format!("{RUNS}\n[X-Fleet]\n{open}"));
        let ran = g.fleetctl("submit c.service");
        assert!(ran.code == 1 && ran.stderr.contains("a quotation mark is missing"), "{open}: {ran:?}");
    }
}

fn conflicts_are_globs_words_and_lines_and_hold_both_ways(g: &Ground) {
    g.file("a@.service", &format!("{RUNS}\n[X-Fleet]\nConflicts=a@* nothing.service\nConflicts=b?.service"));
    g.file("bx.service", RUNS).file("byy.service", RUNS);
    g.fleetctl("start a@1 a@2").ok();
    assert_eq!(
        (g.ranks("a@1.service"), g.ranks("a@2.service")),
        (vec![1], vec![2]),
        "it conflicts with its like, not with itself"
    );
    g.fleetctl("start bx.service").ok();
    assert_eq!(g.ranks("bx.service"), [3], "the other unit's Conflicts= applies too");
    // byy doesn't match b?, so it is placed on the least loaded host.
    g.fleetctl("start byy.service").ok();
    assert_eq!(g.ranks("byy.service"), [1]);
    assert_eq!(g.fleetctl("start a@3.service").code, 1, "rank 3 has bx");
    g.fleetctl("destroy '*'").ok();
    g.file("a.service", &format!("{RUNS}\n[X-Fleet]\nConflicts=n[0-4].service"));
    g.file("n3.service", &format!("{RUNS}\n[X-Fleet]\nMachineOf=a.service")).file("n5.service", &g.text("n3.service"));
    g.fleetctl("start a n5").ok();
    assert_eq!(g.fleetctl("start n3").code, 1, "a range is one, too");
}

/// In fleet, a line was one glob; here each word is one, as in Conflicts=.
fn replaces_are_globs_words_and_lines(g: &Ground) {
    let at = |place: &str| format!("{RUNS}\n[X-Fleet]\nMachineMetadata={place}");
    g.file("old@.service", &at("zone=a")).file("other@.service", &at("rank=2"));
    g.fleetctl("start other@1 other@2").ok();
    g.fleetctl("start old@1 old@2").ok();
    assert_eq!((g.ranks("old@1.service"), g.ranks("old@2.service")), (vec![1], vec![1]), "the emptier host of two");
    let lines = "Replaces=old@1.* nothing.service\nReplaces=old@[2-9].service\nMachineMetadata=rank=1";
    g.file("new.service", &format!("{RUNS}\n[X-Fleet]\n{lines}"));
    g.fleetctl("start new").ok();
    for unit in ["old@1.service", "old@2.service"] {
        g.until_ranks(unit, &[2]);
    }
}

/// In fleet it never matched.
fn a_glob_that_is_none_is_an_error(g: &Ground) {
    for option in ["Conflicts", "Replaces", "X-Conflicts"] {
        g.file("a.service", &format!("{RUNS}\n[X-Fleet]\n{option}=[a"));
        let ran = g.fleetctl("submit a.service");
        assert!(ran.code == 1 && ran.stderr.contains(&format!("`{option}=[a`")), "{ran:?}");
    }
}

fn global_is_any_truth_and_its_last_value_counts(g: &Ground) {
    for truth in ["true", "True", "YES", "yes", "1", "on", "On", "t", "T"] {
        g.file("a.service", &format!("{RUNS}\n[X-Fleet]\nGlobal=false\nGlobal={truth}"));
        g.fleetctl("submit a.service").ok();
        assert_eq!(g.field("a.service", "global,target"), "true global", "{truth}");
        g.fleetctl("destroy a.service").ok();
    }
    g.file("a.service", &format!("{RUNS}\n[X-Fleet]\nGlobal=true\nGlobal=no"));
    g.fleetctl("submit a.service").ok();
    assert_eq!(g.field("a.service", "global"), "false");
    g.file("b.service", &format!("{RUNS}\n[X-Fleet]\nGlobal=maybe"));
    assert_eq!(g.fleetctl("submit b.service").code, 1, "fleet took it for false");
}

fn options_that_dont_go_together_are_refused_in_fleets_words(g: &Ground) {
    let id = g.id(1);
    let cases: [(&[(&str, &str)], &str); 10] = [
        (&[("MachineID", id), ("MachineOf", "b.service")], "MachineID cannot be used with Peers"),
        (&[("MachineID", id), ("Conflicts", "b*")], "MachineID cannot be used with Conflicts"),
        (&[("MachineID", id), ("Global", "true")], "MachineID cannot be used with Global"),
        (&[("MachineID", id), ("Replaces", "b*")], "MachineID cannot be used with Replaces"),
        (&[("Global", "true"), ("MachineOf", "b.service")], "Global cannot be used with Peers"),
        (&[("Global", "true"), ("Replaces", "b*")], "Global cannot be used with Replaces"),
        (&[("Conflicts", "c*"), ("Replaces", "b*")], "Conflicts cannot be used with Replaces"),
        (
            &[("MachineOf", "b.service"), ("Conflicts", "b*")],
            "unresolvable requirements: peer \"b.service\" matches conflict \"b*\"",
        ),
        (
            &[("MachineOf", "b.service"), ("Replaces", "b*")],
            "unresolvable requirements: peer \"b.service\" matches replace \"b*\"",
        ),
        (&[("Bogus", "1")], "unknown option `Bogus` in [X-Fleet]"),
    ];
    for (fleet, message) in cases {
        let answer = g.put("a.service", &json!({ "options": options(fleet) }));
        assert_eq!(answer.error(), (400, message.into()), "{fleet:?}");
        let lines: Vec<String> = fleet.iter().map(|(name, value)| format!("{name}={value}")).collect();
        g.file("a.service", &format!("{RUNS}\n[X-Fleet]\n{}", lines.join("\n")));
        let ran = g.fleetctl("submit a.service");
        assert!(ran.code == 1 && ran.stderr.contains(message), "{fleet:?}: {ran:?}");
    }
    for fine in [&[("Global", "true"), ("Conflicts", "b*")], &[("Global", "true"), ("MachineMetadata", "zone=a")]] {
        let answer = g.put("a.service", &json!({ "options": options(fine) }));
        assert_eq!(answer.status, 201, "{fine:?}: {answer:?}");
    }
}

fn specifiers_are_the_names_parts(g: &Ground) {
    g.file("web@.service", &format!("{RUNS}\n[X-Fleet]\nMachineMetadata=rank=%i\nConflicts=%p@*"));
    g.file("log-web@.service", &format!("{RUNS}\n[X-Fleet]\nMachineOf=web@%i.service"));
    g.fleetctl("start web@2 web@3 log-web@3 log-web@2").ok();
    for unit in ["web", "log-web"] {
        assert_eq!((g.ranks(&format!("{unit}@2.service")), g.ranks(&format!("{unit}@3.service"))), (vec![2], vec![3]));
    }
    g.fleetctl("destroy '*'").ok();
    // The whole name, and the name without its type: each keeps the unit away from the host of a unit of that name.
    let at = |rank: u8, more: &str| format!("{RUNS}\n[X-Fleet]\nMachineMetadata=rank={rank}\n{more}");
    g.file("not-full@x.service", &at(1, "")).file("not-full@x.timer.service", &at(2, ""));
    g.file("full@.service", &format!("{RUNS}\n[X-Fleet]\nConflicts=not-%n not-%N.timer.service"));
    g.fleetctl("start not-full@x.service not-full@x.timer.service").ok();
    g.fleetctl("start full@x").ok();
    assert_eq!(g.ranks("full@x.service"), [3]);
    g.file("bad.service", &format!("{RUNS}\n[X-Fleet]\nMachineMetadata=host=%H"));
    let ran = g.fleetctl("submit bad");
    assert!(ran.code == 1 && ran.stderr.contains("only the specifiers %n, %N, %p, %i and %%"), "{ran:?}");
}

fn names_are_checked_in_fleets_words(g: &Ground) {
    let body = json!({ "options": options(&[]) });
    let said = |name: &str| g.put(name, &body).error();
    assert_eq!(said("a%20b.service"), (400, "invalid character ' ' in unit name".into()));
    assert_eq!(said("@1.service"), (400, "unit name cannot start in \"@\"".into()));
    for bad in ["noname", "a.", "a.bogus", ".service"] {
        assert_eq!(said(bad).0, 400, "{bad}");
    }
    for (kind, why) in [("scope", "made by programs"), ("snapshot", "dropped"), ("busname", "dropped")] {
        let (status, message) = said(&format!("a.{kind}"));
        assert!(status == 400 && message.contains(why), "{message}");
    }
    assert_eq!(said(&format!("{}.service", "x".repeat(260))).0, 400);
    assert_eq!(said("x@1.mount"), (400, "invalid unit type for template: \"mount\"".into()));
    for good in ["a:b_c-d.e.service", "x@1.timer", "x@.target", "x.swap", "x.slice", "x.automount"] {
        assert_eq!(g.put(good, &body).status, 201, "{good}");
    }
}

/// fleet's agent knew six types, and wrote the files of other types again and again.
fn every_type_that_a_file_can_define_runs(g: &Ground) {
    let with_it = "[X-Fleet]\nMachineMetadata=rank=1";
    let units = [
        ("it.service", RUNS),
        ("it.socket", "[Socket]\nListenStream=/run/it.sock"),
        ("it.timer", "[Timer]\nOnCalendar=yearly"),
        ("it.path", "[Path]\nPathExists=/nowhere"),
        ("it.target", "[Unit]\nDescription=it"),
        ("it.slice", "[Slice]\nCPUWeight=50"),
        ("mnt.mount", "[Mount]\nWhat=tmpfs\nType=tmpfs\nWhere=/mnt"),
    ];
    for (unit, text) in units {
        g.file(unit, &format!("{text}\n{with_it}"));
    }
    g.fleetctl("load it.service").ok();
    for unit in ["it.socket", "it.timer", "it.path", "it.target", "it.slice", "mnt.mount", "it.service"] {
        g.fleetctl(&format!("start {unit}")).ok();
        let listed = g.fleetctl(&format!("list-units --no-legend --fields=active {unit}")).ok();
        assert_eq!((listed.trim(), g.ranks(unit).len()), ("active", 1), "{unit}");
    }
}

fn a_unit_with_install_is_enabled_for_this_boot(g: &Ground) {
    g.file("a.service", &format!("{RUNS}\n[Install]\nWantedBy=multi-user.target"));
    g.fleetctl("start a.service").ok();
    let host = g.host(1);
    assert_eq!(g.lab.run(host, &["systemctl", "is-enabled", "a.service"]).stdout.trim(), "enabled-runtime");
    g.fleetctl("destroy a.service").ok();
    let links = "ls /run/systemd/system/a.service /run/systemd/system/multi-user.target.wants/a.service";
    assert!(g.lab.sh(host, links).code != 0, "its links are gone");
}

fn unit_files_are_where_fleet_put_them(g: &Ground) {
    g.file("a.service", RUNS);
    g.fleetctl("load a.service").ok();
    let host = g.host(1);
    assert_eq!(g.lab.sh(host, "stat -c %a /run/fleet/units/a.service").ok().trim(), "644");
    assert_eq!(g.lab.sh(host, "readlink /run/systemd/system/a.service").ok().trim(), "/run/fleet/units/a.service");
    g.fleetctl("unload a.service").ok();
    eventually(SOON, "file and link gone", || {
        let left = g.lab.sh(host, "ls /run/fleet/units; ls /run/systemd/system | grep a.service").stdout;
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
    assert_eq!(g.get("/units/a.service").json()["currentState"], Value::from("inactive"));
}
