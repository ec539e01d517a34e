//! Hooks: units that run once for a rollout, before its members get the new file (`Before=`) or when all of them have
//! it (`After=`). Owns which of them is next and what follows from its end. Must never decide on which host one runs.

use crate::model::name::UnitName;
use crate::model::rollout::{Phase, Verdict};
use crate::model::span;

use super::seen::Timed;
use super::summary::Count;
use super::{Member, MemberState, Pace};

impl Pace<'_> {
    /// Whether units are left to run before the members, or `after` them.
    pub(super) fn are_hooks_left(&self, after: bool) -> bool {
        self.next.have_run(after) < self.hooks(after).len()
    }

    /// Nobody gets the new file while they run.
    pub(super) fn before(&mut self) {
        if self.run_hooks(false) {
            self.enter(Phase::Canary, None);
        }
    }

    /// The members have the new file. One that comes back with another one gets it first.
    pub(super) fn after(&mut self) {
        if self.all().has(Count::Waiting) {
            return self.enter(Phase::Rolling, None);
        }
        if self.run_hooks(true) {
            self.next.note(self.next.target.clone(), Verdict::Stable, None);
            self.enter(Phase::Done, None);
        }
    }

    fn hooks(&self, after: bool) -> &[UnitName] {
        if after { &self.look.policy.after } else { &self.look.policy.before }
    }

    /// Run the next one, unless one runs. Returns whether all of them have run.
    fn run_hooks(&mut self, after: bool) -> bool {
        match (self.next.running().is_some(), self.look.hook) {
            (true, Some(hook)) if !self.has_ended(hook) => return false,
            // Nothing is known of it any more, so that it is begun again.
            (true, None) => drop(self.next.hooks.pop()),
            _ => {}
        }
        let Some(next) = self.hooks(after).get(self.next.have_run(after)).cloned() else { return true };
        match (self.look.can_run)(&next) {
            Ok(()) => self.run = Some(next),
            Err(why) => self.fail_by(next, why),
        }
        false
    }

    /// Whether the one that runs has ended well, which is noted then.
    fn has_ended(&mut self, hook: &Member) -> bool {
        let timed = self.hook.clone();
        if let Some(why) = timed.as_ref().and_then(|(timed, _)| self.hook_failed(hook, timed)) {
            self.fail_by(hook.name.unit.clone(), why);
            return false;
        }
        if hook.state != MemberState::Healthy {
            self.wake = timed.filter(|_| !hook.is_gone()).and_then(|(_, wake)| wake);
            return false;
        }
        if let Some(run) = self.next.hooks.last_mut() {
            (run.host, run.took) = (hook.host.clone(), Some(self.now.saturating_sub(run.since)));
        }
        true
    }

    fn hook_failed(&self, hook: &Member, timed: &Timed) -> Option<String> {
        let (name, deadline) = (&hook.name.unit, span::shown(self.look.policy.deadline));
        match &hook.state {
            MemberState::Failed(why) => Some(why.clone()),
            MemberState::Healthy => None,
            MemberState::Assigned(None) if timed.is_silent => {
                Some(format!("{name} didn't run in {deadline}: its host has carried out nothing"))
            }
            MemberState::Assigned(Some(why)) if timed.is_late => {
                Some(format!("{name} didn't run in {deadline}: {why}"))
            }
            _ => timed.is_late.then(|| format!("{name} hasn't ended after {deadline}")),
        }
    }

    fn fail_by(&mut self, unit: UnitName, why: String) {
        (self.next.failed, self.next.failed_on) = (Some(unit), None);
        self.fail(why);
    }
}
