//! `[X-Health]`: probes and their times are printed and read again without a change, whatever the unit is called.

use std::fmt::Write as _;

use flotilla::model::file::UnitFile;
use flotilla::model::health::{Health, SECTION};
use flotilla::model::probe::{Probe, words};

use super::{assert_problems, time};

pub fn target(data: &[u8]) {
    let text = [format!("[{SECTION}]\n").as_bytes(), data].concat();
    let Ok(file) = UnitFile::parse(&text) else { return };
    for name in ["web.service", "web@7.service", "web@a\\x2db-c.service", "web@.service", "web.timer"] {
        let name = name.parse().expect("a unit's name");
        match Health::parse(&file, &name) {
            Ok(None) => assert!(file.section(SECTION).next().is_none(), "a section isn't passed over"),
            Ok(Some(health)) => {
                assert_eq!(name.kind(), "service");
                assert_bounds(&health);
                let printed = print(&health);
                let again = UnitFile::parse(printed.as_bytes()).expect("a printed section is a unit file");
                assert_eq!(Health::parse(&again, &name), Ok(Some(health)), "{printed}");
            }
            Err(problems) => assert_problems(&problems, &text),
        }
    }
}

/// What whoever carries the probes out relies on.
fn assert_bounds(health: &Health) {
    assert!(health.probes().next().is_some() && health.timeout <= health.interval && !health.timeout.is_zero());
    assert!(health.rise >= 1 && health.fall >= 1);
    for probe in health.probes() {
        match probe {
            Probe::Exec(command) => {
                let words = words(command).expect("a command has words");
                assert!(words.first().is_some_and(|program| program.starts_with('/')), "{command}");
            }
            Probe::Tcp(target) => assert!(target.port.is_some(), "{probe}"),
            Probe::Http { path, .. } => assert!(path.starts_with('/'), "{probe}"),
            Probe::Shell(_) => panic!("no shell: {probe}"),
        }
    }
}

/// The section with one option for each value.
fn print(health: &Health) -> String {
    let mut text = format!("[{SECTION}]\n");
    for (option, probes) in [("Ready", &health.ready), ("Live", &health.live)] {
        for probe in probes {
            let _ = writeln!(text, "{option}={}", written(probe));
        }
    }
    let _ = writeln!(text, "IntervalSec={}\nTimeoutSec={}", time(health.interval), time(health.timeout));
    let _ = writeln!(text, "Rise={}\nFall={}", health.rise, health.fall);
    if !health.live.is_empty() {
        let _ = writeln!(text, "GraceSec={}", time(health.grace));
    }
    text
}

/// A probe as the value of an option: a per cent sign isn't the beginning of a specifier, and a backslash isn't at the
/// end of the line, which would go on.
fn written(probe: &Probe) -> String {
    let text = probe.to_string().replace('%', "%%");
    if text.ends_with('\\') { text + " " } else { text }
}
