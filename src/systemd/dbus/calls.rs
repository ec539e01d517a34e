//! Calls about many units: pipelined, and each with its own outcome. Owns the connection for calls. It must never touch
//! a file.

use std::future::Future;
use std::sync::OnceLock;

use futures_util::stream::{self, StreamExt as _};

use super::Dbus;
use super::proxy::{self, ManagerProxy, classify};
use crate::model::name::UnitName;
use crate::systemd::{Error, Outcomes};

/// The most calls in flight: enough to hide the round trips, and below every bus's limit of pending replies.
const IN_FLIGHT: usize = 128;

/// A call about one unit.
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
    /// The manager, over a live connection.
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

    /// The same call for each unit, pipelined. Outcomes are in the order of `units`.
    pub(super) async fn each(&self, verb: Verb, units: Vec<UnitName>) -> Outcomes {
        let manager = match self.manager().await {
            Ok(manager) => manager,
            Err(error) => return same(units, &error),
        };
        let manager = &manager;
        pipelined(units, |unit| async move { self.one(manager, verb, &unit).await }).await
    }

    /// Reset the failed state of units. The host's own are left alone, and a unit that systemd doesn't have in memory
    /// has nothing to forget.
    pub(super) async fn forget_failures(&self, units: Vec<UnitName>) -> Outcomes {
        let (host_units, units) = self.shared.split(units);
        let mut outcomes = self.each(Verb::ResetFailed, units).await;
        for (_, outcome) in &mut outcomes {
            if !matches!(outcome, Err(Error::Unavailable(_))) {
                *outcome = Ok(());
            }
        }
        outcomes.extend(host_units.into_iter().map(|name| (name, Ok(()))));
        outcomes
    }

    /// One call for all units. If it is refused, one call for each unit, so that only the faulty ones fail. If systemd
    /// doesn't answer, retrying each unit is useless.
    pub(super) async fn together(&self, verb: Verb, units: Vec<UnitName>) -> Outcomes {
        if units.is_empty() {
            return Vec::new();
        }
        let manager = match self.manager().await {
            Ok(manager) => manager,
            Err(error) => return same(units, &error),
        };
        let files: Vec<_> = units.iter().map(|unit| self.path(unit)).collect();
        let files: Vec<_> = files.iter().map(String::as_str).collect();
        let names: Vec<_> = units.iter().map(UnitName::as_str).collect();
        let done = match verb {
            Verb::Link => manager.link_unit_files(&files, true, true).await.map(drop),
            _ => manager.disable_unit_files(&names, true).await.map(drop),
        };
        match done.map_err(|error| classify(&error)) {
            Ok(()) => units.into_iter().map(|unit| (unit, Ok(()))).collect(),
            Err(error @ Error::Unavailable(_)) => same(units, &error),
            Err(error) => {
                tracing::debug!(%error, ?verb, "refused for all units together, calling for each");
                self.each(verb, units).await
            }
        }
    }
}

/// The same failure for all units.
fn same(units: Vec<UnitName>, error: &Error) -> Outcomes {
    units.into_iter().map(|unit| (unit, Err(error.clone()))).collect()
}

/// `call` for each unit, up to [`IN_FLIGHT`] at a time. Once a call gets no answer, the remaining ones aren't sent:
/// each would wait for the same timeout.
async fn pipelined<F: Future<Output = Result<(), Error>>>(
    units: Vec<UnitName>,
    call: impl Fn(UnitName) -> F,
) -> Outcomes {
    let silence = OnceLock::new();
    let calls = units.into_iter().map(|unit| {
        let (silence, call) = (&silence, &call);
        async move {
            if let Some(error) = silence.get() {
                return (unit, Err(Error::clone(error)));
            }
            let outcome = call(unit.clone()).await;
            if let Err(error @ Error::Unavailable(_)) = &outcome {
                let _ = silence.set(error.clone());
            }
            (unit, outcome)
        }
    });
    stream::iter(calls).buffered(IN_FLIGHT).collect().await
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{Instant, sleep};

    use super::*;

    fn units() -> Vec<UnitName> {
        (0..1000).map(|number| format!("{number}.service").parse().unwrap()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_bus_that_doesnt_answer_is_waited_for_once() {
        let (begin, silent) = (Instant::now(), Error::Unavailable("no answer".into()));
        let outcomes = pipelined(units(), |_| async {
            sleep(Duration::from_secs(25)).await;
            Err(silent.clone())
        });
        assert!(outcomes.await.iter().all(|(_, outcome)| *outcome == Err(silent.clone())));
        assert_eq!(begin.elapsed().as_secs(), 25);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_one_units_own() {
        let refused = |unit: &UnitName| unit.as_str() == "7.service";
        let outcomes =
            pipelined(
                units(),
                |unit| async move { if refused(&unit) { Err(Error::Refused("no".into())) } else { Ok(()) } },
            );
        let failed: Vec<_> = outcomes.await.into_iter().filter(|(_, outcome)| outcome.is_err()).collect();
        assert_eq!(failed, [("7.service".parse().unwrap(), Err(Error::Refused("no".into())))]);
    }
}
