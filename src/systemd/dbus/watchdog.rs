//! Does with a unit that no longer works what systemd's own watchdog does. Owns whom to signal, and what follows if the
//! main process doesn't end. It must never decide that a unit no longer works, or start one.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::sleep;
use zbus::{OwnedObjectPath, OwnedVariant};

use super::Dbus;
use super::details::{OF_SERVICES, UNIT, all};
use super::proxy::{classify, unit_path};
use crate::model::name::UnitName;
use crate::model::systemd::ActiveState;
use crate::systemd::Error;

const SIGABRT: i32 = 6;
const SIGKILL: i32 = 9;

/// The invocation of a unit and its main process (`InvocationID` and `MainPID`).
type Process = (Vec<u8>, u32);

/// The units that were signalled and are killed later, with the process that this is about.
pub(super) type Ending = Mutex<BTreeMap<UnitName, Process>>;

/// How a service ends by its watchdog, and which process it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Plan {
    /// Another process is not to be killed in its place.
    process: Process,
    /// Whether it is up, and neither being stopped nor started.
    is_up: bool,
    /// Who gets the first signal, and who is killed if that doesn't help: `main` or `all`.
    whom: [&'static str; 2],
    /// `WatchdogSignal`.
    signal: i32,
    /// When it is killed, and by which signal; `None` if never.
    kill: Option<(Duration, i32)>,
}

impl Plan {
    /// From the properties of the unit and those of the service. Without those that systemd has since 240
    /// (`WatchdogSignal`, `FinalKillSignal`) and 243 (`TimeoutAbortUSec`), it is what an older one does.
    fn of(unit: &HashMap<String, OwnedVariant>, service: &HashMap<String, OwnedVariant>) -> Self {
        let text = |all: &HashMap<String, OwnedVariant>, name: &str| {
            all.get(name).and_then(|value| <&str>::try_from(value).ok()).unwrap_or_default().to_owned()
        };
        let signal = |name: &str| service.get(name).and_then(|value| i32::try_from(value).ok());
        let time = |name: &str| service.get(name).and_then(|value| u64::try_from(value).ok());
        let invocation = unit.get("InvocationID").and_then(|value| value.try_clone().ok());
        let invocation = invocation.and_then(|value| Vec::try_from(value).ok()).unwrap_or_default();
        let main = service.get("MainPID").and_then(|value| u32::try_from(value).ok()).unwrap_or_default();
        let kills = service.get("SendSIGKILL").and_then(|value| bool::try_from(value).ok()) != Some(false);
        let limit = time("TimeoutAbortUSec").or_else(|| time("TimeoutStopUSec")).filter(|us| *us != u64::MAX);
        let limit = limit.filter(|_| kills).map(Duration::from_micros);
        let whom = match text(service, "KillMode").as_str() {
            "control-group" => ["all", "all"],
            "mixed" => ["main", "all"],
            _ => ["main", "main"],
        };
        let job = unit.get("Job").and_then(|value| value.try_clone().ok());
        let job: Option<(u32, OwnedObjectPath)> = job.and_then(|value| value.try_into().ok());
        Self {
            process: (invocation, main),
            is_up: ActiveState::from(text(unit, "ActiveState")).is_active() && job.is_none_or(|(job, _)| job == 0),
            whom,
            signal: signal("WatchdogSignal").unwrap_or(SIGABRT),
            kill: limit.map(|limit| (limit, signal("FinalKillSignal").unwrap_or(SIGKILL))),
        }
    }
}

impl Dbus {
    /// Signal a unit that is up, and kill it later. Returns whether it was signalled.
    pub(super) async fn end_by_watchdog(&self, unit: &UnitName) -> Result<bool, Error> {
        if !self.is_service_of_ours(unit) {
            return Ok(false);
        }
        let plan = self.plan(unit).await?;
        if !plan.is_up || self.is_ending(unit, &plan.process) {
            return Ok(false);
        }
        self.kill(unit, plan.whom[0], plan.signal).await?;
        let Some((after, signal)) = plan.kill else { return Ok(true) };
        self.ending(|ending| ending.insert(unit.clone(), plan.process.clone()));
        let (dbus, unit) = (self.clone(), unit.clone());
        tokio::spawn(async move {
            sleep(after).await;
            if let Err(error) = dbus.kill_what_still_runs(&unit, &plan, signal).await {
                tracing::warn!(%unit, %error, "a process that ignores its watchdog's signal can't be killed");
            }
            if dbus.is_ending(&unit, &plan.process) {
                dbus.ending(|ending| ending.remove(&unit));
            }
        });
        Ok(true)
    }

