//! `contrib/demo --user`, played with a user's own systemd. Each of its steps checks itself.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::host::Host;
use super::{FLEETD, text};

#[test]
fn the_demo_without_a_lab_shows_a_cluster_of_one_and_leaves_nothing() {
    let host = Host::boot();
    let (home, runtime) = (host.dir.path(), host.dir.path().join("run"));
    // This systemd's private socket accepts no process outside of its namespaces; over the bus it answers.
    let systemctl = home.join("bin/systemctl");
    fs::create_dir(home.join("bin")).unwrap();
    fs::write(&systemctl, "#!/bin/sh\nexec env -u XDG_RUNTIME_DIR /usr/bin/systemctl \"$@\"\n").unwrap();
    fs::set_permissions(&systemctl, fs::Permissions::from_mode(0o755)).unwrap();
    let began = Instant::now();
    while !host.systemctl(&["show-environment"]).contains("PATH=") {
        assert!(began.elapsed() < Duration::from_secs(30), "waited 30 s for systemd on its bus\n{}", host.log());
        std::thread::sleep(Duration::from_millis(100));
    }
    let temporary = home.join("tmp");
    fs::create_dir(&temporary).unwrap();
    let mut demo = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/demo"));
    demo.args(["--user", "--fast", "--bindir"]).arg(Path::new(FLEETD).parent().unwrap());
    demo.env_remove("XDG_STATE_HOME").env("PATH", format!("{}:/usr/bin:/bin", home.join("bin").display()));
    demo.envs([("XDG_RUNTIME_DIR", &runtime), ("TMPDIR", &temporary)]).env("HOME", home);
    let output = demo.env("DBUS_SESSION_BUS_ADDRESS", host.bus()).output().unwrap();
    let (stdout, stderr) = text(&output);
    assert!(output.status.success(), "{stdout}{stderr}\n{}", host.log());
    for wanted in
        ["Unit hello.service launched on ", "Destroyed app.service", "Every step has shown the expected output"]
    {
        assert!(stdout.contains(wanted), "{wanted}: {stdout}{stderr}");
    }
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0, "no file is left");
    assert!(!runtime.join("fleet").exists());
    let left = host.systemctl(&["list-units", "--all", "--plain", "--no-legend", "hello.service", "app.service"]);
    assert_eq!(left.trim(), "", "no unit is left");
}
