//! Invalid input: unit files, configuration, hosts, and manual changes in the store. Each causes a clear error message
//! and has no other effect.

use std::time::Duration;

use crate::harness::{Lab, eventually};

#[test]
fn bad_unit_files_are_refused_with_a_sentence_and_nothing_is_submitted() {
    let lab = Lab::cluster(1);
    lab.file("good.service", "[Service]\nExecStart=/bin/sleep 1000");
    lab.file("garbage.service", "this is not\na unit file");
    lab.sh("n1", "head -c 4096 /bin/true > /root/binary.service").ok();
    lab.sh("n1", "(printf '[Service]\\nExecStart='; head -c 10000000 /dev/zero | tr '\\0' x) > /root/long.service")
        .ok();
    lab.file("header.service", "[Service\nExecStart=/bin/true");
    lab.file("option.service", "[Service]\nExecStart=/bin/true\n[X-Fleet]\nMachineMetdata=a=b");
    lab.file("bad name.service", "[Service]\nExecStart=/bin/true");
    let cases = [
        ("garbage.service", "no options in it"),
        ("binary.service", "not a text file"),
        ("long.service", "bytes long"),
        ("header.service", "bad section header"),
        (
            "option.service",
            "option.service:4: unknown option `MachineMetdata` in [X-Fleet]; did you mean `MachineMetadata`?",
        ),
        ("bad name.service", "invalid character ' '"),
        ("missing.service", "missing.service"),
    ];
    for (file, sentence) in cases {
        let ran = lab.fleetctl(&["submit", "good.service", file]);
        assert_eq!(ran.code, 1, "{file}: {ran:?}");
        assert!(ran.stderr.contains(sentence) && ran.stderr.contains("nothing was submitted"), "{file}: {ran:?}");
    }
    assert_eq!(lab.fleetctl(&["list-unit-files", "--no-legend"]).ok(), "");
    // Lines that systemd ignores cause a warning, and the unit is submitted.
    lab.file("odd.service", "[Sevice]\nX=1\n[Service]\nExecStart=/bin/true");
    let ran = lab.fleetctl(&["submit", "odd.service"]);
    assert!(ran.code == 0 && ran.stderr.contains("[Sevice]"), "{ran:?}");
}

