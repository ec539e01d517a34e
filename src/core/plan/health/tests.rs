use super::*;
use crate::model::probe::Probe;

const LONG_AGO: Duration = Duration::from_secs(3600);

fn tcp(port: u16) -> Probe {
    format!("tcp:{port}").parse().unwrap()
}

fn failed(why: &str) -> Outcome {
    Outcome::Failed(why.into())
}

fn stand(ready: bool, why: &str) -> Stand {
    Stand { ready, why: (!why.is_empty()).then(|| why.into()), not_alive: None }
}

/// Apply a result of a unit that was started long ago, whose probes of `Live=` are not in question.
fn told(health: &Health, standing: &mut Standing, at: usize, outcome: Outcome) -> Option<Stand> {
    let (next, act) = step(health, standing, at, outcome, LONG_AGO);
    *standing = next;
    act.map(|act| match act {
        Act::Tell(stand) => stand,
        Act::End(stand) => panic!("ended: {stand:?}"),
    })
}

/// What a history of results of one probe changes: `+` passes, `-` fails. One letter for each result: `R` ready, `r`
/// not ready, `.` nothing.
fn history(health: &Health, begin: bool, results: &str) -> String {
    let mut standing = Standing::new(health, begin);
    let letter = |result: char| {
        let outcome = if result == '+' { Outcome::Passed } else { failed("refused") };
        told(health, &mut standing, 0, outcome).map_or('.', |stand| if stand.ready { 'R' } else { 'r' })
    };
    results.chars().map(letter).collect()
}

#[test]
fn ready_rises_and_falls_by_results_in_a_row() {
    for (rise, fall, begin, results, acts) in [
        (1, 3, false, "+", "R"),
        // The first failure has words to report.
        (1, 3, false, "--+---+", "r.R..rR"),
        (3, 3, false, "++-+++", "..r..R"),
        (1, 3, true, "--+--+---", "........r"),
        (1, 1, true, "-+-+", "rRrR"),
        (2, 2, true, "-+--+-++", "...r...R"),
        (1, 3, true, "++++", "...."),
    ] {
        let health = Health { ready: vec![tcp(80)], rise, fall, ..Health::default() };
        assert_eq!(history(&health, begin, results), acts, "{rise} {fall} {begin} {results}");
    }
}

/// It neither passes nor fails, but who looks is told.
#[test]
fn a_probe_that_cant_be_made_changes_no_verdict() {
    let health = Health { ready: vec!["exec:/bin/a".parse().unwrap()], ..Health::default() };
    let not_run = || Outcome::NotRun("exited 203/EXEC".into());
    let says = |ready| Some(stand(ready, "exec:/bin/a: not run: exited 203/EXEC"));
    for (ready, outcomes) in [
        (false, vec![(not_run(), says(false)), (not_run(), None), (Outcome::Passed, Some(stand(true, "")))]),
        (true, vec![(not_run(), None), (not_run(), None), (not_run(), says(true)), (not_run(), None)]),
        (true, vec![(not_run(), None), (Outcome::Passed, None), (not_run(), None), (not_run(), None)]),
        (
            true,
            vec![
                (failed("a"), None),
                (failed("b"), None),
                (not_run(), None),
                (failed("c"), Some(stand(false, "exec:/bin/a: c"))),
                (not_run(), says(false)),
            ],
        ),
    ] {
        let mut standing = Standing::new(&health, ready);
        for (at, (outcome, expected)) in outcomes.into_iter().enumerate() {
            assert_eq!(told(&health, &mut standing, 0, outcome), expected, "{ready}: {at}");
        }
    }
}

/// The seconds after its start at which a unit is ended whose probe has these results, one a second: `+` passes, `-`
/// fails, `?` isn't run.
fn ended_at(grace: u64, fall: u32, results: &str) -> Vec<u64> {
    let health = Health { live: vec![tcp(80)], fall, grace: Duration::from_secs(grace), ..Health::default() };
    let mut standing = Standing::new(&health, false);
    let mut ended = Vec::new();
    for (second, result) in (1..).zip(results.chars()) {
        let outcome = match result {
            '+' => Outcome::Passed,
            '-' => failed("refused"),
            _ => Outcome::NotRun("no bus".into()),
        };
        let (next, act) = step(&health, &standing, 0, outcome, Duration::from_secs(second));
        standing = next;
        match act {
            Some(Act::End(stand)) => {
                assert_eq!(stand.not_alive.as_deref(), Some("tcp:80: refused"));
                assert!(stand.ready, "nothing is said about its readiness");
                ended.push(second);
            }
            Some(Act::Tell(stand)) => panic!("{stand:?}"),
            None => {}
        }
    }
    ended
}

#[test]
fn a_unit_no_longer_works_after_failures_in_a_row_that_count() {
    for (grace, fall, results, expected) in [
        // It never works: its grace ends, and then the failures count.
        (5, 3, "-------", vec![7]),
        (5, 3, "------", vec![]),
        (0, 3, "---", vec![3]),
        // A slow starter that works in time.
        (5, 3, "----+---", vec![8]),
        (5, 3, "-----+--+--", vec![]),
        // One pass ends its grace.
        (60, 3, "+---", vec![4]),
        (60, 1, "-+-", vec![3]),
        (60, 3, "+--+--+--", vec![]),
        // What isn't run neither counts nor interrupts a row.
        (60, 3, "+????????", vec![]),
        (60, 3, "+-?-?-", vec![6]),
        // It outlives the signal.
        (60, 2, "+-----", vec![3, 5]),
    ] {
        assert_eq!(ended_at(grace, fall, results), expected, "{grace} {fall} {results}");
    }
}

