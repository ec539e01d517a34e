//! The contract of the systemd seam: each function tests one promise, with any adapter. On a real host, units really
//! sleep; `[X-Fake]` has the same effect on the host in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use flotilla::model::name::UnitName;
use flotilla::model::systemd::{ActiveState, JobKind, LoadState};
use flotilla::systemd::{Error, Event, Outcomes, Systemd, UnitState};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep, timeout_at};

/// The time limit of every wait.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const SLEEP: &str = "[Service]\nExecStart=/bin/sleep 1000\n";
const SLOW_START: &str = "[Service]\nExecStartPre=/bin/sleep 0.3\nExecStart=/bin/sleep 1000\n[X-Fake]\nStartSec=0.3\n";
const SLOW_STOP: &str = "[Service]\nExecStart=/bin/sleep 1000\nExecStop=/bin/sleep 0.5\n[X-Fake]\nStopSec=0.5\n";
const HANG: &str = "[Service]\nExecStartPre=/bin/sleep 1000\nExecStart=/bin/sleep 1000\n[X-Fake]\nOutcome=hang\n";
const FAIL: &str = "[Service]\nType=oneshot\nExecStart=/bin/false\n[X-Fake]\nOutcome=fail\n";
const ONCE: &str = "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n";

pub(crate) fn name(name: &str) -> UnitName {
    name.parse().unwrap()
}

fn names(list: &[&str]) -> Vec<UnitName> {
    list.iter().map(|n| name(n)).collect()
}

/// A subscription, with all earlier events, which a failure shows.
pub(crate) struct Watch {
    events: UnboundedReceiver<Event>,
    pub(crate) seen: Vec<Event>,
}

impl Watch {
    /// Subscribe, and expect the first event that the contract promises.
    pub(crate) async fn begin(systemd: &impl Systemd) -> Self {
        let mut watch = Self { events: systemd.events(), seen: Vec::new() };
        watch.next("the first event").await;
        assert_eq!(watch.seen, [Event::Resync], "the first event");
        watch.seen.clear();
        watch
    }

    pub(crate) async fn next(&mut self, what: &str) -> Event {
        self.next_by(what, Instant::now() + PATIENCE).await
    }

    async fn next_by(&mut self, what: &str, deadline: Instant) -> Event {
        let tail = &self.seen[self.seen.len().saturating_sub(40)..];
        let event = match timeout_at(deadline, self.events.recv()).await {
            Ok(Some(event)) => event,
            Ok(None) => panic!("waited for {what}, but the events ended after {tail:?}"),
            Err(_) => panic!("waited {PATIENCE:?} for {what}; of {} events the last are {tail:?}", self.seen.len()),
        };
        self.seen.push(event.clone());
        event
    }

    /// Wait until this many jobs (of any unit) have ended, and return them in order.
    pub(crate) async fn jobs(&mut self, count: usize) -> Vec<(String, String)> {
        let deadline = Instant::now() + PATIENCE;
        let mut jobs = Vec::new();
        while jobs.len() < count {
            let event = self.next_by(&format!("{count} job ends, of which came {jobs:?}"), deadline).await;
            if let Event::JobDone { unit, result } = event {
                jobs.push((unit.to_string(), result.to_string()));
            }
        }
        jobs
    }

    pub(crate) async fn resync(&mut self) {
        while self.next("a resync").await != Event::Resync {}
    }

    /// Expect that no event has arrived.
    pub(crate) async fn quiet(&mut self) {
        sleep(Duration::from_millis(50)).await;
        assert_eq!(self.events.try_recv().ok(), None, "an event of no unit that changed");
    }

    /// Discard the events that have arrived.
    pub(crate) async fn forget(&mut self) {
        sleep(Duration::from_millis(50)).await;
        while self.events.try_recv().is_ok() {}
        self.seen.clear();
    }
}

fn done(units: &[&str]) -> Vec<(String, String)> {
    units.iter().map(|unit| ((*unit).to_owned(), "done".to_owned())).collect()
}

