//! The cluster that the cases of a group share, and the functions that they use: sessions compared with transcripts,
//! requests to the API, and hosts by the rank of their machine id (which decides where units are placed). Owns the
//! cleanup between cases.

use std::cell::{Cell, OnceCell};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::harness::{Lab, Ran, eventually};

pub(crate) const SOON: Duration = Duration::from_secs(10);

/// Entries on a page of v1: so few that a handful of units needs several pages.
pub(crate) const PAGE: usize = 3;

/// A unit that runs.
pub(crate) const RUNS: &str = "[Service]\nExecStart=/bin/sleep 10000";

pub(crate) struct Ground {
    pub(crate) lab: Lab,
    /// Host name and machine id, sorted by machine id.
    hosts: Vec<(String, String)>,
    etcd: String,
    case: Cell<&'static str>,
    let_in: OnceCell<()>,
}

/// An answer of the API.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: String,
    pub(crate) body: String,
}

impl Answer {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The status and the error's message.
    #[track_caller]
    pub(crate) fn error(&self) -> (u16, String) {
        let body = self.json();
        assert_eq!(body["error"]["code"], self.status, "{self:?}");
        (self.status, body["error"]["message"].as_str().unwrap().into())
    }
}

impl Ground {
    /// Three hosts, identified by rank: the least machine id has rank 1, the address 10.0.0.1 and the metadata
    /// `rank=1`; ranks 1 and 2 are in `zone=a`, 3 in `zone=b`.
    pub(crate) fn new() -> Self {
        let lab = Lab::boot(3, &[]);
        let listed = lab.lab(&["hosts"]).ok();
        let mut hosts: Vec<(String, String)> = listed
            .lines()
            .map(|line| line.split('\t').collect::<Vec<_>>())
            .map(|fields| (fields[0].to_owned(), fields[3].to_owned()))
            .collect();
        hosts.sort_by(|a, b| a.1.cmp(&b.1));
        let mut install = vec!["install".to_owned()];
        let mut conf = |line: String| install.extend(["--conf".to_owned(), line]);
        for (index, (host, _)) in hosts.iter().enumerate() {
            let rank = index + 1;
            conf(format!("{host}:public_ip=10.0.0.{rank}"));
            conf(format!("{host}:metadata=rank={rank},zone={}", if rank == 3 { "b" } else { "a" }));
        }
        conf(format!("token_limit={PAGE}"));
        conf("n1:listen=unix:///run/fleet.sock,tcp://127.0.0.1:49153".into());
        install.push(Path::new(env!("CARGO_BIN_EXE_fleetd")).parent().unwrap().to_str().unwrap().into());
        lab.lab(&install.iter().map(String::as_str).collect::<Vec<_>>()).ok();
        lab.start_fleet(3);
        let etcd = lab.lab(&["etcd", "endpoints"]).ok().trim().to_owned();
        Self { lab, hosts, etcd, case: Cell::new(""), let_in: OnceCell::new() }
    }

    pub(crate) fn begin(&self, case: &'static str) {
        self.case.set(case);
    }

    /// Remove everything that a case has left: units, files, metadata.
    pub(crate) fn clear(&self) {
        // There may be nothing to destroy; the list shows whether something is left.
        let ran =
            self.sh("fleetctl destroy '*' >/tmp/cleared 2>&1; rm -rf /root/*; fleetctl list-unit-files --no-legend");
        assert!(ran.code == 0 && ran.stdout.is_empty(), "units are left: {ran:?}");
        // `remove` in the v1 API hides metadata of a host's configuration, and v1 can't undo that.
        self.etcdctl(&["del", "--prefix", "/flotilla/metadata/"]);
    }

    /// `etcdctl ARGS…`, for what neither `fleetctl` nor the API can do.
    pub(crate) fn etcdctl(&self, args: &[&str]) -> String {
        self.lab.etcdctl(args)
    }

    /// The number of requests of this kind that etcd has received, from all clients.
    pub(crate) fn asked_of_etcd(&self, method: &str) -> String {
        let metrics = self.lab.run("n1", &["curl", "-sS", &format!("{}/metrics", self.etcd)]).ok();
        let counter = format!("grpc_server_started_total{{grpc_method=\"{method}\"");
        metrics.lines().find(|line| line.starts_with(&counter)).unwrap().rsplit(' ').next().unwrap().to_owned()
    }