    async fn kill_what_still_runs(&self, unit: &UnitName, first: &Plan, signal: i32) -> Result<(), Error> {
        let now = self.plan(unit).await?;
        // If it is being stopped, systemd kills it in its time.
        if now.is_up && now.process == first.process {
            tracing::warn!(%unit, "still runs after its watchdog's signal; it is killed");
            self.kill(unit, first.whom[1], signal).await?;
        }
        Ok(())
    }

    async fn plan(&self, unit: &UnitName) -> Result<Plan, Error> {
        let (manager, path) = (self.manager().await?, unit_path(unit.as_str()));
        let bus = manager.inner().connection();
        let (unit, service) = tokio::try_join!(all(bus, &path, UNIT), all(bus, &path, OF_SERVICES))?;
        Ok(Plan::of(&unit, &service))
    }

    async fn kill(&self, unit: &UnitName, whom: &str, signal: i32) -> Result<(), Error> {
        let killed = self.manager().await?.kill_unit(unit.as_str(), whom, signal).await;
        killed.map_err(|error| classify(&error))
    }

    fn is_ending(&self, unit: &UnitName, process: &Process) -> bool {
        self.ending(|ending| ending.get(unit) == Some(process))
    }

    fn ending<T>(&self, act: impl FnOnce(&mut BTreeMap<UnitName, Process>) -> T) -> T {
        act(&mut self.shared.ending.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use zbus::{ObjectPath, Variant};

    use super::*;

    fn properties(all: &[(&str, Variant<'static>)]) -> HashMap<String, OwnedVariant> {
        let owned = |(name, value): &(&str, Variant<'static>)| ((*name).to_owned(), value.try_to_owned().unwrap());
        all.iter().map(owned).collect()
    }

    /// The properties of a unit, and of its service.
    fn plan(active: &'static str, job: u32, service: &[(&str, Variant<'static>)]) -> Plan {
        let path = ObjectPath::try_from("/org/freedesktop/systemd1/job/7").unwrap();
        let unit =
            [("ActiveState", active.into()), ("Job", (job, path).into()), ("InvocationID", vec![1_u8, 2].into())];
        Plan::of(&properties(&unit), &properties(service))
    }

    #[test]
    fn only_a_unit_that_is_up_and_stays_so_is_signalled() {
        let up = ["active", "reloading", "refreshing"].map(|active| (active, 0, true));
        let others = [("active", 9, false), ("activating", 0, false), ("deactivating", 9, false), ("failed", 0, false)];
        for (active, job, signalled) in up.into_iter().chain(others) {
            assert_eq!(plan(active, job, &[]).is_up, signalled, "{active} {job}");
        }
    }

    #[test]
    fn the_signals_are_the_units_own() {
        let set = plan(
            "active",
            0,
            &[
                ("MainPID", 7_u32.into()),
                ("KillMode", "mixed".into()),
                ("WatchdogSignal", 3.into()),
                ("FinalKillSignal", 11.into()),
                ("TimeoutAbortUSec", 2_000_000_u64.into()),
                ("TimeoutStopUSec", 9_000_000_u64.into()),
            ],
        );
        let expected = Plan {
            process: (vec![1, 2], 7),
            is_up: true,
            whom: ["main", "all"],
            signal: 3,
            kill: Some((Duration::from_secs(2), 11)),
        };
        assert_eq!(set, expected);
        let older = plan("active", 0, &[("KillMode", "control-group".into()), ("TimeoutStopUSec", 9_u64.into())]);
        assert_eq!((older.whom, older.signal), (["all", "all"], 6));
        assert_eq!(older.kill, Some((Duration::from_micros(9), 9)));
        let mild = [("SendSIGKILL", false.into()), ("TimeoutStopUSec", 9_u64.into())];
        for never in [mild.as_slice(), &[("TimeoutAbortUSec", u64::MAX.into())]] {
            assert_eq!((plan("active", 0, never).kill, plan("active", 0, never).whom), (None, ["main", "main"]));
        }
    }
}
