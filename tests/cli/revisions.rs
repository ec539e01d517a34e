//! The commands about the texts that units have and had, against the real API: `diff` of revisions, and `rollback`.

use serde_json::Value;

use super::fake::Ran;
use super::real::Real;

/// A unit file here.
fn write(real: &Real, name: &str, more: &str) {
    let text = format!("[Service]\nExecStart=/bin/true\n{more}");
    std::fs::write(real.dir.path().join(name), text).unwrap();
}

#[test]
fn revisions_are_compared_with_each_other_and_with_the_present_one() {
    let real = Real::new();
    for more in ["[X-Fleet]\nReplicas=2\n", "[X-Fleet]\nReplicas=3\n", "Environment=A=1\n[X-Fleet]\nReplicas=3\n"] {
        write(&real, "web@.service", more);
        real.run("submit --replace web@.service");
    }
    let sections = "\
--- cluster/web@.service, revision 1
+++ cluster/web@.service, revision 2
@@ -1,4 +1,4 @@
 [Service]
 ExecStart=/bin/true
 [X-Fleet]
-Replicas=2
+Replicas=3
";
    let said = "[X-Fleet] Replicas: 2 -> 3 (restarts nothing)\nweb@.service: from revision 1 to 2: restarts nothing \
                where it still fits, because only [X-...] sections differ\n";
    real.expect("diff web@ 1 2", 1, sections, said);
    let Ran { code, out, err } = real.run("diff web@ 2");
    let ends = out.ends_with(" ExecStart=/bin/true\n+Environment=A=1\n [X-Fleet]\n Replicas=3\n");
    assert!(code == Some(1) && ends && out.contains("+++ cluster/web@.service, revision 3\n"), "{out}");
    assert_eq!(err, "web@.service: from revision 2 to 3: restarts what runs\n");
    real.expect("diff web@ 3", 0, "", "");
    real.expect("diff web@ 3 3", 0, "", "");
    real.expect("diff web@ 4", 2, "", "web@.service: revision 4 does not exist; 1 to 3 are there\n");
    let json: Value = serde_json::from_str(&real.run("diff web@ 1 2 --output json").out).unwrap();
    let (one, option) = (&json[0], &json[0]["options"][0]);
    assert_eq!((&one["from"], &one["to"], &one["same"]), (&1.into(), &2.into(), &false.into()), "{json}");
    assert_eq!(
        (&option["option"], &option["before"][0], &option["after"][0]),
        (&"Replicas".into(), &"2".into(), &"3".into())
    );
    // A file here has the same lines.
    write(&real, "web@.service", "Environment=A=1\n[X-Fleet]\nReplicas=3\n[X-Health]\nReady=tcp:80\n");
    let Ran { err, .. } = real.run("diff web@.service");
    assert!(err.starts_with("[X-Health] Ready: not set -> tcp:80 (restarts nothing)\n"), "{err}");
    let json: Value = serde_json::from_str(&real.run("diff web@.service --output json").out).unwrap();
    assert_eq!((&json[0]["options"][0]["section"], json[0].get("from")), (&"X-Health".into(), None));
    // Of a unit that was destroyed, two of them.
    real.run("destroy --no-block web@.service");
    real.expect("diff web@ 1 2", 1, sections, said);
    real.expect("diff web@ 1", 2, "", "web@.service has no present text: name two of its revisions\n");
}

const OWN: &str = "web@2.service has a file of its own, and is left as it is\n";

const THREE: [&str; 3] = ["web@.service", "image@.service", "log@.service"];

/// Three templates that were replaced together, and two running instances of the first.
fn three() -> Real {
    let real = Real::new();
    for version in ["1", "2"] {
        for name in THREE {
            write(&real, name, &format!("Environment=VERSION={version}\n"));
        }
        real.run("submit --replace web@.service image@.service log@.service");
    }
    real.run("start --no-block web@1 web@2");
    // One of the instances gets a file of its own.
    write(&real, "web@2.service", "Environment=VERSION=own\n");
    real.run("start --no-block --replace web@2.service");
    real
}

/// The version in the file of each of these units.
fn versions(real: &Real, units: &[&str]) -> Vec<String> {
    let version = |unit: &&str| {
        let text = real.run(&format!("cat {unit}")).out;
        text.lines().find_map(|line| line.strip_prefix("Environment=VERSION=")).unwrap_or(&text).to_owned()
    };
    units.iter().map(version).collect()
}