    /// Let n1 log in on every host, as `core`, at the address that the cluster shows: its key and the host keys are
    /// where fleetctl looks by default.
    pub(crate) fn ssh(&self) -> &Self {
        self.let_in.get_or_init(|| {
            let folder = self.lab.lab(&["ssh"]).ok();
            let read = |name: &str| std::fs::read_to_string(Path::new(folder.trim()).join(name)).unwrap();
            let mut known = read("known_hosts");
            for line in self.lab.lab(&["hosts"]).ok().lines() {
                let fields: Vec<&str> = line.split('\t').collect();
                let address = format!("10.0.0.{}", self.rank(fields[0]));
                known = known.replace(&format!("{} ", fields[1]), &format!("{address} "));
                self.lab.run(fields[0], &["ip", "address", "add", &format!("{address}/24"), "dev", "host0"]).ok();
            }
            let put = |path: &str, text: &str| {
                self.sh(&format!("umask 077; mkdir -p $(dirname {path}); cat > {path} <<'END'\n{text}END")).ok();
            };
            put(".ssh/id_ed25519", &read("key"));
            put(".fleetctl/known_hosts", &known);
        });
        self
    }

    /// The rank of n1, where the commands run, and of another host.
    pub(crate) fn here_and_there(&self) -> (usize, usize) {
        let here = self.rank("n1");
        (here, if here == 1 { 2 } else { 1 })
    }

    /// Wait until `host` lists all three hosts.
    pub(crate) fn until_all_are_there(&self, host: &str) {
        eventually(SOON, "three machines", || {
            let listed = self.lab.fleetctl_on(host, &["list-machines", "--no-legend"]);
            if listed.stdout.lines().count() == 3 { Ok(()) } else { Err(format!("{listed:?}")) }
        });
    }

    /// The host of this rank.
    pub(crate) fn host(&self, rank: usize) -> &str {
        &self.hosts[rank - 1].0
    }

    /// The machine id of this rank.
    pub(crate) fn id(&self, rank: usize) -> &str {
        &self.hosts[rank - 1].1
    }

    /// The rank of a host, by name or by machine id.
    #[track_caller]
    pub(crate) fn rank(&self, host: &str) -> usize {
        1 + self
            .hosts
            .iter()
            .position(|(name, id)| name == host || id == host)
            .unwrap_or_else(|| panic!("no host {host}"))
    }

    /// The ranks of the hosts on which `unit` is active, according to systemd.
    pub(crate) fn ranks(&self, unit: &str) -> Vec<usize> {
        (1..=3).filter(|rank| self.is_active(*rank, unit)).collect()
    }

    /// As [`Ground::ranks`], without the host of rank `down`.
    pub(crate) fn running(&self, unit: &str, down: usize) -> Vec<usize> {
        (1..=3).filter(|rank| *rank != down && self.is_active(*rank, unit)).collect()
    }

    fn is_active(&self, rank: usize, unit: &str) -> bool {
        self.lab.run(self.host(rank), &["systemctl", "is-active", unit]).stdout.trim() == "active"
    }

    #[track_caller]
    pub(crate) fn until_ranks(&self, unit: &str, ranks: &[usize]) {
        eventually(SOON, &format!("{unit} active on ranks {ranks:?}"), || {
            let now = self.ranks(unit);
            if now == ranks { Ok(()) } else { Err(format!("{now:?}")) }
        });
    }

    pub(crate) fn file(&self, name: &str, text: &str) -> &Self {
        self.lab.file(name, text);
        self
    }

    /// The text of a file.
    pub(crate) fn text(&self, name: &str) -> String {
        self.sh(&format!("cat {name}")).ok()
    }

    /// A line of bash in `/root` of n1.
    pub(crate) fn sh(&self, line: &str) -> Ran {
        self.lab.run("n1", &["env", "-C", "/root", "bash", "-c", line])
    }

    /// `fleetctl LINE`.
    pub(crate) fn fleetctl(&self, line: &str) -> Ran {
        self.sh(&format!("fleetctl {line}"))
    }

