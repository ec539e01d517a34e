//! Contexts: which options they set, what goes before them, and mistakes in the file.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::N1;
use crate::fake::{Fake, Ran, Script, fleetctl, run};

/// Run `fleetctl` with these contexts; `variables` are set.
fn with(folder: &Path, variables: &[(&str, &str)], args: &str) -> Ran {
    let mut command = fleetctl(folder);
    command.args(args.split_whitespace()).env("XDG_CONFIG_HOME", folder.join("config"));
    command.envs(variables.iter().copied());
    run(command)
}

fn write(folder: &Path, text: &str) {
    fs::create_dir_all(folder.join("config/flotilla")).unwrap();
    fs::write(folder.join("config/flotilla/config"), text).unwrap();
}

fn host() -> Value {
    json!({ "id": N1, "ip": "", "hostname": "n1", "metadata": {}, "version": "0.1.0" })
}

#[test]
fn a_context_sets_what_neither_the_command_line_nor_a_variable_sets() {
    let fake = Fake::new(Script { machines: vec![host()], ..Script::default() });
    let (folder, there) = (fake.dir.path(), fake.endpoint());
    let run = |variables: &[(&str, &str)], args: &str| with(folder, variables, args);
    write(folder, &format!("# clusters\n[there]\nendpoint={there}\n\n[nowhere]\nendpoint=/nowhere.sock\n"));
    assert!(run(&[], "list-machines").err.contains("/run/fleet.sock"), "no context is selected");
    let ran = run(&[], "--context there list-machines");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(run(&[], "list-machines --context=there").code, Some(0));
    let nowhere = [("FLEETCTL_CONTEXT", "nowhere")];
    assert!(run(&nowhere, "list-machines").err.contains("/nowhere.sock"));
    assert_eq!(run(&nowhere, "list-machines --context there").code, Some(0));
    assert_eq!(run(&nowhere, &format!("list-machines --endpoint {there}")).code, Some(0));
    assert_eq!(run(&[nowhere[0], ("FLEETCTL_ENDPOINT", &there)], "list-machines").code, Some(0));

    let listed = format!("  there\tendpoint={there}\n  nowhere\tendpoint=/nowhere.sock\n");
    assert_eq!(run(&[], "context").out, listed);
    assert_eq!(run(&[], "context use there"), Ran { code: Some(0), out: String::new(), err: String::new() });
    assert_eq!(run(&[], "list-machines").code, Some(0), "it is selected now");
    assert!(run(&nowhere, "list-machines").err.contains("/nowhere.sock"), "a variable goes before it");
    assert_eq!(run(&[], "context list").out, listed.replace("  there", "* there"));
    assert_eq!(run(&[], "context show").out, format!("endpoint={there}\n"));
    let shown: Value = serde_json::from_str(&run(&[], "context show nowhere --output json").out).unwrap();
    assert_eq!(shown, json!({ "name": "nowhere", "selected": false, "options": [["endpoint", "/nowhere.sock"]] }));
    let unknown = run(&[], "--context lost list-machines");
    assert!(unknown.code == Some(2) && unknown.err.contains("no context `lost` in "), "{unknown:?}");
    assert!(unknown.err.contains("there, nowhere"), "{unknown:?}");
    assert_eq!(run(&[], "context use lost").code, Some(1));
}

#[test]
fn mistakes_in_the_file_are_shown_with_their_lines_and_keep_nobody_from_help() {
    let fake = Fake::new(Script::default());
    write(fake.dir.path(), "[a]\nendpoint=http://10.0.0.1:1\ntunel=n1\n[b]\nssh-port=x\n");
    let refused = with(fake.dir.path(), &[], "list-machines");
    assert_eq!((refused.code, refused.out.as_str()), (Some(2), ""));
    for part in ["flotilla/config:3: unknown option `tunel`; there are endpoint, ", "flotilla/config:5: `ssh-port=x`: "]
    {
        assert!(refused.err.contains(part), "{refused:?}");
    }
    assert_eq!(with(fake.dir.path(), &[], "context").code, Some(1));
    assert_eq!(with(fake.dir.path(), &[], "help").code, Some(0));
}

#[test]
fn the_next_endpoint_is_tried_and_a_line_says_so() {
    let fake = Fake::new(Script { machines: vec![host()], ..Script::default() });
    let args = format!("--endpoint /nowhere.sock --endpoint {} list-machines", fake.endpoint());
    let ran = with(fake.dir.path(), &[], &args);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let there = fake.endpoint();
    let line = format!("/nowhere.sock: no such socket; trying {}\n", there.trim_start_matches("unix://"));
    assert_eq!(ran.err, line);
}
