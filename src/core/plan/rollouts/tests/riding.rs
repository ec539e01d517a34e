//! Riders in the rollout of their lead: pairs get their files together, count once, and go back together.
//! `joining` has those that are rolled out by themselves for a time.

mod joining;

use super::super::riding::{Turn, Waiting, turn};
use super::*;
use crate::model::rollout::MemberName;
use crate::model::rollout::riding::RiderFiles;
use crate::model::rollout::{Ask, File, Request};
use crate::plan::forecast::{Present, forecast};
use crate::plan::schedule::Brake;

const RIDER: &str = "log@.service";

/// A file of the rider, whose members follow those of the set.
fn log(program: &str) -> UnitFile {
    file(program, "[X-Fleet]\nReplicas=web@.service\nMachineOf=web@%i.service")
}

impl Bench {
    /// A set of three with a rider, launched and settled.
    fn with_rider(mut self, lead: &UnitFile, rider: &UnitFile) -> Self {
        self.ask_set(lead);
        self.name_riders(&[RIDER], lead);
        self.ask_rider(RIDER, rider);
        self.settle();
        self
    }

    /// The record of the set says that these are its riders.
    fn name_riders(&mut self, riders: &[&str], lead: &UnitFile) {
        let riders: BTreeSet<UnitName> = riders.iter().map(|text| name(text)).collect();
        self.ask(SET, lead, |set| set.riders = Some(Box::new(riders)));
    }

    fn ask_rider(&mut self, rider: &str, file: &UnitFile) {
        self.ask(rider, file, |set| (set.desired, set.replicas) = (Desired::Inactive, Some(3)));
        for member in 1..=3 {
            self.ask(name(rider).numbered(member).unwrap().as_str(), file, |_| {});
        }
    }

    /// Of each pair, what its host is told to run, as the names of the programs.
    fn pairs(&self) -> Vec<(UnitHash, UnitHash)> {
        let run = |template: &str, member: u32| {
            launched(&self.store, &name(template).numbered(member).unwrap()).unwrap().1.hash.clone()
        };
        (1..=3).map(|member| (run(SET, member), run(RIDER, member))).collect()
    }

    /// How many pairs are healthy with what their hosts are told.
    fn well(&self) -> usize {
        let is_well = |template: &str, member: u32| {
            let unit = name(template).numbered(member).unwrap();
            let Some((host, assignment)) = launched(&self.store, &unit) else { return false };
            let report = self.store.report(&unit, host);
            report.is_some_and(|report| report.hash == assignment.hash && report.is_healthy(false))
        };
        (1..=3).filter(|member| is_well(SET, *member) && is_well(RIDER, *member)).count()
    }

    /// Everybody does what there is to do, for so many seconds, and at least two pairs are healthy all the time.
    fn two_serve(&mut self, seconds: u64) {
        for _ in 0..seconds * 4 {
            self.decide();
            assert!(self.well() >= 2, "{} pairs, {:#?}", self.well(), self.log);
            self.answer();
            self.now += 250;
        }
        self.settle();
    }

    /// The generations with which the hosts run the members of the set.
    fn generations(&self) -> Vec<Revision> {
        let generation = |member| launched(&self.store, &name(SET).numbered(member).unwrap()).unwrap().1.generation;
        (1..=3).map(generation).collect()
    }
}

fn pairs(lead: &UnitFile, rider: &UnitFile) -> Vec<(UnitHash, UnitHash)> {
    vec![(lead.hash(), rider.hash()); 3]
}

#[test]
fn pairs_get_their_files_together_one_after_another() {
    for restless in [false, true] {
        let mut bench = Bench { restless, ..Bench::new(3) }.with_rider(&web("old"), &log("log1"));
        bench.ask_set(&web("new"));
        bench.ask_rider(RIDER, &log("log2"));
        bench.decide();
        let (old, new) = ((web("old").hash(), log("log1").hash()), (web("new").hash(), log("log2").hash()));
        assert_eq!(bench.pairs(), [old.clone(), old, new]);
        bench.two_serve(30);
        assert_eq!((bench.pairs(), bench.gated().len()), (pairs(&web("new"), &log("log2")), 0));
        assert_eq!((bench.rollout().phase, bench.store.rollouts.len()), (Phase::Done, 1), "{:#?}", bench.log);
        let rider = &bench.rollout().riders[&name(RIDER)];
        assert_eq!((&rider.target, &rider.from.hash), (&log("log2").hash(), &log("log1").hash()));
        assert!(bench.store.files.contains_key(&log("log1").hash()), "it may be needed again");
    }
}

