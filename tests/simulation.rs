//! Seeds: a cluster, faults and requests of users, all determined by a number, with invariants after every event and a
//! settled cluster at the end. The simulation and the invariants are in `sim`.
//!
//! * `FLOTILLA_SEED=123`: play this seed and show it;
//! * `FLOTILLA_SEEDS=20000`, `FLOTILLA_FIRST_SEED=1`: the number of seeds, and the first one;
//! * `FLOTILLA_ALL_SEEDS=1`: play on after a violation, and print which marks were reached (`contrib/simulate`).

#[allow(dead_code, reason = "shared with the scenarios, which use other parts")]
#[expect(clippy::unwrap_used, reason = "a test's helpers may")]
mod sim;

use sim::marks::Counts;
use sim::play::{Played, play};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}

/// Play every `of`th seed, beginning with the one at `part`.
#[expect(clippy::print_stdout, reason = "a replayed seed reports its success, and many seeds their marks")]
fn seeds(part: u64, of: u64) {
    if let Some(seed) = number("FLOTILLA_SEED") {
        if part == 0 {
            match play(seed) {
                Ok(Played { lines, .. }) => {
                    if std::env::var_os("FLOTILLA_ALL").is_some() {
                        lines.iter().for_each(|(at, line)| println!("{:8.3} {line}", at.as_secs_f64()));
                    }
                    println!("seed {seed}: all is well, {} lines", lines.len());
                }
                Err(report) => panic!("seed {seed}\n{report}"),
            }
        }
        return;
    }
    let (first, count) = (number("FLOTILLA_FIRST_SEED").unwrap_or(0), number("FLOTILLA_SEEDS").unwrap_or(100));
    let many = std::env::var_os("FLOTILLA_ALL_SEEDS").is_some();
    let (mut failed, mut counts) = (Vec::new(), Counts::default());
    for seed in (first..first + count).filter(|seed| seed % of == part) {
        match play(seed) {
            Ok(played) => counts.add(&played.reached),
            Err(report) => {
                assert!(many, "seed {seed}\n{report}");
                let line = report.lines().find(|line| line.starts_with("violated:")).unwrap_or_default();
                failed.push(format!("seed {seed} {line}"));
            }
        }
    }
    if many {
        print!("{}", counts.lines());
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

#[test]
fn a_seed_repeats_itself() {
    for seed in [3, 14, 159] {
        let (first, second) = (play(seed), play(seed));
        if let (Ok(first), Ok(second)) = (&first, &second) {
            let differ = first.lines.iter().zip(&second.lines).find(|(a, b)| a != b);
            assert_eq!(differ, None, "seed {seed}");
        }
        assert!(first == second, "seed {seed} goes differently");
    }
}

#[test]
fn planted_bugs_have_their_places_and_the_page_lists_them() {
    let bless = std::env::var_os("FLOTILLA_BLESS").is_some();
    sim::planted::hold(std::path::Path::new(env!("CARGO_MANIFEST_DIR")), bless);
}
