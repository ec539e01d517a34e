//! What Tab completes: names that the cluster knows, asked for through the real `fleetctl` and in a real bash. It never
//! takes long, never prints an error, and never logs in anywhere.

use std::time::{Duration, Instant};

use serde_json::json;

use super::fake::{Fake, PATIENCE, Ran, Script, fleetctl, path, run};
use super::real::Real;
use super::{N1, N2, machine, running, script, unit};

fn cluster() -> Fake {
    let units = [
        running("batch@2.service", N1),
        running("batch@10.service", N1),
        running("db.service", N2),
        unit("batch@.service", "inactive", None, &[]),
    ];
    let machines = [N1, N2].map(|id| {
        let mut machine = machine(id);
        machine["metadata"] = if id == N1 { json!({ "zone": "a", "disk": "ssd" }) } else { json!({ "zone": "b" }) };
        machine["version"] = "0.1.0".into();
        machine["since"] = 0.into();
        machine
    });
    let gone = json!({ "since": 60_000, "moved": 0, "waiting": 0, "ended": 0 });
    let mut away = machines[0].clone();
    (away["id"], away["hostname"], away["gone"]) = ("3".repeat(32).into(), "n3".into(), gone);
    let mut fake = Fake::new(Script { machines: machines.to_vec(), gone: vec![away], ..script(&units, vec![]) });
    fake.variables = vec![PATIENT];
    fake
}

/// That it doesn't wait isn't what most tests show, and the machine may be busy.
const PATIENT: (&str, &str) = ("FLEETCTL_COMPLETION_TIMEOUT", PATIENCE);

/// What completes the last of `words`.
fn completed(fake: &Fake, words: &[&str]) -> Vec<String> {
    let mut command = fake.command("__complete --");
    command.args(words);
    let Ran { code, out, err } = run(command);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{words:?}");
    out.lines().map(str::to_owned).collect()
}

#[test]
fn the_cluster_completes_units_hosts_and_fields() {
    let fake = cluster();
    fake.file("db.socket", "").file("notes.txt", "").file("units/x.service", "");
    fake.file("units/y@.service", "");
    let cases: [(&[&str], &[&str]); 21] = [
        (&["stop", ""], &["batch@2.service", "batch@10.service", "db.service"]),
        (&["destroy", "ba"], &["batch@2.service", "batch@10.service", "batch@.service"]),
        (&["stop", "batch@2.service", "batch@"], &["batch@10.service"]),
        (&["start", "d"], &["db.service", "db.socket"]),
        (&["start", "units/"], &["units/x.service", "units/y@"]),
        (&["submit", "units/y"], &["units/y@.service"]),
        (&["start", "batch@"], &["batch@", "batch@2.service", "batch@10.service"]),
        (&["forget", ""], &["n3"]),
        (&["set-metadata", "n"], &["n1", "n2"]),
        (&["set-metadata", "n1", "z"], &["zone=a", "zone=b"]),
        (&["unset-metadata", "n1", ""], &["disk", "zone"]),
        (&["unset-metadata", "n1", "zone", ""], &["disk"]),
        (&["wait", "--for=in"], &["--for=inactive"]),
        (&["wait", "--for", ""], &["active", "inactive", "ready", "settled"]),
        (&["list-units", "-o", "j"], &["json"]),
        (&["list-units", "--state=failed,w"], &["--state=failed,waiting"]),
        (&["list-unit-files", "--type", "so"], &["socket"]),
        (&["ssh", "n"], &["n1", "n2"]),
        (&["list-units", "--host=n1,n"], &["--host=n1,n2"]),
        (&["list-units", "--fields=unit,h"], &["--fields=unit,hash", "--fields=unit,health", "--fields=unit,hostname"]),
        (&["list-m", "n"], &["n1", "n2"]),
    ];
    for (words, expected) in cases {
        assert_eq!(completed(&fake, words), expected, "{words:?}");
    }
}

/// The same by the real API.
fn completed_by(fleetd: &Real, words: &[&str]) -> String {
    let mut command = fleetctl(fleetd.dir.path());
    command.args(["__complete", "--", "--endpoint"]).arg(fleetd.dir.path().join("fleet.sock")).args(words);
    command.envs([PATIENT]);
    run(command).out
}

#[test]
fn services_are_completed_by_the_real_api() {
    let fleetd = Real::new();
    fleetd.host(N1);
    fleetd.announce("web", "web-1.n1", N1, 1);
    assert_eq!(completed_by(&fleetd, &["service", "w"]), "web\n");
}

/// What is taken back is offered where there is something to take back, and what is asked everywhere.
#[test]
fn hosts_are_completed_by_what_was_asked_of_them() {
    let fleetd = Real::new();
    for (id, name) in [(N1, "n1"), (N2, "n2"), (&"3".repeat(32), "n3")] {
        fleetd.named_alike(id, name);
    }
    for asked in ["cordon n1", "drain n2 --no-block", "reboot n3 --no-block"] {
        assert_eq!(fleetd.run(asked).code, Some(0), "{asked}");
    }
    let all = "n1 n2 n3 ";
    let after = [("uncordon ", "n1 "), ("undrain ", "n2 "), ("undrain --restore ", "n2 "), ("reboot --cancel ", "n3 ")];
    for (line, expected) in after.into_iter().chain([("cordon ", all), ("drain ", all), ("reboot ", all)]) {
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(completed_by(&fleetd, &words).replace('\n', " "), expected, "{line}");
    }
}

