//! How `fleetctl` is called: options, environment, names, and which file is used for a unit.

use super::ground::{Ground, RUNS};

super::cases![
    endpoint_is_a_unix_or_file_or_http_url_or_a_list,
    environment_sets_global_options_and_the_command_line_wins,
    an_empty_variable_counts_as_unset,
    commands_can_be_shortened_while_unique,
    unknown_commands_and_flags_exit_2_and_talk_on_stderr,
    help_is_on_stdout,
    options_stand_anywhere,
    single_dash_options_and_l_are_understood,
    version_is_told_wherever_it_is_asked_for,
    debug_works_on_the_command_line,
    an_unreachable_endpoint_exits_1_and_says_why,
    a_name_without_a_type_is_a_service,
    targets_slices_and_swaps_keep_their_names,
    a_path_is_the_file_and_its_base_the_name,
    all_files_are_checked_before_one_is_sent,
    what_the_cluster_has_needs_no_file,
    an_instance_is_made_of_the_clusters_template,
    an_instance_is_made_of_the_template_beside_its_path,
    an_own_file_goes_before_the_clusters_template_and_that_before_a_templates_file,
    a_file_that_differs_from_the_clusters_is_warned_about,
    errors_of_files_and_names_are_said_in_a_sentence,
    long_lines_are_fine,
    an_unknown_fleet_option_is_an_error,
    patterns_select_units_of_the_cluster,
];

fn endpoint_is_a_unix_or_file_or_http_url_or_a_list(g: &Ground) {
    for endpoint in [
        "unix:///run/fleet.sock",
        "unix:///var/run/fleet.sock",
        "file:///run/fleet.sock",
        "http://127.0.0.1:49153",
        "http://127.0.0.1:49153/",
        "unix:///nowhere,unix:///run/fleet.sock",
    ] {
        let listed = g.fleetctl(&format!("--endpoint {endpoint} list-machines --no-legend")).ok();
        assert_eq!(listed.lines().count(), 3, "{endpoint}");
    }
}

fn environment_sets_global_options_and_the_command_line_wins(g: &Ground) {
    assert_eq!(g.sh("FLEETCTL_ENDPOINT=/nowhere fleetctl list-machines").code, 1);
    g.sh("FLEETCTL_ENDPOINT=/nowhere fleetctl --endpoint /run/fleet.sock list-machines").ok();
    // The options of commands have no variables.
    let ran = g.sh("FLEETCTL_NO_LEGEND=true FLEETCTL_FULL=true FLEETCTL_FIELDS=ip fleetctl list-machines");
    assert_eq!(ran.ok(), g.fleetctl("list-machines").ok());
    for reach in ["FLEETCTL_TUNNEL=127.0.0.1:1", "FLEETCTL_SSH_TIMEOUT=soon", "FLEETCTL_REQUEST_TIMEOUT=soon"] {
        assert_ne!(g.sh(&format!("{reach} fleetctl list-machines")).code, 0, "{reach}");
    }
    assert!(g.sh("FLEETCTL_DEBUG=true fleetctl list-machines").stderr.contains("/fleet/v2/machines"));
}

fn an_empty_variable_counts_as_unset(g: &Ground) {
    g.sh("FLEETCTL_ENDPOINT= FLEETCTL_REQUEST_TIMEOUT= FLEETCTL_DEBUG= FLEETCTL_TUNNEL= FLEETCTL_DRIVER= fleetctl \
        list-machines")
        .ok();
}

fn commands_can_be_shortened_while_unique(g: &Ground) {
    assert_eq!(g.fleetctl("list-m --no-legend").ok(), g.fleetctl("list-machines --no-legend").ok());
    g.file("a.service", RUNS);
    assert_eq!(g.fleetctl("submi a.service").ok(), "Unit a.service inactive\n");
    let ran = g.fleetctl("list-u");
    assert!(ran.code == 2 && ran.stderr.contains("list-units") && ran.stderr.contains("list-unit-files"), "{ran:?}");
}

/// fleet exited with 0.
fn unknown_commands_and_flags_exit_2_and_talk_on_stderr(g: &Ground) {
    for line in
        ["frobnicate", "strat a.service", "start --bogus a.service", "list-units --bogus", "start --block-attempts x a"]
    {
        let ran = g.fleetctl(line);
        assert!(ran.code == 2 && ran.stdout.is_empty() && !ran.stderr.is_empty(), "{line}: {ran:?}");
    }
    let named = g.fleetctl("rm a.service").stderr;
    assert!(named.contains("`fleetctl destroy a.service`"), "the command that does it is named: {named}");
}

fn help_is_on_stdout(g: &Ground) {
    for line in ["--help", "-h", "--h", "-help", "help", "start --help", "help start", "start -h"] {
        let ran = g.fleetctl(line);
        assert!(ran.code == 0 && ran.stdout.contains("Usage: fleetctl") && ran.stderr.is_empty(), "{line}: {ran:?}");
    }
}

