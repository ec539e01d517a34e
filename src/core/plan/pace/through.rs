//! What the record of a rollout says of the members that have the new file, so that another leader knows which of them
//! have been healthy for long enough. Owns when that is written again; must never decide who is next.

use crate::model::rollout::{MemberName, Phase, Rollout, Through};

use super::summary::{Count, Summary};

/// Of more members nothing is kept: the record would be large, and each look would cost as much.
const UNPROVEN: usize = 100;

/// What the record is to say after a look at the rollout `before` it, which is `next` after it, with members as in
/// `all`, of which those in `let_through` get the new file now. Only a record that says too much of its members has to
/// be written for this alone: that a member is known to be healthy for long enough later than it is costs time, and no
/// more.
pub(super) fn noted(
    before: &Rollout,
    next: &Rollout,
    all: &Summary,
    let_through: &[MemberName],
) -> Option<Box<Through>> {
    let now = as_it_is(next.phase, all, let_through);
    let is_written = *before != *next || !let_through.is_empty();
    let known = before.through.as_ref().filter(|_| !is_written);
    let still_true = |known: &Through, now: &Through| {
        known.members == now.members && now.unproven.iter().all(|name| known.unproven.contains(name))
    };
    match (known, now) {
        (Some(known), Some(now)) if still_true(known, &now) => Some(known.clone()),
        (_, now) => now.map(Box::new),
    }
}

fn as_it_is(phase: Phase, all: &Summary, let_through: &[MemberName]) -> Option<Through> {
    let goes_back = matches!(phase, Phase::Reverting) || phase.is_over();
    let members = all.count(Count::Ungated) + let_through.len();
    if goes_back || members == 0 || all.unproven().len() + let_through.len() > UNPROVEN {
        return None;
    }
    Some(Through { members, unproven: all.unproven().chain(let_through).cloned().collect() })
}
