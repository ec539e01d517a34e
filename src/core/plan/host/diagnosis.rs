//! Why a unit failed, how often it restarted, and what it says of itself: decides which units systemd is asked about in
//! detail, whose journal is read, and which reports wait. A report must never wait for long: a failure waits half a
//! second for its journal, and a unit that restarts again and again, or changes its status text or the reason why it
//! isn't ready, is written at most every ten seconds.

use std::time::Duration;

use crate::model::failure::Failure;
use crate::model::name::UnitName;
use crate::model::systemd::{ActiveState, Details, UnitState};
use crate::model::text;
use crate::model::unit::UnitReport;

use super::unit::Journal;
use super::{Action, HostState, Now, Unit};

/// How long the report of a failure waits for the lines of the journal. If they arrive later, they are reported then.
const JOURNAL_WAIT: Duration = Duration::from_millis(500);

/// How often restarts and texts are reported: systemd may restart a unit ten times in a second, and a unit may change
/// its text as often as it likes.
const AT_MOST_EVERY: Duration = Duration::from_secs(10);

/// systemd's `Result` of a unit that hasn't failed.
const SUCCESS: &str = "success";

impl HostState {
    /// Ask systemd about units that failed, may have restarted, or say what they are doing.
    pub(super) fn inspect(&mut self) -> Option<Action> {
        let mut names = Vec::new();
        for name in self.dirty.difference(&self.unseen) {
            let Some(unit) = self.units.get_mut(name).filter(|unit| unit.diagnosis.due) else { continue };
            if unit.needs_details() {
                names.push(name.clone());
            } else {
                unit.diagnosis.due = false;
            }
        }
        (!names.is_empty()).then_some(Action::Inspect(names))
    }

    /// Apply systemd's answer; a unit that isn't in it has none.
    pub(super) fn inspected(&mut self, asked: &[UnitName], mut details: super::DetailsOf) {
        for name in asked {
            let Some(unit) = self.units.get_mut(name) else { continue };
            let details = details.remove(name).unwrap_or_default();
            let diagnosis = &mut unit.diagnosis;
            (diagnosis.due, diagnosis.inspected) = (false, true);
            if diagnosis.details.invocation != details.invocation || diagnosis.details.result != details.result {
                diagnosis.journal = Journal::Unread;
            }
            diagnosis.details = details;
        }
    }

    /// Begin to read the journals of units whose failure is about to be reported.
    pub(super) fn read_journals(&mut self, now: Now) -> Option<Action> {
        let wanted = |name: &&UnitName| {
            self.units.get(name).is_some_and(|unit| {
                matches!(unit.diagnosis.journal, Journal::Unread)
                    && unit.failure().is_some()
                    && !unit.diagnosis.details.invocation.is_empty()
                    && unit.report().is_some_and(|report| unit.report_due(&report, now).is_none())
            })
        };
        let names: Vec<UnitName> = self.dirty.difference(&self.unseen).filter(wanted).cloned().collect();
        let mut asked = Vec::new();
        for name in names {
            let Some(unit) = self.units.get_mut(&name) else { continue };
            unit.diagnosis.journal = Journal::Awaited(now.monotonic + JOURNAL_WAIT);
            asked.push((name, unit.diagnosis.details.invocation.clone()));
        }
        (!asked.is_empty()).then_some(Action::ReadJournals(asked))
    }

    /// The last lines of an invocation's journal have been read.
    pub(super) fn journal_read(&mut self, name: &UnitName, invocation: &str, lines: Vec<String>) {
        let Some(unit) = self.units.get_mut(name) else { return };
        if unit.diagnosis.details.invocation == invocation {
            unit.diagnosis.journal = Journal::Read(lines);
            self.dirty.insert(name.clone());
        }
    }
}

impl Unit {
    /// Whether the unit has failed, or has failed and is about to be started again.
    fn is_failing(&self) -> bool {
        let UnitState { active, sub, .. } = &self.state;
        let restarts = *active == ActiveState::Activating && sub.starts_with("auto-restart");
        restarts || *active == ActiveState::Failed
    }

    /// Whether systemd knows more about it than its state: why it failed, or how often it was restarted.
    pub(super) fn needs_details(&self) -> bool {
        let may_restart = self.file.as_ref().is_some_and(|file| file.restarts);
        self.is_failing() || (may_restart && self.is_active() && self.state.job.is_none()) || self.tells_status()
    }

    /// Whether its status text is part of its report: while it starts, reloads or stops. That of a unit that runs may
    /// change all the time, so it would mean a write for each change, or be out of date.
    fn tells_status(&self) -> bool {
        let changes =
            matches!(self.state.active, ActiveState::Activating | ActiveState::Reloading | ActiveState::Deactivating);
        changes && self.file.as_ref().is_some_and(|file| file.notifies)
    }

    /// What it says of itself, for its report.
    pub(super) fn status(&self) -> Option<String> {
        text::status(&self.diagnosis.details.status).filter(|_| self.tells_status())
    }

    /// Why it failed, for its report.
    pub(super) fn failure(&self) -> Option<Failure> {
        let Details { result, exit, command, retry_ms, .. } = self.diagnosis.details.clone();
        let failed = self.is_failing() && !result.is_empty() && result != SUCCESS;
        let lines = match &self.diagnosis.journal {
            Journal::Read(lines) => lines.clone(),
            Journal::Unread | Journal::Awaited(_) => Vec::new(),
        };
        let retry_ms = retry_ms.filter(|_| self.state.active == ActiveState::Activating);
        failed.then(|| Failure { result, exit, command, retry_ms, lines }.bounded())
    }

    /// How often systemd has restarted it.
    pub(super) fn restarts(&self) -> u32 {
        if self.state.active == ActiveState::Inactive { 0 } else { self.diagnosis.details.restarts }
    }

    /// When `report` may be written, if not now.
    pub(super) fn report_due(&self, report: &UnitReport, now: Now) -> Option<Duration> {
        let journal = match self.diagnosis.journal {
            Journal::Awaited(until) if report.failure.is_some() => Some(until),
            _ => None,
        };
        let old = self.reported.as_ref().and_then(Option::as_ref);
        let restarts = old.and_then(|old| {
            let asked = |report: &UnitReport| (report.generation, report.target, report.error.clone());
            let again = report.restarts > old.restarts && asked(report) == asked(old);
            self.diagnosis.restarts_reported.filter(|_| again && self.state.active.is_up())
        });
        let text = old.and_then(|old| {
            let (status, health) = (old.status.clone(), old.health.clone());
            let nothing_else = UnitReport { status, health, ..report.clone() } == *old;
            self.diagnosis.text_reported.filter(|_| nothing_else)
        });
        let again = restarts.max(text).map(|last| last + AT_MOST_EVERY);
        journal.max(again).filter(|until| *until > now.monotonic)
    }

    /// `report` was written.
    pub(super) fn was_reported(&mut self, report: Option<&UnitReport>, now: Now) {
        let old = self.reported.as_ref().and_then(Option::as_ref);
        let restarts = |report: Option<&UnitReport>| report.map_or(0, |report| report.restarts);
        let texts = |report: Option<&UnitReport>| report.map(|report| (report.status.clone(), report.health.clone()));
        if restarts(report) > restarts(old) {
            self.diagnosis.restarts_reported = Some(now.monotonic);
        }
        if texts(report).unwrap_or_default() != texts(old).unwrap_or_default() {
            self.diagnosis.text_reported = Some(now.monotonic);
        }
    }
}
