//! The cluster that the cases of a group share, and what they are written with: sessions compared with transcripts, requests to the API,
//! hosts by the rank of their machine id (which decides where units go). Owns the clearing between cases.

use std::cell::Cell;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::harness::{Lab, Ran, eventually};

pub(crate) const SOON: Duration = Duration::from_secs(10);

/// Entries on a page of v1, so few that a handful of units has several.
pub(crate) const PAGE: usize = 3;

/// A unit that runs.
pub(crate) const RUNS: &str = "[Service]\nExecStart=/bin/sleep 10000";

pub(crate) struct Ground {
    pub(crate) lab: Lab,
    /// By machine id: host name and machine id.
    hosts: Vec<(String, String)>,
    case: Cell<&'static str>,
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
    /// Three hosts. Those that are placed on are told by rank: the least machine id has rank 1, the address 10.0.0.1 and metadata
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
        Self { lab, hosts, case: Cell::new("") }
    }

    pub(crate) fn begin(&self, case: &'static str) {
        self.case.set(case);
    }

    /// Destroy all that a case has left: units, files, metadata.
    pub(crate) fn clear(&self) {
        // That there is nothing to destroy is nothing wrong here; whether nothing is left, the list says.
        let ran =
            self.sh("fleetctl destroy '*' >/tmp/cleared 2>&1; rm -rf /root/*; fleetctl list-unit-files --no-legend");
        assert!(ran.code == 0 && ran.stdout.is_empty(), "units are left: {ran:?}");
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

    /// The ranks of the hosts where systemd says that `unit` is active.
    pub(crate) fn ranks(&self, unit: &str) -> Vec<usize> {
        let active =
            |rank: &usize| self.lab.run(self.host(*rank), &["systemctl", "is-active", unit]).stdout.trim() == "active";
        (1..=3).filter(active).collect()
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

    /// A line of bash in `/root` of n1.
    pub(crate) fn sh(&self, line: &str) -> Ran {
        self.lab.run("n1", &["env", "-C", "/root", "bash", "-c", line])
    }

    /// `fleetctl LINE`.
    pub(crate) fn fleetctl(&self, line: &str) -> Ran {
        self.sh(&format!("fleetctl {line}"))
    }

    /// What the lists say of a unit in these fields, blank-separated.
    pub(crate) fn field(&self, unit: &str, fields: &str) -> String {
        let listed = self.fleetctl(&format!("list-unit-files --no-legend --full --fields={fields} {unit}")).ok();
        listed.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Run the commands, one a line, and compare all they print with the transcript of this case: `$` a command, `2>` a line on stderr,
    /// `[N]` an exit code that isn't 0. Machine ids are ranks in it: the least is 1111….
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
        assert_eq!(transcript, expected, "{file} says otherwise; FLOTILLA_BLESS=1 writes it anew");
    }

    /// Machine ids and host names as ranks, in the same width.
    fn by_rank(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (index, (host, id)) in self.hosts.iter().enumerate() {
            let rank = (index + 1).to_string();
            text = text.replace(id.as_str(), &rank.repeat(32)).replace(&id[..8], &rank.repeat(8));
            text = text.replace(&format!(" {host} "), &format!(" h{rank} "));
        }
        text
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
