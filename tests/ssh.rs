//! `fleetctl` over SSH, with a real sshd on loopback and an API that answers from a script: logins, host keys, tunnels,
//! and the streams, terminal and exit status of commands and shells on a host.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "cli/fake.rs"]
#[allow(dead_code, reason = "the other tests of the command line use the rest")]
mod fake;
#[path = "support/port.rs"]
mod port;
#[path = "ssh/sshd.rs"]
mod sshd;

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::process::{Command, Stdio};

use fake::{CLOSE, Fake, Ran, Script, finish, run};
use port::Port;
use serde_json::{Value, json};
use sshd::{Agent, Sshd, keygen};

const N1: &str = "a2d7e4a6000000000000000000000001";
const N2: &str = "844a981f000000000000000000000002";
const N3: &str = "844a0000000000000000000000000003";

/// A cluster that consists of one sshd and a fake API.
struct Site {
    sshd: Sshd,
    fake: Fake,
}

impl Site {
    fn new() -> Self {
        Self::with(&[], Script { machines: machines(), ..Script::default() })
    }

    fn with(sshd: &[&str], script: Script) -> Self {
        let site = Self { sshd: Sshd::new(sshd), fake: Fake::new(script) };
        fs::create_dir(site.fake.dir.path().join(".ssh")).unwrap();
        site
    }

    /// fleetctl on a laptop: its home is the fake's folder.
    fn bare(&self, args: &[&str]) -> Command {
        let mut command = self.fake.command("");
        command.args(args).env("FLEETCTL_SSH_USERNAME", "root").env("FLEETCTL_SSH_PORT", self.sshd.port().to_string());
        command.env("HOME", self.fake.dir.path()).env("PATH", "/usr/bin:/bin");
        command
    }

    /// The same, with an accepted key and a known host.
    fn command(&self, args: &[&str]) -> Command {
        self.know(&self.sshd.known("ed25519"));
        let mut command = self.bare(&[]);
        command.arg("--ssh-identity").arg(self.sshd.path("key")).args(args);
        command
    }

    fn run(&self, args: &[&str]) -> Ran {
        run(self.command(args))
    }

    /// Write the file of known hosts.
    fn know(&self, text: &str) {
        fs::create_dir_all(self.fake.dir.path().join(".fleetctl")).unwrap();
        fs::write(self.known_hosts(), text).unwrap();
    }

    fn known_hosts(&self) -> std::path::PathBuf {
        self.fake.dir.path().join(".fleetctl/known_hosts")
    }

    fn config(&self, text: &str) {
        fs::write(self.fake.dir.path().join(".ssh/config"), text).unwrap();
    }

    /// `--tunnel` to the sshd.
    fn gate(&self) -> String {
        format!("127.0.0.1:{}", self.sshd.port())
    }

    /// Type `steps` on a terminal; returns the screen and the exit status.
    #[track_caller]
    fn play(&self, command: &Command, steps: &Value) -> (String, i64) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/ssh/terminal.py");
        let mut python = Command::new("python3");
        python.arg(script).arg(steps.to_string()).arg(command.get_program()).args(command.get_args());
        python.current_dir(self.fake.dir.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for (name, value) in command.get_envs() {
            python.env(name, value.unwrap_or_default());
        }
        python.env("TERM", "vt220").env_remove("SSH_AUTH_SOCK");
        let ran = finish(python.spawn().unwrap());
        let played: Value = serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{ran:?}"));
        assert_eq!((&played["problem"], &played["restored"]), (&Value::Null, &Value::Bool(true)), "{played:#}");
        (played["screen"].as_str().unwrap().into(), played["code"].as_i64().unwrap())
    }
}

fn machine(id: &str, hostname: &str, ip: &str) -> Value {
    json!({ "id": id, "ip": ip, "hostname": hostname, "metadata": {}, "version": "1" })
}

fn machines() -> Vec<Value> {
    vec![machine(N1, "n1", "127.0.0.1"), machine(N2, "n2", "127.0.0.1"), machine(N3, "n3", "")]
}

fn state(host: &str, hostname: &str) -> Value {
    json!({
        "machine": { "id": host, "ip": "127.0.0.1", "hostname": hostname }, "generation": 7, "target": "launched",
        "hash": "3750b3e9f3962a56c7582929426e9abb012754cf",
        "load": "loaded", "active": "active", "sub": "running", "since": 0,
    })
}

fn unit(name: &str, host: Option<&str>) -> Value {
    json!({
        "name": name, "hash": "3750b3e9f3962a56c7582929426e9abb012754cf", "desired": "launched", "current": "launched",
        "generation": 7, "machine": host.map(|host| json!({ "id": host, "ip": "127.0.0.1", "hostname": "n1" })),
        "states": host.map(|host| state(host, "n1")).into_iter().collect::<Vec<_>>(),
    })
}

