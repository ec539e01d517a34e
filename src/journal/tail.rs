//! The last words of a unit, for commands that have to say that it failed. Best effort: what can't be had at once, and
//! without asking anybody for a passphrase, isn't had.

use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

use crate::api::wire::{MachineRef, StateView};
use crate::remote::Hosts;

/// How long somebody who waits for an error message waits for more of it.
const TAIL_TIMEOUT: Duration = Duration::from_secs(2);
/// What a unit said longer before it came to this state has little to do with it, ms.
const BEFORE_MS: u64 = 60_000;

/// The last `count` lines that `unit` said, or systemd of it, before it came to `state` on the host of that state; in
/// journalctl's own form. Nothing if they can't be had within two seconds.
pub async fn journal_tail(hosts: &Hosts, unit: &str, state: &StateView, count: usize) -> Vec<String> {
    let mut argv: Vec<String> =
        ["journalctl", "--quiet", "--no-pager", "--output=short"].map(ToString::to_string).into();
    argv.extend([format!("--unit={unit}"), format!("--lines={count}")]);
    argv.push(format!("--since=@{}", state.since.saturating_sub(BEFORE_MS) / 1000));
    // With --since alone, journalctl before systemd 254 takes --lines for the first so many.
    argv.push("--reverse".into());
    let text = timeout(TAIL_TIMEOUT, read(hosts, &state.machine, &argv)).await.ok().flatten();
    text.map(|text| oldest_first(&text)).unwrap_or_default()
}

/// The lines of entries that came newest first. The further lines of an entry are indented, and stay with it.
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
