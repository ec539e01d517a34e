//! Units with probes: when they are probed, and what is reported. The network is a table of answers.

use std::sync::Mutex;

use flotilla::agent::{Network, ProbeResult};
use flotilla::model::probe::Probe;
use flotilla::model::systemd::ActiveState;
use flotilla::systemd::ProbeEnd;
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::*;

const PROBED: &str = "[Service]\nExecStart=/bin/sleep 1000\n[X-Health]\nReady=tcp:80\n";

/// What the probes of each unit get, and when they were made.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// Why they fail; `None` if they pass.
    failures: Mutex<BTreeMap<UnitName, Option<String>>>,
    made: Mutex<BTreeMap<UnitName, Vec<Instant>>>,
}

impl Answers {
    fn fails(&self, name: &str, why: &str) {
        let why = (!why.is_empty()).then(|| why.to_owned());
        self.failures.lock().unwrap().insert(unit(name), why);
    }

    /// When the unit was probed since the last call.
    fn made(&self, name: &str) -> Vec<Instant> {
        self.made.lock().unwrap().remove(&unit(name)).unwrap_or_default()
    }
}

impl Network for Answers {
    fn probe<'a>(&'a self, unit: &'a UnitName, _probe: &'a Probe, limit: Duration) -> BoxFuture<'a, ProbeResult> {
        Box::pin(async move {
            self.made.lock().unwrap().entry(unit.clone()).or_default().push(Instant::now());
            let failure = self.failures.lock().unwrap().get(unit).cloned();
            match failure {
                Some(Some(why)) if why == "hangs" => {
                    tokio::time::sleep(limit).await;
                    Err(format!("no answer within {} s", limit.as_secs()))
                }
                Some(Some(why)) => Err(why),
                Some(None) => Ok(()),
                None => Err("connection refused".into()),
            }
        })
    }
}

impl World {
    async fn until_ready(&self, name: &str, ready: bool) -> UnitReport {
        let what = if ready { "ready" } else { "unready" };
        self.until(name, what, |state| state.is_some_and(|state| state.ready == Some(ready))).await.unwrap()
    }
}

async fn seconds(count: u64) {
    tokio::time::sleep(Duration::from_secs(count)).await;
}

#[test]
fn a_unit_is_ready_when_its_probe_passes_and_until_it_fails_in_a_row() {
    run(async {
        let world = World::new().await;
        world.tell(&[("a.service", PROBED, Target::Launched, 5)]).await;
        world.until_active("a.service").await;
        let pid = world.host.main_pid(&unit("a.service"));
        let report = world.until("a.service", "probed", |s| s.is_some_and(|s| s.health.is_some())).await.unwrap();
        assert_eq!((report.active.as_str(), report.ready), ("active", Some(false)));
        assert_eq!(report.health.as_deref(), Some("tcp:80: connection refused"));
        seconds(2).await;
        let made = world.network.made("a.service");
        let pauses: Vec<_> = made.windows(2).map(|two| two[1] - two[0]).collect();
        assert!(made.len() >= 8 && pauses.iter().all(|pause| *pause <= Duration::from_millis(300)), "{pauses:?}");

        world.network.fails("a.service", "");
        let report = world.until_ready("a.service", true).await;
        assert_eq!(report.health, None);
        let written = world.written("a.service").await;
        world.network.made("a.service");
        seconds(60).await;
        let made = world.network.made("a.service");
        assert!((11..=13).contains(&made.len()), "every 5 s: {}", made.len());
        assert_eq!(world.written("a.service").await, written, "nothing changes, so nothing is written");

        world.network.fails("a.service", "hangs");
        let begun = Instant::now();
        let report = world.until_ready("a.service", false).await;
        assert_eq!(report.health.as_deref(), Some("tcp:80: no answer within 1 s"));
        assert!(begun.elapsed() >= Duration::from_secs(10), "three failures in a row: {:?}", begun.elapsed());
        assert_eq!(world.host.main_pid(&unit("a.service")), pid, "readiness stops nothing");
    });
}

