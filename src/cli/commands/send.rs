//! Sends a batch of files and prints what the cluster refused or had already. Waits for nothing.

use std::collections::BTreeSet;

use crate::api::wire::{Applied, AppliedUnit, Apply, ApplyUnit, Outcome};
use crate::cli::error::{Error, Line};
use crate::cli::input::batch::Batch;
use crate::cli::session::Session;

/// Send `units` of `batch`, and print what was refused or was there already.
pub(super) async fn files(session: &Session, batch: &Batch, units: Vec<ApplyUnit>) -> Result<Applied, Error> {
    if units.is_empty() {
        return Ok(Applied::default());
    }
    let apply = Apply { units };
    let applied = session.client.apply(&apply).await.map_err(|error| Error::of_apply(error, &batch.files))?;
    let asked = names(&apply.units);
    let sent: BTreeSet<&str> = apply.units.iter().filter(|u| u.replace).map(|u| u.name.as_str()).collect();
    for unit in &applied.units {
        // Local files were checked already.
        if !batch.files.contains_key(unit.name.as_str()) {
            unit.warnings.iter().for_each(|warning| session.out.message(&format!("{}: {warning}", unit.name)));
        }
        if unit.comments {
            session.out.message(&only_comments(unit));
        }
        if unit.retries {
            session.out.message(&format!("{}: its file had failed, and is tried again", unit.name));
        }
        if unit.same_body {
            session.out.message(&only_sections(unit));
        }
        match unit.outcome {
            Outcome::Differs if is_left(unit, &asked) => session.out.message(&left(unit)),
            Outcome::Differs => {
                let hint =
                    Line::hint(format!("`fleetctl diff {}` shows how; with --strict, this is a failure", unit.name));
                session.out.messages([differs(batch, unit).into(), hint]);
            }
            // Programs have it as fleet printed it, which knew no comments.
            Outcome::Unchanged | Outcome::Changed
                if sent.contains(unit.name.as_str()) && !((unit.comments || unit.retries) && session.out.is_seen()) =>
            {
                session.line(&format!("Found same Unit({}) in Registry, nothing to do", unit.name));
            }
            _ => {}
        }
    }
    Ok(applied)
}

/// The names that a request asks for; the others in its answer came to it because of a set.
pub(in crate::cli) fn names(units: &[ApplyUnit]) -> BTreeSet<String> {
    units.iter().map(|unit| unit.name.clone()).collect()
}

/// Whether a unit was to be destroyed because another one was, and stays because somebody has changed its file by hand:
/// nobody `asked` for it.
pub(super) fn is_left(unit: &AppliedUnit, asked: &BTreeSet<String>) -> bool {
    unit.outcome == Outcome::Differs && !asked.contains(unit.name.as_str())
}

/// Name those units.
pub(super) fn say_left(session: &Session, applied: &[AppliedUnit], asked: &BTreeSet<String>) {
    applied.iter().filter(|unit| is_left(unit, asked)).for_each(|unit| session.out.message(&left(unit)));
}

/// The message for such a unit.
pub(super) fn left(unit: &AppliedUnit) -> String {
    let name = &unit.name;
    format!("{name} has a file of its own, and is left as it is: `fleetctl destroy {name}` destroys it")
}

/// The message for a unit whose text was replaced by one that differs in comments or white space only.
pub(super) fn only_comments(unit: &AppliedUnit) -> String {
    match unit.outcome {
        Outcome::Changed => format!("{}: only comments changed in its file; stored", unit.name),
        _ => format!("{}: only comments changed; stored, nothing restarted", unit.name),
    }
}

/// The message for a unit whose file was replaced by one from which systemd reads the same.
fn only_sections(unit: &AppliedUnit) -> String {
    format!("{}: only [X-...] sections changed; stored, nothing restarted where it still fits", unit.name)
}

fn differs(batch: &Batch, unit: &AppliedUnit) -> String {
    let kind = if batch.from_template.contains(&unit.name) { "local template unit file" } else { "local unit file" };
    let file = batch.files.get(unit.name.as_str()).map_or("", String::as_str);
    let base = file.rsplit('/').next().unwrap_or(file);
    format!("WARNING: Unit {} in registry differs from {kind} {base}. Add --replace to override.", unit.name)
}