#[test]
fn a_rider_that_fails_takes_its_lead_back() {
    for restless in [false, true] {
        let bad = vec![log("bad").hash()];
        let mut bench = Bench { restless, bad, ..Bench::new(3) }.with_rider(&web("old"), &log("log1"));
        bench.ask_set(&web("new"));
        bench.ask_rider(RIDER, &log("bad"));
        bench.two_serve(30);
        assert_eq!((bench.pairs(), bench.gated().len()), (pairs(&web("old"), &log("log1")), 6), "{:#?}", bench.log);
        let (failed, lines) = (bench.rollout().failed.clone(), bench.rollout().lines.clone());
        assert_eq!((bench.rollout().phase, failed), (Phase::Reverted, Some(name("log@3.service"))));
        assert_eq!(lines, ["web[7]: no such table"]);
        // A file of the rider alone that repairs it is another attempt for both.
        bench.ask_rider(RIDER, &log("log3"));
        bench.two_serve(30);
        assert_eq!((bench.pairs(), bench.gated().len()), (pairs(&web("new"), &log("log3")), 0), "{:#?}", bench.log);
        let rider = &bench.rollout().riders[&name(RIDER)];
        assert_eq!((&bench.rollout().from.hash, &rider.from.hash), (&web("old").hash(), &log("log1").hash()));
    }
}

#[test]
fn a_lead_that_fails_takes_its_rider_back_after_some_were_through() {
    // The first pair is healthy; the second one isn't, with the same files.
    let mut bench = Bench::new(3).with_rider(&web("old"), &log("log1"));
    bench.ask_set(&web("new"));
    bench.ask_rider(RIDER, &log("log2"));
    while bench.pairs()[1].0 == web("old").hash() {
        bench.decide();
        bench.answer();
        bench.now += 250;
    }
    bench.bad.push(web("new").hash());
    bench.pass(30);
    assert_eq!((bench.pairs(), bench.gated().len()), (pairs(&web("old"), &log("log1")), 6), "{:#?}", bench.log);
    assert_eq!(bench.rollout().phase, Phase::Reverted);
    // Tried again, they are let through together.
    bench.bad.clear();
    let generation = bench.store.revision.next();
    let ask = Ask { what: Request::Retry, generation, by: None };
    bench.ask(SET, &web("new"), |set| set.ask = Some(Box::new(ask)));
    bench.two_serve(30);
    assert_eq!(bench.pairs(), pairs(&web("new"), &log("log2")));
}

#[test]
fn a_rider_alone_is_rolled_out_without_its_lead() {
    for (restless, bad) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut bench = Bench { restless, ..Bench::new(3) }.with_rider(&web("old"), &log("log1"));
        bench.bad.extend(bad.then(|| log("log2").hash()));
        let before = bench.generations();
        bench.ask_rider(RIDER, &log("log2"));
        bench.decide();
        assert_eq!(bench.gated(), ["log@1.service", "log@2.service"]);
        bench.two_serve(30);
        assert_eq!(bench.generations(), before, "members of the set go on as they do");
        let (phase, runs) = if bad { (Phase::Reverted, log("log1")) } else { (Phase::Done, log("log2")) };
        assert_eq!((bench.rollout().phase, bench.pairs()), (phase, pairs(&web("old"), &runs)), "{:#?}", bench.log);
        assert_eq!(bench.store.rollouts.len(), 1);
    }
}

/// A member without the rider takes part in the rollout of the rider alone, although that changes nothing of it.
#[test]
fn what_a_rollout_changes_nothing_of_is_not_asked_for_anything_when_that_fails() {
    for restless in [false, true] {
        let mut bench = Bench { restless, ..Bench::new(3) }.with_rider(&web("old"), &log("log1"));
        bench.tell(Change::Unit(name("log@1.service"), None));
        bench.settle();
        let before = bench.generations();
        bench.bad.push(log("bad").hash());
        for (program, phase) in [("bad", Phase::Reverted), ("log3", Phase::Done)] {
            bench.ask(RIDER, &log(program), |set| set.replicas = Some(3));
            for rider in ["log@2.service", "log@3.service"] {
                bench.ask(rider, &log(program), |_| {});
            }
            bench.settle();
            assert_eq!((bench.rollout().phase, bench.generations()), (phase, before.clone()), "{:#?}", bench.log);
        }
    }
}

