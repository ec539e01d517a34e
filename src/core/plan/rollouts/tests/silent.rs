//! Members whose hosts carry out nothing, or are gone and don't give them up.

use super::*;

const SECTIONS: &str = "[X-Rollout]\nHealthySec=1\nDeadlineSec=5";

impl Bench {
    fn host_of(&self, unit: &str) -> MachineId {
        launched(&self.store, &name(unit)).unwrap().0.clone()
    }

    fn begun(&self) -> usize {
        self.log
            .iter()
            .filter(|line| line.ends_with("begins with its canaries") || line.ends_with("goes on with all members"))
            .count()
    }
}

#[test]
fn a_rollout_that_is_done_but_for_a_silent_host_begins_again_when_that_is_heard() {
    for restless in [false, true] {
        let mut bench = Bench { restless, ..Bench::new(3) };
        let (old, new) = (file("old", SECTIONS), file("new", SECTIONS));
        bench.ask_set(&old);
        bench.settle();
        // The daemon has registered anew, and reports nothing.
        let host = bench.host_of("web@1.service");
        bench.tell(Change::Report(name("web@1.service"), host.clone(), ReportKeyForm::HostFirst, None));
        bench.silent = Some(host);
        bench.ask_set(&new);
        bench.pass(60);
        assert_eq!((bench.rollout().phase, bench.begun()), (Phase::Done, 1), "{:#?}", bench.log);
        assert_eq!((bench.runs(), bench.gated()), (vec![old.hash(), new.hash(), new.hash()], vec!["web@1.service"]));
        bench.silent = None;
        bench.settle();
        assert_eq!((bench.rollout().phase, bench.begun(), bench.runs()), (Phase::Done, 2, three(&new)));
    }
}

#[test]
fn a_rollout_that_is_done_but_for_a_host_that_is_gone_begins_again_when_that_is_back() {
    for restless in [false, true] {
        let mut bench = Bench { restless, ..Bench::new(3) };
        let sticky = |program: &str| file(program, &format!("[X-Fleet]\nMoveAfterSec=infinity\n{SECTIONS}"));
        bench.ask_set(&sticky("old"));
        bench.settle();
        let host = bench.host_of("web@1.service");
        bench.tell(Change::Machine(host.clone(), None));
        bench.tell(Change::Report(name("web@1.service"), host.clone(), ReportKeyForm::HostFirst, None));
        bench.pass(5);
        assert_eq!(bench.host_of("web@1.service"), host);
        bench.ask_set(&sticky("new"));
        bench.pass(60);
        assert_eq!((bench.rollout().phase, bench.begun()), (Phase::Done, 1), "{:#?}", bench.log);
        bench.tell(Change::Machine(host.clone(), Some(Machine::new(host, "n1"))));
        bench.settle();
        assert_eq!((bench.rollout().phase, bench.begun(), bench.runs()), (Phase::Done, 2, three(&sticky("new"))));
    }
}
