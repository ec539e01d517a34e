//! export: writes all units of the cluster into a folder, from which `restore` brings them back. Owns that an export
//! never destroys the last copy of what the cluster has lost; `folder` owns the layout. Changes nothing in the cluster.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::api::client::ClientError;
use crate::api::wire::UnitView;
use crate::cli::args::Export;
use crate::cli::error::{Error, Exit};
use crate::cli::folder::{self, Changes, ListedUnit};
use crate::cli::output::people::count;
use crate::cli::session::Session;
use crate::model::name::UnitName;

/// Nothing waits in silence for longer than this.
const SILENCE: Duration = Duration::from_secs(1);

/// What was written, for `--output json`.
#[derive(Serialize)]
struct Report<'a> {
    folder: &'a str,
    /// How many units it has.
    units: usize,
    #[serde(flatten)]
    changes: Changes,
    /// Units whose records in the store are damaged.
    damaged: Vec<&'a UnitName>,
}

/// `export`. The exit status is 1 if a unit can't be exported.
pub(in crate::cli) async fn run(session: &Session, args: &Export) -> Result<Exit, Error> {
    let folder = Path::new(&args.folder);
    let before = folder::listed(folder).map_err(Error::failure)?;
    let all = session.client.units(&[]).await?;
    let (mut list, texts) = texts(session, &all.units).await?;
    // What the folder has of them may be the last good copy.
    let damaged: Vec<&UnitName> = all.damaged.iter().map(|unit| &unit.name).collect();
    list.extend(damaged.iter().filter_map(|name| before.get_key_value(*name)).map(|(k, v)| (k.clone(), v.clone())));
    let gone = before.keys().filter(|name| !list.contains_key(*name)).count();
    if gone * 2 > before.len() && !args.yes {
        let what =
            format!("the cluster doesn't have {gone} of the {} in {} any more", units(before.len()), args.folder);
        if session.out.confirm(&format!("{what}; delete them there?")) != Some(true) {
            return Err(Error::failure(what).because("nothing was written; --yes deletes them in the folder too"));
        }
    }
    let exported = list.len();
    let changes = folder::write(folder, list, &texts).map_err(Error::failure)?;
    for name in &damaged {
        let kept = if before.contains_key(*name) { "the folder keeps what it had" } else { "it is not in the folder" };
        session.out.message(&format!("{name}: its record in the store is damaged; {kept}"));
    }
    let Changes { written, deleted } = changes;
    session.line(&format!(
        "{}: {}; {} written, {deleted} deleted",
        args.folder,
        units(exported),
        count(written, "file")
    ));
    let exit = Exit::failed_if(!damaged.is_empty());
    if session.is_json() {
        session.out.json(&Report { folder: &args.folder, units: exported, changes, damaged });
    }
    Ok(exit)
}

fn units(number: usize) -> String {
    count(number, "unit")
}

/// The desired state and the text of each unit, read together. A unit that is destroyed meanwhile is left out.
async fn texts(
    session: &Session,
    units: &[UnitView],
) -> Result<(BTreeMap<UnitName, ListedUnit>, BTreeMap<UnitName, String>), Error> {
    let (mut list, mut texts) = (BTreeMap::new(), BTreeMap::new());
    let mut shown = Instant::now();
    for (read, unit) in units.iter().enumerate() {
        if shown.elapsed() > SILENCE {
            shown = Instant::now();
            session.out.progress(&[format!("{read} of {} read", count(units.len(), "unit"))], "");
        }
        match session.client.unit(&unit.name).await {
            Ok(detail) => {
                let UnitView { name, desired, hash, replicas, .. } = detail.unit;
                list.insert(name.clone(), ListedUnit { desired, hash, replicas });
                texts.insert(name, detail.text);
            }
            Err(ClientError::Api(detail)) if detail.code == 404 => {}
            Err(error) => return Err(error.into()),
        }
    }
    session.out.progress(&[], "");
    Ok((list, texts))
}
