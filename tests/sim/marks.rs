//! Rare branches, and whether a run has reached them. Owns the list of those that matter, each with the trace that it
//! leaves: a line of the daemons' log, which `debug` lines belong to. A branch without a trace gets such a line. What
//! happens to a cluster in a certain state is no branch of a daemon; that is told by the judge, which sees both. It
//! must never change anything.

use std::collections::{BTreeMap, BTreeSet};

/// What must reach a mark. More may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// The seeds of `contrib/check`.
    Seeds,
    /// The scenarios: it is too rare for these seeds.
    Scenarios,
    /// Only tests of smaller parts: no fault here leads to it.
    OtherTests,
}

use By::{OtherTests, Scenarios, Seeds};

/// The part that tells of what happens to a cluster in a certain state.
pub(crate) const JUDGE: &str = "judge";

/// The part of the daemon that logs it, what the line contains, and what reaches it. The text names the mark.
const MARKS: &[(&str, &str, By)] = &[
    // Leadership.
    ("engine", "no longer leading", Seeds),
    ("engine", "another leader has taken over", Seeds),
    ("engine", "leadership ends during a computation", OtherTests),
    ("engine", "the leader's key is written again", Seeds),
    ("engine", "a commit was refused", Seeds),
    ("engine", "the outcome of a commit is unknown", Seeds),
    ("engine", "waiting for absent hosts", Seeds),
    ("engine", "waiting until the last commit has been seen", Seeds),
    ("engine", "a file that was to be deleted is used again", OtherTests),
    ("engine", "have another lowest format", Seeds),
    ("engine", "planning took too long", OtherTests),
    // Decisions.
    ("engine", "moves from", Seeds),
    ("engine", "comes back to", Seeds),
    ("engine", "waits: ", Seeds),
    ("engine", "the host is gone", Seeds),
    ("engine", "its placement says otherwise", OtherTests),
    ("engine", "is back after", Seeds),
    // The brake on mass loss.
    ("engine", "until it is known whether others follow", Seeds),
    ("engine", "have vanished together", Seeds),
    ("engine", "aren't back in time", Seeds),
    ("engine", "are back or forgotten", Seeds),
    ("engine", "the clock of this host was set", Seeds),
    // Leases and registration.
    ("agent", "the lease of this host has expired", Seeds),
    ("reconcile", "another live host has the machine id", Seeds),
    ("agent", "adopted the lease of the previous daemon", Seeds),
    ("agent", "the lease of the previous daemon has ended", Seeds),
    ("agent", "the lease could not be saved", Seeds),
    ("store", "the lease can't be renewed", Seeds),
    ("store", "the lease is renewed again", Seeds),
    ("agent", "no job is requested so late in the lease", Seeds),
    ("agent", "until the leader has decided about them", Seeds),
    // Reports.
    ("agent", "a report was refused", Seeds),
    ("agent", "the outcome of a report is unknown", Seeds),
    ("agent", "the host's key is written again", Seeds),
    ("agent", "its report is more recent than what was saved", Scenarios),
    ("registry", "isn't bound to its host's lease", Scenarios),
    ("agent", "has changed the format", Seeds),
    // Records that somebody else has written.
    ("registry", "is not ours or is damaged", Seeds),
    // The host.
    ("agent", "could not be carried out", Seeds),
    ("agent", "can't be started", Seeds),
    ("agent", "its text isn't in the store", OtherTests),
    ("agent", "waits until units that it needs have stopped", Seeds),
    ("agent", "returns with a unit that it needs", Seeds),
    ("agent", "waiting for units to stop", Scenarios),
    ("agent", "this host has left the cluster", Scenarios),
    ("reconcile", "systemd is unreachable", Seeds),
    ("reconcile", "/run/fleet is unusable", Seeds),
    // A store that is restored.
    ("agent", "the store has lost data", Scenarios),
    ("engine", "may have lost the last commit", Scenarios),
    ("registry", "restored from a backup or replaced; listing again", Scenarios),
    // Rollouts.
    ("engine", "begins with what runs before it", Seeds),
    ("engine", "begins with its canaries", Seeds),
    ("engine", "waits to be promoted", Seeds),
    ("engine", "goes on with all members", Seeds),
    ("engine", "goes on with what runs after it", Seeds),
    ("engine", "is paused", Seeds),
    ("engine", "failed, and is taken back", Seeds),
    ("engine", "failed, and was taken back", Seeds),
    ("engine", "failed, and the file before fails too", Seeds),
    ("engine", "is done", Seeds),
    ("engine", "as a spare", Seeds),
    ("engine", "fits no host with its new file", Seeds),
    ("engine", "isn't ready after", Seeds),
    (JUDGE, "another leader begins while a rollout is before", Seeds),
    (JUDGE, "another leader begins while a rollout is canary", Seeds),
    (JUDGE, "another leader begins while a rollout is waiting", Seeds),
    (JUDGE, "another leader begins while a rollout is rolling", Seeds),
    (JUDGE, "another leader begins while a rollout is after", Scenarios),
    (JUDGE, "another leader begins while a rollout is paused", Seeds),
    (JUDGE, "another leader begins while a rollout is reverting", Seeds),
    (JUDGE, "another leader begins while a rollout is stuck", Seeds),
    (JUDGE, "a host is lost while a rollout is before", Seeds),
    (JUDGE, "a host is lost while a rollout is canary", Seeds),
    (JUDGE, "a host is lost while a rollout is waiting", Seeds),
    (JUDGE, "a host is lost while a rollout is rolling", Seeds),
    (JUDGE, "a host is lost while a rollout is after", Scenarios),
    (JUDGE, "a host is lost while a rollout is paused", Seeds),
    (JUDGE, "a host is lost while a rollout is reverting", Seeds),
    (JUDGE, "a host is lost while a rollout is stuck", Seeds),
    // Watches.
    ("registry", "changes were compacted unread", Seeds),
];

/// The marks that a run has reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Reached(BTreeSet<&'static str>);

impl Reached {
    /// The daemon's `part` has logged `line`.
    pub(crate) fn logged(&mut self, part: &str, line: &str) {
        let found = MARKS.iter().filter(|(of, text, _)| *of == part && line.contains(text));
        self.0.extend(found.map(|(_, text, _)| text));
    }

    pub(crate) fn extend(&mut self, other: &Self) {
        self.0.extend(&other.0);
    }

    /// The marks that must be reached by `by`, and weren't.
    pub(crate) fn missed(&self, by: By) -> Vec<&'static str> {
        let missed = MARKS.iter().filter(|(_, text, wanted)| *wanted == by && !self.0.contains(text));
        missed.map(|(_, text, _)| *text).collect()
    }
}

/// In how many runs each mark was reached.
#[derive(Debug, Default)]
pub(crate) struct Counts(BTreeMap<&'static str, u64>);

impl Counts {
    pub(crate) fn add(&mut self, reached: &Reached) {
        for mark in &reached.0 {
            *self.0.entry(mark).or_default() += 1;
        }
    }

    /// A line for each mark, which `contrib/simulate` reads: whether seeds must reach it, how often they did, its name.
    pub(crate) fn lines(&self) -> String {
        let line = |(_, mark, by): &(&str, &'static str, By)| {
            let must = if *by == Seeds { "must" } else { "may" };
            format!("mark {must} {} {mark}\n", self.0.get(mark).copied().unwrap_or_default())
        };
        MARKS.iter().map(line).collect()
    }
}
