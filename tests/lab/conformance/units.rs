//! What the commands do with units, their output and their exit status.

use std::time::{Duration, Instant};

use super::ground::{Ground, RUNS, SOON};
use crate::harness::eventually;

super::cases![
    submit_says_inactive_once,
    load_start_stop_unload_destroy_say_what_fleet_said,
    what_is_so_already_is_no_failure,
    no_units_given_exits_2,
    stop_of_an_inactive_unit_fails,
    stop_of_an_unknown_unit_fails,
    start_after_unload_starts_again,
    load_stops_a_running_unit,
    destroy_of_the_unknown_exits_0,
    destroy_waits_for_the_process_and_its_stop_command,
    destroy_without_blocking_returns_at_once,
    no_block_triggers_once,
    globals_are_triggered_and_waited_for,
    start_waits_for_a_slow_oneshot,
    start_of_a_unit_that_fails_exits_1,
    block_attempts_end_the_wait,
    a_unit_that_fits_nowhere_ends_the_wait_with_every_reason,
    a_unit_that_waits_starts_when_a_host_fits,
    cat_prints_the_file,
    replace_with_the_same_says_so,
    replace_needs_a_command_that_reaches_as_far,
    replace_restarts_in_place,
    replacing_a_template_leaves_its_instances,
    instances_follow_their_template_when_asked_to,
    an_instance_is_replaced_by_its_templates_file,
    restart_restarts_where_the_unit_is,
    restart_starts_what_is_loaded,
    restart_says_what_it_cant_restart,
    restart_of_a_global_restarts_it_everywhere,
    a_unit_called_start_confuses_nobody,
];

fn submit_says_inactive_once(g: &Ground) {
    g.file("a.service", RUNS).file("global.service", &format!("{RUNS}\n[X-Fleet]\nGlobal=true"));
    g.session(
        "fleetctl submit a.service global.service
        fleetctl submit a.service
        fleetctl list-unit-files --fields=unit,dstate,state,target",
    );
}

fn load_start_stop_unload_destroy_say_what_fleet_said(g: &Ground) {
    g.file("a.service", RUNS);
    g.session(
        "fleetctl load a.service
        fleetctl start a.service
        fleetctl stop a.service
        fleetctl start a.service
        fleetctl unload a.service
        fleetctl destroy a.service",
    );
}

fn what_is_so_already_is_no_failure(g: &Ground) {
    g.file("a.service", RUNS);
    let nothing = |participle: &str| format!("Successfully {participle} units [].\n");
    for (command, said) in [
        ("submit", String::new()),
        ("load", String::new()),
        ("start", String::new()),
        ("stop", nothing("stopped")),
        ("unload", nothing("unloaded")),
    ] {
        g.fleetctl(&format!("{command} a.service")).ok();
        let pid = g.lab.main_pid(g.host(1), "a.service");
        let ran = g.fleetctl(&format!("{command} a.service"));
        assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (0, "", said.as_str()), "{command}");
        assert_eq!(g.lab.main_pid(g.host(1), "a.service"), pid);
    }
}

/// fleet exited with 0.
fn no_units_given_exits_2(g: &Ground) {
    for command in ["submit", "load", "start", "restart", "stop", "unload", "destroy", "journal"] {
        let ran = g.fleetctl(command);
        assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.trim()), (2, "", "No units given"), "{command}");
    }
}

fn stop_of_an_inactive_unit_fails(g: &Ground) {
    g.file("a.service", RUNS);
    g.fleetctl("submit a.service").ok();
    let ran = g.fleetctl("stop a.service");
    assert_eq!((ran.code, ran.stderr.trim()), (1, "Unable to stop unit a.service in state inactive"));
    // fleet didn't process the other units.
    g.file("b.service", RUNS);
    g.fleetctl("start b.service").ok();
    let ran = g.fleetctl("stop a.service b.service");
    let said = "Unable to stop unit a.service in state inactive\nSuccessfully stopped units [b.service].\n";
    assert_eq!((ran.code, ran.stderr.as_str()), (1, said));
    assert!(ran.stdout.starts_with("Unit b.service loaded on ") && g.ranks("b.service").is_empty(), "{ran:?}");
}

fn stop_of_an_unknown_unit_fails(g: &Ground) {
    let ran = g.fleetctl("stop nothing.service");
    assert!(ran.code == 1 && ran.stderr.contains("nothing.service"), "{ran:?}");
}

