//! The contract about probes that are commands, and about units that no longer work.

use std::time::Duration;

use flotilla::model::name::UnitName;
use flotilla::systemd::{ExecProbe, ProbeEnd, Systemd};
use tokio::time::{Instant, sleep, timeout};

use super::body::{SLEEP, Watch, all_ok, install, name, start, state, stop};

/// Ignores the watchdog's signal.
const DEAF: &str = "[Service]\nExecStart=/bin/sh -c \"trap '' ABRT; while :; do sleep 0.1; done\"\n\
                    TimeoutAbortSec=1\nRestart=on-abnormal\nRestartSec=0.1\n[X-Fake]\nDeaf=yes\n";

pub(crate) fn probe(unit: &str, command: &[&str]) -> ExecProbe {
    let command = command.iter().map(ToString::to_string).collect();
    ExecProbe { unit: name(unit), command, timeout: Duration::from_secs(5) }
}

pub(crate) fn is_not_run(end: &ProbeEnd, why: &str) -> bool {
    matches!(end, ProbeEnd::NotRun(said) if said.contains(why))
}

async fn running(systemd: &impl Systemd, units: &[(&str, &str)]) -> Watch {
    let mut watch = Watch::begin(systemd).await;
    install(systemd, units).await;
    let names: Vec<_> = units.iter().map(|(unit, _)| *unit).collect();
    start(systemd, &names).await;
    watch.jobs(names.len()).await;
    for unit in names {
        state(systemd, unit, "active/running").await;
    }
    watch.forget().await;
    watch
}

async fn clean(systemd: &impl Systemd, mut watch: Watch) {
    let units: Vec<UnitName> = systemd.files().await.unwrap().into_keys().collect();
    let names: Vec<_> = units.iter().map(UnitName::as_str).collect();
    watch.forget().await;
    stop(systemd, &names).await;
    watch.jobs(names.len()).await;
    all_ok("remove", &systemd.remove(units).await);
    systemd.reload().await.unwrap();
}

pub(crate) async fn a_probe_ends_as_its_command_does(systemd: impl Systemd) {
    let mut watch = running(&systemd, &[("web@1.service", SLEEP)]).await;
    let run = async |unit: &str, command: &[&str]| systemd.probe(probe(unit, command)).await.unwrap();
    assert_eq!(run("web@1.service", &["/bin/true"]).await, ProbeEnd::Passed);
    let failed = ProbeEnd::Failed("exited 1/FAILURE".into());
    assert_eq!(run("web@1.service", &["/bin/false"]).await, failed);
    assert_eq!(run("web@1.service", &["/bin/false"]).await, failed, "and again: nothing is left of the last one");
    let end = run("web@1.service", &["/nonexistent/alive"]).await;
    assert_eq!(end, ProbeEnd::NotRun("exited 203/EXEC".into()));
    let before = Instant::now();
    let slow = ExecProbe { timeout: Duration::from_millis(300), ..probe("web@1.service", &["/bin/sleep", "20"]) };
    assert_eq!(systemd.probe(slow.clone()).await.unwrap(), ProbeEnd::TimedOut);
    let took = before.elapsed();
    assert!(took >= slow.timeout && took < Duration::from_secs(5), "{took:?}");
    for unit in ["unknown.service", "basic.target"] {
        let end = run(unit, &["/bin/true"]).await;
        assert!(is_not_run(&end, "hasn't loaded the file"), "{unit}: {end:?}");
    }
    watch.quiet().await;
    clean(&systemd, watch).await;
}

pub(crate) async fn a_probe_runs_once_at_a_time(systemd: impl Systemd) {
    let watch = running(&systemd, &[("a.service", SLEEP), ("b.service", SLEEP)]).await;
    let slow = probe("a.service", &["/bin/sleep", "1"]);
    let run = async |probe: &ExecProbe| systemd.probe(probe.clone()).await.unwrap();
    let same_of_other = probe("b.service", &["/bin/sleep", "1"]);
    let (first, second, other) = tokio::join!(run(&slow), run(&slow), run(&same_of_other));
    assert_eq!((first, other), (ProbeEnd::Passed, ProbeEnd::Passed));
    assert!(is_not_run(&second, "hasn't ended"), "{second:?}");
    assert_eq!(run(&slow).await, ProbeEnd::Passed);
    // A caller that no longer waits: the probe continues.
    assert!(timeout(Duration::from_millis(200), run(&slow)).await.is_err());
    let end = run(&slow).await;
    assert!(is_not_run(&end, "hasn't ended"), "{end:?}");
    sleep(Duration::from_millis(1500)).await;
    assert_eq!(run(&slow).await, ProbeEnd::Passed);
    clean(&systemd, watch).await;
}

pub(crate) async fn what_no_longer_works_fails_and_its_restart_decides(systemd: impl Systemd) {
    let with = |restart: &str| format!("{SLEEP}Restart={restart}\nRestartSec=0.1\n");
    let (abnormal, no, watchdog) = (with("on-abnormal"), with("no"), with("on-watchdog"));
    let units = [("abnormal.service", &*abnormal), ("no.service", &*no), ("watchdog.service", &*watchdog)];
    let watch = running(&systemd, &units).await;
    for (unit, _) in units {
        assert_eq!(systemd.not_alive(&name(unit)).await, Ok(true), "{unit}");
    }
    state(&systemd, "no.service", "failed/failed").await;
    state(&systemd, "watchdog.service", "failed/failed").await;
    sleep(Duration::from_millis(500)).await;
    state(&systemd, "abnormal.service", "active/running").await;
    let details = systemd.details(units.map(|(unit, _)| name(unit)).to_vec()).await.unwrap();
    assert_eq!(details[&name("abnormal.service")].restarts, 1);
    let failed = &details[&name("no.service")];
    assert!(["signal", "core-dump"].contains(&failed.result.as_str()), "{failed:?}");
    assert!(failed.exit.as_ref().is_some_and(|exit| exit.ends_with(" 6/ABRT")), "{failed:?}");
    // It is down, and nothing is sent to it.
    for unit in ["no.service", "unknown.service", "basic.target"] {
        assert_eq!(systemd.not_alive(&name(unit)).await, Ok(false), "{unit}");
    }
    clean(&systemd, watch).await;
}

pub(crate) async fn what_ignores_its_watchdogs_signal_is_killed(systemd: impl Systemd) {
    let watch = running(&systemd, &[("deaf.service", DEAF)]).await;
    let deaf = name("deaf.service");
    // Its shell may not have got to the trap yet.
    sleep(Duration::from_millis(300)).await;
    assert_eq!(systemd.not_alive(&deaf).await, Ok(true));
    assert_eq!(systemd.not_alive(&deaf).await, Ok(false), "it was signalled already");
    sleep(Duration::from_millis(600)).await;
    assert_eq!(systemd.details(vec![deaf.clone()]).await.unwrap()[&deaf].restarts, 0);
    state(&systemd, "deaf.service", "active/running").await;
    sleep(Duration::from_millis(1500)).await;
    state(&systemd, "deaf.service", "active/running").await;
    assert_eq!(systemd.details(vec![deaf.clone()]).await.unwrap()[&deaf].restarts, 1);
    // The new process is signalled, too; a stop meanwhile is an ordinary one.
    assert_eq!(systemd.not_alive(&deaf).await, Ok(true));
    clean(&systemd, watch).await;
}
