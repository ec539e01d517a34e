//! `contrib/demo --deploy`, and `--user`: an ordinary user with a systemd of its own, on a real host. Each step of the
//! demo checks itself.

use std::process::Command;
use std::time::Duration;

use crate::harness::{Lab, Ran, eventually};

const CHECKOUT: &str = env!("CARGO_MANIFEST_DIR");

/// Give a host the demo and the units that it shows.
fn give_demo(lab: &Lab) {
    lab.sh("n1", &format!("mkdir -p {CHECKOUT}/contrib {CHECKOUT}/units/examples")).ok();
    lab.give("n1", &format!("{CHECKOUT}/contrib/demo"));
    for file in std::fs::read_dir(format!("{CHECKOUT}/units/examples")).unwrap() {
        lab.give("n1", file.unwrap().path().to_str().unwrap());
    }
}

#[test]
fn an_ordinary_user_sees_a_cluster_of_one_and_nothing_stays() {
    let lab = Lab::boot(1, &["--standalone"]);
    give_demo(&lab);
    lab.sh("n1", "useradd --create-home guest && loginctl enable-linger guest").ok();
    let user = lab.run("n1", &["id", "-u", "guest"]).ok().trim().to_owned();
    let as_guest = |line: &str| -> Ran {
        // As after a login; and with the settings of somebody who operates another cluster.
        let session = format!("XDG_RUNTIME_DIR=/run/user/{user}");
        let other = "FLEETCTL_TUNNEL=10.88.0.1";
        lab.run("n1", &["runuser", "-u", "guest", "--", "env", "-C", "/", &session, other, "sh", "-c", line])
    };
    eventually(Duration::from_secs(20), "the user's systemd", || {
        let ran = as_guest("systemctl --user is-system-running");
        if ran.stdout.trim() == "running" { Ok(()) } else { Err(format!("{ran:?}")) }
    });
    // The user's bus starts with its first client.
    let look = "busctl --user status >/dev/null; systemctl --user list-units --all --plain --no-legend --type=service; \
                systemctl --user list-unit-files --plain --no-legend; \
                ls -A $XDG_RUNTIME_DIR /tmp ~; ps -u guest -o comm= | sort";
    let before = as_guest(look).ok();
    let config = "mkdir -p ~/.config/flotilla; printf '[prod]\\ntunnel=10.88.0.1\\n' > ~/.config/flotilla/config; \
                  echo prod > ~/.config/flotilla/context";
    as_guest(config).ok();

    let bin = lab.sh("n1", "dirname $(command -v fleetd)").ok();
    let demo = as_guest(&format!("{CHECKOUT}/contrib/demo --user --fast --bindir {}", bin.trim()));
    assert_eq!(demo.code, 0, "{}{}", demo.stdout, demo.stderr);
    for wanted in ["Unit hello.service launched on ", "Every step has shown the expected output"] {
        assert!(demo.stdout.contains(wanted), "{wanted}: {demo:?}");
    }
    as_guest("rm -r ~/.config").ok();
    eventually(Duration::from_secs(10), "all is as before", || {
        let after = as_guest(look).ok();
        if after == before { Ok(()) } else { Err(format!("{before}\nand after:\n{after}")) }
    });
}

#[test]
fn deployments_go_as_the_demo_shows() {
    // Ends it.
    let lab = Lab::named("demo");
    let demo = Command::new(format!("{CHECKOUT}/contrib/demo"))
        .args(["--deploy", "--fast", "--bindir", &Lab::binaries()])
        .env("FLOTILLA_LAB_OWNER", std::process::id().to_string())
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&demo.stdout);
    let is_whole = demo.status.success() && shown.contains("Every step has shown the expected output");
    assert!(is_whole, "{shown}{}", String::from_utf8_lossy(&demo.stderr));
    drop(lab);
}