fn start_after_unload_starts_again(g: &Ground) {
    g.file("a.service", RUNS);
    g.fleetctl("start a.service").ok();
    g.fleetctl("unload a.service").ok();
    assert!(g.ranks("a.service").is_empty());
    g.fleetctl("start a.service").ok();
    assert_eq!(g.ranks("a.service"), [1]);
}

/// Commands set the desired state, as in fleet.
fn load_stops_a_running_unit(g: &Ground) {
    g.file("a.service", RUNS);
    g.fleetctl("start a.service").ok();
    assert!(g.fleetctl("load a.service").ok().starts_with("Unit a.service loaded on "));
    assert!(g.ranks("a.service").is_empty());
}

fn destroy_of_the_unknown_exits_0(g: &Ground) {
    g.file("a.service", RUNS);
    g.fleetctl("submit a.service").ok();
    g.session(
        "fleetctl destroy nothing.service
        fleetctl destroy nothing.service a.service",
    );
}

/// fleet answered immediately and removed the file, so that systemd had no `ExecStop=` any more.
fn destroy_waits_for_the_process_and_its_stop_command(g: &Ground) {
    g.file("a.service", &format!("{RUNS}\nExecStop=/bin/sh -c 'sleep 1; touch /run/stopped'"));
    g.fleetctl("start a.service").ok();
    let host = g.host(1);
    g.lab.sh(host, "rm -f /run/stopped").ok();
    g.fleetctl("destroy a.service").ok();
    g.lab.sh(host, "test -e /run/stopped").ok();
    assert_eq!(g.lab.sh(host, "ls /run/fleet/units").ok(), "");
}

