//! What is said of a change of a small cluster, and that all of it follows from the change.

use std::sync::Arc;

use super::*;
use crate::model::file::UnitFile;
use crate::model::machine::Machine;
use crate::model::placement::Constraints;
use crate::model::revision::Revision;
use crate::model::rollout::{MemberName, Phase};
use crate::model::unit::{Desired, Unit};

fn id(at: u64) -> MachineId {
    format!("{at:08x}{at:024x}").parse().unwrap()
}

fn name(text: &str) -> UnitName {
    text.parse().unwrap()
}

/// A record and its file: the unit, its program, other sections, and its desired state.
type Asked<'a> = (&'a str, &'a str, &'a str, Desired);

const LAUNCHED: Desired = Desired::Launched;
const MEMBERS: u32 = 3;

/// The changes of the store for what is asked at a revision.
fn changes(asked: &[Asked<'_>], at: Revision) -> Vec<Change> {
    let one = |(unit, program, sections, desired): &Asked<'_>| {
        let text = format!("[Service]\nExecStart=/bin/{program}\n{sections}\n");
        let file = UnitFile::parse(text.as_bytes()).unwrap();
        let value = Arc::new(Constraints::parse(&file).unwrap());
        // All sets here have as many members, and those of riders.
        let replicas = value.replicas.as_ref().map(|replicas| replicas.number().unwrap_or(MEMBERS));
        let replicas = replicas.filter(|_| name(unit).is_template());
        let record = Unit { replicas, ..Unit::new(*desired, file.hash(), at) };
        let file = Change::File(file.hash(), Some(Versioned { value, revision: at }));
        [file, Change::Unit(name(unit), Some(record))]
    };
    asked.iter().flat_map(one).collect()
}

