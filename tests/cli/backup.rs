//! `export` and `restore`: what goes into the folder comes back, and neither of them destroys anything by itself.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::fake::{Fake, Ran, Script};
use super::{N1, OK, Real, running, script};

const COMMENTED: &str = "# why it is here\n[Service]\nExecStart=/bin/true\n";
const TEMPLATE: &str = "[Service]\nExecStart=/bin/sleep %i\n";

/// A cluster with a unit in each desired state, a template and an instance.
fn cluster() -> Real {
    let real = Real::new();
    for (name, text) in [("a.service", OK), ("b.service", COMMENTED), ("c.service", OK), ("w@.service", TEMPLATE)] {
        std::fs::write(real.dir.path().join(name), text).unwrap();
    }
    for command in ["start --no-block a.service", "load --no-block b.service", "submit c.service w@.service"] {
        assert_eq!(real.run(command).code, Some(0), "{command}");
    }
    assert_eq!(real.run("start --no-block w@1.service").code, Some(0));
    for name in ["a", "b", "c", "w@"] {
        std::fs::remove_file(real.dir.path().join(format!("{name}.service"))).unwrap();
    }
    real
}

fn temporary() -> (TempDir, PathBuf) {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("backup");
    (temporary, folder)
}

/// All files of the folder, by their paths in it.
fn content(folder: &Path) -> Vec<(String, String)> {
    let mut open = vec![folder.to_path_buf()];
    let mut files = Vec::new();
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                files.push((name, std::fs::read_to_string(path).unwrap()));
            }
        }
    }
    files.sort();
    files
}

/// What the cluster has, without what differs between clusters.
fn units(real: &Real) -> String {
    let list = real.run("list-unit-files --no-legend --fields=unit,hash,dstate --full").out;
    let names = list.lines().map(|line| line.split_whitespace().next().unwrap());
    let texts: String = names.map(|name| real.run(&format!("cat {name}")).out).collect();
    list.clone() + &texts
}

#[test]
fn what_is_exported_is_restored_into_an_empty_cluster() {
    let (there, here) = (cluster(), Real::new());
    let (_temporary, folder) = temporary();
    let path = folder.display();
    there.expect(&format!("export {path}"), 0, &format!("{path}: 5 units; 5 files written, 0 deleted\n"), "");
    let names: Vec<String> = content(&folder).into_iter().map(|(name, _)| name).collect();
    let files = ["a.service", "b.service", "c.service", "w@.service", "w@1.service"];
    let expected: Vec<String> = ["units.json".into()].into_iter().chain(files.map(|f| format!("units/{f}"))).collect();
    assert_eq!(names, expected);
    assert!(content(&folder).contains(&("units/b.service".into(), COMMENTED.into())), "as it was submitted");

    let out = "Restored a.service (launched)\nRestored b.service (loaded)\nRestored c.service (inactive)\n\
        Restored w@.service (inactive)\nRestored w@1.service (launched)\n";
    let plan = here.run(&format!("restore --plan {path}"));
    assert!(plan.code == Some(3) && plan.out.contains("c.service  is submitted, and runs nowhere\n"), "{plan:?}");
    assert_eq!(units(&here), "", "nothing was changed");
    here.expect(&format!("restore {path}"), 0, out, &format!("5 units restored from {path}, 0 unchanged\n"));
    here.expect(&format!("restore --plan {path}"), 0, "nothing would change\n", "");
    assert_eq!(units(&here), units(&there));
    here.expect(&format!("restore {path}"), 0, "", &format!("0 units restored from {path}, 5 unchanged\n"));
    let before = content(&folder);
    here.expect(&format!("export {path}"), 0, &format!("{path}: 5 units; 0 files written, 0 deleted\n"), "");
    assert_eq!(content(&folder), before, "exports of equal clusters are equal");
}