#[track_caller]
pub(crate) fn all_ok(what: &str, outcomes: &Outcomes) {
    assert!(outcomes.iter().all(|(_, outcome)| outcome.is_ok()), "{what}: {outcomes:?}");
}

pub(crate) async fn install(systemd: &impl Systemd, units: &[(&str, &str)]) {
    let units = units.iter().map(|(unit, text)| (name(unit), (*text).to_owned())).collect();
    all_ok("install", &systemd.install(units).await);
}

pub(crate) async fn start(systemd: &impl Systemd, units: &[&str]) {
    all_ok("start", &systemd.start(names(units)).await);
}

pub(crate) async fn stop(systemd: &impl Systemd, units: &[&str]) {
    all_ok("stop", &systemd.stop(names(units)).await);
}

async fn start_one(systemd: &impl Systemd, unit: &str) -> Result<(), Error> {
    let mut outcomes = systemd.start(vec![name(unit)]).await;
    assert_eq!(outcomes.len(), 1, "{outcomes:?}");
    outcomes.remove(0).1
}

pub(crate) async fn unit(systemd: &impl Systemd, unit: &str) -> UnitState {
    systemd.units(vec![name(unit)]).await.unwrap().remove(&name(unit)).unwrap()
}

/// Wait until a unit has this `ActiveState/SubState`, for changes without a job.
pub(crate) async fn state(systemd: &impl Systemd, of: &str, wanted: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let UnitState { active, sub, .. } = unit(systemd, of).await;
        let found = format!("{active}/{sub}");
        if found == wanted {
            return;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {of} to be {wanted}, but it is {found}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Stop and remove all units that a test used.
async fn clean(systemd: &impl Systemd, watch: &mut Watch) {
    let units: Vec<_> = systemd.files().await.unwrap().into_keys().collect();
    watch.forget().await;
    all_ok("stop", &systemd.stop(units.clone()).await);
    watch.jobs(units.len()).await;
    all_ok("remove", &systemd.remove(units).await);
    systemd.reload().await.unwrap();
    assert_eq!(systemd.files().await, Ok(BTreeMap::new()));
}

pub(crate) async fn a_new_unit_starts_without_reload(systemd: impl Systemd) {
    let mut watch = Watch::begin(&systemd).await;
    install(&systemd, &[("new.service", SLEEP)]).await;
    assert_eq!(systemd.files().await.unwrap(), [(name("new.service"), SLEEP.to_owned())].into());
    let before = UnitState::stopped(LoadState::Loaded);
    assert_eq!(unit(&systemd, "new.service").await, before);
    start(&systemd, &["new.service"]).await;
    assert_eq!(watch.jobs(1).await, done(&["new.service"]));
    assert!(watch.seen.contains(&Event::Changed(name("new.service"))), "{:?}", watch.seen);
    assert!(matches!(watch.seen[0], Event::Changed(_)), "a job's end before its unit's change: {:?}", watch.seen);
    state(&systemd, "new.service", "active/running").await;
    // Again: there is nothing to do, but the end of a job is signalled.
    start(&systemd, &["new.service"]).await;
    assert_eq!(watch.jobs(1).await, done(&["new.service"]));
    clean(&systemd, &mut watch).await;
}

pub(crate) async fn a_changed_file_of_a_loaded_unit_needs_a_reload(systemd: impl Systemd) {
    let mut watch = Watch::begin(&systemd).await;
    let keeper = format!("[Unit]\nAfter=changed.service\n{SLEEP}");
    install(&systemd, &[("changed.service", SLEEP), ("keeper.service", &keeper)]).await;
    start(&systemd, &["changed.service", "keeper.service"]).await;
    watch.jobs(2).await;
    install(&systemd, &[("changed.service", ONCE)]).await;
    assert_eq!(systemd.files().await.unwrap()[&name("changed.service")], ONCE);
    state(&systemd, "changed.service", "active/running").await;
    stop(&systemd, &["changed.service"]).await;
    start(&systemd, &["changed.service"]).await;
    watch.jobs(2).await;
    state(&systemd, "changed.service", "active/running").await;
    stop(&systemd, &["changed.service"]).await;
    watch.jobs(1).await;
    systemd.reload().await.unwrap();
    watch.resync().await;
    start(&systemd, &["changed.service"]).await;
    watch.jobs(1).await;
    state(&systemd, "changed.service", "active/exited").await;
    clean(&systemd, &mut watch).await;
}

/// Neither systemd nor the list of files sees it before it is installed. Staged again, installed otherwise, or removed:
/// nothing is left of it.
pub(crate) async fn a_staged_file_takes_its_place_when_it_is_installed(systemd: impl Systemd) {
    let mut watch = Watch::begin(&systemd).await;
    install(&systemd, &[("next.service", SLEEP)]).await;
    start(&systemd, &["next.service"]).await;
    watch.jobs(1).await;
    for (staged, installed, sub) in [
        (vec![ONCE], ONCE, "active/exited"),
        (vec![ONCE, SLEEP], SLEEP, "active/running"),
        (vec![SLEEP], ONCE, "active/exited"),
    ] {
        let before = systemd.files().await.unwrap();
        for text in staged {
            all_ok("stage", &systemd.stage(vec![(name("next.service"), text.to_owned())]).await);
        }
        systemd.reload().await.unwrap();
        watch.resync().await;
        assert_eq!(systemd.files().await.unwrap(), before);
        stop(&systemd, &["next.service"]).await;
        watch.jobs(1).await;
        install(&systemd, &[("next.service", installed)]).await;
        systemd.reload().await.unwrap();
        watch.resync().await;
        start(&systemd, &["next.service"]).await;
        watch.jobs(1).await;
        state(&systemd, "next.service", sub).await;
        assert_eq!(systemd.files().await.unwrap()[&name("next.service")], installed);
    }
    all_ok("stage", &systemd.stage(vec![(name("next.service"), SLEEP.to_owned())]).await);
    clean(&systemd, &mut watch).await;
}

pub(crate) async fn a_running_unit_keeps_its_state_when_its_file_gets_the_same_body(systemd: impl Systemd) {
    let mut watch = Watch::begin(&systemd).await;
    install(&systemd, &[("same.service", SLEEP)]).await;
    start(&systemd, &["same.service"]).await;
    watch.jobs(1).await;
    let other = format!("# why\n{SLEEP}[X-Fleet]\nConflicts=other.service\n[X-Health]\nReady=tcp:80\n");
    install(&systemd, &[("same.service", &other)]).await;
    assert_eq!(systemd.files().await.unwrap()[&name("same.service")], other);
    state(&systemd, "same.service", "active/running").await;
    stop(&systemd, &["same.service"]).await;
    start(&systemd, &["same.service"]).await;
    watch.jobs(2).await;
    state(&systemd, "same.service", "active/running").await;
    clean(&systemd, &mut watch).await;
}

pub(crate) async fn a_chain_starts_in_order_and_stops_in_reverse(systemd: impl Systemd) {
    let mut watch = Watch::begin(&systemd).await;
    let on = |base: &str, service: &str| format!("[Unit]\nRequires={base}\nAfter={base}\n{service}");
    let (middle, top) = (on("base.service", SLOW_STOP), on("middle.service", SLOW_STOP));
    let units = [("top.service", top.as_str()), ("middle.service", &middle), ("base.service", SLOW_START)];
    install(&systemd, &units).await;
    // Dependents first: only systemd orders them.
    start(&systemd, &["top.service", "middle.service", "base.service"]).await;
    assert_eq!(watch.jobs(3).await, done(&["base.service", "middle.service", "top.service"]));
    let before = Instant::now();
    stop(&systemd, &["base.service", "middle.service", "top.service"]).await;
    assert_eq!(watch.jobs(3).await, done(&["top.service", "middle.service", "base.service"]));
    assert!(
        before.elapsed() >= Duration::from_secs(1),
        "two slow stops, one after the other, in {:?}",
        before.elapsed()
    );
    clean(&systemd, &mut watch).await;
}

pub(crate) async fn dependencies_mean_what_they_mean_to_systemd(systemd: impl Systemd) {
    let mut watch = Watch::begin(&systemd).await;
    let with = |option: &str| format!("[Unit]\n{option}=root.service\nAfter=root.service\n{SLEEP}");
    let (requires, binds, wants) = (with("Requires"), with("BindsTo"), with("Wants"));
    let (part_of, enemy) = (with("PartOf"), with("Conflicts"));
    let before = format!("[Unit]\nBefore=root.service\n{SLOW_START}");
    let once = "[Service]\nType=oneshot\nExecStart=/bin/true\n";
    let units = [
        ("root.service", SLEEP),
        ("requires.service", &requires),
        ("binds.service", &binds),
        ("wants.service", &wants),
        ("part-of.service", &part_of),
        ("enemy.service", &enemy),
        ("before.service", &before),
        ("once.service", once),
    ];
    install(&systemd, &units).await;
    // The first one is requested first: systemd orders only jobs that are queued.
    let all = ["before.service", "requires.service", "binds.service", "wants.service", "part-of.service"];
    start(&systemd, &all).await;
    let jobs = watch.jobs(6).await;
    // The root was pulled in and waited for the units before it, and no unit after it started earlier.
    assert_eq!(jobs[..2], done(&["before.service", "root.service"]));
    let with = systemd.stopped_with(names(&["root.service", "once.service"])).await.unwrap();
    let bound = names(&["binds.service", "part-of.service", "requires.service"]).into_iter().collect();
    assert_eq!(with, BTreeMap::from([(name("root.service"), bound), (name("once.service"), BTreeSet::new())]));
    stop(&systemd, &["root.service"]).await;
    let mut jobs = watch.jobs(4).await;
    assert_eq!(jobs.pop(), done(&["root.service"]).pop());
    jobs.sort();
    assert_eq!(jobs, done(&["binds.service", "part-of.service", "requires.service"]));
    state(&systemd, "wants.service", "active/running").await;
    start(&systemd, &["root.service"]).await;
    watch.jobs(1).await;
    start(&systemd, &["enemy.service"]).await;
    assert_eq!(watch.jobs(2).await, done(&["root.service", "enemy.service"]));
    state(&systemd, "root.service", "inactive/dead").await;
    // A finished oneshot: its job is done, and it is not active.
    start(&systemd, &["once.service"]).await;
    assert_eq!(watch.jobs(1).await, done(&["once.service"]));
    state(&systemd, "once.service", "inactive/dead").await;
    clean(&systemd, &mut watch).await;
}

pub(crate) async fn a_missing_dependency_is_said_and_its_file_ends_it(systemd: impl Systemd) {
    let mut watch = Watch::begin(&systemd).await;
    let text = format!("[Unit]\nRequires=late.service\nAfter=late.service\n{SLEEP}");
    install(&systemd, &[("early.service", &text)]).await;
    let missing = Err(Error::Missing("Unit late.service not found.".into()));
    assert_eq!(start_one(&systemd, "early.service").await, missing);
    let nowhere = Err(Error::Missing("Unit nowhere.service not found.".into()));
    assert_eq!(start_one(&systemd, "nowhere.service").await, nowhere);
    install(&systemd, &[("late.service", SLEEP)]).await;
    start(&systemd, &["early.service"]).await;
    assert_eq!(watch.jobs(2).await, done(&["late.service", "early.service"]));
    clean(&systemd, &mut watch).await;
}

pub(crate) async fn one_bad_unit_harms_only_itself(systemd: impl Systemd) {
    let mut watch = Watch::begin(&systemd).await;
    let bad_install = format!("{SLEEP}[Install]\nWantedBy=no/unit\n");
    let units = [
        ("good-1.service", SLEEP),
        ("bad-install.service", &bad_install),
        ("bad-setting.service", "[Service]\nType=oneshot\n"),
        ("bad-syntax.service", "[Service\nExecStart=/bin/true\n"),
        ("good-2.service", SLEEP),
    ];
    let units: Vec<_> = units.into_iter().map(|(unit, text)| (name(unit), text.to_owned())).collect();
    let order: Vec<_> = units.iter().map(|(unit, _)| unit.clone()).collect();
    let installed = systemd.install(units).await;
    assert_eq!(installed.iter().map(|(unit, _)| unit.clone()).collect::<Vec<_>>(), order);
    let refused: Vec<_> = installed.iter().filter(|(_, outcome)| outcome.is_err()).collect();
    assert!(
        matches!(refused[..], [(unit, Err(Error::Refused(_)))] if unit.as_str() == "bad-install.service"),
        "{installed:?}"
    );
    assert!(!systemd.files().await.unwrap().contains_key("bad-install.service"));
    assert_eq!(unit(&systemd, "bad-install.service").await.load.as_str(), "not-found");
    assert_eq!(unit(&systemd, "bad-setting.service").await.load.as_str(), "bad-setting");
    assert_eq!(unit(&systemd, "bad-syntax.service").await.load.as_str(), "error");
    let started = systemd.start(order.clone()).await;
    assert_eq!(started.iter().map(|(unit, _)| unit.clone()).collect::<Vec<_>>(), order);
    assert_eq!((&started[0].1, &started[4].1), (&Ok(()), &Ok(())));
    assert!(matches!(started[1].1, Err(Error::Missing(_))), "{started:?}");
    let bad = "Unit bad-setting.service has a bad unit file setting.";
    assert_eq!(started[2].1, Err(Error::Refused(bad.into())));
    let bad = "bad-syntax.service failed to load properly";
    assert!(matches!(&started[3].1, Err(Error::Refused(text)) if text.contains(bad)), "{started:?}");
    let mut jobs = watch.jobs(2).await;
    jobs.sort();
    assert_eq!(jobs, done(&["good-1.service", "good-2.service"]));
    clean(&systemd, &mut watch).await;
}

pub(crate) async fn a_failed_reinstall_leaves_the_old_file(systemd: impl Systemd) {
    let mut watch = Watch::begin(&systemd).await;
    install(&systemd, &[("old.service", SLEEP)]).await;
    let bad = format!("{SLEEP}[Install]\nWantedBy=no/unit\n");
    let outcome = systemd.install(vec![(name("old.service"), bad)]).await;
    assert!(matches!(outcome[0].1, Err(Error::Refused(_))), "{outcome:?}");
    assert_eq!(systemd.files().await.unwrap()[&name("old.service")], SLEEP);
    start(&systemd, &["old.service"]).await;
    assert_eq!(watch.jobs(1).await, done(&["old.service"]));
    clean(&systemd, &mut watch).await;
}

pub(crate) async fn a_jobs_end_says_how(systemd: impl Systemd) {
    let mut watch = Watch::begin(&systemd).await;
    let needing = format!("[Unit]\nRequires=fails.service\nAfter=fails.service\n{SLEEP}");
    install(&systemd, &[("fails.service", FAIL), ("needing.service", &needing), ("hangs.service", HANG)]).await;
    start(&systemd, &["needing.service"]).await;
    let expected = [("fails.service", "failed"), ("needing.service", "dependency")];
    let expected = expected.map(|(unit, result)| (unit.to_owned(), result.to_owned()));
    assert_eq!(watch.jobs(2).await, expected);
    state(&systemd, "fails.service", "failed/failed").await;
    state(&systemd, "needing.service", "inactive/dead").await;
    watch.forget().await;
    start(&systemd, &["hangs.service"]).await;
    while unit(&systemd, "hangs.service").await.active != ActiveState::Activating {
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(unit(&systemd, "hangs.service").await.job, Some(JobKind::Start));
    stop(&systemd, &["hangs.service"]).await;
    let expected = [("hangs.service", "canceled"), ("hangs.service", "done")];
    assert_eq!(watch.jobs(2).await, expected.map(|(unit, result)| (unit.to_owned(), result.to_owned())));
    clean(&systemd, &mut watch).await;
}

/// systemd starts a unit no more often than `StartLimitBurst=` says, whoever asks, until its failures are forgotten.
pub(crate) async fn a_start_limit_counts_until_failures_are_forgotten(systemd: impl Systemd) {
    let mut watch = Watch::begin(&systemd).await;
    install(&systemd, &[("limited.service", &format!("[Unit]\nStartLimitIntervalSec=1h\nStartLimitBurst=2\n{FAIL}"))])
        .await;
    let limited = names(&["limited.service"]);
    let (mut ran, mut last) = (Vec::new(), String::new());
    for forget in [false, false, false, true, false, false] {
        if forget {
            all_ok("reset", &systemd.reset_failed(names(&["limited.service", "never-was.service"])).await);
            state(&systemd, "limited.service", "inactive/dead").await;
        }
        watch.forget().await;
        start(&systemd, &["limited.service"]).await;
        assert_eq!(watch.jobs(1).await, [("limited.service".to_owned(), "failed".to_owned())]);
        state(&systemd, "limited.service", "failed/failed").await;
        let details = systemd.details(limited.clone()).await.unwrap();
        let invocation = details[&limited[0]].invocation.clone();
        ran.push(invocation != last);
        last = invocation;
    }
    assert_eq!(ran, [true, true, false, true, true, false]);
    clean(&systemd, &mut watch).await;
}

pub(crate) async fn what_is_removed_is_forgotten(systemd: impl Systemd) {
    let mut watch = Watch::begin(&systemd).await;
    install(&systemd, &[("runs.service", SLEEP), ("fails.service", FAIL)]).await;
    start(&systemd, &["runs.service", "fails.service"]).await;
    watch.jobs(2).await;
    stop(&systemd, &["runs.service"]).await;
    watch.jobs(1).await;
    let units = names(&["runs.service", "fails.service", "never-was.service"]);
    all_ok("remove", &systemd.remove(units.clone()).await);
    assert_eq!(systemd.files().await, Ok(BTreeMap::new()));
    let gone = UnitState::stopped(LoadState::NotFound);
    for (unit, found) in systemd.units(units.clone()).await.unwrap() {
        assert_eq!(found, gone, "{unit}");
    }
    all_ok("remove", &systemd.remove(units).await);
    // And a new file of the same name is a new unit.
    install(&systemd, &[("runs.service", ONCE)]).await;
    start(&systemd, &["runs.service"]).await;
    state(&systemd, "runs.service", "active/exited").await;
    clean(&systemd, &mut watch).await;
}

pub(crate) async fn what_is_in_memory_is_told_without_reading_files(systemd: impl Systemd) {
    let mut watch = Watch::begin(&systemd).await;
    let asked = || names(&["runs.service", "fails.service", "rests.service", "never-was.service"]);
    let known = async || {
        let known = systemd.in_memory(asked()).await.unwrap();
        known.into_iter().map(|(unit, is)| format!("{unit} {} {}", is.load, is.active)).collect::<Vec<_>>()
    };
    install(&systemd, &[("runs.service", SLEEP), ("fails.service", FAIL), ("rests.service", SLEEP)]).await;
    assert_eq!(known().await, Vec::<String>::new());
    start(&systemd, &["runs.service", "fails.service"]).await;
    watch.jobs(2).await;
    // A failed unit may take a moment until its state is final.
    state(&systemd, "fails.service", "failed/failed").await;
    assert_eq!(known().await, ["fails.service loaded failed", "runs.service loaded active"]);
    stop(&systemd, &["runs.service"]).await;
    watch.jobs(1).await;
    state(&systemd, "runs.service", "inactive/dead").await;
    assert_eq!(known().await, ["fails.service loaded failed"]);
    // More than are queried one by one.
    let many: Vec<_> = (0..300).map(|n| name(&format!("none-{n}.service"))).chain(asked()).collect();
    assert_eq!(systemd.in_memory(many).await.unwrap().len(), 1);
    assert_eq!(systemd.in_memory(vec![]).await, Ok(BTreeMap::new()));
    clean(&systemd, &mut watch).await;
}

pub(crate) async fn a_running_unit_survives_its_file(systemd: impl Systemd) {
    let mut watch = Watch::begin(&systemd).await;
    install(&systemd, &[("orphan.service", SLEEP)]).await;
    start(&systemd, &["orphan.service"]).await;
    watch.jobs(1).await;
    all_ok("remove", &systemd.remove(names(&["orphan.service"])).await);
    systemd.reload().await.unwrap();
    let orphan = unit(&systemd, "orphan.service").await;
    assert_eq!((orphan.load.as_str(), orphan.active.as_str()), ("not-found", "active"));
    watch.forget().await;
    stop(&systemd, &["orphan.service"]).await;
    assert_eq!(watch.jobs(1).await, done(&["orphan.service"]));
    state(&systemd, "orphan.service", "inactive/dead").await;
    clean(&systemd, &mut watch).await;
}

pub(crate) async fn install_sections_count_after_a_reload_and_go_with_the_file(systemd: impl Systemd) {
    let mut watch = Watch::begin(&systemd).await;
    let group = "[Unit]\nDescription=a group\n";
    let wanted = format!("{ONCE}[Install]\nWantedBy=group.target\n");
    install(&systemd, &[("group.target", group), ("wanted.service", &wanted), ("other.service", &wanted)]).await;
    systemd.reload().await.unwrap();
    watch.resync().await;
    start(&systemd, &["group.target"]).await;
    let mut jobs = watch.jobs(3).await;
    jobs.sort();
    assert_eq!(jobs, done(&["group.target", "other.service", "wanted.service"]));
    stop(&systemd, &["group.target", "wanted.service", "other.service"]).await;
    watch.jobs(3).await;
    all_ok("remove", &systemd.remove(names(&["other.service"])).await);
    install(&systemd, &[("wanted.service", ONCE)]).await;
    systemd.reload().await.unwrap();
    watch.forget().await;
    start(&systemd, &["group.target"]).await;
    assert_eq!(watch.jobs(1).await, done(&["group.target"]));
    assert_eq!(unit(&systemd, "wanted.service").await.active.as_str(), "inactive");
    clean(&systemd, &mut watch).await;
}

pub(crate) async fn no_event_is_lost_in_a_flood(systemd: impl Systemd) {
    const COUNT: usize = 500;
    let mut watch = Watch::begin(&systemd).await;
    let units: Vec<_> = (0..COUNT).map(|i| name(&format!("flood-{i:03}.service"))).collect();
    let files = units.iter().map(|unit| (unit.clone(), ONCE.to_owned())).collect();
    all_ok("install", &systemd.install(files).await);
    all_ok("start", &systemd.start(units.clone()).await);
    let mut jobs = watch.jobs(COUNT).await;
    jobs.sort();
    assert_eq!(jobs, units.iter().map(|unit| (unit.to_string(), "done".into())).collect::<Vec<_>>());
    let found = systemd.units(units.clone()).await.unwrap();
    assert_eq!(found.len(), COUNT);
    assert!(found.values().all(|unit| unit.active == ActiveState::Active), "{found:?}");
    all_ok("stop", &systemd.stop(units.clone()).await);
    watch.jobs(COUNT).await;
    for unit in &units {
        assert!(watch.seen.contains(&Event::Changed(unit.clone())), "{unit} never changed");
    }
    all_ok("remove", &systemd.remove(units).await);
    clean(&systemd, &mut watch).await;
}

pub(crate) async fn unknown_units_are_not_found_and_their_stop_is_done(systemd: impl Systemd) {
    let mut watch = Watch::begin(&systemd).await;
    install(&systemd, &[("known.service", SLEEP)]).await;
    let asked = names(&["unknown.service", "known.service", "template@.service", "template@1.service"]);
    let found = systemd.units(asked.clone()).await.unwrap();
    let loads: BTreeMap<_, _> = found.iter().map(|(unit, found)| (unit.as_str(), found.load.as_str())).collect();
    let expected = [
        ("known.service", "loaded"),
        ("template@.service", "not-found"),
        ("template@1.service", "not-found"),
        ("unknown.service", "not-found"),
    ];
    assert_eq!(loads, expected.into());
    assert_eq!(systemd.units(vec![]).await, Ok(BTreeMap::new()));
    watch.forget().await;
    stop(&systemd, &["unknown.service"]).await;
    assert_eq!(watch.jobs(1).await, done(&["unknown.service"]));
    clean(&systemd, &mut watch).await;
}

/// Both hosts have a `basic.target` of their own.
pub(crate) async fn a_unit_of_the_hosts_own_is_refused_and_not_touched(systemd: impl Systemd) {
    let mut watch = Watch::begin(&systemd).await;
    let target = "[Unit]\nDescription=ours\n";
    let refused = |outcomes: &Outcomes| match &outcomes[..] {
        [(unit, Err(Error::Refused(why)))] if *unit == name("basic.target") => {
            assert!(why.starts_with("the host has a basic.target of its own: /"), "{why}");
            assert!(why.ends_with("/basic.target"), "{why}");
        }
        other => panic!("{other:?}"),
    };
    let units = [("own.service", SLEEP), ("basic.target", target)].map(|(unit, text)| (name(unit), text.to_owned()));
    let outcomes = systemd.install(units.to_vec()).await;
    assert_eq!(outcomes[0], (name("own.service"), Ok(())), "the other one is installed, in the order asked");
    refused(&outcomes[1..].to_vec());
    assert_eq!(systemd.files().await.unwrap().into_keys().collect::<Vec<_>>(), [name("own.service")]);
    // As if it didn't exist.
    assert_eq!(unit(&systemd, "basic.target").await.load.as_str(), "not-found");
    assert_eq!(systemd.in_memory(names(&["basic.target"])).await, Ok(BTreeMap::new()));
    refused(&systemd.start(names(&["basic.target"])).await);
    watch.forget().await;
    stop(&systemd, &["basic.target"]).await;
    assert_eq!(watch.jobs(1).await, done(&["basic.target"]));
    all_ok("remove", &systemd.remove(names(&["basic.target"])).await);
    clean(&systemd, &mut watch).await;
}

pub(crate) async fn a_slow_stop_shows(systemd: impl Systemd) {
    let mut watch = Watch::begin(&systemd).await;
    install(&systemd, &[("slow.service", SLOW_STOP)]).await;
    start(&systemd, &["slow.service"]).await;
    watch.jobs(1).await;
    stop(&systemd, &["slow.service"]).await;
    sleep(Duration::from_millis(100)).await;
    let stopping = unit(&systemd, "slow.service").await;
    assert_eq!((stopping.active.as_str(), stopping.job), ("deactivating", Some(JobKind::Stop)));
    assert_eq!(watch.jobs(1).await, done(&["slow.service"]));
    let stopped = unit(&systemd, "slow.service").await;
    assert_eq!((stopped.active.as_str(), stopped.job), ("inactive", None));
    clean(&systemd, &mut watch).await;
}

pub(crate) async fn a_later_subscription_replaces_the_earlier(systemd: impl Systemd) {
    let mut earlier = Watch::begin(&systemd).await;
    let mut watch = Watch::begin(&systemd.clone()).await;
    while let Ok(event) = timeout_at(Instant::now() + PATIENCE, earlier.events.recv()).await {
        if event.is_none() {
            return clean(&systemd, &mut watch).await;
        }
    }
    panic!("the earlier subscription goes on after {:?}", earlier.seen);
}

pub(crate) async fn notes_are_kept(systemd: impl Systemd) {
    assert_eq!(systemd.read_boot_file("lease").await, Ok(None));
    systemd.write_boot_file("lease", "1").await.unwrap();
    systemd.write_boot_file("lease", "2").await.unwrap();
    assert_eq!(systemd.clone().read_boot_file("lease").await, Ok(Some("2".into())));
    assert_eq!(systemd.read_boot_file("other").await, Ok(None));
}
