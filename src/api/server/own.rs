//! What an announcer may speak for: its own unit, and the units that its file names in `MachineOf=`, which is how a
//! sidekick says whose it is. Whoever submitted the file said so, and the kernel says which unit the client belongs to.
//! Owns these limits; must never believe what a request says of its sender.

use std::collections::BTreeSet;

use crate::model::name::{MachineId, UnitName};
use crate::model::placement::Constraints;
use crate::model::role::Role;
use crate::model::service::{Instance, ServiceName};
use crate::plan::gate::show_spares;
use crate::registry::keys;
use crate::registry::scope::Scope;
use crate::registry::services::Authority;
use crate::store::Store;

use super::caller::{Caller, refused};
use super::error::Failure;
use super::state::Api;

impl Caller {
    /// Whose announcements it may change.
    ///
    /// # Errors
    /// 403 for an announcer that belongs to no unit.
    pub(super) fn authority<S: Store>(&self, api: &Api<S>) -> Result<Authority, Failure> {
        if self.grant().role != Role::Announcer {
            return Ok(Authority::All);
        }
        Ok(Authority::Announcer { unit: self.own_unit()?, host: api.here().0 })
    }

    /// Refuse to announce `wanted` as an instance of `service`, unless the caller may speak for its unit. The
    /// announcement of an announcer is marked as that; one that names no unit is for its own.
    ///
    /// # Errors
    /// 403.
    pub(super) async fn check_announcement<S: Store>(
        &self,
        api: &Api<S>,
        service: &ServiceName,
        wanted: &mut Instance,
    ) -> Result<(), Failure> {
        if self.grant().role != Role::Announcer {
            return Ok(());
        }
        if !self.grant().includes(service.as_str()) {
            let (name, grant) = (self.socket(), self.grant());
            return Err(refused(format!("{service}: {name} has the role {grant}, which doesn't include this service")));
        }
        let own = self.own_unit()?;
        let unit = wanted.unit.get_or_insert_with(|| own.clone()).clone();
        check_units(api, &own, &[unit].into()).await?;
        wanted.announcer = Some(own);
        Ok(())
    }

    /// Refuse a watch of `units` (`None` for patterns) on `host`, unless the caller may speak for them.
    ///
    /// # Errors
    /// 403.
    pub(super) async fn check_watch<S: Store>(
        &self,
        api: &Api<S>,
        units: Option<&BTreeSet<UnitName>>,
        host: Option<&MachineId>,
    ) -> Result<(), Failure> {
        if self.grant().role != Role::Announcer {
            return Ok(());
        }
        match units {
            Some(units) if host == api.here().0.as_ref() => check_units(api, &self.own_unit()?, units).await,
            _ => Err(refused(format!(
                "{} has the role announcer, which watches units by their names and on this host only",
                self.socket()
            ))),
        }
    }

    /// The unit that the caller belongs to.
    fn own_unit(&self) -> Result<UnitName, Failure> {
        let found = self.peer.unit();
        found.as_deref().and_then(|unit| unit.parse().ok()).ok_or_else(|| {
            let what = match &found {
                Some(scope) => format!("belongs to {scope}"),
                None => "belongs to none".into(),
            };
            refused(format!(
                "{} is for services that systemd has started on this host, and this client {what}{}",
                self.socket(),
                self.elsewhere()
            ))
        })
    }
}

/// Refuse unless the unit `own` may speak for all of `units`.
async fn check_units<S: Store>(api: &Api<S>, own: &UnitName, units: &BTreeSet<UnitName>) -> Result<(), Failure> {
    if units.iter().all(|unit| unit == own) {
        return Ok(());
    }
    let related = related(api, own).await?;
    match units.iter().find(|unit| *unit != own && !related.contains(unit.as_str())) {
        None => Ok(()),
        Some(unit) => Err(refused(format!(
            "{own} may announce and watch itself and the units in the `MachineOf=` of its file, not {unit}"
        ))),
    }
}

/// The units in the `MachineOf=` of a unit; none for a unit that the cluster doesn't have.
async fn related<S: Store>(api: &Api<S>, unit: &UnitName) -> Result<BTreeSet<String>, Failure> {
    let failed = |error| api.failed(&error);
    let mut cluster =
        api.reader.cluster(&[keys::UNITS, keys::GATES], &Scope::One(unit.clone())).await.map_err(failed)?;
    // A rider of a spare announces it.
    show_spares(&mut cluster);
    let Some(record) = cluster.units.get(unit) else { return Ok(BTreeSet::new()) };
    let summaries = api.reader.summaries([&record.hash]).await.map_err(failed)?;
    let constraints = summaries.get(&record.hash).map(|summary| Constraints::resolve(&summary.constraints, unit));
    Ok(constraints.map(|constraints| constraints.machine_of.clone()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::api::server::health::{Health, channel};
    use crate::api::server::state::Settings;
    use crate::clock::Clock;
    use crate::model::author::Author;
    use crate::model::file::UnitFile;
    use crate::registry::apply::apply;
    use crate::registry::units::{Intent, OnDifferentFile, UnitChange};
    use crate::store::embedded::Embedded;

    #[tokio::test]
    async fn a_unit_speaks_for_itself_and_for_those_in_its_machineof() {
        let (_health, asked) = channel(Health::Ready);
        let api = Api::new(Embedded::in_memory(), Clock::system(), "n1", asked, Settings::default());
        let text = "[Service]\nExecStart=/bin/true\n[X-Fleet]\nMachineOf=web@%i.service\n";
        let file = Some(Arc::new(UnitFile::parse(text.as_bytes()).unwrap()));
        let change =
            UnitChange::Ensure { file, desired: None, on_different_file: OnDifferentFile::Keep, replicas: None };
        let name: UnitName = "web-announce@1.service".parse().unwrap();
        let intents = [Intent { name: name.clone(), change }];
        apply(&api.reader, &intents, &Author::default(), 0).await.unwrap();
        let own = async |own: &str, units: &[&str]| {
            let units = units.iter().map(|unit| unit.parse().unwrap()).collect();
            check_units(&api, &own.parse().unwrap(), &units).await.map_err(|refusal| refusal.message)
        };
        assert_eq!(own("web-announce@1.service", &["web-announce@1.service", "web@1.service"]).await, Ok(()));
        assert_eq!(own("db.service", &["db.service"]).await, Ok(()));
        for (unit, units, named) in [
            ("web-announce@1.service", &["web@1.service", "web@2.service"][..], "web@2.service"),
            ("web-announce@2.service", &["web@2.service"], "web@2.service"),
            ("db.service", &["web@1.service"], "web@1.service"),
        ] {
            let refusal = own(unit, units).await.unwrap_err();
            assert!(refusal.starts_with(unit) && refusal.ends_with(&format!("not {named}")), "{refusal}");
        }
    }
}
