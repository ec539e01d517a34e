//! `fleetctl journal` with the real journals of three hosts, through a real sshd: what is shown, and that no entry is
//! lost or shown twice when units move, hosts fail and sessions are cut.

use std::collections::BTreeMap;
use std::time::Duration;

use flotilla::model::systemd::ActiveState;

use crate::harness::{Lab, eventually};

const HOSTS: [&str; 3] = ["n1", "n2", "n3"];
const SOON: Duration = Duration::from_secs(15);

/// Three hosts on which `fleetctl` on n1 can log in. Their TTL is so long that a cut of ten seconds moves no unit.
fn cluster() -> Lab {
    let lab = Lab::boot(3, &["--conf", "agent_ttl=40"]);
    lab.sh("n1", "mkdir -p -m 700 /root/.ssh && ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519").ok();
    let key = lab.run("n1", &["cat", "/root/.ssh/id_ed25519.pub"]).ok();
    for host in HOSTS {
        let line = format!("mkdir -p -m 700 /root/.ssh && echo '{}' >> /root/.ssh/authorized_keys", key.trim());
        lab.sh(host, &line).ok();
        lab.run(host, &["systemctl", "start", "ssh"]).ok();
    }
    lab.start_fleet(3);
    lab
}

const SSH: [&str; 2] = ["FLEETCTL_SSH_USERNAME=root", "FLEETCTL_STRICT_HOST_KEY_CHECKING=false"];

fn journal(lab: &Lab, args: &[&str]) -> crate::harness::Ran {
    let words = [&["env", "-C", "/root"], &SSH[..], &["fleetctl", "journal"], args].concat();
    lab.run("n1", &words)
}

/// A `fleetctl journal -f ARGS` on n1, whose output is in `/root/out` and `/root/err`.
fn follow(lab: &Lab, args: &[&str]) {
    let settings = ["systemd-run", "--quiet", "--unit=follow", "--property=CPUAccounting=yes"];
    let files = ["--property=StandardOutput=file:/root/out", "--property=StandardError=file:/root/err"];
    let env = SSH.map(|variable| format!("--setenv={variable}"));
    let env = [env[0].as_str(), &env[1], "--setenv=HOME=/root", "--setenv=TZ=UTC"];
    let program = lab.run("n1", &["sh", "-c", "command -v fleetctl"]).ok();
    let command = [program.trim(), "journal", "-f"];
    lab.run("n1", &[&settings[..], &files, &env, &command, args].concat()).ok();
}

fn followed(lab: &Lab) -> Vec<String> {
    lab.run("n1", &["cat", "/root/out"]).stdout.lines().map(str::to_owned).collect()
}

fn said(lab: &Lab) -> String {
    lab.run("n1", &["cat", "/root/err"]).stdout
}

/// The output of journalctl on `host` for a unit.
fn truth(lab: &Lab, host: &str, unit: &str) -> Vec<String> {
    let ran = lab.run(host, &["journalctl", "--no-pager", "--quiet", "-o", "cat", "-u", unit]).ok();
    ran.lines().map(str::to_owned).collect()
}

/// What `fleetctl journal -f ARGS` on n1 prints until it is interrupted: after 2 s if it has printed `enough` lines by
/// then, and later otherwise.
fn followed_until(lab: &Lab, args: &[&str], enough: usize) -> crate::harness::Ran {
    let follow = |seconds| {
        let words = ["env", "-C", "/root", "TZ=UTC", SSH[0], SSH[1], "timeout", "-s", "INT", seconds, "fleetctl"];
        lab.run("n1", &[&words[..], &["journal", "-f"], args].concat())
    };
    let mut ran = follow("2");
    for longer in ["10", "40"] {
        if ran.stdout.lines().count() >= enough {
            break;
        }
        ran = follow(longer);
    }
    ran
}

/// The messages of the lines of `unit` (without its type) on `host`, of merged lines.
fn of<'a>(lines: &'a [String], host: &str, unit: &str) -> Vec<&'a str> {
    let message = |line: &'a String| {
        let mut words = line.splitn(2, ' ');
        let (on, rest) = (words.next()?, words.next()?.trim_start());
        let (label, rest) = rest.split_once(' ')?;
        let (_, message) = rest.trim_start().split_once("  ")?;
        (on == host && label == unit).then_some(message)
    };
    lines.iter().filter_map(message).collect()
}

