//! Which units are probed, and whether they are ready: a unit with `[X-Health]` is probed while systemd has it active,
//! whoever started it. `plan::health` decides what the results of its probes mean.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::model::health::Health;
use crate::model::name::UnitName;
use crate::model::systemd::ActiveState;
use crate::model::text::{status, without_os_error};
use crate::plan::health::Stand;

use super::readiness::{Probes, Start};
use super::{Action, HostState, Now, Unit};

/// How a unit is to be probed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probing {
    /// The number of these instructions: a result must name it.
    pub id: u64,
    /// The probes.
    pub health: Arc<Health>,
    /// Whether the unit is known to be ready.
    pub ready: bool,
    /// How long ago it became active.
    pub age: Duration,
}

impl HostState {
    /// Have the probes of units begin or end, as their files and states require.
    pub(super) fn probe(&mut self, now: Now) -> Option<Action> {
        let mut asked = Vec::new();
        for name in self.dirty.difference(&self.unseen) {
            if name.is_template() || self.foreign.as_ref().is_some_and(|foreign| foreign.contains(name)) {
                continue;
            }
            let Some(unit) = self.units.get_mut(name) else { continue };
            let wanted = unit.wants_probes();
            let old = unit.readiness.probing.take();
            let same_start = old.as_ref().zip(wanted.as_ref()).is_some_and(|((.., a), (_, b))| a.may_be(*b));
            if same_start && old.as_ref().map(|(_, health, _)| health) == wanted.as_ref().map(|(health, _)| health) {
                // The number of its restarts may be known only now.
                unit.readiness.probing = old.zip(wanted).map(|((id, ..), (health, start))| (id, health, start));
                continue;
            }
            match (&old, wanted) {
                (None, None) => continue,
                (Some(_), None) => {
                    unit.readiness.stand = Stand::default();
                    asked.push((name.clone(), None));
                }
                (_, Some((health, start))) => {
                    // Another section takes effect on a unit that runs: it stays ready until its new probes fail.
                    let ready = match old {
                        Some(_) => same_start && unit.readiness.stand.ready,
                        None => unit.readiness.stand.ready || unit.was_without_probes(),
                    };
                    // A restarted daemon must know it, too.
                    self.unsaved.executed |= unit.readiness.stand.ready != ready && unit.executed.is_some();
                    unit.readiness.stand = Stand { ready, why: None };
                    self.probings += 1;
                    let age = Duration::from_millis(now.wall_ms.saturating_sub(start.since));
                    asked.push((
                        name.clone(),
                        Some(Probing { id: self.probings, health: Arc::clone(&health), ready, age }),
                    ));
                    unit.readiness.probing = Some((self.probings, health, start));
                }
            }
        }
        (!asked.is_empty()).then_some(Action::Probe(asked))
    }

    /// What the probes of units say has changed. Results of instructions that have been replaced say nothing.
    pub(super) fn probed(&mut self, stands: BTreeMap<UnitName, (u64, Stand)>) {
        for (name, (of, stand)) in stands {
            let Some(unit) = self.units.get_mut(&name) else { continue };
            if unit.readiness.probing.as_ref().is_none_or(|(id, ..)| *id != of) {
                continue;
            }
            // A restarted daemon needs to know whether it is ready, and not why it isn't.
            self.unsaved.executed |= unit.readiness.stand.ready != stand.ready && unit.executed.is_some();
            unit.readiness.stand = stand;
            self.dirty.insert(name);
        }
    }

    /// The number of units that are active and aren't ready.
    #[must_use]
    pub fn unready(&self) -> usize {
        self.units.values().filter(|unit| unit.serves() && unit.is_ready() == Some(false)).count()
    }
}

impl Unit {
    fn probes(&self) -> Option<&Probes> {
        self.file.as_ref()?.probes.as_ref()
    }

    /// Whether systemd has it active. A unit that reloads its configuration still serves.
    pub(super) fn serves(&self) -> bool {
        match &self.state.active {
            ActiveState::Active | ActiveState::Reloading => true,
            other => other.as_str() == "refreshing",
        }
    }

    fn wants_probes(&self) -> Option<(Arc<Health>, Start)> {
        let health = self.probes()?.as_ref().ok().filter(|_| self.serves())?;
        let restarts = self.diagnosis.inspected.then_some(self.diagnosis.details.restarts);
        Some((Arc::clone(health), Start { since: self.readiness.active_since, restarts }))
    }

    /// Whether it was reported without probes since it became active: it counted as ready then.
    fn was_without_probes(&self) -> bool {
        let reported = self.reported.as_ref().and_then(Option::as_ref);
        reported.is_some_and(|report| {
            report.ready.is_none() && report.since == self.since && report.active == self.state.active.as_str()
        })
    }

    /// Whether it is active and its probes say that it is ready; `None` without `[X-Health]`.
    #[must_use]
    pub fn is_ready(&self) -> Option<bool> {
        self.probes()?.as_ref().ok()?;
        Some(self.serves() && self.readiness.stand.ready)
    }

    /// Why it isn't, for its report.
    pub(super) fn ill_health(&self) -> Option<String> {
        let why = match self.probes()? {
            Err(why) => Some(why),
            Ok(_) => self.readiness.stand.why.as_ref().filter(|_| self.serves()),
        };
        status(&without_os_error(why?))
    }
}
