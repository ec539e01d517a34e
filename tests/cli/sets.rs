//! Sets: a template with a number of members is started, scaled, stopped and destroyed as one.

use std::process::Command;

use super::OK;
use super::fake::run;
use super::real::Real;

const HOST: &str = "a2d7e4a6000000000000000000000001";

fn write(fleetd: &Real, name: &str, replicas: u32, start: &str) {
    let text = OK.replace("/bin/true", start) + &format!("[X-Fleet]\nReplicas={replicas}\n");
    std::fs::write(fleetd.dir.path().join(name), text).unwrap();
}

#[test]
fn a_set_is_submitted_scaled_and_destroyed() {
    let fleetd = Real::new();
    write(&fleetd, "web@.service", 2, "/bin/true");
    let members = "Unit web@1.service inactive\nUnit web@2.service inactive\n";
    fleetd.expect("submit web@.service", 0, &format!("web@.service: 2 instances\n{members}"), "");
    fleetd.expect("scale web@ 3", 0, "web@.service: 2 -> 3 instances (its file says Replicas=2)\n", "");
    fleetd.expect("scale web@ +1 --no-block", 0, "web@.service: 3 -> 4 instances (its file says Replicas=2)\n", "");
    fleetd.expect("scale web@ 4", 0, "web@.service: 4 instances, nothing to do (its file says Replicas=2)\n", "");
    let gone = "web@.service: 4 -> 2 instances\nDestroyed web@3.service\nDestroyed web@4.service\n";
    let scaled = fleetd.run("scale web@ -2");
    assert_eq!((scaled.code, sorted(&scaled.out), scaled.err.as_str()), (Some(0), sorted(gone), ""));
    let list = "SET\t\tWANTED\tREADY\tWAITING\tDONE\tREVISION\tROLLOUT\n\
                web@.service\t2\t0\t0\t0\t1\t\t-\n";
    fleetd.expect("list-sets", 0, list, "");
    fleetd.expect("list-sets --no-legend --fields=set,file,members", 0, "web@.service\t2\t2\n", "");
    let json = fleetd.run("list-sets --output json");
    let expected = serde_json::json!([{
        "set": "web@.service", "wanted": 2, "ready": 0, "waiting": 0, "done": 0, "revision": 1, "rollout": null,
        "members": 2, "file": 2, "lead": null,
    }]);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&json.out).unwrap(), expected);
    let head = "SET\tWANTED\tREADY\tWAITING\tDONE\tREVISION\tROLLOUT\n";
    fleetd.expect("list-sets nothing", 1, head, "no set matches `nothing`\n");
    fleetd.expect("destroy web@2", 0, "Destroyed web@2.service\n", "");
    let remark = "web@.service: 1 instance, its file says Replicas=2\n";
    fleetd.expect("list-sets --no-legend", 0, "web@.service\t1\t0\t0\t0\t1\t-\n", remark);
    let destroyed = fleetd.run("destroy web@.service");
    let all = "Destroyed web@.service\nDestroyed web@1.service\n";
    assert_eq!((destroyed.code, sorted(&destroyed.out)), (Some(0), sorted(all)));
    fleetd.expect("list-unit-files --no-legend", 0, "", "");
}

#[test]
fn commands_on_a_template_with_a_count_mean_its_members() {
    let fleetd = Real::new();
    fleetd.host(HOST);
    write(&fleetd, "web@.service", 2, "/bin/true");
    fleetd.expect(
        "start --no-block web@.service",
        0,
        "web@.service: 2 instances\nTriggered unit web@1.service start\n\
        Triggered unit web@2.service start\n",
        "",
    );
    for unit in ["web@1.service", "web@2.service"] {
        fleetd.place(unit, HOST, "active");
    }
    fleetd.expect("start web@", 0, "web@.service: 2 instances\n", "");
    fleetd.expect("list-sets --no-legend", 0, "web@.service\t2\t2\t0\t0\t1\t-\n", "");
    let triggered = |what: &str| format!("Triggered unit web@1.service {what}\nTriggered unit web@2.service {what}\n");
    fleetd.expect("restart --no-block web@", 0, &triggered("restart"), "");
    // Twice: a member that is named as well is one unit.
    fleetd.expect("stop --no-block web@ web@1", 0, &triggered("stop"), "");
    fleetd.expect("unload --no-block web@.service", 0, &triggered("unload"), "");
    let units = "web@.service\tinactive\nweb@1.service\tinactive\nweb@2.service\tinactive\n";
    fleetd.expect("list-unit-files --no-legend --fields=unit,dstate", 0, units, "");
}