/// The lines, parsed if they are JSON: the order of journalctl's fields differs each time.
fn whole(text: &str) -> Vec<serde_json::Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| line.into())).collect()
}

const TALKS: &str = "[Service]\nType=oneshot\nRemainAfterExit=yes\n\
    ExecStart=/bin/sh -c 'for i in 1 2 3 4 5; do echo \"%n says $i\"; done; echo \"<3>%n is in trouble\"'";

#[test]
fn what_units_said_is_shown_wherever_they_are() {
    let lab = cluster();
    lab.file("web@.service", &format!("{TALKS}\n[X-Fleet]\nConflicts=web@*"));
    lab.file("agent.service", &format!("{TALKS}\n[X-Fleet]\nGlobal=true"));
    lab.file("db.service", &format!("{TALKS}\n[X-Fleet]\nMachineMetadata=host=n2"));
    lab.fleetctl(&["start", "web@1", "web@2", "web@3", "agent", "db"]).ok();
    eventually(SOON, "the global unit everywhere", || {
        let units = lab.units()?;
        let agent = units.iter().find(|unit| unit.name.as_str() == "agent.service").ok_or("none")?;
        let active = agent.states.iter().filter(|state| state.report.active == ActiveState::Active).count();
        if active == 3 { Ok(()) } else { Err(format!("{agent:?}")) }
    });
    // What a unit and systemd say reaches the journal a little later than the state of the unit.
    eventually(SOON, "the last lines of all seven in the journals", || {
        let units = ["-u", "web@*", "-u", "agent.service", "-u", "db.service"];
        let written =
            HOSTS.map(|host| lab.run(host, &[&["journalctl", "-q", "-o", "cat"], &units[..]].concat()).stdout);
        let (all, count) = (written.concat(), |what: &str| written.concat().matches(what).count());
        if (count("is in trouble"), count("Finished ")) == (7, 7) { Ok(()) } else { Err(all) }
    });
    // For one unit, the output is journalctl's own, in every format and with every selection.
    for args in [
        &["--output=short"][..],
        &["--output=verbose"],
        &["--output=export"],
        &["--output=json"],
        &["--output=short-iso-precise"],
        &["--lines=3", "--output=cat"],
        &["--priority=err"],
        &["--grep=says [24]"],
        &["--since=-1h"],
        &["--until=-1h"],
        &["--until=+1h"],
    ] {
        let ours = journal(&lab, &[args, &["db"]].concat());
        let lines = if args
            .iter()
            .any(|arg| arg.starts_with("--lines") || arg.starts_with("--since") || arg.starts_with("--until"))
        {
            "--no-pager"
        } else {
            "--lines=10"
        };
        let theirs = lab.run("n2", &[&["journalctl", "--no-pager", "-u", "db.service", lines], args].concat());
        assert_eq!((ours.code, whole(&ours.stdout)), (theirs.code, whole(&theirs.stdout)), "{args:?}: {}", ours.stderr);
    }
    // With --follow, it looks the same.
    for format in [
        "short",
        "short-precise",
        "short-iso",
        "short-iso-precise",
        "short-full",
        "short-unix",
        "short-monotonic",
        "cat",
        "json",
    ] {
        let output = format!("--output={format}");
        let theirs = lab.run("n2", &["journalctl", "--no-pager", "-u", "db.service", "-n10", &output]);
        let ours = followed_until(&lab, &["db", &output], theirs.stdout.lines().count());
        assert_eq!(whole(&ours.stdout), whole(&theirs.stdout), "{format}: {}", ours.stderr);
    }
    // For many units: all entries of all of them, in the order of their times, with host and unit.
    let all = journal(&lab, &["web@*", "agent", "db", "--lines=all", "--output=short-unix"]).ok();
    let lines: Vec<String> = all.lines().map(str::to_owned).collect();
    for host in HOSTS {
        assert_eq!(of(&lines, host, "agent"), truth(&lab, host, "agent.service"), "on {host}: {all}");
    }
    assert_eq!(of(&lines, "n2", "db"), truth(&lab, "n2", "db.service"), "{all}");
    let time = |line: &String| line.split_whitespace().nth(2).map(str::to_owned);
    let times: Vec<String> = lines.iter().filter_map(time).collect();
    assert!(times.len() == lines.len() && times.is_sorted(), "{all}");
    let template = journal(&lab, &["web@.service", "--lines=all"]).ok();
    let expected: usize = (1..=3)
        .map(|i| {
            truth(&lab, &lab.active_on("n1", &format!("web@{i}.service")).unwrap(), &format!("web@{i}.service")).len()
        })
        .sum();
    assert_eq!(template.lines().count(), expected, "{template}");
    // Selections apply to every host.
    let trouble = journal(&lab, &["web@*", "db", "--priority=err", "--output=cat"]).ok();
    let mut trouble: Vec<&str> = trouble.lines().collect();
    trouble.sort_unstable();
    let expected = [
        "db.service is in trouble",
        "web@1.service is in trouble",
        "web@2.service is in trouble",
        "web@3.service is in trouble",
    ];
    assert_eq!(trouble, expected);
    let matched = journal(&lab, &["agent", "--grep=says [24]", "--lines=4", "--output=cat"]).ok();
    assert_eq!(matched.lines().count(), 4, "{matched}");
    assert!(matched.lines().all(|line| line.ends_with('2') || line.ends_with('4')), "{matched}");
    // A text that some hosts never logged is no error; if no host logged it, the exit status is journalctl's 1.
    assert_eq!(journal(&lab, &["agent", "db", "--grep=db.*says 5", "--output=cat"]).ok(), "db.service says 5\n");
    let nothing = journal(&lab, &["agent", "db", "--grep=never said"]);
    assert_eq!((nothing.code, nothing.stdout.as_str(), nothing.stderr.as_str()), (1, "", ""));
    let ours = followed_until(&lab, &["*", "--grep=db.*says 5", "--output=cat"], 1);
    // 124: it continued until timeout(1) ended it.
    assert_eq!((ours.code, ours.stdout.as_str()), (124, "db.service says 5\n"), "{}", ours.stderr);
    assert_eq!(journal(&lab, &["web@*", "--until=-1h"]).ok(), "");
    for time in ["--since=-1h", "--until=+1h"] {
        let last = journal(&lab, &["web@*", time, "--lines=2"]).ok();
        let expected: Vec<&str> = template.lines().rev().take(2).collect();
        assert_eq!(last.lines().rev().collect::<Vec<_>>(), expected, "{time}");
    }
    assert_eq!(journal(&lab, &["web@*", "--since=-1h"]).ok().lines().count(), template.lines().count());
    let json = journal(&lab, &["db", "agent", "--lines=1", "--output=json"]).ok();
    let entry: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(HOSTS.contains(&entry["host"].as_str().unwrap()) && entry["__CURSOR"].is_string(), "{json}");
    // A start that fails shows the reason, whichever host it is on. On a busy host, journald reads what a program
    // prints later than what systemd says about its end.
    lab.file(
        "bad.service",
        "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'seq 9; echo no luck today; sleep 2; exit 3'\n\
         [X-Fleet]\nMachineMetadata=host=n3",
    );
    let words = ["env", "-C", "/root", SSH[0], SSH[1], "fleetctl", "start", "bad"];
    let failed = lab.run("n1", &words);
    assert_eq!(failed.code, 1, "{failed:?}");
    assert!(failed.stderr.contains("]: no luck today\n"), "{failed:?}");
}

