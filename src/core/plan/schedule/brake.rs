//! The brake on mass loss: when many hosts vanish together, the store or the network is more likely to have failed than
//! the hosts, and their units still run. Owns which hosts that are gone keep their units, and until when. Everything is
//! derived from the roster, so that a change of leader neither forgets a hold nor begins it again. Must never hold
//! anything but moves, nor hold them for longer than the grace period after the leader has found the mass loss,
//! whatever the clock of another leader showed that wrote the record.
//!
//! Leases of hosts that vanish at the same moment expire one after the other, since each was renewed at a moment of its
//! own. The units of every host that vanishes are therefore held for a moment first (*settling*), until the leases of
//! all others that vanished with it must have expired. Only then is it known how many there are.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::model::cluster::{Cluster, Versioned};
use crate::model::machine::{Gone, Held, KnownHost};
use crate::model::name::MachineId;

/// The fewest hosts whose loss at the same time is a mass loss. A cluster that is smaller than this and one more host,
/// the leader's, never brakes, and moves the units of a host at once.
const FEWEST: usize = 3;

/// What is allowed for the store's delay until it deletes the keys of an expired lease.
const STORE_DELAY: Duration = Duration::from_secs(1);

/// When units of hosts that are gone are held. Times are in ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Brake {
    /// The percentage of hosts that must be exceeded.
    share: usize,
    /// Hosts that vanish within this time of each other are counted together.
    window: u64,
    /// How long it takes until the leases of all hosts that vanished together have expired.
    settling: u64,
    /// How long the units are held after the first host has vanished.
    grace: u64,
}

impl Brake {
    /// Holds the units for `grace` if more than `share` percent of the hosts, and at least three, vanish within `ttl`.
    /// Never, if `share` is 100 or more, or `grace` is zero.
    #[must_use]
    pub fn new(share: u8, grace: Duration, ttl: Duration) -> Self {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        // A lease is renewed after every third of its TTL.
        Self { share: share.into(), window: ms(ttl), settling: ms(ttl / 3 + STORE_DELAY), grace: ms(grace) }
    }

    /// Never holds anything.
    #[must_use]
    pub fn off() -> Self {
        Self::new(100, Duration::ZERO, Duration::ZERO)
    }

    /// Whether the loss of `lost` of `all` hosts is a mass loss.
    fn is_mass_loss(&self, lost: usize, all: usize) -> bool {
        self.grace > 0 && self.share < 100 && lost >= FEWEST && lost * 100 > self.share * all
    }

