//! Which cluster the endpoints belong to.
//!
//! Owns when an endpoint is refused because it belongs to another cluster than ours: a member that was set up again as
//! a cluster of its own has other keys, and its revisions mean something else. Pure.

/// What the endpoints have said about their clusters.
#[derive(Debug)]
pub(super) struct Identity {
    /// The id of each endpoint's cluster, as far as it is known.
    said: Vec<Option<u64>>,
    /// The id of our cluster: the first one that was heard of, until most endpoints belong to another.
    ours: Option<u64>,
}

impl Identity {
    pub(super) fn new(endpoints: usize) -> Self {
        Self { said: vec![None; endpoints], ours: None }
    }

    /// The id of our cluster, if it is known.
    pub(super) fn ours(&self) -> Option<u64> {
        self.ours
    }

    /// Endpoint `at` belongs to `cluster`. Returns whether that is ours; it becomes ours if most endpoints belong to
    /// it, as after a restore.
    pub(super) fn heard(&mut self, at: usize, cluster: u64) -> bool {
        self.said[at] = Some(cluster);
        let same = self.said.iter().filter(|said| **said == Some(cluster)).count();
        if self.ours.is_none() || same * 2 > self.said.len() {
            self.ours = Some(cluster);
        }
        self.ours == Some(cluster)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_endpoints_decide_which_cluster_is_ours() {
        /// An endpoint, the cluster that it names, and whether that is ours.
        type Heard = (usize, u64, bool);
        let heard: [(usize, &[Heard]); 5] = [
            (3, &[(0, 7, true), (1, 7, true), (2, 9, false), (0, 7, true)]),
            // One that is set up again doesn't decide, two do.
            (3, &[(0, 7, true), (2, 9, false), (2, 9, false), (1, 9, true), (0, 7, false), (0, 9, true)]),
            // The first one was the wrong one.
            (3, &[(2, 9, true), (0, 7, false), (1, 7, true), (2, 9, false)]),
            (2, &[(0, 7, true), (1, 9, false), (0, 9, true)]),
            // The only one is always right.
            (1, &[(0, 7, true), (0, 9, true), (0, 7, true)]),
        ];
        for (endpoints, story) in heard {
            let mut identity = Identity::new(endpoints);
            for (step, (at, cluster, ours)) in story.iter().enumerate() {
                assert_eq!(identity.heard(*at, *cluster), *ours, "step {step} of {story:?}");
            }
        }
    }
}