fn detail(unit: &Value) -> (String, Value) {
    let mut detail = unit.clone();
    detail["text"] = "".into();
    (unit["name"].as_str().unwrap().into(), detail)
}

#[track_caller]
fn refused(ran: &Ran, words: &[&str]) {
    assert_eq!((ran.code, ran.out.as_str()), (Some(255), ""), "{ran:?}");
    for word in words {
        assert!(ran.err.contains(word), "no `{word}` in {}", ran.err);
    }
}

// ---- commands on a host

#[test]
fn a_command_has_our_streams_and_we_have_its_exit_code() {
    let site = Site::new();
    let mut child =
        site.command(&["ssh", "n1", "cat;", "echo err >&2;", "exit", "7"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"through\n").unwrap();
    let ran = finish(child);
    assert_eq!(ran, Ran { code: Some(7), out: "through\n".into(), err: "err\n".into() });
    assert_eq!(site.run(&["ssh", "n1", "kill -TERM $$"]).code, Some(143), "as shells number signals");
    assert_eq!(site.run(&["ssh", "n1", "no-such-program"]).code, Some(127));
    // All words after the host belong to the command; options before it belong to fleetctl.
    assert_eq!(site.run(&["ssh", "n1", "echo", "--full", "-l"]).out, "--full -l\n");
    assert_eq!(site.run(&["ssh", "--machine", "n1", "echo", "-l"]).out, "-l\n");
}

#[test]
fn much_goes_through_either_way_unharmed() {
    let site = Site::new();
    let megabytes = 12_usize << 20;
    let bytes: Vec<u8> = (0..megabytes).map(|i| b'a' + u8::try_from((i / 7 + i / 4096) % 26).unwrap()).collect();
    let mut child = site.command(&["ssh", "n1", "tee /dev/stderr"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let sent = bytes.clone();
    let sender = std::thread::spawn(move || stdin.write_all(&sent).unwrap());
    let ran = finish(child);
    sender.join().unwrap();
    assert_eq!((ran.code, ran.out.len(), ran.err.len()), (Some(0), megabytes, megabytes));
    assert!(ran.out.as_bytes() == bytes && ran.err.as_bytes() == bytes);
}

#[test]
fn a_reader_that_has_had_enough_ends_the_command() {
    let site = Site::new();
    let mut child = site.command(&["ssh", "n1", "yes"]).spawn().unwrap();
    let mut first = [0; 2];
    std::io::Read::read_exact(&mut child.stdout.take().unwrap(), &mut first).unwrap();
    assert_eq!((&first, finish(child).code), (b"y\n", Some(141)));
}

#[test]
fn hosts_go_by_id_name_and_address_and_units_by_their_host() {
    let web = unit("web.service", Some(N2));
    let mut global = unit("agent.service", Some(N1));
    global["global"] = true.into();
    global["machine"] = Value::Null;
    global["states"] = json!([state(N1, "n1"), state(N2, "n2")]);
    let mut waiting = unit("db.service", None);
    waiting["waiting"] = "2 of 2 hosts: conflict".into();
    let site = Site::with(
        &[],
        Script { machines: machines(), details: [&web, &global, &waiting].map(detail).into(), ..Script::default() },
    );
    for name in ["a2d", N1, "n1", "web", "web.service"] {
        assert_eq!(site.run(&["ssh", name, "echo", "here"]).out, "here\n", "{name}");
    }
    assert_eq!(site.run(&["ssh", "--unit", "web", "echo here"]).out, "here\n");
    refused(
        &site.run(&["ssh", "844a", "true"]),
        &["844a could be any of these hosts:", N2, N3, "could not find matching"],
    );
    refused(&site.run(&["ssh", "nothing"]), &["Unable to proceed: could not find matching unit or machine"]);
    refused(&site.run(&["ssh", "--machine", "web"]), &["Unable to proceed: could not find matching unit or machine"]);
    refused(
        &site.run(&["ssh", "agent"]),
        &["agent.service is on every host that fits", "fleetctl ssh n1", "fleetctl ssh n2"],
    );
    refused(&site.run(&["ssh", "db"]), &["db.service is on no host: 2 of 2 hosts: conflict"]);
    refused(&site.run(&["ssh", "n3"]), &["Could not determine address of machine."]);
    let both = site.run(&["ssh", "--machine", "n1", "--unit", "web"]);
    assert_eq!(both.code, Some(2));
    assert!(both.err.contains("Both machine and unit flags provided, please specify only one."), "{}", both.err);
    assert!(site.run(&["ssh"]).err.contains("one machine or unit must be provided"));
}

#[test]
fn on_this_host_nothing_of_ssh_is_used() {
    let here = fs::read_to_string("/etc/machine-id").unwrap();
    let mut web = unit("web.service", Some(here.trim()));
    web["name"] = "web.service".into();
    let site = Site::with(
        &[],
        Script { machines: vec![machine(here.trim(), "here", "192.0.2.1")], units: vec![web], ..Script::default() },
    );
    // Without a key and a known host, SSH would fail.
    let mut command = site.bare(&["ssh", "here", "echo $0; exit 4"]);
    command.env("SHELL", "/bin/sh");
    assert_eq!(run(command), Ran { code: Some(4), out: "/bin/sh\n".into(), err: String::new() });
    site.sshd.program("systemctl", "echo \"$@\"; exit 3");
    let mut command = site.bare(&["status", "web"]);
    command.env("PATH", site.sshd.path("bin"));
    assert_eq!(run(command).out, "status -l --no-pager -- web.service\n");
}

#[test]
fn status_has_systemctls_colours_on_a_terminal() {
    let site = Site::with(&[], Script { units: vec![unit("web.service", Some(N1))], ..Script::default() });
    site.sshd.program("systemctl", "echo \"colours=$SYSTEMD_COLORS\"");
    assert_eq!(site.run(&["status", "web"]).out, "colours=\n");
    let shown = |command: Command| site.play(&command, &json!([])).0;
    assert_eq!(shown(site.command(&["status", "web"])), "colours=1\r\n");
    let mut plain = site.command(&["status", "web"]);
    plain.env("NO_COLOR", "1");
    assert_eq!(shown(plain), "colours=\r\n");
}

// ---- shells on a host

#[test]
fn a_shell_has_a_terminal_that_changes_its_size_and_ours_comes_back() {
    let site = Site::new();
    let steps = json!([
        ["send", "PS1='ready> '; echo TERM=$TERM; stty size\n"],
        ["expect", "TERM=vt220"],
        ["expect", "31 101"],
        ["resize", 77, 22],
        ["send", "until stty size | grep 77; do :; done\n"],
        ["expect", "22 77"],
        // Ctrl-C goes to the program on the host, and doesn't end fleetctl. The program is in the foreground once it
        // has printed; typed text is echoed before that.
        ["send", "sh -c 'echo up $((1+1)); exec sleep 100'\n"],
        ["expect", "up 2"],
        ["send", "\u{3}"],
        ["expect", "ready> "],
        ["send", "exit 9\n"]
    ]);
    let (screen, code) = site.play(&site.command(&["ssh", "n1"]), &steps);
    assert_eq!(code, 9, "{screen}");
}

#[test]
fn a_signal_gives_the_terminal_back() {
    let site = Site::new();
    let steps = json!([["send", "echo up and $((1+1))\n"], ["expect", "up and 2"], ["signal", 15]]);
    assert_eq!(site.play(&site.command(&["ssh", "n1"]), &steps).1, 143);
}

#[test]
fn without_a_terminal_a_shell_reads_its_lines() {
    let site = Site::new();
    let mut child = site.command(&["ssh", "n1"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"tty; echo $((40+2))\nexit 5\n").unwrap();
    let ran = finish(child);
    assert_eq!((ran.code, ran.out.as_str()), (Some(5), "not a tty\n42\n"), "{}", ran.err);
}

// ---- logins

#[test]
fn an_agent_is_enough() {
    let site = Site::new();
    let agent = Agent::new(site.fake.dir.path(), &[&site.sshd.path("key")]);
    site.know(&site.sshd.known("ed25519"));
    let mut command = site.bare(&["ssh", "n1", "echo in"]);
    command.env("SSH_AUTH_SOCK", &agent.socket);
    assert_eq!(run(command).out, "in\n");
}

#[test]
fn a_public_half_names_a_key_of_the_agent() {
    let site = Site::new();
    let other = site.sshd.path("other");
    keygen(&other, "ed25519", "");
    let agent = Agent::new(site.fake.dir.path(), &[&other, &site.sshd.path("key")]);
    site.know(&site.sshd.known("ed25519"));
    fs::copy(site.sshd.path("key.pub"), site.fake.dir.path().join(".ssh/mine.pub")).unwrap();
    site.config("Host 127.0.0.*\n IdentityFile ~/.ssh/mine.pub\n IdentitiesOnly yes\n");
    let mut command = site.bare(&["ssh", "n1", "echo in"]);
    command.env("SSH_AUTH_SOCK", &agent.socket);
    assert_eq!(run(command).out, "in\n");
    assert!(!site.sshd.log().contains("Failed publickey"), "no other key was shown");
    refused(
        &run(site.bare(&["ssh", "n1", "echo in"])),
        &["mine.pub: it is a public key, and no agent has its private"],
    );
}

#[test]
fn the_usual_files_are_tried_and_those_of_the_configuration() {
    let site = Site::new();
    site.know(&site.sshd.known("ed25519"));
    let home = site.fake.dir.path();
    fs::copy(site.sshd.path("key"), home.join(".ssh/id_ed25519")).unwrap();
    assert_eq!(run(site.bare(&["ssh", "n1", "echo in"])).out, "in\n");
    fs::rename(home.join(".ssh/id_ed25519"), home.join(".ssh/other")).unwrap();
    site.config("Host 127.0.0.*\n IdentityFile ~/.ssh/other\n IdentitiesOnly yes\n");
    assert_eq!(run(site.bare(&["ssh", "n1", "echo in"])).out, "in\n");
}

#[test]
fn wrong_keys_are_named() {
    let site = Site::new();
    site.know(&site.sshd.known("ed25519"));
    let home = site.fake.dir.path();
    keygen(&home.join("wrong"), "ed25519", "");
    keygen(&home.join(".ssh/id_ed25519"), "ed25519", "secret");
    keygen(&home.join("inside"), "ecdsa", "");
    let agent = Agent::new(home, &[&home.join("inside")]);
    let mut command = site.bare(&["--ssh-identity", "wrong", "--ssh-identity", "missing", "ssh", "n1", "true"]);
    command.env("SSH_AUTH_SOCK", &agent.socket);
    refused(
        &run(command),
        &[
            "can't log in on n1 (127.0.0.1 port",
            "as root: none of the keys was accepted",
            "  wrong: not accepted",
            "  missing: No such file",
            "  agent key test: not accepted",
            ".ssh/id_ed25519: it is encrypted, and there is no terminal to ask for its passphrase",
        ],
    );
}

#[test]
fn without_any_key_the_agent_is_missed() {
    let site = Site::new();
    site.know(&site.sshd.known("ed25519"));
    let ran = run(site.bare(&["ssh", "n1", "true"]));
    refused(
        &ran,
        &["SSH_AUTH_SOCK environment variable is not set. Verify ssh-agent is running.", "~/.ssh/id_ed25519"],
    );
    let mut command = site.bare(&["ssh", "n1", "true"]);
    command.env("SSH_AUTH_SOCK", "/nowhere");
    refused(&run(command), &["agent at /nowhere: it doesn't answer"]);
}

#[test]
fn a_passphrase_is_asked_for_and_not_shown() {
    let site = Site::new();
    site.know(&site.sshd.known("ed25519"));
    let key = site.fake.dir.path().join("locked");
    keygen(&key, "ed25519", "open sesame");
    fs::copy(site.fake.dir.path().join("locked.pub"), site.sshd.path("authorized_keys")).unwrap();
    let steps = json!([
        ["expect", "Enter passphrase for key 'locked': "],
        ["send", "wrong\n"],
        ["expect", "Enter passphrase for key 'locked': "],
        ["send", "open sesamx\u{7f}e\n"],
        ["expect", "in"]
    ]);
    let command = site.bare(&["--ssh-identity", "locked", "ssh", "n1", "echo in"]);
    let (screen, code) = site.play(&command, &steps);
    assert!(code == 0 && !screen.contains("sesam") && !screen.contains("wrong"), "{screen}");
    // Ctrl-C cancels, without trying further keys, and the terminal is restored.
    keygen(&site.fake.dir.path().join(".ssh/id_ed25519"), "ed25519", "another one");
    let steps = json!([["expect", "Enter passphrase"], ["send", "abc\u{3}"]]);
    let (screen, code) = site.play(&command, &steps);
    assert_eq!((code, screen.matches("Enter passphrase").count()), (255, 1), "{screen}");
    assert!(screen.contains("no passphrase was given for locked"), "{screen}");
}

/// Three hosts are logged in on at once: one question at a time, and none that an earlier answer has settled.
#[test]
fn several_hosts_ask_one_after_the_other_and_nothing_twice() {
    let everywhere = json!([state(N1, "n1"), state(N2, "n2"), state(N3, "n3")]);
    let mut agent = unit("agent.service", None);
    (agent["global"], agent["states"]) = (true.into(), everywhere);
    let site = Site::with(&[], Script { machines: machines(), units: vec![agent], ..Script::default() });
    site.know("");
    site.sshd.program("journalctl", "exit 0");
    keygen(&site.fake.dir.path().join("locked"), "ed25519", "open sesame");
    fs::copy(site.fake.dir.path().join("locked.pub"), site.sshd.path("authorized_keys")).unwrap();
    let steps = json!([
        ["expect", "(yes/no)? "],
        ["pause", 1],
        ["send", "yes\n"],
        ["expect", "Enter passphrase for key 'locked': "],
        ["pause", 1],
        ["send", "wrong\n"],
        ["expect", "Enter passphrase for key 'locked': "],
        ["send", "open sesame\n"]
    ]);
    let command = site.bare(&["--ssh-identity", "locked", "journal", "agent"]);
    let (screen, code) = site.play(&command, &steps);
    let times = |what: &str| screen.matches(what).count();
    assert_eq!((code, times("authenticity"), times("Enter passphrase")), (0, 1, 2), "{screen}");
    assert_eq!(fs::read_to_string(site.known_hosts()).unwrap().lines().count(), 1, "all three are one sshd");
    assert_eq!(site.sshd.log().matches("Accepted publickey").count(), 3);
}

// ---- host keys

#[test]
fn an_unknown_host_is_refused_or_remembered_as_one_says() {
    let site = Site::new();
    site.know("");
    let key = site.sshd.path("key").display().to_string();
    let ssh = ["--ssh-identity", &key, "ssh", "n1", "echo in"];
    let ran = run(site.bare(&ssh));
    refused(&ran, &["the host key of n1", "isn't known: ED25519 SHA256:", "--strict-host-key-checking=false"]);
    assert_eq!(fs::read_to_string(site.known_hosts()).unwrap(), "");
    assert!(!site.sshd.log().contains("Accepted"), "nothing was sent there");

    let relaxed = [&["--strict-host-key-checking=false"], &ssh[..]].concat();
    let ran = run(site.bare(&relaxed));
    assert!(ran.code == Some(0) && ran.err.contains("is new; its key ED25519 SHA256:"), "{ran:?}");
    let shown = Command::new("ssh-keygen").arg("-lf").arg(site.sshd.path("host_ed25519.pub")).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(ran.err.contains(shown.split(' ').nth(1).unwrap()), "{shown} {}", ran.err);
    // Then it is known, also to OpenSSH.
    assert_eq!(run(site.bare(&ssh)), Ran { code: Some(0), out: "in\n".into(), err: String::new() });
    let mut found = Command::new("ssh-keygen");
    found.args(["-F", &format!("[127.0.0.1]:{}", site.sshd.port()), "-f"]).arg(site.known_hosts());
    assert!(found.stdout(Stdio::null()).status().unwrap().success());
}

#[test]
fn on_a_terminal_one_is_asked_about_an_unknown_host() {
    let site = Site::new();
    site.know("");
    let key = site.sshd.path("key").display().to_string();
    let command = site.bare(&["--ssh-identity", &key, "ssh", "n1", "echo in"]);
    let no =
        json!([["expect", "can't be established"], ["expect", "SHA256:"], ["expect", "(yes/no)? "], ["send", "no\n"]]);
    assert_eq!(site.play(&command, &no).1, 255);
    assert_eq!(fs::read_to_string(site.known_hosts()).unwrap(), "");
    let yes = json!([
        ["expect", "(yes/no)? "],
        ["send", "maybe\n"],
        ["expect", "'yes' or 'no'"],
        ["send", "yes\n"],
        ["expect", "in"]
    ]);
    assert_eq!(site.play(&command, &yes).1, 0);
    assert_eq!(fs::read_to_string(site.known_hosts()).unwrap().lines().count(), 1);
}

#[test]
fn a_host_that_changed_is_refused_loudly() {
    let site = Site::new();
    keygen(&site.sshd.path("old"), "ed25519", "");
    let old = fs::read_to_string(site.sshd.path("old.pub")).unwrap();
    let known = format!("# mine\n[127.0.0.1]:{} {old}", site.sshd.port());
    let ssh = |more: &[&str]| {
        let mut command = site.command(&[more, &["ssh", "n1", "echo in"]].concat());
        site.know(&known);
        command.stdin(Stdio::null());
        run(command)
    };
    let ran = ssh(&[]);
    refused(
        &ran,
        &[
            "WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!",
            ".fleetctl/known_hosts line 2",
            "shown:  ED25519 SHA256:",
            "ssh-keygen -f",
        ],
    );
    let ran = ssh(&["--strict-host-key-checking=false"]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), "in\n"));
    assert!(ran.err.contains("IDENTIFICATION HAS CHANGED"), "{}", ran.err);
    assert_eq!(fs::read_to_string(site.known_hosts()).unwrap(), known, "what was known is kept");
}

/// As OpenSSH records it under an alias: without the port.
#[test]
fn an_alias_stands_for_its_host_on_every_port() {
    let site = Site::new();
    site.config("Host 127.0.0.*\n HostKeyAlias gate\n StrictHostKeyChecking accept-new\n");
    let key = site.sshd.path("key").display().to_string();
    let ssh = || run(site.bare(&["--ssh-identity", &key, "ssh", "n1", "echo in"]));
    let alias = |public: &str| format!("gate {public}");
    site.know(&alias(&fs::read_to_string(site.sshd.path("host_ed25519.pub")).unwrap()));
    assert_eq!(ssh().out, "in\n");
    keygen(&site.sshd.path("old"), "ed25519", "");
    site.know(&alias(&fs::read_to_string(site.sshd.path("old.pub")).unwrap()));
    refused(&ssh(), &["WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!", "-R 'gate'"]);
    site.know("");
    assert_eq!(ssh().out, "in\n");
    assert!(fs::read_to_string(site.known_hosts()).unwrap().starts_with("gate ssh-ed25519 "));
}

#[test]
fn openssh_s_own_files_are_understood() {
    let site = Site::new();
    let key = site.sshd.path("key").display().to_string();
    let ssh = ["--ssh-identity", &key, "ssh", "n1", "echo in"];
    // Hashed by OpenSSH, among other lines.
    site.know(&format!("@cert-authority * {}{}", &site.sshd.known("ecdsa")[18..], site.sshd.known("ed25519")));
    let hashed = Command::new("ssh-keygen").args(["-q", "-H", "-f"]).arg(site.known_hosts()).output().unwrap();
    assert!(hashed.status.success());
    assert!(fs::read_to_string(site.known_hosts()).unwrap().contains("|1|"));
    assert_eq!(run(site.bare(&ssh)).out, "in\n");
    // The host has two keys, and only the one that libssh2 wouldn't choose is known.
    site.know(&site.sshd.known("ecdsa"));
    assert_eq!(run(site.bare(&ssh)), Ran { code: Some(0), out: "in\n".into(), err: String::new() });
    // A revoked key is refused even without strict checking.
    site.know(&format!("{}@revoked {}", site.sshd.known("ed25519"), site.sshd.known("ed25519")));
    let ran = run(site.bare(&[&["--strict-host-key-checking=false"], &ssh[..]].concat()));
    refused(&ran, &["is revoked: ED25519 SHA256:", "known_hosts line 2"]);
}

// ---- unreachable hosts

#[test]
fn hosts_that_cannot_be_reached_say_how() {
    let site = Site::new();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = Port::reserve();
    let port = silent.local_addr().unwrap().port().to_string();
    let ran = site.run(&["--ssh-timeout", "0.3", "--ssh-port", &port, "ssh", "n1", "true"]);
    refused(&ran, &["accepts the connection, but doesn't answer as sshd within 0.3 s"]);
    let ran = site.run(&["--ssh-port", &closed.number.to_string(), "ssh", "n1", "true"]);
    refused(&ran, &["can't reach n1 (127.0.0.1 port", "connection refused"]);
    let ran = site.run(&["--tunnel", "no-such-host.invalid", "list-machines"]);
    refused(&ran, &["can't find the address of no-such-host.invalid"]);
    // What needs no cluster opens no connection.
    for command in ["version", "help", "completion bash"] {
        let mut asked = site.fake.command(command);
        asked.env("FLEETCTL_TUNNEL", "no-such-host.invalid");
        let ran = run(asked);
        assert_eq!(ran.code, Some(0), "{command}: {}", ran.err);
    }
}

#[test]
fn what_of_the_configuration_cannot_be_done_is_said() {
    let site = Site::new();
    site.config("Host gate\n ProxyJump elsewhere\n");
    refused(&site.run(&["--tunnel", "gate", "list-machines"]), &["config:2: ProxyJump isn't supported"]);
    for bad in ["a b", "n1:ssh"] {
        assert_eq!(site.run(&["--tunnel", bad, "list-machines"]).code, Some(2), "{bad}");
    }
}

// ---- through a tunnel

/// Each way in which a tunnel reaches the API.
#[test]
fn the_api_is_reached_through_a_tunnel() {
    for sshd in [&[][..], &["AllowStreamLocalForwarding no"][..]] {
        let web = unit("web.service", Some(N1));
        let told = json!({ "unit": web }).to_string();
        let site = Site::with(
            sshd,
            Script {
                machines: machines(),
                units: vec![web],
                watches: vec![vec![told.clone(), json!({ "synced": 7 }).to_string(), CLOSE.into()]].into(),
                ..Script::default()
            },
        );
        let direct = site.fake.run("list-machines");
        assert_eq!(site.run(&["--tunnel", &site.gate(), "list-machines"]), direct, "{sshd:?}");
        // A watch and other requests at the same time.
        let ran = site.run(&["--tunnel", &site.gate(), "start", "web"]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(site.sshd.log().contains("Accepted publickey"), "{}", site.sshd.log());
        // A socket on which nothing listens.
        let ran = site.run(&["--endpoint", "/nowhere.sock", "--tunnel", &site.gate(), "list-machines"]);
        assert_eq!(ran.code, Some(1));
        assert!(ran.err.contains("can't reach fleetd at /nowhere.sock"), "{ran:?}");
        assert!(ran.err.contains("No such file"), "the other end's words: {ran:?}");
    }
}

/// One that refuses connections and one that doesn't answer stand before the one that can be used.
#[test]
fn of_several_tunnels_the_first_that_can_be_reached_is_used_for_everything() {
    let site = Site::new();
    let began = std::time::Instant::now();
    let several = ["--tunnel", "127.0.0.1:1,192.0.2.1", "--tunnel", &site.gate()];
    let ran = site.run(&[&several[..], &["list-machines"]].concat());
    assert_eq!((ran.code, &ran.out), (Some(0), &site.fake.run("list-machines").out), "{ran:?}");
    let lines: Vec<&str> = ran.err.lines().collect();
    assert_eq!(lines.len(), 2, "{ran:?}");
    assert!(lines[0].ends_with("doesn't answer; trying 192.0.2.1"), "{ran:?}");
    assert!(lines[1].ends_with("doesn't answer; trying 127.0.0.1"), "{ran:?}");
    assert!(began.elapsed() < std::time::Duration::from_secs(8), "{:?}", began.elapsed());
    // The hosts are reached through it too.
    let ran = site.run(&[&several[..], &["ssh", "n1", "echo", "there"]].concat());
    assert_eq!((ran.code, ran.out.trim()), (Some(0), "there"), "{ran:?}");
}

#[test]
fn without_sockets_and_without_fleetctl_there_the_reason_is_both() {
    let site = Site::with(&["AllowStreamLocalForwarding no"], Script::default());
    fs::remove_file(site.sshd.path("bin/fleetctl")).unwrap();
    let ran = site.run(&["--tunnel", &site.gate(), "list-machines"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("there is no fleetctl there for `fd-forward`"), "{ran:?}");
}

#[test]
fn an_endpoint_on_the_network_is_reached_through_a_tunnel() {
    let site = Site::new();
    // The fake listens on a socket only, so a listener forwards to it.
    let (socket, listener) = (site.fake.dir.path().join("fleet.sock"), TcpListener::bind("127.0.0.1:0").unwrap());
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (mut client, mut server) = (client.unwrap(), std::os::unix::net::UnixStream::connect(&socket).unwrap());
            let (mut answers, mut back) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut client, &mut server));
            std::thread::spawn(move || std::io::copy(&mut answers, &mut back));
        }
    });
    let ran = site.run(&["--endpoint", &endpoint, "--tunnel", &site.gate(), "list-machines"]);
    assert_eq!(ran, site.fake.run("list-machines"));
    let ran = site.run(&["--endpoint", "http://127.0.0.1:1", "--tunnel", &site.gate(), "list-machines"]);
    assert!(ran.code == Some(1) && ran.err.contains("can't reach fleetd at http://127.0.0.1:1"), "{ran:?}");
}

