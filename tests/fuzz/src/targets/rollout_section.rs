//! `[X-Rollout]`: a policy is printed and read again without a change, and what can be submitted is read in the same
//! way once it is stored.

use std::fmt::Write as _;

use flotilla::model::file::UnitFile;
use flotilla::model::rollout::policy::{Amount, OnFailure, Policy, Promote, SECTION, hooks_of};

use super::{assert_problems, time};

/// No set has more members.
const MOST: usize = 1000;

pub fn target(data: &[u8]) {
    let text = [format!("[{SECTION}]\n").as_bytes(), data].concat();
    let Ok(file) = UnitFile::parse(&text) else { return };
    let has_section = file.section(SECTION).next().is_some();
    let stored = Policy::stored(&file);
    assert_eq!(stored.is_some(), has_section, "whatever is stored is read");
    stored.iter().for_each(assert_bounds);
    let policy = match Policy::parse(&file) {
        Ok(policy) => policy,
        Err(problems) => return assert_problems(&problems, &text),
    };
    assert_eq!(policy, stored);
    let Some(policy) = policy else { return };
    assert!(policy.healthy <= policy.deadline, "a member can be in time");
    let hooks: Vec<_> = hooks_of(&file).map(|(_, unit)| unit).collect();
    assert!(policy.before.iter().chain(&policy.after).all(|hook| hooks.contains(hook)));
    let printed = print(&policy);
    let again = UnitFile::parse(printed.as_bytes()).expect("a printed section is a unit file");
    assert_eq!(Policy::parse(&again), Ok(Some(policy)), "{printed}");
}

/// What whoever carries the policy out relies on.
fn assert_bounds(policy: &Policy) {
    for all in [0, 1, 3, MOST] {
        assert!(policy.parallel.at_least_one_of(all) >= 1, "a rollout goes on");
        assert!(policy.canary.at_most_all_of(all) <= all && policy.spare.at_most_all_of(all) <= all);
    }
    assert!(!policy.deadline.is_zero());
    let hooks = policy.before.iter().chain(&policy.after);
    hooks.for_each(|hook| assert!(hook.kind() == "service" && !hook.is_template(), "{hook}"));
}

/// The section with one option for each value.
fn print(policy: &Policy) -> String {
    let Policy { parallel, spare, canary, preview, promote, healthy, deadline, on_failure, before, after } = policy;
    let mut text = format!("[{SECTION}]\n");
    for (option, amount) in [("Parallel", parallel), ("Spare", spare), ("Canary", canary)] {
        let _ = match amount {
            Amount::Number(number) => writeln!(text, "{option}={number}"),
            Amount::Percent(percent) => writeln!(text, "{option}={percent}%"),
        };
    }
    let promote = match promote {
        Promote::Manual => "manual".into(),
        Promote::After(after) if after.is_zero() => "auto".into(),
        Promote::After(after) => time(*after),
    };
    let on_failure = match on_failure {
        OnFailure::Revert => "revert",
        OnFailure::Pause => "pause",
    };
    let preview = if *preview { "yes" } else { "no" };
    let _ = writeln!(text, "Preview={preview}\nPromote={promote}\nOnFailure={on_failure}");
    let _ = writeln!(text, "HealthySec={}\nDeadlineSec={}", time(*healthy), time(*deadline));
    for (option, hooks) in [("Before", before), ("After", after)] {
        for hook in hooks {
            let _ = writeln!(text, "{option}={hook}");
        }
    }
    text
}
