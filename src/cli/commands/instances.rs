//! When a template's file is replaced, the instances that still have its old file should get the new one too. Owns
//! which instances these are, and the question to the user; `units` sends them in the same batch.

use crate::api::wire::{ApplyUnit, Operation, UnitView};
use crate::cli::error::{Error, Line};
use crate::cli::input::batch::Batch;
use crate::cli::input::files::has_replicas;
use crate::cli::session::Session;
use crate::model::glob::Glob;
use crate::model::name::UnitName;
use crate::model::unit::Desired;

/// The most names in one line.
const NAMES: usize = 10;

/// Add the instances of the templates in `batch` to it, if `asked` by an option or confirmed at a terminal. Returns
/// those added, with their desired states; with `desired` above `inactive`, that is this one.
///
/// # Errors
/// The request to the cluster failed.
pub(in crate::cli) async fn add(
    session: &Session,
    batch: &mut Batch,
    asked: bool,
    desired: Desired,
) -> Result<Vec<(UnitName, Desired)>, Error> {
    let mut added = Vec::new();
    for renewed in std::mem::take(&mut batch.renewed) {
        // The cluster gives the members of a set their file one after another.
        let is_set = has_replicas(renewed.text.as_bytes());
        if is_set {
            let is_member = |unit: &&ApplyUnit| unit.text.as_ref() == Some(&renewed.text);
            for unit in batch.units.iter().filter(is_member) {
                batch.restarted.remove(&unit.name);
            }
        }
        let units = session.client.units(&[pattern(&renewed.name)]).await?.units;
        let of = |unit: &&UnitView| {
            // Instances that were named are already in the batch.
            unit.name.template().as_ref() == Some(&renewed.name)
                && unit.hash != renewed.new
                && !batch.units.iter().any(|sent| sent.name == unit.name.as_str())
        };
        let (following, own): (Vec<&UnitView>, Vec<&UnitView>) =
            units.iter().filter(of).partition(|unit| unit.hash == renewed.old);
        if !own.is_empty() {
            let rest = if own.len() == 1 {
                "has a file of its own, and is left as it is"
            } else {
                "have files of their own, and are left as they are"
            };
            session.out.message(&format!("{} {rest}", names(&own)));
        }
        if following.is_empty() || !wanted(session, &renewed.name, &following, asked) {
            continue;
        }
        for unit in following {
            added.push((unit.name.clone(), unit.desired.max(desired)));
            if unit.desired == Desired::Launched && !is_set {
                batch.restarted.insert(unit.name.to_string());
            }
            batch.files.insert(unit.name.to_string(), renewed.name.to_string());
            batch.units.push(ApplyUnit {
                name: unit.name.to_string(),
                text: Some(renewed.text.clone()),
                desired: (desired != Desired::Inactive).then_some(desired),
                replace: true,
                ..ApplyUnit::default()
            });
        }
    }
    Ok(added)
}

/// The pattern that all instances of `template` match.
pub(in crate::cli) fn pattern(template: &UnitName) -> String {
    format!("{}@*.{}", Glob::escape(template.prefix()), template.kind())
}

/// The operation to wait for, for an instance with this desired state.
pub(in crate::cli) fn operation(desired: Desired) -> Option<Operation> {
    match desired {
        Desired::Inactive => None,
        Desired::Loaded => Some(Operation::Load),
        Desired::Launched => Some(Operation::Start),
    }
}

fn wanted(session: &Session, template: &UnitName, following: &[&UnitView], asked: bool) -> bool {
    if asked {
        return true;
    }
    let names = names(following);
    if session.out.confirm(&format!("replace the file of {names} too, where they run?")) == Some(true) {
        return true;
    }
    let (keep, get) = if following.len() == 1 { ("keeps", "it gets") } else { ("keep", "they get") };
    session.out.message(&format!(
        "{names} {keep} the old file of {template}; with --instances {get} the new one together with it"
    ));
    session.out.messages([Line::hint(format!(
        "from now on, `fleetctl start --replace '{}@*'` gives it to them",
        template.prefix()
    ))]);
    false
}

fn names(units: &[&UnitView]) -> String {
    let mut names: Vec<&str> = units.iter().take(NAMES).map(|unit| unit.name.as_str()).collect();
    let more = format!("and {} more", units.len().saturating_sub(NAMES));
    if units.len() > NAMES {
        names.push(&more);
    }
    names.join(" ")
}
