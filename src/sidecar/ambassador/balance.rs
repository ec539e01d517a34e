//! Chooses the backend of the next connection. Pure: the same history always gives the same choice.

use crate::sidecar::args::Balance;

/// A backend's load, and what is remembered between two choices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    /// Its index in the caller's list.
    pub(super) index: usize,
    /// Its weight; more than 0.
    pub(super) weight: u16,
    /// Its open connections.
    pub(super) active: u32,
    /// Its balance in the smooth round robin, which [`choose`] updates.
    pub(super) credit: i64,
}

/// Choose one of `candidates` and update their credits. Round robin is smooth, as in nginx: each candidate earns its
/// weight, the one with the highest credit is chosen and pays what all have earned, so that weights 2 and 1 give a, b,
/// a and not a, a, b. Least connections applies this only among equally loaded ones.
pub(super) fn choose(how: Balance, candidates: &mut [Candidate]) -> Option<usize> {
    let by_load = |candidate: &Candidate| match how {
        Balance::RoundRobin => 0,
        // Connections per weight, compared without fractions: weights are at most 256.
        Balance::LeastConnections => (u64::from(candidate.active) << 16) / u64::from(candidate.weight.max(1)),
    };
    let least = candidates.iter().map(by_load).min()?;
    let mut earned = 0;
    let mut chosen: Option<usize> = None;
    for at in 0..candidates.len() {
        if by_load(&candidates[at]) > least {
            continue;
        }
        let weight = i64::from(candidates[at].weight);
        candidates[at].credit += weight;
        earned += weight;
        if chosen.is_none_or(|chosen| candidates[at].credit > candidates[chosen].credit) {
            chosen = Some(at);
        }
    }
    let chosen = chosen?;
    candidates[chosen].credit -= earned;
    Some(candidates[chosen].index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(weights: &[u16]) -> Vec<Candidate> {
        weights
            .iter()
            .enumerate()
            .map(|(index, weight)| Candidate { index, weight: *weight, active: 0, credit: 0 })
            .collect()
    }

    fn play(how: Balance, candidates: &mut [Candidate], times: usize) -> String {
        (0..times).filter_map(|_| choose(how, candidates)).map(|index| ["a", "b", "c"][index]).collect()
    }

    #[test]
    fn round_robin_goes_smoothly_by_weight() {
        assert_eq!(play(Balance::RoundRobin, &mut candidates(&[1, 1, 1]), 7), "abcabca");
        assert_eq!(play(Balance::RoundRobin, &mut candidates(&[2, 1]), 6), "abaaba");
        let many = play(Balance::RoundRobin, &mut candidates(&[5, 1, 1]), 700);
        assert_eq!(many.matches('a').count(), 500);
        assert!(!many.contains("aaaaaa"), "never all in a row");
        assert_eq!(play(Balance::RoundRobin, &mut [], 1), "");
    }

    #[test]
    fn least_connections_counts_by_weight_and_takes_turns_among_equals() {
        let mut three = candidates(&[1, 1, 4]);
        (three[0].active, three[1].active, three[2].active) = (1, 2, 3);
        assert_eq!(choose(Balance::LeastConnections, &mut three), Some(2));
        three[2].active = 5;
        assert_eq!(choose(Balance::LeastConnections, &mut three), Some(0));
        assert_eq!(play(Balance::LeastConnections, &mut candidates(&[1, 1]), 4), "abab");
    }
}
