//! A real systemd to test against, without being a host's first process.
//!
//! Owns one `systemd --user` with its own D-Bus daemon, in its own cgroup, mount and process namespaces. It ends with
//! this process, however that ends. It must never be skipped silently: if something is missing, the test fails.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use flotilla::systemd::dbus::{Dbus, Options};

/// The script that starts it, with explanations.
const BOOT: &str = include_str!("boot.sh");

/// A running systemd, which ends when this value is dropped.
pub(crate) struct Host {
    pub(crate) dir: tempfile::TempDir,
    group: String,
    child: Child,
}

impl Host {
    /// Start it. It may not be on the bus yet when this returns: an adapter's subscription waits for that.
    pub(crate) fn boot() -> Self {
        let needs =
            "the contract with a real systemd needs root, util-linux (unshare, setpriv), systemd and dbus-user-session";
        let systemd = ["/usr/lib/systemd/systemd", "/lib/systemd/systemd"].into_iter().find(|p| Path::new(p).exists());
        let systemd = systemd.unwrap_or_else(|| panic!("no systemd on this machine: {needs}"));
        assert!(
            Path::new("/usr/lib/systemd/user/dbus.socket").exists(),
            "no dbus.socket for users on this machine: {needs}"
        );
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("run")).unwrap();
        let log = fs::File::create(dir.path().join("log")).unwrap();
        let group = format!("flotilla-test-{}", std::process::id());
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "unshare", "--mount", "sh", "-euc", BOOT])
            .args([dir.path().as_os_str(), group.as_ref(), systemd.as_ref()])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        let child = child.unwrap_or_else(|error| panic!("setpriv can't be run ({error}): {needs}"));
        Self { dir, group, child }
    }

    /// An adapter for it, with its own folders.
    pub(crate) fn adapter(&self) -> Dbus {
        Dbus::new(Options {
            units_directory: self.dir.path().join("fleet/units"),
            boot_directory: self.dir.path().join("fleet"),
            user: true,
            address: Some(self.bus()),
        })
    }

    pub(crate) fn bus(&self) -> String {
        format!("unix:path={}", self.dir.path().join("run/bus").display())
    }

    /// Send it a request without the adapter, over the bus, because its private socket accepts no process outside of
    /// its namespaces.
    pub(crate) fn systemctl(&self, args: &[&str]) -> String {
        let mut systemctl = Command::new("systemctl");
        systemctl.arg("--user").args(args).env_remove("XDG_RUNTIME_DIR").env("DBUS_SESSION_BUS_ADDRESS", self.bus());
        let output = systemctl.output().unwrap();
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    }

    /// The path of the file of a foreign unit.
    pub(crate) fn unit_file(&self, name: &str) -> PathBuf {
        let folder = self.dir.path().join(".config/systemd/user");
        fs::create_dir_all(&folder).unwrap();
        folder.join(name)
    }

    /// Make a foreign unit with a second name; returns its file.
    pub(crate) fn own_unit(&self, name: &str, text: &str, alias: &str) -> PathBuf {
        fs::write(self.unit_file(name), text).unwrap();
        std::os::unix::fs::symlink(name, self.unit_file(alias)).unwrap();
        self.unit_file(name)
    }

    /// An administrator's drop-in for a unit.
    pub(crate) fn drop_in(&self, name: &str, text: &str) {
        let folder = self.unit_file(&format!("{name}.d"));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("10-test.conf"), text).unwrap();
    }

    /// The path of a link that systemd makes.
    pub(crate) fn link(&self, name: &str) -> PathBuf {
        self.dir.path().join("run/systemd/user").join(name)
    }

    /// The output of systemd and of the script that started it, for error messages.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
        let cgroups = mounts.lines().filter(|line| line.split(' ').nth(2) == Some("cgroup2"));
        for mount in cgroups.filter_map(|line| line.split(' ').nth(1)) {
            remove_groups(&Path::new(mount).join(&self.group));
        }
    }
}

/// The directory of a cgroup can be removed when it has neither children nor processes; the last processes may still be
/// ending.
fn remove_groups(group: &Path) {
    for child in fs::read_dir(group).into_iter().flatten().flatten().filter(|e| e.path().is_dir()) {
        remove_groups(&child.path());
    }
    for _ in 0..50 {
        if fs::remove_dir(group).is_ok() || !group.exists() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}
