//! No irreversible change by accident: the question before a pattern destroys several units, and the replacement of
//! running units one after another.

use serde_json::{Value, json};

use super::fake::{Fake, Ran, Script};
use super::{N1, N2, OK, applied, removed, running, script, snapshot, state, synced, unit};

const NEW: &str = "[Service]\nExecStart=/bin/new\n";

fn three() -> Vec<Value> {
    vec![running("w@1.service", N1), running("w@2.service", N2), unit("w@3.service", "inactive", None, &[])]
}

#[test]
fn a_pattern_that_destroys_several_units_asks_on_a_terminal() {
    let gone = || vec![removed("w@1.service"), removed("w@2.service"), removed("w@3.service"), synced()];
    let fake = Fake::new(script(&three(), vec![gone(), gone()]));
    let question = "destroy 3 units, 2 of them running? [y/N] ";
    let (code, text) = fake.on_terminal("destroy 'w@*'", 80, "\n");
    assert_eq!((code, text), (Some(1), format!("{question}nothing was destroyed\n")));
    assert!(fake.sent().is_empty(), "nothing is sent without a yes");
    let (code, text) = fake.on_terminal("destroy 'w@*'", 80, "y\n");
    assert!(code == Some(0) && text.starts_with(question) && text.contains("Destroyed w@3.service"), "{text}");
    let (code, text) = fake.on_terminal("destroy --yes 'w@*'", 80, "");
    assert!(code == Some(0) && !text.contains("[y/N]"), "{text}");
    assert_eq!(fake.sent().len(), 2);
}

#[test]
fn named_units_and_scripts_are_not_asked() {
    let gone = || vec![removed("w@1.service"), removed("w@2.service"), removed("w@3.service"), synced()];
    let fake = Fake::new(script(&three(), vec![gone(), gone()]));
    let out = "Destroyed w@1.service\nDestroyed w@2.service\nDestroyed w@3.service\n";
    fake.expect("destroy w@*", 0, out, "");
    let (code, text) = fake.on_terminal("destroy w@1 w@2", 80, "");
    assert!(code == Some(0) && !text.contains("[y/N]"), "{text}");
}

/// `w@1` and `w@2` run with an old file, and each batch of `batches` replaces the units that it names.
fn replacing(batches: &[&[&str]], watches: Vec<Vec<String>>) -> Fake {
    let detail = |name: &str| {
        let mut detail = running(name, N1);
        detail["text"] = OK.into();
        (name.to_owned(), detail)
    };
    let details = [detail("w@1.service"), detail("w@2.service")].into();
    let replaced = |names: &&[&str]| applied(&names.iter().map(|name| (*name, "replaced")).collect::<Vec<_>>());
    let applied = batches.iter().map(replaced).collect();
    let fake = Fake::new(Script { details, applied, ..script(&three()[..2], watches) });
    fake.file("w@.service", NEW);
    fake
}

fn sent(text: &str, name: &str) -> Value {
    json!([{ "name": name, "text": text, "desired": "launched", "replace": true }])
}

#[test]
fn running_units_are_replaced_one_after_another() {
    let up = |name: &str, host: &str| snapshot(&[running(name, host)]);
    let fake = replacing(&[&["w@1.service"], &["w@2.service"]], vec![up("w@1.service", N1), up("w@2.service", N2)]);
    let out =
        "Unit w@1.service launched on a2d7e4a6.../10.88.0.11\nUnit w@2.service launched on 844a981f.../10.88.0.12\n";
    fake.expect("start --replace w@1 w@2", 0, out, "");
    assert_eq!(fake.sent(), [sent(NEW, "w@1.service"), sent(NEW, "w@2.service")]);
    let watches: Vec<String> = fake.asked().into_iter().filter(|line| line.contains("/watch")).collect();
    assert!(watches.len() == 2 && watches[0].contains("w%401") && !watches[0].contains("w%402"), "{watches:?}");

    let fake = replacing(&[&["w@1.service", "w@2.service"]], vec![snapshot(&three()[..2])]);
    fake.expect("start --replace --at-once w@1 w@2", 0, out, "");
    assert_eq!(fake.sent().len(), 1, "all together");
}

