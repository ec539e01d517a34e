//! What was seen of one member with one file on one host, and what follows from it at a moment. Must never decide who
//! is next.

use std::time::Duration;

use crate::model::name::MachineId;

use super::due::{Clock, Clocks, Due, Moments};
use super::{Member, MemberState};

/// How much of its time something has used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Used {
    before: u64,
    /// Since when it uses time, by a clock.
    since: Option<u64>,
}

impl Used {
    /// It uses its time from now on, or no longer.
    fn go(&mut self, is_running: bool, at: u64) {
        match (self.since, is_running) {
            (None, true) => self.since = Some(at),
            (Some(since), false) => *self = Self { before: self.before + (at - since), since: None },
            (None, false) | (Some(_), true) => {}
        }
    }

    /// When it has used all of it, by the clock, if it goes on.
    fn over_at(self, limit: Duration) -> Option<u64> {
        let limit = ms(limit);
        self.since?.checked_add(limit.saturating_sub(self.before)).filter(|_| limit < u64::MAX)
    }
}

/// What was seen of a member with one file on one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    gated: bool,
    /// Whether all of it has the files before.
    is_back: bool,
    host: Option<MachineId>,
    healthy_since: Option<u64>,
    away_since: Option<u64>,
    /// Whether it is a spare that no host fits.
    fits_nowhere: bool,
    /// Whether it has been healthy for long enough once.
    has_passed: bool,
    /// How much of its time it has used.
    spent: Used,
    /// By which clock.
    spends: Clock,
    /// For how long its host, which is there, has not carried out what it was told.
    silent: Used,
    /// By which clock.
    silence: Clock,
}

/// What follows for a member at a moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Timed {
    /// Whether it has been healthy without a break for long enough once.
    pub(super) has_passed: bool,
    /// Since when it is healthy.
    pub(super) healthy_since: Option<u64>,
    /// Whether its time is over, and it never was healthy for long enough.
    pub(super) is_late: bool,
    /// Whether it has had no host for a while, or its host has been gone or silent for too long: nothing waits for it
    /// any longer.
    pub(super) is_nowhere: bool,
    /// Whether that is because its host is silent.
    pub(super) is_silent: bool,
    /// Whether it is healthy, and counts as if its host had yet to start it, because it lacks a unit.
    pub(super) is_incomplete: bool,
}

impl Timed {
    /// Whether `member`, of which this is known, has failed with the file that it is to have.
    pub(super) fn has_failed(&self, member: &Member) -> bool {
        matches!(member.state, MemberState::Failed(_)) || self.is_late
    }
}

impl Seen {
    /// Nothing yet.
    pub(super) fn new(member: &Member) -> Self {
        let spends = match (member.gated, member.is_back()) {
            (false, _) => Clock::Forward,
            (true, true) => Clock::Back,
            (true, false) => Clock::Never,
        };
        Self {
            gated: member.gated,
            is_back: member.is_back(),
            host: member.host.clone(),
            healthy_since: None,
            away_since: None,
            fits_nowhere: false,
            has_passed: false,
            spent: Used::default(),
            spends,
            silent: Used::default(),
            silence: Clock::Silence,
        }
    }

    /// Nothing yet, of a hook, whose time is another one.
    pub(super) fn of_hook(hook: &Member) -> Self {
        Self { spends: Clock::Hook, silence: Clock::Hook, ..Self::new(hook) }
    }

    /// Whether it is about `member` with the file and on the host that it has now.
    pub(super) fn is_of(&self, member: &Member) -> bool {
        (self.gated, self.is_back) == (member.gated, member.is_back()) && self.is_on(member.host.as_ref())
    }

    /// Whether it was on this host.
    pub(super) fn is_on(&self, host: Option<&MachineId>) -> bool {
        self.host.as_ref() == host
    }

    /// It has all of its time again.
    pub(super) fn begin_again(&mut self, clocks: &Clocks) {
        for (used, clock) in [(&mut self.spent, self.spends), (&mut self.silent, self.silence)] {
            *used = Used { before: 0, since: used.since.map(|_| clocks.show(clock)) };
        }
    }

    /// The time of day is `now`, and was later before.
    pub(super) fn set_back(&mut self, now: u64) {
        for since in [&mut self.healthy_since, &mut self.away_since].into_iter().flatten() {
            *since = now.min(*since);
        }
    }

    /// It has been healthy for long enough, as an earlier leader saw.
    pub(super) fn has_passed_before(&mut self) {
        self.has_passed = true;
    }

    /// It is in this state now.
    pub(super) fn take(&mut self, state: &MemberState, (healthy, _): (Duration, Duration), clocks: &Clocks) {
        let now = clocks.show(Clock::Day);
        let since = |before: Option<u64>, is_so: bool| is_so.then(|| before.unwrap_or(now));
        self.healthy_since = since(self.healthy_since, *state == MemberState::Healthy);
        self.away_since = since(self.away_since, state.is_gone());
        self.fits_nowhere = *state == MemberState::FitsNowhere;
        self.has_passed |= self.healthy_since.is_some_and(|since| after(since, healthy) <= now);
        // Until its host has started it, the time counts only if it can't.
        let is_running = match state {
            MemberState::Healthy | MemberState::Pending(_) | MemberState::Assigned(Some(_)) => !self.has_passed,
            _ => false,
        };
        self.spent.go(is_running, clocks.show(self.spends));
        if state.is_silent() {
            self.silent.go(true, clocks.show(self.silence));
        } else {
            self.silent = Used::default();
        }
    }

    /// What follows at this moment, and the moments yet to come.
    pub(super) fn timed(&self, (healthy, deadline): (Duration, Duration), clocks: &Clocks) -> (Timed, Moments) {
        let by_day = |at: u64| Due { clock: Clock::Day, at };
        let patience = if self.fits_nowhere { Duration::ZERO } else { healthy };
        let nowhere = self.away_since.map(|since| by_day(after(since, patience)));
        let passes = self.healthy_since.filter(|_| !self.has_passed).map(|since| by_day(after(since, healthy)));
        let late = self.spent.over_at(deadline).map(|at| Due { clock: self.spends, at });
        let silent = self.silent.over_at(deadline).map(|at| Due { clock: self.silence, at });
        let is_over = |due: Option<Due>| due.is_some_and(|due| due.is_over(clocks));
        let is_silent = is_over(silent);
        let timed = Timed {
            has_passed: self.has_passed,
            healthy_since: self.healthy_since,
            is_late: is_over(late),
            is_nowhere: is_silent || is_over(nowhere),
            is_silent,
            is_incomplete: false,
        };
        let to_come = |due: Option<Due>| due.filter(|due| !due.is_over(clocks));
        (timed, [to_come(nowhere), to_come(passes), to_come(late), to_come(silent), None])
    }
}

/// The first millisecond by which so much time has passed since `at`.
pub(super) fn after(at: u64, time: Duration) -> u64 {
    at.saturating_add(ms(time))
}

/// At least so much time.
fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}