/// In fleet, destroy waited only with `--no-block`.
fn destroy_without_blocking_returns_at_once(g: &Ground) {
    g.file("a.service", &format!("{RUNS}\nExecStop=/bin/sleep 6"));
    g.fleetctl("start a.service").ok();
    let began = Instant::now();
    assert_eq!(g.fleetctl("destroy --no-block a.service").ok(), "Destroyed a.service\n");
    assert!(began.elapsed() < Duration::from_secs(5), "it took {:?}", began.elapsed());
    eventually(SOON, "its file gone", || {
        let left = g.lab.sh(g.host(1), "ls /run/fleet/units").stdout;
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
}

/// fleet printed the message twice for start.
fn no_block_triggers_once(g: &Ground) {
    g.file("a.service", RUNS).file("global.service", &format!("{RUNS}\n[X-Fleet]\nGlobal=true"));
    g.session(
        "fleetctl load --no-block a.service
        fleetctl start --no-block a.service global.service
        fleetctl stop --no-block a.service global.service
        fleetctl unload --no-block a.service global.service",
    );
}

fn globals_are_triggered_and_waited_for(g: &Ground) {
    g.file("global.service", &format!("{RUNS}\n[X-Fleet]\nGlobal=true"));
    assert_eq!(g.fleetctl("start global.service").ok(), "Triggered global unit global.service start\n");
    assert_eq!(g.ranks("global.service"), [1, 2, 3], "active everywhere when the command ends");
    assert_eq!(g.fleetctl("stop global.service").code, 0);
    assert!(g.ranks("global.service").is_empty());
}

/// fleet gave up after 2 s: "Failed to find an active unit".
fn start_waits_for_a_slow_oneshot(g: &Ground) {
    g.file("slow.service", "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sleep 3");
    assert!(g.fleetctl("start slow.service").ok().starts_with("Unit slow.service launched on "));
    assert_eq!(g.ranks("slow.service"), [1]);
    g.file("over.service", "[Service]\nType=oneshot\nExecStart=/bin/true");
    assert!(g.fleetctl("start over.service").ok().starts_with("Unit over.service launched on "));
}

fn start_of_a_unit_that_fails_exits_1(g: &Ground) {
    g.file("bad.service", "[Service]\nExecStart=/bin/false\nType=oneshot");
    let ran = g.fleetctl("start bad.service");
    assert!(ran.code == 1 && ran.stdout.is_empty() && ran.stderr.contains("bad.service failed on"), "{ran:?}");
}

fn block_attempts_end_the_wait(g: &Ground) {
    g.file("slow.service", "[Service]\nType=oneshot\nExecStart=/bin/sleep 20");
    let began = Instant::now();
    let ran = g.fleetctl("start --block-attempts=1 slow.service");
    assert!(ran.code == 1 && ran.stderr.contains("slow.service"), "{ran:?}");
    assert!(began.elapsed() < Duration::from_secs(15), "one attempt is 2 s, it took {:?}", began.elapsed());
}

/// fleet waited forever, without a message.
fn a_unit_that_fits_nowhere_ends_the_wait_with_every_reason(g: &Ground) {
    g.file("a.service", &format!("{RUNS}\n[X-Fleet]\nMachineMetadata=disk=ssd"));
    g.session("fleetctl start a.service\nfleetctl list-unit-files --no-legend --fields=unit,dstate,state,target");
}

fn a_unit_that_waits_starts_when_a_host_fits(g: &Ground) {
    g.file("a.service", &format!("{RUNS}\n[X-Fleet]\nMachineMetadata=disk=ssd"));
    assert_eq!(g.fleetctl("start a.service").code, 1);
    let patch = |op: &str| {
        let body = format!(r#"[{{"op":"{op}","path":"/{}/metadata/disk","value":"ssd"}}]"#, g.id(2));
        assert_eq!(g.http("PATCH", "/machines", &[], Some(&body)).status, 204);
    };
    patch("add");
    g.until_ranks("a.service", &[2]);
    // It is removed from a host that it doesn't fit any more, as in fleet.
    patch("remove");
    g.until_ranks("a.service", &[]);
}

/// fleet dropped the comments.
fn cat_prints_the_file(g: &Ground) {
    g.file("a.service", &format!("# a comment\n\n{RUNS}"));
    g.fleetctl("submit a.service").ok();
    g.session(
        "fleetctl cat a.service
        fleetctl cat a
        fleetctl cat nothing.service
        fleetctl cat
        fleetctl cat a.service b.service",
    );
}

fn replace_with_the_same_says_so(g: &Ground) {
    g.file("a.service", RUNS);
    g.fleetctl("start a.service").ok();
    g.session("fleetctl submit --replace a.service\nfleetctl start --replace a.service");
}

/// The exit status was 0 in fleet.
fn replace_needs_a_command_that_reaches_as_far(g: &Ground) {
    g.file("a.service", RUNS);
    g.fleetctl("start a.service").ok();
    g.file("a.service", "[Service]\nExecStart=/bin/sleep 20000");
    g.session(
        "fleetctl submit --replace a.service\nfleetctl load --replace a.service\nfleetctl start --replace a.service",
    );
    // A loaded unit can be replaced by load, and an inactive one by each command.
    for (text, refused, allowed) in [("1", Some("submit"), "load"), ("2", None, "submit")] {
        g.fleetctl(if refused.is_some() { "load a.service" } else { "unload a.service" }).ok();
        g.file("a.service", &format!("{RUNS}{text}"));
        if let Some(refused) = refused {
            let ran = g.fleetctl(&format!("{refused} --replace a.service"));
            assert!(ran.code == 1 && ran.stderr.contains("it is loaded, and `submit` replaces"), "{ran:?}");
        }
        g.fleetctl(&format!("{allowed} --replace a.service")).ok();
        assert!(g.fleetctl("cat a.service").ok().contains(&format!("10000{text}")));
    }
}

/// fleet unscheduled it, and placed it on any host that fitted.
fn replace_restarts_in_place(g: &Ground) {
    g.file("a.service", RUNS).file("b.service", RUNS);
    g.fleetctl("start a.service").ok();
    g.fleetctl("start b.service").ok();
    assert_eq!(g.ranks("b.service"), [2]);
    g.fleetctl("destroy a.service").ok();
    // Rank 1 has less to do now.
    g.file("b.service", "[Service]\nExecStart=/bin/sleep 20000");
    g.fleetctl("start --replace b.service").ok();
    assert_eq!(g.ranks("b.service"), [2]);
    let command = g.lab.run(g.host(2), &["systemctl", "show", "-p", "ExecStart", "b.service"]).ok();
    assert!(command.contains("20000"), "{command}");
}

fn replacing_a_template_leaves_its_instances(g: &Ground) {
    g.file("t@.service", RUNS);
    g.fleetctl("submit t@.service").ok();
    g.fleetctl("start t@1.service").ok();
    let pid = g.lab.main_pid(g.host(1), "t@1.service");
    g.file("t@.service", "[Service]\nExecStart=/bin/sleep 20000");
    g.fleetctl("submit --replace t@.service").ok();
    assert_ne!(g.field("t@.service", "hash"), g.field("t@1.service", "hash"));
    assert_eq!(g.lab.main_pid(g.host(1), "t@1.service"), pid);
}

/// In fleet, each instance had to be replaced by itself.
fn instances_follow_their_template_when_asked_to(g: &Ground) {
    g.file("t@.service", RUNS);
    g.fleetctl("submit t@.service").ok();
    g.fleetctl("start t@1").ok();
    g.fleetctl("load t@2").ok();
    g.file("t@.service", "[Service]\nExecStart=/bin/sleep 20000");
    g.fleetctl("submit --replace --instances t@.service").ok();
    for (unit, desired) in [("t@.service", "inactive"), ("t@1.service", "launched"), ("t@2.service", "loaded")] {
        assert!(g.fleetctl(&format!("cat {unit}")).ok().contains("20000"), "{unit}");
        assert_eq!(g.field(unit, "dstate"), desired, "{unit}");
    }
    let command = g.lab.run(g.host(1), &["systemctl", "show", "-p", "ExecStart", "t@1.service"]).ok();
    assert!(command.contains("20000") && g.ranks("t@1.service") == [1], "{command}");
}

/// Each instance by its name, whether or not the template was replaced.
fn an_instance_is_replaced_by_its_templates_file(g: &Ground) {
    g.file("t@.service", RUNS);
    g.fleetctl("start t@1 t@2").ok();
    g.file("t@.service", "[Service]\nExecStart=/bin/sleep 20000");
    g.fleetctl("start --replace t@1").ok();
    assert!(g.fleetctl("cat t@1").ok().contains("20000") && g.fleetctl("cat t@2").ok().contains("10000"));
    let command = g.lab.run(g.host(1), &["systemctl", "show", "-p", "ExecStart", "t@1.service"]).ok();
    assert!(command.contains("20000"), "{command}");
}

/// fleet's agents didn't notice the request, but fleetctl reported success.
fn restart_restarts_where_the_unit_is(g: &Ground) {
    g.file("a.service", RUNS).file("b.service", RUNS);
    g.fleetctl("start a b").ok();
    let pids = || [(1, "a.service"), (2, "b.service")].map(|(rank, unit)| g.lab.main_pid(g.host(rank), unit));
    let before = pids();
    assert_eq!(
        g.fleetctl("restart a.service b").ok(),
        [(1, "a"), (2, "b")]
            .map(|(rank, unit)| format!("Unit {unit}.service launched on {}.../10.0.0.{rank}\n", &g.id(rank)[..8]))
            .concat()
    );
    let after = pids();
    assert!(before.iter().zip(&after).all(|(old, new)| old != new && new != "0"), "{before:?} {after:?}");
    assert_eq!(g.fleetctl("restart --no-block a").ok(), "Triggered unit a.service restart\n");
    eventually(SOON, "a.service restarted once more", || {
        let now = g.lab.main_pid(g.host(1), "a.service");
        if now != after[0] && now != "0" { Ok(()) } else { Err(now) }
    });
    assert_eq!((g.ranks("a.service"), g.ranks("b.service")), (vec![1], vec![2]));
}

fn restart_starts_what_is_loaded(g: &Ground) {
    g.file("a.service", RUNS);
    g.fleetctl("load a.service").ok();
    assert!(g.fleetctl("restart a.service").ok().starts_with("Unit a.service launched on "));
    assert_eq!((g.ranks("a.service"), g.field("a.service", "dstate")), (vec![1], "launched".into()));
}

/// fleet exited with 0, and looked for a file of an unknown unit first.
fn restart_says_what_it_cant_restart(g: &Ground) {
    g.file("a.service", RUNS).file("local.service", RUNS);
    g.fleetctl("submit a.service").ok();
    g.session(
        "fleetctl restart a.service
        fleetctl restart nothing.service local.service
        fleetctl list-unit-files --no-legend --fields=unit,dstate",
    );
}

fn restart_of_a_global_restarts_it_everywhere(g: &Ground) {
    g.file("all.service", &format!("{RUNS}\n[X-Fleet]\nGlobal=true"));
    g.fleetctl("start all.service").ok();
    let pids = || [1, 2, 3].map(|rank| g.lab.main_pid(g.host(rank), "all.service"));
    let before = pids();
    g.fleetctl("restart all.service").ok();
    let after = pids();
    assert!(before.iter().zip(&after).all(|(old, new)| old != new && new != "0"), "{before:?} {after:?}");
}

/// fleet guessed the command from all words of the line.
fn a_unit_called_start_confuses_nobody(g: &Ground) {
    g.file("start", RUNS).file("a.service", RUNS);
    g.sh("mv start start.service").ok();
    g.fleetctl("start a.service").ok();
    g.file("a.service", "[Service]\nExecStart=/bin/sleep 20000");
    let ran = g.fleetctl("submit --replace a.service start");
    assert!(ran.code == 1 && ran.stderr.contains("a.service was not replaced: it is launched"), "{ran:?}");
}