#[test]
fn hosts_behind_a_tunnel_are_reached_by_ssh_within_ssh() {
    let site = Site::new();
    let gate = Sshd::new(&[]);
    fs::copy(site.sshd.path("authorized_keys"), gate.path("authorized_keys")).unwrap();
    let both = site.sshd.known("ed25519") + &gate.known("ed25519");
    let ssh = |args: &[&str]| {
        let mut command = site.command(&["--tunnel", "gate"]);
        site.know(&both);
        site.config(&format!(
            "Host gate\n HostName 127.0.0.1\n Port {}\nHost 127.0.0.1\n ProxyJump gate\n",
            gate.port()
        ));
        command.args(args);
        run(command)
    };
    let ran = ssh(&["ssh", "n1", "cat; echo $SSH_CONNECTION; head -c 3000000 /dev/zero | tr '\\0' x; exit 6"]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(6), ""));
    assert!(ran.out.lines().next().unwrap().ends_with(&format!("127.0.0.1 {}", site.sshd.port())), "{:.80}", ran.out);
    assert_eq!(ran.out.lines().nth(1).map(str::len), Some(3_000_000));
    assert!(gate.log().matches("Accepted publickey").count() == 2, "one for the API, one for the host");
    // A host behind the tunnel that is down.
    let ran = ssh(&["--ssh-port", "1", "ssh", "n1", "true"]);
    refused(&ran, &["can't reach n1 (127.0.0.1 port 1) through gate (127.0.0.1 port"]);
}