/// Names of contexts, and the cluster of the context that is in use.
#[test]
fn contexts_are_completed_and_counted() {
    let fake = cluster();
    let text = format!("[prod]\ntunnel=n1\n[preview]\nendpoint={}\n", fake.endpoint());
    fake.file("config/flotilla/config", &text);
    let ask = |context: &str, words: &[&str]| {
        let mut command = fleetctl(fake.dir.path());
        command.env("XDG_CONFIG_HOME", fake.dir.path().join("config")).env("FLEETCTL_CONTEXT", context);
        command.args(["__complete", "--"]).args(words).envs([PATIENT]);
        let Ran { code, out, err } = run(command);
        assert_eq!((code, err.as_str()), (Some(0), ""), "{words:?}");
        out
    };
    assert_eq!(ask("", &["context", "use", "p"]), "preview\nprod\n");
    assert_eq!(ask("", &["list-units", "--context", "pro"]), "prod\n");
    assert_eq!(ask("", &["--context=pre"]), "--context=preview\n");
    assert_eq!(ask("preview", &["stop", "d"]), "db.service\n");
    let asked = fake.asked().len();
    assert_eq!(ask("prod", &["stop", "d"]), "", "it would need a login");
    fake.file("config/flotilla/config", "no context\n");
    assert_eq!(ask("prod", &["stop", "d"]), "", "a mistake in the file is shown by other commands");
    assert_eq!(fake.asked().len(), asked);
}

#[test]
fn what_isnt_answered_in_time_or_would_need_a_login_is_left_out_in_silence() {
    let nothing = Ran { code: Some(0), out: String::new(), err: String::new() };
    let fake = Fake::new(Script { mute: true, ..Script::default() });
    let began = Instant::now();
    assert_eq!(fake.run("__complete -- stop d"), nothing, "it hangs");
    let took = began.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    // On a busy machine, the time is over before anything is asked.
    assert!(fake.asked().len() <= 1, "{:?}", fake.asked());

    let fake = cluster();
    for line in
        ["--tunnel n1 stop d", "stop --tunnel=n1 d", "--endpoint /nowhere/fleet.sock stop d", "--endpoint :: stop d"]
    {
        assert_eq!(fake.run(&format!("__complete -- {line}")), nothing, "{line}");
    }
    let mut tunnel = fake.command("__complete -- stop d");
    tunnel.env("FLEETCTL_TUNNEL", "n1");
    assert_eq!(run(tunnel), nothing);
    assert!(fake.asked().is_empty(), "another cluster than the one on the line is never asked");
    for line in ["", "stop -", "stop d*", "frobnicate d", "cat a d", "ssh n1 -- d"] {
        assert_eq!(fake.run(&format!("__complete -- {line}")), nothing, "{line}");
    }
}

/// Keys typed at a real bash, whose readline breaks words at `@` and `=`.
#[test]
fn tab_in_bash_completes_what_the_cluster_knows() {
    let fake = cluster();
    let typed = "fleetctl unload --no-block batch@1\t\nfleetctl list-units --no-legend --fields=hostn\tdb\n";
    let text = fake.in_bash(typed);
    assert_eq!(fake.sent(), [json!([{ "name": "batch@10.service", "desired": "inactive" }])], "{text}");
    assert!(text.contains("n2\r\n"), "{text}");
    // What it knows nothing of is completed as before, also if nobody answers.
    let fake = Fake::new(Script { mute: true, ..Script::default() });
    let text = fake.in_bash("fleetctl list-unit-f\t --no-leg\t --fields=unit --request-timeout 0.1\n");
    assert!(text.contains("no answer within 0.1 s"), "{text}");
}

/// Whether a shell is installed (`contrib/deps check` installs all of them).
#[allow(clippy::print_stderr, reason = "a test that tests nothing says so")]
fn is_there(shell: &str) -> bool {
    let there = std::path::Path::new("/usr/bin").join(shell).exists();
    if !there {
        eprintln!("{shell} isn't installed: its completion isn't tested");
    }
    there
}

#[test]
fn tab_in_zsh_completes_what_the_cluster_knows() {
    if !is_there("zsh") {
        return;
    }
    let fake = cluster();
    let setup = "autoload -Uz compinit; compinit -u -D; source <(fleetctl completion zsh)";
    let typed = "fleetctl unload --no-block batch@1\t\nfleetctl list-unit-f\t--no-leg\t--fields=desc\tdb\n";
    let text = fake.in_shell("zsh -f -i", setup, typed);
    assert_eq!(fake.sent(), [json!([{ "name": "batch@10.service", "desired": "inactive" }])], "{text}");
    assert!(text.contains("a unit\r\n"), "{text}");
}

#[test]
fn tab_in_fish_completes_what_the_cluster_knows() {
    if !is_there("fish") {
        return;
    }
    let fake = cluster();
    let completions = |line: &str| {
        let mut fish = std::process::Command::new("fish");
        fish.args(["--no-config", "-c", &format!("fleetctl completion fish | source; complete -C {line:?}")]);
        fish.env_clear().env("PATH", path()).env("HOME", fake.dir.path()).env("FLEETCTL_ENDPOINT", fake.endpoint());
        fish.current_dir(fake.dir.path()).envs(fake.variables.iter().copied());
        let ran = fish.output().unwrap();
        assert!(ran.status.success() && ran.stderr.is_empty(), "{line}: {ran:?}");
        let text = String::from_utf8(ran.stdout).unwrap();
        text.lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    for (line, expected) in [
        ("fleetctl stop ba", vec!["batch@2.service", "batch@10.service"]),
        ("fleetctl wait --for=se", vec!["--for=settled"]),
        ("fleetctl list-unit-f", vec!["list-unit-files"]),
    ] {
        let found = completions(line);
        assert!(expected.iter().all(|name| found.iter().any(|other| other == name)), "{line}: {found:?}");
    }
}
