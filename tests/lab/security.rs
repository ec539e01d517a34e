//! The recipes in `docs/security.md`, as they are written: an etcd that lets in the hosts, by their certificates, and
//! nobody else; and a role for each host that permits it to write nothing but its own presence and reports.

use std::time::Duration;

use flotilla::model::systemd::ActiveState;

use crate::harness::{Lab, eventually};
use crate::page::{Item, Page};
use crate::pages::play;

const HOSTS: [&str; 3] = ["n1", "n2", "n3"];

/// The address of n1, and the steps of both recipes with it.
fn recipes(lab: &Lab) -> (String, [Vec<Item>; 2]) {
    let hosts = lab.lab(&["hosts"]).ok();
    let address = hosts.lines().find_map(|line| line.strip_prefix("n1\t")?.split('\t').next()).unwrap().to_owned();
    let path = format!("{}/docs/security.md", env!("CARGO_MANIFEST_DIR"));
    let mut page = Page::parse(&std::fs::read_to_string(path).unwrap().replace("10.0.0.1", &address));
    let steps = ["etcd for your hosts only", "A role for each host"].map(|title| {
        let section = page.sections.iter_mut().find(|section| section.title == title).unwrap();
        std::mem::take(&mut section.items)
    });
    (address, steps)
}

/// What the text of the page has the reader do before `fleetd` starts.
fn configure(lab: &Lab, address: &str) {
    let mut install = vec!["install".to_owned()];
    let mut conf = |line: String| install.extend(["--conf".to_owned(), line]);
    conf(format!("etcd_servers=https://{address}:2379"));
    conf("etcd_cafile=/etc/fleet/ca.crt".into());
    for host in HOSTS {
        conf(format!("{host}:etcd_certfile=/etc/fleet/{host}.crt"));
        conf(format!("{host}:etcd_keyfile=/etc/fleet/{host}.key"));
    }
    install.push(Lab::binaries());
    lab.lab(&install.iter().map(String::as_str).collect::<Vec<_>>()).ok();
    for host in HOSTS {
        for file in ["ca.crt".to_owned(), format!("{host}.crt"), format!("{host}.key")] {
            let text = lab.run("n1", &["cat", &format!("/root/{file}")]).ok();
            lab.sh(host, &format!("umask 077; cat > /etc/fleet/{file} <<'END'\n{text}END")).ok();
        }
    }
}

/// Hosts with a role of their own do their work, also after a restart of their daemon, and write nothing else.
fn hosts_keep_to_their_role(lab: &Lab) {
    let active_on = |hosts: &[&str], unit: &str| {
        eventually(Duration::from_secs(40), &format!("{unit} runs on {hosts:?} and is reported"), || {
            let units = lab.units()?;
            let states = units.iter().filter(|view| view.name.as_str() == unit).flat_map(|view| &view.states);
            let active = states.filter(|state| state.report.active == ActiveState::Active).count();
            if active == hosts.len() { Ok(()) } else { Err(format!("{active}: {units:?}")) }
        });
    };
    lab.file("all.service", "[Service]\nExecStart=/bin/sleep infinity\n[X-Fleet]\nGlobal=true\n");
    lab.fleetctl(&["start", "all.service"]).ok();
    active_on(&HOSTS, "all.service");
    lab.run("n2", &["systemctl", "restart", "fleetd"]).ok();
    lab.run("n2", &["systemctl", "stop", "all.service"]).ok();
    active_on(&["n1", "n3"], "all.service");
    lab.run("n2", &["systemctl", "start", "all.service"]).ok();
    active_on(&HOSTS, "all.service");
    let refused = lab.fleetctl_on("n2", &["destroy", "all.service"]);
    assert_ne!(refused.code, 0, "n2 may destroy a unit: {refused:?}");
    assert!(refused.stderr.contains("does not permit"), "{refused:?}");

    // Not for another host, also in a transaction, for which etcd checks less; and not under the older form of the key.
    let id = |host: &str| lab.run(host, &["cat", "/etc/machine-id"]).ok().trim().to_owned();
    let (n2, n3) = (id("n2"), id("n3"));
    let write =
        |key: &str| lab.sh("n1", &format!(r"cd /root; printf '\nput /flotilla/state/{key} x\n\n\n' | sh as.sh n2 txn"));
    for key in [format!("{n3}/all.service"), format!("all.service/{n3}"), format!("all.service/{n2}")] {
        let refused = write(&key);
        assert!(refused.code != 0 && refused.stderr.contains("permission denied"), "{key}: {refused:?}");
    }
    let own = write(&format!("{n2}/other.service"));
    assert_eq!(own.code, 0, "{own:?}");
    lab.fleetctl(&["destroy", "all.service"]).ok();
}

#[test]
fn the_recipes_for_etcd_let_in_the_hosts_and_nobody_else_and_each_to_what_it_needs() {
    let lab = Lab::boot(3, &[]);
    // The lab's own etcd isn't in a host.
    for program in ["/usr/bin/etcd", "/usr/bin/etcdctl"] {
        lab.give("n1", program);
    }
    let (address, [items, limited]) = recipes(&lab);
    let is_shown_after =
        |item: &&Item| matches!(item, Item::Command { command, .. } if command.starts_with("fleetctl"));
    let (before, after) = items.split_at(items.iter().position(|item| is_shown_after(&item)).unwrap());
    play(&lab, before);
    configure(&lab, &address);
    lab.start_fleet(3);
    play(&lab, after);

    let version = format!("https://{address}:2379/version");
    let nobody = lab.run("n1", &["curl", "-sS", "--cacert", "/root/ca.crt", &version]);
    assert_ne!(nobody.code, 0, "a client without a certificate is answered: {nobody:?}");

    // The hosts are let in again when etcd has restarted.
    lab.file("a.service", "[Service]\nExecStart=/bin/sleep infinity\n");
    lab.fleetctl(&["start", "a.service"]).ok();
    lab.run("n1", &["systemctl", "restart", "etcd.service"]).ok();
    eventually(Duration::from_secs(30), "the unit is stopped after etcd has come back", || {
        let stopped = lab.fleetctl(&["stop", "a.service"]);
        if stopped.code == 0 { Ok(()) } else { Err(format!("{stopped:?}")) }
    });

    play(&lab, &limited);
    hosts_keep_to_their_role(&lab);
    for host in HOSTS {
        let log = lab.run(host, &["journalctl", "-b", "-u", "fleetd", "-o", "cat", "--no-pager"]).ok();
        assert!(!log.contains("without TLS"), "{host}: {log}");
    }
}
