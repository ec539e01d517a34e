//! When something follows for members from the time alone. Owns the order of these moments, of which only the first
//! ones are ever looked at; must never decide what follows.

use std::collections::BTreeSet;

use crate::model::rollout::{MemberName, Phase};

/// What a moment is measured by. Each but the first stands still in some phases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Clock {
    /// The time of day.
    Day,
    /// The time that counts for members with the new file: while the rollout goes on.
    Forward,
    /// The time that counts for members with the file before: while the rollout goes back.
    Back,
    /// The time that counts for hosts that say nothing of their members: while it goes on or back.
    Silence,
    /// The time that counts for the hook that runs.
    Hook,
    /// For members that have only some of the new files, no time counts.
    Never,
}

const CLOCKS: usize = Clock::Never as usize + 1;

impl Clock {
    /// Whether it goes in this phase.
    fn goes(self, phase: Phase) -> bool {
        match self {
            Self::Day => true,
            Self::Forward => matches!(phase, Phase::Canary | Phase::Rolling | Phase::After),
            Self::Back => phase == Phase::Reverting,
            Self::Silence => Self::Forward.goes(phase) || Self::Back.goes(phase),
            Self::Hook => matches!(phase, Phase::Before | Phase::After),
            Self::Never => false,
        }
    }

    const ALL: [Self; CLOCKS] = [Self::Day, Self::Forward, Self::Back, Self::Silence, Self::Hook, Self::Never];
}

/// What all clocks show, in ms.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Clocks([u64; CLOCKS]);

impl Clocks {
    pub(super) fn show(&self, clock: Clock) -> u64 {
        self.0[clock as usize]
    }

    /// It is `now`, and the rollout was in this phase since it was before.
    pub(super) fn pass(&mut self, phase: Phase, now: u64) {
        let elapsed = now.saturating_sub(self.show(Clock::Day));
        for clock in Clock::ALL.into_iter().filter(|clock| clock.goes(phase)) {
            self.0[clock as usize] += elapsed;
        }
        self.0[Clock::Day as usize] = now;
    }

    /// When it is so late by the time of day, if the clock goes on.
    fn by_day(&self, due: Due) -> u64 {
        self.show(Clock::Day).saturating_add(due.at.saturating_sub(self.show(due.clock)))
    }
}

/// A moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Due {
    pub(super) clock: Clock,
    pub(super) at: u64,
}

impl Due {
    pub(super) fn is_over(self, clocks: &Clocks) -> bool {
        self.at <= clocks.show(self.clock)
    }
}

/// The moments, yet to come, at which something follows for one member.
pub(super) type Moments = [Option<Due>; 5];

/// The first of these moments by the time of day.
pub(super) fn first(moments: &Moments, clocks: &Clocks) -> Option<u64> {
    moments.iter().flatten().map(|due| clocks.by_day(*due)).min()
}

/// In which directions a rollout waits for a member's moments.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Heeded {
    /// While it goes on.
    pub(super) forward: bool,
    /// While it goes back.
    pub(super) back: bool,
}

impl Heeded {
    fn slot(self) -> usize {
        usize::from(self.forward) + 2 * usize::from(self.back)
    }
}

/// The moments of all members.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Dues {
    queues: [[BTreeSet<(u64, MemberName)>; CLOCKS]; 4],
}

impl Dues {
    pub(super) fn add(&mut self, name: &MemberName, heeded: Heeded, moments: &Moments) {
        for due in moments.iter().flatten() {
            self.queues[heeded.slot()][due.clock as usize].insert((due.at, name.clone()));
        }
    }

    pub(super) fn remove(&mut self, name: &MemberName, heeded: Heeded, moments: &Moments) {
        for due in moments.iter().flatten() {
            self.queues[heeded.slot()][due.clock as usize].remove(&(due.at, name.clone()));
        }
    }

    /// A member for which a moment has come.
    pub(super) fn next_over(&self, clocks: &Clocks) -> Option<MemberName> {
        let mut first = self.queues.iter().flat_map(|queues| Clock::ALL.into_iter().zip(queues));
        first.find_map(|(clock, queue)| {
            let (at, name) = queue.first()?;
            Due { clock, at: *at }.is_over(clocks).then(|| name.clone())
        })
    }

    /// When the first of the moments comes for which a rollout waits that goes on, or back, by the time of day.
    pub(super) fn first(&self, is_back: bool, clocks: &Clocks) -> Option<u64> {
        let slots = [Heeded { forward: !is_back, back: is_back }, Heeded { forward: true, back: true }];
        let queues = slots.into_iter().flat_map(|heeded| Clock::ALL.into_iter().zip(&self.queues[heeded.slot()]));
        queues.filter_map(|(clock, queue)| Some(clocks.by_day(Due { clock, at: queue.first()?.0 }))).min()
    }
}