#[test]
fn a_deployment_keeps_the_count_of_a_command_and_an_edited_number_changes_it() {
    let fleetd = Real::new();
    write(&fleetd, "web@.service", 1, "/bin/true");
    fleetd.run("submit web@.service");
    fleetd.run("scale web@ 3");
    write(&fleetd, "web@.service", 1, "/bin/false");
    let replaced = fleetd.run("submit --replace --instances web@.service");
    assert_eq!((replaced.code, replaced.err.as_str()), (Some(0), ""), "{}", replaced.out);
    assert!(replaced.out.starts_with("web@.service: 3 instances\n"), "{}", replaced.out);
    let hashes = fleetd.run("list-unit-files --no-legend --fields=hash");
    assert_eq!(hashes.out.lines().collect::<std::collections::BTreeSet<_>>().len(), 1, "{}", hashes.out);
    // The member that goes isn't replaced first, nor brought back.
    write(&fleetd, "web@.service", 2, "/bin/false");
    let replaced = fleetd.run("submit --replace --instances web@.service");
    assert!(replaced.out.starts_with("web@.service: 2 instances\n"), "{}", replaced.out);
    let names = "web@.service\nweb@1.service\nweb@2.service\n";
    fleetd.expect("list-unit-files --no-legend --fields=unit", 0, names, "");
}

#[test]
fn what_is_no_set_is_refused_with_what_to_do() {
    let fleetd = Real::new();
    let says = |args: &str, err: &str| fleetd.expect(args, 1, "", err);
    says("scale web@1 3", "scale: web@1.service is an instance; name its template, web@.service\n");
    says("scale web 3", "scale: web.service is no template, and only a template has members, such as web@.service\n");
    says("scale web@ 3", "Unit web@.service not found\n");
    fleetd.expect(
        "scale web@ many",
        2,
        "",
        "`<COUNT> many`: it must be a number from 0 to 1000, or such as +2 or -1\n",
    );
    std::fs::write(fleetd.dir.path().join("plain@.service"), OK).unwrap();
    says("start plain@.service", "cannot activate template \"plain@.service\"\nnothing was submitted\n");
    write(&fleetd, "one.service", 2, "/bin/true");
    says(
        "start one.service",
        "one.service:4: `Replicas=` is for templates: call the file one@.service\nnothing was submitted\n",
    );
    // A template without a number becomes a set, and what it has are its members.
    fleetd.run("submit plain@.service plain@2.service");
    fleetd.expect("scale plain@ +1", 0, "plain@.service: 1 -> 2 instances\n", "");
    says("scale plain@ -3", "scale: plain@.service has 2 members, which is fewer than 3\n");
}

fn rider(fleetd: &Real) {
    let text = OK.to_owned() + "[X-Fleet]\nReplicas=web@.service\n";
    std::fs::write(fleetd.dir.path().join("log@.service"), text).unwrap();
}