    /// The records of hosts that are gone whose holds begin or change now, each complete. The cluster shows which hosts
    /// are registered, and what is remembered of the others. Hosts that have `left` after their units had stopped don't
    /// count: nothing of them can be running.
    pub(super) fn holds(
        &self,
        cluster: &Cluster,
        left: &BTreeSet<MachineId>,
        now: u64,
    ) -> BTreeMap<MachineId, KnownHost> {
        let beyond = self.beyond(cluster, now);
        let vanished = |host: &MachineId| !cluster.machines.contains_key(host) && !left.contains(host);
        let absent = cluster.roster.iter().filter(|(host, _)| vanished(host));
        let mut open: BTreeMap<&MachineId, (&KnownHost, Gone)> = BTreeMap::new();
        let (mut held_already, mut decided, mut brakes_until) = (0, Vec::new(), None);
        for (host, known) in absent {
            match known.value.gone {
                None => drop(open.insert(host, (&known.value, Gone { since: now, ..Gone::default() }))),
                Some(gone @ Gone { held: Some(Held { mass_loss: false, .. }), .. }) => {
                    open.insert(host, (&known.value, gone));
                }
                Some(Gone { held: Some(Held { until, mass_loss: true }), .. }) if until > now => {
                    held_already += 1;
                    brakes_until = brakes_until.max(Some(until.min(now.saturating_add(self.grace))));
                }
                Some(gone) => decided.push(gone.since),
            }
        }
        // Some may have settled for long, while there was no leader: the period of those that follow begins with these.
        let since = || open.values().map(|(_, gone)| gone.since);
        let recent = since().filter(|since| self.counts(*since, now)).min();
        let Some(first) = recent.or_else(|| since().min()).map(|first| first.min(now)) else { return beyond };
        // Those that settle wait for the others that vanished with them. A leader that is slow may find these late:
        // whoever was found together with the first of those that settle counts still.
        let counts = |since: &&u64| self.counts(**since, now) || self.counts(**since, first);
        let lost = open.len() + held_already + decided.iter().filter(counts).count();
        let all = lost + cluster.machines.len();
        let held = if self.is_mass_loss(lost, all) {
            // Hosts that follow while the brake is on don't prolong it; nor does a record that somebody has forged.
            let until = brakes_until.unwrap_or(first.saturating_add(self.grace));
            Some(Held { until: until.min(now.saturating_add(self.grace)), mass_loss: true })
        } else if self.is_mass_loss(all.saturating_sub(1), all) {
            Some(Held { until: now.saturating_add(self.settling), mass_loss: false })
        } else {
            None
        };
        let begins = |(host, (known, gone)): (&MachineId, (&KnownHost, Gone))| {
            // A host that settles already keeps its time, unless it is found to be one of many.
            let changes = held.is_some_and(|held| gone.held.is_none() || held.mass_loss);
            changes.then(|| (host.clone(), KnownHost { gone: Some(Gone { held, ..gone }), ..known.clone() }))
        };
        // Of the two records of a host that settles, this is the newer one.
        beyond.into_iter().chain(open.into_iter().filter_map(begins)).collect()
    }

    /// Whether a host that vanished at `since` counts together with those that vanish now. By another leader's clock,
    /// it may have vanished a moment later than now.
    fn counts(&self, since: u64, now: u64) -> bool {
        since.abs_diff(now) < self.window
    }

    /// The holds that end later than any that begins now: the clock of the leader that wrote them was ahead. They begin
    /// again, since nobody knows how much of them is left.
    fn beyond(&self, cluster: &Cluster, now: u64) -> BTreeMap<MachineId, KnownHost> {
        let bounded = |(host, known): (&MachineId, &Versioned<KnownHost>)| {
            let gone = known.value.gone.filter(|_| !cluster.machines.contains_key(host))?;
            let held = gone.held?;
            let latest = self.latest(held, now);
            let held = Some(Held { until: latest, ..held }).filter(|_| held.until > latest)?;
            let gone = Some(Gone { since: gone.since.min(now), held: Some(held), ..gone });
            Some((host.clone(), KnownHost { gone, ..known.value.clone() }))
        };
        cluster.roster.iter().filter_map(bounded).collect()
    }

    /// When a hold ends that begins now.
    pub(super) fn latest(&self, held: Held, now: u64) -> u64 {
        now.saturating_add(if held.mass_loss { self.grace } else { self.settling })
    }

    /// Whether what is decided depends on how much time passes: units are held, or a host still counts together with
    /// those that follow.
    pub(super) fn is_timing(&self, cluster: &Cluster, now: u64) -> bool {
        let mut gone = cluster.roster.values().filter_map(|known| known.value.gone);
        gone.any(|gone| gone.held.is_some() || self.counts(gone.since, now))
    }
}

/// A mass loss that is being waited out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Braked {
    /// How many of the hosts that vanished together are still gone.
    pub hosts: usize,
    /// Until when their units are held, in ms since the epoch.
    pub until: u64,
}

impl Braked {
    /// The one that the roster of `cluster` shows.
    pub(super) fn of(cluster: &Cluster) -> Option<Self> {
        let until = |host| held(cluster, host).filter(|held| held.mass_loss).map(|held| held.until);
        cluster.roster.keys().filter_map(until).fold(None, |braked, until| {
            Some(match braked {
                None => Self { hosts: 1, until },
                Some(Self { hosts, until: latest }) => Self { hosts: hosts + 1, until: until.max(latest) },
            })
        })
    }
}

