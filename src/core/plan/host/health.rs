//! Which units are probed, and whether they are ready: a unit with `[X-Health]` is probed while systemd has it active,
//! whoever started it. `plan::health` decides what the results of its probes mean.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::model::health::Health;
use crate::model::name::UnitName;
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
                (Some((id, ..)), None) => {
                    // Why it was ended is of interest until its next start.
                    let not_alive = unit.readiness.stand.not_alive.take();
                    unit.readiness.stand = Stand { not_alive, ..Stand::default() };
                    unit.readiness.last = *id;
                    asked.push((name.clone(), None));
                }
                (_, Some((health, start))) => {
                    // Another section takes effect on a unit that runs: it stays ready until its new probes fail.
                    let ready = match &old {
                        Some((_, old, _)) => same_start && (unit.readiness.stand.ready || old.ready.is_empty()),
                        None => unit.readiness.stand.ready || unit.was_without_probes(),
                    };
                    // A restarted daemon must know it, too.
                    self.unsaved.executed |= unit.readiness.stand.ready != ready && unit.executed.is_some();
                    unit.readiness.stand = Stand { ready, ..Stand::default() };
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

    /// What the probes of units say has changed. Results of instructions that have been replaced say nothing, and those
    /// of instructions that have ended only why the unit was.
    pub(super) fn probed(&mut self, stands: BTreeMap<UnitName, (u64, Stand)>) {
        for (name, (of, stand)) in stands {
            let Some(unit) = self.units.get_mut(&name) else { continue };
            let Some((id, ..)) = unit.readiness.probing else {
                // Its end may be observed before the reason for it arrives.
                if unit.readiness.last == of && stand.not_alive.is_some() {
                    unit.readiness.stand.not_alive = stand.not_alive;
                    self.dirty.insert(name);
                }
                continue;
            };
            if id != of {
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
        self.units.values().filter(|unit| unit.is_active() && unit.is_ready() == Some(false)).count()
    }
}

impl Unit {
    fn probes(&self) -> Option<&Probes> {
        self.file.as_ref()?.probes.as_ref()
    }

    /// Whether systemd has it active.
    pub(super) fn is_active(&self) -> bool {
        self.state.active.is_active()
    }

    fn wants_probes(&self) -> Option<(Arc<Health>, Start)> {
        let health = self.probes()?.as_ref().ok().filter(|_| self.is_active())?;
        let restarts = self.diagnosis.inspected.then_some(self.diagnosis.details.restarts);
        Some((Arc::clone(health), Start { since: self.readiness.active_since, restarts }))
    }

    /// Whether it was reported without probes since it became active: it counted as ready then.
    fn was_without_probes(&self) -> bool {
        let reported = self.reported.as_ref().and_then(Option::as_ref);
        reported.is_some_and(|report| {
            report.ready.is_none() && report.since == self.since && report.active == self.state.active
        })
    }

    /// Whether it is active and its probes say that it is ready; `None` without `Ready=` in `[X-Health]`.
    #[must_use]
    pub fn is_ready(&self) -> Option<bool> {
        self.probes()?.as_ref().ok().filter(|health| !health.ready.is_empty())?;
        Some(self.is_active() && self.readiness.stand.ready)
    }

    /// Why it isn't, for its report.
    pub(super) fn ill_health(&self) -> Option<String> {
        let stand = &self.readiness.stand;
        let why = match (self.probes()?, &stand.not_alive) {
            (Err(why), _) => why.clone(),
            (Ok(_), Some(why)) => format!("not alive: {why}"),
            (Ok(_), None) => stand.why.clone().filter(|_| self.is_active())?,
        };
        status(&without_os_error(&why))
    }
}
