//! A `fleetd` that answers as it is told: the v2 API on a socket in a temporary directory, and the real `fleetctl` run
//! against it.

#[path = "../support/description.rs"]
mod description;

use std::collections::{BTreeMap, VecDeque};
use std::io::ErrorKind;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{Method, StatusCode, Uri};
use axum::response::Response;
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tempfile::TempDir;

use flotilla::api::client::progress_of;
use flotilla::api::wire::{Operation, WatchLine};
use flotilla::model::glob::Glob;

/// Longer than anything here takes: a test that gets there hangs.
const HANG: Duration = Duration::from_secs(30);

/// How many seconds a `fleetctl` waits for an answer of a [`Fake`]: as long as the test does. One that gave up sooner,
/// on a busy machine, would ask again, and be told what is meant for its next question.
pub(crate) const PATIENCE: &str = "30";

/// Ends a watch; without it, the watch stays open.
pub(crate) const CLOSE: &str = "CLOSE";

/// In a watch, what follows comes [`LATE`] later.
pub(crate) const LATER: &str = "LATER";
const LATE: Duration = Duration::from_millis(700);

/// What to answer.
#[derive(Default)]
pub(crate) struct Script {
    /// `GET /units`, filtered by `name=`.
    pub(crate) units: Vec<Value>,
    /// `GET /units/NAME`; others are 404.
    pub(crate) details: BTreeMap<String, Value>,
    /// `GET /machines`.
    pub(crate) machines: Vec<Value>,
    /// `gone` of `GET /machines`.
    pub(crate) gone: Vec<Value>,
    /// `members` of `GET /store`; without any, it is a `fleetd` of before.
    pub(crate) store: Option<Vec<Value>>,
    /// `POST /units`, in turn; then everything is `changed` at generation 7.
    pub(crate) applied: VecDeque<(u16, Value)>,
    /// The lines of one watch after the other.
    pub(crate) watches: VecDeque<Vec<String>>,
    /// Answer everything with this.
    pub(crate) refuse: Option<(u16, Value)>,
    /// Answer nothing.
    pub(crate) mute: bool,
    /// Know nothing of progress, as a `fleetd` before it.
    pub(crate) old: bool,
}

/// A running fake.
pub(crate) struct Fake {
    pub(crate) dir: TempDir,
    /// More variables of the environment for all that is run.
    pub(crate) variables: Vec<(&'static str, &'static str)>,
    requests: Arc<Mutex<Vec<(String, Value)>>>,
    _runtime: tokio::runtime::Runtime,
}