const LOAD: &str = "import sys, time\n\
    rate, count, began = float(sys.argv[1]), int(sys.argv[2]), time.monotonic()\n\
    for i in range(1, count + 1):\n    print(\"line\", i, flush=True)\n    \
    time.sleep(max(0, began + i / rate - time.monotonic()))\n";

/// Write a unit that does something `first`, prints `count` numbered lines, `rate` of them a second, and then ends.
fn load(lab: &Lab, name: &str, first: &str, (rate, count): (u32, u32), fleet: &str) {
    for host in HOSTS {
        lab.sh(host, &format!("cat > /usr/local/bin/load.py <<'END'\n{LOAD}END")).ok();
    }
    let text = format!(
        "[Service]\nExecStart=/bin/sh -c '{first}; exec python3 /usr/local/bin/load.py {rate} {count}'\n\
         ExecStop=/bin/echo stopping\n[X-Fleet]\n{fleet}"
    );
    lab.file(name, &text);
}

#[test]
fn units_are_followed_when_they_move_and_hosts_when_they_return() {
    let lab = cluster();
    load(&lab, "mover.service", "sleep 5", (20, 4000), "MachineMetadata=host=n2");
    follow(&lab, &["m*", "stay@*"]);
    eventually(SOON, "the follower waiting", || {
        if lab.run("n1", &["systemctl", "is-active", "follow"]).code == 0 { Ok(()) } else { Err(said(&lab)) }
    });
    // A unit that is added: all that it logs is shown, from its first line on.
    lab.fleetctl(&["start", "mover"]).ok();
    eventually(SOON, "lines of the mover on n2", || {
        let lines = followed(&lab);
        if of(&lines, "n2", "mover").len() > 30 { Ok(()) } else { Err(format!("{lines:?} {}", said(&lab))) }
    });
    // It moves to n3, faster than the last entries arrive from n2.
    load(&lab, "mover.service", "sleep 5", (20, 4000), "MachineMetadata=host=n3");
    lab.run("n2", &["pkill", "-STOP", "-x", "journalctl"]).ok();
    lab.fleetctl(&["start", "--replace", "mover"]).ok();
    std::thread::sleep(Duration::from_millis(500));
    lab.run("n2", &["pkill", "-CONT", "-x", "journalctl"]).ok();
    eventually(SOON, "lines of the mover on n3", || {
        let lines = followed(&lab);
        if of(&lines, "n3", "mover").len() > 30 { Ok(()) } else { Err(format!("{lines:?} {}", said(&lab))) }
    });
    let told = said(&lab);
    assert!(told.contains("-- mover moved from n2 to n3\n") || told.contains("-- mover is on n3 now\n"), "{told}");
    let lines = followed(&lab);
    assert_eq!(of(&lines, "n2", "mover"), truth(&lab, "n2", "mover.service"));
    let there = truth(&lab, "n3", "mover.service");
    let seen = of(&lines, "n3", "mover");
    assert_eq!(seen, there[..seen.len()]);
    let last_of_old = lines.iter().rposition(|line| line.starts_with("n2 ")).unwrap();
    let first_of_new = lines.iter().position(|line| line.starts_with("n3 ")).unwrap();
    assert!(last_of_old < first_of_new, "{last_of_old} {first_of_new}");

    // Its host reboots. It returns within the TTL, so the unit stays.
    let before = of(&followed(&lab), "n3", "mover").len();
    lab.lab(&["reboot", "n3"]).ok();
    lab.run("n3", &["systemctl", "start", "ssh"]).ok();
    lab.until_active("mover.service", Duration::from_secs(40));
    eventually(Duration::from_secs(30), "lines of the mover after the reboot", || {
        let lines = followed(&lab);
        let again = of(&lines, "n3", "mover").iter().filter(|line| **line == "line 20").count();
        if again == 2 { Ok(()) } else { Err(format!("{:?} {}", lines.last(), said(&lab))) }
    });
    // The entries of this boot's journal are shown once and in order, after those that were shown before.
    let boot: Vec<String> = lab
        .run("n3", &["journalctl", "-b", "--no-pager", "--quiet", "-o", "cat", "-u", "mover.service"])
        .ok()
        .lines()
        .map(str::to_owned)
        .collect();
    let lines = eventually(SOON, "all of them", || {
        let lines = followed(&lab);
        if of(&lines, "n3", "mover").len() >= before + boot.len() { Ok(lines) } else { Err(said(&lab)) }
    });
    let seen = of(&lines, "n3", "mover");
    let start = seen.iter().rposition(|line| *line == "line 1").unwrap();
    let start_of_boot = boot.iter().position(|line| line == "line 1").unwrap();
    assert_eq!(seen[start..start + 20], boot[start_of_boot..start_of_boot + 20]);
    for number in 1..=20 {
        let count = seen.iter().filter(|line| **line == format!("line {number}")).count();
        assert_eq!(count, 2, "line {number}, once for each start on n3: {}", said(&lab));
    }
    lab.run("n1", &["systemctl", "stop", "follow"]);
}

