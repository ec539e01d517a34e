//! Calls about many units: pipelined, and each unit's failure its own.
//! Owns the connection for calls. It must never touch a file.

use futures_util::stream::{self, StreamExt as _};

use super::Dbus;
use super::proxy::{self, ManagerProxy, classify};
use crate::model::name::UnitName;
use crate::systemd::{Error, Outcomes};

/// Calls on their way at the same time: enough that nobody waits for a round trip, and below every bus's limit of open replies.
const IN_FLIGHT: usize = 128;

/// One call about one unit.
#[derive(Debug, Clone, Copy)]
pub(super) enum Verb {
    Start,
    Stop,
    Enable,
    Link,
    Disable,
    ResetFailed,
}

impl Dbus {
    /// The manager over a living connection.
    pub(super) async fn manager(&self) -> Result<ManagerProxy<'static>, Error> {
        let mut manager = self.shared.manager.lock().await;
        if let Some(manager) = manager.as_ref().filter(|manager| !manager.inner().connection().is_closed()) {
            return Ok(manager.clone());
        }
        let connection = proxy::connect(&self.shared.options).await?;
        Ok(manager.insert(proxy::manager(&connection).await?).clone())
    }

    async fn one(&self, manager: &ManagerProxy<'static>, verb: Verb, name: &UnitName) -> Result<(), Error> {
        let file = self.path(name);
        let name = name.as_str();
        let done = match verb {
            Verb::Start => manager.start_unit(name, "replace").await.map(drop),
            Verb::Stop => manager.stop_unit(name, "replace").await.map(drop),
            Verb::Enable => manager.enable_unit_files(&[&file], true, true).await.map(drop),
            Verb::Link => manager.link_unit_files(&[&file], true, true).await.map(drop),
            Verb::Disable => manager.disable_unit_files(&[name], true).await.map(drop),
            Verb::ResetFailed => manager.reset_failed_unit(name).await,
        };
        done.map_err(|error| classify(&error))
    }

    /// The same call for each unit, sent one after the other without waiting for answers, which come back in the same order.
    pub(super) async fn each(&self, verb: Verb, units: Vec<UnitName>) -> Outcomes {
        let manager = match self.manager().await {
            Ok(manager) => manager,
            Err(error) => return units.into_iter().map(|unit| (unit, Err(error.clone()))).collect(),
        };
        let calls = units.into_iter().map(|unit| {
            let manager = &manager;
            async move {
                let outcome = self.one(manager, verb, &unit).await;
                (unit, outcome)
            }
        });
        stream::iter(calls).buffered(IN_FLIGHT).collect().await
    }

    /// One call for all units; if that fails, one for each, so that the one at fault harms only itself.
    pub(super) async fn together(&self, verb: Verb, units: Vec<UnitName>) -> Outcomes {
        if units.is_empty() {
            return Vec::new();
        }
        let manager = match self.manager().await {
            Ok(manager) => manager,
            Err(error) => return units.into_iter().map(|unit| (unit, Err(error.clone()))).collect(),
        };
        let files: Vec<_> = units.iter().map(|unit| self.path(unit)).collect();
        let files: Vec<_> = files.iter().map(String::as_str).collect();
        let names: Vec<_> = units.iter().map(UnitName::as_str).collect();
        let done = match verb {
            Verb::Link => manager.link_unit_files(&files, true, true).await.map(drop),
            _ => manager.disable_unit_files(&names, true).await.map(drop),
        };
        match done {
            Ok(()) => units.into_iter().map(|unit| (unit, Ok(()))).collect(),
            Err(error) => {
                tracing::debug!(%error, ?verb, "refused for all units together, asking for each");
                self.each(verb, units).await
            }
        }
    }
}
