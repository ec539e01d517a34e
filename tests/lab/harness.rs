//! Drives `contrib/lab` for the tests: boots real hosts, runs commands in them, and reads the state of their systemd.
//! The lab ends with the test, also if the test fails or is killed (`--owner`).

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use flotilla::api::wire::{UnitList, UnitView};
use flotilla::model::systemd::ActiveState;
use serde_json::Value;

/// The lab of one test.
pub(crate) struct Lab {
    name: String,
    command: PathBuf,
}

/// The result of a command.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// Its stdout.
    ///
    /// # Panics
    /// If it failed, with its whole output.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, 0, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self.stdout
    }
}

impl Lab {
    /// `hosts` booted hosts with Flotilla installed, not yet started.
    pub(crate) fn boot(hosts: usize, install: &[&str]) -> Self {
        Self::boot_with_etcd(hosts, 1, install)
    }

    /// As [`Lab::boot`], with an etcd of this many members.
    pub(crate) fn boot_with_etcd(hosts: usize, members: usize, install: &[&str]) -> Self {
        let lab = Self::named(&format!("t{}", std::process::id()));
        lab.up(hosts, members, install);
        lab
    }

    /// The lab `name`, without any host yet. The machine ids, and thus the placement of units, depend on the name.
    pub(crate) fn named(name: &str) -> Self {
        Self { name: name.into(), command: Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/lab") }
    }

    /// Boot hosts and an etcd, and install Flotilla, without starting it.
    pub(crate) fn up(&self, hosts: usize, members: usize, install: &[&str]) {
        self.up_with(hosts, &[&members.to_string()], install);
    }

    /// As [`Lab::up`], with an etcd of `lab etcd up ETCD…`.
    pub(crate) fn up_with(&self, hosts: usize, etcd: &[&str], install: &[&str]) {
        let owner = std::process::id().to_string();
        self.lab(&["up", "--fresh", "--owner", &owner, &hosts.to_string()]).ok();
        if !install.contains(&"--standalone") {
            self.lab(&[&["etcd", "up"], etcd].concat()).ok();
        }
        self.lab(&[&["install"], install, &[&*Self::binaries()]].concat()).ok();
    }

    /// The folder of the programs that belong to this test.
    pub(crate) fn binaries() -> String {
        Path::new(env!("CARGO_BIN_EXE_fleetd")).parent().unwrap().to_str().unwrap().into()
    }

    /// A running cluster of `hosts` hosts with one etcd.
    pub(crate) fn cluster(hosts: usize) -> Self {
        let lab = Self::boot(hosts, &[]);
        lab.start_fleet(hosts);
        lab
    }

    pub(crate) fn start_fleet(&self, hosts: usize) {
        self.lab(&["fleet", "start"]).ok();
        eventually(Duration::from_secs(20), &format!("{hosts} machines registered"), || {
            let listed = self.fleetctl(&["list-machines", "--no-legend"]);
            if listed.stdout.lines().count() == hosts { Ok(()) } else { Err(format!("{listed:?}")) }
        });
    }

    /// `contrib/lab ARGS…`.
    ///
    /// # Panics
    /// If it doesn't end within [`COMMAND_LIMIT`], with what it has printed so far.
    #[track_caller]
    pub(crate) fn lab(&self, args: &[&str]) -> Ran {
        let begun = Instant::now();
        let ran = self.lab_in_time(args);
        assert!(begun.elapsed() < COMMAND_LIMIT, "waited {COMMAND_LIMIT:?} for `lab {}`: {ran:?}", args.join(" "));
        ran
    }

    /// `contrib/lab ARGS…`, ended after [`COMMAND_LIMIT`].
    fn lab_in_time(&self, args: &[&str]) -> Ran {
        let limit = COMMAND_LIMIT.as_secs().to_string();
        let mut command = Command::new("timeout");
        command.args(["--foreground", "--kill-after=10", &limit]).arg(&self.command).args(args);
        ran(command.env("FLOTILLA_LAB", &self.name).output().unwrap())
    }

    /// `etcdctl ARGS…`, for data that `fleetctl` doesn't show.
    pub(crate) fn etcdctl(&self, args: &[&str]) -> String {
        let endpoints = self.lab(&["etcd", "endpoints"]).ok();
        let mut etcdctl = Command::new("etcdctl");
        ran(etcdctl.env("ETCDCTL_API", "3").args(["--endpoints", endpoints.trim()]).args(args).output().unwrap()).ok()
    }

    /// A command inside a host.
    pub(crate) fn run(&self, host: &str, args: &[&str]) -> Ran {
        self.lab(&[&["run", host, "--"], args].concat())
    }

    /// Give a host a program of this machine.
    pub(crate) fn give(&self, host: &str, program: &str) {
        let line = format!("cat > {program}; chmod 755 {program}");
        let mut command = Command::new(&self.command);
        command.env("FLOTILLA_LAB", &self.name).args(["run", host, "--", "sh", "-c", &line]);
        let status = command.stdin(std::fs::File::open(program).unwrap()).status().unwrap();
        assert!(status.success(), "{program}: {status}");
    }

    /// A shell line inside a host.
    pub(crate) fn sh(&self, host: &str, line: &str) -> Ran {
        self.run(host, &["sh", "-c", line])
    }

    /// `fleetctl ARGS…` on n1, in `/root`.
    pub(crate) fn fleetctl(&self, args: &[&str]) -> Ran {
        self.fleetctl_on("n1", args)
    }

    pub(crate) fn fleetctl_on(&self, host: &str, args: &[&str]) -> Ran {
        self.run(host, &[&["env", "-C", "/root", "fleetctl"], args].concat())
    }

    /// Write a unit file into `/root` of n1.
    pub(crate) fn file(&self, name: &str, text: &str) {
        self.sh("n1", &format!("cat > '/root/{name}' <<'END'\n{text}\nEND")).ok();
    }

    /// All units, from the API.
    pub(crate) fn units(&self) -> Result<Vec<UnitView>, String> {
        self.units_on("n1")
    }

    pub(crate) fn units_on(&self, host: &str) -> Result<Vec<UnitView>, String> {
        let url = "http://fleet/fleet/v2/units";
        let ran = self.run(host, &["curl", "-sS", "--max-time", "5", "--unix-socket", "/run/fleet.sock", url]);
        let list: UnitList = serde_json::from_str(&ran.stdout).map_err(|error| format!("{error}: {ran:?}"))?;
        Ok(list.units)
    }

    /// The name of the host on which `unit` is active, according to both the cluster and that host's systemd.
    pub(crate) fn active_on(&self, host: &str, unit: &str) -> Result<String, String> {
        let units = self.units_on(host)?;
        let view = units.iter().find(|view| view.name.as_str() == unit).ok_or(format!("no {unit}"))?;
        let state = view
            .states
            .iter()
            .find(|state| state.report.active == ActiveState::Active)
            .ok_or(format!("not active: {view:?}"))?;
        let on = state.machine.hostname.clone();
        let truth = self.run(&on, &["systemctl", "is-active", unit]);
        if truth.stdout.trim() == "active" { Ok(on) } else { Err(format!("{unit} on {on}: {truth:?}")) }
    }

    pub(crate) fn until_active(&self, unit: &str, limit: Duration) -> String {
        eventually(limit, &format!("{unit} active"), || self.active_on("n1", unit))
    }

    /// The name of the leader's host, according to n1.
    pub(crate) fn leader(&self) -> String {
        eventually(Duration::from_secs(30), "a leader", || {
            let shown = self.fleetctl(&["status"]);
            let leads = shown.stdout.lines().find_map(|line| line.strip_prefix("leader\t"));
            Ok(leads.ok_or(format!("{shown:?}"))?.split('\t').next().unwrap_or_default().to_owned())
        })
    }

    /// The main pid of a unit on a host, according to systemd.
    pub(crate) fn main_pid(&self, host: &str, unit: &str) -> String {
        self.run(host, &["systemctl", "show", "--value", "-p", "MainPID", unit]).ok().trim().to_owned()
    }

    /// The starts and stops of units in the journal of `host`: (monotonic µs, `Started`/`Stopped`, unit), in order.
    pub(crate) fn history(&self, host: &str) -> Vec<(u64, &'static str, String)> {
        // systemd's own message ids for "unit started" and "unit stopped" (`journalctl --catalog`).
        const IDS: [(&str, &str); 2] =
            [("39f53479d3a045ac8e11786248231fbf", "Started"), ("9d1aaa27d60140bd96365438aad20286", "Stopped")];
        let journal = self.run(host, &["journalctl", "-b", "-o", "json", "_PID=1"]).ok();
        let entry = |line: &str| {
            let entry: Value = serde_json::from_str(line).ok()?;
            let id = entry["MESSAGE_ID"].as_str()?;
            let what = IDS.iter().find(|(known, _)| *known == id)?.1;
            let at = entry["__MONOTONIC_TIMESTAMP"].as_str()?.parse().ok()?;
            Some((at, what, entry["UNIT"].as_str()?.to_owned()))
        };
        journal.lines().filter_map(entry).collect()
    }

    /// `units` in the order in which `what` happened to them on `host`, according to systemd.
    pub(crate) fn order(&self, host: &str, what: &str, units: &[&str]) -> Vec<String> {
        let history = self.history(host).into_iter();
        history.filter(|(_, w, unit)| *w == what && units.contains(&unit.as_str())).map(|(_, _, unit)| unit).collect()
    }

    /// The last lines of `fleetd` on each host, and those of everything else there: what a failed test leaves behind.
    fn print_journals(&self) {
        let journal = "journalctl -b --no-pager -o short-monotonic";
        for host in (1..).map(|number| format!("n{number}")) {
            let log = self.sh(&host, &format!("{journal} -u fleetd -n 40"));
            if log.code != 0 {
                break;
            }
            let others = self.sh(&host, &format!("{journal} -n 1000 | grep -v ' fleetd\\[' | tail -n 60"));
            eprintln!("--- fleetd on {host}:\n{}--- others on {host}:\n{}", log.stdout, others.stdout);
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.print_journals();
        }
        // Not `lab`, which may panic: a second panic would hide the first.
        self.lab_in_time(&["down"]);
    }
}

fn ran(output: Output) -> Ran {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ran { code: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// How long one command may take: less than the time that the runner gives a whole test, so that a test that hangs says
/// where.
const COMMAND_LIMIT: Duration = Duration::from_secs(200);

/// How long a test waits at least for what it expects, so that it passes on a slow machine too.
const PATIENCE: Duration = Duration::from_secs(60);

/// Wait until `look` succeeds, and return its result. This is no statement about how fast anything is: if `limit` is
/// shorter than [`PATIENCE`], the test waits for as long as that. What must happen in time is for [`within`].
///
/// # Panics
/// If it doesn't succeed, with what was last seen.
#[track_caller]
pub(crate) fn eventually<T>(limit: Duration, what: &str, look: impl FnMut() -> Result<T, String>) -> T {
    within(limit.max(PATIENCE), what, look)
}

/// Wait until `look` succeeds, and return its result.
///
/// # Panics
/// If it doesn't within `limit`, with what was last seen.
#[track_caller]
pub(crate) fn within<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let started = Instant::now();
    loop {
        let seen = match look() {
            Ok(found) => return found,
            Err(seen) => seen,
        };
        assert!(started.elapsed() < limit, "waited {limit:?} for {what}; saw {seen}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
