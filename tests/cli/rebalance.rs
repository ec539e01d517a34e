//! Units go to hosts that are better for them, after a yes. No leader is there, so that nothing moves.

use super::OK;
use super::real::Real;

const N1: &str = "a2d7e4a6000000000000000000000001";
const N2: &str = "b2d7e4a6000000000000000000000002";

/// Four units on one host, and another host.
fn four() -> Real {
    let fleetd = Real::new();
    fleetd.host(N1);
    for unit in ["a.service", "b.service", "c.service", "web@1.service"] {
        std::fs::write(fleetd.dir.path().join(unit), OK).unwrap();
        fleetd.run(&format!("start --no-block {unit}"));
        fleetd.runs(unit, N1);
    }
    fleetd.named_alike(N2, "n2");
    fleetd
}

const TWO: &str = "HOST  NOW  THEN\nn1    4    2\nn2    0    2\n  a.service  n1 -> n2  units 1 < 4\n  \
                   b.service  n1 -> n2  units 2 < 3\n";

#[test]
fn nothing_moves_without_a_yes() {
    let fleetd = four();
    fleetd.expect("rebalance --plan", 3, TWO, "");
    // There is no terminal to ask at.
    fleetd.expect("rebalance", 1, TWO, "nothing was changed\n--yes moves them without a question\n");
    fleetd.expect("rebalance --plan", 3, TWO, "");
    let plan = fleetd.run("rebalance --plan --output json");
    let plan: serde_json::Value = serde_json::from_str(&plan.out).unwrap();
    assert_eq!((&plan["all"], &plan["moves"][0]["units"]), (&2.into(), &["a.service"].as_slice().into()));
    let asked = "  a.service  is asked to move\n  b.service  is asked to move\n";
    fleetd.expect("rebalance --yes --no-block", 0, &(TWO.to_owned() + asked), "");
    // What was asked is as good as done.
    let nothing = "nothing would be better on another host\n";
    fleetd.expect("rebalance --plan", 0, nothing, "");
    fleetd.expect("rebalance", 0, nothing, "");
    fleetd.expect("rebalance --yes --output json", 0, "[]\n", "");
}

#[test]
fn only_so_many_and_only_these_units() {
    let fleetd = four();
    let one = "HOST  NOW  THEN\nn1    4    3\nn2    0    1\n2 moves in all, 1 of them now (--max-moves)\n  \
               a.service  n1 -> n2  units 1 < 4\n";
    fleetd.expect("rebalance --plan --max-moves 1", 3, one, "");
    for word in ["web@*", "web@1", "web@.service"] {
        let plan = fleetd.run(&format!("rebalance --plan {word}"));
        assert_eq!(plan.code, Some(3), "{}", plan.err);
        assert!(plan.out.ends_with("\n  web@1.service  n1 -> n2  units 1 < 4\n"), "{}", plan.out);
    }
    let unknown = fleetd.run("rebalance x.service --plan");
    assert_eq!((unknown.code, unknown.out.as_str()), (Some(1), ""));
    assert!(unknown.err.ends_with("nothing was changed\n"), "{}", unknown.err);
    assert_eq!(fleetd.run("rebalance --max-moves 0").code, Some(2));
    assert_eq!(fleetd.run("rebalance --yes --plan").code, Some(2));
}

#[test]
fn what_was_asked_before_counts() {
    let fleetd = four();
    let moves = fleetd.run("move a.service --to b2d7 --no-block");
    assert_eq!(moves.code, Some(0), "{}", moves.err);
    // One of them has been asked to move.
    let one = "HOST  NOW  THEN\nn1    4    3\nn2    0    1\n  b.service  n1 -> n2  units 2 < 3\n";
    fleetd.expect("rebalance --plan", 3, one, "");
}

#[test]
fn at_a_terminal_it_is_a_question() {
    let fleetd = four();
    let question = "move these 2? [y/N] ";
    let (code, shown) = fleetd.on_terminal("rebalance --no-block", "\n", question);
    assert_eq!((code, shown.starts_with(TWO)), (Some(1), true), "{shown}");
    assert!(shown.contains(question) && shown.contains("nothing was changed"), "{shown}");
    let (code, shown) = fleetd.on_terminal("rebalance --no-block --max-moves 1", "y\n", "move this one? [y/N] ");
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.ends_with("  a.service  is asked to move\n"), "{shown}");
}

/// Who lets a host take units again may not know that nothing comes by itself.
#[test]
fn a_hint_says_what_a_host_has_that_takes_units_again() {
    let fleetd = four();
    let hint = "hint: n2 has 0 of 4 units: `fleetctl rebalance`\n";
    for (out, back) in [("cordon", "uncordon"), ("drain --no-block", "undrain")] {
        fleetd.run(&format!("{out} b2d7"));
        let (code, shown) = fleetd.on_terminal(&format!("{back} b2d7"), "", "");
        assert!(code == Some(0) && shown.ends_with(hint), "{shown}");
    }
    fleetd.run("cordon a2d7");
    let (_, shown) = fleetd.on_terminal("uncordon a2d7", "", "");
    assert!(!shown.contains("hint"), "{shown}");
    fleetd.run("cordon b2d7");
    assert!(!fleetd.run("uncordon b2d7").err.contains("hint"), "scripts see what they saw before");
}
