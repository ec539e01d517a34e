//! A probe that is a command: what is run for which unit, and how it ended. Owns the name of the unit of systemd in
//! which it runs. Knows nothing about when a probe is due, or what its end means for the probed unit.

use std::time::Duration;

use super::failure::exit;
use super::file::sha1;
use super::name::UnitName;

/// What the names of the units begin with in which probes run. No unit of the cluster may have such a name.
pub const PREFIX: &str = "fleet-probe-";

/// The most bytes of the probed unit's name in that of its probe.
const MAX_STEM: usize = 200;

/// A command to be run as the unit that it probes: with the same user, environment and sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecProbe {
    /// The probed unit, a service.
    pub unit: UnitName,
    /// The absolute path of the program, and its arguments. systemd replaces variables in the arguments (`${PORT}`),
    /// as in `ExecStart=`, but no specifiers.
    pub command: Vec<String>,
    /// After this time, all its processes are killed. Microseconds count, and zero isn't allowed.
    pub timeout: Duration,
}

/// How a run of a probe ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeEnd {
    /// The command exited with status 0.
    Passed,
    /// It exited with another status, or was killed by a signal; in systemd's words, such as `exited 1/FAILURE`.
    Failed(String),
    /// It took longer than its timeout, and was killed for that.
    TimedOut,
    /// It couldn't be run, for this reason; this says nothing about the probed unit.
    NotRun(String),
}

impl ExecProbe {
    /// The unit of systemd in which it runs: `fleet-probe-web-1-2fd4e1c6.service`. Two probes have the same one only if
    /// they have the same command and probe the same unit.
    #[must_use]
    pub fn runs_in(&self) -> String {
        let mut parts = vec![self.unit.as_str().as_bytes()];
        for argument in &self.command {
            parts.extend([b"\0".as_slice(), argument.as_bytes()]);
        }
        let [a, b, c, d, ..] = sha1(&parts);
        let stem: String = self.unit.stem().chars().take(MAX_STEM).map(|c| if c == '@' { '-' } else { c }).collect();
        format!("{PREFIX}{stem}-{:08x}.service", u32::from_be_bytes([a, b, c, d]))
    }
}

impl ProbeEnd {
    /// How a run ended for which systemd has the `Result` `result`, and whose process ended with `code` and `status`
    /// (`ExecMainCode`, `ExecMainStatus`; 0 if there was none, and then `result` isn't `success`).
    #[must_use]
    pub fn of(result: &str, code: i32, status: i32) -> Self {
        let ended = exit(code, status);
        match (result, ended) {
            ("timeout", _) => Self::TimedOut,
            ("success", Some(_)) if (code, status) == (1, 0) => Self::Passed,
            // systemd's own statuses for what failed before the program began to run.
            (_, Some(ended)) if code == 1 && status >= 200 && ended.contains('/') => Self::NotRun(ended),
            (_, Some(ended)) if (code, status) != (1, 0) => Self::Failed(ended),
            (result, _) => Self::NotRun(format!("systemd says: {result}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(unit: &str, command: &[&str]) -> ExecProbe {
        let command = command.iter().map(ToString::to_string).collect();
        ExecProbe { unit: unit.parse().unwrap(), command, timeout: Duration::from_secs(1) }
    }

    #[test]
    fn each_probe_of_each_unit_has_a_unit_of_its_own() {
        let one = probe("web@1.service", &["/bin/alive", "-v"]).runs_in();
        assert!(one.starts_with("fleet-probe-web-1-") && one.ends_with(".service"), "{one}");
        assert_eq!(one, probe("web@1.service", &["/bin/alive", "-v"]).runs_in());
        let others = [
            probe("web-1.service", &["/bin/alive", "-v"]),
            probe("web@1.service", &["/bin/alive"]),
            probe("web@1.service", &["/bin/alive", "-", "v"]),
            probe("web@1.service", &["/bin/alive-v"]),
        ];
        for other in others {
            assert_ne!(other.runs_in(), one, "{other:?}");
        }
        let long: UnitName = format!("{}.service", "x".repeat(247)).parse().unwrap();
        let name: UnitName = ExecProbe { unit: long, ..probe("a.service", &["/x"]) }.runs_in().parse().unwrap();
        assert!(name.as_str().len() < 255 && name.instance().is_none(), "{name}");
    }

    #[test]
    fn an_end_is_a_pass_a_failure_or_says_nothing() {
        let failed = |words: &str| ProbeEnd::Failed(words.into());
        let not_run = |words: &str| ProbeEnd::NotRun(words.into());
        let cases = [
            ("success", 1, 0, ProbeEnd::Passed),
            ("success", 1, 1, failed("exited 1/FAILURE")),
            ("exit-code", 1, 1, failed("exited 1/FAILURE")),
            ("success", 1, 199, failed("exited 199")),
            ("success", 1, 203, not_run("exited 203/EXEC")),
            ("success", 1, 217, not_run("exited 217/USER")),
            ("success", 1, 223, failed("exited 223")),
            ("success", 1, 255, failed("exited 255")),
            ("success", 2, 15, failed("killed 15/TERM")),
            ("oom-kill", 2, 9, failed("killed 9/KILL")),
            ("core-dump", 3, 11, failed("dumped 11/SEGV")),
            ("timeout", 2, 9, ProbeEnd::TimedOut),
            ("timeout", 0, 0, ProbeEnd::TimedOut),
            ("resources", 0, 0, not_run("systemd says: resources")),
            ("protocol", 1, 0, not_run("systemd says: protocol")),
        ];
        for (result, code, status, expected) in cases {
            assert_eq!(ProbeEnd::of(result, code, status), expected, "{result} {code} {status}");
        }
    }
}
