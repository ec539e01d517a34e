//! One small cluster, every rule: what fits and the sentence for what doesn't.

use super::*;
use crate::model::author::Author;
use crate::model::cluster::Versioned;
use crate::model::file::UnitFile;
use crate::model::machine::Machine;
use crate::model::maintenance::{Cordon, Maintenance};
use crate::model::name::UnitHash;
use crate::model::unit::{Assignment, Unit};

const N1: &str = "3ec325e8000000000000000000000001";
const N2: &str = "844a981f000000000000000000000002";

struct Table(Cluster);

impl Table {
    fn new() -> Self {
        let mut table = Self(Cluster::default());
        table.host(N1, "n1", &[("zone", "a")]);
        table.host(N2, "n2", &[("zone", "b"), ("disk", "ssd")]);
        table
    }

    fn host(&mut self, id: &str, hostname: &str, metadata: &[(&str, &str)]) {
        let id: MachineId = id.parse().unwrap();
        let metadata = metadata.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        self.0.machines.insert(id.clone(), Machine { metadata, ..Machine::new(id, hostname) });
    }

    /// Submit a unit; its generation is the number of units before it.
    fn unit(&mut self, name: &str, section: &str) -> UnitName {
        let text = format!("[Service]\nExecStart=/bin/true\n[X-Fleet]\n{section}\n");
        let file = UnitFile::parse(text.as_bytes()).unwrap();
        let generation = Revision(self.0.units.len() as u64);
        let unit = Unit::new(Desired::Launched, file.hash(), generation);
        let constraints = Versioned { value: Constraints::parse(&file).unwrap().into(), revision: Revision(1) };
        self.0.files.insert(file.hash(), constraints);
        let name: UnitName = name.parse().unwrap();
        self.0.units.insert(name.clone(), unit);
        name
    }

    fn put(&mut self, name: &str, host: &str, target: Target) {
        let name: UnitName = name.parse().unwrap();
        let hash = self.0.units.get(&name).map_or_else(|| UnitHash::new("0"), |unit| unit.hash.clone());
        let value = Assignment::new(hash, target, Revision(1));
        let assignment = Versioned { value, revision: Revision(1) };
        self.0.schedule.entry(host.parse().unwrap()).or_default().insert(name, assignment);
    }

    fn ask(&self, name: &UnitName, host: &str, stance: Stance) -> String {
        let constraints = self.0.constraints(name).unwrap();
        let host = host.parse().unwrap();
        let question = Question { unit: name, constraints: &constraints, host: &host, stance, with: &[] };
        let misfits = fit(&self.0, &question).err().unwrap_or_default();
        assert_eq!(first_misfit(&self.0, &question).as_ref(), misfits.first());
        misfits.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }
}