fn sorted(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// `edit` with `sed` as the editor.
fn edit(fleetd: &Real, change: &str, args: &str) -> Command {
    let mut command = fleetd.command(&format!("edit {args}"));
    command.env("EDITOR", format!("sed -i {change}"));
    command
}

#[test]
fn a_rider_goes_with_its_set() {
    let fleetd = Real::new();
    write(&fleetd, "web@.service", 2, "/bin/true");
    rider(&fleetd);
    let alone = "log@.service:4: `Replicas=web@.service`: there is no such template here or in the cluster\n\
        nothing was changed\n";
    let refused = fleetd.run("submit log@.service");
    assert_eq!((refused.code, refused.err.as_str()), (Some(1), alone), "{}", refused.out);
    let submitted = fleetd.run("submit log@.service web@.service");
    let units = "log@.service: 2 instances\nweb@.service: 2 instances\nUnit web@1.service inactive\n\
        Unit log@1.service inactive\nUnit web@2.service inactive\nUnit log@2.service inactive\n";
    assert_eq!((submitted.code, submitted.out.as_str(), submitted.err.as_str()), (Some(0), units, ""));
    let scaled = "web@.service: 2 -> 3 instances (its file says Replicas=2), and log@.service with it\n";
    fleetd.expect("scale web@ 3", 0, scaled, "");
    let remark = "web@.service: 3 instances, its file says Replicas=2\n";
    let list = "log@.service\t3\t-\tweb@.service\nweb@.service\t3\t2\t-\n";
    fleetd.expect("list-sets --no-legend --fields=set,wanted,file,lead", 0, list, remark);
    fleetd.expect("cat web@.service", 0, &fleetd.file("web@.service"), remark);
    fleetd.expect("diff web@.service", 0, "", remark);
    let refused = "scale: log@.service has as many as web@.service has (Replicas=web@.service); scale that\n";
    fleetd.expect("scale log@ 3", 1, "", refused);
    // What is missing of it only comes back with the same count.
    fleetd.run("destroy log@3");
    let completed = "web@.service: 3 instances, 1 of them were missing (its file says Replicas=2), and log@.service \
        with it\n";
    fleetd.expect("scale web@ 3", 0, completed, "");
    // A member takes the one that rides with it along.
    let gone = fleetd.run("destroy web@2");
    assert_eq!(sorted(&gone.out), sorted("Destroyed web@2.service\nDestroyed log@2.service\n"), "{}", gone.err);
    let refused = fleetd.run("destroy web@.service");
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("log@.service has as many as web@.service: destroy both"), "{}", refused.err);
    // What somebody has changed by hand is left.
    std::fs::write(fleetd.dir.path().join("log@3.service"), OK.replace("/bin/true", "/bin/false")).unwrap();
    fleetd.run("submit --replace log@3.service");
    let gone = fleetd.run("destroy web@3");
    let left =
        "log@3.service has a file of its own, and is left as it is: `fleetctl destroy log@3.service` destroys it\n";
    assert_eq!((gone.code, gone.out.as_str(), gone.err.as_str()), (Some(0), "Destroyed web@3.service\n", left));
    // Nothing waits for it.
    fleetd.host(HOST);
    for unit in ["web@1.service", "log@1.service"] {
        fleetd.place(unit, HOST, "active");
    }
    let launched = "web@.service: 1 instance\nUnit web@1.service launched on a2d7e4a6.../10.88.0.11\n\
        Unit log@1.service launched on a2d7e4a6.../10.88.0.11\n";
    let started = fleetd.run("start --timeout 9s web@.service");
    assert_eq!((sorted(&started.out), started.err.as_str()), (sorted(launched), left));
    let edited = run(edit(&fleetd, "s/true/sh/", "--no-block web@"));
    assert_eq!((edited.code, edited.out.as_str()), (Some(0), "Unit web@.service inactive\n"));
    assert!(edited.err.ends_with(left), "{}", edited.err);
    let said = "web@.service: 1 -> 0 instances (its file says Replicas=2), and log@.service with it\n\
        Destroyed log@1.service\nDestroyed web@1.service\n";
    let gone = fleetd.run("scale --no-block web@ 0");
    assert_eq!((sorted(&gone.out), gone.err.as_str()), (sorted(said), left));
    fleetd.expect("destroy log@3", 0, "Destroyed log@3.service\n", "");
    let both = "Destroyed log@.service\nDestroyed web@.service\n";
    let gone = fleetd.run("destroy web@.service log@.service");
    assert_eq!((gone.code, sorted(&gone.out)), (Some(0), sorted(both)), "{}", gone.err);
}

