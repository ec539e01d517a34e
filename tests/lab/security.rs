//! The recipe in `docs/security.md`, as it is written: an etcd that lets in the hosts, by their certificates, and
//! nobody else.

use std::time::Duration;

use crate::harness::{Lab, eventually};
use crate::page::{Item, Page};
use crate::pages::play;

const HOSTS: [&str; 3] = ["n1", "n2", "n3"];

/// The address of n1, and the steps of the recipe with it.
fn recipe(lab: &Lab) -> (String, Vec<Item>) {
    let hosts = lab.lab(&["hosts"]).ok();
    let address = hosts.lines().find_map(|line| line.strip_prefix("n1\t")?.split('\t').next()).unwrap().to_owned();
    let path = format!("{}/docs/security.md", env!("CARGO_MANIFEST_DIR"));
    let mut page = Page::parse(&std::fs::read_to_string(path).unwrap().replace("10.0.0.1", &address));
    let section = page.sections.iter_mut().find(|section| section.title == "etcd for your hosts only").unwrap();
    (address, std::mem::take(&mut section.items))
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

#[test]
fn the_recipe_for_etcd_lets_in_the_hosts_and_nobody_else() {
    let lab = Lab::boot(3, &[]);
    // The lab's own etcd isn't in a host.
    for program in ["/usr/bin/etcd", "/usr/bin/etcdctl"] {
        lab.give("n1", program);
    }
    let (address, items) = recipe(&lab);
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
    for host in HOSTS {
        let log = lab.run(host, &["journalctl", "-b", "-u", "fleetd", "-o", "cat", "--no-pager"]).ok();
        assert!(!log.contains("without TLS"), "{host}: {log}");
    }
}
