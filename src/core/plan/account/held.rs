//! What holds a unit up that has a host, or keeps it where it is although it is to leave: drains, moves, and the end of
//! drains, as the leader decides them, and the loss of many hosts at once. Owns the sentences; `plan::drain` has the
//! verdicts, and `plan::progress` what its host has yet to do.

use crate::model::cluster::Cluster;
use crate::model::name::{MachineId, UnitName};

use super::super::drain::{Found, Verdict};

/// What holds `unit` up, as sentences without its name; `found` is what becomes of the units that are to leave.
#[must_use]
pub fn held(cluster: &Cluster, found: &Found, unit: &UnitName) -> Vec<String> {
    let name = |host: &MachineId| cluster.hostname(host).unwrap_or(host.short()).to_owned();
    let mut all = Vec::new();
    for (host, units) in &found.drained {
        if let Some(verdict) = units.get(unit) {
            all.push(format!("{} is drained: {}", name(host), said(verdict)));
        }
    }
    for (host, units) in &found.returning {
        if let Some(verdict) = units.get(unit) {
            all.push(format!("it is to return to {}: {}", name(host), said(verdict)));
        }
    }
    if let Some(moving) = found.moving.get(unit) {
        let to = moving.to.as_ref().map_or_else(|| "another host".to_owned(), name);
        all.push(format!("it is to move to {to}: {}", said(&moving.verdict)));
    }
    let home = cluster.placed_on(unit).filter(|host| !cluster.machines.contains_key(*host));
    if let Some(gone) = home.and_then(|host| Some((name(host), cluster.roster.get(host)?.value.gone?)))
        && let (host, Some(held)) = (gone.0, gone.1.held)
    {
        let why = if held.mass_loss { "many hosts vanished together" } else { "others may follow" };
        all.push(format!(
            "{host} is gone, and its units are held because {why}; if it won't be back: fleetctl forget {host}"
        ));
    }
    all
}

fn said(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Leaves => "it leaves now".into(),
        Verdict::Leaving => "its host is stopping it".into(),
        Verdict::Waits(wait) => format!("it waits: {wait}"),
        Verdict::Stays(group) if group.len() > 1 => "no such host fits it and those that must be with it".into(),
        Verdict::Stays(_) => "no such host fits it".into(),
        Verdict::Bound(unit) => format!("{unit} belongs to its host (MoveAfterSec=infinity)"),
        Verdict::Tied(unit) => format!("it must be with {unit}, which the drain didn't take"),
        Verdict::Global => "it is global, and belongs to the host".into(),
    }
}
