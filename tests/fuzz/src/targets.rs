//! The targets, and what their properties have in common.

pub mod api;
pub mod config;
pub mod fleet_section;
pub mod glob;
pub mod health_section;
pub mod journal;
pub mod known_hosts;
pub mod names;
pub mod record;
pub mod rollout_section;
pub mod ssh_config;
pub mod unit_file;

use std::fmt;
use std::time::Duration;

use flotilla::model::section::Problem;

/// Check the text of a refusal: it says something, it isn't much longer than what was refused, and it is one line
/// without control characters. The few that a unit file may contain are left to the printer, which replaces them.
fn assert_refusal(refusal: &impl fmt::Display, input: usize) {
    let text = refusal.to_string();
    assert!(!text.trim().is_empty(), "a refusal says why");
    // A quotation may escape each byte (`\u{1b}`) and occur twice.
    assert!(text.len() <= 1000 + 20 * input, "{} bytes about {input}", text.len());
    assert!(!text.chars().any(|c| c.is_ascii_control() && c != '\t'), "{text:?}");
}

/// The same of everything that is wrong with a section of `text`: each problem names one of its lines.
fn assert_problems(problems: &[Problem], text: &[u8]) {
    assert!(!problems.is_empty(), "what is refused has a problem");
    let lines = text.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count() + 1;
    for problem in problems {
        assert_refusal(problem, text.len());
        assert!((1..=lines).contains(&problem.line), "line {} of {lines}: {problem}", problem.line);
    }
}

/// A time as the value of an option.
fn time(time: Duration) -> String {
    match time {
        Duration::MAX => "infinity".into(),
        time => format!("{}.{:06}", time.as_secs(), time.subsec_micros()),
    }
}

/// Split at the first newline. Without one, the second half is empty.
fn halves(data: &[u8]) -> (&[u8], &[u8]) {
    match data.iter().position(|byte| *byte == b'\n') {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (data, &[]),
    }
}
