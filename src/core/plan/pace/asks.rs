//! What people ask of a rollout that runs. Owns what follows from it at once; must never decide who is next.

use crate::model::rollout::{Ask, Phase, Request, Rollout};

/// Do what was asked, once. Returns whether the members that aren't through yet have all of their time again.
pub(super) fn heed(next: &mut Rollout, ask: Option<&Ask>, now: u64) -> bool {
    let Some(ask) = ask.filter(|ask| ask.generation > next.heeded) else { return false };
    next.heeded = ask.generation;
    match (ask.what, next.phase) {
        (Request::Pause, Phase::Before | Phase::Canary | Phase::Waiting | Phase::Rolling | Phase::After) => {
            enter(next, Phase::Paused, Some("somebody asked for it".into()), now);
        }
        (Request::Resume, Phase::Paused) => {
            enter(next, Phase::Canary, None, now);
            return true;
        }
        (Request::Promote, Phase::Canary | Phase::Waiting) => next.promoted = true,
        (Request::Retry, Phase::Paused | Phase::Reverting | Phase::Reverted | Phase::Stuck) => {
            (next.promoted, next.began) = (false, now);
            next.hooks.clear();
            enter(next, Phase::Canary, None, now);
            return true;
        }
        _ => {}
    }
    false
}

/// The rollout enters a phase.
pub(super) fn enter(next: &mut Rollout, phase: Phase, why: Option<String>, now: u64) {
    if phase == Phase::Canary {
        (next.failed, next.failed_on) = (None, None);
    }
    (next.phase, next.why, next.since) = (phase, why, now);
}
