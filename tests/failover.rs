//! The etcd adapter's policy over simulated members: which member it asks, what it sends again, where its watches and
//! leases continue. Each seed plays three minutes of faults of members and connections with a few clients; the judge
//! knows what the members have really agreed on.
//!
//! * `FLOTILLA_SEED=123`: play this seed;
//! * `FLOTILLA_SEEDS=2000`, `FLOTILLA_FIRST_SEED=1`: the number of seeds, and the first one.

#[path = "failover/cases.rs"]
mod cases;
#[path = "failover/judge.rs"]
mod judge;
#[path = "support/members/mod.rs"]
#[allow(dead_code, reason = "shared with the store's contract")]
mod members;
#[path = "failover/play.rs"]
mod play;

use play::play;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}

/// Play every `of`th seed, beginning with the one at `part`.
#[expect(clippy::print_stdout, reason = "figures of what was played")]
fn seeds(part: u64, of: u64) {
    let (first, count) = match number("FLOTILLA_SEED") {
        Some(seed) => (seed, 1),
        None => (number("FLOTILLA_FIRST_SEED").unwrap_or(0), number("FLOTILLA_SEEDS").unwrap_or(30)),
    };
    let mut failed = Vec::new();
    for seed in (first..first + count).filter(|seed| seed % of == part) {
        match play(seed) {
            Ok(figures) => println!("seed {seed}: {figures:?}"),
            Err(words) => failed.push(format!("seed {seed} violated: {words}")),
        }
    }
    assert!(failed.is_empty(), "{} seeds failed\n{}", failed.len(), failed.join("\n"));
}

#[test]
fn even_seeds() {
    seeds(0, 2);
}

#[test]
fn odd_seeds() {
    seeds(1, 2);
}

/// Nothing depends on threads, the time of day or the order of a hash map.
#[test]
fn a_seed_repeats_itself() {
    for seed in [2, 71] {
        assert_eq!(play(seed), play(seed), "seed {seed} goes differently");
    }
}

/// A test that reaches nothing proves nothing.
#[test]
fn seeds_reach_what_matters() {
    let mut all = judge::Figures::default();
    for seed in 1000..1006 {
        all.add(&play(seed).unwrap_or_else(|words| panic!("seed {seed} violated: {words}")));
    }
    for (what, count) in all.counts() {
        assert!(count > 0, "no seed had {what}: {all:?}");
    }
}
