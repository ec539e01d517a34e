//! Units are asked to move. No leader is there, so that nothing moves.

use super::OK;
use super::real::Real;

const N1: &str = "a2d7e4a6000000000000000000000001";
const N2: &str = "b2d7e4a6000000000000000000000002";

#[test]
fn what_can_move_is_planned_and_asked_and_the_rest_is_refused_with_the_reason() {
    let fleetd = Real::new();
    fleetd.host(N1);
    fleetd.host(N2);
    let bound = OK.to_owned() + "[X-Fleet]\nMachineID=a2d7e4a6\n";
    let sticky = OK.to_owned() + "[X-Fleet]\nMoveAfterSec=infinity\n";
    for (unit, text) in [("a.service", OK), ("b.service", &bound), ("db.service", &sticky)] {
        std::fs::write(fleetd.dir.path().join(unit), text).unwrap();
        fleetd.run(&format!("start --no-block {unit}"));
        fleetd.place(unit, N1, "active");
    }
    let plan = fleetd.run("move a b2d7 --plan");
    assert_eq!(plan.code, Some(3), "{}{}", plan.out, plan.err);
    assert!(plan.out.contains("a.service"), "{}", plan.out);
    for (line, said) in [
        ("move b b2d7", "move b.service: doesn't fit "),
        ("move b.service a.service", "move b.service: fits no other host\n"),
        ("move db.service", "(MoveAfterSec=infinity): name the host to move to, or use --force\n"),
        ("move a n7", "no host n7 is known\n"),
        ("move x.service b2d7", "x.service"),
    ] {
        let refused = fleetd.run(line);
        assert_eq!(refused.code, Some(1), "{line}: {}", refused.out);
        assert!(
            refused.err.contains(said) && refused.err.ends_with("nothing was changed\n"),
            "{line}: {}",
            refused.err
        );
    }
    let there = fleetd.run("move a a2d7");
    assert_eq!((there.code, there.err.as_str()), (Some(0), ""), "{}", there.out);
    assert!(there.out.starts_with("  a.service  is on ") && there.out.ends_with(" already\n"), "{}", there.out);
    let asked = fleetd.run("move a db --to b2d7 --no-block");
    assert_eq!(asked.code, Some(0), "{}{}", asked.out, asked.err);
    assert_eq!(asked.out, "  a.service  is asked to move\n  db.service  is asked to move\n");
}