/// Whether the units of a host that isn't registered stay where they are.
pub(super) fn is_held(cluster: &Cluster, host: &MachineId, now: u64) -> bool {
    held(cluster, host).is_some_and(|held| held.until > now)
}

/// The hold on the units of a host that isn't registered, over or not.
pub(super) fn held(cluster: &Cluster, host: &MachineId) -> Option<Held> {
    let known = cluster.roster.get(host).filter(|_| !cluster.machines.contains_key(host))?;
    known.value.gone?.held
}

#[cfg(test)]
mod tests {
    use super::super::Scheduler;
    use super::*;
    use crate::model::cluster::Change;
    use crate::model::machine::Machine;
    use crate::model::revision::Revision;

    const TTL: Duration = Duration::from_secs(9);
    const GRACE: Duration = Duration::from_secs(300);
    const SETTLING: u64 = 4_000;

    fn id(number: usize) -> MachineId {
        format!("{:032x}", number + 1).parse().unwrap()
    }

    fn remember(cluster: &mut Cluster, host: usize, gone: Option<Gone>) {
        let value = KnownHost { hostname: format!("n{host}"), ip: String::new(), version: String::new(), gone };
        cluster.apply(Change::Roster(id(host), Some(Versioned { value, revision: Revision(1) })));
    }

    /// Hosts 0 to `all`, of which the first `lost` aren't registered any more.
    fn cluster(all: usize, lost: usize) -> Cluster {
        let mut cluster = Cluster::default();
        for host in 0..all {
            remember(&mut cluster, host, None);
            if host >= lost {
                cluster.apply(Change::Machine(id(host), Some(Machine::new(id(host), ""))));
            }
        }
        cluster
    }

    fn brake(share: u8) -> Brake {
        Brake::new(share, GRACE, TTL)
    }

