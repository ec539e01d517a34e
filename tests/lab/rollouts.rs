//! Rollouts under load: a good version, a version that never gets ready, one that gets ready and then crashes, and the
//! way back, without a failed request through the balancer or the ambassador. Three members on three hosts that
//! conflict with each other, so that none of them can be anywhere but in its place. And a set of one with a spare.

use std::time::{Duration, Instant};

use crate::harness::{Lab, Ran, eventually};
use crate::load::{Load, failures};

const SOON: Duration = Duration::from_secs(30);

/// Requests a second in each of the two ways. A request that is under way when a program crashes fails with it, so that
/// more of them would only say how soon that happens.
const RATE: u32 = 100;

/// The file of version `version`, whose program is run with `run` before it, and with `options`.
fn web(version: &str, run: &str, options: &str) -> String {
    of(3, version, run, options)
}

/// The same for a set of one, with a spare.
fn one(version: &str, run: &str, options: &str) -> String {
    format!("{}Spare=1\n", of(1, version, run, options))
}

fn of(members: u32, version: &str, run: &str, options: &str) -> String {
    format!(
        "[Unit]\nWants=web-announce@%i.service\n\
         [Service]\nType=notify\nNotifyAccess=all\n\
         ExecStart={run}/usr/local/bin/answer --port 8080 --say {version}-%i {options}\n\
         [X-Fleet]\nReplicas={members}\nConflicts=web@*.service\n\
         [X-Health]\nReady=http://:8080/\nIntervalSec=1\nFall=1\n\
         [X-Rollout]\nHealthySec=4\nDeadlineSec=15\n"
    )
}

fn replace(lab: &Lab, file: &str) -> Ran {
    lab.file("web@.service", file);
    lab.fleetctl(&["start", "--replace", "web@.service"])
}

/// Which versions answer through the ambassador: the shop asks one for each request.
fn answers(lab: &Lab) -> Vec<String> {
    let answer = |_| lab.asks("n1", 8081, "shop").ok()?.split(", ").nth(1)?.split('-').next().map(String::from);
    let mut seen: Vec<String> = (0..12).filter_map(answer).collect();
    seen.sort();
    seen.dedup();
    seen
}

/// A cluster of three, with a set whose template is `file` behind the balancer and the ambassador.
fn served(file: &str, members: usize) -> Lab {
    let lab = Lab::cluster(3);
    for set in ["sidekick", "ambassador", "balancer"] {
        lab.units_of(set);
    }
    lab.sh("n1", "sed -i 's/--port 8080/& --meta http=80 --meta host=web.example/' /root/web-announce@.service").ok();
    lab.sh("n1", "printf '[X-Fleet]\\nMachineMetadata=host=n1\\n' >> /root/shop.service").ok();
    lab.file("web@.service", file);
    let units = ["web@.service", "web-announce@.service", "web-ambassador", "shop", "balancer", "balancer-config"];
    lab.fleetctl(&[&["start"][..], &units].concat()).ok();
    eventually(SOON, "all members are announced", || {
        let listed = lab.fleetctl(&["service", "web", "--no-legend"]).ok();
        if listed.lines().count() == members { Ok(()) } else { Err(listed) }
    });
    eventually(SOON, "the balancer answers", || lab.asks("n1", 80, "web.example"));
    eventually(SOON, "the shop answers", || lab.asks("n1", 8081, "shop"));
    lab
}

/// Requests through the balancer and the ambassador on n1 while something `happens`, for more than so many `seconds`.
/// None of them may fail.
pub(crate) fn under_load(lab: &Lab, seconds: u32, happens: impl FnOnce()) {
    let loads = [("80", "web.example"), ("8081", "shop")];
    let began = Instant::now();
    let loads = loads.map(|(port, host)| Load::start(&format!("{}:{port}", lab.ip("n1")), host, RATE));
    happens();
    std::thread::sleep(Duration::from_secs(1));
    for load in loads {
        let shots = load.stop();
        let failed = failures(&shots, began);
        assert!(failed.is_empty(), "{} of {}: {:?}", failed.len(), shots.len(), &failed[..failed.len().min(20)]);
        assert!(shots.len() as u32 > RATE * seconds, "{} requests are no load", shots.len());
    }
}