#[test]
fn what_reads_as_the_new_file_already_goes_back_only_while_enough_others_serve() {
    for restless in [false, true] {
        let bad = vec![log("log1").hash()];
        let mut bench = Bench { restless, ..Bench::new(3) }.with_rider(&web("old"), &log("log1"));
        // One rider has a file of its own, and another one fails where it is.
        let own = file("log2", "[X-Fleet]\nReplicas=web@.service\nMachineOf=web@%i.service\n[X-Note]\nWhy=a trial");
        bench.ask("log@2.service", &own, |_| {});
        bench.settle();
        (bench.bad_on, bench.bad) = (bench.store.placed_on(&name("log@1.service")).cloned(), bad);
        bench.answer();
        assert_eq!(bench.well(), 2);
        // All riders are to have what that file says, and the lead one that fits no host.
        bench.ask_set(&file("new", "[X-Fleet]\nMachineMetadata=zone=c\n[X-Rollout]\nHealthySec=1"));
        bench.ask_rider(RIDER, &log("log2"));
        bench.decide();
        // What its host is told of this rider now stops nothing.
        assert_eq!(bench.pairs()[1], (web("old").hash(), log("log2").hash()), "{:#?}", bench.log);
        bench.answer();
        bench.two_serve(30);
        assert_eq!(bench.rollout().phase, Phase::Stuck, "{:#?}", bench.log);
    }
}

#[test]
fn the_hooks_of_a_lead_run_for_its_own_file() {
    let hooked = |program| file(program, "[X-Rollout]\nHealthySec=1\nBefore=migrate.service");
    let migrate = UnitFile::parse(b"[Service]\nType=oneshot\nExecStart=/bin/migrate").unwrap();
    let mut bench = Bench::new(3).with_rider(&hooked("old"), &log("log1"));
    bench.ask("migrate.service", &migrate, |unit| unit.desired = Desired::Inactive);
    bench.ask_rider(RIDER, &log("log2"));
    bench.two_serve(30);
    assert_eq!((bench.starts.len(), bench.pairs()), (0, pairs(&hooked("old"), &log("log2"))));
    bench.ask_set(&hooked("new"));
    bench.ask_rider(RIDER, &log("log3"));
    bench.two_serve(30);
    assert_eq!((bench.starts.len(), bench.pairs()), (1, pairs(&hooked("new"), &log("log3"))));
}

#[test]
fn a_rider_may_get_its_file_while_the_rollout_goes_on() {
    for (restless, seconds) in [(false, 0), (false, 2), (false, 4), (false, 6), (true, 0), (true, 2), (true, 4)] {
        let mut bench = Bench { restless, ..Bench::new(3) }.with_rider(&web("old"), &log("log1"));
        bench.ask_set(&web("new"));
        bench.pass(seconds);
        bench.decide();
        bench.ask_rider(RIDER, &log("log2"));
        for _ in 0..120 {
            bench.decide();
            // One that was let through alone may be away, but no other beside it.
            assert!(bench.well() >= 2, "{} pairs, {:#?}", bench.well(), bench.log);
            bench.answer();
            bench.now += 250;
        }
        bench.settle();
        assert_eq!(bench.pairs(), pairs(&web("new"), &log("log2")), "after {seconds} s: {:#?}", bench.log);
        let rider = &bench.rollout().riders[&name(RIDER)];
        assert_eq!((bench.rollout().phase, &rider.from.hash), (Phase::Done, &log("log1").hash()));
    }
}

/// The members of a large set are asked for a file in other transactions than their template.
#[test]
fn what_members_go_back_to_is_known_when_their_templates_are_asked_first() {
    let bad = vec![web("new").hash()];
    let mut bench = Bench { bad, ..Bench::new(3) }.with_rider(&web("first"), &log("log0"));
    for (lead, rider) in [(web("old"), log("log1")), (web("new"), log("log2"))] {
        bench.ask(SET, &lead, |_| {});
        bench.ask(RIDER, &rider, |_| {});
        bench.decide();
        for member in 1..=3 {
            bench.ask(&format!("web@{member}.service"), &lead, |_| {});
            bench.ask(&format!("log@{member}.service"), &rider, |_| {});
            bench.decide();
        }
        bench.settle();
    }
    assert_eq!((bench.rollout().phase, bench.pairs()), (Phase::Reverted, pairs(&web("old"), &log("log1"))));
}

