//! Sets: a template with a number of members is started, scaled, stopped and destroyed as one.

use super::OK;
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
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!((scaled.code, sorted(&scaled.out), scaled.err.as_str()), (Some(0), sorted(gone), ""));
    let list = "SET\t\tWANTED\tREADY\tWAITING\nweb@.service\t2\t0\t0\n";
    fleetd.expect("list-sets", 0, list, "");
    fleetd.expect("list-sets --no-legend --fields=set,file,members", 0, "web@.service\t2\t2\n", "");
    let json = fleetd.run("list-sets --output json");
    let expected = serde_json::json!([{
        "set": "web@.service", "wanted": 2, "ready": 0, "waiting": 0, "members": 2, "file": 2,
    }]);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&json.out).unwrap(), expected);
    fleetd.expect("list-sets nothing", 1, "SET\tWANTED\tREADY\tWAITING\n", "no set matches `nothing`\n");
    fleetd.expect("destroy web@2", 0, "Destroyed web@2.service\n", "");
    fleetd.expect("list-sets --no-legend", 0, "web@.service\t1\t0\t0\n", "");
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
    fleetd.expect("list-sets --no-legend", 0, "web@.service\t2\t2\t0\n", "");
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
