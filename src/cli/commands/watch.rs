//! `start --watch`: units that run are looked at for a while, since many programs fail only after they were started.
//! Owns what counts as a failure then.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep_until};

use crate::api::client::ClientError;
use crate::api::wire::{StateView, UnitView};
use crate::cli::error::Line;
use crate::cli::explain;
use crate::cli::follow::current::{Changed, Current};
use crate::cli::follow::{End, Ended, interrupted};
use crate::cli::input::names;
use crate::cli::session::Session;

/// Watch the units for `time`; one that fails or is started again in that time has failed, and ends it.
pub(super) async fn watch(session: &Session, ended: &mut [Ended], time: Duration) -> Result<(), ClientError> {
    let until = Instant::now() + time;
    let patterns: Vec<String> = ended.iter().map(|one| names::exactly(&one.name)).collect();
    if patterns.is_empty() {
        return Ok(());
    }
    let mut interrupts = signal(SignalKind::interrupt()).ok();
    let mut current = Current::follow(session, &patterns);
    loop {
        let changed = tokio::select! {
            changed = current.next() => changed?,
            () = sleep_until(until) => return Ok(()),
            () = interrupted(interrupts.as_mut()) => {
                ended.iter_mut().for_each(|one| one.end = End::Interrupted);
                return Ok(());
            }
        };
        let is_concerned = |one: &&mut Ended| changed == Changed::All || changed == Changed::Unit(one.name.clone());
        let mut failed = false;
        for one in ended.iter_mut().filter(is_concerned) {
            let Some(view) = current.units().get(&one.name) else { continue };
            let trouble = trouble(one.view.as_ref(), view);
            if trouble.is_empty() {
                continue;
            }
            failed = true;
            session.out.messages(&trouble);
            (one.end, one.view) = (End::Failed(trouble), Some(view.clone()));
        }
        if failed {
            return Ok(());
        }
    }
}

/// What went wrong with a unit since it was seen as `before`: a line for each host, and the lines of its journal.
fn trouble(before: Option<&UnitView>, now: &UnitView) -> Vec<Line> {
    let restarts = |state: &StateView| {
        let states = before.map_or(&[][..], |before| &before.states);
        let before = states.iter().find(|before| before.machine.id == state.machine.id);
        before
            .filter(|before| before.report.generation == state.report.generation)
            .map_or(0, |before| before.report.restarts)
    };
    let mut lines = Vec::new();
    let failed = |state: &&StateView| {
        state.report.failure.is_some() || state.report.missing || state.report.restarts > restarts(state)
    };
    for state in now.states.iter().filter(failed) {
        lines.extend(explain::trouble(&now.name, state).map(Line::Message));
        let journal = state.report.failure.iter().flat_map(|failure| &failure.lines);
        lines.extend(journal.map(|line| Line::Message(format!("  {line}"))));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::failure::Failure;

    fn view(generation: u64, restarts: u32, failure: Option<Failure>) -> UnitView {
        let state = serde_json::json!({
            "machine": { "id": "3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a", "ip": "10.0.0.1", "hostname": "n1" },
            "generation": generation, "target": "launched", "hash": "0", "load": "loaded", "active": "active",
            "sub": "running", "since": 0, "restarts": restarts, "failure": failure,
        });
        let unit = serde_json::json!({
            "name": "a.service", "hash": "0", "desired": "launched", "generation": generation, "states": [state],
        });
        serde_json::from_value(unit).unwrap()
    }

    #[test]
    fn a_restart_or_a_failure_since_the_start_is_trouble() {
        let (exit, result) = (Some("exited 7/NOTRUNNING".into()), "exit-code".into());
        let failure = Failure { result, exit, lines: vec!["boom".into()], ..Failure::default() };
        let failed = vec!["a.service failed on n1: exit status 7/NOTRUNNING".to_owned(), "  boom".into()];
        let again = vec!["a.service on n1: running, 3 restarts".to_owned()];
        let cases = [
            (Some(view(7, 0, None)), view(7, 0, None), vec![]),
            (Some(view(7, 3, None)), view(7, 3, None), vec![]),
            (Some(view(7, 2, None)), view(7, 3, None), again.clone()),
            (None, view(7, 3, None), again.clone()),
            // It was started again in between.
            (Some(view(6, 5, None)), view(7, 3, None), again),
            (Some(view(7, 0, None)), view(7, 0, Some(failure)), failed),
        ];
        for (before, now, expected) in cases {
            assert_eq!(trouble(before.as_ref(), &now), expected);
        }
    }
}