/// A leader of an earlier version rolls out riders by themselves, and forgets what the rollout of the lead says of
/// them.
#[test]
fn what_an_earlier_version_has_begun_is_brought_to_its_end() {
    let mut bench = Bench::new(3).with_rider(&web("old"), &log("log1"));
    bench.ask_rider(RIDER, &log("log2"));
    bench.decide();
    // As that version would have it: a rollout of its own, and gates of this.
    let lead = bench.store.rollouts.remove(&name(SET)).unwrap().value;
    let files = lead.riders[&name(RIDER)].clone();
    let own = Rollout { riders: BTreeMap::new(), target: files.target, from: files.from, ..lead };
    bench.store.rollouts.insert(name(RIDER), Versioned { value: own, revision: Revision(9) });
    bench.store.gates.values_mut().for_each(|gate| gate.value.rollout = name(RIDER));
    bench.elect(&[]);
    bench.two_serve(30);
    assert_eq!(bench.pairs(), pairs(&web("old"), &log("log2")), "{:#?}", bench.log);
    // The next one is that of the lead. In its middle, the earlier version writes the record.
    bench.bad.push(log("log3").hash());
    bench.ask_set(&web("new"));
    bench.ask_rider(RIDER, &log("log3"));
    bench.decide();
    let lead = bench.store.rollouts.get_mut(&name(SET)).unwrap();
    assert_eq!(std::mem::take(&mut lead.value.riders).len(), 1);
    bench.elect(&[]);
    bench.two_serve(30);
    assert_eq!((bench.pairs(), bench.gated().len()), (pairs(&web("old"), &log("log2")), 6), "{:#?}", bench.log);
}

#[test]
fn new_pairs_get_the_files_before_until_the_canaries_have_proved_the_new_ones() {
    let canary = |program: &str| file(program, "[X-Rollout]\nHealthySec=1\nCanary=1");
    for restless in [false, true] {
        let mut bench = Bench { restless, ..Bench::new(3) }.with_rider(&canary("old"), &log("log1"));
        bench.ask_set(&canary("new"));
        bench.ask_rider(RIDER, &log("log2"));
        bench.settle();
        assert_eq!((bench.rollout().phase, bench.gated().len()), (Phase::Waiting, 4));
        bench.ask("web@4.service", &canary("new"), |_| {});
        bench.ask("log@4.service", &log("log2"), |_| {});
        bench.settle();
        let runs = |unit: &str| launched(&bench.store, &name(unit)).unwrap().1.hash.clone();
        assert_eq!((runs("web@4.service"), runs("log@4.service")), (canary("old").hash(), log("log1").hash()));
        assert_eq!((bench.rollout().phase, bench.gated().len()), (Phase::Waiting, 6));
        // The rider gets another file: the canary, which has the new file of the set, has to prove that, too.
        bench.ask_rider(RIDER, &log("log3"));
        bench.ask("log@4.service", &log("log3"), |_| {});
        bench.settle();
        assert_eq!((bench.rollout().phase, bench.gated().len()), (Phase::Waiting, 6), "{:#?}", bench.log);
        assert_eq!(bench.pairs().iter().filter(|(_, rider)| *rider == log("log3").hash()).count(), 1);
        // A pair that is destroyed meanwhile is no reason to wait.
        bench.tell(Change::Unit(name("log@4.service"), None));
        bench.tell(Change::Unit(name("web@4.service"), None));
        let generation = bench.store.revision.next();
        let ask = Ask { what: Request::Promote, generation, by: None };
        bench.ask(SET, &canary("new"), |set| set.ask = Some(Box::new(ask)));
        bench.two_serve(30);
        assert_eq!((bench.rollout().phase, bench.pairs()), (Phase::Done, pairs(&canary("new"), &log("log3"))));
    }
}

