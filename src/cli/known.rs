//! Questions that are answered even while the cluster can't be asked: by the `fleetd` that is asked, from what it saw
//! last of the cluster or for its own host; or, for units that are named and if `fleetd` doesn't run, by systemd on
//! this host. Owns when that is done, and how it is said. Commands that change something must not use it, since such
//! an answer isn't complete.

use std::collections::BTreeMap;

use crate::api::client::ClientError;
use crate::api::wire::{ClusterView, MachineList, MachineRef, Offline, UnitDetail, UnitList, UnitView};
use crate::cli::error::Line;
use crate::cli::input::names;
use crate::cli::output::people::{ago, count};
use crate::cli::session::Session;
use crate::clock::{Clock, utc};
use crate::model::name::{UnitHash, UnitName};
use crate::model::revision::Revision;
use crate::model::unit::Desired;

/// The HTTP status of a `fleetd` that can't answer for its cluster.
const UNAVAILABLE: u16 = 503;

impl Session {
    /// The units that match one of `patterns`, or all: those of the cluster, or else those that one host knows.
    ///
    /// # Errors
    /// Neither can be had: why the cluster doesn't answer.
    pub(in crate::cli) async fn known_units(&self, patterns: &[String]) -> Result<UnitList, ClientError> {
        let error = match self.client.units(patterns).await {
            Err(error) if can_be_offline(&error) => error,
            answer => return answer,
        };
        let Ok(list) = self.client.units_offline(patterns).await else { return Err(error) };
        self.go_offline(&error, list.offline.as_deref(), |of| match list.units.len() {
            1 => format!("this is the 1 unit of {of}"),
            units => format!("these are the {} of {of}", count(units, "unit")),
        });
        Ok(list)
    }

    /// One unit: as the cluster has it, or else as one host has it.
    ///
    /// # Errors
    /// As [`Session::known_units`]; [`ClientError::Api`] with code 404 if there is no such unit.
    pub(in crate::cli) async fn known_unit(&self, name: &UnitName) -> Result<UnitDetail, ClientError> {
        let error = match self.client.unit(name).await {
            Err(error) if can_be_offline(&error) => error,
            answer => return answer,
        };
        let Ok(unit) = self.client.unit_offline(name).await else { return Err(error) };
        self.go_offline(&error, unit.offline.as_deref(), |host| format!("this is the file on {host}"));
        Ok(unit)
    }

    /// The hosts of the cluster, or else those that one host knows.
    ///
    /// # Errors
    /// As [`Session::known_units`].
    pub(in crate::cli) async fn known_machines(&self) -> Result<MachineList, ClientError> {
        let error = match self.client.machines().await {
            Err(error) if can_be_offline(&error) => error,
            answer => return answer,
        };
        let Ok(list) = self.client.machines_offline().await else { return Err(error) };
        self.go_offline(&error, list.offline.as_deref(), |of| match list.machines.len() {
            1 => format!("this is {of} alone"),
            hosts => format!("these are the {} of {of}", count(hosts, "host")),
        });
        Ok(list)
    }

    /// The whole cluster, or else what one host knows of it.
    ///
    /// # Errors
    /// As [`Session::known_units`].
    pub(in crate::cli) async fn known_cluster(&self) -> Result<ClusterView, ClientError> {
        let error = match self.client.status().await {
            Err(error) if can_be_offline(&error) => error,
            answer => return answer,
        };
        let Ok(cluster) = self.client.status_offline().await else { return Err(error) };
        self.go_offline(&error, cluster.hosts.offline.as_deref(), |of| format!("this is {of}"));
        Ok(cluster)
    }

    /// As [`Session::known_units`], for a command that asks the hosts of units itself. If this host's `fleetd` can't be
    /// reached, units that `args` name are taken to be on this host.
    ///
    /// # Errors
    /// As [`Session::known_units`].
    pub(in crate::cli) async fn units_to_ask(
        &self,
        patterns: &[String],
        args: &[String],
    ) -> Result<UnitList, ClientError> {
        let error = match self.known_units(patterns).await {
            Err(error @ ClientError::Unreachable(_)) if self.client.is_local() && !self.is_json() => error,
            answer => return answer,
        };
        let named: Option<BTreeMap<UnitName, MachineRef>> = args.iter().map(|arg| self.named_here(arg)).collect();
        let (Some(named), Some(host)) = (named, self.hosts.here()) else { return Err(error) };
        self.out.message(&format!("{error}; what follows is what systemd on this host says"));
        let at = Clock::system().now_ms();
        let _ = self.offline.set(Offline { host, at, since: None, seen: None, leader: None });
        let units = named.into_iter().map(|(name, machine)| only_named(name, machine)).collect();
        Ok(UnitList { units, ..UnitList::default() })
    }

