//! The last words of a unit, for commands that have to say that it failed. Best effort: what can't be had at once, and without
//! asking anybody for a passphrase, isn't had.

use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

use crate::api::wire::{MachineRef, StateView};
use crate::cli::session::Session;

/// How long somebody who waits for an error message waits for more of it.
const PATIENCE: Duration = Duration::from_secs(2);
/// What a unit said longer before it came to this state has little to do with it, ms.
const BEFORE_MS: u64 = 60_000;

/// The last `count` lines that `unit` said, or systemd of it, before it came to `state` on the host of that state; in journalctl's
/// own form. Nothing if they can't be had within two seconds.
pub(in crate::cli) async fn last_lines(session: &Session, unit: &str, state: &StateView, count: usize) -> Vec<String> {
    let mut argv: Vec<String> =
        ["journalctl", "--quiet", "--no-pager", "--output=short"].map(ToString::to_string).into();
    argv.extend([format!("--unit={unit}"), format!("--lines={count}")]);
    argv.push(format!("--since=@{}", state.since.saturating_sub(BEFORE_MS) / 1000));
    let text = timeout(PATIENCE, read(session, &state.machine, &argv)).await.ok().flatten();
    text.map(|text| text.lines().map(str::to_owned).collect()).unwrap_or_default()
}

async fn read(session: &Session, machine: &MachineRef, argv: &[String]) -> Option<String> {
    let mut running = session.reach.run_quietly(machine, argv).await.ok()?;
    let mut text = Vec::new();
    running.stdout.read_to_end(&mut text).await.ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}