    /// What becomes of hosts that vanish at 1,000 ms: `at once`, `settling` or `held`.
    fn verdict(brake: Brake, all: usize, lost: usize) -> &'static str {
        let holds = brake.holds(&cluster(all, lost), &BTreeSet::new(), 1_000);
        assert!(holds.is_empty() || holds.len() == lost, "all of them or none: {holds:?}");
        match holds.into_values().next().and_then(|known| known.gone?.held) {
            None => "at once",
            Some(Held { until, mass_loss: false }) => {
                assert_eq!(until, 1_000 + SETTLING);
                "settling"
            }
            Some(Held { until, mass_loss: true }) => {
                assert_eq!(until, 301_000);
                "held"
            }
        }
    }

    #[test]
    fn a_mass_loss_is_more_than_a_share_and_at_least_three_hosts() {
        let cases = [
            // Small clusters never brake: whatever is lost moves at once.
            (33, 1, 0, "at once"),
            (33, 2, 1, "at once"),
            (33, 3, 1, "at once"),
            (33, 3, 2, "at once"),
            // In larger ones, one host waits for those that may follow.
            (33, 4, 1, "settling"),
            (33, 4, 2, "settling"),
            (33, 4, 3, "held"),
            (33, 5, 2, "settling"),
            (33, 5, 3, "held"),
            (33, 9, 2, "settling"),
            (33, 9, 3, "held"),
            (33, 10, 3, "settling"),
            (33, 10, 4, "held"),
            (33, 20, 6, "settling"),
            (33, 20, 7, "held"),
            (33, 20, 8, "held"),
            (33, 100, 33, "settling"),
            (33, 100, 34, "held"),
            (33, 1000, 999, "held"),
            (10, 20, 2, "settling"),
            (10, 20, 3, "held"),
            (0, 20, 2, "settling"),
            (0, 1000, 3, "held"),
            (80, 4, 3, "at once"),
            (74, 4, 3, "held"),
            (80, 20, 16, "settling"),
            (80, 20, 17, "held"),
            (100, 20, 19, "at once"),
        ];
        for (share, all, lost, wanted) in cases {
            assert_eq!(verdict(brake(share), all, lost), wanted, "{lost} of {all} hosts, share {share}");
        }
        for off in [Brake::off(), Brake::new(33, Duration::ZERO, TTL)] {
            assert_eq!(verdict(off, 20, 8), "at once");
        }
    }

    #[test]
    fn hosts_that_settle_are_held_when_enough_have_followed() {
        let mut cluster = cluster(10, 4);
        let settling = |since| Some(Held { until: since + SETTLING, mass_loss: false });
        for (host, since) in [(0, 1_000), (1, 2_000), (2, 3_000)] {
            remember(&mut cluster, host, Some(Gone { since, held: settling(since), ..Gone::default() }));
        }
        let holds = brake(33).holds(&cluster, &BTreeSet::new(), 4_000);
        let held: Vec<_> = holds.values().filter_map(|known| Some((known.gone?.since, known.gone?.held?))).collect();
        let together = Held { until: 301_000, mass_loss: true };
        let all = [1_000, 2_000, 3_000, 4_000].map(|since| (since, together));
        assert_eq!(held, all, "the period begins with the first of them");
    }

    #[test]
    fn hosts_that_vanish_long_after_one_that_still_settles_are_held_for_the_whole_period() {
        let mut cluster = cluster(10, 4);
        let settles = Some(Held { until: 1_000 + SETTLING, mass_loss: false });
        remember(&mut cluster, 0, Some(Gone { since: 1_000, held: settles, ..Gone::default() }));
        // There was no leader for ten minutes.
        let holds = brake(33).holds(&cluster, &BTreeSet::new(), 600_000);
        let until: Vec<_> = holds.values().filter_map(|known| Some(known.gone?.held?.until)).collect();
        assert_eq!(until, [900_000; 4]);
    }

    #[test]
    fn a_hold_is_kept_as_it_is_by_each_leader_and_by_hosts_that_follow() {
        let mut cluster = cluster(10, 5);
        let held = Some(Held { until: 301_000, mass_loss: true });
        for host in 0..4 {
            remember(&mut cluster, host, Some(Gone { since: 1_000, held, ..Gone::default() }));
        }
        let holds = brake(33).holds(&cluster, &BTreeSet::new(), 200_000);
        let followed = Gone { since: 200_000, held, ..Gone::default() };
        assert_eq!(
            holds.into_iter().map(|(host, known)| (host, known.gone)).collect::<Vec<_>>(),
            [(id(4), Some(followed))]
        );
        remember(&mut cluster, 4, Some(followed));
        assert_eq!(
            brake(33).holds(&cluster, &BTreeSet::new(), 250_000),
            BTreeMap::new(),
            "a later leader changes nothing"
        );
        assert!(is_held(&cluster, &id(0), 300_999) && !is_held(&cluster, &id(0), 301_000));
    }

    #[test]
    fn a_hold_that_somebody_else_has_written_holds_no_other_host_for_longer() {
        for (since, held) in [(1_000, Some(Held { until: u64::MAX, mass_loss: true })), (u64::MAX, None)] {
            let mut cluster = cluster(10, 5);
            remember(&mut cluster, 0, Some(Gone { since, held, ..Gone::default() }));
            let holds = brake(33).holds(&cluster, &BTreeSet::new(), 1_000);
            let until = |known: &KnownHost| known.gone.and_then(|gone| gone.held).map(|held| held.until);
            assert_eq!(until(&holds[&id(4)]), Some(301_000), "{held:?}");
        }
    }

    #[test]
    fn hosts_that_vanish_one_after_the_other_are_no_mass_loss() {
        let mut cluster = cluster(10, 4);
        for host in 0..3 {
            remember(&mut cluster, host, Some(Gone { since: 1_000, ..Gone::default() }));
        }
        for (now, mass_loss) in [(9_999, true), (10_000, false)] {
            let holds = brake(33).holds(&cluster, &BTreeSet::new(), now);
            let held = holds[&id(3)].gone.and_then(|gone| gone.held).unwrap();
            assert_eq!((holds.len(), held.mass_loss), (1, mass_loss), "at {now}: those of a TTL before count");
        }
    }

    #[test]
    fn a_host_that_vanished_before_one_that_settles_counts_together_with_those_that_follow() {
        // A leader may be slow: it finds the third one after more than a TTL, and the second one still settles.
        let mut cluster = cluster(4, 3);
        let settles = Some(Held { until: 7_000 + SETTLING, mass_loss: false });
        remember(&mut cluster, 0, Some(Gone { since: 1_000, ..Gone::default() }));
        remember(&mut cluster, 1, Some(Gone { since: 7_000, held: settles, ..Gone::default() }));
        let together = Some(Held { until: 307_000, mass_loss: true });
        let holds = brake(33).holds(&cluster, &BTreeSet::new(), 10_500);
        let found = holds.iter().map(|(host, known)| (host.clone(), known.gone.and_then(|gone| gone.held)));
        assert_eq!(found.collect::<Vec<_>>(), [(id(1), together), (id(2), together)]);
    }

    #[test]
    fn hosts_that_left_by_themselves_are_not_held_and_do_not_count() {
        let left: BTreeSet<MachineId> = (0..3).map(id).collect();
        let holds = brake(33).holds(&cluster(10, 4), &left, 1_000);
        let settling = Held { until: 1_000 + SETTLING, mass_loss: false };
        assert_eq!(
            holds.into_iter().map(|(host, known)| (host, known.gone.and_then(|gone| gone.held))).collect::<Vec<_>>(),
            [(id(3), Some(settling))]
        );
    }

    #[test]
    fn a_hold_that_ends_too_late_by_this_clock_lasts_for_a_period_at_most() {
        let held = |until, mass_loss| Some(Held { until, mass_loss });
        // The clock of the leader before was ahead by an hour.
        for (lost, mass_loss, until) in [(1, false, 1_000 + SETTLING), (4, true, 301_000)] {
            let mut cluster = cluster(10, lost);
            let gone = Gone { since: 3_601_000, held: held(3_601_000 + until, mass_loss), ..Gone::default() };
            (0..lost).for_each(|host| remember(&mut cluster, host, Some(gone)));
            let mut scheduler = Scheduler::new(cluster).with_brake(brake(33));
            let written = scheduler.plan(1_000).hosts.into_iter().filter_map(|host| host.write.after?.gone);
            let bounded = Gone { since: 1_000, held: held(until, mass_loss), ..Gone::default() };
            assert_eq!(written.collect::<Vec<_>>(), vec![bounded; lost]);
            assert_eq!((scheduler.due(), scheduler.plan(2_000).hosts), (Some(until), Vec::new()), "once");
        }
    }

    #[test]
    fn time_matters_while_units_are_held_and_while_others_may_follow() {
        let mut cluster = cluster(10, 1);
        for (gone, matters) in [
            (None, false),
            (Some(Gone { since: 1_000, ..Gone::default() }), false),
            (Some(Gone { since: 95_000, ..Gone::default() }), true),
            (Some(Gone { since: 105_000, ..Gone::default() }), true),
            (Some(Gone { held: Some(Held { until: 1_000, mass_loss: false }), ..Gone::default() }), true),
        ] {
            remember(&mut cluster, 0, gone);
            assert_eq!(brake(33).is_timing(&cluster, 100_000), matters, "{gone:?}");
        }
    }

    #[test]
    fn after_the_period_nothing_is_held_again() {
        let mut cluster = cluster(10, 5);
        let held = Some(Held { until: 301_000, mass_loss: true });
        (0..5).for_each(|host| remember(&mut cluster, host, Some(Gone { since: 1_000, held, ..Gone::default() })));
        assert_eq!(brake(33).holds(&cluster, &BTreeSet::new(), 301_000), BTreeMap::new());
        assert!(!is_held(&cluster, &id(0), 301_000));
    }
}
