//! The real binaries without a lab: the output of `fleetd`, the files of `contrib/install`, and a user's own systemd as
//! the host.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

#[allow(dead_code, reason = "the contract of the systemd seam uses the rest")]
#[path = "systemd_contract/host.rs"]
mod host;

#[path = "daemon/demo.rs"]
mod demo;
#[path = "daemon/deps.rs"]
mod deps;
#[path = "daemon/exposure.rs"]
mod exposure;
#[path = "daemon/sbom.rs"]
mod sbom;

use host::Host;
use rustix::process::{Pid, Signal, kill_process};

const FLEETD: &str = env!("CARGO_BIN_EXE_fleetd");
const FLEETCTL: &str = env!("CARGO_BIN_EXE_fleetctl");

fn text(output: &Output) -> (String, String) {
    (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn fleetd(args: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(FLEETD).args(args).output().unwrap();
    let (stdout, stderr) = text(&output);
    (output.status.code(), stdout, stderr)
}

#[test]
fn what_fleetd_is_asked_on_the_command_line() {
    let version = concat!("fleetd version ", env!("CARGO_PKG_VERSION"), "\n");
    for asked in ["--version", "version"] {
        assert_eq!(fleetd(&[asked]), (Some(0), version.into(), String::new()));
    }
    let full = Command::new("sh").args(["-c", &format!("{FLEETD} man > /dev/full")]).output().unwrap();
    assert_eq!((full.status.code(), &*text(&full).1), (Some(1), "fleetd: No space left on device\n"));
    let sentence = "fleetd takes no arguments. Did you mean to invoke fleetctl instead?\n";
    assert_eq!(fleetd(&["list-units"]), (Some(2), String::new(), sentence.into()));
    let (code, _, stderr) = fleetd(&["--config", "/nowhere/fleet.conf"]);
    assert_eq!(code, Some(1));
    assert!(stderr.starts_with("fleetd: /nowhere/fleet.conf: can't be read: No such file or directory"), "{stderr}");
    assert!(!stderr.contains("os error"), "{stderr}");
    let (code, _, stderr) = fleetd(&["--config", "/"]);
    assert!(code == Some(1) && stderr.starts_with("fleetd: /: can't be read: "), "{stderr}");
}

#[test]
fn a_configuration_is_checked_without_running_anything() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("fleet.conf");
    let check = |text: &str| {
        fs::write(&file, text).unwrap();
        let (code, stdout, stderr) = fleetd(&["--check", "--config", file.to_str().unwrap()]);
        assert_eq!(stderr, "");
        (code, stdout)
    };
    let name = file.display();
    let (code, said) = check("metadta=a=b\nagent_ttl=1s\nnonsense\n");
    assert_eq!(code, Some(1), "{said}");
    for wanted in ["1: unknown key `metadta`", "2: agent_ttl=1s: ", "3: `nonsense` isn't key=value"] {
        assert!(said.lines().any(|line| line.starts_with(&format!("{name}:{wanted}"))), "{wanted}: {said}");
    }
    // A store that doesn't answer is not an error of the file.
    let (code, said) = check("etcd_servers=http://127.0.0.1:1\n");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.starts_with("the configuration is valid\nmachine id "), "{said}");
    assert!(said.contains("etcd can't be used now: etcd at 127.0.0.1:1 refuses connections"), "{said}");
    assert!(said.lines().any(|line| line.contains("systemd") || line.contains("D-Bus")), "{said}");
    let (code, said) = check(&format!("standalone=true\nstate_directory={}\n", folder.path().display()));
    assert!(code == Some(0) && said.contains("standalone: the state is in "), "{said}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is made");
}

/// All files under `dir`, relative to it.
fn tree(dir: &Path) -> Vec<String> {
    fn walk(dir: &Path, root: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, root, found);
            } else {
                found.push(path.strip_prefix(root).unwrap().display().to_string());
            }
        }
    }
    let mut found = Vec::new();
    walk(dir, dir, &mut found);
    found.sort();
    found
}

fn install(args: &[&str]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/install");
    Command::new(script).args(args).output().unwrap()
}

fn installed(prefix: &str, more: &[&str]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let bindir = Path::new(FLEETD).parent().unwrap().to_str().unwrap();
    let place = ["--destdir", root.path().to_str().unwrap(), "--bindir", bindir, "--prefix", prefix];
    let output = install(&[&place, more].concat());
    assert!(output.status.success(), "{:?}", text(&output));
    root
}

