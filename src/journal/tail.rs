//! The last journal lines of a unit, for commands that report its failure. Best effort: lines that can't be read at
//! once, or only with a passphrase, are left out.

use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

use crate::api::wire::{MachineRef, StateView};
use crate::remote::Hosts;

/// How long an error message waits for these lines.
const TAIL_TIMEOUT: Duration = Duration::from_secs(2);
/// Lines that are older than its state by more than this are unrelated, in ms.
const BEFORE_MS: u64 = 60_000;

/// The last `count` lines of `unit`, or of systemd about it, before it came to `state` on that state's host, in
/// journalctl's format. Empty if they can't be read within two seconds.
pub async fn journal_tail(hosts: &Hosts, unit: &str, state: &StateView, count: usize) -> Vec<String> {
    let mut argv: Vec<String> =
        ["journalctl", "--quiet", "--no-pager", "--output=short"].map(ToString::to_string).into();
    argv.extend([format!("--unit={unit}"), format!("--lines={count}")]);
    argv.push(format!("--since=@{}", state.since.saturating_sub(BEFORE_MS) / 1000));
    // With --since alone, journalctl before systemd 254 selects the first lines with --lines.
    argv.push("--reverse".into());
    let text = timeout(TAIL_TIMEOUT, read(hosts, &state.machine, &argv)).await.ok().flatten();
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