#[test]
fn a_rider_that_fits_no_host_keeps_nobody_waiting() {
    for restless in [false, true] {
        let other = "pull@.service";
        let nowhere = |program| file(program, "[X-Fleet]\nReplicas=web@.service\nMachineMetadata=disk=fast");
        let mut bench = Bench { restless, ..Bench::new(3) }.with_rider(&web("old"), &log("log1"));
        bench.name_riders(&[RIDER, other], &web("old"));
        bench.ask_rider(other, &nowhere("pull1"));
        bench.settle();
        bench.ask_set(&web("new"));
        bench.ask_rider(RIDER, &log("log2"));
        bench.ask_rider(other, &nowhere("pull2"));
        // Longer, since each pair is waited for until it is clear that its third unit has no host.
        bench.two_serve(60);
        assert_eq!(bench.pairs(), pairs(&web("new"), &log("log2")), "{:#?}", bench.log);
        assert_eq!((bench.rollout().phase, bench.rollout().riders.len()), (Phase::Done, 2));
        // It ran, and its next file fits no host: nobody is stopped for that.
        let runs = file("pull3", "[X-Fleet]\nReplicas=web@.service");
        bench.ask_rider(other, &runs);
        bench.two_serve(60);
        bench.ask_set(&web("newer"));
        bench.ask_rider(other, &nowhere("pull4"));
        bench.two_serve(30);
        assert_eq!((bench.rollout().phase, bench.pairs()), (Phase::Reverted, pairs(&web("new"), &log("log2"))));
        let why = bench.rollout().why.clone().unwrap();
        assert!(why.starts_with("pull@3.service fits no host with its new file"), "{why}");
    }
}

#[test]
fn a_spare_has_the_new_files_of_its_riders() {
    let spared = |program: &str| file(program, "[X-Rollout]\nSpare=1\nHealthySec=1");
    for (restless, bad) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut bench = Bench { restless, ..Bench::new(4) }.with_rider(&spared("old"), &log("log1"));
        bench.bad.extend(bad.then(|| log("log2").hash()));
        bench.ask_set(&spared("new"));
        bench.ask_rider(RIDER, &log("log2"));
        bench.decide();
        let runs = |unit: &str| launched(&bench.store, &name(unit)).unwrap().1.hash.clone();
        assert_eq!((runs("web@4.service"), runs("log@4.service")), (spared("new").hash(), log("log2").hash()));
        for _ in 0..160 {
            bench.decide();
            assert!(bench.well() >= if bad { 3 } else { 2 }, "{:#?}", bench.log);
            bench.answer();
            bench.now += 250;
        }
        bench.settle();
        let (phase, runs) = match bad {
            true => (Phase::Reverted, pairs(&spared("old"), &log("log1"))),
            false => (Phase::Done, pairs(&spared("new"), &log("log2"))),
        };
        assert_eq!((bench.rollout().phase, bench.pairs()), (phase, runs), "{:#?}", bench.log);
        assert!(!bench.store.schedule.values().any(|assignments| assignments.contains_key(&name("log@4.service"))));
    }
}

#[test]
fn a_rollout_of_pairs_goes_on_as_it_was_forecast() {
    for policy in ["", "Parallel=2", "Canary=1"] {
        let lead = |program| file(program, &format!("[X-Rollout]\nHealthySec=1\n{policy}"));
        let mut bench = Bench::new(3).with_rider(&lead("old"), &log("log1"));
        bench.log.clear();
        let before = bench.store.clone();
        bench.ask_set(&lead("new"));
        bench.ask_rider(RIDER, &log("log2"));
        let file = |(hash, file): (&UnitHash, &Versioned<_>)| Change::File(hash.clone(), Some(file.clone()));
        let files = bench.store.files.iter().filter(|(hash, _)| !before.files.contains_key(*hash)).map(file);
        let units = bench.store.units.iter().map(|(name, unit)| Change::Unit(name.clone(), Some(unit.clone())));
        let changes = files.chain(units).collect();
        let (unreadable, brake, now) = (BTreeSet::new(), Brake::off(), bench.now);
        let forecast = forecast(Present { cluster: before, unreadable, brake, now }, changes);
        bench.settle();
        assert_eq!(forecast.rollouts.len(), 1);
        let course = &forecast.rollouts[&name(SET)];
        let through = |line: &String| Some(name(line.split_once(" lets ")?.1.strip_suffix(" through")?));
        let happened: BTreeSet<UnitName> = bench.log.iter().filter_map(through).collect();
        let units = |members: &[MemberName]| members.iter().map(|member| member.unit.clone()).collect::<BTreeSet<_>>();
        let gated: BTreeSet<UnitName> = bench.store.gates.keys().cloned().collect();
        assert_eq!((units(&course.steps.concat()), units(&course.held)), (happened, gated), "{policy}");
        let (parallel, least) = if policy == "Parallel=2" { (2, 1) } else { (1, 2) };
        assert_eq!((course.parallel, course.least_ready), (parallel, least), "{policy}");
        assert_eq!((course.phase, course.steps[0].len() % 2), (bench.rollout().phase, 0), "{policy}");
    }
}