#[test]
fn a_stopped_unit_isnt_probed() {
    run(async {
        let world = World::new().await;
        world.network.fails("a.service", "");
        world.tell(&[("a.service", PROBED, Target::Launched, 5)]).await;
        world.until_ready("a.service", true).await;
        world.tell(&[("a.service", PROBED, Target::Loaded, 6)]).await;
        let down = |state: Option<&UnitReport>| state.is_some_and(|state| state.active == ActiveState::Inactive);
        let report = world.until("a.service", "down", down).await.unwrap();
        assert_eq!(report.ready, Some(false));
        world.network.made("a.service");
        seconds(60).await;
        assert_eq!(world.network.made("a.service").len(), 0);
    });
}

/// Neither when the daemon is killed, nor when it comes back while the probe fails for a moment.
#[test]
fn a_daemon_that_comes_back_finds_ready_what_was_ready() {
    run(async {
        let mut world = World::new().await;
        for (name, ready) in [("a.service", true), ("b.service", false)] {
            world.network.fails(name, if ready { "" } else { "503" });
            world.tell(&[(name, PROBED, Target::Launched, 5)]).await;
            world.until_ready(name, ready).await;
        }
        seconds(30).await;
        for _ in 0..5 {
            world.kill().await;
            world.network.fails("a.service", "starting");
            world.start("n1");
            seconds(4).await;
            world.network.fails("a.service", "");
            seconds(5).await;
            assert_eq!(world.state("a.service").await.unwrap().ready, Some(true));
            assert_eq!(world.state("b.service").await.unwrap().ready, Some(false));
        }
    });
}

/// The host's systemd runs it, as the unit.
#[test]
fn a_probe_may_be_a_command() {
    run(async {
        let world = World::new().await;
        let name = unit("a@1.service");
        let program = "/usr/local/bin/ready";
        let ends = |end: Option<ProbeEnd>| world.host.set_probe(&name, program, end);
        ends(Some(ProbeEnd::Failed("exited 1/FAILURE".into())));
        let text =
            "[Service]\nExecStart=/bin/a\n[X-Health]\nReady=exec:/usr/local/bin/ready -p '80 %i'\nTimeoutSec=2\n";
        world.tell(&[("a@1.service", text, Target::Launched, 5)]).await;
        let report = world.until("a@1.service", "probed", |s| s.is_some_and(|s| s.health.is_some())).await.unwrap();
        let shown = "exec:/usr/local/bin/ready -p '80 1'";
        assert_eq!(report.ready, Some(false));
        assert_eq!(report.health, Some(format!("{shown}: exited 1/FAILURE")));
        let before = world.host.counters().probes;
        seconds(10).await;
        let made = world.host.counters().probes - before;
        assert!((9..=11).contains(&made), "once a second before the first pass: {made}");
        assert!(world.network.made("a@1.service").is_empty(), "it is no connection");

        ends(None);
        assert_eq!(world.until_ready("a@1.service", true).await.health, None);
        ends(Some(ProbeEnd::TimedOut));
        let report = world.until_ready("a@1.service", false).await;
        assert_eq!(report.health, Some(format!("{shown}: no end within 2 s")));
        ends(None);
        world.until_ready("a@1.service", true).await;

        ends(Some(ProbeEnd::NotRun("exited 203/EXEC".into())));
        let told = |state: Option<&UnitReport>| state.is_some_and(|state| state.health.is_some());
        let report = world.until("a@1.service", "not probed", told).await.unwrap();
        assert_eq!(report.ready, Some(true), "this says nothing about the unit");
        assert_eq!(report.health, Some(format!("{shown}: not run: exited 203/EXEC")));
        ends(None);
        world.until("a@1.service", "probed again", |state| !told(state)).await;
    });
}

/// Nobody waits for the command, and what it ends with says nothing of the unit's next start.
#[test]
fn a_unit_may_be_stopped_while_its_command_runs() {
    run(async {
        let world = World::new().await;
        let section = "[X-Health]\nReady=exec:/bin/sleep 10\nIntervalSec=60\nTimeoutSec=50\n";
        let text = &format!("[Service]\nExecStart=/bin/a\n{section}");
        world.tell(&[("a.service", text, Target::Launched, 5)]).await;
        world.until_active("a.service").await;
        seconds(2).await;
        assert_eq!(world.host.counters().probes, 1, "it runs");
        let begun = Instant::now();
        world.tell(&[("a.service", text, Target::Loaded, 6)]).await;
        let down = |state: Option<&UnitReport>| state.is_some_and(|state| state.active == ActiveState::Inactive);
        let report = world.until("a.service", "down", down).await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        assert_eq!((report.ready, report.health), (Some(false), None));
        world.tell(&[("a.service", text, Target::Launched, 7)]).await;
        world.until_active("a.service").await;
        // Meanwhile the command of the start before passes.
        seconds(10).await;
        assert_eq!(world.state("a.service").await.unwrap().ready, Some(false));
        world.until_ready("a.service", true).await;
    });
}