/// A set and its rider, of which a member was destroyed by its name, so that the folder doesn't have it.
#[test]
fn what_comes_and_goes_with_a_restored_set_is_said_as_what_it_is() {
    let (there, here) = (Real::new(), Real::new());
    let (_temporary, folder) = temporary();
    for real in [&there, &here] {
        std::fs::write(real.dir.path().join("web@.service"), OK.to_owned() + "[X-Fleet]\nReplicas=2\n").unwrap();
        let rider = OK.to_owned() + "[X-Fleet]\nReplicas=web@.service\n";
        std::fs::write(real.dir.path().join("log@.service"), rider).unwrap();
    }
    there.run("submit web@.service log@.service");
    there.run("destroy log@2.service");
    let path = folder.display();
    there.run(&format!("export {path}"));
    let restored = "Restored log@.service (inactive)\nRestored log@1.service (inactive)\n\
        Restored web@.service (inactive)\nRestored web@1.service (inactive)\nRestored web@2.service (inactive)\n";
    let counted = format!("5 units restored from {path}, 0 unchanged\n");
    here.expect(&format!("restore {path}"), 0, &format!("{restored}Created log@2.service (inactive)\n"), &counted);
    // Back to two of them, where a third has a file of its own.
    here.run("scale web@ 4");
    std::fs::write(here.dir.path().join("log@3.service"), OK.replace("/bin/true", "/bin/false")).unwrap();
    here.run("submit --replace log@3.service");
    let Ran { code, out, err } = here.run(&format!("restore --yes {path}"));
    let mut lines: Vec<&str> = out.lines().collect();
    lines.sort_unstable();
    let destroyed = ["Destroyed log@4.service", "Destroyed web@3.service", "Destroyed web@4.service"];
    assert_eq!((code, &lines[..3], lines.len()), (Some(0), &destroyed[..], 5), "{out}");
    let left =
        "log@3.service has a file of its own, and is left as it is: `fleetctl destroy log@3.service` destroys it";
    assert!(err.contains(left) && err.ends_with(&format!("2 units restored from {path}, 3 unchanged\n")), "{err}");
}

#[test]
fn units_that_the_cluster_has_are_changed_only_after_a_yes() {
    let (there, here) = (cluster(), Real::new());
    let (_temporary, folder) = temporary();
    there.run(&format!("export {}", folder.display()));
    std::fs::write(here.dir.path().join("a.service"), "[Service]\nExecStart=/bin/other\n").unwrap();
    std::fs::write(here.dir.path().join("mine.service"), OK).unwrap();
    std::fs::write(here.dir.path().join("c.service"), OK).unwrap();
    here.run("submit mine.service");
    here.run("start --no-block c.service");
    here.run("submit a.service");
    let before = units(&here);
    let path = folder.display();
    let differences = "a.service: the cluster has another file; it is to be inactive in the cluster, launched in the \
        folder\nc.service: it is to be launched in the cluster, inactive in the folder\n";
    let refused = format!("{differences}nothing was changed\n--yes makes them what they are in the folder\n");
    here.expect(&format!("restore {path}"), 1, "", &refused);
    assert_eq!(units(&here), before);
    let Ran { code, out, err } = here.run(&format!("restore --yes --output json {path}"));
    assert_eq!((code, err), (Some(0), format!("{differences}5 units restored from {path}, 0 unchanged\n")));
    let outcomes: Value = serde_json::from_str::<Value>(&out).unwrap()["units"]
        .as_array()
        .unwrap()
        .iter()
        .map(|unit| json!([unit["name"], unit["outcome"]]))
        .collect();
    assert_eq!(outcomes[0], json!(["a.service", "replaced"]));
    assert_eq!(outcomes[2], json!(["c.service", "changed"]));
    here.run("destroy mine.service");
    assert_eq!(units(&here), units(&there), "except for the unit that was only here");
}

