//! The whole explanation of units, case by case, and the lines of files from which misfits come.

use super::super::drain::tests::{Bench, drain, id, name};
use super::super::fit::Misfit;
use super::line::{Lines, declared_by};
use super::*;
use crate::model::file::UnitFile;

impl Bench {
    fn account(&mut self, unit: &str) -> Account {
        let before = self.scheduler.cluster().clone();
        let account = account(&mut self.scheduler, &name(unit));
        assert_eq!(*self.scheduler.cluster(), before, "it is as it was");
        account
    }
}

/// `n1: …; …`, host by host.
fn told(account: &Account) -> Vec<String> {
    let one = |stand: &HostStand| {
        let obstacles = stand.obstacles.iter().map(|it| format!("{}: {}", it.unit, it.misfit));
        format!("{} {}", stand.host.short().trim_start_matches('0'), obstacles.collect::<Vec<_>>().join("; "))
    };
    account.hosts.iter().map(one).collect()
}

#[test]
fn a_unit_that_waits_is_told_every_rule_of_every_host() {
    let mut bench = Bench::new(2);
    bench.start(&[("db.service", ""), ("web@1.service", "Conflicts=web@*"), ("web@2.service", "Conflicts=web@*")]);
    bench.settle();
    bench.start(&[("web@3.service", "Conflicts=web@*\nMachineMetadata=gpu=yes")]);
    bench.drain(2, drain(|_| {}));
    let account = bench.account("web@3.service");
    assert_eq!((&account.standing, account.since.is_some()), (&Standing::Waiting, true));
    let told = told(&account);
    let both = "1 web@3.service: no metadata gpu, wanted yes; web@3.service: conflicts with";
    assert!(told[0].starts_with(both), "{told:?}");
    assert!(told[1].starts_with("2 web@3.service: drained"), "{told:?}");
    assert!(!account.fits_somewhere() && account.place.is_none());
}

#[test]
fn what_must_be_with_it_counts_too() {
    let mut bench = Bench::new(1);
    bench.start(&[("a.service", "MachineMetadata=gpu=yes"), ("b.service", "MachineOf=a.service")]);
    bench.settle();
    let account = bench.account("b.service");
    assert_eq!(account.with, [name("a.service")]);
    assert_eq!(told(&account), ["1 a.service: no metadata gpu, wanted yes"]);
    assert_eq!(bench.account("a.service").with, [], "it can be placed alone");
}

#[test]
fn a_unit_that_runs_is_told_what_decided() {
    let mut bench = Bench::new(3);
    bench.start(&[("a.service", ""), ("b.service", "MachineOf=a.service"), ("x.service", "MachineMetadata=zone=z")]);
    bench.settle();
    let account = bench.account("a.service");
    let place = account.place.unwrap();
    let runner_up =
        Because::Compared { by: "equal, but for the machine id".into(), runner_up: id(2), is_better: false };
    assert_eq!((place.host, place.with, place.because), (id(1), vec![name("b.service")], runner_up));
    assert_eq!(account.moves, ["n1 is gone", "n1 is drained", "a person moves it (`fleetctl move`)"]);
    let b = bench.account("b.service");
    assert!(b.moves.contains(&"a.service moves (MachineOf=)".into()));
}

#[test]
fn better_hosts_that_do_not_fit_are_passed_over() {
    let mut bench = Bench::new(3);
    bench.start(&[("a.service", "Conflicts=q.service"), ("b.service", "Conflicts=q.service"), ("c.service", "")]);
    bench.start(&[("c2.service", "MachineOf=c.service"), ("q.service", "Conflicts=a.service b.service")]);
    bench.settle();
    let place = bench.account("q.service").place.unwrap();
    assert_eq!((place.host, place.because, place.passed_in_all), (id(3), Because::OnlyHost, 2));
    assert!(place.passed[0].obstacles[0].misfit.to_string().starts_with("conflicts with a.service"));
}

#[test]
fn a_line_is_found_however_it_is_spelled() {
    let text = "[Service]\nExecStart=/bin/true\n[X-Fleet]\nMachineMetadata=disk=ssd\n\
                X-ConditionMachineMetadata=\"zone=a\"\nMachineMetadata=!gpu\nMachineOf=%p-data@%i.service\n\
                Conflicts=a.service \\\n  %p@*\nMemory=1G\nPort=80 443\n";
    let file = UnitFile::parse(text.as_bytes()).unwrap();
    let unit = name("web@1.service");
    let condition = |key: &str| {
        let file = UnitFile::parse(format!("[X-Fleet]\nMachineMetadata={key}\n").as_bytes()).unwrap();
        let constraints = crate::model::placement::Constraints::parse(&file).unwrap();
        constraints.conditions.into_iter().next().unwrap()
    };
    let metadata = |key: &str| Misfit::Metadata { key: key.into(), found: None, wanted: ["a".into()].into() };
    let conflict = |declared_there| Misfit::Conflict {
        with: name("web@2.service"),
        glob: "web@*".parse().unwrap(),
        declared_there,
        leaving: false,
    };
    for (misfit, expected) in [
        (metadata("zone"), Some(5)),
        (metadata("disk"), Some(4)),
        (metadata("rack"), None),
        (Misfit::Condition { asked: condition("!gpu"), found: Some("1".into()) }, Some(6)),
        (Misfit::MachineOf { peer: "web-data@1.service".into(), placed: false }, Some(7)),
        (conflict(false), Some(8)),
        (Misfit::Port { port: "443".parse().unwrap(), of: name("b.service"), leaving: false }, Some(11)),
        (Misfit::Cordoned { asked: "cordoned".into() }, None),
    ] {
        assert_eq!(Lines::of(&file, &unit).find(&misfit).map(|option| option.line), expected, "{misfit}");
    }
    assert_eq!(declared_by(&unit, &conflict(true)), Some(&name("web@2.service")));
    assert_eq!(declared_by(&unit, &conflict(false)), Some(&unit));
}

#[test]
fn a_global_unit_is_told_where_it_is_not() {
    let mut bench = Bench::new(2);
    bench.start(&[("g.service", "Global=true\nMachineMetadata=zone=a")]);
    let account = bench.account("g.service");
    assert_eq!(account.standing, Standing::Everywhere { on: 1, of: 2 });
    assert_eq!(told(&account), ["2 g.service: metadata zone is b, wanted a"]);
    assert!(!account.fits_somewhere());
}
