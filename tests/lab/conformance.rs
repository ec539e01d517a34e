//! What users and scripts of CoreOS fleet rely on, case by case, on real hosts: `docs/conformance.md` lists what fleet
//! did, and names the cases that show what Flotilla does. The cases of a group share a cluster of three hosts. Each
//! case begins with an empty cluster and is cleaned up after, and a failed case doesn't stop the others.

mod api;
mod cli;
mod daemon;
mod files;
mod ground;
mod lists;
mod moving_in;
mod remote;
mod scheduling;
mod units;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use ground::Ground;

/// One case; its name says what users rely on.
pub(crate) struct Case {
    name: &'static str,
    run: fn(&Ground),
}

/// The cases of a file, by the names of their functions.
macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        pub(super) const CASES: &[super::Case] = &[$(super::Case { name: stringify!($name), run: $name }),*];
    };
}
use cases;

/// Run all of `cases`, or those whose name contains `FLOTILLA_CASE`, on one cluster; panics at the end if one has
/// failed.
fn play(cases: &[&[Case]]) {
    let only = std::env::var("FLOTILLA_CASE").unwrap_or_default();
    let cases: Vec<&Case> = cases.iter().copied().flatten().filter(|case| case.name.contains(&only)).collect();
    if cases.is_empty() {
        return;
    }
    let ground = Ground::new();
    let mut failed = Vec::new();
    for case in &cases {
        let began = Instant::now();
        ground.begin(case.name);
        let passed = catch_unwind(AssertUnwindSafe(|| (case.run)(&ground))).is_ok();
        // If the cluster can't be cleaned up, later cases would fail because of it: this is a failure by itself.
        let cleared = catch_unwind(AssertUnwindSafe(|| ground.clear())).is_ok();
        let verdict = if passed && cleared { "ok" } else { "FAILED" };
        eprintln!("case {verdict:6} {:5.1} s  {}", began.elapsed().as_secs_f64(), case.name);
        if !(passed && cleared) {
            failed.push(case.name);
        }
    }
    eprintln!("{} of {} cases passed", cases.len() - failed.len(), cases.len());
    assert!(failed.is_empty(), "these failed (FLOTILLA_CASE=NAME runs one): {}", failed.join(" "));
}

#[test]
fn the_command_line_is_fleets() {
    play(&[cli::CASES, units::CASES]);
}

#[test]
fn the_lists_are_fleets() {
    play(&[lists::CASES]);
}

#[test]
fn unit_files_are_fleets() {
    play(&[files::CASES]);
}

#[test]
fn scheduling_is_fleets() {
    play(&[scheduling::CASES]);
}

#[test]
fn the_api_is_fleets() {
    play(&[api::CASES]);
}

#[test]
fn hosts_are_reached_as_with_fleet() {
    play(&[remote::CASES]);
}

#[test]
fn the_daemon_is_fleets() {
    play(&[daemon::CASES]);
}