/// A cluster of three hosts that has these units, and has settled.
fn cluster(asked: &[Asked<'_>]) -> Cluster {
    settled(empty(), changes(asked, Revision(10)))
}

/// The three hosts.
fn empty() -> Cluster {
    let mut cluster = Cluster { revision: Revision(10), ..Cluster::default() };
    for at in 1..=3 {
        cluster.machines.insert(id(at), Machine::new(id(at), format!("n{at}")));
    }
    cluster
}

fn present(cluster: Cluster) -> Present {
    Present { cluster, unreadable: BTreeSet::new(), brake: Brake::off(), now: 1_000_000 }
}

/// The cluster after `changes`, when everything is done. Units behind gates have their gates' files.
fn settled(cluster: Cluster, changes: Vec<Change>) -> Cluster {
    let mut world = World::of(present(cluster), &changes);
    changes.into_iter().for_each(|change| world.tell(change));
    assert!(world.go_on());
    world.scheduler.cluster().clone()
}

fn of(cluster: &Cluster, asked: &[Asked<'_>]) -> Forecast {
    let changes = changes(asked, cluster.revision.next());
    let forecast = forecast(present(cluster.clone()), changes);
    assert!(forecast.is_complete);
    forecast
}

/// `web.service placed 1`, `a.service moves 1 2`: what happens, and on which hosts.
fn lines(forecast: &Forecast) -> Vec<String> {
    let short = |host: &MachineId| host.as_str().trim_start_matches('0').chars().next().unwrap_or('0');
    let mut lines = Vec::new();
    for (name, effects) in &forecast.units {
        for effect in effects {
            let what = format!("{:?}", effect.what).to_lowercase();
            let hosts = effect.from.iter().chain(&effect.host).map(short);
            let hosts: String = hosts.map(|host| format!(" {host}")).collect();
            lines.push(format!("{name} {what}{hosts}"));
        }
    }
    lines
}

#[test]
fn what_happens_is_said_and_nothing_else() {
    let (loaded, inactive) = (Desired::Loaded, Desired::Inactive);
    let before = [
        ("a.service", "a", "", LAUNCHED),
        ("b.service", "b", "", loaded),
        ("c.service", "c", "", LAUNCHED),
        ("g.service", "g", "[X-Fleet]\nGlobal=true", LAUNCHED),
    ];
    let on_first = "[X-Fleet]\nMachineID=00000001000000000000000000000001";
    let nowhere = "[X-Fleet]\nMachineMetadata=zone=none";
    let evicts = "[X-Fleet]\nReplaces=a.service";
    let cluster = cluster(&before);
    for (asked, expected) in [
        (&before[..], &[][..]),
        (&[("d.service", "d", "", inactive)], &[]),
        (&[("d.service", "d", "", LAUNCHED)], &["d.service placed 1"]),
        (&[("d.service", "d", "", loaded)], &["d.service loaded 1"]),
        (&[("d.service", "d", nowhere, LAUNCHED)], &["d.service waits"]),
        (&[("b.service", "b", "", LAUNCHED)], &["b.service starts 2"]),
        (&[("b.service", "other", "", loaded)], &["b.service rewritten 2"]),
        (&[("a.service", "other", "", LAUNCHED)], &["a.service restarts 1"]),
        (&[("a.service", "a", on_first, LAUNCHED)], &["a.service rewritten 1"]),
        (&[("c.service", "c", on_first, LAUNCHED)], &["c.service moves 3 1"]),
        (&[("c.service", "c", nowhere, LAUNCHED)], &["c.service leaves 3", "c.service waits"]),
        (&[("a.service", "a", "", loaded)], &["a.service stops 1"]),
        (&[("a.service", "a", "", inactive)], &["a.service leaves 1"]),
        (&[("b.service", "b", "", inactive)], &["b.service unloaded 2"]),
        (&[("e.service", "e", evicts, LAUNCHED)], &["a.service moves 1 2", "e.service placed 1"]),
        (
            &[("g.service", "g", "[X-Fleet]\nGlobal=true\nConflicts=c.service", LAUNCHED)],
            &["g.service rewritten 1", "g.service rewritten 2", "g.service leaves 3"],
        ),
    ] {
        assert_eq!(lines(&of(&cluster, asked)), expected, "{asked:?}");
    }
}

#[test]
fn a_unit_that_is_destroyed_leaves_and_makes_room() {
    let alone = "[X-Fleet]\nConflicts=*";
    let units: Vec<Asked<'_>> =
        ["a.service", "b.service", "c.service", "d.service"].map(|unit| (unit, "x", alone, LAUNCHED)).to_vec();
    let cluster = cluster(&units);
    let destroy = vec![Change::Unit(name("b.service"), None)];
    let forecast = forecast(present(cluster), destroy);
    assert_eq!(lines(&forecast), ["b.service leaves 2", "d.service placed 2"]);
    assert_eq!(forecast.units[&name("b.service")][0].why.as_deref(), Some("it was destroyed"));
}

/// A unit that is to be started anyway, because the leader hasn't seen it yet, isn't the change's doing.
#[test]
fn what_is_under_way_is_left_out() {
    let mut cluster = cluster(&[("a.service", "a", "", LAUNCHED)]);
    changes(&[("late.service", "late", "", LAUNCHED)], Revision(11)).into_iter().for_each(|c| cluster.apply(c));
    cluster.revision = Revision(11);
    assert_eq!(lines(&of(&cluster, &[("a.service", "b", "", LAUNCHED)])), ["a.service restarts 1"]);
    assert_eq!(lines(&of(&cluster, &[])), Vec::<String>::new());
}

fn set<'a>(program: &'a str, sections: &'a str) -> [Asked<'a>; 4] {
    let member = |unit| (unit, program, sections, LAUNCHED);
    let template = ("web@.service", program, sections, Desired::Inactive);
    [template, member("web@1.service"), member("web@2.service"), member("web@3.service")]
}

#[test]
fn a_rollout_says_its_order_and_how_many_stay_ready() {
    const SET: &str = "[X-Fleet]\nReplicas=3\n[X-Rollout]\nHealthySec=5\nDeadlineSec=60";
    let cluster = cluster(&set("old", SET));
    let sections = |more: &str| format!("{SET}\n{more}");
    let minutes = |number: u64| Some(std::time::Duration::from_secs(60 * number));
    for (more, steps, held, least, phase, longest) in [
        ("", &[&[3][..], &[2], &[1]][..], &[][..], 2, Phase::Done, minutes(3)),
        ("Parallel=2", &[&[3, 2], &[1]], &[], 1, Phase::Done, minutes(2)),
        ("Parallel=3", &[&[3, 2, 1]], &[], 0, Phase::Done, minutes(1)),
        ("Canary=1", &[&[3]], &[1, 2], 2, Phase::Waiting, None),
        ("Canary=1\nPromote=60\nParallel=2", &[&[3], &[2, 1]], &[], 1, Phase::Done, minutes(3)),
    ] {
        let sections = sections(more);
        let forecast = of(&cluster, &set("new", &sections));
        let course = &forecast.rollouts[&name("web@.service")];
        let numbers = |names: &[MemberName]| names.iter().filter_map(MemberName::number).collect::<Vec<u32>>();
        let mut found: Vec<Vec<u32>> = course.steps.iter().map(|step| numbers(step)).collect();
        // Who gets it together has no order.
        found.iter_mut().for_each(|step| step.sort_by_key(|number| std::cmp::Reverse(*number)));
        assert_eq!((found.as_slice(), numbers(&course.held)), (&*steps_of(steps), held.to_vec()), "{more}");
        assert_eq!((course.least_ready, course.phase, course.longest), (least, phase, longest), "{more}");
        let restarts = lines(&forecast);
        assert_eq!(restarts.len(), steps.concat().len(), "{more}: {restarts:?}");
        assert!(restarts.iter().all(|line| line.contains(" restarts ")), "{more}: {restarts:?}");
    }
}

/// A member and the unit that rides with it get their files in one step, also if only the rider's file is another one.
#[test]
fn riders_are_rolled_out_with_their_leads() {
    const SET: &str = "[X-Fleet]\nReplicas=3\n[X-Rollout]\nHealthySec=5\nDeadlineSec=60";
    const RIDER: &str = "[X-Fleet]\nReplicas=web@.service\nMachineOf=web@%i.service";
    let rider = |program| {
        let member = |unit| (unit, program, RIDER, LAUNCHED);
        let template = ("web-log@.service", program, RIDER, Desired::Inactive);
        [template, member("web-log@1.service"), member("web-log@2.service"), member("web-log@3.service")]
    };
    // The record of a lead names its riders.
    let ridden = |asked: &[Asked<'_>], at| {
        let mut changes = changes(asked, at);
        for change in &mut changes {
            if let Change::Unit(unit, Some(record)) = change
                && *unit == name("web@.service")
            {
                record.riders = Some(Box::new([name("web-log@.service")].into()));
            }
        }
        changes
    };
    let old = [set("old", SET), rider("old")].concat();
    let cluster = settled(empty(), ridden(&old, Revision(10)));
    let both = ["web", "web-log"].as_slice();
    for (asked, moved) in [
        ([set("new", SET), rider("new")].concat(), both),
        (set("new", SET).to_vec(), &both[..1]),
        (rider("new").to_vec(), &both[1..]),
    ] {
        let forecast = forecast(present(cluster.clone()), ridden(&asked, cluster.revision.next()));
        let names: Vec<&UnitName> = forecast.rollouts.keys().collect();
        assert_eq!(names, [&name("web@.service")]);
        let course = &forecast.rollouts[&name("web@.service")];
        let step = |step: &Vec<MemberName>| step.iter().map(|member| member.unit.to_string()).collect::<BTreeSet<_>>();
        let found: Vec<BTreeSet<String>> = course.steps.iter().map(step).collect();
        let wanted = [3, 2, 1].map(|at| moved.iter().map(|unit| format!("{unit}@{at}.service")).collect());
        assert_eq!((found, course.least_ready, course.phase), (wanted.to_vec(), 2, Phase::Done), "{moved:?}");
        let restarts = lines(&forecast);
        assert_eq!(restarts.len(), 3 * moved.len(), "{restarts:?}");
        assert!(restarts.iter().all(|line| line.contains(" restarts ")), "{restarts:?}");
    }
}

/// As with sets; a host that doesn't have the unit is none of its members.
#[test]
fn a_global_unit_is_rolled_out_host_by_host() {
    const AGENT: &str = "[X-Fleet]\nGlobal=true\nConflicts=apart.service\n[X-Rollout]\nHealthySec=5\nDeadlineSec=60";
    let apart = ("apart.service", "apart", "[X-Fleet]\nMachineID=00000003000000000000000000000003", LAUNCHED);
    for (units, more, steps, held, least, phase) in [
        (&[][..], "", &[&[1][..], &[2], &[3]][..], &[][..], 2, Phase::Done),
        (&[], "Parallel=2", &[&[1, 2], &[3]], &[], 1, Phase::Done),
        (&[], "Canary=1", &[&[1]], &[2, 3], 2, Phase::Waiting),
        (&[apart], "", &[&[1], &[2]], &[], 1, Phase::Done),
    ] {
        let agent = |program, sections| ("agent.service", program, sections, LAUNCHED);
        let cluster = cluster(&[units, &[agent("old", AGENT)]].concat());
        let sections = format!("{AGENT}\n{more}");
        let forecast = of(&cluster, &[agent("new", &sections)]);
        let course = &forecast.rollouts[&name("agent.service")];
        let host = |member: &MemberName| member.host.as_ref()?.short().parse::<u32>().ok();
        let hosts = |members: &[MemberName]| members.iter().filter_map(host).collect::<Vec<u32>>();
        let found: Vec<Vec<u32>> = course.steps.iter().map(|step| hosts(step)).collect();
        assert_eq!((found.as_slice(), hosts(&course.held)), (&*steps_of(steps), held.to_vec()), "{more}");
        assert_eq!((course.least_ready, course.phase), (least, phase), "{more}");
        let restarts = steps.concat().iter().map(|host| format!("agent.service restarts {host}")).collect::<Vec<_>>();
        assert_eq!(lines(&forecast), restarts, "{more}");
    }
}

fn steps_of(steps: &[&[u32]]) -> Vec<Vec<u32>> {
    steps.iter().map(|step| step.to_vec()).collect()
}

#[test]
fn a_set_whose_new_file_fits_nowhere_stays_as_it_is() {
    const SET: &str = "[X-Fleet]\nReplicas=3";
    let cluster = cluster(&set("old", SET));
    let forecast = of(&cluster, &set("new", "[X-Fleet]\nReplicas=3\nMachineMetadata=zone=none"));
    let course = &forecast.rollouts[&name("web@.service")];
    assert_eq!((lines(&forecast), course.steps.len(), course.phase), (vec![], 0, Phase::Reverted));
    assert!(course.why.as_deref().is_some_and(|why| why.contains("fits no host")), "{course:?}");
}

#[test]
fn only_other_sections_of_a_set_restart_nothing() {
    let cluster = cluster(&set("web", "[X-Fleet]\nReplicas=3"));
    let forecast = of(&cluster, &set("web", "[X-Fleet]\nReplicas=3\n[X-Rollout]\nParallel=2"));
    assert_eq!(forecast.rollouts, BTreeMap::new());
    let written = ["web@1.service rewritten 3", "web@2.service rewritten 2", "web@3.service rewritten 1"];
    let mut lines = lines(&forecast);
    lines.iter_mut().for_each(|line| line.truncate(written[0].len() - 2));
    assert_eq!(lines, written.map(|line| &line[..line.len() - 2]));
}

#[test]
fn units_whose_records_cannot_be_read_stay() {
    let mut cluster = cluster(&[("a.service", "a", "[X-Fleet]\nConflicts=*", LAUNCHED)]);
    cluster.units.remove(&name("a.service"));
    let unreadable = BTreeSet::from([name("a.service")]);
    let changes = changes(&[("b.service", "b", "", LAUNCHED)], cluster.revision.next());
    let forecast = forecast(Present { unreadable, ..present(cluster) }, changes);
    assert_eq!(lines(&forecast), ["b.service placed 2"], "beside it nothing fits");
}
