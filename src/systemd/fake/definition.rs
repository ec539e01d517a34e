//! The meaning of a unit file for the host in memory: its dependencies, its ordering, and how its process behaves. Owns
//! text → [`Definition`]. It must never know a unit's state.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Behaviour, Outcome};
use crate::model::disconnect::stops_on_disconnect;
use crate::model::file::{FileError, UnitFile};
use crate::model::name::UnitName;
use crate::model::span;

/// The values of `LoadState` that a file can cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Load {
    Loaded,
    NotFound,
    BadSetting,
    Error,
}

impl Load {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Loaded => "loaded",
            Self::NotFound => "not-found",
            Self::BadSetting => "bad-setting",
            Self::Error => "error",
        }
    }
}

/// How the main process of a service ended that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It exited with status 1.
    Exited,
    /// It was killed by SIGABRT.
    Aborted,
    /// It was killed by SIGKILL.
    Killed,
}

impl End {
    /// `Result`.
    pub(super) fn result(self) -> &'static str {
        match self {
            Self::Exited => "exit-code",
            Self::Aborted | Self::Killed => "signal",
        }
    }

    /// In systemd's words.
    pub(super) fn exit(self) -> &'static str {
        match self {
            Self::Exited => "exited 1/FAILURE",
            Self::Aborted => "killed 6/ABRT",
            Self::Killed => "killed 9/KILL",
        }
    }
}

/// After which ends systemd starts a service again (`Restart=`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Restart {
    /// After each of them.
    OnFailure,
    /// Not after an exit status.
    OnAbnormal,
}

/// A parsed unit file.
#[derive(Debug, Clone, Default)]
pub(super) struct Definition {
    pub(super) text: String,
    pub(super) requires: BTreeSet<UnitName>,
    pub(super) binds_to: BTreeSet<UnitName>,
    pub(super) wants: BTreeSet<UnitName>,
    pub(super) part_of: BTreeSet<UnitName>,
    pub(super) conflicts: BTreeSet<UnitName>,
    pub(super) after: BTreeSet<UnitName>,
    pub(super) before: BTreeSet<UnitName>,
    /// The program of `ExecStart=`.
    pub(super) command: Option<String>,
    pub(super) oneshot: bool,
    pub(super) remain: bool,
    /// `Restart=`, if it is set, and the delay before the next start.
    pub(super) restart: Option<(Restart, Duration)>,
    /// `StartLimitBurst=`, if it is set, and in which time; this host has no limit of its own.
    pub(super) start_limit: Option<(u32, Duration)>,
    /// Whether its process ignores the watchdog's signal, and how long systemd waits for such a process.
    pub(super) deaf: bool,
    pub(super) abort_timeout: Duration,
    pub(super) start: Option<Duration>,
    pub(super) stop: Option<Duration>,
    pub(super) outcome: Option<Outcome>,
    /// Whether it ends with the host's lease.
    pub(super) ends_with_lease: bool,
}

impl Definition {
    /// Parse a file as systemd would, or return how loading it fails.
    pub(super) fn parse(name: &UnitName, text: &str) -> Result<Self, Load> {
        let file = UnitFile::parse(text.as_bytes()).map_err(|error| match error {
            FileError::Header(..) | FileError::Binary(..) | FileError::TooLong(_) => Load::Error,
            FileError::Empty => Load::BadSetting,
        })?;
        let names = |option: &str| -> BTreeSet<UnitName> {
            let values = file.section("Unit").filter(|o| o.name == option);
            values
                .flat_map(|o| o.value.split_ascii_whitespace())
                .filter_map(|value| specifiers(name, value).parse().ok())
                .collect()
        };
        let kind = file.value("Service", "Type");
        let has = |option| file.value("Service", option).is_some_and(|value| !value.is_empty());
        if name.kind() == "service" && !has("ExecStart") && !has("ExecStop") && !has("SuccessAction") {
            return Err(Load::BadSetting);
        }
        let seconds =
            |section, option| file.value(section, option).and_then(span::parse).filter(|time| *time < Duration::MAX);
        Ok(Self {
            requires: names("Requires"),
            binds_to: names("BindsTo"),
            wants: names("Wants"),
            part_of: names("PartOf"),
            conflicts: names("Conflicts"),
            after: names("After"),
            before: names("Before"),
            command: file
                .value("Service", "ExecStart")
                .and_then(|command| command.split_ascii_whitespace().next())
                .map(Into::into),
            oneshot: kind == Some("oneshot"),
            remain: matches!(file.value("Service", "RemainAfterExit"), Some("yes" | "true" | "1" | "on")),
            restart: match file.value("Service", "Restart") {
                Some("always" | "on-failure") => Some(Restart::OnFailure),
                Some("on-abnormal" | "on-abort") => Some(Restart::OnAbnormal),
                _ => None,
            }
            .map(|restart| (restart, seconds("Service", "RestartSec").unwrap_or(Duration::from_millis(100)))),
            start_limit: start_limit(&file),
            deaf: matches!(file.value("X-Fake", "Deaf"), Some("yes")),
            abort_timeout: ["TimeoutAbortSec", "TimeoutStopSec"]
                .iter()
                .find_map(|option| seconds("Service", option))
                .unwrap_or(Duration::from_secs(90)),
            start: seconds("X-Fake", "StartSec"),
            stop: seconds("X-Fake", "StopSec"),
            outcome: match file.value("X-Fake", "Outcome") {
                Some("succeed") => Some(Outcome::Succeed),
                Some("fail") => Some(Outcome::Fail),
                Some("hang") => Some(Outcome::Hang),
                Some("die") => Some(Outcome::Die(seconds("X-Fake", "LiveSec").unwrap_or_default())),
                _ => None,
            },
            ends_with_lease: stops_on_disconnect(text),
            text: text.into(),
        })
    }

