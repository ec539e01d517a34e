//! One contract for two hosts: the host in memory, and a real systemd over D-Bus. Its tests are in [`body`]; tests that
//! need a real host are here.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test says what went wrong by failing, and how long each promise took"
)]

mod body;
mod host;
mod lease;
mod probes;

use std::collections::BTreeMap;
use std::fs;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use flotilla::systemd::fake::Fake;
use flotilla::systemd::{Event, Systemd};
use futures_util::FutureExt as _;

use body::{SLEEP, Watch, install, name, start, state};
use host::Host;

macro_rules! contract {
    ($($room:ident::$promise:ident)*) => {
        mod fake {
            $(
                #[tokio::test(start_paused = true)]
                async fn $promise() {
                    super::$room::$promise(super::Fake::default()).await;
                }
            )*
        }

        /// All tests on one real host, one after the other; a failed one doesn't stop the others.
        #[tokio::test]
        async fn real_systemd() {
            let host = Host::boot();
            let mut broken = Vec::new();
            promise(&host, "boot", boot(&host), &mut broken).await;
            assert!(broken.is_empty(), "no systemd came up on a bus; it needs root, and said:\n{}", host.log());
            $(promise(&host, stringify!($promise), $room::$promise(host.adapter()), &mut broken).await;)*
            promise(&host, "lease_of_the_next_daemon", lease_of_the_next_daemon(&host), &mut broken).await;
            promise(&host, "probes_of_units", probes_of_units(&host), &mut broken).await;
            promise(&host, "probes_that_are_left", probes_that_are_left(&host), &mut broken).await;
            promise(&host, "aliases", aliases(&host), &mut broken).await;
            promise(&host, "drop_ins", drop_ins(&host), &mut broken).await;
            promise(&host, "same_body", same_body(&host), &mut broken).await;
            promise(&host, "links", links(&host), &mut broken).await;
            promise(&host, "what_the_host_has", what_the_host_has(&host), &mut broken).await;
            promise(&host, "what_is_left_is_heard", what_is_left_is_heard(&host), &mut broken).await;
            promise(&host, "reexecution", reexecution(&host), &mut broken).await;
            promise(&host, "death_of_the_bus", death_of_the_bus(&host), &mut broken).await;
            assert!(broken.is_empty(), "broken: {broken:?}\n{}", host.log());
        }
    };
}

contract! {
    body::a_new_unit_starts_without_reload
    body::a_changed_file_of_a_loaded_unit_needs_a_reload
    body::a_staged_file_takes_its_place_when_it_is_installed
    body::a_running_unit_keeps_its_state_when_its_file_gets_the_same_body
    body::a_chain_starts_in_order_and_stops_in_reverse
    body::dependencies_mean_what_they_mean_to_systemd
    body::a_missing_dependency_is_said_and_its_file_ends_it
    body::one_bad_unit_harms_only_itself
    body::a_failed_reinstall_leaves_the_old_file
    body::a_jobs_end_says_how
    body::a_start_limit_counts_until_failures_are_forgotten
    body::what_is_removed_is_forgotten
    body::what_is_in_memory_is_told_without_reading_files
    body::a_running_unit_survives_its_file
    body::install_sections_count_after_a_reload_and_go_with_the_file
    body::no_event_is_lost_in_a_flood
    body::unknown_units_are_not_found_and_their_stop_is_done
    body::a_unit_of_the_hosts_own_is_refused_and_not_touched
    body::a_slow_stop_shows
    body::a_later_subscription_replaces_the_earlier
    body::notes_are_kept
    lease::without_the_lease_nothing_that_ends_with_it_starts
    lease::the_lease_ends_at_its_last_deadline
    lease::what_does_not_stop_with_the_lease_is_killed
    lease::what_waits_for_another_stop_when_the_lease_ends_is_killed
    probes::a_probe_ends_as_its_command_does
    probes::a_probe_runs_once_at_a_time
    probes::what_no_longer_works_fails_and_its_restart_decides
    probes::what_ignores_its_watchdogs_signal_is_killed
}

async fn promise(host: &Host, what: &'static str, test: impl Future<Output = ()>, broken: &mut Vec<&'static str>) {
    let before = Instant::now();
    let kept = AssertUnwindSafe(test).catch_unwind().await.is_ok();
    eprintln!("{what}: {} in {:?}", if kept { "kept" } else { "BROKEN" }, before.elapsed());
    if !kept {
        broken.push(what);
        if what == "boot" {
            return;
        }
        // The next test must not fail because of what this one has left behind.
        let adapter = host.adapter();
        let left: Vec<_> = adapter.files().await.unwrap_or_default().into_keys().collect();
        adapter.stop(left.clone()).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        adapter.remove(left).await;
        let _ = adapter.reload().await;
    }
}