const UNITS: u32 = 20;

/// 20 units on three hosts, each with `count` lines at `rate` lines a second, while `trouble` happens. Then every line
/// must have been shown.
fn under_load(rate: u32, count: u32, trouble: impl Fn(&Lab)) {
    let lab = cluster();
    // They print nothing before all hosts are followed.
    load(&lab, "load@.service", "until [ -e /run/followed ]; do sleep 0.2; done", (rate, count), "");
    let names: Vec<String> = (1..=UNITS).map(|i| format!("load@{i}.service")).collect();
    let start: Vec<&str> = ["start"].into_iter().chain(names.iter().map(String::as_str)).collect();
    lab.fleetctl(&start).ok();
    follow(&lab, &["load@*"]);
    let units = lab.units().unwrap();
    let on =
        |name: &str| units.iter().find(|unit| unit.name.as_str() == name).unwrap().machine.clone().unwrap().hostname;
    let mut places: BTreeMap<String, String> = BTreeMap::new();
    for name in &names {
        places.insert(name.clone(), on(name));
    }
    for host in HOSTS {
        assert!(places.values().filter(|on| *on == host).count() >= 6, "{places:?}");
    }
    for host in HOSTS {
        eventually(SOON, &format!("{host} followed"), || {
            let readers = lab.run(host, &["pgrep", "-x", "-c", "journalctl"]);
            if readers.code == 0 { Ok(()) } else { Err(said(&lab)) }
        });
    }
    for host in HOSTS {
        lab.run(host, &["touch", "/run/followed"]).ok();
    }
    trouble(&lab);
    let all = (UNITS * count) as usize;
    let limit = Duration::from_secs(u64::from(count / rate) + 90);
    let seen = || lab.sh("n1", "grep -c '  line ' /root/out").stdout.trim().parse::<usize>().unwrap_or(0);
    let mut last = 0;
    eventually(limit, "all lines, or no more", || {
        std::thread::sleep(Duration::from_secs(5));
        let before = std::mem::replace(&mut last, seen());
        if last >= all || (last == before && last > 0) {
            Ok(())
        } else {
            Err(format!("{last} of {all}; {}", said(&lab)))
        }
    });
    let cpu = lab.run("n1", &["systemctl", "show", "--value", "-p", "CPUUsageNSec", "follow"]).ok();
    eprintln!(
        "{all} lines cost fleetctl {} ms of a processor; it said: {}",
        cpu.trim().parse::<u64>().unwrap_or(0) / 1_000_000,
        said(&lab)
    );
    let lines = followed(&lab);
    for (name, host) in &places {
        let label = name.strip_suffix(".service").unwrap();
        let seen: Vec<&str> = of(&lines, host, label).into_iter().filter(|line| line.starts_with("line ")).collect();
        let expected: Vec<String> = (1..=count).map(|number| format!("line {number}")).collect();
        if !seen.iter().eq(expected.iter()) {
            let there = truth(&lab, host, name);
            let missing: Vec<&String> = expected.iter().filter(|line| !seen.contains(&line.as_str())).collect();
            let not_there: Vec<&String> = expected.iter().filter(|line| !there.contains(line)).collect();
            panic!(
                "{name} on {host}: {} lines of {count}; never seen {missing:?}, of which the host's own journal \
                 hasn't {not_there:?}; said {}",
                seen.len(),
                said(&lab)
            );
        }
    }
    lab.run("n1", &["systemctl", "stop", "follow"]);
}

#[test]
fn nothing_is_lost_under_load_while_a_host_is_cut_off() {
    under_load(100, 6000, |lab| {
        std::thread::sleep(Duration::from_secs(20));
        lab.lab(&["cut", "n3"]).ok();
        std::thread::sleep(Duration::from_secs(10));
        lab.lab(&["join", "n3"]).ok();
    });
}

#[test]
fn nothing_is_lost_when_sessions_are_cut() {
    under_load(50, 1000, |lab| {
        for _ in 0..4 {
            std::thread::sleep(Duration::from_secs(4));
            for host in ["n2", "n3"] {
                eventually(SOON, &format!("a session with {host} to be cut"), || {
                    let killed = lab.sh(host, "pids=$(pgrep -f '[s]shd: root@notty') && kill -9 $pids");
                    if killed.code == 0 { Ok(()) } else { Err(said(lab)) }
                });
            }
        }
    });
}
