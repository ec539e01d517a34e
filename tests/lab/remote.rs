//! A cluster used from a laptop: this machine has no fleetd, only `fleetctl`, a key, and SSH access to three hosts.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Lab, Ran, eventually};

struct Laptop {
    lab: Lab,
    home: TempDir,
    /// The folder of `key` and `known_hosts`.
    keys: String,
}

impl Laptop {
    fn new(hosts: usize) -> Self {
        let lab = Lab::cluster(hosts);
        let keys = lab.lab(&["ssh"]).ok().trim().to_owned();
        Self { lab, home: tempfile::tempdir().unwrap(), keys }
    }

    fn ip(&self, host: &str) -> String {
        let hosts = self.lab.lab(&["hosts"]).ok();
        let row = hosts.lines().find(|line| line.starts_with(&format!("{host}\t"))).unwrap();
        row.split('\t').nth(1).unwrap().to_owned()
    }

    /// `fleetctl` through n1, as `core`, who isn't root.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fleetctl"));
        command
            .args(args)
            .current_dir(self.home.path())
            .env_clear()
            .env("HOME", self.home.path())
            .env("PATH", "/usr/bin:/bin");
        command.env("FLEETCTL_SSH_USERNAME", "core");
        command.env("FLEETCTL_TUNNEL", self.ip("n1")).env("FLEETCTL_SSH_IDENTITY", format!("{}/key", self.keys));
        command.env("FLEETCTL_KNOWN_HOSTS_FILE", format!("{}/known_hosts", self.keys)).env("FLEETCTL_SSH_TIMEOUT", "5");
        command.stdin(Stdio::null());
        command
    }

    fn fleetctl(&self, args: &[&str]) -> Ran {
        ran(self.command(args))
    }

    fn file(&self, name: &str, text: &str) {
        std::fs::write(self.home.path().join(name), text).unwrap();
    }
}