    /// These fields of a unit in the lists, separated by blanks.
    pub(crate) fn field(&self, unit: &str, fields: &str) -> String {
        let listed = self.fleetctl(&format!("list-unit-files --no-legend --full --fields={fields} {unit}")).ok();
        listed.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Run the commands, one on each line, and compare their output with the transcript of this case: `$` begins a
    /// command, `2>` a line on stderr, `[N]` is an exit status that isn't 0. Machine ids are ranks: 1111… is 1.
    #[track_caller]
    pub(crate) fn session(&self, commands: &str) {
        let mut transcript = String::new();
        for line in commands.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let ran = self.sh(line);
            transcript += &format!("$ {line}\n{}", ran.stdout);
            if !(ran.stdout.is_empty() || ran.stdout.ends_with('\n')) {
                transcript += "(no line end)\n";
            }
            for line in ran.stderr.lines() {
                transcript += &format!("2> {line}\n");
            }
            if ran.code != 0 {
                transcript += &format!("[{}]\n", ran.code);
            }
        }
        let transcript = self.by_rank(&transcript);
        let file = format!("tests/lab/conformance/transcripts/{}.txt", self.case.get());
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(&file);
        if std::env::var_os("FLOTILLA_BLESS").is_some() {
            std::fs::write(&path, &transcript).unwrap();
        }
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(transcript, expected, "{file} differs; FLOTILLA_BLESS=1 writes it again");
    }

    /// Machine ids and host names as ranks, in the same width. The reasons of hosts, which are in the order of their
    /// names, are put in that of their ranks.
    fn by_rank(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (index, (host, id)) in self.hosts.iter().enumerate() {
            let rank = (index + 1).to_string();
            text = text.replace(id.as_str(), &rank.repeat(32)).replace(&id[..8], &rank.repeat(8));
            text = text.replace(&format!(" {host} "), &format!(" h{rank} "));
        }
        let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
        let is_reason = |line: &&str| line.starts_with("2>   h");
        lines.chunk_by_mut(|a, b| is_reason(a) && is_reason(b)).for_each(<[&str]>::sort_unstable);
        lines.concat()
    }

    /// A request to the API. `path` is below `/fleet/v1` unless it begins with `//`.
    pub(crate) fn http(&self, method: &str, path: &str, headers: &[&str], body: Option<&str>) -> Answer {
        let path =
            path.strip_prefix('/').filter(|path| path.starts_with('/')).map_or(format!("/fleet/v1{path}"), Into::into);
        let url = format!("http://fleet{path}");
        let mut args = vec!["curl", "-sSi", "--max-time", "10", "--unix-socket", "/run/fleet.sock", "-X", method];
        for header in headers {
            args.extend(["-H", header]);
        }
        if let Some(body) = body {
            args.extend(["--data-binary", body]);
        }
        args.push(&url);
        let ran = self.lab.run("n1", &args);
        let (head, body) = ran.stdout.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{method} {path}: {ran:?}"));
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default();
        Answer { status, headers: head.to_lowercase(), body: body.into() }
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.http("GET", path, &[], None)
    }

    pub(crate) fn put(&self, unit: &str, body: &Value) -> Answer {
        let path = format!("/units/{unit}");
        self.http("PUT", &path, &["Content-Type: application/json"], Some(&body.to_string()))
    }

    /// Put a unit with one `ExecStart=`.
    pub(crate) fn have(&self, unit: &str, desired: &str) {
        let answer = self.put(unit, &serde_json::json!({ "desiredState": desired, "options": options(&[]) }));
        assert_eq!(answer.status, 201, "{answer:?}");
    }
}

/// The options of a unit that runs, and these of `[X-Fleet]`.
pub(crate) fn options(fleet: &[(&str, &str)]) -> Value {
    let start = serde_json::json!({ "section": "Service", "name": "ExecStart", "value": "/bin/sleep 10000" });
    let fleet =
        fleet.iter().map(|(name, value)| serde_json::json!({ "section": "X-Fleet", "name": name, "value": value }));
    std::iter::once(start).chain(fleet).collect()
}
