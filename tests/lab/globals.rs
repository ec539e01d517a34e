//! A rollout of a global unit: its hosts get a good version one after another, and go back from one that doesn't start.

use crate::harness::Lab;

#[test]
fn a_global_unit_is_rolled_out_host_by_host_and_goes_back() {
    let lab = Lab::cluster(3);
    let agent = |program: &str| {
        format!("[Service]\nExecStart={program}\n[X-Fleet]\nGlobal=true\n[X-Rollout]\nHealthySec=1\nDeadlineSec=15\n")
    };
    let replace = |program: &str| {
        lab.file("agent.service", &agent(program));
        lab.fleetctl(&["start", "--replace", "agent.service"])
    };
    lab.file("agent.service", &agent("/bin/sleep 1001"));
    lab.fleetctl(&["start", "agent.service"]).ok();
    let good = replace("/bin/sleep 1002").ok();
    for host in ["n1", "n2", "n3"] {
        assert!(good.contains(&format!("agent.service on {host}: ready after ")), "{good}");
    }
    assert!(good.contains("runs on 3 of 3"), "{good}");
    let bad = replace("/bin/false");
    assert!(bad.code == 1 && bad.stdout.contains("runs on 3 of 3"), "{bad:?}");
    let told = bad.stdout.lines().filter(|line| line.contains("ready with the file before")).count();
    assert_eq!(told, 1, "only one host had it: {bad:?}");
    for host in ["n1", "n2", "n3"] {
        let line = lab.sh(host, "systemctl show -p ExecStart --value agent.service").ok();
        assert!(line.contains("sleep 1002"), "{host}: {line}");
    }
}