#[test]
fn ready_and_live_are_counted_apart() {
    let health = Health { ready: vec![tcp(80)], live: vec![tcp(81), tcp(82)], fall: 2, ..Health::default() };
    let mut standing = Standing::new(&health, true);
    let mut apply = |at, outcome| {
        let (next, act) = step(&health, &standing, at, outcome, LONG_AGO);
        standing = next;
        act
    };
    assert_eq!(apply(0, failed("a")), None);
    assert_eq!(apply(1, failed("b")), None);
    assert_eq!(apply(2, failed("c")), None, "each probe has its own row");
    assert_eq!(apply(0, failed("a")), Some(Act::Tell(stand(false, "tcp:80: a"))));
    assert_eq!(apply(1, Outcome::Passed), None);
    let not_alive = Some("tcp:82: c".into());
    assert_eq!(apply(2, failed("c")), Some(Act::End(Stand { not_alive, ..stand(false, "tcp:80: a") })));
    assert_eq!(apply(3, failed("d")), None, "there is no such probe");
    // It outlived the signal, and works again as soon as the same probe passes.
    assert_eq!(apply(1, Outcome::Passed), None);
    assert_eq!(apply(2, failed("c")), None);
    assert_eq!(apply(2, Outcome::Passed), Some(Act::Tell(stand(false, "tcp:80: a"))));
}

#[test]
fn all_of_ready_must_pass_and_the_first_that_fails_is_named() {
    let health = Health { ready: vec![tcp(80), tcp(81)], fall: 1, ..Health::default() };
    let mut standing = Standing::new(&health, false);
    let mut apply = |at, outcome| told(&health, &mut standing, at, outcome);
    assert_eq!(apply(0, Outcome::Passed), None);
    assert_eq!(apply(1, failed("refused")), Some(stand(false, "tcp:81: refused")));
    assert_eq!(apply(1, failed("refused")), None, "nothing has changed");
    assert_eq!(apply(1, failed("no answer")), Some(stand(false, "tcp:81: no answer")));
    assert_eq!(apply(1, Outcome::Passed), Some(stand(true, "")));
    assert_eq!(apply(0, failed("a")), Some(stand(false, "tcp:80: a")));
    assert_eq!(apply(1, failed("b")), None, "one is named");
    assert_eq!(apply(0, Outcome::Passed), Some(stand(false, "tcp:81: b")));
    assert_eq!(apply(7, Outcome::Passed), None, "there is no such probe");
}

#[test]
fn probes_are_made_often_until_they_pass_and_then_at_the_units_own_moment() {
    let health = Health { ready: vec![tcp(80)], ..Health::default() };
    let (now, seed) = (Duration::from_secs(1002), 1_234_567_890);
    let new = Standing::new(&health, false);
    let proven = Standing::new(&health, true);
    let wait = |standing: &Standing, since_start| {
        next(&health, standing, 0, now, Duration::from_secs(since_start), seed) - now
    };
    let regular = Duration::from_secs(4);
    assert_eq!(wait(&new, 0), Duration::from_millis(250));
    assert_eq!(wait(&new, 60), regular, "not for ever");
    let command = Health { ready: vec!["exec:/bin/a".parse().unwrap()], ..Health::default() };
    assert_eq!(next(&command, &new, 0, now, Duration::ZERO, seed) - now, Duration::from_secs(1));
    assert_eq!(wait(&proven, 0), regular);
    let again = next(&health, &proven, 0, now + regular, LONG_AGO, seed);
    assert_eq!(again, now + regular + Duration::from_secs(5));
    let soon = first(&health, &new, 0, now, seed) - now;
    assert!(soon <= Duration::from_millis(50), "{soon:?}");
    assert_eq!(first(&health, &proven, 0, now, seed), now + regular);
}

#[test]
fn a_thousand_units_are_spread_over_the_interval_and_probed_together_at_each_moment() {
    for (interval, group) in [(1, 100), (5, 500), (60, 500)] {
        let (interval, group) = (Duration::from_secs(interval), Duration::from_millis(group));
        let health = Health { ready: vec![tcp(80)], interval, ..Health::default() };
        let standing = Standing::new(&health, true);
        let mut groups = vec![0; usize::try_from(interval.as_nanos() / group.as_nanos()).unwrap()];
        for number in 0..1000 {
            let seed = seed(&format!("web@{number}.service"));
            let at = next(&health, &standing, 0, Duration::ZERO, LONG_AGO, seed);
            assert!(at > Duration::ZERO && at <= interval);
            assert_eq!(at.as_nanos() % group.as_nanos(), 0);
            groups[usize::try_from((at.as_nanos() - 1) / group.as_nanos()).unwrap()] += 1;
        }
        let fair = 1000 / groups.len();
        assert!(groups.iter().all(|count| (fair / 4..=fair * 3).contains(count)), "{groups:?}");
    }
}
