//! `[X-Fleet]`: constraints are printed and read again without a change, and mean as much for every instance.

use std::fmt::Write as _;
use std::sync::Arc;

use flotilla::model::disconnect::OnDisconnect;
use flotilla::model::file::UnitFile;
use flotilla::model::move_after::MoveAfter;
use flotilla::model::placement::limits::{self, MAX_PATTERNS};
use flotilla::model::placement::{Constraints, Replicas, SECTION};

use super::assert_refusal;

pub fn target(data: &[u8]) {
    let text = [b"[X-Fleet]\n", data].concat();
    let Ok(file) = UnitFile::parse(&text) else { return };
    let submitted = limits::parse(&file);
    let constraints = match Constraints::parse(&file) {
        Ok(constraints) => constraints,
        Err(problems) => {
            assert!(!problems.is_empty());
            assert_eq!(submitted, Err(problems.clone()), "what can't be read can't be submitted");
            return problems.iter().for_each(|problem| assert_refusal(problem, data.len()));
        }
    };
    match &submitted {
        Ok(same) => assert!(*same == constraints && constraints.patterns() <= MAX_PATTERNS),
        Err(problems) => problems.iter().for_each(|problem| assert_refusal(problem, data.len())),
    }
    let printed = print(&constraints);
    let file = UnitFile::parse(printed.as_bytes()).expect("a printed section is a unit file");
    assert_eq!(fields(&Constraints::parse(&file).expect(&printed)), fields(&constraints), "{printed}");
    for name in ["web.service", "web@7.service", "web@a\\x2db-c.service"] {
        resolve(&Arc::new(constraints.clone()), name, submitted.is_ok());
    }
}

/// Everything but the instances, which other sections name.
fn fields(constraints: &Constraints) -> impl PartialEq + std::fmt::Debug + '_ {
    let Constraints { machine_id, metadata, machine_of, conflicts, replaces, global, .. } = constraints;
    let Constraints { conditions, on_disconnect, move_after, replicas, run_once, .. } = constraints;
    let others = (conditions, on_disconnect, move_after, replicas, run_once);
    (machine_id, metadata, machine_of, conflicts, replaces, global, others)
}

/// The section with one option for each value.
fn print(constraints: &Constraints) -> String {
    let mut text = format!("[{SECTION}]\nGlobal={}\n", constraints.global);
    match &constraints.replicas {
        Some(Replicas::Number(number)) => drop(writeln!(text, "Replicas={number}")),
        Some(Replicas::Of(lead)) => drop(writeln!(text, "Replicas={lead}")),
        None => {}
    }
    if constraints.run_once {
        text.push_str("RunOnce=yes\n");
    }
    if constraints.on_disconnect == OnDisconnect::Stop {
        text.push_str("OnDisconnect=stop\n");
    }
    if constraints.move_after > MoveAfter::AT_ONCE {
        let _ = writeln!(text, "MoveAfterSec={}", constraints.move_after);
    }
    if let Some(id) = &constraints.machine_id {
        let _ = writeln!(text, "MachineID={id}");
    }
    for (key, value) in constraints.metadata.iter().flat_map(|(key, values)| values.iter().map(move |v| (key, v))) {
        let _ = writeln!(text, "MachineMetadata=\"{key}={value}\"");
    }
    for condition in &constraints.conditions {
        let _ = writeln!(text, "MachineMetadata=\"{condition}\"");
    }
    for peer in &constraints.machine_of {
        let _ = writeln!(text, "MachineOf=\"{peer}\"");
    }
    for (option, globs) in [("Conflicts", &constraints.conflicts), ("Replaces", &constraints.replaces)] {
        for glob in globs {
            let _ = writeln!(text, "{option}=\"{glob}\"");
        }
    }
    text
}

/// For a unit, nothing is left out of what can be `submitted`, and nothing is left to resolve.
fn resolve(constraints: &Arc<Constraints>, name: &str, submitted: bool) {
    let name = name.parse().expect("a unit's name");
    let resolved = Constraints::resolve(constraints, &name);
    assert_eq!(resolved.machine_of.is_empty(), constraints.machine_of.is_empty());
    assert_eq!(resolved.metadata.is_empty(), constraints.metadata.is_empty());
    assert_eq!(resolved.conditions.is_empty(), constraints.conditions.is_empty());
    assert_eq!(resolved.global, constraints.global);
    assert!(!submitted || resolved.patterns() == constraints.patterns(), "no pattern is lost");
    assert!(Arc::ptr_eq(&resolved, &Constraints::resolve(&resolved, &name)), "nothing is resolved twice");
}
