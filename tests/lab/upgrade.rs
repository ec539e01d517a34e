//! A rolling upgrade from the previous version, and back: one `fleetd` at a time, while units run. Meanwhile, both
//! versions read and write the same cluster, and both versions of `fleetctl` work with both daemons. The keys in the
//! store change their form with the last host that is upgraded, and back with the first one that is downgraded.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::harness::{Lab, eventually};

const HOSTS: [&str; 3] = ["n1", "n2", "n3"];
const SOON: Duration = Duration::from_secs(30);
/// Longer than until the lease of a daemon that another version replaced has expired.
const LEASE_EXPIRED: Duration = Duration::from_secs(60);
/// The path of the older `fleetctl` on the hosts.
const OLDER: &str = "/root/older-fleetctl";

/// The directory with the programs of the previous version, or why there are none: the checkout may be shallow.
pub(crate) fn older_programs() -> Result<String, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/previous");
    let output = Command::new(script).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    match output.status.code() {
        Some(0) => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        Some(3) => Err(stderr),
        _ => panic!("{stderr}"),
    }
}

/// The main process of each of the cluster's units on each host.
type Pids = BTreeMap<(&'static str, String), String>;

/// A cluster of three hosts in the middle of an upgrade.
struct Upgrade {
    lab: Lab,
    /// Units that run from the beginning to the end.
    pids: Pids,
    /// The lists that both versions of `fleetctl` print.
    lists: [String; 2],
}

impl Upgrade {
    /// A cluster of the older version with a chain, instances that conflict, a global unit and a unit that is loaded.
    fn begin(older: &str) -> Self {
        let lab = Lab::boot(3, &[]);
        lab.lab(&["install", older]).ok();
        for host in HOSTS {
            lab.run(host, &["cp", "/usr/local/lib/flotilla/fleetctl", OLDER]).ok();
        }
        lab.start_fleet(3);
        let sleep = "[Service]\nExecStart=/bin/sleep 100000";
        lab.file("db.service", sleep);
        lab.file(
            "app.service",
            &format!("[Unit]\nRequires=db.service\nAfter=db.service\n{sleep}\n[X-Fleet]\nMachineOf=db.service"),
        );
        lab.file("web@.service", &format!("{sleep}\n[X-Fleet]\nConflicts=web@*.service"));
        lab.file("everywhere.service", &format!("{sleep}\n[X-Fleet]\nGlobal=true"));
        lab.file("spare.service", sleep);
        lab.fleetctl(&["start", "db.service", "app.service", "web@1.service", "web@2.service", "everywhere.service"])
            .ok();
        lab.fleetctl(&["load", "spare.service"]).ok();
        let mut upgrade = Self { lab, pids: Pids::new(), lists: [String::new(), String::new()] };
        upgrade.pids = eventually(SOON, "seven processes of units", || {
            let pids = upgrade.running();
            if pids.len() == 7 { Ok(pids) } else { Err(format!("{pids:?}")) }
        });
        upgrade.lists = upgrade.lists_on("n1", OLDER);
        upgrade
    }

    /// The main processes, according to systemd.
    fn running(&self) -> Pids {
        let units = ["db.service", "app.service", "web@1.service", "web@2.service", "everywhere.service"];
        let mut pids = Pids::new();
        for host in HOSTS {
            let shown =
                self.lab.run(host, &[&["systemctl", "show", "--value", "-p", "MainPID"], &units[..]].concat()).ok();
            for (unit, pid) in units.iter().zip(shown.split_whitespace()).filter(|(_, pid)| *pid != "0") {
                pids.insert((host, (*unit).to_owned()), pid.to_owned());
            }
        }
        pids
    }

    /// The lists of units and of unit files that a `fleetctl` prints.
    fn lists_on(&self, host: &str, fleetctl: &str) -> [String; 2] {
        ["list-units", "list-unit-files"].map(|list| {
            let listed = self.lab.run(host, &[fleetctl, list, "--full", "--no-legend"]).ok();
            let mut lines: Vec<&str> = listed.lines().collect();
            lines.sort_unstable();
            lines.join("\n")
        })
    }

    /// Install the programs of `directory` on all hosts, restart the daemons one after the other, and check and change
    /// the cluster after each. `current` returns the number of hosts of this version after each of these restarts.
    fn roll(&self, directory: &str, label: &str, current: impl Fn(usize) -> usize) {
        self.lab.lab(&["install", directory]).ok();
        for (at, host) in HOSTS.into_iter().enumerate() {
            let before = self.lab.main_pid(host, "fleetd.service");
            self.lab.lab(&["fleet", "restart", host]).ok();
            assert_ne!(self.lab.main_pid(host, "fleetd.service"), before);
            self.agree(host);
            self.act(host, label);
            self.agree(host);
            self.reports_begin_with_the_host(current(at) == HOSTS.len());
        }
    }

    /// Whether the keys of reports begin with the host, as this version writes them if no other one is there, or with
    /// the unit. All of them have one form.
    fn reports_begin_with_the_host(&self, expected: bool) {
        let ids = HOSTS.map(|host| self.lab.run(host, &["cat", "/etc/machine-id"]).ok().trim().to_owned());
        let what = format!("all reports under keys that begin with a host: {expected}");
        eventually(LEASE_EXPIRED, &what, || {
            let listed = self.lab.etcdctl(&["get", "--prefix", "--keys-only", "/flotilla/state/"]);
            let keys: Vec<&str> = listed.lines().filter_map(|key| key.strip_prefix("/flotilla/state/")).collect();
            let fits = |key: &&str| ids.iter().any(|id| key.starts_with(id.as_str())) == expected;
            // Seven units that run, and one that is loaded.
            if keys.len() == 8 && keys.iter().all(fits) { Ok(()) } else { Err(listed) }
        });
    }

    /// Check that all daemons give both versions of `fleetctl` the same lists as at the beginning, and that no unit was
    /// restarted.
    fn agree(&self, upgraded: &str) {
        for host in HOSTS {
            for fleetctl in ["fleetctl", OLDER] {
                let what = format!("{host} to list the same with {fleetctl} after the restart of {upgraded}");
                eventually(SOON, &what, || {
                    let lists = self.lists_on(host, fleetctl);
                    if lists == self.lists { Ok(()) } else { Err(lists.join("\n--\n")) }
                });
            }
        }
        assert_eq!(self.running(), self.pids, "after the restart of {upgraded}");
    }

    /// Send every kind of request, from both versions of `fleetctl`, to the daemons of all hosts.
    fn act(&self, upgraded: &str, label: &str) {
        for host in HOSTS {
            for (by, fleetctl) in [("now", "fleetctl"), ("older", OLDER)] {
                let unit = format!("{label}-{upgraded}-{host}-{by}.service");
                let text = "[Service]\nExecStart=/bin/sleep 5000";
                self.lab.sh(host, &format!("cat > /root/{unit} <<'END'\n{text}\nEND")).ok();
                let ctl = |args: &[&str]| {
                    self.lab
                        .run(host, &[&["timeout", "40", "env", "-C", "/root", fleetctl], args, &[&unit]].concat())
                        .ok()
                };
                ctl(&["start"]);
                let on = eventually(SOON, &format!("{unit} active"), || self.lab.active_on(host, &unit));
                let pid = self.lab.main_pid(&on, &unit);
                ctl(&["restart"]);
                assert_ne!(self.lab.main_pid(&on, &unit), pid, "{unit} was restarted");
                ctl(&["stop"]);
                let state = self.lab.run(&on, &["systemctl", "is-active", &unit]);
                assert_eq!(state.stdout.trim(), "inactive", "{unit} was stopped");
                ctl(&["destroy"]);
                eventually(SOON, &format!("{unit} removed from {on}"), || {
                    let left = self.lab.sh(&on, &format!("ls /run/fleet/units | grep -F {unit}"));
                    if left.stdout.is_empty() { Ok(()) } else { Err(left.stdout) }
                });
            }
        }
    }
}

#[test]
fn hosts_are_upgraded_one_at_a_time_and_back_without_a_restart_of_units() {
    let older = match older_programs() {
        Ok(directory) => directory,
        Err(why) => {
            eprintln!("SKIPPED, nothing was tested: {why}");
            return;
        }
    };
    let upgrade = Upgrade::begin(&older);
    let ours = Path::new(env!("CARGO_BIN_EXE_fleetd")).parent().unwrap().to_str().unwrap();
    upgrade.reports_begin_with_the_host(false);
    upgrade.roll(ours, "forward", |at| at + 1);
    upgrade.roll(&older, "back", |at| HOSTS.len() - 1 - at);
}