/// What a run of `fleetctl` left.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Fake {
    pub(crate) fn new(script: Script) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let listener = {
            let _inside = runtime.enter();
            tokio::net::UnixListener::bind(dir.path().join("fleet.sock")).unwrap()
        };
        let (script, log) = (Arc::new(Mutex::new(script)), Arc::clone(&requests));
        let app = axum::Router::new().fallback(move |method: Method, uri: Uri, body: String| {
            let (script, log) = (Arc::clone(&script), Arc::clone(&log));
            async move {
                let body = serde_json::from_str(&body).unwrap_or(Value::Null);
                log.lock().unwrap().push((format!("{method} {uri}"), body.clone()));
                if script.lock().unwrap().mute {
                    std::future::pending::<()>().await;
                }
                answer(&mut script.lock().unwrap(), &method, &uri, &body)
            }
        });
        // fleetctl's requests are as large as the real API takes them.
        let app = app.layer(axum::extract::DefaultBodyLimit::max(flotilla::api::wire::BODY_LIMIT));
        runtime.spawn(async move { axum::serve(listener, app).await });
        Self { dir, variables: Vec::new(), requests, _runtime: runtime }
    }

    pub(crate) fn file(&self, name: &str, text: &str) -> &Self {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    /// What was asked, `METHOD /path?query`.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.requests.lock().unwrap().iter().map(|(line, _)| line.clone()).collect()
    }

    /// The batches that were sent.
    pub(crate) fn sent(&self) -> Vec<Value> {
        let requests = self.requests.lock().unwrap();
        requests.iter().filter(|(line, _)| line.starts_with("POST")).map(|(_, body)| body["units"].clone()).collect()
    }

    pub(crate) fn command(&self, args: &str) -> Command {
        let mut command = fleetctl(self.dir.path());
        command.args(args.split_whitespace()).env("FLEETCTL_ENDPOINT", self.endpoint());
        command.env("FLEETCTL_REQUEST_TIMEOUT", PATIENCE).envs(self.variables.iter().copied());
        command
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("unix://{}/fleet.sock", self.dir.path().display())
    }

    pub(crate) fn run(&self, args: &str) -> Ran {
        run(self.command(args))
    }

    /// Run on a terminal of `columns` by 40, with `typed` as the input: the exit code, and what the terminal was sent.
    pub(crate) fn on_terminal(&self, args: &str, columns: u16, typed: &str) -> (Option<i32>, String) {
        self.on_terminal_after(args, columns, typed, "")
    }

    /// The same; `typed` is typed when the terminal shows `seen`.
    pub(crate) fn on_terminal_after(&self, args: &str, columns: u16, typed: &str, seen: &str) -> (Option<i32>, String) {
        let mut command = terminal(self.dir.path(), args, columns);
        command.env("FLEETCTL_ENDPOINT", self.endpoint()).env("FLEETCTL_REQUEST_TIMEOUT", PATIENCE);
        command.envs(self.variables.iter().copied());
        typed_at(&mut command, typed, seen)
    }

    /// Type at a bash with our completion, on a terminal. Returns what it showed.
    pub(crate) fn in_bash(&self, typed: &str) -> String {
        self.in_shell("bash --norc --noprofile -i", "source <(fleetctl completion bash)", typed)
    }

    /// Type at an interactive `shell` after the line `setup`, on a terminal. Returns what it showed.
    pub(crate) fn in_shell(&self, shell: &str, setup: &str, typed: &str) -> String {
        let mut command = Command::new("script");
        command.current_dir(self.dir.path()).env_clear();
        command.args(["-E", "never", "-qec", &format!("stty cols 200; exec {shell}"), "/dev/null"]);
        command.envs([
            ("TERM", "xterm"),
            ("SHELL", "/bin/bash"),
            ("PS1", "> "),
            ("FLEETCTL_ENDPOINT", &self.endpoint()),
        ]);
        command.env("PATH", path()).envs(self.variables.iter().copied());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let line = format!("{setup}; echo rea''dy\n");
        std::io::Write::write_all(&mut stdin, line.as_bytes()).unwrap();
        let before = read_until(&mut child, "ready");
        std::io::Write::write_all(&mut stdin, format!("{typed}exit\n").as_bytes()).unwrap();
        let ran = finish(child);
        drop(stdin);
        before + &ran.out
    }

    /// Run, and compare everything.
    #[track_caller]
    pub(crate) fn expect(&self, args: &str, code: i32, out: &str, err: &str) {
        assert_eq!(self.run(args), Ran { code: Some(code), out: out.into(), err: err.into() }, "fleetctl {args}");
    }
}

/// `fleetctl` on a terminal of `columns` by 40.
pub(crate) fn terminal(dir: &Path, args: &str, columns: u16) -> Command {
    let inside = format!("stty cols {columns} rows 40; exec {} {args}", env!("CARGO_BIN_EXE_fleetctl"));
    let mut command = Command::new("script");
    command.current_dir(dir).env_clear().args(["-E", "never", "-qec", &inside, "/dev/null"]);
    command.envs([("TERM", "xterm"), ("PATH", "/usr/bin:/bin"), ("SHELL", "/bin/sh")]);
    command
}

/// Run it; `typed` is typed when the terminal shows `seen`. Returns the exit code, and what the terminal was sent.
pub(crate) fn typed_at(command: &mut Command, typed: &str, seen: &str) -> (Option<i32>, String) {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let before = if seen.is_empty() { String::new() } else { read_until(&mut child, seen) };
    std::io::Write::write_all(&mut stdin, typed.as_bytes()).unwrap();
    // Kept open until it ends: `script` passes an end of input on.
    let ran = finish(child);
    drop(stdin);
    (ran.code, (before + &ran.out).replace("\r\n", "\n"))
}

/// A `PATH` with the `fleetctl` that is tested.
pub(crate) fn path() -> String {
    let folder = Path::new(env!("CARGO_BIN_EXE_fleetctl")).parent().unwrap();
    format!("{}:/usr/bin:/bin", folder.display())
}

