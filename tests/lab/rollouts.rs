//! Rollouts under load: a good version, a version that never gets ready, one that gets ready and then crashes, and the
//! way back, without a failed request through the balancer or the ambassador. Three members on three hosts that
//! conflict with each other, so that none of them can be anywhere but in its place.

use std::time::{Duration, Instant};

use crate::harness::{Lab, Ran, eventually};
use crate::load::{Load, failures};

const SOON: Duration = Duration::from_secs(30);

/// Requests a second, of each of the two ways.
const RATE: u32 = 100;

/// The file of version `version`, whose program is run with `run` before it, and with `options`.
fn web(version: &str, run: &str, options: &str) -> String {
    format!(
        "[Unit]\nWants=web-announce@%i.service\n\
         [Service]\nType=notify\nNotifyAccess=all\n\
         ExecStart={run}/usr/local/bin/answer --port 8080 --say {version}-%i {options}\n\
         [X-Fleet]\nReplicas=3\nConflicts=web@*.service\n\
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

#[test]
fn versions_come_and_go_without_a_failed_request() {
    let lab = Lab::cluster(3);
    for set in ["sidekick", "ambassador", "balancer"] {
        lab.units_of(set);
    }
    lab.sh("n1", "sed -i 's/--port 8080/& --meta http=80 --meta host=web.example/' /root/web-announce@.service").ok();
    lab.sh("n1", "printf '[X-Fleet]\\nMachineMetadata=host=n1\\n' >> /root/shop.service").ok();
    lab.file("web@.service", &web("one", "", ""));
    let units = ["web@.service", "web-announce@.service", "web-ambassador", "shop", "balancer", "balancer-config"];
    lab.fleetctl(&[&["start"][..], &units].concat()).ok();
    eventually(SOON, "all three are announced", || {
        let listed = lab.fleetctl(&["service", "web", "--no-legend"]).ok();
        if listed.lines().count() == 3 { Ok(()) } else { Err(listed) }
    });
    eventually(SOON, "the balancer answers", || lab.asks("n1", 80, "web.example"));
    eventually(SOON, "the shop answers", || lab.asks("n1", 8081, "shop"));

    let loads = [("80", "web.example"), ("8081", "shop")];
    let began = Instant::now();
    let loads = loads.map(|(port, host)| Load::start(&format!("{}:{port}", lab.ip("n1")), host, RATE));

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

    let back = replace(&lab, &web("one", "", "")).ok();
    assert!(back.contains("runs on 3 of 3"), "{back}");
    assert_eq!(answers(&lab), ["one"]);

    std::thread::sleep(Duration::from_secs(1));
    for load in loads {
        let shots = load.stop();
        let failed = failures(&shots, began);
        assert!(failed.is_empty(), "{} of {}: {:?}", failed.len(), shots.len(), &failed[..failed.len().min(20)]);
        assert!(shots.len() as u32 > RATE * 20, "{} requests are no load", shots.len());
    }
}