fn options_stand_anywhere(g: &Ground) {
    g.file("a.service", RUNS).file("b.service", RUNS);
    let ran = g.fleetctl("--no-block start a.service --endpoint=/run/fleet.sock b.service");
    assert_eq!(ran.ok(), "Triggered unit a.service start\nTriggered unit b.service start\n");
}

/// They stopped working with fleet 0.13, and scripts use both spellings.
fn single_dash_options_and_l_are_understood(g: &Ground) {
    let full = g.fleetctl("list-machines --no-legend --full").ok();
    for line in [
        "list-machines -no-legend -full",
        "list-machines -no-legend -l",
        "list-machines --no-legend --l",
        "-endpoint /run/fleet.sock list-machines -no-legend=true --full=1",
    ] {
        assert_eq!(g.fleetctl(line).ok(), full, "{line}");
    }
    g.file("a.service", RUNS);
    g.fleetctl("start -no-block -replace -block-attempts=2 a.service").ok();
    g.until_ranks("a.service", &[1]);
    for list in ["list-units", "list-unit-files"] {
        let full = g.fleetctl(&format!("{list} --full")).ok();
        assert!(full.contains(g.id(1)));
        assert_eq!(g.fleetctl(&format!("{list} -l")).ok(), full);
    }
    let ids = g.fleetctl("list-machines -fields=machine -no-legend -full=false").ok();
    assert_eq!(ids.lines().next().unwrap(), format!("{}...", &g.id(1)[..8]));
}

fn version_is_told_wherever_it_is_asked_for(g: &Ground) {
    let version = g.fleetctl("version").ok();
    assert!(version.starts_with("fleetctl version ") && version.lines().count() == 1, "{version}");
    for line in ["--version", "-v", "-version", "--endpoint /nowhere --version", "list-units --version"] {
        assert_eq!(g.fleetctl(line).ok(), version, "{line}");
    }
}

/// In fleet it worked in the environment only.
fn debug_works_on_the_command_line(g: &Ground) {
    let ran = g.fleetctl("--debug list-machines --no-legend");
    assert!(ran.stderr.contains("/fleet/v2/machines") && ran.stdout.lines().count() == 3, "{ran:?}");
}

fn an_unreachable_endpoint_exits_1_and_says_why(g: &Ground) {
    g.session(
        "fleetctl --endpoint /nowhere/fleet.sock list-units
        fleetctl --endpoint /nowhere/fleet.sock start a.service
        fleetctl --endpoint http://127.0.0.1:1 list-machines
        fleetctl --endpoint nonsense list-machines",
    );
}

fn a_name_without_a_type_is_a_service(g: &Ground) {
    g.file("a.service", RUNS);
    assert_eq!(g.fleetctl("submit a").ok(), "Unit a.service inactive\n");
    assert_eq!(g.fleetctl("destroy a").ok(), "Destroyed a.service\n");
}

/// fleetctl made `x.target.service` of them.
fn targets_slices_and_swaps_keep_their_names(g: &Ground) {
    g.file("x.target", "[Unit]\nDescription=A target").file("x.slice", "[Slice]\nCPUWeight=50");
    let ran = g.fleetctl("submit x.target x.slice");
    assert_eq!(ran.ok(), "Unit x.target inactive\nUnit x.slice inactive\n");
    g.file("x.swap", "[Swap]\nWhat=/x").file("x.scope", "[Scope]\nCPUWeight=50");
    assert_eq!(g.fleetctl("submit x.swap").ok(), "Unit x.swap inactive\n");
    let ran = g.fleetctl("submit x.scope");
    assert!(ran.code == 1 && ran.stderr.contains("scopes are made by programs"), "{ran:?}");
}

fn a_path_is_the_file_and_its_base_the_name(g: &Ground) {
    g.sh("mkdir -p units/deep").ok();
    g.file("units/deep/a.service", RUNS);
    assert_eq!(g.fleetctl("submit units/deep/a.service").ok(), "Unit a.service inactive\n");
    assert_eq!(g.fleetctl("submit ./units/deep/a").ok(), "");
    // After that, the path can be used in place of the name.
    assert_eq!(g.fleetctl("destroy units/deep/a.service").ok(), "Destroyed a.service\n");
}

/// fleet sent them one by one, and stopped at the first error.
fn all_files_are_checked_before_one_is_sent(g: &Ground) {
    g.file("a.service", RUNS).file("bad.service", "[Service\nExecStart=/bin/true");
    let ran = g.fleetctl("start a.service bad.service missing.service");
    assert_eq!(ran.code, 1, "{ran:?}");
    for said in [
        "bad.service:1: bad section header",
        "no unit missing.service in the cluster, and no file of that name here",
        "nothing was submitted",
    ] {
        assert!(ran.stderr.contains(said), "{ran:?}");
    }
    assert_eq!(g.fleetctl("list-unit-files --no-legend").ok(), "");
}

