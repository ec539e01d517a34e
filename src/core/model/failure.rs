//! Why a unit failed, as its host reports it: systemd's result, how its process ended, and its last journal lines. Owns
//! the spelling of systemd's exit statuses and signals, and how much of a journal a report may hold.

use serde::{Deserialize, Serialize};

use super::text::{cut, escaped};

/// The most journal lines in a report.
pub const MAX_LINES: usize = 5;
/// The most bytes of journal lines in a report.
pub const MAX_BYTES: usize = 1024;
/// The most bytes of a command in a report.
const MAX_COMMAND: usize = 256;

/// Why a unit failed, or why systemd is about to start it again.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "testing", derive(schemars::JsonSchema))]
pub struct Failure {
    /// systemd's `Result`: `exit-code`, `signal`, `core-dump`, `timeout`, `oom-kill`, `start-limit-hit`, …
    pub result: String,
    /// How the command ended, in systemd's words: `exited 203/EXEC`, `killed 9/KILL`, `dumped 11/SEGV`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<String>,
    /// The program that ended so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// In how many ms after the failure systemd starts it again (`RestartSec=`), if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_ms: Option<u64>,
    /// The last lines of that invocation's journal, the oldest first: at most 5, and 1 KiB. Unprintable bytes are
    /// escaped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<String>,
}

impl Failure {
    /// In one sentence: `exit status 203/EXEC: /opt/api/bin/api (no such file or directory)`.
    #[must_use]
    pub fn sentence(&self) -> String {
        let ended = self.exit.as_deref().and_then(|exit| exit.split_once(' '));
        let mut text = match (self.result.as_str(), ended) {
            ("exit-code", Some((_, status))) => format!("exit status {status}"),
            ("signal", Some((_, signal))) => format!("killed by signal {signal}"),
            ("core-dump", Some((_, signal))) => format!("core dumped by signal {signal}"),
            (result, Some(("exited", status))) if !status.starts_with("0/") => {
                format!("{result}, exit status {status}")
            }
            (result, Some((_, signal))) if !signal.starts_with("0/") => format!("{result}, signal {signal}"),
            (result, _) => result.to_owned(),
        };
        if let Some(command) = &self.command {
            text.push_str(": ");
            text.push_str(command);
        }
        if let Some(why) = self.why_not_executed() {
            text.push_str(&format!(" ({why})"));
        }
        if let Some(ms) = self.retry_ms {
            let seconds = ms.div_ceil(1000);
            text.push_str(&format!("; systemd starts it again after {seconds} s"));
        }
        text
    }

    /// Why systemd could not execute the command, as its journal says.
    fn why_not_executed(&self) -> Option<String> {
        if self.exit.as_deref() != Some("exited 203/EXEC") {
            return None;
        }
        let says = |line: &&String| line.contains(": Failed to ") || line.contains("Unable to locate executable");
        let line = self.lines.iter().find(says)?;
        let (_, why) = line.rsplit_once(": ")?;
        Some(why.to_lowercase())
    }

    /// The same, within the bounds of a report and without control characters: the store may have other writers, and a
    /// journal holds whatever a program prints.
    #[must_use]
    pub fn bounded(self) -> Self {
        let short = |text: String, most| cut(&escaped(&text), most);
        let mut left = MAX_BYTES;
        let mut lines = Vec::new();
        for line in self.lines.iter().rev().take(MAX_LINES) {
            let line = cut(&escaped(line), left);
            if line.is_empty() {
                break;
            }
            left -= line.len();
            lines.push(line);
        }
        lines.reverse();
        Self {
            result: short(self.result, MAX_COMMAND),
            exit: self.exit.map(|exit| short(exit, MAX_COMMAND)),
            command: self.command.map(|command| short(command, MAX_COMMAND)),
            retry_ms: self.retry_ms,
            lines,
        }
    }
}

/// How a process ended, in systemd's words; `code` is `CLD_EXITED` (1), `CLD_KILLED` (2) or `CLD_DUMPED` (3), as in
/// `ExecMainCode`. `None` if it hasn't ended.
#[must_use]
pub fn exit(code: i32, status: i32) -> Option<String> {
    let verb = match code {
        1 => return Some(format!("exited {}", named(status, exit_status(status)))),
        2 => "killed",
        3 => "dumped",
        _ => return None,
    };
    Some(format!("{verb} {}", named(status, signal(status))))
}

fn named(number: i32, name: Option<&str>) -> String {
    name.map_or_else(|| number.to_string(), |name| format!("{number}/{name}"))
}

/// The name of an exit status: that of the C library, and those that systemd uses when it can't run the command
/// (`systemd.exec(5)`, "Process Exit Codes").
fn exit_status(status: i32) -> Option<&'static str> {
    const SYSTEMD: [&str; 45] = [
        "CHDIR",
        "NICE",
        "FDS",
        "EXEC",
        "MEMORY",
        "LIMITS",
        "OOM_ADJUST",
        "SIGNAL_MASK",
        "STDIN",
        "STDOUT",
        "CHROOT",
        "IOPRIO",
        "TIMERSLACK",
        "SECUREBITS",
        "SETSCHEDULER",
        "CPUAFFINITY",
        "GROUP",
        "USER",
        "CAPABILITIES",
        "CGROUP",
        "SETSID",
        "CONFIRM",
        "STDERR",
        "",
        "PAM",
        "NETWORK",
        "NAMESPACE",
        "NO_NEW_PRIVILEGES",
        "SECCOMP",
        "SELINUX_CONTEXT",
        "PERSONALITY",
        "APPARMOR_PROFILE",
        "ADDRESS_FAMILIES",
        "RUNTIME_DIRECTORY",
        "",
        "CHOWN",
        "SMACK_PROCESS_LABEL",
        "KEYRING",
        "STATE_DIRECTORY",
        "CACHE_DIRECTORY",
        "LOGS_DIRECTORY",
        "CONFIGURATION_DIRECTORY",
        "NUMA_POLICY",
        "CREDENTIALS",
        "BPF",
    ];
    match status {
        0 => Some("SUCCESS"),
        1 => Some("FAILURE"),
        2 => Some("INVALIDARGUMENT"),
        3 => Some("NOTIMPLEMENTED"),
        4 => Some("NOPERMISSION"),
        5 => Some("NOTINSTALLED"),
        6 => Some("NOTCONFIGURED"),
        7 => Some("NOTRUNNING"),
        _ => SYSTEMD.get(usize::try_from(status.checked_sub(200)?).ok()?).copied().filter(|name| !name.is_empty()),
    }
}

