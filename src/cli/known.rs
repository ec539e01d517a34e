//! Questions that are answered even while the cluster can't be asked: by the `fleetd` that is asked, for its own host;
//! or, for units that are named and if `fleetd` doesn't run, by systemd on this host. Owns when that is done, and how
//! it is said. Commands that change something must not use it, since such an answer isn't complete.

use std::collections::BTreeMap;

use crate::api::client::ClientError;
use crate::api::wire::{MachineList, MachineRef, Offline, UnitDetail, UnitList, UnitView};
use crate::cli::input::names;
use crate::cli::output::people::count;
use crate::cli::session::Session;
use crate::clock::{Clock, utc};
use crate::model::name::{UnitHash, UnitName};
use crate::model::revision::Revision;
use crate::model::unit::Desired;

/// The HTTP status of a `fleetd` that can't answer for its cluster.
const UNAVAILABLE: u16 = 503;

impl Session {
    /// The units that match one of `patterns`, or all: those of the cluster, or else of one host.
    ///
    /// # Errors
    /// Neither can be had: why the cluster doesn't answer.
    pub(in crate::cli) async fn known_units(&self, patterns: &[String]) -> Result<UnitList, ClientError> {
        let error = match self.client.units(patterns).await {
            Err(error) if can_be_offline(&error) => error,
            answer => return answer,
        };
        let Ok(list) = self.client.units_offline(patterns).await else { return Err(error) };
        self.go_offline(&error, list.offline.as_deref(), |host| match list.units.len() {
            1 => format!("this is the 1 unit of {host}"),
            units => format!("these are the {} of {host}", count(units, "unit")),
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

    /// The hosts of the cluster, or else the one that answers.
    ///
    /// # Errors
    /// As [`Session::known_units`].
    pub(in crate::cli) async fn known_machines(&self) -> Result<MachineList, ClientError> {
        let error = match self.client.machines().await {
            Err(error) if can_be_offline(&error) => error,
            answer => return answer,
        };
        let Ok(list) = self.client.machines_offline().await else { return Err(error) };
        self.go_offline(&error, list.offline.as_deref(), |host| format!("this is {host} alone"));
        Ok(list)
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
        let _ = self.offline.set(Offline { host, at: Clock::system().now_ms(), since: None });
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
        self.offline.get().map(|offline| offline.host.name())
    }

    /// Say once what is known of one host only, and why; `what` words it with the host's name.
    fn go_offline(&self, error: &ClientError, offline: Option<&Offline>, what: impl FnOnce(&str) -> String) {
        let Some(offline) = offline else { return };
        if self.offline.set(offline.clone()).is_ok() {
            self.out.message(&sentence(&error.to_string(), offline, &what(&offline.host.name())));
        }
    }
}

/// Whether the `fleetd` that answered can be asked about its own host.
fn can_be_offline(error: &ClientError) -> bool {
    matches!(error, ClientError::Api(detail) if detail.code == UNAVAILABLE)
}

/// The reason, without the advice below it; then what is shown instead.
fn sentence(error: &str, offline: &Offline, what: &str) -> String {
    let reason = error.lines().next().unwrap_or_default();
    let since = offline.since.map(|since| format!("the store has been unreachable since {}; ", utc(since)));
    format!("{reason}\n{}{what} as of {}", since.unwrap_or_default(), utc(offline.at))
}

/// A unit of which nothing but its name is known.
fn only_named(name: UnitName, machine: MachineRef) -> UnitView {
    UnitView {
        name,
        hash: UnitHash::new(""),
        description: String::new(),
        global: false,
        desired: Desired::Launched,
        current: String::new(),
        generation: Revision::default(),
        machine: Some(machine),
        hosts: Vec::new(),
        waiting: None,
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
        let offline = Offline { host, at, since: Some(since) };
        let error = "fleetd on n1 can't reach its store: etcd at a:1 refuses connections\nTry again later";
        assert_eq!(
            sentence(error, &offline, "these are the 3 units of n1"),
            "fleetd on n1 can't reach its store: etcd at a:1 refuses connections\n\
             the store has been unreachable since 03:12:04 UTC; these are the 3 units of n1 as of 03:14:05 UTC"
        );
        let never = Offline { since: None, ..offline };
        assert_eq!(
            sentence("busy", &never, "this is the 1 unit of n1"),
            "busy\nthis is the 1 unit of n1 as of 03:14:05 UTC"
        );
    }
}