#[test]
fn a_terminal_is_asked() {
    let mut detail = running("a.service", N1);
    detail["text"] = COMMENTED.into();
    detail["revision"] = 9.into();
    let script =
        || Script { details: [("a.service".into(), detail.clone())].into(), ..script(&[detail.clone()], vec![]) };
    let (there, fake) = (cluster(), Fake::new(script()));
    there.run(&format!("export {}", fake.dir.path().join("backup").display()));
    let question = "a.service: the cluster has another file\nchange 1 unit that the cluster has? [y/N] ";
    let (code, text) = fake.on_terminal("restore backup", 80, "\n");
    assert!(code == Some(1) && text.starts_with(&format!("{question}nothing was changed\n")), "{text}");
    assert!(fake.sent().is_empty());
    let (code, text) = fake.on_terminal("restore backup", 80, "y\n");
    assert!(code == Some(0) && text.starts_with(question), "{text}");
    // Refused by the cluster if somebody else has changed the file since it was compared.
    let sent = json!({ "name": "a.service", "text": OK, "replace": true, "revision": 9 });
    assert_eq!(fake.sent()[0][0], sent);
}

#[test]
fn a_folder_that_is_not_whole_or_not_ours_changes_nothing() {
    let there = cluster();
    let fake = Fake::new(Script::default());
    fake.file("notes/thesis.tex", "");
    fake.expect("restore nowhere", 1, "", "nowhere: there is no such folder\nnothing was changed\n");
    let foreign = "notes is not the folder of an export: it has no units.json\nnothing was changed\n";
    fake.expect("restore notes", 1, "", foreign);
    fake.expect("export notes", 1, "", "notes is neither empty nor the folder of an earlier export\n");
    there.run(&format!("export {}", fake.dir.path().join("backup").display()));
    std::fs::remove_file(fake.dir.path().join("backup/units/b.service")).unwrap();
    fake.file("backup/units/a.service", "[Service]\nExecStart=/bin/other\n");
    let Ran { code, out, err } = fake.run("restore --yes backup");
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.starts_with("backup/units/a.service: its hash is "), "{err}");
    assert!(err.ends_with("/b.service: missing, though units.json lists it\nnothing was changed\n"), "{err}");
    assert!(fake.asked().is_empty(), "the cluster isn't even asked: {:?}", fake.asked());
}

/// A timer may export at any time, also after the cluster has lost its data.
#[test]
fn an_export_does_not_destroy_the_last_copy() {
    let (there, empty) = (cluster(), Real::new());
    let (_temporary, folder) = temporary();
    let path = folder.display();
    there.run(&format!("export {path}"));
    let before = content(&folder);
    there.run("destroy --no-block c.service");
    let out = format!("{path}: 4 units; 0 files written, 1 deleted\n");
    there.expect(&format!("export {path}"), 0, &out, "");
    let what = format!("the cluster doesn't have 4 of the 4 units in {path} any more\n");
    let refused = what + "nothing was written; --yes deletes them in the folder too\n";
    empty.expect(&format!("export {path}"), 1, "", &refused);
    assert_eq!(content(&folder).len(), before.len() - 1);

    there.damage("a.service");
    let Ran { code, out, err } = there.run(&format!("export --output json {path}"));
    let document: Value = serde_json::from_str(&out).unwrap();
    let expected =
        json!({ "folder": path.to_string(), "units": 4, "written": 0, "deleted": 0, "damaged": ["a.service"] });
    assert_eq!((code, document), (Some(1), expected), "{err}");
    assert_eq!(err, "a.service: its record in the store is damaged; the folder keeps what it had\n");
    let repaired = format!("1 unit restored from {path}, 3 unchanged\n");
    there.expect(&format!("restore {path}"), 0, "Restored a.service (launched)\n", &repaired);

    there.cut_off();
    let Ran { code, err, .. } = there.run(&format!("export --yes {path}"));
    assert!(code == Some(1) && err.contains("can't reach its store"), "{err}");
    empty.expect(&format!("export --yes {path}"), 0, &format!("{path}: 0 units; 0 files written, 4 deleted\n"), "");
}