/// The name of a signal on Linux, without `SIG`.
fn signal(number: i32) -> Option<&'static str> {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM",
        "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF",
        "WINCH", "IO", "PWR", "SYS",
    ];
    NAMES.get(usize::try_from(number.checked_sub(1)?).ok()?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exits_are_named_as_systemd_names_them() {
        let cases = [
            (1, 0, Some("exited 0/SUCCESS")),
            (1, 1, Some("exited 1/FAILURE")),
            (1, 7, Some("exited 7/NOTRUNNING")),
            (1, 77, Some("exited 77")),
            (1, 200, Some("exited 200/CHDIR")),
            (1, 203, Some("exited 203/EXEC")),
            (1, 217, Some("exited 217/USER")),
            (1, 223, Some("exited 223")),
            (1, 233, Some("exited 233/RUNTIME_DIRECTORY")),
            (1, 243, Some("exited 243/CREDENTIALS")),
            (1, 255, Some("exited 255")),
            (2, 9, Some("killed 9/KILL")),
            (2, 64, Some("killed 64")),
            (3, 11, Some("dumped 11/SEGV")),
            (0, 0, None),
        ];
        for (code, status, expected) in cases {
            assert_eq!(exit(code, status).as_deref(), expected, "{code} {status}");
        }
    }

    fn failure(result: &str, exit: Option<&str>, command: Option<&str>, lines: &[&str]) -> Failure {
        let lines = lines.iter().map(ToString::to_string).collect();
        let (result, exit, command) = (result.into(), exit.map(Into::into), command.map(Into::into));
        Failure { result, exit, command, lines, retry_ms: None }
    }

    #[test]
    fn a_failure_is_one_sentence() {
        let absent = "Nov 21 10:02:11 n2 (api)[7]: api.service: Failed to locate executable /opt/api: No such file or \
            directory";
        let cases = [
            (failure("exit-code", Some("exited 7/NOTRUNNING"), None, &[]), "exit status 7/NOTRUNNING"),
            (failure("exit-code", Some("exited 203/EXEC"), Some("/opt/api"), &[]), "exit status 203/EXEC: /opt/api"),
            (
                failure("exit-code", Some("exited 203/EXEC"), Some("/opt/api"), &["x: y", absent, "api: Main: z"]),
                "exit status 203/EXEC: /opt/api (no such file or directory)",
            ),
            (failure("exit-code", Some("exited 1/FAILURE"), Some("/a"), &[absent]), "exit status 1/FAILURE: /a"),
            (failure("signal", Some("killed 9/KILL"), Some("/a"), &[]), "killed by signal 9/KILL: /a"),
            (failure("core-dump", Some("dumped 11/SEGV"), None, &[]), "core dumped by signal 11/SEGV"),
            (failure("timeout", Some("killed 15/TERM"), None, &[]), "timeout, signal 15/TERM"),
            (failure("oom-kill", None, None, &[]), "oom-kill"),
            (failure("start-limit-hit", Some("exited 1/FAILURE"), None, &[]), "start-limit-hit, exit status 1/FAILURE"),
            (failure("protocol", Some("exited 0/SUCCESS"), None, &[]), "protocol"),
        ];
        for (failure, expected) in cases {
            assert_eq!(failure.sentence(), expected);
        }
        let again = Failure { retry_ms: Some(59_500), ..failure("signal", Some("killed 9/KILL"), None, &[]) };
        assert_eq!(again.sentence(), "killed by signal 9/KILL; systemd starts it again after 60 s");
    }

    #[test]
    fn a_report_holds_the_last_lines_only_and_nothing_that_speaks_to_a_terminal() {
        let numbered: Vec<String> = (0..9).map(|number| format!("line {number}")).collect();
        let lines = |lines: Vec<String>| Failure { lines, ..Failure::default() }.bounded().lines;
        assert_eq!(lines(numbered), ["line 4", "line 5", "line 6", "line 7", "line 8"]);
        assert_eq!(lines(vec!["a\u{1b}[2J\tb\r".into()]), ["a\\x1b[2J b\\x0d"]);
        let long = lines(vec!["ü".repeat(400), "é".repeat(300), "x".repeat(200)]);
        assert_eq!(long[2].len(), 200);
        assert!(long.iter().map(String::len).sum::<usize>() <= MAX_BYTES && long[0].ends_with('…'), "{long:?}");
        let again = Failure { lines: long.clone(), ..Failure::default() }.bounded();
        assert_eq!(again.lines, long, "bounds are met");
        let command = failure("exit-code", None, Some(&"c".repeat(999)), &[]).bounded().command.unwrap();
        assert!(command.len() <= MAX_COMMAND, "{command}");
    }
}
