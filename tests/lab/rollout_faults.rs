//! Rollouts on real hosts under faults: the store is away for longer than `DeadlineSec=`, the leader's host dies, a
//! member's host dies, all daemons are replaced. Each goes on where it was; nobody gets a file twice, and nothing fails
//! for it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::harness::{Lab, eventually};

const SET: &str = "web@.service";
const MEMBERS: usize = 3;
/// One more than there are members, which conflict with each other: those of a host that dies have somewhere to go.
const HOSTS: [&str; 4] = ["n1", "n2", "n3", "n4"];
const DEADLINE: Duration = Duration::from_secs(8);
const SOON: Duration = Duration::from_secs(30);
/// Until leases have ended, units have moved, and three members have been healthy one after another.
const TO_THE_END: Duration = Duration::from_secs(120);

/// Each start of a member leaves a line of the version on its host.
fn web(version: &str) -> String {
    format!(
        "[Service]\nExecStart=/bin/sh -c 'echo {version} >> /var/lib/starts-%i; exec sleep 10000'\n\
         [X-Fleet]\nReplicas={MEMBERS}\nConflicts=web@*.service\n\
         [X-Rollout]\nHealthySec=4\nDeadlineSec={}\n",
        DEADLINE.as_secs()
    )
}

/// What the rollout is like, according to `host`.
fn rollout(lab: &Lab, host: &str) -> Result<serde_json::Value, String> {
    let shown = lab.fleetctl_on(host, &["rollout", SET, "--output=json"]);
    serde_json::from_str(&shown.stdout).map_err(|error| format!("{error}: {shown:?}"))
}

/// The host on which each member runs, according to the systemds of those that are up.
fn places(lab: &Lab) -> BTreeMap<usize, &'static str> {
    let mut places = BTreeMap::new();
    for host in HOSTS {
        let listed = lab.sh(host, "systemctl list-units --no-legend --plain --state=active 'web@*' | cut -d' ' -f1");
        let number = |unit: &str| unit.strip_prefix("web@")?.strip_suffix(".service")?.parse().ok();
        places.extend(listed.stdout.lines().filter_map(number).map(|member| (member, host)));
    }
    places
}

/// How often each member was started with `version` on the hosts that are up.
fn starts(lab: &Lab, version: &str) -> BTreeMap<usize, usize> {
    let count = |member: usize| {
        let on = |host: &&str| {
            let counted = lab.sh(host, &format!("grep -c '^{version}$' /var/lib/starts-{member}"));
            counted.stdout.trim().parse().unwrap_or(0)
        };
        (member, HOSTS.iter().map(on).sum())
    };
    (1..=MEMBERS).map(count).collect()
}

/// Send a version, and wait until its first member is through. Returns where the members are then.
fn begin(lab: &Lab, version: &str) -> BTreeMap<usize, &'static str> {
    lab.file(SET, &web(version));
    lab.fleetctl(&["start", "--replace", "--no-block", SET]).ok();
    eventually(SOON, "the first member to be through", || {
        let begun = starts(lab, version).values().filter(|count| **count > 0).count();
        if begun == 1 { Ok(()) } else { Err(format!("{begun} are, {:?}", rollout(lab, "n1"))) }
    });
    places(lab)
}

/// Wait for the end of the rollout, as `host` says, and until all members run: one whose host died isn't waited for.
fn end(lab: &Lab, host: &str) {
    eventually(TO_THE_END, "the rollout to be done, and all members to run", || {
        let (seen, places) = (rollout(lab, host)?, places(lab));
        let is_over = seen["phase"] == "done" && places.len() == MEMBERS;
        if is_over { Ok(()) } else { Err(format!("{places:?}, {seen}")) }
    });
}

/// Kill a host in the middle of a rollout to `version`, and let it go on to its end without it.
fn without(lab: &Lab, victim: &str, version: &str, before: &BTreeMap<usize, &'static str>) {
    lab.lab(&["kill", victim]).ok();
    let other = HOSTS.into_iter().find(|host| *host != victim).unwrap();
    end(lab, other);
    for (member, count) in starts(lab, version) {
        // One whose host died starts elsewhere, with the file before if that is still its own, and then with this one.
        let moved = before.get(&member) == Some(&victim);
        assert_eq!(count, 1, "web@{member}.service on the hosts that are left; its host died: {moved}; {before:?}");
    }
    lab.lab(&["boot", victim]).ok();
    eventually(SOON, "all hosts", || {
        let listed = lab.fleetctl_on(other, &["list-machines", "--no-legend"]).stdout;
        if listed.lines().count() == HOSTS.len() { Ok(()) } else { Err(listed) }
    });
}

#[test]
fn a_rollout_goes_on_where_it_was() {
    let lab = Lab::cluster(HOSTS.len());
    lab.file(SET, &web("one"));
    lab.fleetctl(&["start", SET]).ok();

    begin(&lab, "two");
    lab.lab(&["etcd", "stop"]).ok();
    std::thread::sleep(DEADLINE + Duration::from_secs(4));
    lab.lab(&["etcd", "start"]).ok();
    end(&lab, "n1");
    let once: BTreeMap<usize, usize> = (1..=MEMBERS).map(|member| (member, 1)).collect();
    assert_eq!(starts(&lab, "two"), once);

    // As in an upgrade: each daemon is replaced by another one while the rollout goes on.
    begin(&lab, "two and a half");
    for host in HOSTS {
        lab.lab(&["fleet", "restart", host]).ok();
    }
    end(&lab, "n1");
    assert_eq!(starts(&lab, "two and a half"), once);

    let before = begin(&lab, "three");
    without(&lab, &lab.leader(), "three", &before);

    let before = begin(&lab, "four");
    let leads = lab.leader();
    // Of the member whose turn is last.
    let victim = before.values().copied().find(|host| *host != leads).unwrap();
    without(&lab, victim, "four", &before);
    let failed = rollout(&lab, "n1").unwrap();
    assert!(failed.get("why").is_none_or(serde_json::Value::is_null), "{failed}");
}
