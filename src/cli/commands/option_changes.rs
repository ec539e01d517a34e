//! Which options of a unit file's `[X-...]` sections differ from those of another, in a line each: systemd skips these
//! sections, so that `diff -u` alone doesn't say what they do. Pure.

use std::fmt;

use serde::Serialize;

use crate::model::body::{BodyHash, SKIPPED};
use crate::model::disconnect::ends_with_lease;
use crate::model::file::UnitFile;
use crate::model::placement;

/// An option whose values differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct OptionChange {
    /// Its section, without brackets.
    section: String,
    /// Its name.
    option: String,
    /// The values in the one file; none if it isn't there.
    before: Vec<String>,
    /// The values in the other.
    after: Vec<String>,
    /// What the change means for a unit that runs.
    restarts: Restarts,
}

/// Which units that run are restarted by the change of an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Restarts {
    /// None.
    None,
    /// Those that no longer fit their host.
    Unfit,
    /// All: systemd has something of it.
    All,
}

/// The options that differ, in the order in which the files have them.
pub(super) fn between(old: &UnitFile, new: &UnitFile) -> Vec<OptionChange> {
    let mut names: Vec<(&str, &str)> = Vec::new();
    for option in new.options().iter().chain(old.options()) {
        let name = (option.section.as_str(), option.name.as_str());
        if name.0.starts_with(SKIPPED) && !names.contains(&name) {
            names.push(name);
        }
    }
    let change = |name: (&str, &str)| OptionChange {
        section: name.0.into(),
        option: name.1.into(),
        before: values(old, name),
        after: values(new, name),
        restarts: restarts(name, old, new),
    };
    names.into_iter().map(change).filter(|change| change.before != change.after).collect()
}

/// The values of an option, in order.
fn values(file: &UnitFile, (section, option): (&str, &str)) -> Vec<String> {
    file.section(section).filter(|one| one.name == option).map(|one| one.value.clone()).collect()
}

fn restarts((section, option): (&str, &str), old: &UnitFile, new: &UnitFile) -> Restarts {
    let ends_differently = ends_with_lease(old) != ends_with_lease(new);
    match (section, option) {
        (placement::SECTION, "OnDisconnect") if ends_differently => Restarts::All,
        (placement::SECTION, "OnDisconnect" | "Replicas") => Restarts::None,
        (placement::SECTION, option) if placement::preference::OPTIONS.contains(&option) => Restarts::None,
        (placement::SECTION, _) => Restarts::Unfit,
        _ => Restarts::None,
    }
}

/// `[X-Rollout] Parallel: 1 -> 2 (restarts nothing)`.
impl fmt::Display for OptionChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values = |values: &[String]| if values.is_empty() { "not set".to_owned() } else { values.join(", ") };
        let restarts = match self.restarts {
            Restarts::None => "restarts nothing",
            Restarts::Unfit => "restarts nothing where it still fits",
            Restarts::All => "restarts it",
        };
        let Self { section, option, before, after, .. } = self;
        write!(f, "[{section}] {option}: {} -> {} ({restarts})", values(before), values(after))
    }
}

/// What systemd would do for units that run when their file becomes another one, as the end of a sentence.
pub(super) fn for_systemd(old: &UnitFile, new: &UnitFile) -> &'static str {
    if old.hash() == new.hash() {
        "only comments or white space differ, restarts nothing"
    } else if BodyHash::of(old) == BodyHash::of(new) {
        "restarts nothing where it still fits, because only [X-...] sections differ"
    } else {
        "restarts what runs"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> UnitFile {
        UnitFile::parse(format!("[Service]\nExecStart=/bin/a\n{text}").as_bytes()).unwrap()
    }

    #[test]
    fn each_option_of_a_section_that_systemd_skips_has_a_line() {
        let cases: [(&str, &str, &[&str]); 7] = [
            (
                "[X-Rollout]\nParallel=1\n",
                "[X-Rollout]\nParallel=2\n",
                &["[X-Rollout] Parallel: 1 -> 2 (restarts nothing)"],
            ),
            (
                "[X-Fleet]\nMachineMetadata=disk=hdd\n",
                "[X-Fleet]\nMachineMetadata=disk=ssd\nMachineMetadata=zone=a\n",
                &["[X-Fleet] MachineMetadata: disk=hdd -> disk=ssd, zone=a (restarts nothing where it still fits)"],
            ),
            (
                "[X-Fleet]\nReplicas=3\n",
                "[X-Health]\nReady=tcp:80\n",
                &[
                    "[X-Health] Ready: not set -> tcp:80 (restarts nothing)",
                    "[X-Fleet] Replicas: 3 -> not set (restarts nothing)",
                ],
            ),
            // systemd has a drop-in for it.
            ("", "[X-Fleet]\nOnDisconnect=stop\n", &["[X-Fleet] OnDisconnect: not set -> stop (restarts it)"]),
            ("[X-Fleet]\nOnDisconnect=keep\n", "", &["[X-Fleet] OnDisconnect: keep -> not set (restarts nothing)"]),
            // The others are in the difference of the texts.
            ("Environment=A=1\n", "Environment=A=2\n", &[]),
            ("[X-Fleet]\nGlobal=true\n", "# why\n[X-Fleet]\nGlobal=true\n", &[]),
        ];
        for (before, after, expected) in cases {
            let lines: Vec<String> = between(&file(before), &file(after)).iter().map(ToString::to_string).collect();
            assert_eq!(lines, expected, "{before} {after}");
        }
    }

    #[test]
    fn what_systemd_would_do_follows_from_the_bodies() {
        for (after, expected) in [
            ("# why\n", "only comments or white space differ, restarts nothing"),
            ("[X-Rollout]\nParallel=2\n", "restarts nothing where it still fits, because only [X-...] sections differ"),
            ("Environment=A=1\n", "restarts what runs"),
            ("[X-Fleet]\nOnDisconnect=stop\n", "restarts what runs"),
        ] {
            assert_eq!(for_systemd(&file(""), &file(after)), expected, "{after}");
        }
    }
}
