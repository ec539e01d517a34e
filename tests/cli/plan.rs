//! `--plan`: nothing is changed, whatever the command is, and the exit status says whether something would be.

use serde_json::{Value, json};

use super::fake::{Fake, Ran, Script};
use super::real::Real;
use super::{N1, OK, error, running};

const HOST: &str = "a2d7e4a6000000000000000000000001";

/// The commands that have it, each with what makes it change something.
const COMMANDS: [&str; 9] = [
    "submit new.service",
    "load new.service",
    "start --replace web.service",
    "restart web.service",
    "stop web.service",
    "unload web.service",
    "destroy web.service",
    "scale set@ 2",
    "start new.service",
];

fn write(real: &Real, name: &str, text: &str) {
    std::fs::write(real.dir.path().join(name), text).unwrap();
}

#[test]
fn what_a_command_would_lead_to_is_printed_and_nothing_is_changed() {
    let real = Real::new();
    real.host(HOST);
    write(&real, "web.service", OK);
    write(&real, "odd.service", &format!("{OK}[X-Fleet]\nMachineMetadata=zone=b\n"));
    let placed = "web.service  is placed on n1: the least loaded host\n";
    real.expect("start --plan web.service", 3, placed, "");
    real.expect("load --plan web", 3, "web.service  is loaded on n1, and not started: the least loaded host\n", "");
    real.expect("submit --plan web.service", 3, "web.service  is submitted, and runs nowhere\n", "");
    real.expect("start --plan odd.service", 3, "odd.service  waits: 1 of 1 host: metadata\n", "");
    real.expect("list-unit-files --no-legend", 0, "", "");
    real.expect("submit web.service", 0, "Unit web.service inactive\n", "");
    real.expect("submit --plan web.service", 0, "nothing would change\n", "");
    real.expect("destroy --plan web.service", 3, "web.service  is destroyed; it runs nowhere\n", "");
    real.expect("start --plan web.service", 3, placed, "");
    write(&real, "web.service", &OK.replace("true", "false"));
    let differs = "web.service  keeps the cluster's file, which differs from the one here, without --replace\n";
    real.expect("submit --plan web.service", 0, &format!("{differs}nothing would change\n"), "");
    real.expect("submit --plan --strict web.service", 1, &format!("{differs}nothing would change\n"), "");
    let replaced = "web.service  gets its new file, and runs nowhere\n";
    real.expect("submit --plan --replace web.service", 3, replaced, "");
    real.run("submit --replace web.service");
    real.expect("rollback --plan web.service", 3, &format!("web.service: revision 3, the file of 1\n{replaced}"), "");
    let history = real.run("history web.service").out;
    assert!(history.lines().nth(1).is_some_and(|line| line.starts_with("2 ")), "{history}");
    let none = "Unit none.service not found\nnothing would change\n";
    let Ran { code, out, err } = real.run("stop --plan none.service");
    assert_eq!((code, format!("{err}{out}").as_str()), (Some(1), none));
    real.expect("list-unit-files --no-legend --fields=unit,dstate", 0, "web.service\tinactive\n", "");
}

#[test]
fn a_set_is_planned_member_by_member() {
    let real = Real::new();
    real.host(HOST);
    write(&real, "web@.service", &format!("{OK}[X-Fleet]\nReplicas=2\n"));
    let placed = |number: u32, why: &str| format!("web@{number}.service  is placed on n1: {why}\n");
    let (first, second) = ("no other member of its set is there", "no host that fits has fewer members of its set (1)");
    let all = format!("web@.service  is submitted, with 2 instances\n{}{}", placed(1, first), placed(2, second));
    real.expect("start --plan web@.service", 3, &all, "");
    real.expect(
        "submit web@.service",
        0,
        "web@.service: 2 instances\nUnit web@1.service inactive\nUnit web@2.service inactive\n",
        "",
    );
    let fewer = "web@.service  has 1 instance then\nweb@2.service  is destroyed; it runs nowhere\n";
    real.expect("scale --plan web@ 1", 3, fewer, "");
    real.expect("scale --plan web@ 2", 0, "nothing would change\n", "");
    let json: Value = serde_json::from_str(&real.run("scale --plan web@ 3 --output json").out).unwrap();
    assert_eq!((&json["changes"], &json["units"][1]["name"]), (&json!(true), &json!("web@3.service")), "{json}");
    write(&real, "web@.service", &format!("{OK}[X-Fleet]\nReplicas=3\n"));
    let json: Value =
        serde_json::from_str(&real.run("submit --replace --plan web@.service --output json").out).unwrap();
    let outcomes: Vec<&Value> = json["units"].as_array().unwrap().iter().map(|u| &u["applied"]["outcome"]).collect();
    assert!(outcomes.contains(&&json!("replaced")) && outcomes.contains(&&json!("created")), "{json}");
    real.expect("list-sets --no-legend --fields=set,wanted", 0, "web@.service\t2\n", "");
}

#[test]
fn going_back_is_planned_too() {
    let real = Real::new();
    write(&real, "web.service", OK);
    real.run("submit web.service");
    write(&real, "web.service", &OK.replace("true", "false"));
    real.run("submit --replace web.service");
    let back = "web.service: revision 3, the file of 1\nweb.service  gets its new file, and runs nowhere\n";
    real.expect("rollback --plan web.service", 3, back, "");
    real.expect("rollback --plan web.service 2", 0, "nothing would change\n", "");
    assert_eq!(real.run("cat web.service").out, OK.replace("true", "false"));
}

/// An old `fleetd` must not carry out what it was only asked about.
#[test]
fn a_daemon_that_knows_no_plans_does_nothing() {
    let set = json!({
        "name": "set@.service", "desired": "inactive", "generation": 1, "hash": "abc", "replicas": 1, "text": OK,
        "options": [],
    });
    let web = {
        let mut web = running("web.service", N1);
        web["text"] = OK.into();
        web
    };
    for command in COMMANDS {
        let units = vec![web.clone(), set.clone()];
        let details = [("set@.service".to_owned(), set.clone()), ("web.service".to_owned(), web.clone())].into();
        let fake = Fake::new(Script { units, details, ..Script::default() });
        fake.file("new.service", OK).file("web.service", &OK.replace("true", "false"));
        let Ran { code, out, err } = fake.run(&format!("{command} --plan"));
        let expected = "this fleetd is too old for --plan: upgrade it\nnothing was changed\n";
        assert_eq!((code, out.as_str(), err.as_str()), (Some(1), "", expected), "{command}");
        let changes: Vec<String> = fake.asked().into_iter().filter(|asked| !asked.starts_with("GET ")).collect();
        assert_eq!(changes, ["POST /fleet/v2/plan"], "{command}");
    }
    let refuse = Some((409, error(409, "others were faster")));
    let fake = Fake::new(Script { refuse, ..Script::default() });
    assert_eq!(fake.run("stop --plan web.service").code, Some(1));
}
