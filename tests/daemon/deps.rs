//! `contrib/deps`, with a package manager that only records what it is asked for: nothing that is installed is
//! upgraded, no service is started or left enabled, and only failures are loud.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Output};

use super::text;

const APT: &str = r#"#!/bin/sh
echo "$*" >>"$RECORD/asked"
case "$*" in
*--simulate*) cat "$RECORD/simulated" ;;
*install*)
	/usr/sbin/policy-rc.d etcd start; echo "policy $?" >>"$RECORD/asked"
	ln -s /lib/systemd/system/etcd.service /etc/systemd/system/multi-user.target.wants/etcd.service
	echo 'Reading database ... 45%'
	exit "$(cat "$RECORD/status")"
	;;
esac
"#;

/// The folders of a machine on which nothing is installed but sshd, which is enabled.
struct Machine(tempfile::TempDir);

impl Machine {
    fn new() -> Self {
        let machine = Self(tempfile::tempdir().unwrap());
        for folder in ["bin", "sbin", "units/multi-user.target.wants"] {
            fs::create_dir_all(machine.path(folder)).unwrap();
        }
        machine.program("apt-get", APT);
        machine.program("dpkg-query", "#!/bin/sh\nexit 1\n");
        machine.write("simulated", "Inst etcd-server (3.4 Debian)\nConf etcd-server (3.4 Debian)\n");
        machine.write("status", "0");
        symlink("/lib/systemd/system/ssh.service", machine.path("units/multi-user.target.wants/ssh.service")).unwrap();
        machine
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn program(&self, name: &str, text: &str) {
        let file = self.path("bin").join(name);
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Run `contrib/deps` there.
    fn deps(&self, args: &[&str]) -> Output {
        self.run("contrib/deps", args)
    }

    fn run(&self, script: &str, args: &[&str]) -> Output {
        let inside = "mount --bind \"$RECORD/sbin\" /usr/sbin && mount --bind \"$RECORD/units\" /etc/systemd/system && \
             PATH=$RECORD/bin:/usr/bin:/bin exec \"$@\"";
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(script);
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", inside, "sh"]).arg(script).args(args);
        command.env("RECORD", self.0.path()).output().unwrap()
    }

    fn asked(&self) -> String {
        fs::read_to_string(self.path("asked")).unwrap()
    }

    fn enabled(&self) -> Vec<String> {
        let links = fs::read_dir(self.path("units/multi-user.target.wants")).unwrap();
        links.map(|link| link.unwrap().file_name().into_string().unwrap()).collect()
    }
}

#[test]
fn new_packages_start_and_enable_nothing() {
    let machine = Machine::new();
    let output = machine.deps(&["lab"]);
    let (stdout, stderr) = text(&output);
    assert!(output.status.success(), "{stderr}");
    assert!(stdout.is_empty() && stderr.lines().count() == 1 && stderr.contains("etcd-server"), "{stdout}{stderr}");
    let asked = machine.asked();
    assert!(asked.contains("policy 101"), "{asked}");
    assert!(
        asked.lines().filter(|line| line.contains("install ")).all(|line| line.contains("--no-upgrade")),
        "{asked}"
    );
    assert_eq!(machine.enabled(), ["ssh.service"], "what was enabled before stays, and nothing is new");
    assert_eq!(fs::read_dir(machine.path("sbin")).unwrap().count(), 0, "the policy is gone");
}

#[test]
fn what_is_installed_is_not_upgraded_unless_that_is_asked_for() {
    let machine = Machine::new();
    machine.write("simulated", "Inst systemd [252.1] (252.2 Debian)\nInst systemd-container (252.2 Debian)\n");
    let output = machine.deps(&["lab"]);
    let stderr = text(&output).1;
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("would upgrade systemd\nNothing was changed."), "{stderr}");
    assert!(!machine.asked().contains("policy"), "{}", machine.asked());
    assert!(machine.deps(&["lab", "--upgrade"]).status.success());
    assert!(machine.asked().contains("policy 101"), "{}", machine.asked());
}

#[test]
fn the_check_passes_on_whether_packages_may_be_upgraded() {
    for (args, may) in [(&[][..], false), (&["--upgrade"], true)] {
        let machine = Machine::new();
        machine.write("simulated", "Inst systemd [252.1] (252.2 Debian)\n");
        // It ends there: nothing is built.
        machine.program("cargo", "#!/bin/sh\nexit 1\n");
        machine.program("rustup", "#!/bin/sh\nexit 1\n");
        let output = machine.run("contrib/check", args);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output).1);
        assert_eq!(machine.asked().contains("policy 101"), may, "{args:?}: {}", machine.asked());
    }
}

#[test]
fn a_failure_shows_what_the_package_manager_printed() {
    let machine = Machine::new();
    machine.write("status", "100");
    let output = machine.deps(&["lab"]);
    let stderr = text(&output).1;
    assert!(output.status.code() == Some(1) && stderr.contains("Reading database ... 45%"), "{stderr}");
    assert!(stderr.contains("` failed"), "{stderr}");
    assert_eq!(machine.enabled(), ["ssh.service"], "nor is anything left enabled");
    assert_eq!(fs::read_dir(machine.path("sbin")).unwrap().count(), 0, "the policy is gone");
}
