//! restore: brings back the units of a folder that `export` wrote, with their desired states. Owns the order: the whole
//! folder is checked, then compared with the cluster, and what the cluster has is changed only after a yes. Units that
//! aren't in the folder are left alone. Waits for nothing.

use std::collections::BTreeMap;
use std::path::Path;

use crate::api::client::ClientError;
use crate::api::wire::{ApplyUnit, Outcome, UnitDetail};
use crate::cli::args::Restore;
use crate::cli::commands::{plan, send};
use crate::cli::error::{Error, Exit};
use crate::cli::folder::{self, Saved};
use crate::cli::output::people::count;
use crate::cli::session::Session;
use crate::model::name::UnitName;

/// `restore`.
pub(in crate::cli) async fn run(session: &Session, args: &Restore) -> Result<Exit, Error> {
    let saved = folder::read(Path::new(&args.folder)).map_err(|wrong| Error::failures(wrong).because(UNCHANGED))?;
    let here = there_already(session, &saved).await?;
    let differs: Vec<String> =
        saved.iter().filter_map(|(name, saved)| difference(name, saved, here.get(name)?)).collect();
    if args.plan.plan {
        return plan::instead(session, &batch(&saved, &here), false).await;
    }
    if !differs.is_empty() {
        session.out.messages(&differs);
        let question = format!("change {} that the cluster has?", count(differs.len(), "unit"));
        if !args.yes && session.out.confirm(&question) != Some(true) {
            return Err(Error::failure(UNCHANGED).because("--yes makes them what they are in the folder"));
        }
    }
    let batch = batch(&saved, &here);
    let same = saved.len() - batch.len();
    let applied = session.apply(batch).await?;
    for unit in &applied.units {
        match (saved.get(&unit.name), unit.outcome) {
            (Some(saved), _) => session.line(&format!("Restored {} ({})", unit.name, saved.desired)),
            // Members that their set doesn't have in the folder, or that it should have there.
            (None, Outcome::Differs) => session.out.message(&send::left(unit)),
            (None, Outcome::Destroyed) => session.line(&format!("Destroyed {}", unit.name)),
            (None, Outcome::Created) => {
                let desired = unit.desired.map_or(String::new(), |desired| format!(" ({desired})"));
                session.line(&format!("Created {}{desired}", unit.name));
            }
            (None, _) => session.line(&format!("Changed {}", unit.name)),
        }
    }
    if session.is_json() {
        session.out.json(&applied);
    }
    let restored = applied.units.iter().filter(|unit| saved.contains_key(&unit.name)).count();
    let restored = count(restored, "unit");
    session.out.message(&format!("{restored} restored from {}, {same} unchanged", args.folder));
    Ok(Exit::Ok)
}

/// What makes the units of the cluster those of the folder.
fn batch(saved: &BTreeMap<UnitName, Saved>, here: &BTreeMap<UnitName, UnitDetail>) -> Vec<ApplyUnit> {
    saved.iter().filter_map(|(name, saved)| wanted(name, saved, here.get(name))).collect()
}

const UNCHANGED: &str = "nothing was changed";

/// Those of the units that the cluster has. The ones with a damaged record aren't among them: their files repair them.
async fn there_already(
    session: &Session,
    saved: &BTreeMap<UnitName, Saved>,
) -> Result<BTreeMap<UnitName, UnitDetail>, Error> {
    let mut here = BTreeMap::new();
    for unit in session.client.units(&[]).await?.units.into_iter().filter(|unit| saved.contains_key(&unit.name)) {
        match session.client.unit(&unit.name).await {
            Ok(detail) => drop(here.insert(unit.name, detail)),
            Err(ClientError::Api(detail)) if detail.code == 404 => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(here)
}

/// How a unit that the cluster has differs from the folder's, as a line.
fn difference(name: &UnitName, saved: &Saved, here: &UnitDetail) -> Option<String> {
    let text = (here.text != saved.text).then(|| "the cluster has another file".to_owned());
    let desired = (here.unit.desired != saved.desired)
        .then(|| format!("it is to be {} in the cluster, {} in the folder", here.unit.desired, saved.desired));
    let members = |replicas: Option<u32>| {
        replicas.map_or_else(|| "no count".into(), |replicas| count(replicas as usize, "member"))
    };
    let replicas = saved.replicas.filter(|_| here.unit.replicas != saved.replicas).map(|_| {
        format!("it has {} in the cluster, {} in the folder", members(here.unit.replicas), members(saved.replicas))
    });
    let differences: Vec<String> = text.into_iter().chain(desired).chain(replicas).collect();
    (!differences.is_empty()).then(|| format!("{name}: {}", differences.join("; ")))
}

/// What makes the unit of the cluster the one of the folder; `None` if it is. If somebody else changes its file after
/// it was compared, this is refused.
fn wanted(name: &UnitName, saved: &Saved, here: Option<&UnitDetail>) -> Option<ApplyUnit> {
    let text = here.is_none_or(|here| here.text != saved.text);
    let desired = here.is_none_or(|here| here.unit.desired != saved.desired);
    let replicas = saved.replicas.filter(|saved| here.is_none_or(|here| here.unit.replicas != Some(*saved)));
    (text || desired || replicas.is_some()).then(|| ApplyUnit {
        name: name.to_string(),
        replicas,
        text: text.then(|| saved.text.clone()),
        desired: desired.then_some(saved.desired),
        replace: text && here.is_some(),
        revision: here.filter(|_| text).and_then(|here| here.revision),
        ..ApplyUnit::default()
    })
}
