//! HAProxy on every host (`units/balancer`): it takes each new configuration, whatever is announced and whatever
//! happens to the program that writes it.

use std::path::Path;
use std::time::Duration;

use crate::harness::{Lab, eventually};

const SOON: Duration = Duration::from_secs(20);

/// The command with which `balancer-config.service` has HAProxy read its configuration again, as `/bin/sh` gets it.
fn reload_command() -> String {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("units/balancer/balancer-config.service");
    let text = std::fs::read_to_string(unit).unwrap();
    let command = text.split_once("--reload '").unwrap().1.split_once("'\n").unwrap().0;
    command.replace("\\\n", " ").replace("$$", "$")
}

/// HAProxy 2.6 ignores SIGUSR2, or ends, in about 50 ms of its start, so the moments of the reloads are spread over the
/// start; with a command that sends the signal regardless, five of 33 reloads were lost.
#[test]
fn a_reload_while_the_balancer_starts_is_not_lost() {
    let lab = Lab::boot(1, &["--standalone"]);
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("units/balancer/balancer.service");
    let file = |path: &str, text: &str| lab.sh("n1", &format!("cat > {path} <<'END'\n{text}\nEND")).ok();
    file("/run/systemd/system/balancer.service", &std::fs::read_to_string(unit).unwrap());
    let listen = |port: u16| {
        let timeouts = "timeout connect 1s\n timeout client 1s\n timeout server 1s";
        format!("frontend f\n mode http\n bind :{port}\n {timeouts}\n http-request return status 200\n")
    };
    file("/root/before.cfg", &listen(81));
    file("/root/after.cfg", &listen(80));
    file("/root/reload", &reload_command());
    let place = |name: &str| format!("install -D -o haproxy /root/{name}.cfg /run/balancer/haproxy.cfg");
    for delay in (0..20).map(|step| f64::from(step) * 0.007) {
        let begin = "systemctl stop balancer && systemctl start --no-block balancer";
        let (before, after) = (place("before"), place("after"));
        lab.sh("n1", &format!("{before} && {begin} && sleep {delay} && {after} && sh /root/reload")).ok();
        let what = format!("the new configuration is read after a reload {delay} s after the start");
        eventually(SOON, &what, || lab.asks("n1", 80, "any"));
        // A start by hand sets it to 0.
        let restarts = lab.sh("n1", "systemctl show --value -p NRestarts balancer").ok();
        assert_eq!(restarts.trim(), "0", "the signal has ended it {delay} s after its start");
    }
}

#[test]
fn the_balancer_goes_on_without_its_configuration_and_with_nonsense_announced() {
    let lab = Lab::cluster(1);
    lab.units_of("balancer");
    lab.units_of("sidekick");
    // HAProxy or its template must reject each of these announcements.
    for (name, options) in [
        ("a", "--meta http=abc"),
        ("b", "--meta http=80 --meta 'host=x y,b.example' --meta 'check=/x y'"),
        ("c", "--meta tcp=80"),
        ("d", "--meta http=81 --address no.such.name.invalid"),
        ("e", "--meta http=81 --address fd00::1 --weight 256"),
        ("status", "--meta tcp=9000"),
    ] {
        let start = format!("ExecStart=/usr/bin/fleet-sidecar announce {name} --port 8080 {options}");
        lab.file(&format!("odd-{name}.service"), &format!("[Service]\nType=notify\n{start}\n"));
        lab.fleetctl(&["start", &format!("odd-{name}")]).ok();
    }
    lab.sh("n1", "sed -i 's/--port 8080/& --meta http=80 --meta host=web.example/' /root/web-announce@.service").ok();
    lab.fleetctl(&["start", "web@1", "web-announce@1", "balancer", "balancer-config"]).ok();
    eventually(Duration::from_secs(10), "the balancer balances what makes sense", || lab.asks("n1", 80, "web.example"));

    let (balancer, config) = (lab.main_pid("n1", "balancer.service"), lab.main_pid("n1", "balancer-config.service"));
    for pid in [&balancer, &config] {
        assert_eq!(lab.run("n1", &["ps", "-o", "user=", "-p", pid]).ok().trim(), "haproxy");
    }
    lab.run("n1", &["systemctl", "kill", "--signal=KILL", "balancer-config.service"]).ok();
    eventually(Duration::from_secs(10), "another one writes the configuration", || {
        let now = lab.main_pid("n1", "balancer-config.service");
        let state = lab.run("n1", &["systemctl", "is-active", "balancer-config.service"]);
        if state.code == 0 && now != "0" && now != config { Ok(()) } else { Err(format!("{now} {state:?}")) }
    });
    assert_eq!(lab.main_pid("n1", "balancer.service"), balancer, "no connection has ended");
}

#[test]
fn a_request_that_an_instance_leaves_unanswered_is_sent_again_unless_it_changes_something() {
    let lab = Lab::cluster(1);
    lab.units_of("balancer");
    for (name, port, options) in [("good", 8080, "--say good"), ("bad", 8081, "--drop")] {
        let program = format!("ExecStart=/usr/local/bin/answer --port {port} {options}");
        lab.file(&format!("{name}.service"), &format!("[Service]\nType=notify\n{program}\n"));
        let announce = format!("ExecStart=/usr/bin/fleet-sidecar announce web --port {port} --meta http=80");
        let order = format!("[Unit]\nRequires={name}.service\nAfter={name}.service\n");
        let text = format!("{order}[Service]\nType=notify\n{announce}\n");
        lab.file(&format!("{name}-announce.service"), &text);
    }
    let units = ["good", "bad", "good-announce", "bad-announce", "balancer", "balancer-config"];
    lab.fleetctl(&[&["start"][..], &units].concat()).ok();
    // The statuses of requests with these options of curl.
    let statuses = |options: &str| {
        let url = format!("http://{}/", lab.ip("n1"));
        let ask = format!("for i in $(seq 20); do curl -s -o /dev/null -w '%{{http_code}}\\n' {options} {url}; done");
        let seen = lab.sh("n1", &ask).stdout;
        let count = |status: &str| seen.lines().filter(|line| *line == status).count();
        (count("200"), count("502"))
    };
    // They take turns, so half of what is sent once is left unanswered.
    eventually(SOON, "both are behind the balancer", || match statuses("--data x=1") {
        (10, 10) => Ok(()),
        seen => Err(format!("{seen:?}")),
    });
    assert_eq!(statuses(""), (20, 0));
}
