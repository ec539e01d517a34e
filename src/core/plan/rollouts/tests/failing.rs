//! What is told of a member that has failed, and files that repair what is broken.

use super::*;

fn pausing(program: &str) -> UnitFile {
    file(program, "[X-Rollout]\nHealthySec=1\nOnFailure=pause")
}

#[test]
fn lines_that_a_host_reports_later_are_added_as_long_as_they_are_about_the_new_file() {
    let lines = ["web[7]: no such table"];
    for restless in [false, true] {
        let (old, bad) = (pausing("old"), pausing("bad"));
        let mut bench = Bench { restless, is_unread: true, bad: vec![bad.hash()], ..Bench::new(3) };
        bench.ask_set(&old);
        bench.settle();
        bench.ask_set(&bad);
        bench.settle();
        let failed = bench.rollout().failed.clone();
        assert_eq!((failed, bench.rollout().lines.len()), (Some(name("web@3.service")), 0));
        bench.is_unread = false;
        bench.settle();
        assert_eq!(
            (bench.rollout().phase, bench.rollout().lines.as_slice()),
            (Phase::Paused, &lines.map(String::from)[..])
        );
        // What a member says that has gone back isn't about the file that failed.
        let mut bench = Bench { restless, is_unread: true, bad: vec![web("bad").hash()], ..Bench::new(3) };
        bench.ask_set(&web("old"));
        bench.settle();
        bench.bad.push(web("old").hash());
        bench.ask_set(&web("bad"));
        bench.pass(2);
        bench.is_unread = false;
        bench.settle();
        assert_eq!((bench.rollout().phase, bench.rollout().lines.len()), (Phase::Stuck, 0));
    }
}

/// Nobody is left out although none was healthy before.
#[test]
fn a_file_that_repairs_all_members_reaches_all_of_them() {
    for restless in [false, true] {
        for policy in ["", "Parallel=2", "Canary=1\nPromote=auto", "Spare=1"] {
            let (old, fix) = (web("old"), file("fix", &format!("[X-Rollout]\nHealthySec=1\n{policy}")));
            let mut bench = Bench { restless, ..Bench::new(3) };
            bench.ask_set(&old);
            bench.settle();
            bench.bad.push(old.hash());
            bench.pass(1);
            bench.ask_set(&fix);
            bench.settle();
            assert_eq!((bench.runs(), bench.rollout().phase), (three(&fix), Phase::Done), "{policy} {:#?}", bench.log);
        }
    }
}