    /// How long after its main process has ended so systemd starts the service again, if it does.
    pub(super) fn restarts_after(&self, end: End) -> Option<Duration> {
        let (restart, delay) = self.restart?;
        (restart == Restart::OnFailure || end != End::Exited).then_some(delay)
    }

    /// Every unit that this one refers to; systemd keeps them loaded as long as this one.
    pub(super) fn references(&self) -> impl Iterator<Item = &UnitName> {
        let sets =
            [&self.requires, &self.binds_to, &self.wants, &self.part_of, &self.conflicts, &self.after, &self.before];
        sets.into_iter().flatten()
    }

    /// Whether this unit can't start without `other`.
    pub(super) fn needs(&self, other: &UnitName) -> bool {
        self.requires.contains(other) || self.binds_to.contains(other)
    }

    /// The behaviour: settings of the file take precedence over the policy.
    pub(super) fn behaviour(&self, policy: Behaviour) -> Behaviour {
        Behaviour {
            start: self.start.unwrap_or(policy.start),
            stop: self.stop.unwrap_or(policy.stop),
            outcome: self.outcome.unwrap_or(policy.outcome),
        }
    }
}

/// How many starts there may be in which time, if the file says how many.
fn start_limit(file: &UnitFile) -> Option<(u32, Duration)> {
    let burst = file.value("Unit", "StartLimitBurst")?.parse().ok()?;
    let interval = file.value("Unit", "StartLimitIntervalSec").and_then(span::parse);
    Some((burst, interval.unwrap_or(Duration::from_secs(10))))
}

/// The units to which an `[Install]` section links this one, and whether they require it; `Err` with systemd's message.
pub(super) fn install_targets(name: &UnitName, text: &str) -> Result<Vec<(UnitName, bool)>, String> {
    let Ok(file) = UnitFile::parse(text.as_bytes()) else {
        return Err(format!("Failed to enable unit: \"{name}\" can't be parsed"));
    };
    let mut targets = Vec::new();
    for option in file.section("Install") {
        let requires = match option.name.as_str() {
            "WantedBy" => false,
            "RequiredBy" => true,
            _ => continue,
        };
        for value in option.value.split_ascii_whitespace() {
            let target = specifiers(name, value);
            let target = target.parse().map_err(|_| format!("\"{target}\" is not a valid unit name."))?;
            targets.push((target, requires));
        }
    }
    Ok(targets)
}

fn specifiers(name: &UnitName, value: &str) -> String {
    if !value.contains('%') {
        return value.into();
    }
    let mut out = String::new();
    let mut rest = value.chars();
    while let Some(c) = rest.next() {
        match (c, if c == '%' { rest.next() } else { None }) {
            ('%', Some('n')) => out.push_str(name.as_str()),
            ('%', Some('N')) => out.push_str(name.stem()),
            ('%', Some('p')) => out.push_str(name.prefix()),
            ('%', Some('i' | 'I')) => out.push_str(name.instance().unwrap_or_default()),
            ('%', Some('%') | None) => out.push('%'),
            ('%', Some(other)) => out.extend(['%', other]),
            (plain, _) => out.push(plain),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> UnitName {
        name.parse().unwrap()
    }

    #[test]
    fn dependencies_and_specifiers_are_read() {
        let text = "[Unit]\nRequires=db@%i.service net.target\nAfter=%p-pull.service\n[Service]\nExecStart=/bin/x\n\
            [X-Fake]\nStopSec=250ms\nOutcome=fail\n";
        let found = Definition::parse(&name("web@7.service"), text).unwrap();
        assert_eq!(found.requires, [name("db@7.service"), name("net.target")].into());
        assert_eq!(found.after, [name("web-pull.service")].into());
        let behaviour = found.behaviour(Behaviour::default());
        assert_eq!((behaviour.stop, behaviour.outcome), (Duration::from_millis(250), Outcome::Fail));
    }

    #[test]
    fn systemd_starts_again_after_the_ends_that_the_unit_names() {
        let cases = [
            ("no", [false, false, false]),
            ("on-success", [false, false, false]),
            ("on-watchdog", [false, false, false]),
            ("on-abnormal", [false, true, true]),
            ("on-abort", [false, true, true]),
            ("on-failure", [true, true, true]),
            ("always", [true, true, true]),
        ];
        for (restart, expected) in cases {
            let text = format!("[Service]\nExecStart=/bin/x\nRestart={restart}\n");
            let found = Definition::parse(&name("a.service"), &text).unwrap();
            let again = [End::Exited, End::Aborted, End::Killed].map(|end| found.restarts_after(end).is_some());
            assert_eq!(again, expected, "{restart}");
        }
    }

    #[test]
    fn files_that_systemd_refuses_say_how() {
        assert_eq!(Definition::parse(&name("a.service"), "[Service]\nType=oneshot\n").unwrap_err(), Load::BadSetting);
        assert_eq!(Definition::parse(&name("a.service"), "[Service\nExecStart=/x\n").unwrap_err(), Load::Error);
        assert!(install_targets(&name("a.service"), "[Install]\nWantedBy=nonsense\n").is_err());
    }
}