#[test]
fn a_probe_that_is_written_twice_is_made_once() {
    run(async {
        let world = World::new().await;
        world.network.fails("a.service", "");
        for (name, probe) in [("a.service", "tcp:80"), ("b.service", "exec:/bin/x")] {
            let text = format!("[Service]\nExecStart=/bin/a\n[X-Health]\nReady={probe}\nLive={probe}\n");
            world.tell(&[(name, &text, Target::Launched, 5)]).await;
            world.until_ready(name, true).await;
        }
        seconds(10).await;
        let (before, _) = (world.host.counters().probes, world.network.made("a.service"));
        seconds(60).await;
        let made = (world.network.made("a.service").len(), world.host.counters().probes - before);
        assert!((11..=13).contains(&made.0) && (11..=13).contains(&made.1), "every 5 s: {made:?}");
    });
}

/// Commands that hang delay those of other units, and no connections; there are only a few at a time.
#[test]
fn commands_are_made_a_few_at_a_time() {
    run(async {
        let world = World::new().await;
        let text = "[Service]\nExecStart=/bin/a\n[X-Health]\nReady=exec:/bin/sleep 1000\nReady=exec:/bin/sleep 1000\n";
        let names: Vec<String> = (0..50).map(|number| format!("slow@{number}.service")).collect();
        let units: Vec<_> = names.iter().map(|name| (name.as_str(), text, Target::Launched, 5)).collect();
        world.tell(&units).await;
        world.network.fails("a.service", "");
        world.tell(&[("a.service", PROBED, Target::Launched, 6)]).await;
        world.until_ready("a.service", true).await;
        seconds(60).await;
        for name in &names {
            let report = world.state(name).await.unwrap();
            assert_eq!(report.health.as_deref(), Some("exec:/bin/sleep 1000: no end within 1 s"), "{name}");
        }
        let before = world.host.counters().probes;
        seconds(60).await;
        let made = world.host.counters().probes - before;
        assert!((400..=480).contains(&made), "eight a second, as each takes one: {made}");
        world.network.made("a.service");
        seconds(60).await;
        assert!(world.network.made("a.service").len() >= 11);
    });
}

const LIVE: &str = "[Service]\nExecStart=/bin/a\nRestart=always\nRestartSec=1\n\
                    [X-Health]\nLive=tcp:80\nIntervalSec=1\nGraceSec=10\n";

impl World {
    async fn restarts(&self, name: &str) -> u32 {
        self.host.details(vec![unit(name)]).await.unwrap()[&unit(name)].restarts
    }
}

/// systemd restarts it by its own rules, and counts that.
#[test]
fn a_unit_that_no_longer_works_is_ended_and_systemd_restarts_it() {
    run(async {
        let world = World::new().await;
        world.tell(&[("a.service", LIVE, Target::Launched, 5)]).await;
        world.until_active("a.service").await;
        seconds(9).await;
        assert_eq!(world.restarts("a.service").await, 0, "it has time to start");
        let report = world.state("a.service").await.unwrap();
        assert_eq!((report.ready, report.health), (None, None), "nothing is said about its readiness");
        seconds(6).await;
        assert_eq!(world.restarts("a.service").await, 1);
        seconds(8).await;
        assert_eq!(world.restarts("a.service").await, 1, "each start has that time");
        seconds(8).await;
        assert_eq!(world.restarts("a.service").await, 2);

        world.network.fails("a.service", "");
        seconds(120).await;
        assert_eq!(world.restarts("a.service").await, 2);
        world.network.fails("a.service", "503");
        seconds(2).await;
        world.network.fails("a.service", "");
        seconds(20).await;
        assert_eq!(world.restarts("a.service").await, 2, "not three failures in a row");
        world.network.fails("a.service", "503");
        seconds(6).await;
        assert_eq!(world.restarts("a.service").await, 3, "it worked, so its time to start is over");
    });
}

