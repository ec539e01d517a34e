//! Which units systemd stops together with others: its dependencies as it has them in memory, with all drop-ins. Owns
//! which properties these are. It must never decide what follows from a stop.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use super::details::{IN_FLIGHT, UNIT, property};
use super::proxy::unit_path;
use crate::model::name::UnitName;
use crate::systemd::Error;

/// The properties of a unit that name units to which its stop is propagated. The last one is that of systemd 249 and
/// newer.
const PROPAGATING: [&str; 5] = ["RequiredBy", "RequisiteOf", "BoundBy", "ConsistsOf", "PropagatesStopTo"];

/// For each of `units`, those that are stopped together with it, directly or not.
pub(super) async fn stopped_with(
    bus: &zbus::Connection,
    units: Vec<UnitName>,
) -> Result<BTreeMap<UnitName, BTreeSet<UnitName>>, Error> {
    let answers = stream::iter(units).map(|unit| async move { Ok((unit.clone(), of_unit(bus, &unit).await?)) });
    answers.buffered(IN_FLIGHT).try_collect().await
}

async fn of_unit(bus: &zbus::Connection, unit: &UnitName) -> Result<BTreeSet<UnitName>, Error> {
    // Also through units that aren't ours and whose names we wouldn't accept.
    let mut seen = BTreeSet::from([unit.to_string()]);
    let mut open = vec![unit.to_string()];
    while let Some(name) = open.pop() {
        let path = unit_path(&name);
        for option in PROPAGATING {
            let named: Vec<String> = match property(bus, &path, UNIT, option).await {
                Ok(named) => named,
                Err(error @ Error::Unavailable(_)) => return Err(error),
                // This systemd has no such property, or the unit was unloaded meanwhile.
                Err(_) => continue,
            };
            open.extend(named.into_iter().filter(|name| seen.insert(name.clone())));
        }
    }
    seen.remove(unit.as_str());
    Ok(seen.into_iter().filter_map(|name| name.parse().ok()).collect())
}