/// `fleetctl`, with an environment of its own.
pub(crate) fn fleetctl(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fleetctl"));
    command.current_dir(dir).env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub(crate) fn run(mut command: Command) -> Ran {
    let ran = finish(spawn(&mut command));
    let args: Vec<_> = command.get_args().map(|arg| arg.to_string_lossy().into_owned()).collect();
    described(&args, &ran.out);
    ran
}

/// Started. A file that is still open for writing, such as by a copy of the build directory, can't be run until then.
fn spawn(command: &mut Command) -> Child {
    let began = Instant::now();
    loop {
        match command.spawn() {
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy && began.elapsed() < HANG => {
                std::thread::sleep(Duration::from_millis(20));
            }
            child => return child.unwrap(),
        }
    }
}

/// What is printed for programs is what `docs/openapi.json` says.
fn described(args: &[String], out: &str) {
    let for_programs =
        args.windows(2).any(|two| two == ["--output", "json"]) || args.iter().any(|arg| arg == "--output=json");
    let schema = args.iter().find_map(|arg| match arg.as_str() {
        "rebalance" if args.iter().any(|arg| arg == "--plan") => Some("RebalanceView"),
        _ if args.iter().any(|arg| arg == "--plan") => Some("Plan"),
        "list-units" => Some("PrintedUnits"),
        "list-unit-files" => Some("PrintedUnitFiles"),
        "list-machines" => Some("PrintedMachines"),
        "list-services" => Some("PrintedServices"),
        "list-sets" => Some("PrintedSets"),
        "service" => Some("PrintedInstances"),
        "submit" | "load" | "start" | "restart" | "stop" | "unload" | "destroy" | "scale" | "rollback" | "restore" => {
            Some("PrintedDone")
        }
        "export" => Some("PrintedExport"),
        "rollout" => Some("PrintedRollouts"),
        "wait" => Some("PrintedWaited"),
        "cat" => Some("PrintedFiles"),
        "history" => Some("UnitHistory"),
        "status" => Some("PrintedStatus"),
        "doctor" => Some("PrintedDiagnosis"),
        "explain" => Some("Explanations"),
        "what-if" => Some("WhatIf"),
        "diff" => Some("PrintedDiffs"),
        "cordon" | "uncordon" => Some("PrintedAskedHosts"),
        "settings" | "set" | "unset" => Some("PrintedSettings"),
        "drain" => Some("PrintedDrained"),
        "undrain" => Some("PrintedUndrained"),
        "reboot" => Some("PrintedReboots"),
        "move" => Some("PrintedMoves"),
        "rebalance" => Some("PrintedMoves"),
        "forget" => Some("PrintedForgotten"),
        "set-metadata" | "unset-metadata" => Some("PrintedMetadata"),
        "verify" => Some("PrintedFindings"),
        "version" => Some("PrintedVersion"),
        _ => None,
    });
    // An error has no document.
    if let (true, Some(schema), false) = (for_programs, schema, out.is_empty()) {
        description::check(schema, &serde_json::from_str(out).unwrap());
    }
}

/// What `child` prints up to and with `seen`.
pub(crate) fn read_until(child: &mut Child, seen: &str) -> String {
    let stdout = child.stdout.as_mut().unwrap();
    let mut read = Vec::new();
    while !String::from_utf8_lossy(&read).contains(seen) {
        let mut byte = [0];
        let count = std::io::Read::read(stdout, &mut byte).unwrap();
        assert!(count == 1, "{seen:?} is never shown: {:?}", String::from_utf8_lossy(&read));
        read.extend(byte);
    }
    String::from_utf8(read).unwrap()
}

/// The end of `child`, however it comes about.
pub(crate) fn finish(mut child: Child) -> Ran {
    let (id, began) = (child.id(), Instant::now());
    let streams = (child.stdout.take(), child.stderr.take());
    let reader = std::thread::spawn(move || {
        let read = |stream: Option<Box<dyn std::io::Read + Send>>| {
            let mut text = String::new();
            stream.map(|mut stream| stream.read_to_string(&mut text));
            text
        };
        let err = std::thread::spawn(move || read(streams.1.map(|s| Box::new(s) as _)));
        (read(streams.0.map(|s| Box::new(s) as _)), err.join().unwrap())
    });
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None if began.elapsed() > HANG => {
                let typed = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
                child.kill().unwrap();
                let (out, err) = reader.join().unwrap();
                let typed = String::from_utf8_lossy(&typed).replace('\0', " ");
                panic!("`{typed}` hasn't ended after {HANG:?}; it has printed {out:?}, and on stderr {err:?}");
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let (stdout, stderr) = reader.join().unwrap();
    Ran { code: status.code(), out: stdout, err: stderr }
}

fn answer(script: &mut Script, method: &Method, uri: &Uri, body: &Value) -> Response {
    if let Some((code, value)) = &script.refuse {
        return reply(*code, value);
    }
    let name = uri.path().strip_prefix("/fleet/v2/units/").map(decode);
    match (method.as_str(), uri.path(), name) {
        ("GET", "/fleet/v2/units", _) => {
            let globs = filter(uri);
            let matching = |unit: &&Value| {
                globs.is_empty() || globs.iter().any(|glob| glob.matches(unit["name"].as_str().unwrap()))
            };
            let units: Vec<&Value> = script.units.iter().filter(matching).collect();
            reply(200, &json!({ "revision": 7, "units": units }))
        }
        ("GET", "/fleet/v2/machines", _) => reply(200, &json!({ "machines": script.machines, "gone": script.gone })),
        ("DELETE", path, _) if path.starts_with("/fleet/v2/machines/") => {
            let before = script.gone.len();
            script.gone.retain(|host| !path.ends_with(host["id"].as_str().unwrap()));
            reply(if script.gone.len() < before { 204 } else { 404 }, &json!({}))
        }
        ("GET", "/fleet/v2/status", _) => {
            let Script { machines, gone, units, .. } = script;
            let leader = machines
                .first()
                .map(|host| json!({ "machine": { "id": host["id"], "hostname": host["hostname"] }, "since": 5 }));
            reply(200, &json!({ "machines": machines, "gone": gone, "units": units, "leader": leader }))
        }
        ("GET", "/fleet/v2/store", _) => match &script.store {
            Some(members) => reply(200, &json!({ "members": members })),
            None => reply(404, &json!({ "error": { "code": 404, "message": "there is nothing at /fleet/v2/store" } })),
        },
        ("POST", "/fleet/v2/units", _) => match script.applied.pop_front() {
            Some((code, value)) => reply(code, &value),
            None => {
                let unit = |unit: &Value| {
                    let outcome = if unit["destroy"] == true { "destroyed" } else { "changed" };
                    json!({ "name": unit["name"], "outcome": outcome, "generation": 7 })
                };
                let units: Vec<Value> = body["units"].as_array().unwrap().iter().map(unit).collect();
                reply(200, &json!({ "revision": 7, "units": units }))
            }
        },
        ("GET", "/fleet/v2/watch", _) => {
            if script.old && uri.query().is_some_and(|query| query.contains("operation=")) {
                return reply(400, &error(400, "unknown query parameter `operation`; `name` and `host` are known"));
            }
            let lines = script.watches.pop_front().unwrap_or_default();
            let open = lines.last().is_none_or(|line| line != CLOSE);
            let operation =
                uri.query().and_then(|query| query.split('&').find_map(|pair| pair.strip_prefix("operation=")));
            let operation: Option<Operation> = operation.map(|operation| operation.parse().unwrap());
            let old = script.old;
            let lines = lines.into_iter().filter(|line| line != CLOSE);
            let lines = lines.map(move |line| if old { line } else { with_progress(&line, operation) });
            let lines = futures_util::stream::iter(lines).then(|line| async {
                if line == LATER {
                    tokio::time::sleep(LATE).await;
                    // An empty line is a heartbeat.
                    return Ok::<_, std::io::Error>("\n".to_owned());
                }
                Ok(line + "\n")
            });
            let body = if open {
                Body::from_stream(lines.chain(futures_util::stream::pending()))
            } else {
                Body::from_stream(lines)
            };
            Response::new(body)
        }
        ("GET", _, Some(name)) => match script.details.get(&name) {
            Some(detail) => reply(200, detail),
            None => reply(404, &error(404, "unit does not exist")),
        },
        _ => reply(404, &error(404, "")),
    }
}

/// A line of a watch as `fleetd` would send it: with how far the unit is.
fn with_progress(line: &str, operation: Option<Operation>) -> String {
    let Ok(WatchLine::Unit(mut view)) = serde_json::from_str(line) else { return line.into() };
    view.progress = Some(progress_of(&view, operation));
    serde_json::to_string(&WatchLine::Unit(view)).unwrap()
}

pub(crate) fn error(code: u16, message: &str) -> Value {
    json!({ "error": { "code": code, "message": message } })
}

fn reply(code: u16, value: &Value) -> Response {
    let response = Response::builder().status(StatusCode::from_u16(code).unwrap());
    response.header("content-type", "application/json").body(Body::from(value.to_string())).unwrap()
}

fn filter(uri: &Uri) -> Vec<Glob> {
    let names = uri.query().unwrap_or("").split('&').filter_map(|pair| pair.strip_prefix("name="));
    names.map(|name| decode(name).parse().unwrap()).collect()
}

fn decode(text: &str) -> String {
    let mut parts = text.split('%');
    let mut decoded = parts.next().unwrap().to_owned();
    for part in parts {
        decoded.push(u8::from_str_radix(&part[..2], 16).unwrap().into());
        decoded.push_str(&part[2..]);
    }
    decoded
}