#[test]
fn a_unit_that_doesnt_come_up_gets_its_old_file_back_and_the_others_keep_theirs() {
    let failed = unit("w@1.service", "launched", Some(N1), &[state(N1, "7 failed failed result=failed")]);
    let fake = replacing(
        &[&["w@1.service"], &["w@1.service"]],
        vec![snapshot(&[failed]), snapshot(&[running("w@1.service", N1)])],
    );
    let Ran { code, out, err } = fake.run("start --replace w@1 w@2");
    assert_eq!((code, out.as_str()), (Some(1), "Unit w@1.service launched on a2d7e4a6.../10.88.0.11\n"), "{err}");
    assert_eq!(fake.sent(), [sent(NEW, "w@1.service"), sent(OK, "w@1.service")]);
    let ends = "w@1.service failed with its new file and gets its old one back\n\
        w@1.service has its old file again and runs\n\
        stopped here, not replaced: w@2.service; --at-once replaces all of them together\n";
    assert!(err.starts_with("w@1.service failed on n1: ") && err.ends_with(ends), "{err}");
}

/// A template that has the file NEW of its running instances, and had OK.
fn with_history(batches: &[&[&str]], watches: Vec<Vec<String>>) -> Fake {
    let hash = |digit: &str| digit.repeat(40);
    let history = json!({
        "unit": "w@.service",
        "present": {
            "revision": 2, "hash": "3750b3e9f3962a56c7582929426e9abb012754cf", "since": 5, "text": NEW, "written": 6,
        },
        "revisions": [{ "revision": 1, "hash": hash("1"), "until": 5, "text": OK }],
    });
    let detail = |name: &str| {
        let mut detail = running(name, N1);
        detail["text"] = NEW.into();
        (name.to_owned(), detail)
    };
    let details =
        [("w@.service/history".into(), history), detail("w@1.service"), detail("w@2.service")].into_iter().collect();
    let replaced = |names: &&[&str]| applied(&names.iter().map(|name| (*name, "replaced")).collect::<Vec<_>>());
    let mut units = three();
    units.push(unit("w@.service", "inactive", None, &[]));
    Fake::new(Script { details, applied: batches.iter().map(replaced).collect(), ..script(&units, watches) })
}

#[test]
fn members_go_back_one_after_another_when_their_template_has() {
    let back = |name: &str| json!([{ "name": name, "text": OK, "replace": true }]);
    let template = json!({ "name": "w@.service", "text": OK, "replace": true, "revision": 6 });
    // w@3 runs nowhere, so that nothing waits for it.
    let first = json!([template, back("w@3.service")[0]]);
    let up = |name: &str, host: &str| snapshot(&[running(name, host)]);
    let batches: [&[&str]; 3] = [&["w@.service", "w@3.service"], &["w@1.service"], &["w@2.service"]];
    let fake = with_history(&batches, vec![up("w@1.service", N1), up("w@2.service", N2)]);
    let out = "w@.service: revision 3, the file of 1\nUnit w@1.service launched on a2d7e4a6.../10.88.0.11\n\
               Unit w@2.service launched on 844a981f.../10.88.0.12\n";
    fake.expect("rollback w@", 0, out, "");
    assert_eq!(fake.sent(), [first, back("w@1.service"), back("w@2.service")]);

    let all: [&[&str]; 1] = [&["w@.service", "w@1.service", "w@2.service", "w@3.service"]];
    let fake = with_history(&all, vec![snapshot(&three()[..2])]);
    fake.expect("rollback --at-once w@ 1", 0, out, "");
    assert_eq!(fake.sent().len(), 1, "all together");
    let fake = with_history(&[], vec![]);
    fake.expect("rollback --output json w@ 2", 0, "{\n  \"revision\": 6,\n  \"units\": []\n}\n", "");
    assert!(fake.sent().is_empty());
}

#[test]
fn after_a_replacement_that_failed_the_way_back_is_said() {
    let failed = || unit("w@1.service", "launched", Some(N1), &[state(N1, "7 failed failed result=failed")]);
    let fake = || replacing(&[&["w@1.service"]], vec![snapshot(&[failed()])]);
    let hint = "hint: `fleetctl rollback w@1.service` gives it back the file that it had before";
    let (code, text) = fake().on_terminal("start --replace w@1", 100, "");
    assert!(code == Some(1) && text.contains(hint), "{text}");
    let Ran { err, .. } = fake().run("start --replace w@1");
    assert!(!err.contains("hint"), "{err}");
}