/// The deadlines of a daemon hold after `daemon-reexec` and are replaced by the next daemon; and no timer that was
/// replaced stays in systemd's memory.
async fn lease_of_the_next_daemon(host: &Host) {
    let (first, second) = (host.adapter(), host.adapter());
    let reexecute = || assert_eq!(host.systemctl(&["daemon-reexec"]).trim(), "");
    lease::the_next_daemon_sets_the_deadlines(&first, &second, reexecute).await;
    let now = tokio::time::Instant::now();
    for turn in 1..=20 {
        let at = now + Duration::from_secs(60 + turn);
        first.set_deadlines(Some(flotilla::systemd::Deadlines { stop: at, kill: at })).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let timers = || host.systemctl(&["list-units", "--all", "--no-legend", "--plain", "fleetd-lease-*.timer"]);
    assert_eq!(timers().lines().count(), 2, "{}", timers());
    first.set_deadlines(None).await.unwrap();
}

/// A probe runs as its unit does, and nothing is left of it.
async fn probes_of_units(host: &Host) {
    let systemd = host.adapter();
    let file = host.dir.path().join("fleet/like.env");
    fs::create_dir_all(host.dir.path().join("fleet")).unwrap();
    fs::write(&file, "FROM_FILE=2\n").unwrap();
    let text = format!(
        "[Service]\nExecStartPre=/bin/sh -c 'echo private > /tmp/flotilla-probe-like'\n\
         ExecStart=/bin/sleep 1000\nEnvironment=FROM_UNIT=1\nEnvironmentFile={}\nWorkingDirectory=-/usr\n\
         Slice=like.slice\nUMask=0027\nNoNewPrivileges=yes\nUser=daemon\nPrivateTmp=yes\n\
         SystemCallFilter=~@mount\n",
        file.display()
    );
    let mut watch = Watch::begin(&systemd).await;
    install(&systemd, &[("like.service", &text)]).await;
    host.drop_in("like.service", "[Service]\nEnvironment=FROM_DROP_IN=3\n");
    systemd.reload().await.unwrap();
    start(&systemd, &["like.service"]).await;
    watch.jobs(1).await;
    state(&systemd, "like.service", "active/running").await;
    let tests = [
        ("$FROM_UNIT$FROM_FILE$FROM_DROP_IN", "123"),
        ("$(pwd)", "/usr"),
        ("$(umask)", "0027"),
        ("$(id -un)", "daemon"),
        ("$(grep NoNewPrivs /proc/self/status | tr -dc 01)", "1"),
        ("$(grep Seccomp: /proc/self/status | tr -dc 012)", "2"),
        ("$(grep -o like.slice/fleet-probe-like- /proc/self/cgroup | head -1)", "like.slice/fleet-probe-like-"),
        ("$(cat /tmp/flotilla-probe-like)", "private"),
    ];
    for (found, expected) in tests {
        let command = format!("test \"{found}\" = \"{expected}\"").replace('$', "$$");
        let end = systemd.probe(probes::probe("like.service", &["/bin/sh", "-c", &command])).await;
        assert_eq!(end, Ok(flotilla::systemd::ProbeEnd::Passed), "{found}");
    }
    let left = host.systemctl(&["list-units", "--all", "--no-legend", "--plain", "fleet-probe-*"]);
    assert_eq!(left, "", "nothing is left of them");
    body::stop(&systemd, &["like.service"]).await;
    state(&systemd, "like.service", "inactive/dead").await;
    body::all_ok("remove", &systemd.remove(vec![name("like.service")]).await);
}

/// A daemon that dies leaves a probe that ends by itself; the next one runs it again then.
async fn probes_that_are_left(host: &Host) {
    let (first, second) = (host.adapter(), host.adapter());
    install(&first, &[("left.service", SLEEP)]).await;
    start(&first, &["left.service"]).await;
    state(&first, "left.service", "active/running").await;
    let mut slow = probes::probe("left.service", &["/bin/sleep", "1000"]);
    slow.timeout = Duration::from_secs(1);
    // Its connection is lost with its runtime.
    let daemon = host.adapter();
    let left = slow.clone();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let run = async { tokio::time::timeout(Duration::from_millis(500), daemon.probe(left)).await };
        assert!(runtime.block_on(run).is_err(), "it runs longer");
    });
    thread.join().unwrap();
    let end = second.probe(slow.clone()).await.unwrap();
    assert!(probes::is_not_run(&end, "hasn't ended"), "{end:?}");
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let left = host.systemctl(&["list-units", "--all", "--no-legend", "--plain", "fleet-probe-*"]);
    assert_eq!(left, "", "systemd forgets it");
    assert_eq!(second.probe(slow).await, Ok(flotilla::systemd::ProbeEnd::TimedOut));
    body::stop(&first, &["left.service"]).await;
    state(&first, "left.service", "inactive/dead").await;
    body::all_ok("remove", &first.remove(vec![name("left.service")]).await);
}