#[test]
fn a_unit_that_systemd_doesnt_restart_fails_and_says_why() {
    run(async {
        let world = World::new().await;
        world.network.fails("a.service", "");
        let text = LIVE.replace("Restart=always", "Restart=no");
        world.tell(&[("a.service", &text, Target::Launched, 5)]).await;
        world.until_active("a.service").await;
        seconds(5).await;
        world.network.fails("a.service", "503 Service Unavailable");
        let failed = |state: Option<&UnitReport>| {
            state.is_some_and(|state| state.active == ActiveState::Failed && state.health.is_some())
        };
        let report = world.until("a.service", "failed", failed).await.unwrap();
        assert_eq!(report.health.as_deref(), Some("not alive: tcp:80: 503 Service Unavailable"));
        world.network.made("a.service");
        seconds(60).await;
        assert_eq!(world.network.made("a.service").len(), 0, "it isn't probed any more");

        world.network.fails("a.service", "");
        world.host.start(vec![unit("a.service")]).await;
        world
            .until("a.service", "well", |s| s.is_some_and(|s| s.active == ActiveState::Active && s.health.is_none()))
            .await;
    });
}

/// Whichever comes first, it stays down, and no other process is signalled.
#[test]
fn a_unit_that_no_longer_works_may_be_stopped_in_the_same_moment() {
    run(async {
        for millis in (0..4000).step_by(250) {
            let world = World::new().await;
            world.network.fails("a.service", "");
            world.tell(&[("a.service", LIVE, Target::Launched, 5)]).await;
            world.until_active("a.service").await;
            seconds(15).await;
            world.network.fails("a.service", "503");
            tokio::time::sleep(Duration::from_millis(millis)).await;
            world.tell(&[("a.service", LIVE, Target::Loaded, 6)]).await;
            seconds(30).await;
            assert_eq!(world.state("a.service").await.unwrap().active, ActiveState::Inactive, "{millis}");
            assert_eq!(world.host.main_pid(&unit("a.service")), None, "{millis}");
        }
    });
}

/// Neither are failures remembered across daemons, nor does a daemon that begins grant another time to start.
#[test]
fn a_daemon_that_comes_back_counts_failures_from_the_beginning() {
    run(async {
        let mut world = World::new().await;
        world.network.fails("a.service", "");
        world.tell(&[("a.service", LIVE, Target::Launched, 5)]).await;
        world.until_active("a.service").await;
        seconds(15).await;
        for _ in 0..10 {
            world.network.fails("a.service", "503");
            seconds(2).await;
            world.kill().await;
            world.network.fails("a.service", "");
            world.start("n1");
            seconds(1).await;
        }
        assert_eq!(world.restarts("a.service").await, 0);
        world.kill().await;
        world.network.fails("a.service", "503");
        world.start("n1");
        seconds(9).await;
        assert_eq!(world.restarts("a.service").await, 1);
    });
}

/// Many probes that hang delay none of the others by more than the bound on how many are made at a time.
#[test]
fn five_hundred_units_are_probed_and_their_probes_are_spread() {
    run(async {
        let world = World::new().await;
        let names: Vec<String> = (0..500).map(|number| format!("web@{number}.service")).collect();
        names.iter().for_each(|name| world.network.fails(name, ""));
        for part in names.chunks(50) {
            let units: Vec<_> = part.iter().map(|name| (name.as_str(), PROBED, Target::Launched, 5)).collect();
            world.tell(&units).await;
        }
        for name in &names {
            world.until_ready(name, true).await;
        }
        seconds(10).await;
        names.iter().for_each(|name| drop(world.network.made(name)));
        let begun = Instant::now();
        seconds(5).await;
        let mut groups = [0; 11];
        for at in names.iter().flat_map(|name| world.network.made(name)) {
            groups[usize::try_from((at - begun).as_millis() / 500).unwrap()] += 1;
        }
        let all: i32 = groups.iter().sum();
        assert!((430..=570).contains(&all), "all of them once, but for a group at either end: {all}");
        assert!(groups.iter().all(|count| *count <= 90), "{groups:?}");
    });
}