#[test]
fn every_rule_says_no_in_its_words() {
    let mut table = Table::new();
    table.unit("web@3.service", "Conflicts=web@*");
    table.unit("db.service", "");
    table.unit("proxy.service", "Replaces=old*");
    table.put("web@3.service", N1, Target::Launched);
    table.put("proxy.service", N1, Target::Launched);
    let cases = [
        ("plain.service", "", N1, ""),
        ("id.service", "MachineID=3ec325e8", N1, ""),
        ("id.service", "MachineID=3ec325e8", N2, "wants machine 3ec325e8"),
        ("meta.service", "MachineMetadata=zone=a zone=c", N1, ""),
        ("meta.service", "MachineMetadata=zone=a zone=c", N2, "metadata zone is b, wanted a or c"),
        (
            "meta.service",
            "MachineMetadata=disk=ssd zone=b",
            N1,
            "no metadata disk, wanted ssd; metadata zone is a, wanted b",
        ),
        ("meta.service", "MachineMetadata=zone!=b !disk zone~?", N1, ""),
        (
            "meta.service",
            "MachineMetadata=zone=b zone!=a",
            N1,
            "metadata zone is a, wanted b; metadata zone is a, wanted any other",
        ),
        (
            "meta.service",
            "MachineMetadata=ram>=64 zone>b",
            N2,
            "no metadata ram, wanted 64 or more; metadata zone is b, wanted more than b",
        ),
        (
            "meta.service",
            "MachineMetadata=zone<b zone<=a",
            N2,
            "metadata zone is b, wanted less than b; metadata zone is b, wanted a or less",
        ),
        (
            "meta.service",
            "MachineMetadata=gpu !zone zone~eu-*",
            N2,
            "no metadata gpu, wanted any; metadata zone is b, wanted eu-*; metadata zone is b, wanted none",
        ),
        ("app.service", "MachineOf=web@3.service", N1, ""),
        ("app.service", "MachineOf=web@3.service", N2, "web@3.service isn't placed there"),
        ("app.service", "MachineOf=db.service", N2, "db.service isn't placed anywhere"),
        ("web@4.service", "", N1, "conflicts with web@3.service, which runs there (Conflicts=web@* of its file)"),
        ("solo.service", "Conflicts=web*", N1, "conflicts with web@3.service, which runs there (Conflicts=web*)"),
        ("solo.service", "Conflicts=web*", N2, ""),
        ("old.service", "", N1, "replaced by proxy.service, which runs there (Replaces=old*)"),
        ("old.service", "Conflicts=db.service", N2, ""),
        ("plain.service", "", "00000000000000000000000000000009", "the host is gone"),
    ];
    for (name, section, host, expected) in cases {
        let unit = table.unit(name, section);
        assert_eq!(table.ask(&unit, host, Stance::Arrive), expected, "{name} {section}");
        table.0.units.remove(&unit);
    }
}

#[test]
fn a_cordoned_host_takes_nobody_who_is_new_there() {
    let mut table = Table::new();
    let by = Some(Box::new(Author { uid: Some(1001), user: "ci".into(), ..Author::default() }));
    let cordon = Some(Cordon { since: 5, why: "kernel".into(), by });
    let value = Versioned { value: Maintenance { cordon, ..Maintenance::default() }, revision: Revision(1) };
    table.0.maintenance.insert(N1.parse().unwrap(), value);
    table.unit("db.service", "");
    table.unit("equipment.service", "Global=true");
    table.put("db.service", N1, Target::Launched);
    table.put("equipment.service", N1, Target::Launched);
    let equipment =
        table.0.schedule.get_mut(&N1.parse::<MachineId>().unwrap()).unwrap().get_mut("equipment.service").unwrap();
    equipment.value.global = true;
    let no = "cordoned by ci: kernel";
    let cases = [
        ("plain.service", "", N1, Stance::Arrive, no),
        ("plain.service", "", N2, Stance::Arrive, ""),
        // It runs there.
        ("plain.service", "", N1, Stance::Stay, ""),
        // It gets another file there.
        ("plain.service", "", N1, Stance::Renewed, ""),
        ("every.service", "Global=true", N1, Stance::Arrive, ""),
        // It must be where the other one stays; a global unit is on other hosts too.
        ("app.service", "MachineOf=db.service", N1, Stance::Arrive, ""),
        ("app.service", "MachineOf=equipment.service", N1, Stance::Arrive, no),
        ("id.service", "MachineID=3ec325e8", N1, Stance::Arrive, no),
        (
            "zone.service",
            "MachineMetadata=zone=b",
            N1,
            Stance::Arrive,
            "cordoned by ci: kernel; metadata zone is a, wanted b",
        ),
    ];
    for (name, section, host, stance, expected) in cases {
        let unit = table.unit(name, section);
        assert_eq!(table.ask(&unit, host, stance), expected, "{name} {section} {stance:?}");
        table.0.units.remove(&unit);
    }
    // One that leaves takes nobody along, and two that arrive together are both new.
    let app = table.unit("app.service", "MachineOf=db.service");
    let (constraints, host, with) =
        (table.0.constraints(&app).unwrap(), N1.parse().unwrap(), ["db.service".parse().unwrap()]);
    let question = Question { unit: &app, constraints: &constraints, host: &host, stance: Stance::Arrive, with: &with };
    assert_eq!(first_misfit(&table.0, &question).map(|misfit| misfit.rule()), Some(Rule::Cordoned));
    table.put("db.service", N1, Target::Removed);
    assert_eq!(table.ask(&app, N1, Stance::Arrive), "cordoned by ci: kernel; db.service isn't placed anywhere");
}