/// systemd asks for no reload when a file changes in what it doesn't read, and asks for one when it changes otherwise.
async fn same_body(host: &Host) {
    let systemd = host.adapter();
    let needs_reload = || host.systemctl(&["show", "--property=NeedDaemonReload", "same.service"]).trim().to_owned();
    let mut watch = Watch::begin(&systemd).await;
    install(&systemd, &[("same.service", SLEEP)]).await;
    start(&systemd, &["same.service"]).await;
    watch.jobs(1).await;
    for more in ["[X-Fleet]\nGlobal=true\n", "# why\n[X-Health]\nReady=tcp:80\n", ""] {
        install(&systemd, &[("same.service", &format!("{SLEEP}{more}"))]).await;
        assert_eq!(needs_reload(), "NeedDaemonReload=no", "{more}");
    }
    install(&systemd, &[("same.service", &format!("{SLEEP}Nice=1\n"))]).await;
    assert_eq!(needs_reload(), "NeedDaemonReload=yes");
    body::stop(&systemd, &["same.service"]).await;
    watch.jobs(1).await;
    body::all_ok("remove", &systemd.remove(vec![name("same.service")]).await);
    systemd.reload().await.unwrap();
}

async fn boot(host: &Host) {
    Watch::begin(&host.adapter()).await;
}

/// The state of a unit that is requested under an alias is returned under that alias.
async fn aliases(host: &Host) {
    host.own_unit("primary.service", SLEEP, "alias.service");
    let systemd = host.adapter();
    systemd.reload().await.unwrap();
    assert!(host.systemctl(&["show", "--property=Id", "alias.service"]).contains("Id=primary.service"));
    start(&systemd, &["alias.service"]).await;
    state(&systemd, "primary.service", "active/running").await;
    let units = [name("unknown.service"), name("alias.service"), name("primary.service")];
    let found = systemd.units(units.to_vec()).await.unwrap();
    let actives = units.each_ref().map(|unit| found[unit].active.as_str());
    assert_eq!(actives, ["inactive", "active", "active"]);
    body::stop(&systemd, &["alias.service"]).await;
    state(&systemd, "primary.service", "inactive/dead").await;
}

/// What a drop-in binds to a unit is stopped with it, also through a unit that isn't ours.
async fn drop_ins(host: &Host) {
    let systemd = host.adapter();
    host.drop_in("middle.target", "[Unit]\nRequires=root.service\nAfter=root.service\n");
    host.drop_in("mate.service", "[Unit]\nPartOf=middle.target\n");
    fs::write(host.unit_file("middle.target"), "[Unit]\nDescription=middle\n").unwrap();
    install(&systemd, &[("root.service", SLEEP), ("mate.service", SLEEP)]).await;
    systemd.reload().await.unwrap();
    start(&systemd, &["root.service", "mate.service"]).await;
    state(&systemd, "mate.service", "active/running").await;
    host.systemctl(&["start", "middle.target"]);
    let with = systemd.stopped_with(vec![name("root.service")]).await.unwrap();
    let bound = ["mate.service", "middle.target"].map(name).into_iter().collect();
    assert_eq!(with, BTreeMap::from([(name("root.service"), bound)]));
    body::stop(&systemd, &["root.service"]).await;
    state(&systemd, "mate.service", "inactive/dead").await;
    body::all_ok("remove", &systemd.remove(vec![name("root.service"), name("mate.service")]).await);
}

/// Links are systemd's runtime links, and all are removed.
async fn links(host: &Host) {
    let systemd = host.adapter();
    let link = host.link("linked.service");
    let want = host.link("some.target.wants/linked.service");
    let text = format!("{SLEEP}[Install]\nWantedBy=some.target\n");
    install(&systemd, &[("linked.service", &text)]).await;
    assert!(link.is_symlink() && want.is_symlink(), "{} {}", link.display(), want.display());
    body::all_ok("remove", &systemd.remove(vec![name("linked.service")]).await);
    assert!(!link.is_symlink() && !want.is_symlink(), "{} {}", link.display(), want.display());
    systemd.install(vec![(name("linked.service"), format!("{SLEEP}[Install]\nWantedBy=no/unit\n"))]).await;
    assert!(!link.is_symlink(), "{} is left after a failed install", link.display());
}