#[test]
fn an_agent_is_forwarded_straight_and_through_a_tunnel() {
    let site = Site::new();
    let agent = Agent::new(site.fake.dir.path(), &[&site.sshd.path("key")]);
    let gate = site.gate();
    for tunnel in [&[][..], &["--tunnel", &gate][..]] {
        let mut command = site.command(&[tunnel, &["ssh", "-A", "n1", "ssh-add -L; exit 8"]].concat());
        command.env("SSH_AUTH_SOCK", &agent.socket);
        let ran = run(command);
        assert_eq!(
            (ran.code, ran.out),
            (Some(8), fs::read_to_string(site.sshd.path("key.pub")).unwrap()),
            "{}",
            ran.err
        );
    }
    refused(&site.run(&["ssh", "-A", "n1", "true"]), &["there is no agent to forward"]);
}

// ---- status

#[test]
fn status_asks_each_host_and_remembers_the_first_failure() {
    let mut global = unit("agent.service", None);
    global["global"] = true.into();
    global["states"] = json!([state(N2, "n2"), state(N1, "n1")]);
    let mut waiting = unit("db.service", None);
    waiting["waiting"] = "2 of 2 hosts: conflict".into();
    let site = Site::with(
        &[],
        Script {
            units: vec![unit("a b.service", Some(N1)), unit("web.service", Some(N1)), global, waiting],
            ..Script::default()
        },
    );
    site.sshd.program(
        "systemctl",
        "for unit; do :; done; echo \"status of $unit\"; echo talk >&2; case $unit in web*) exit 3;; agent*) exit 4;; \
         esac",
    );
    assert_eq!(
        site.run(&["status", "web", "agent"]),
        Ran {
            code: Some(3),
            out: "status of web.service\n\n\
                  -- agent.service on n1 a2d7e4a6.../127.0.0.1\nstatus of agent.service\n\n\
                  -- agent.service on n2 844a981f.../127.0.0.1\nstatus of agent.service\n"
                .into(),
            err: "talk\ntalk\ntalk\n".into(),
        }
    );
    let ran = site.run(&["status", "missing", "db", "x*", "web"]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), "status of web.service\n"));
    for line in
        ["Unit missing.service does not exist.", "Unit db.service does not appear to be loaded.", "no unit matches x*"]
    {
        assert!(ran.err.contains(line), "{}", ran.err);
    }
    let ran = site.run(&["--ssh-port", "1", "status", "web", "missing"]);
    refused(&ran, &["can't reach n1", "Unit missing.service does not exist."]);
    // With --output json, only the API is used.
    let ran = site.run(&["--ssh-port", "1", "status", "--output", "json", "agent", "web"]);
    let states: Value = serde_json::from_str(&ran.out).unwrap();
    let seen: Vec<_> =
        states.as_array().unwrap().iter().map(|s| (&s["unit"], &s["machine"]["hostname"], &s["active"])).collect();
    assert_eq!(seen.len(), 3, "{states:#}");
    assert_eq!(seen[2], (&json!("web.service"), &json!("n1"), &json!("active")));
    assert_eq!(ran.code, Some(0));
    // The exit status for a unit without a host is the same with --output json.
    let ran = site.run(&["status", "--output", "json", "db"]);
    assert_eq!((ran.code, ran.out.as_str(), ran.err.contains("does not appear to be loaded")), (Some(1), "[]\n", true));
}