#[test]
fn what_is_leaving_hinders_newcomers_only() {
    let mut table = Table::new();
    table.put("gone.service", N1, Target::Removed);
    let unit = table.unit("a.service", "Conflicts=gone.service");
    assert_eq!(
        table.ask(&unit, N1, Stance::Arrive),
        "conflicts with gone.service, which is still stopping there (Conflicts=gone.service)"
    );
    assert_eq!(table.ask(&unit, N1, Stance::Stay), "");
}

#[test]
fn of_two_that_conflict_the_later_leaves() {
    let mut table = Table::new();
    let (first, later) = (table.unit("b.service", ""), table.unit("a.service", "Conflicts=b.service"));
    table.put("a.service", N1, Target::Launched);
    table.put("b.service", N1, Target::Launched);
    assert_eq!(table.ask(&first, N1, Stance::Stay), "");
    assert!(table.ask(&later, N1, Stance::Stay).starts_with("conflicts with b.service"));
}

#[test]
fn replacing_each_other_ends_with_the_first() {
    let mut table = Table::new();
    let a = table.unit("a.service", "Replaces=b.service");
    let b = table.unit("b.service", "Replaces=a.service");
    assert!(is_effective(&table.0, &a, &b) && !is_effective(&table.0, &b, &a));
    // Round a ring of three, those that point from older to newer count: they end.
    let x = table.unit("x.service", "Replaces=y.service");
    let y = table.unit("y.service", "Replaces=z.service");
    let z = table.unit("z.service", "Replaces=x.service");
    assert!(is_effective(&table.0, &x, &y) && is_effective(&table.0, &y, &z) && !is_effective(&table.0, &z, &x));
    // A ring that a follower closes can't be opened by age.
    let led = table.unit("led.service", "MachineOf=p.service\nReplaces=q.service");
    let q = table.unit("q.service", "");
    table.unit("p.service", "MachineOf=q.service");
    assert!(!is_effective(&table.0, &led, &q));
}

/// Neither a configuration nor a request of an earlier version can stand for it.
#[test]
fn built_in_metadata_is_what_the_host_reports() {
    let mut table = Table::new();
    let unit = table.unit("a.service", "MachineMetadata=@arch=arm64 @arch=riscv64");
    assert_eq!(table.ask(&unit, N1, Stance::Arrive), "no metadata @arch, wanted arm64 or riscv64");
    let host: MachineId = N1.parse().unwrap();
    table.0.metadata.insert(host.clone(), [("@arch".into(), "arm64".into())].into());
    let machine = table.0.machines.get_mut(&host).unwrap();
    machine.metadata.insert("@arch".into(), "arm64".into());
    assert_eq!(table.ask(&unit, N1, Stance::Arrive), "no metadata @arch, wanted arm64 or riscv64");
    table.0.machines.get_mut(&host).unwrap().builtin.insert("@arch".into(), "x86-64".into());
    assert_eq!(table.ask(&unit, N1, Stance::Arrive), "metadata @arch is x86-64, wanted arm64 or riscv64");
    table.0.machines.get_mut(&host).unwrap().builtin.insert("@arch".into(), "riscv64".into());
    assert_eq!(table.ask(&unit, N1, Stance::Arrive), "");
}

#[test]
fn dynamic_metadata_hides_what_is_configured() {
    let mut table = Table::new();
    let unit = table.unit("a.service", "MachineMetadata=zone=a");
    let host: MachineId = N1.parse().unwrap();
    table.0.metadata.insert(host, [("zone".into(), String::new())].into());
    assert_eq!(table.ask(&unit, N1, Stance::Stay), "no metadata zone, wanted a");
}
