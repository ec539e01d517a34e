//! `rollback`: asks for a text that a unit had before, together with those of the units that were changed with it, and
//! waits as `start --replace` does. Nobody else's change is undone by accident: the cluster compares the revisions of
//! the records. Which texts these are is decided by `back`.

use std::collections::BTreeMap;

use super::back::{self, Back, Id};
use super::submit::{How, deliver};
use super::{history, instances, plan, units};
use crate::api::client::ClientError;
use crate::api::wire::{Applied, ApplyUnit, UnitHistory};
use crate::cli::args::Rollback;
use crate::cli::error::{Error, Exit};
use crate::cli::input::batch::{Batch, Renewed};
use crate::cli::input::names;
use crate::cli::limit::Limit;
use crate::cli::session::Session;
use crate::model::file::UnitFile;
use crate::model::name::UnitName;
use crate::model::rollout::policy::hooks_of;
use crate::model::unit::Desired;

/// `rollback`.
pub(in crate::cli) async fn run(session: &Session, args: &Rollback) -> Result<Exit, Error> {
    let limit = Limit::begin(&args.block);
    let name = names::unit(&args.unit).map_err(|error| Error::failure(format!("{}: {error}", args.unit)))?;
    let first = history::of(session, &name).await?;
    let number = args.revision.map(|number| format!(" {number}")).unwrap_or_default();
    let refused = |why| Error::failure(format!("rollback {}{number}: {why}", args.unit));
    let Some(back) = Back::to(&first, args.revision).map_err(refused)? else {
        if args.plan.plan {
            return plan::instead(session, &[], false).await;
        }
        session.line(&format!("{name}: it has the file of revision{number} already, nothing to do"));
        let revision = first.present.as_ref().map(|present| present.written).unwrap_or_default();
        units::report(session, &Applied { revision, units: Vec::new() }, &[]);
        return Ok(Exit::Ok);
    };
    let (ids, unknown) = if args.only { (BTreeMap::new(), false) } else { back::companions(&first, back.to) };
    if unknown {
        session.out.message(&format!("{name}: it is no longer known what else was replaced together with it"));
    }
    let histories = histories(session, &ids).await?;
    let mut backs = vec![back];
    for (id, history) in &histories {
        match Back::before(history, id) {
            Ok(back) => backs.extend(back),
            Err(why) => stays(session, &history.unit, &why),
        }
    }
    let mut batch = batch(&backs);
    let mut said = vec![back::said(&backs[0], &backs[1..])];
    if !args.hooks {
        said.extend(without_hooks(&mut batch.units));
    }
    let mut desired = desired(session, &backs).await?;
    desired.extend(instances::add(session, &mut batch, true, Desired::Inactive).await?);
    let operation = |name: &UnitName| instances::operation(desired.get(name).copied()?);
    let plan = args.plan.plan;
    let how = How { plan, at_once: args.at_once, no_block: args.block.no_block, strict: false, limit, watch: None };
    deliver(session, batch, &said, &how, operation).await
}

/// Of the units that were replaced in the same batches.
async fn histories(session: &Session, ids: &BTreeMap<UnitName, Id>) -> Result<Vec<(Id, UnitHistory)>, Error> {
    let mut histories = Vec::new();
    for (unit, id) in ids {
        match session.client.history(unit).await {
            Ok(history) => histories.push((id.clone(), history)),
            Err(ClientError::Api(detail)) if detail.code == 404 => stays(session, unit, "was destroyed since"),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(histories)
}

fn stays(session: &Session, unit: &UnitName, why: &str) {
    session.out.message(&format!("{unit} was replaced together with it, {why}, and is left as it is"));
}

/// Each unit with its earlier text, if nobody changes it meanwhile.
fn batch(backs: &[Back<'_>]) -> Batch {
    let mut batch = Batch::default();
    for back in backs {
        let unit = back.unit;
        batch.files.insert(unit.to_string(), format!("revision {} of {unit}", back.to));
        if unit.is_template() && *back.hash != back.present.hash {
            let (old, new) = (back.present.hash.clone(), back.hash.clone());
            batch.renewed.push(Renewed { name: unit.clone(), old, new, text: back.text.into() });
        }
        batch.units.push(ApplyUnit {
            name: unit.to_string(),
            text: Some(back.text.into()),
            replace: true,
            revision: Some(back.present.written),
            ..ApplyUnit::default()
        });
    }
    batch
}

/// Ask for rollouts that run no hooks. Returns a line for each file that names any.
fn without_hooks(units: &mut [ApplyUnit]) -> Vec<String> {
    let mut lines = Vec::new();
    for unit in units {
        let file = unit.text.as_ref().and_then(|text| UnitFile::parse(text.as_bytes()).ok());
        let hooks: Vec<String> = file.iter().flat_map(hooks_of).map(|(_, hook)| hook.to_string()).collect();
        if !hooks.is_empty() {
            unit.hooks = Some(false);
            lines.push(format!("{}: doesn't run {}; --hooks does", unit.name, hooks.join(" ")));
        }
    }
    lines
}

/// What is wanted of these units, which stays as it is.
async fn desired(session: &Session, backs: &[Back<'_>]) -> Result<BTreeMap<UnitName, Desired>, Error> {
    let patterns: Vec<String> = backs.iter().map(|back| names::exactly(back.unit)).collect();
    let units = session.client.units(&patterns).await?.units;
    Ok(units.into_iter().map(|unit| (unit.name, unit.desired)).collect())
}
