//! Files that differ in where members may be.

use super::*;

/// Systemd reads the same from these files, so that nothing would be restarted where they fit.
#[test]
fn a_change_of_where_members_may_be_moves_them_one_after_another_or_not_at_all() {
    for restless in [false, true] {
        let mut bench = Bench { restless, ..Bench::new(3) };
        let placed = |fleet: &str| file("old", &format!("[X-Fleet]\n{fleet}\n[X-Rollout]\nHealthySec=1"));
        let (old, apart) = (web("old"), placed("Conflicts=web@*"));
        bench.ask_set(&old);
        bench.settle();
        bench.ask_set(&placed("MachineMetadata=zone=nowhere"));
        bench.settle();
        assert_eq!((bench.runs(), bench.rollout().phase), (three(&old), Phase::Reverted), "{:#?}", bench.log);
        assert!(bench.rollout().why.as_ref().unwrap().contains("fits no host"), "{:?}", bench.rollout());
        let there = placed(&format!("MachineID={}", id(3)));
        bench.ask_set(&there);
        bench.decide();
        assert_eq!((bench.runs()[2].clone(), bench.gated()), (there.hash(), vec!["web@1.service", "web@2.service"]));
        bench.pass_with_two_launched();
        assert_eq!((bench.runs(), bench.rollout().phase), (three(&there), Phase::Done));
        // All of them are on one host, and exclude each other.
        bench.ask_set(&apart);
        bench.decide();
        assert_eq!(bench.gated().len(), 2, "{:#?}", bench.log);
        bench.pass_with_two_launched();
        assert_eq!((bench.runs(), bench.rollout().phase), (three(&apart), Phase::Done));
        assert!(bench.store.schedule.values().all(|host| host.len() == 1));
    }
}

/// They would get it with all others, and these are what has proved itself already.
#[test]
fn members_that_the_file_before_fits_nowhere_get_the_new_one_after_its_preview() {
    for restless in [false, true] {
        let in_zone = |zone: &str| {
            let metadata = [("zone".to_owned(), zone.to_owned())].into();
            Change::Machine(id(1), Some(Machine { metadata, ..Machine::new(id(1), "n1".to_owned()) }))
        };
        let mut bench = Bench { restless, ..Bench::new(0) };
        bench.tell(in_zone("a"));
        let sections = "[X-Rollout]\nHealthySec=1\nCanary=1\nPreview=yes\nPromote=2s";
        let old = file("old", &format!("[X-Fleet]\nMachineMetadata=zone=a\n{sections}"));
        let new = file("new", sections);
        bench.ask_set(&old);
        bench.settle();
        bench.ask_set(&new);
        bench.pass(1);
        bench.tell(in_zone("b"));
        bench.settle();
        assert_eq!((bench.runs(), bench.rollout().phase), (three(&new), Phase::Done), "{:#?}", bench.log);
        assert_eq!(
            bench.log.iter().filter(|line| line.ends_with("waits to be promoted")).count(),
            1,
            "{:#?}",
            bench.log
        );
    }
}

/// With its new record, a member gives way to all others.
#[test]
fn members_that_would_exclude_each_other_on_their_only_host_stay_up() {
    for restless in [false, true] {
        let mut bench = Bench { restless, ..Bench::new(1) };
        bench.ask_set(&web("old"));
        for member in ["web@1.service", "web@2.service"] {
            let generation = bench.store.revision;
            bench.ask(member, &web("old"), |unit| unit.restart = Some(generation));
        }
        bench.settle();
        for program in ["old", "new"] {
            bench.ask_set(&file(program, "[X-Fleet]\nConflicts=web@*\n[X-Rollout]\nHealthySec=1"));
            bench.settle();
            assert_eq!((bench.runs(), bench.rollout().phase), (three(&web("old")), Phase::Reverted), "{program}");
        }
    }
}
