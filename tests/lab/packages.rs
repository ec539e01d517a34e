//! The packages of `contrib/package` on a host: installed, upgraded and downgraded while a unit runs, removed, and
//! purged, after which nothing of them is left. The same for the archive, whose installer is `contrib/install`.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::harness::{Lab, eventually};

const UNIT: &str = "hello.service";
const CONF: &str = "/etc/fleet/fleet.conf";
/// Everything that a package may leave: of the disk all but logs and what dpkg itself keeps, and what is in memory.
const LEFT: &str = "find / -xdev \\( -path /tmp -o -path /root -o -path /var/log -o -path /var/lib/dpkg \
                    -o -path /var/cache -o -path '/etc/*-' \\) -prune -o -print; \
                    find /run/fleet* /run/systemd/system /run/systemd/transient; getent passwd; getent group";

/// The programs under test, small enough for a package that is made within seconds.
fn stripped(folder: &Path) {
    for program in ["fleetd", "fleetctl", "fleet-sidecar"] {
        let from = Path::new(&Lab::binaries()).join(program);
        let status = Command::new("strip").arg("-o").args([&folder.join(program), &from]).status().unwrap();
        assert!(status.success(), "strip {}", from.display());
    }
}

/// Make a package, and return its file.
fn package(kind: &str, version: &str, folder: &Path) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/package");
    let out = folder.join(version);
    let output = Command::new(script)
        .args([kind, "--version", version])
        .args(["--bindir".as_ref(), folder, "--out".as_ref(), &*out])
        .envs([("DPKG_DEB_COMPRESSOR_TYPE", "gzip"), ("DPKG_DEB_COMPRESSOR_LEVEL", "1")])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let files: Vec<_> = out.read_dir().unwrap().map(|file| file.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].to_str().unwrap().to_owned()
}

/// A host on which nothing of Flotilla is yet.
struct Host {
    lab: Lab,
    before: Vec<String>,
}

impl Host {
    fn boot(packages: &[&str]) -> Self {
        let lab = Lab::named(&format!("t{}", std::process::id()));
        lab.lab(&["up", "--fresh", "--owner", &std::process::id().to_string(), "1"]).ok();
        // The lab's own way to Flotilla's programs, and its way to small hosts.
        // Folders without a file would go as `systemctl disable` removes them.
        lab.sh(
            "n1",
            "rm -f /usr/bin/fleet* /etc/dpkg/dpkg.cfg.d/*; rmdir /etc/fleet; \
             find /etc/systemd/system -type d -empty -delete",
        )
        .ok();
        for package in packages {
            lab.sh("n1", &format!("mkdir -p $(dirname {package})")).ok();
            lab.give("n1", package);
        }
        let mut host = Self { lab, before: Vec::new() };
        host.before = host.files();
        host
    }

    /// Everything that a package may leave, and the users and groups.
    fn files(&self) -> Vec<String> {
        let mut found: Vec<_> = self.lab.sh("n1", LEFT).stdout.lines().map(str::to_owned).collect();
        found.sort_unstable();
        found
    }

    fn sh(&self, line: &str) -> String {
        let ran = self.lab.sh("n1", line);
        assert_eq!(ran.code, 0, "{line}: {ran:?}");
        ran.stdout + &ran.stderr
    }

    fn active(&self, unit: &str) -> String {
        self.lab.run("n1", &["systemctl", "is-active", unit]).stdout.trim().to_owned()
    }

    /// The main process of a unit.
    fn pid(&self, unit: &str) -> String {
        self.lab.main_pid("n1", unit)
    }

    /// A first installation starts nothing, and has all files as they should be. Configure it, and start a unit.
    fn begin(&self) -> String {
        let enabled = self.lab.run("n1", &["systemctl", "is-enabled", "fleetd.service"]);
        assert_eq!((self.active("fleetd.service"), enabled.stdout.trim()), ("inactive".into(), "disabled"));
        assert_eq!(self.sh(&format!("stat -c '%a %U %G' {CONF}")), "640 root fleet\n");
        self.sh(&format!("echo standalone=true >>{CONF} && systemctl enable --now fleetd"));
        self.lab.file(UNIT, "[Service]\nExecStart=/bin/sleep 100000");
        self.lab.fleetctl(&["start", UNIT]).ok();
        let pid = self.pid(UNIT);
        assert_ne!(pid, "0");
        pid
    }

