//! Hosts are drained and undrained. No leader is there, so that nothing leaves.

use super::OK;
use super::real::Real;

const N1: &str = "a2d7e4a6000000000000000000000001";
const N2: &str = "b2d7e4a6000000000000000000000002";

#[test]
fn hosts_are_drained_and_undrained() {
    let fleetd = Real::new();
    fleetd.host(N1);
    let alone = fleetd.run("drain a2d7");
    assert!(alone.err.contains(": that is every host; nothing would fit\n"), "{}", alone.err);
    assert_eq!(alone.code, Some(1));
    fleetd.host(N2);
    let both = fleetd.run("drain a2d7 b2d7");
    assert!(both.err.contains(": that is every host; nothing would fit\n"), "{}", both.err);
    let drained = fleetd.run("drain a2d7 --why kernel");
    assert_eq!((drained.code, drained.err.as_str()), (Some(0), ""));
    assert!(drained.out.contains(", a2d7e4a6) is drained\n") && drained.out.ends_with(": 0 units left\n"));
    assert!(fleetd.run("drain a2d7 --no-block").out.ends_with(" is drained already\n"));
    let rows = fleetd.run("list-machines --no-legend --fields=state,drain").out;
    assert!(rows.starts_with("drained since ") && rows.contains(": kernel"), "{rows}");
    // Nothing takes the units of the other one any more.
    let rest = fleetd.run("drain b2d7");
    assert!(rest.err.contains(": that is every host; nothing would fit\n"), "{}", rest.err);
    let not_cordoned = fleetd.run("uncordon a2d7").out;
    assert!(not_cordoned.contains(" isn't cordoned but drained; `fleetctl undrain "), "{not_cordoned}");
    fleetd.run("cordon a2d7");
    assert!(fleetd.run("undrain a2d7").out.ends_with(" is no longer drained; it stays cordoned\n"));
    let again = fleetd.run("undrain a2d7");
    assert!(again.err.contains(": it isn't drained\n") && again.code == Some(1), "{}", again.err);
}

#[test]
fn a_drain_is_planned_and_what_stays_is_named() {
    let fleetd = Real::new();
    fleetd.host(N1);
    fleetd.host(N2);
    std::fs::write(fleetd.dir.path().join("a.service"), OK).unwrap();
    std::fs::write(fleetd.dir.path().join("b.service"), OK.to_owned() + "[X-Fleet]\nMachineID=a2d7e4a6\n").unwrap();
    for unit in ["a.service", "b.service"] {
        fleetd.run(&format!("start --no-block {unit}"));
        fleetd.place(unit, N1, "active");
    }
    let plan = fleetd.run("drain a2d7 --plan");
    assert_eq!(plan.code, Some(3), "{}{}", plan.out, plan.err);
    assert!(plan.out.contains("a.service") && !plan.out.contains("b.service"), "{}", plan.out);
    assert!(fleetd.run("list-machines --no-legend --fields=state").out.starts_with("up\n"), "nothing was changed");
    fleetd.run("destroy --no-block --yes a.service");
    fleetd.take_away("a.service", N1);
    let stays = fleetd.run("drain a2d7 --why kernel");
    assert_eq!(stays.code, Some(1), "{}{}", stays.out, stays.err);
    let lines = "  b.service  stays: fits no other host (--force stops it nevertheless)\n";
    assert!(stays.out.contains(lines) && stays.out.contains("wants machine a2d7e4a6\n"), "{}", stays.out);
}

#[test]
fn what_comes_back_is_planned_and_what_stays_away_is_named() {
    let fleetd = Real::new();
    fleetd.host(N1);
    fleetd.host(N2);
    fleetd.run("drain a2d7 --no-block");
    assert_eq!(fleetd.run("undrain a2d7 --plan").code, Some(0), "nothing would happen");
    assert!(fleetd.run("undrain a2d7 --restore").out.ends_with(": 0 units back\n"));
    let again = fleetd.run("undrain a2d7");
    assert!(again.err.contains(": it isn't drained\n") && again.code == Some(1), "{}", again.err);
    // What is left may be tried again.
    assert_eq!(fleetd.run("undrain a2d7 --restore").code, Some(0));
    assert_eq!(fleetd.run("undrain a2d7 --parallel 3").code, Some(2), "without --restore");
}