    /// The unit that `arg` names, on this host.
    fn named_here(&self, arg: &str) -> Option<(UnitName, MachineRef)> {
        let name = names::unit(arg).ok().filter(|name| !names::is_pattern(arg) && !name.is_template())?;
        Some((name, self.hosts.here()?))
    }

    /// Whether answers are about one host only; then its name, for messages about what isn't there.
    pub(in crate::cli) fn only_host(&self) -> Option<String> {
        self.offline.get().filter(|offline| offline.seen.is_none()).map(|offline| offline.host.name())
    }

    /// Say once what is shown instead of the cluster, and why; `what` words it with what it is about: one host, or the
    /// cluster.
    fn go_offline(&self, error: &ClientError, offline: Option<&Offline>, what: impl FnOnce(&str) -> String) {
        let Some(offline) = offline else { return };
        if self.offline.set(offline.clone()).is_ok() {
            self.out.messages(sentences(&error.to_string(), offline, what));
        }
    }
}

/// Whether the `fleetd` that answered can be asked about its own host.
fn can_be_offline(error: &ClientError) -> bool {
    matches!(error, ClientError::Api(detail) if detail.code == UNAVAILABLE)
}

/// The reason, without the advice below it; what is shown instead, as of when; and who may know more.
fn sentences(error: &str, offline: &Offline, what: impl FnOnce(&str) -> String) -> Vec<Line> {
    let Offline { host, at, since, seen, leader } = offline;
    let since =
        since.map(|since| format!("the store has been unreachable since {} ({}); ", utc(since), ago(since, *at)));
    let shown = match seen {
        Some(seen) => {
            format!("{} as of {}, and of {} as of {}", what("the cluster"), utc(*seen), host.name(), utc(*at))
        }
        None => format!("{} as of {}", what(&host.name()), utc(*at)),
    };
    let leader = leader.as_ref().filter(|leader| seen.is_none() && leader.id != host.id);
    let hint = leader.map(|leader| {
        let name = leader.name();
        Line::hint(format!("{name} led the cluster then, and may still show all of it: `--tunnel {}`", leader.ip))
    });
    let reason = error.lines().next().unwrap_or_default().to_owned();
    let messages = [reason, since.unwrap_or_default() + &shown].into_iter().map(Line::Message);
    messages.chain(hint).collect()
}

/// A unit of which nothing but its name is known.
fn only_named(name: UnitName, machine: MachineRef) -> UnitView {
    UnitView {
        name,
        hash: UnitHash::new(""),
        description: String::new(),
        global: false,
        replicas: None,
        desired: Desired::Launched,
        current: String::new(),
        generation: Revision::default(),
        machine: Some(machine),
        done: None,
        hosts: Vec::new(),
        waiting: None,
        retry: None,
        states: Vec::new(),
        progress: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_what_is_shown_and_why() {
        let id = "3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a".parse().unwrap();
        let host = MachineRef { id, ip: "10.88.0.1".into(), hostname: "n1".into() };
        let (at, since) = ((3 * 3600 + 14 * 60 + 5) * 1000, (3 * 3600 + 12 * 60 + 4) * 1000);
        let leader = MachineRef { id: "844a981f0a1b4c2d8e3f4a5b6c7d8e9f".parse().unwrap(), ..host.clone() };
        let leader = Some(MachineRef { hostname: "n2".into(), ip: "10.88.0.2".into(), ..leader });
        let offline = Offline { host, at, since: Some(since), seen: None, leader };
        let error = "fleetd on n1 can't reach its store: etcd at a:1 refuses connections\nTry again later";
        let units = |of: &str| format!("these are the 3 units of {of}");
        let said = sentences(error, &offline, units);
        assert_eq!(said[0], "fleetd on n1 can't reach its store: etcd at a:1 refuses connections");
        let away = "the store has been unreachable since 03:12:04 UTC (2 min); ";
        assert_eq!(said[1], format!("{away}these are the 3 units of n1 as of 03:14:05 UTC"));
        let hint = "hint: n2 led the cluster then, and may still show all of it: `--tunnel 10.88.0.2`";
        assert_eq!(said[2..], [hint]);
        let whole = Offline { seen: Some(since), ..offline.clone() };
        let shown = "these are the 3 units of the cluster as of 03:12:04 UTC, and of n1 as of 03:14:05 UTC";
        assert_eq!(sentences(error, &whole, units)[1..], [format!("{away}{shown}")]);
        let never = Offline { since: None, leader: None, ..offline };
        let unit = |of: &str| format!("this is the 1 unit of {of}");
        assert_eq!(sentences("busy", &never, unit), ["busy", "this is the 1 unit of n1 as of 03:14:05 UTC"]);
    }
}