#[test]
fn what_was_replaced_together_goes_back_together() {
    let real = three();
    let back = "web@.service: revision 3, the file of 1; image@.service and log@.service with it\n\
                Triggered unit web@1.service start\n";
    real.expect("rollback --no-block web@", 0, back, OWN);
    assert_eq!(versions(&real, &THREE), ["1"; 3]);
    assert_eq!(versions(&real, &["web@1", "web@2"]), ["1", "own"]);
    let units = real.run("list-unit-files --no-legend --fields=unit,dstate web@1 web@2 web@.service").out;
    assert!(units.contains("web@1.service\tlaunched") && units.contains("web@.service\tinactive"), "{units}");
    // One alone, and the others stay.
    real.expect("rollback --only --no-block image@", 0, "image@.service: revision 4, the file of 2\n", "");
    assert_eq!(versions(&real, &THREE), ["1", "2", "1"]);
    // One of the others has got it already.
    let back = "web@.service: revision 4, the file of 2; log@.service with it\nTriggered unit web@1.service start\n";
    real.expect("rollback --no-block web@ 2", 0, back, OWN);
    assert_eq!(versions(&real, &THREE), ["2"; 3]);
    let there = "web@.service: it has the file of revision 2 already, nothing to do\n";
    real.expect("rollback web@ 2", 0, there, "");
    // Two batches are undone: each unit has what it had before the first of them.
    let json: Value = serde_json::from_str(&real.run("rollback --no-block --output json web@ 1").out).unwrap();
    let done: Vec<(&str, &str)> = json["units"]
        .as_array()
        .unwrap()
        .iter()
        .map(|unit| (unit["name"].as_str().unwrap(), unit["outcome"].as_str().unwrap()))
        .collect();
    let all = ["web@.service", "image@.service", "log@.service", "web@1.service"];
    assert_eq!(done, all.map(|name| (name, "replaced")));
    assert_eq!(versions(&real, &THREE), ["1"; 3]);
}

#[test]
fn what_cannot_go_back_is_said() {
    let real = three();
    real.expect("rollback web@ 7", 1, "", "rollback web@ 7: revision 7 does not exist; 1 to 2 are there\n");
    write(&real, "db.service", "");
    real.run("submit db.service");
    real.expect("rollback db", 1, "", "rollback db: there is no earlier revision\n");
    let nothing = real.run("rollback other");
    assert!(nothing.code == Some(1) && nothing.err.starts_with("Unit other.service not found"), "{nothing:?}");
    // One of the batch was destroyed since.
    real.run("destroy --no-block log@.service");
    let why = "rollback log@: it was destroyed; to have it back, `fleetctl cat --revision 2 log@.service > \
               log@.service` and `fleetctl submit log@.service`\n";
    real.expect("rollback log@", 1, "", why);
    let left = "log@.service was replaced together with it, was destroyed since, and is left as it is\n";
    let said = "image@.service: revision 3, the file of 1; web@.service with it\nTriggered unit web@1.service start\n";
    real.expect("rollback --no-block image@", 0, said, &format!("{left}{OWN}"));
}

#[test]
fn a_set_goes_back_with_its_members_and_its_count() {
    let real = Real::new();
    for (replicas, version) in [(2, "1"), (3, "2")] {
        write(&real, "web@.service", &format!("Environment=VERSION={version}\n[X-Fleet]\nReplicas={replicas}\n"));
        real.run("submit --replace --instances web@.service");
    }
    let Ran { code, out, err } = real.run("rollback web@");
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    assert!(out.starts_with("web@.service: revision 3, the file of 1\nweb@.service: 2 instances\n"), "{out}");
    assert_eq!(versions(&real, &["web@.service", "web@1", "web@2"]), ["1"; 3]);
    let gone = real.run("cat web@3");
    assert_eq!(gone.code, Some(1), "{gone:?}");
}

#[test]
fn a_rollback_skips_what_failed_in_a_rollout() {
    let real = Real::new();
    let mut hashes = Vec::new();
    for version in 1..=3 {
        write(&real, "web@.service", &format!("Environment=A={version}\n[X-Fleet]\nReplicas=0\n"));
        real.run("submit --replace web@.service");
        let unit: Value = serde_json::from_str(&real.run("cat web@.service --output json").out).unwrap();
        hashes.push(unit["hash"].clone());
    }
    let mut rollout = serde_json::json!({
        "target": hashes[2], "from": { "hash": hashes[0] }, "phase": "done", "since": 5, "began": 5,
        "outcomes": [{ "hash": hashes[1], "verdict": "failed", "why": "it broke" }],
    });
    real.record("rollout/web@.service", &rollout);
    let Ran { code, out, err } = real.run("rollback --no-block web@");
    assert!(code == Some(0) && out.starts_with("web@.service: revision 4, the file of 1\n"), "{out}{err}");
    rollout["outcomes"] = [1, 2].map(|n| serde_json::json!({ "hash": hashes[n], "verdict": "failed" }))[..].into();
    real.record("rollout/web@.service", &rollout);
    let why = "rollback web@: the rollouts of all earlier revisions have failed; name the one to go back to\n";
    real.expect("rollback web@", 1, "", why);
}

#[test]
fn a_rollback_runs_no_hooks_unless_it_is_told_to() {
    let real = Real::new();
    write(&real, "m.service", "Type=oneshot\n");
    real.run("submit m.service");
    for version in 1..=2 {
        let more = format!("Environment=V={version}\n[X-Fleet]\nReplicas=1\n[X-Rollout]\nBefore=m.service\n");
        write(&real, "web@.service", &more);
        real.run("submit --replace web@.service");
    }
    let said = "web@.service: revision 3, the file of 1\nweb@.service: doesn't run m.service; --hooks does\n";
    let Ran { code, out, err } = real.run("rollback --no-block web@");
    assert!(code == Some(0) && out.starts_with(said), "{out} {err}");
    let Ran { code, out, err } = real.run("rollback --hooks --no-block web@");
    assert!(code == Some(0) && out.starts_with("web@.service: revision 4, the file of 2\n"), "{out} {err}");
    assert!(!out.contains("m.service;"), "{out}");
}