#[test]
fn a_set_is_started_and_stopped_with_its_riders() {
    let fleetd = Real::new();
    fleetd.host(HOST);
    write(&fleetd, "web@.service", 1, "/bin/true");
    rider(&fleetd);
    fleetd.run("submit log@.service web@.service");
    let triggered = |what: &str| format!("Triggered unit web@1.service {what}\nTriggered unit log@1.service {what}\n");
    let started = fleetd.run("start --no-block web@.service");
    let said = format!("web@.service: 1 instance\n{}", triggered("start"));
    assert_eq!((started.code, sorted(&started.out), started.err.as_str()), (Some(0), sorted(&said), ""));
    for unit in ["web@1.service", "log@1.service"] {
        fleetd.place(unit, HOST, "active");
    }
    fleetd.expect("restart --no-block web@", 0, "Triggered unit web@1.service restart\n", "");
    let stopped = fleetd.run("stop --no-block web@");
    assert_eq!((sorted(&stopped.out), stopped.err.as_str()), (sorted(&triggered("stop")), ""));
    fleetd.expect("start --no-block log@", 0, "log@.service: 1 instance\nTriggered unit log@1.service start\n", "");
}

#[test]
fn a_diff_says_what_becomes_of_the_count() {
    let fleetd = Real::new();
    write(&fleetd, "web@.service", 2, "/bin/true");
    fleetd.run("submit web@.service");
    fleetd.run("scale web@ 5");
    let says = |replicas: u32, start: &str, end: &str| {
        write(&fleetd, "web@.service", replicas, start);
        let diff = fleetd.run("diff web@.service");
        assert!(diff.err.ends_with(end), "{}", diff.err);
    };
    says(2, "/bin/false", "; it keeps 5 instances, although the file says Replicas=2\n");
    says(3, "/bin/true", "; 5 -> 3 instances\n");
}

/// The leader gives them the file one after another, whatever becomes of this command.
#[test]
fn members_are_replaced_in_one_request() {
    let fleetd = Real::new();
    fleetd.host(HOST);
    write(&fleetd, "web@.service", 2, "/bin/true");
    fleetd.run("start --no-block web@.service");
    for unit in ["web@1.service", "web@2.service"] {
        fleetd.place(unit, HOST, "activating");
    }
    let hashes = || {
        let listed = fleetd.run("list-unit-files --no-legend --fields=hash").out;
        listed.lines().map(str::to_owned).collect::<std::collections::BTreeSet<String>>()
    };
    let before = hashes();
    for command in ["start --replace --timeout=1", "submit --replace --instances --timeout=1"] {
        write(&fleetd, "web@.service", 2, &format!("/bin/{}", command.len()));
        let replaced = fleetd.run(&format!("{command} web@.service"));
        assert_eq!(replaced.code, Some(1), "nobody leads: {}", replaced.err);
        assert_eq!((hashes().len(), hashes().intersection(&before).count()), (1, 0), "{command}");
    }
}

/// A unit that the rollouts of a set run before its members, named in one command with the set.
#[test]
fn a_hook_is_submitted_with_its_set_and_not_started() {
    let fleetd = Real::new();
    fleetd.host(HOST);
    let web = OK.to_owned() + "[X-Fleet]\nReplicas=1\n[X-Rollout]\nBefore=web-migrate.service\n";
    std::fs::write(fleetd.dir.path().join("web@.service"), web).unwrap();
    let lines = OK.lines().count();
    let line = lines + 4;
    let missing = format!(
        "web@.service:{line}: `Before=web-migrate.service`: there is no such unit here or in the cluster\n\
         nothing was changed\n"
    );
    let refused = fleetd.run("start --no-block web@.service");
    assert_eq!((refused.code, refused.err.as_str()), (Some(1), missing.as_str()));
    std::fs::write(fleetd.dir.path().join("web-migrate.service"), OK).unwrap();
    let refused = fleetd.run("start --no-block web@.service web-migrate.service");
    assert!(refused.code == Some(1) && refused.err.contains("Type=oneshot is needed"), "{}", refused.err);
    let once = OK.replace("[Service]\n", "[Service]\nType=oneshot\n");
    std::fs::write(fleetd.dir.path().join("web-migrate.service"), once).unwrap();
    let out = "web-migrate.service: isn't started, because rollouts run it (Before=, After=)\n\
               web@.service: 1 instance\nUnit web-migrate.service inactive\n\
               Triggered unit web@1.service start\n";
    fleetd.expect("start --no-block web@.service web-migrate.service", 0, out, "");
    let files = "web-migrate.service\tinactive\nweb@.service\t\tinactive\nweb@1.service\t\tlaunched\n";
    fleetd.expect("list-unit-files --no-legend --fields=unit,dstate", 0, files, "");
}