#[test]
fn an_installation_is_complete() {
    let root = installed("/usr", &[]);
    let found = tree(root.path());
    for wanted in [
        "etc/fleet/fleet.conf",
        "usr/bin/fleet-sidecar",
        "usr/bin/fleetctl",
        "usr/bin/fleetd",
        "usr/lib/systemd/system/fleetd-sidecar.socket",
        "usr/lib/systemd/system/fleetd.service",
        "usr/lib/systemd/system/fleetd.socket",
        "usr/lib/systemd/system-preset/50-flotilla.preset",
        "usr/lib/sysusers.d/flotilla.conf",
        "usr/lib/tmpfiles.d/flotilla.conf",
        "usr/share/bash-completion/completions/fleet-sidecar",
        "usr/share/bash-completion/completions/fleetctl",
        "usr/share/bash-completion/completions/fleetd",
        "usr/share/doc/flotilla/50-flotilla.rules",
        "usr/share/doc/flotilla/fleet.conf.sample",
        "usr/share/doc/flotilla/units/balancer/balancer.service",
        "usr/share/doc/flotilla/unprivileged.conf",
        "usr/share/flotilla/haproxy.cfg.j2",
        "usr/share/fish/vendor_completions.d/fleet-sidecar.fish",
        "usr/share/fish/vendor_completions.d/fleetctl.fish",
        "usr/share/man/man1/fleet-sidecar.1",
        "usr/share/man/man1/fleet-sidecar-announce.1",
        "usr/share/man/man1/fleetctl.1",
        "usr/share/man/man1/fleetctl-start.1",
        "usr/share/man/man1/fleetctl-list-units.1",
        "usr/share/man/man5/fleet.conf.5",
        "usr/share/man/man5/flotilla.unit.5",
        "usr/share/man/man8/fleetd.8",
        "usr/share/zsh/site-functions/_fleet-sidecar",
        "usr/share/zsh/site-functions/_fleetctl",
    ] {
        let path = root.path().join(wanted);
        assert!(found.iter().any(|file| file == wanted), "no {wanted} in {found:#?}");
        assert!(fs::metadata(&path).unwrap().len() > 0, "{wanted} is empty");
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        let expected = match wanted {
            // It may contain etcd's password.
            "etc/fleet/fleet.conf" => 0o640,
            program if program.starts_with("usr/bin") => 0o755,
            _ => 0o644,
        };
        assert_eq!(mode, expected, "{wanted}");
    }
    assert!(!found.iter().any(|file| file.contains("polkit-1") || file.contains("fleetd.service.d")), "{found:#?}");
    // An existing file belongs to the operator.
    let conf = root.path().join("etc/fleet/fleet.conf");
    fs::write(&conf, "standalone=true\n").unwrap();
    let bindir = Path::new(FLEETD).parent().unwrap().to_str().unwrap();
    let again = install(&["--destdir", root.path().to_str().unwrap(), "--bindir", bindir]);
    assert!(again.status.success(), "{:?}", text(&again));
    assert_eq!(fs::read_to_string(&conf).unwrap(), "standalone=true\n");
}

#[test]
fn an_installation_elsewhere_and_without_root_fits_together() {
    let root = installed("/opt/flotilla", &["--unprivileged"]);
    let unit = fs::read_to_string(root.path().join("usr/lib/systemd/system/fleetd.service")).unwrap();
    assert!(unit.contains("\nExecStart=/opt/flotilla/bin/fleetd\n"), "{unit}");
    let found = tree(root.path());
    // The example units too: their paths are adapted, and those of the distribution's programs are not.
    let units = found.iter().filter(|file| file.contains("share/doc/flotilla/units/"));
    let units: Vec<_> = units.map(|file| fs::read_to_string(root.path().join(file)).unwrap()).collect();
    assert!(units.iter().all(|unit| !unit.contains("/usr/bin/fleet")), "{units:#?}");
    for wanted in
        ["/opt/flotilla/bin/fleet-sidecar announce", "/opt/flotilla/bin/fleet-sidecar render", "/usr/bin/podman"]
    {
        assert!(units.iter().any(|unit| unit.contains(wanted)), "no {wanted} in {units:#?}");
    }
    for wanted in [
        "etc/polkit-1/rules.d/50-flotilla.rules",
        "etc/systemd/system/fleetd.service.d/unprivileged.conf",
        "opt/flotilla/bin/fleetd",
    ] {
        assert!(found.iter().any(|file| file == wanted), "no {wanted} in {found:#?}");
    }
    for (args, said) in [
        (&["--frobnicate"][..], "no option `--frobnicate`"),
        (&["--bindir", "/nowhere"], "build it first"),
        (&["--prefix"], "needs a directory"),
        (&["--purge"], "--purge goes with --uninstall"),
        (&["--uninstall", "--destdir", "/nowhere"], "--uninstall takes --prefix and --purge only"),
        (&["--uninstall", "--prefix", "/nowhere"], "nothing is installed under /nowhere"),
    ] {
        let output = install(args);
        let (_, stderr) = text(&output);
        assert!(output.status.code() == Some(2) && stderr.contains(said), "{args:?}: {stderr}");
    }
}

