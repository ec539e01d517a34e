//! The last journal lines of a unit, for commands that report its failure. Best effort: lines that can't be read at
//! once, or only with a passphrase, are left out.

use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

use crate::api::wire::MachineRef;
use crate::model::name::UnitName;
use crate::remote::Hosts;

/// How long an error message waits for these lines.
const TAIL_TIMEOUT: Duration = Duration::from_secs(2);

/// Which lines.
#[derive(Debug, Clone, Copy)]
pub struct Tail<'a> {
    /// The unit that they are of, or of systemd about it.
    pub unit: &'a UnitName,
    /// The host that has them.
    pub machine: &'a MachineRef,
    /// None before this time, in ms since the epoch.
    pub since: u64,
    /// None after it.
    pub until: Option<u64>,
    /// The last ones, so many.
    pub count: usize,
}

impl Tail<'_> {
    fn argv(&self) -> Vec<String> {
        let seconds = |ms: u64| format!("{}.{:03}", ms / 1000, ms % 1000);
        let mut argv: Vec<String> =
            ["journalctl", "--quiet", "--no-pager", "--output=short"].map(ToString::to_string).into();
        argv.extend([format!("--unit={}", self.unit), format!("--lines={}", self.count)]);
        argv.push(format!("--since=@{}", seconds(self.since)));
        argv.extend(self.until.map(|until| format!("--until=@{}", seconds(until))));
        // With --since alone, journalctl before systemd 254 selects the first lines with --lines.
        argv.push("--reverse".into());
        argv
    }
}

/// These lines, in journalctl's format. Empty if they can't be read within two seconds.
pub async fn journal_tail(hosts: &Hosts, tail: &Tail<'_>) -> Vec<String> {
    let text = timeout(TAIL_TIMEOUT, read(hosts, tail.machine, &tail.argv())).await.ok().flatten();
    text.map(|text| oldest_first(&text)).unwrap_or_default()
}

/// Reverse entries that are sorted newest first. Continuation lines are indented and stay with their entry.
fn oldest_first(text: &str) -> Vec<String> {
    let mut entries: Vec<Vec<String>> = Vec::new();
    for line in text.lines() {
        match entries.last_mut() {
            Some(entry) if line.starts_with(' ') => entry.push(line.to_owned()),
            _ => entries.push(vec![line.to_owned()]),
        }
    }
    entries.into_iter().rev().flatten().collect()
}

async fn read(hosts: &Hosts, machine: &MachineRef, argv: &[String]) -> Option<String> {
    let mut running = hosts.run_quietly(machine, argv).await.ok()?;
    let mut text = Vec::new();
    running.stdout.read_to_end(&mut text).await.ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_turned_round_and_their_lines_are_not() {
        let newest_first = "Nov 21 14:28:02 n1 sh[9]: third\n\
            Nov 21 14:28:01 n1 sh[9]: second\n                          and more\n\
            Nov 21 14:28:00 n1 sh[9]: first\n";
        let lines = oldest_first(newest_first);
        let ends: Vec<&str> = lines.iter().filter_map(|line| line.split_whitespace().last()).collect();
        assert_eq!(ends, ["first", "second", "more", "third"]);
        assert!(oldest_first("").is_empty());
    }
}