#[test]
fn units_that_systemd_refuses_say_why_and_harm_only_themselves() {
    let lab = Lab::cluster(1);
    lab.file("user.service", "[Service]\nUser=nobody-at-all\nExecStart=/bin/sleep 1000");
    lab.file("empty.service", "[Service]\nType=oneshot");
    lab.file("good.service", "[Service]\nExecStart=/bin/sleep 1000");
    let ran = lab.fleetctl(&["start", "user.service", "empty.service", "good.service"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stdout.contains("Unit good.service launched on "), "{ran:?}");
    assert!(ran.stderr.contains("user.service") && ran.stderr.contains("empty.service"), "{ran:?}");
    lab.until_active("good.service", Duration::from_secs(5));
    lab.fleetctl(&["destroy", "user.service", "empty.service"]).ok();
    assert_eq!(lab.sh("n1", "ls /run/fleet/units").ok().trim(), "good.service");
}

#[test]
fn a_cycle_of_machine_of_runs_together() {
    let lab = Lab::cluster(2);
    for (name, other) in [("a", "b"), ("b", "a")] {
        lab.file(
            &format!("{name}.service"),
            &format!("[Service]\nExecStart=/bin/sleep 1000\n[X-Fleet]\nMachineOf={other}.service"),
        );
    }
    lab.fleetctl(&["start", "a.service", "b.service"]).ok();
    assert_eq!(lab.active_on("n1", "a.service"), lab.active_on("n1", "b.service"));
    lab.file("alone.service", "[Service]\nExecStart=/bin/sleep 1000\n[X-Fleet]\nMachineOf=nowhere.service");
    let ran = lab.fleetctl(&["start", "alone.service"]);
    assert!(ran.code == 1 && ran.stderr.contains("nowhere.service"), "{ran:?}");
}

#[test]
fn a_broken_configuration_is_named_line_by_line() {
    let lab = Lab::boot(1, &[]);
    let start = |text: &str| {
        lab.sh("n1", &format!("printf '{text}' > /tmp/broken.conf")).ok();
        let ran = lab.run("n1", &["fleetd", "--config", "/tmp/broken.conf"]);
        assert_eq!(ran.code, 1, "{ran:?}");
        ran.stderr
    };
    assert!(start("agent_ttl=soon\\n").contains("/tmp/broken.conf:1: agent_ttl=soon: must be a time"));
    assert!(start("metadata=a=b\\nbogus=1\\n").contains("/tmp/broken.conf:2: unknown key `bogus`"));
    assert!(start("garbage").contains("/tmp/broken.conf:1: `garbage` isn't key=value"));
    let ran = lab.run("n1", &["fleetd", "--config", "/nowhere"]);
    assert!(ran.code == 1 && ran.stderr.contains("/nowhere: can't be read"), "{ran:?}");
}

#[test]
fn a_host_that_is_not_fit_to_join_says_why() {
    let lab = Lab::cluster(3);
    let log = |host: &str| lab.run(host, &["journalctl", "-b", "-u", "fleetd", "-o", "cat", "-n", "30"]).ok();

    // Without D-Bus.
    lab.run("n2", &["systemctl", "stop", "fleetd", "dbus.socket", "dbus.service"]);
    lab.run("n2", &["systemctl", "mask", "--runtime", "dbus.socket", "dbus.service"]);
    lab.run("n2", &["systemctl", "start", "fleetd"]).ok();
    eventually(Duration::from_secs(15), "n2 saying that D-Bus is missing", || {
        let said = log("n2");
        if said.contains("systemd can't be reached") { Ok(()) } else { Err(said) }
    });

    // Without a machine id.
    lab.sh("n3", "systemctl stop fleetd; cp /etc/machine-id /tmp/id; : > /etc/machine-id").ok();
    let ran = lab.run("n3", &["fleetd"]);
    assert!(ran.code == 1 && ran.stderr.contains("/etc/machine-id"), "{ran:?}");

    // With the machine id of another live host.
    let taken = lab.run("n1", &["cat", "/etc/machine-id"]).ok();
    lab.sh("n3", &format!("echo {} > /etc/machine-id; systemctl start fleetd", taken.trim())).ok();
    eventually(Duration::from_secs(15), "n3 refused", || {
        let said = log("n3");
        let names_both = said.contains("n1 (") && said.contains("this is n3 (");
        if said.contains("another live host has the machine id") && names_both { Ok(()) } else { Err(said) }
    });
    // n1 is not affected.
    lab.file("a.service", "[Service]\nExecStart=/bin/sleep 1000");
    lab.fleetctl(&["start", "a.service"]).ok();
    assert_eq!(lab.active_on("n1", "a.service").unwrap(), "n1");
}

#[test]
fn foreign_and_damaged_keys_harm_nothing() {
    let lab = Lab::cluster(2);
    lab.file("a.service", "[Service]\nExecStart=/bin/sleep 1000");
    lab.fleetctl(&["start", "a.service"]).ok();
    let host = lab.active_on("n1", "a.service").unwrap();
    let pid = lab.main_pid(&host, "a.service");
    let put = |key: &str, value: &str| lab.etcdctl(&["put", &format!("/flotilla/{key}"), value]);
    put("somebody/elses", "1");
    put("unit/not a name", "{}");
    put("unit/broken.service", "{");
    put("machine/ffffffffffffffffffffffffffffffff", "[]");
    put("unit/a.service", "not json");
    put("placement/a.service", "not json either");
    put(&format!("schedule/{}/a.service", lab.run(&host, &["cat", "/etc/machine-id"]).ok().trim()), "nor this");
    // After a restart, the leader lists everything, and reads all of them.
    lab.lab(&["fleet", "restart"]).ok();
    lab.file("b.service", "[Service]\nExecStart=/bin/sleep 1000");
    eventually(Duration::from_secs(15), "the cluster working on", || {
        let ran = lab.fleetctl(&["start", "b.service"]);
        if ran.code == 0 { Ok(()) } else { Err(format!("{ran:?}")) }
    });
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(lab.main_pid(&host, "a.service"), pid, "a.service keeps running");
    // It is shown without looking at a log, with what to do about it.
    let listed = lab.fleetctl(&["list-unit-files", "--no-legend", "--fields=unit,state"]);
    assert_eq!(listed.stdout, "a.service\tdamaged\nb.service\tlaunched\nbroken.service\tdamaged\n");
    assert!(listed.stderr.contains("record of unit a.service in the store is damaged"), "{listed:?}");
    assert!(lab.fleetctl(&["list-units", "--no-legend", "--fields=unit,sub"]).ok().contains("a.service\trunning"));
    lab.fleetctl(&["start", "a.service"]).ok();
    assert_eq!(lab.active_on(&host, "a.service").unwrap(), host);
    assert_eq!(lab.main_pid(&host, "a.service"), pid, "a.service is whole again, where it was, and was not touched");
    put("unit/a.service", "not json");
    lab.fleetctl(&["destroy", "a.service", "broken.service"]).ok();
    assert_eq!(lab.sh(&host, "systemctl is-active a.service").stdout, "inactive\n");
    assert_eq!(lab.fleetctl(&["list-unit-files", "--no-legend", "--fields=unit"]).ok(), "b.service\n");
    let log = lab.sh("n1", "journalctl -b -u fleetd -o cat | grep 'skipped'").stdout
        + &lab.sh("n2", "journalctl -b -u fleetd -o cat | grep 'skipped'").stdout;
    assert!(log.contains("somebody/elses") && log.contains("unit/broken.service"), "{log}");
}