/// A real bash, with the installed completions.
#[test]
fn bash_completes_commands_and_options() {
    let root = installed("/usr", &[]);
    let complete = |program: &str, words: &str| {
        let script = root.path().join("usr/share/bash-completion/completions").join(program);
        let line = format!(
            "source {}; COMP_WORDS=({program} {words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _{} {program} \
             \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD - 1]}}\"; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            script.display(),
            program.replace('-', "__")
        );
        let output = Command::new("bash").args(["--norc", "-c", &line]).output().unwrap();
        let (stdout, stderr) = text(&output);
        assert_eq!(stderr, "");
        stdout.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(complete("fleetctl", "list-m"), ["list-machines"]);
    assert_eq!(complete("fleetctl", "start --no-b"), ["--no-block"]);
    assert_eq!(complete("fleetctl", "list-units --output j"), ["json"]);
    assert_eq!(complete("fleetd", "--sta"), ["--standalone"]);
    assert_eq!(complete("fleet-sidecar", "ann"), ["announce"]);
    assert_eq!(complete("fleet-sidecar", "ambassador --balance r"), ["round-robin"]);
}

#[test]
fn manual_pages_have_no_mistakes() {
    let root = installed("/usr", &[]);
    let pages: Vec<PathBuf> = tree(root.path())
        .into_iter()
        .filter(|file| file.contains("/man/"))
        .map(|file| root.path().join(file))
        .collect();
    assert!(pages.len() > 10, "{pages:?}");
    for page in pages {
        let output = Command::new("man")
            .args(["--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z"])
            .arg(&page)
            .env("MANROFFSEQ", "")
            .env("LC_ALL", "C.UTF-8")
            .env("MANWIDTH", "100")
            .output()
            .unwrap_or_else(|error| panic!("man can't be run ({error}); install man-db"));
        let (_, stderr) = text(&output);
        assert!(output.status.success() && stderr.is_empty(), "{}: {stderr}", page.display());
    }
}

/// Printed on request, as by fleetctl: the page of one command, and an error for an unknown one.
#[test]
fn a_sidecar_prints_its_own_pages() {
    let sidecar = |args: &[&str]| Command::new(env!("CARGO_BIN_EXE_fleet-sidecar")).args(args).output().unwrap();
    let (page, stderr) = text(&sidecar(&["man", "render"]));
    assert!(page.contains(".TH fleet\\-sidecar\\-render 1") || page.contains(".TH fleet-sidecar-render 1"), "{page}");
    assert!(page.contains("debounce") && stderr.is_empty(), "{page}{stderr}");
    let (help, _) = text(&sidecar(&["--help"]));
    assert!(help.contains("announce") && !help.contains("completion"), "{help}");
    let wrong = sidecar(&["man", "frobnicate"]);
    assert_eq!((wrong.status.code(), text(&wrong).0.as_str()), (Some(2), ""), "{wrong:?}");
    assert!(text(&wrong).1.contains("there is no command `frobnicate`"), "{wrong:?}");
}

/// A daemon that ends with the test.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `systemd_user=true`: the user's own systemd is the host, and all files are the user's.
#[test]
fn a_users_own_systemd_can_be_the_host() {
    let host = Host::boot();
    let (home, runtime) = (host.dir.path(), host.dir.path().join("run"));
    let conf = home.join("fleet.conf");
    fs::write(&conf, "systemd_user=true\nstandalone=true\n").unwrap();
    let log = fs::File::create(home.join("fleetd.log")).unwrap();
    let daemon = Command::new(FLEETD)
        .arg("--config")
        .arg(&conf)
        .env_remove("XDG_STATE_HOME")
        .envs([("XDG_RUNTIME_DIR", runtime.as_os_str()), ("HOME", home.as_os_str())])
        .env("DBUS_SESSION_BUS_ADDRESS", host.bus())
        .stdin(Stdio::null())
        // Output that can't be written doesn't end the daemon.
        .stdout(fs::File::options().write(true).open("/dev/full").unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    let daemon = Daemon(daemon);
    let socket = format!("unix://{}", runtime.join("fleet.sock").display());
    let fleetctl =
        |args: &[&str]| text(&Command::new(FLEETCTL).args(["--endpoint", &socket]).args(args).output().unwrap());
    let begun = Instant::now();
    loop {
        let listed = fleetctl(&["list-machines", "--no-legend"]);
        if listed.0.lines().count() == 1 {
            break;
        }
        let log = fs::read_to_string(home.join("fleetd.log")).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(30), "{listed:?}\n{log}\n{}", host.log());
        std::thread::sleep(Duration::from_millis(100));
    }
    kill_process(Pid::from_child(&daemon.0), Signal::USR1).unwrap();
    let unit = home.join("mine.service");
    fs::write(&unit, "[Service]\nExecStart=/bin/sleep 1000\n").unwrap();
    let unit = unit.to_str().unwrap();
    let (stdout, stderr) = fleetctl(&["start", unit]);
    assert!(stdout.starts_with("Unit mine.service launched on "), "{stdout}{stderr}");
    let shown = host.systemctl(&["show", "-p", "ActiveState,FragmentPath", "mine.service"]);
    assert!(shown.contains("ActiveState=active"), "{shown}");
    assert!(runtime.join("fleet/units/mine.service").exists() && runtime.join("fleet/lease").exists());
    assert!(home.join(".local/state/fleet/store.redb").exists());
    fleetctl(&["destroy", "mine.service"]);
    assert!(!host.systemctl(&["show", "-p", "ActiveState", "mine.service"]).contains("=active"));
    drop(daemon);
}
