//! What Tab completes: names that the cluster knows, asked for through the real `fleetctl` and in a real bash. It never
//! takes long, never prints an error, and never logs in anywhere.

use std::time::{Duration, Instant};

use serde_json::json;

use super::fake::{Fake, Ran, Script, fleetctl, run};
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
        machine["metadata"] = json!({});
        machine["version"] = "0.1.0".into();
        machine["since"] = 0.into();
        machine
    });
    Fake::new(Script { machines: machines.to_vec(), ..script(&units, vec![]) })
}

/// What completes the last of `words`.
fn completed(fake: &Fake, words: &[&str]) -> Vec<String> {
    // That it doesn't wait isn't what is shown here, and the machine may be busy.
    let mut seen = Vec::new();
    for _ in 0..20 {
        let mut again = fake.command("__complete --");
        again.args(words);
        let Ran { code, out, err } = run(again);
        assert_eq!((code, err.as_str()), (Some(0), ""), "{words:?}");
        seen = out.lines().map(str::to_owned).collect();
        if !seen.is_empty() {
            break;
        }
    }
    seen
}

#[test]
fn the_cluster_completes_units_hosts_and_fields() {
    let fake = cluster();
    fake.file("db.socket", "").file("notes.txt", "").file("units/x.service", "");
    let cases: [(&[&str], &[&str]); 9] = [
        (&["stop", ""], &["batch@2.service", "batch@10.service", "db.service"]),
        (&["destroy", "ba"], &["batch@2.service", "batch@10.service", "batch@.service"]),
        (&["stop", "batch@2.service", "batch@"], &["batch@10.service"]),
        (&["start", "d"], &["db.service", "db.socket"]),
        (&["start", "units/"], &["units/x.service"]),
        (&["ssh", "n"], &["n1", "n2"]),
        (&["list-units", "--host=n1,n"], &["--host=n1,n2"]),
        (&["list-units", "--fields=unit,h"], &["--fields=unit,hash", "--fields=unit,hostname"]),
        (&["list-m", "n"], &["n1", "n2"]),
    ];
    for (words, expected) in cases {
        assert_eq!(completed(&fake, words), expected, "{words:?}");
    }
}

#[test]
fn services_are_completed_by_the_real_api() {
    let fleetd = Real::new();
    fleetd.host(N1);
    fleetd.announce("web", "web-1.n1", N1, 1);
    let found = (0..20).any(|_| {
        let mut command = fleetctl(fleetd.dir.path());
        command
            .args(["__complete", "--", "--endpoint"])
            .arg(fleetd.dir.path().join("fleet.sock"))
            .args(["service", "w"]);
        run(command).out == "web\n"
    });
    assert!(found);
}

#[test]
fn what_isnt_answered_in_time_or_would_need_a_login_is_left_out_in_silence() {
    let nothing = Ran { code: Some(0), out: String::new(), err: String::new() };
    let fake = Fake::new(Script { mute: true, ..Script::default() });
    let began = Instant::now();
    assert_eq!(fake.run("__complete -- stop d"), nothing, "it hangs");
    let took = began.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(fake.asked().len(), 1);

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
    // The cluster may have been too busy to answer in time.
    let found = (0..5).any(|_| {
        let text = fake.in_bash(typed);
        fake.sent().iter().any(|sent| *sent == json!([{ "name": "batch@10.service", "desired": "inactive" }]))
            && text.contains("n2\r\n")
    });
    assert!(found, "{:?}\n{}", fake.sent(), fake.in_bash(typed));
    // What it knows nothing of is completed as before, also if nobody answers.
    let fake = Fake::new(Script { mute: true, ..Script::default() });
    let text = fake.in_bash("fleetctl list-unit-f\t --no-leg\t --fields=unit --request-timeout 0.1\n");
    assert!(text.contains("no answer within 0.1 s"), "{text}");
}