fn ran(mut command: Command) -> Ran {
    let output = command.output().unwrap();
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

#[track_caller]
fn refused(ran: &Ran, words: &[&str]) {
    assert_eq!((ran.code, ran.stdout.as_str()), (255, ""), "{ran:?}");
    for word in words {
        assert!(ran.stderr.contains(word), "no `{word}` in {}", ran.stderr);
    }
}

#[test]
fn a_laptop_runs_the_cluster_through_one_of_its_hosts() {
    let laptop = Laptop::new(3);
    assert_eq!(laptop.fleetctl(&["list-machines", "--no-legend"]).ok().lines().count(), 3);

    laptop.file("hello.service", "[Unit]\nDescription=Says hello\n[Service]\nExecStart=/bin/sleep 1000\n");
    laptop.file("every.service", "[Service]\nExecStart=/bin/sleep 1000\n[X-Fleet]\nGlobal=true\n");
    laptop.file(
        "stays.service",
        "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n[X-Fleet]\nMachineMetadata=host=n2\n",
    );
    let started = laptop.fleetctl(&["start", "hello.service", "every.service", "stays.service"]).ok();
    assert!(started.contains("Unit hello.service launched on "), "{started}");
    eventually(Duration::from_secs(10), "the global unit on all hosts", || {
        let listed = laptop.fleetctl(&["list-units", "--no-legend", "--fields=active", "every"]);
        if listed.stdout.matches("active").count() == 3 { Ok(()) } else { Err(format!("{listed:?}")) }
    });

    // The output of systemctl on the host of each unit; n2 and n3 are reached by SSH within SSH.
    let status = laptop.fleetctl(&["status", "hello", "every"]);
    assert_eq!((status.code, status.stderr.as_str()), (0, ""));
    assert_eq!(status.stdout.matches("Active: active (running)").count(), 4, "{}", status.stdout);
    for host in ["n1", "n2", "n3"] {
        assert!(status.stdout.contains(&format!("-- every.service on {host} ")), "{}", status.stdout);
    }
    laptop.lab.run("n2", &["systemctl", "stop", "stays.service"]).ok();
    let status = laptop.fleetctl(&["status", "stays", "hello", "missing"]);
    assert_eq!(status.code, 3, "systemctl's own, of the first that isn't well: {status:?}");
    assert!(status.stdout.contains("Says hello") && status.stderr.contains("Unit missing.service does not exist."));

    // A command on a host, given in each possible way, and on the host of a unit.
    let id = laptop.lab.run("n3", &["cat", "/etc/machine-id"]).ok();
    for name in ["n3", &laptop.ip("n3"), &id[..8]] {
        assert_eq!(laptop.fleetctl(&["ssh", name, "hostname; exit 7"]).stdout, "n3\n", "{name}");
    }
    assert_eq!(laptop.fleetctl(&["ssh", "n3", "exit 7"]).code, 7);
    assert_eq!(laptop.fleetctl(&["ssh", "stays", "hostname"]).ok(), "n2\n");
    refused(
        &laptop.fleetctl(&["ssh", "every", "true"]),
        &["every.service is on every host that fits", "fleetctl ssh n2"],
    );

    // A shell on n3, through n1, whose terminal has the size of ours.
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ssh/terminal.py");
    let steps = json!([
        ["send", "stty size; hostname; id -un\n"],
        ["expect", "31 101"],
        ["expect", "n3"],
        ["expect", "core"],
        ["resize", 77, 22],
        ["send", "until stty size | grep 77; do :; done\n"],
        ["expect", "22 77"],
        ["send", "exit 9\n"]
    ]);
    let shell = laptop.command(&["ssh", "n3"]);
    let mut python = Command::new("python3");
    python.arg(script).arg(steps.to_string()).arg(shell.get_program()).args(shell.get_args()).stdin(Stdio::null());
    python.env_clear().env("TERM", "vt220").envs(shell.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let played: Value = serde_json::from_str(&ran(python).ok()).unwrap();
    assert_eq!(
        (&played["code"], &played["restored"], &played["problem"]),
        (&json!(9), &json!(true), &Value::Null),
        "{played:#}"
    );
}

#[test]
fn hosts_that_are_not_who_or_where_they_should_be() {
    let laptop = Laptop::new(3);
    // n3 is installed again and has another key. The error names the line of the known one.
    laptop.lab.sh("n3", "rm /etc/ssh/ssh_host_ed25519_key*; systemctl restart ssh").ok();
    refused(
        &laptop.fleetctl(&["ssh", "n3", "true"]),
        &["REMOTE HOST IDENTIFICATION HAS CHANGED!", "/ssh/known_hosts line 3", "ssh-keygen -f"],
    );
    // Without known hosts; then with unknown host keys accepted.
    let unknown = |more: &[&str]| {
        let mut command = laptop.command(&[more, &["ssh", "n2", "hostname"]].concat());
        command.env("FLEETCTL_KNOWN_HOSTS_FILE", laptop.home.path().join("known_hosts"));
        ran(command)
    };
    refused(&unknown(&[]), &["isn't known: ED25519 SHA256:"]);
    assert_eq!(unknown(&["--strict-host-key-checking=false"]).ok(), "n2\n");
    assert_eq!(unknown(&[]).ok(), "n2\n", "both hosts on the way are known now");

    // A key that no host accepts, and one that only an agent has.
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(laptop.home.path().join("wrong"))
        .status();
    assert!(made.unwrap().success());
    let mut wrong = laptop.command(&["ssh", "n2", "true"]);
    wrong.env("FLEETCTL_SSH_IDENTITY", "wrong");
    refused(&ran(wrong), &["as core: none of the keys was accepted", "  wrong: not accepted"]);
    let line = format!("ssh-add -q {}/key && exec {} ssh n2 hostname", laptop.keys, env!("CARGO_BIN_EXE_fleetctl"));
    let plain = laptop.command(&[]);
    let mut agent = Command::new("ssh-agent");
    agent.args(["sh", "-c", &line]).env_clear().current_dir(laptop.home.path());
    agent.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?)))).env_remove("FLEETCTL_SSH_IDENTITY");
    assert_eq!(ran(agent).ok(), "n2\n");

    // n2 is dead, and its lease has not expired yet; then it is also the jump host.
    let ip = laptop.ip("n2");
    laptop.lab.lab(&["kill", "n2"]).ok();
    refused(&laptop.fleetctl(&["ssh", "n2", "true"]), &["can't reach n2 (", &format!("through {}", laptop.ip("n1"))]);
    let mut dead = laptop.command(&["list-machines"]);
    dead.env("FLEETCTL_TUNNEL", &ip);
    refused(&ran(dead), &[&format!("can't reach {ip}: ")]);
    assert_eq!(laptop.fleetctl(&["list-machines", "--no-legend"]).code, 0, "n1 is well");
}