#[test]
fn versions_come_and_go_without_a_failed_request() {
    let lab = served(&web("one", "", ""), 3);
    under_load(&lab, 20, || {
        let good = replace(&lab, &web("two", "", "")).ok();
        assert!(good.contains("runs on 3 of 3"), "{good}");
        assert_eq!(answers(&lab), ["two"]);

        // It answers 502, because nobody is there to be asked.
        let never = replace(&lab, &web("three", "", "--ask 127.0.0.1:9"));
        assert!(never.code == 1 && never.stdout.contains("failed: web@3.service "), "{never:?}");
        assert_eq!(answers(&lab), ["two"]);

        let crashes = replace(&lab, &web("four", "/usr/bin/timeout 3 ", ""));
        assert!(crashes.code == 1 && crashes.stdout.contains("runs on 3 of 3"), "{crashes:?}");
        assert_eq!(answers(&lab), ["two"]);

        // Without a number it would be `two`, the last one that was stable, which runs.
        let back = lab.fleetctl(&["rollback", "web@.service", "1"]).ok();
        assert!(back.contains("runs on 3 of 3"), "{back}");
        assert_eq!(answers(&lab), ["one"]);
    });
}

#[test]
fn a_set_of_one_with_a_spare_is_never_away() {
    let lab = served(&one("one", "", ""), 1);
    under_load(&lab, 20, || {
        let good = replace(&lab, &one("two", "", "")).ok();
        assert!(good.contains("web@2.service (spare) on ") && good.contains("runs on 1 of 1"), "{good}");
        assert_eq!(answers(&lab), ["two"]);

        // Nobody was stopped for either of these.
        for (version, run, options) in [("three", "", "--ask 127.0.0.1:9"), ("four", "/usr/bin/timeout 3 ", "")] {
            let bad = replace(&lab, &one(version, run, options));
            assert!(bad.code == 1 && bad.stdout.contains("failed: web@2.service "), "{bad:?}");
            assert_eq!(answers(&lab), ["two"]);
        }

        // The spare has passed when it crashes, and the member has the file by then.
        let later = replace(&lab, &one("five", "/usr/bin/timeout 9 ", ""));
        assert!(later.code == 1 && later.stdout.contains("runs on 1 of 1"), "{later:?}");
        assert_eq!(answers(&lab), ["two"]);

        let back = replace(&lab, &one("one", "", "")).ok();
        assert!(back.contains("runs on 1 of 1"), "{back}");
        assert_eq!(answers(&lab), ["one"]);
    });
}

/// It runs once, before any member has the new file, and one that fails stops nobody.
#[test]
fn a_migration_runs_once_before_a_rollout_and_stops_it_if_it_fails() {
    let lab = Lab::cluster(2);
    let migrate = |command: &str| {
        let text = format!("[Service]\nType=oneshot\nExecStart=/bin/sh -c '{command}'\n");
        lab.file("web-migrate.service", &text);
    };
    let web = |version: &str| {
        let text = format!(
            "[Service]\nExecStart=/bin/sleep 100{version}\n[X-Fleet]\nReplicas=2\nConflicts=web@*.service\n\
             [X-Rollout]\nHealthySec=1\nDeadlineSec=20\nBefore=web-migrate.service\n"
        );
        lab.file("web@.service", &text);
    };
    let runs = |version: &str| {
        let found = ["n1", "n2"].map(|host| lab.sh(host, &format!("pgrep -fc '^/bin/sleep 100{version}$'")));
        found.iter().map(|ran| ran.stdout.trim().to_owned()).collect::<Vec<_>>()
    };
    let migrations = || {
        let log = ["n1", "n2"].map(|host| lab.sh(host, "cat /root/migrations 2>/dev/null; true").ok());
        log.concat().lines().count()
    };
    migrate("sleep 1; pgrep -f ^/bin/sleep.1002 && exit 1; echo did it >> /root/migrations");
    web("1");
    lab.fleetctl(&["start", "web@.service", "web-migrate.service"]).ok();
    assert_eq!(migrations(), 0, "the first file is started without it");

    web("2");
    let good = lab.fleetctl(&["start", "--replace", "web@.service"]).ok();
    assert!(good.contains("web-migrate.service on n") && good.contains("runs on 2 of 2"), "{good}");
    assert_eq!((migrations(), runs("2")), (1, vec!["1".to_owned(), "1".to_owned()]));
    // A restart of the daemons doesn't run it again.
    for host in ["n1", "n2"] {
        lab.sh(host, "systemctl restart fleetd").ok();
    }

    migrate("exit 3");
    lab.fleetctl(&["submit", "--replace", "web-migrate.service"]).ok();
    web("3");
    let bad = lab.fleetctl(&["start", "--replace", "web@.service"]);
    assert!(bad.code == 1 && bad.stdout.contains("web-migrate.service failed on n"), "{bad:?}");
    // Its own lines may reach the journal later than systemd's.
    assert!(bad.stdout.contains("]: web-migrate.service: "), "the end of its journal is shown: {bad:?}");
    assert_eq!((migrations(), runs("2")), (1, vec!["1".to_owned(), "1".to_owned()]), "nobody was stopped");
    let shown = lab.fleetctl(&["rollout", "web@"]).ok();
    assert!(shown.contains("reverted") && shown.contains("0 of 2 have"), "{shown}");
}