    /// Do something that gives the host another version: the daemon is a new one, and the unit is the same process.
    fn replaces_the_daemon(&self, unit: &str, how: &str) {
        let before = self.pid("fleetd.service");
        self.sh(how);
        assert_ne!(self.pid("fleetd.service"), before, "{how}");
        assert_eq!(self.pid(UNIT), unit, "{how}");
        eventually(Duration::from_secs(20), "the unit in the list", || self.lab.active_on("n1", UNIT));
        assert_eq!(self.sh(&format!("tail -n 1 {CONF}")), "standalone=true\n", "{how}");
    }

    /// Do something that removes the programs, but not what belongs to the operator.
    fn removes_the_daemon_only(&self, unit: &str, how: &str) {
        let said = self.sh(how);
        assert!(said.contains("fleetd is stopped") && said.lines().any(|line| line == UNIT), "{said}");
        assert_eq!((self.active("fleetd.service"), self.pid(UNIT)), ("inactive".into(), unit.into()), "{how}");
        self.sh("test ! -e /usr/bin/fleetd && test ! -e /usr/lib/systemd/system/fleetd.service");
        assert_eq!(self.sh(&format!("tail -n 1 {CONF}")), "standalone=true\n");
    }

    /// Do something that leaves nothing.
    fn leaves_nothing(&self, how: &str) {
        self.sh(how);
        assert_eq!(self.active(UNIT), "inactive");
        let after = self.files();
        let left: Vec<_> = after.iter().filter(|path| !self.before.contains(path)).collect();
        let lost: Vec<_> = self.before.iter().filter(|path| !after.contains(path)).collect();
        assert!(left.is_empty() && lost.is_empty(), "left: {left:#?}, lost: {lost:#?}");
    }
}

#[test]
fn a_package_is_installed_upgraded_downgraded_removed_and_purged() {
    let folder = tempfile::tempdir().unwrap();
    stripped(folder.path());
    let [old, new] = ["0.1.0", "0.2.0"].map(|version| package("deb", version, folder.path()));
    let host = Host::boot(&[&old, &new]);

    host.sh(&format!("dpkg -i {old}"));
    assert_eq!(host.sh("dpkg -V flotilla"), "", "all files are as in the package");
    let unit = host.begin();
    host.replaces_the_daemon(&unit, &format!("dpkg -i {new}"));
    assert_eq!(host.sh("dpkg-query -W -f '${Version}' flotilla"), "0.2.0");
    host.replaces_the_daemon(&unit, &format!("dpkg -i {old}"));
    host.removes_the_daemon_only(&unit, "dpkg -r flotilla");

    // The host is as it was when the package is back.
    host.sh(&format!("dpkg -i {new}"));
    assert_eq!(host.active("fleetd.service"), "inactive", "who has stopped it starts it");
    host.sh("systemctl start fleetd");
    eventually(Duration::from_secs(20), "the unit in the list", || host.lab.active_on("n1", UNIT));
    assert_eq!(host.pid(UNIT), unit);
    host.leaves_nothing("dpkg --purge flotilla");
}

#[test]
fn an_archive_is_installed_upgraded_uninstalled_and_purged() {
    let folder = tempfile::tempdir().unwrap();
    stripped(folder.path());
    let archive = package("archive", "0.1.0", folder.path());
    let host = Host::boot(&[&archive]);

    host.sh(&format!("tar -xf {archive} -C /root && mv /root/flotilla-* /root/flotilla"));
    let install = "/root/flotilla/contrib/install";
    host.sh(install);
    let unit = host.begin();
    // What only an earlier version had is gone after an upgrade.
    host.sh("touch /usr/bin/fleet-old && echo /usr/bin/fleet-old >>/usr/share/flotilla/installed-files");
    host.replaces_the_daemon(&unit, &format!("{install} && systemctl restart fleetd && test ! -e /usr/bin/fleet-old"));
    host.removes_the_daemon_only(&unit, &format!("{install} --uninstall"));
    host.sh(&format!("{install} --unprivileged && {install}"));
    host.leaves_nothing(&format!("{install} --uninstall --purge"));
}