fn what_the_cluster_has_needs_no_file(g: &Ground) {
    g.file("a.service", RUNS);
    g.fleetctl("submit a.service").ok();
    g.sh("rm a.service").ok();
    assert!(g.fleetctl("start a.service").ok().starts_with("Unit a.service launched on "));
}

fn an_instance_is_made_of_the_clusters_template(g: &Ground) {
    g.file("t@.service", RUNS);
    assert_eq!(g.fleetctl("submit t@.service").ok(), "Unit t@.service inactive\n");
    g.sh("rm t@.service").ok();
    assert!(g.fleetctl("start t@1 t@2.service").ok().contains("Unit t@2.service launched on "));
    assert_eq!(g.field("t@1.service", "hash"), g.field("t@.service", "hash"));
    // A template itself can't be started.
    let ran = g.fleetctl("start t@.service");
    assert!(ran.code == 1 && ran.stderr.contains("cannot activate template \"t@.service\""), "{ran:?}");
}

fn an_instance_is_made_of_the_template_beside_its_path(g: &Ground) {
    g.sh("mkdir -p units").ok();
    g.file("units/t@.service", RUNS).file("units/t@2.service", "[Service]\nExecStart=/bin/sleep 20000");
    assert_eq!(
        g.fleetctl("submit units/t@1.service units/t@2.service").ok(),
        "Unit t@1.service inactive\nUnit t@2.service inactive\n"
    );
    // An instance's own file takes precedence over its template's, and instances are copies: no template was submitted.
    assert_ne!(g.field("t@1.service", "hash"), g.field("t@2.service", "hash"));
    assert_eq!(g.fleetctl("list-unit-files --no-legend --fields=unit").ok(), "t@1.service\nt@2.service\n");
}

fn an_own_file_goes_before_the_clusters_template_and_that_before_a_templates_file(g: &Ground) {
    let sleeps = |seconds: u32| format!("[Service]\nExecStart=/bin/sleep {seconds}");
    g.file("t@.service", &sleeps(1001));
    g.fleetctl("submit t@.service").ok();
    g.file("t@.service", &sleeps(1002)).file("t@own.service", &sleeps(1003));
    g.fleetctl("submit t@own t@other").ok();
    for (unit, seconds) in [("t@own", 1003), ("t@other", 1001)] {
        assert!(g.fleetctl(&format!("cat {unit}")).ok().contains(&seconds.to_string()), "{unit}");
    }
}

fn a_file_that_differs_from_the_clusters_is_warned_about(g: &Ground) {
    g.file("a.service", RUNS).file("t@.service", RUNS);
    g.fleetctl("submit a.service t@1.service").ok();
    let other = "[Service]\nExecStart=/bin/sleep 20000";
    g.file("a.service", other).file("t@.service", other);
    g.session("fleetctl submit a.service t@1.service");
}

fn errors_of_files_and_names_are_said_in_a_sentence(g: &Ground) {
    g.file("empty.service", "").file("bad name.service", RUNS).file("t@.mount", "[Mount]\nWhat=/a\nWhere=/b");
    g.file("text.service", "hello").file("ok.service", RUNS).file("header.service", "[Service] x\nExecStart=/bin/true");
    g.session(
        "fleetctl submit missing.service
        fleetctl submit 'bad name.service'
        fleetctl submit t@.mount
        fleetctl submit empty.service
        fleetctl submit text.service ok.service
        fleetctl submit header.service
        fleetctl load missing.service
        fleetctl start missing.service missing@1.service
        fleetctl list-unit-files --no-legend",
    );
}

/// fleet's parser refused lines of more than 2048 bytes.
fn long_lines_are_fine(g: &Ground) {
    let text = format!("[Unit]\nDescription={}\n{RUNS}", "long ".repeat(1000));
    g.file("a.service", &text);
    g.fleetctl("start a.service").ok();
}

/// fleet only printed a warning and ignored the option.
fn an_unknown_fleet_option_is_an_error(g: &Ground) {
    g.file("a.service", &format!("{RUNS}\n[X-Fleet]\nMachineMetdata=a=b\nBogus=1"));
    g.session("fleetctl submit a.service\nfleetctl list-unit-files --no-legend");
}

/// fleet had no patterns.
fn patterns_select_units_of_the_cluster(g: &Ground) {
    g.file("t@.service", RUNS).file("u.service", RUNS);
    g.fleetctl("submit t@1 t@2 u").ok();
    assert_eq!(g.fleetctl("destroy 't@*'").ok(), "Destroyed t@1.service\nDestroyed t@2.service\n");
    assert_eq!(g.fleetctl("list-unit-files --no-legend --fields=unit").ok(), "u.service\n");
}
