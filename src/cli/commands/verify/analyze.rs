//! `systemd-analyze verify` about unit files, where there is one. Owns how it is run, for a bounded time, and how its
//! lines are read. Its exit status isn't used: it depends on systemd's version.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use super::Candidate;
use crate::cli::input::check::Remark;
use crate::cli::input::finding::{Finding, Severity, Source};
use crate::model::name::UnitName;

/// For all files together; it takes some milliseconds for each.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A file as systemd names it.
struct Named {
    label: String,
    path: PathBuf,
    name: UnitName,
}

/// What systemd says of `candidates`.
///
/// # Errors
/// Why it can't be asked, for people.
pub(super) async fn ask(candidates: &[Candidate]) -> Result<Vec<Finding>, String> {
    if candidates.is_empty() {
        return Ok(Vec::new());
    }
    let named = |candidate: &Candidate| {
        let path = std::path::absolute(&candidate.path).unwrap_or_else(|_| candidate.path.clone());
        Named { label: candidate.label.clone(), path, name: candidate.name.clone() }
    };
    let files: Vec<Named> = candidates.iter().map(named).collect();
    let mut command = Command::new("systemd-analyze");
    command.args(["verify", "--man=no", "--"]).args(files.iter().map(|file| &file.path));
    // Its messages go to stderr, without colours, times and places in its source, whoever has set what for other uses.
    command.envs([("SYSTEMD_LOG_TARGET", "console"), ("SYSTEMD_LOG_LEVEL", "info"), ("SYSTEMD_LOG_COLOR", "0")]);
    command.envs([("SYSTEMD_LOG_TIME", "0"), ("SYSTEMD_LOG_LOCATION", "0"), ("LC_ALL", "C")]);
    let output = timeout(TIMEOUT, command.stdin(Stdio::null()).kill_on_drop(true).output()).await;
    let output = output.map_err(|_| format!("systemd-analyze took longer than {} s", TIMEOUT.as_secs()))?;
    let output = output.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => "there is no systemd-analyze here".to_owned(),
        _ => format!("systemd-analyze can't be run: {error}"),
    })?;
    Ok(read(&String::from_utf8_lossy(&output.stderr), &files))
}

/// The findings about `files` in what it printed. It also reports on the units that these name; they are not asked
/// about.
fn read(printed: &str, files: &[Named]) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    for line in printed.lines() {
        let Some((file, line, message)) = files.iter().find_map(|file| about(line, file)) else { continue };
        let refused = message.ends_with(REFUSED);
        if refused && findings.iter().any(|finding| finding.file == file.label) {
            continue; // the reason has been printed
        }
        let remark = Remark { line, what: message.trim_end_matches('.').to_owned() };
        findings.push(Finding::new(&file.label, severity(message), Source::Systemd, remark));
    }
    findings
}

/// How it ends its reports about a unit that can't be loaded.
const REFUSED: &str = "has a bad unit file setting.";

/// A line about `file`: the number of the line in it, and the message.
fn about<'a, 'b>(printed: &'a str, file: &'b Named) -> Option<(&'b Named, Option<usize>, &'a str)> {
    if let Some(rest) = printed.strip_prefix(&*file.path.to_string_lossy()).and_then(|rest| rest.strip_prefix(':')) {
        let (number, message) = rest.split_once(':')?;
        return Some((file, number.parse().ok(), message.trim_start()));
    }
    if printed.ends_with(REFUSED) {
        let name = printed.strip_prefix("Unit ")?.split(' ').next()?;
        return is_of(name, &file.name).then_some((file, None, printed));
    }
    let (name, message) = printed.split_once(": ")?;
    is_of(name, &file.name).then_some((file, None, message))
}

/// Whether `name` is the unit of the file, or the instance that systemd makes of a template to check it.
fn is_of(name: &str, file: &UnitName) -> bool {
    name.parse::<UnitName>().is_ok_and(|name| name == *file || name.template().as_ref() == Some(file))
}

/// What it ignores or refuses is an error. What it misses may be there on the hosts.
fn severity(message: &str) -> Severity {
    let message = message.to_ascii_lowercase();
    let wrong = ["ignoring", "refusing", REFUSED].iter().any(|word| message.contains(word));
    if wrong { Severity::Error } else { Severity::Warning }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(path: &str) -> Named {
        let name = path.rsplit('/').next().unwrap();
        Named { label: name.into(), path: path.into(), name: name.parse().unwrap() }
    }

    /// As systemd 252 prints it.
    #[test]
    fn its_lines_are_attributed_to_the_files() {
        let printed = "\
/w/typo.service:6: Unknown key 'ExecStrat' in section [Service], ignoring.
/w/web@.service:3: Failed to parse service type, ignoring: bogus
/lib/systemd/system/other.service:3: Unknown section 'X'. Ignoring.
none.service: Service has no ExecStart=, ExecStop=, or SuccessAction=. Refusing.
Unit none.service has a bad unit file setting.
Unit typo.service has a bad unit file setting.
Unit odd.service has a bad unit file setting.
typo.service: Command /opt/x is not executable: No such file or directory
web@test-instance.service: Failed to create web@test-instance.service/start: Unit db.service not found.
other.service: Command /y is not executable: No such file or directory
";
        let files = ["/w/typo.service", "/w/web@.service", "/w/none.service", "/w/odd.service"].map(named);
        let found: Vec<String> = read(printed, &files).iter().map(Finding::text).collect();
        assert_eq!(
            found,
            [
                "typo.service:6: Unknown key 'ExecStrat' in section [Service], ignoring (systemd)",
                "web@.service:3: Failed to parse service type, ignoring: bogus (systemd)",
                "none.service: Service has no ExecStart=, ExecStop=, or SuccessAction=. Refusing (systemd)",
                "odd.service: Unit odd.service has a bad unit file setting (systemd)",
                "typo.service: warning: Command /opt/x is not executable: No such file or directory (systemd)",
                "web@.service: warning: Failed to create web@test-instance.service/start: Unit db.service not found \
                 (systemd)",
            ]
        );
    }
}
