//! A real systemd to test against, without being a host's first process.
//!
//! Owns one `systemd --user` with its own D-Bus daemon, in its own cgroup, mount and process namespaces, and its end:
//! it dies with this process, whatever becomes of it. It must never be skipped silently: what is missing is said.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use flotilla::systemd::dbus::{Dbus, Options};

/// How it is started; see there.
const BOOT: &str = include_str!("boot.sh");

/// One systemd, up as long as this value lives.
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

    /// An adapter to it, with folders of its own.
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

    /// Ask it something past the adapter: over the bus, for its private socket knows nobody from outside its
    /// namespaces.
    pub(crate) fn systemctl(&self, args: &[&str]) -> String {
        let mut systemctl = Command::new("systemctl");
        systemctl.arg("--user").args(args).env_remove("XDG_RUNTIME_DIR").env("DBUS_SESSION_BUS_ADDRESS", self.bus());
        let output = systemctl.output().unwrap();
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    }

    /// A unit that the host has of its own, with a second name; its file.
    pub(crate) fn own_unit(&self, name: &str, text: &str, alias: &str) -> PathBuf {
        let folder = self.dir.path().join(".config/systemd/user");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), text).unwrap();
        std::os::unix::fs::symlink(name, folder.join(alias)).unwrap();
        folder.join(name)
    }

    /// A link that systemd made or should have made.
    pub(crate) fn link(&self, name: &str) -> PathBuf {
        self.dir.path().join("run/systemd/user").join(name)
    }

    /// What systemd and its start had to say, for a failure's message.
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

/// A cgroup's directory is empty for `rmdir` when it has no child and no process; the last processes may still be
/// going.
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
