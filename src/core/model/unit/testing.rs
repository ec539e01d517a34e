//! Reports for tests, of this crate and of those that use it. Owns how a line of text is read as one; must never be
//! part of a program.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use super::super::failure::Failure;
use super::super::name::UnitHash;
use super::super::revision::Revision;
use super::super::systemd::{JobKind, JobResult};
use super::{Assignment, Target, UnitReport};

/// `generation load active sub`, and any of `job=`, `result=`, `error=`, `restarts=`, `exit=STATUS`, `status=`,
/// `ready=yes|no`, `health=`, `missing` and `gone`.
#[must_use]
pub fn report(text: &str) -> UnitReport {
    let words: Vec<&str> = text.split_whitespace().collect();
    let after = |key: &str| words.iter().find_map(|word| word.strip_prefix(key)).map(str::to_owned);
    let target = if words.contains(&"gone") { Target::Removed } else { Target::Launched };
    UnitReport {
        load: words[1].into(),
        active: words[2].into(),
        sub: words[3].into(),
        job: after("job=").map(JobKind::from),
        result: after("result=").map(JobResult::from),
        error: after("error="),
        missing: words.contains(&"missing"),
        restarts: after("restarts=").map_or(0, |count| count.parse().unwrap()),
        status: after("status="),
        ready: after("ready=").map(|ready| ready == "yes"),
        health: after("health="),
        failure: after("exit=").map(|status| {
            let exit = Some(format!("exited {status}"));
            Box::new(Failure { result: "exit-code".into(), exit, ..Failure::default() })
        }),
        ..UnitReport::of(&Assignment::new(UnitHash::new("0"), target, Revision(words[0].parse().unwrap())))
    }
}