/// A foreign unit of any kind isn't changed, and our file isn't linked over it.
async fn what_the_host_has(host: &Host) {
    let systemd = host.adapter();
    host.own_unit("packaged@.service", SLEEP, "packaged-alias@.service");
    let masked = host.own_unit("masked.service", SLEEP, "masked-alias.service");
    std::fs::remove_file(&masked).unwrap();
    std::os::unix::fs::symlink("/dev/null", &masked).unwrap();
    systemd.reload().await.unwrap();
    host.systemctl(&["start", "packaged@1.service"]);
    let shown = |unit: &str| host.systemctl(&["show", "--property=ActiveState,MainPID,FragmentPath", unit]);
    let units = ["packaged@.service", "packaged@1.service", "packaged-alias@.service", "basic.target"];
    let before = units.map(shown);
    assert!(before[1].contains("ActiveState=active") && before[3].contains("ActiveState=active"), "{before:?}");
    for unit in units {
        let outcomes = systemd.install(vec![(name(unit), SLEEP.to_owned())]).await;
        let Err(flotilla::systemd::Error::Refused(why)) = &outcomes[0].1 else { panic!("{unit}: {outcomes:?}") };
        assert!(why.starts_with(&format!("the host has a {unit} of its own: /")), "{why}");
        systemd.stop(vec![name(unit)]).await;
        systemd.remove(vec![name(unit)]).await;
        assert!(!host.link(unit).is_symlink(), "{unit}");
    }
    assert_eq!(units.map(shown), before);
    // A masked unit can be installed, and systemd reports the mask when it is started.
    install(&systemd, &[("masked.service", SLEEP)]).await;
    let started = systemd.start(vec![name("masked.service")]).await;
    assert!(
        matches!(&started[0].1, Err(flotilla::systemd::Error::Refused(why)) if why.contains("masked")),
        "{started:?}"
    );
    body::all_ok("remove", &systemd.remove(vec![name("masked.service")]).await);
    host.systemctl(&["stop", "packaged@1.service"]);
}

/// A unit whose file can't be removed is still ours: its events are delivered.
async fn what_is_left_is_heard(host: &Host) {
    let systemd = host.adapter();
    let mut watch = Watch::begin(&systemd).await;
    install(&systemd, &[("left.service", SLEEP)]).await;
    start(&systemd, &["left.service"]).await;
    watch.jobs(1).await;
    let file = host.dir.path().join("fleet/units/left.service");
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    let outcomes = systemd.remove(vec![name("left.service")]).await;
    assert!(matches!(&outcomes[0].1, Err(flotilla::systemd::Error::Io(_))), "{outcomes:?}");
    watch.forget().await;
    // It dies by itself, without a job.
    host.systemctl(&["kill", "--signal=KILL", "left.service"]);
    while watch.next("its death").await != Event::Changed(name("left.service")) {}
    std::fs::remove_dir(&file).unwrap();
    body::all_ok("remove", &systemd.remove(vec![name("left.service")]).await);
}

/// `daemon-reexec`: a new systemd in the same process, whose signals must still be received.
async fn reexecution(host: &Host) {
    let systemd = host.adapter();
    let mut watch = Watch::begin(&systemd).await;
    install(&systemd, &[("stays.service", SLEEP)]).await;
    start(&systemd, &["stays.service"]).await;
    watch.jobs(1).await;
    assert_eq!(host.systemctl(&["daemon-reexec"]).trim(), "");
    watch.resync().await;
    follows(&systemd, &mut watch, "stays.service").await;
}

/// The bus is killed: calls and events use the next one.
async fn death_of_the_bus(host: &Host) {
    let systemd = host.adapter();
    let mut watch = Watch::begin(&systemd).await;
    install(&systemd, &[("stays.service", SLEEP)]).await;
    start(&systemd, &["stays.service"]).await;
    watch.jobs(1).await;
    let bus = || host.systemctl(&["show", "--property=MainPID", "dbus.service"]);
    let before = bus();
    assert!(before.starts_with("MainPID="), "{before}");
    // The answer to this call is lost with the bus.
    host.systemctl(&["kill", "--signal=KILL", "dbus.service"]);
    watch.resync().await;
    let after = bus();
    assert!(after.starts_with("MainPID=") && after != before, "{before} {after}");
    follows(&systemd, &mut watch, "stays.service").await;
}

/// Check that the unit is unchanged, and that the signal of its stop is received.
async fn follows(systemd: &impl Systemd, watch: &mut Watch, of: &str) {
    state(systemd, of, "active/running").await;
    body::stop(systemd, &[of]).await;
    let stopped = Event::JobDone { unit: name(of), result: "done".into() };
    while watch.next("the stop's end").await != stopped {}
    body::all_ok("remove", &systemd.remove(vec![name(of)]).await);
}