// ---- programs that need OpenSSL

/// libssh2 needs OpenSSL; the daemon uses neither.
#[test]
fn the_daemon_doesn_t_link_openssl() {
    let needs = |program: &str| {
        let output = Command::new("ldd").arg(program).output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let (daemon, command) = (needs(env!("CARGO_BIN_EXE_fleetd")), needs(env!("CARGO_BIN_EXE_fleetctl")));
    assert!(daemon.contains("libc.so") && !daemon.contains("libssl") && !daemon.contains("libcrypto"), "{daemon}");
    assert!(command.contains("libcrypto"), "what is looked for is called so: {command}");
}

/// Neither an option nor a variable nor `~/.ssh/config` names a user.
#[test]
fn the_user_is_who_types_and_core_where_that_is_the_hosts() {
    let unnamed = |site: &Site, args: &[&str]| {
        let mut command = site.command(args);
        command.env_remove("FLEETCTL_SSH_USERNAME");
        run(command)
    };
    let user = ["ssh", "n1", "echo $USER"];
    let site = Site::new();
    assert_eq!(unnamed(&site, &user), Ran { code: Some(0), out: "root\n".into(), err: String::new() });
    assert!(!site.sshd.log().contains("core"), "nobody else is tried: {}", site.sshd.log());

    let script = || Script { machines: machines(), ..Script::default() };
    let coreos = Site { sshd: Sshd::of_coreos(), ..Site::with(&[], script()) };
    let refusals = || coreos.sshd.log().matches("User root from 127.0.0.1 not allowed").count();
    assert_eq!(unnamed(&coreos, &user), Ran { code: Some(0), out: "core\n".into(), err: String::new() });
    assert_eq!(refusals(), 1);
    // Through a tunnel to this host and on to it again: what was found out once is known.
    let tunnel = ["--tunnel", &coreos.gate(), "ssh", "n1", "echo $USER"];
    assert_eq!((unnamed(&coreos, &tunnel).out.as_str(), refusals()), ("core\n", 2));
    // OpenSSH's program is run as the right user.
    let agent = Agent::new(coreos.fake.dir.path(), &[&coreos.sshd.path("key")]);
    let mut forwarding = coreos.command(&["ssh", "-A", "n1", "echo $USER"]);
    forwarding.env_remove("FLEETCTL_SSH_USERNAME").env("SSH_AUTH_SOCK", &agent.socket);
    assert_eq!(run(forwarding).out, "core\n");
    // A user who was chosen is the only one.
    let chosen = coreos.run(&user);
    assert_eq!(chosen.code, Some(255));
    assert!(
        chosen.err.contains("as root: none of the keys was accepted") && !chosen.err.contains("core"),
        "{chosen:?}"
    );

    let closed = Site::with(&["DenyUsers root"], script());
    let ran = unnamed(&closed, &user);
    assert_eq!(ran.code, Some(255));
    for line in ["as root: none of the keys was accepted\n", "and not as core, the user of CoreOS, either\n"] {
        assert!(ran.err.contains(line), "{ran:?}");
    }
}
