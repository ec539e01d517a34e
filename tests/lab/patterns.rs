//! The patterns of `docs/patterns.md`, with the unit files of `units/` as they are: they start in order, stop in
//! reverse order, and keep answering while hosts die, units move and versions change.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::harness::{Lab, eventually};
use crate::load::{Load, failures};

/// Requests a second.
const RATE: u32 = 100;

/// The TTL of hosts (`agent_ttl`) and of announcements.
const TTL: Duration = Duration::from_secs(10);

impl Lab {
    /// Put `units/DIR/*` into /root of n1.
    pub(crate) fn units_of(&self, dir: &str) {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("units").join(dir);
        for file in std::fs::read_dir(&dir).unwrap() {
            let path = file.unwrap().path();
            self.file(path.file_name().unwrap().to_str().unwrap(), &std::fs::read_to_string(&path).unwrap());
        }
    }

    pub(crate) fn ip(&self, host: &str) -> String {
        let hosts = self.lab(&["hosts"]).ok();
        let line = hosts.lines().find(|line| line.starts_with(&format!("{host}\t"))).unwrap().to_owned();
        line.split('\t').nth(1).unwrap().to_owned()
    }

    /// The answer of `host:port` to a request from this machine.
    pub(crate) fn asks(&self, host: &str, port: u16, name: &str) -> Result<String, String> {
        let url = format!("http://{}:{port}/", self.ip(host));
        let header = format!("Host: {name}");
        let ran = self.run("n1", &["curl", "-sS", "--fail-with-body", "--max-time", "5", "-H", &header, &url]);
        if ran.code == 0 { Ok(ran.stdout.trim().to_owned()) } else { Err(format!("{ran:?}")) }
    }

    fn host_of(&self, unit: &str) -> String {
        eventually(Duration::from_secs(20), &format!("{unit} active"), || self.active_on("n1", unit))
    }

    /// Set metadata of a host through the API.
    fn tell(&self, host: &str, key: &str, value: &str) {
        let id = self.run(host, &["cat", "/etc/machine-id"]).ok();
        let body = format!(r#"[{{"op":"add","path":"/{}/metadata/{key}","value":"{value}"}}]"#, id.trim());
        let socket = ["curl", "-sS", "--fail", "--unix-socket", "/run/fleet.sock", "-X", "PATCH"];
        let rest = ["-H", "Content-Type: application/json", "-d", &body, "http://fleet/fleet/v1/machines"];
        self.run("n1", &[&socket[..], &rest].concat()).ok();
    }

    /// Check that the units were started (or stopped) in this order, according to the journal of `host`.
    fn in_order(&self, host: &str, what: &str, units: &[&str]) {
        assert_eq!(self.order(host, what, units), units, "{what} on {host}");
    }
}

const CONSUMER: [&str; 2] = ["shop.service", "web-ambassador.service"];
const BACKEND: [&str; 2] = ["web-announce@1.service", "web@1.service"];

/// Constraints for the hosts on which the shop is not.
const AWAY: &str = "MachineMetadata=host=n2 host=n3";

/// Start the shop with its ambassador on n1, and web@1 with its sidekick where `option` in its `[X-Fleet]` section
/// allows, with all units in the wrong order.
fn shop(lab: &Lab, option: &str) -> (String, String) {
    lab.units_of("sidekick");
    lab.units_of("ambassador");
    // They are on different hosts, so that the host of one can fail without the other.
    lab.sh("n1", "printf '[X-Fleet]\\nMachineMetadata=host=n1\\n' >> /root/shop.service").ok();
    lab.sh("n1", &format!("printf '[X-Fleet]\\n{option}\\n' >> /root/web@.service")).ok();
    lab.fleetctl(&[&["start"][..], &CONSUMER, &BACKEND].concat()).ok();
    let (shop, web) = (lab.host_of("shop.service"), lab.host_of("web@1.service"));
    assert_ne!(shop, web);
    eventually(Duration::from_secs(10), "the shop answers through its ambassador", || lab.asks(&shop, 8081, "shop"));
    (shop, web)
}

#[test]
fn sidekick_and_ambassador_start_in_order_and_stop_in_reverse() {
    let lab = Lab::cluster(2);
    let (shop, web) = shop(&lab, AWAY);
    assert_eq!(lab.asks(&shop, 8081, "shop").unwrap(), format!("shop on {shop}, web@1 on {web}"));
    lab.in_order(&web, "Started", &["web@1.service", "web-announce@1.service"]);
    lab.in_order(&shop, "Started", &["web-ambassador.service", "shop.service"]);
    // Across hosts: the ambassador becomes ready only after an instance was announced.
    let at = |host: &str, unit: &str| {
        let show = ["systemctl", "show", "--value", "-p", "ActiveEnterTimestampMonotonic", unit];
        lab.run(host, &show).ok().trim().parse::<u64>().unwrap()
    };
    assert!(at(&shop, "web-ambassador.service") > at(&web, "web@1.service"), "one kernel, one clock");
    let listed = lab.fleetctl(&["list-services", "--no-legend"]).ok();
    assert!(listed.starts_with("web\t"), "{listed}");

    lab.fleetctl(&[&["stop"][..], &BACKEND, &CONSUMER].concat()).ok();
    lab.in_order(&web, "Stopped", &["web-announce@1.service", "web@1.service"]);
    lab.in_order(&shop, "Stopped", &["shop.service", "web-ambassador.service"]);
    eventually(Duration::from_secs(5), "nothing is announced", || {
        let listed = lab.fleetctl(&["list-services", "--no-legend"]).ok();
        if listed.is_empty() { Ok(()) } else { Err(listed) }
    });
}

/// The status and the answer of a request to the sidecars' socket by a transient unit of this name.
fn asks_as(lab: &Lab, unit: &str, user: &str, request: &str) -> String {
    let run = format!(
        "systemd-run --quiet --pipe --wait --collect --unit={unit} {user} -p SupplementaryGroups=fleet-sidecar"
    );
    let curl = "curl -sS -w ' %{http_code}' --unix-socket /run/fleet-sidecar.sock -H 'Content-Type: application/json'";
    lab.sh("n1", &format!("{run} {curl} {request}")).stdout
}

#[test]
fn a_sidecar_without_root_speaks_for_its_own_unit_and_no_other() {
    let lab = Lab::cluster(1);
    lab.units_of("sidekick");
    lab.fleetctl(&[&["start"][..], &BACKEND].concat()).ok();
    assert_eq!(lab.sh("n1", "stat -c '%a %G' /run/fleet-sidecar.sock").ok().trim(), "660 fleet-sidecar");
    let show = ["systemctl", "show", "--value", "-p", "DynamicUser", "web-announce@1.service"];
    assert_eq!(lab.run("n1", &show).ok().trim(), "yes");
    let curl = "curl -sS --unix-socket /run/fleet.sock http://fleet/fleet/v2/services/web";
    let text = lab.sh("n1", curl).ok();
    assert!(text.contains(r#""announcer":"web-announce@1.service""#), "{text}");

    let taken = r#"-X PUT -d '{"address":"10.9.9.9","port":1,"unit":"web@1.service","owner":"guessed"}'"#;
    let own = r#"-X PUT -d '{"address":"10.9.9.9","port":1,"owner":"evil"}'"#;
    let services = "http://fleet/fleet/v2/services";
    for user in ["-p DynamicUser=yes", "-p User=root"] {
        let evil = |request: &str| asks_as(&lab, "evil.service", user, request);
        let refused = evil(&format!("{taken} {services}/web/x"));
        assert!(refused.ends_with(" 403") && refused.contains("evil.service may announce"), "{refused}");
        for request in ["http://fleet/fleet/v2/units", "http://fleet/fleet/v1/state", "http://fleet/metrics"] {
            let refused = evil(request);
            assert!(refused.ends_with(" 403") && refused.contains("needs the role"), "{request}: {refused}");
        }
        let refused = evil(r#"-d '{"units":[]}' http://fleet/fleet/v2/units"#);
        assert!(refused.ends_with(" 403") && refused.contains("/run/fleet.sock has the role admin"), "{refused}");
        // It has a unit: it may announce that, but not in the place of another.
        assert!(evil(&format!("{own} {services}/evil/x")).ends_with(" 200"));
        let instances = evil(&format!("{services}/web"));
        let instance = instances.split(r#""instance":""#).nth(1).unwrap().split('"').next().unwrap().to_owned();
        assert!(evil(&format!("{own} {services}/web/{instance}")).ends_with(" 409"));
        assert!(evil(&format!("-X DELETE {services}/web/{instance}")).ends_with(" 409"));
    }
    // A session is no service, whoever's it is.
    let scope = "systemd-run --quiet --scope --unit=shell curl -sS --unix-socket /run/fleet-sidecar.sock";
    let refused = lab.sh("n1", &format!("{scope} -H 'Content-Type: application/json' {own} {services}/web/y")).stdout;
    assert!(refused.contains("this client belongs to shell.scope"), "{refused}");
    let instances = lab.fleetctl(&["service", "web", "--no-legend"]).ok();
    assert!(instances.lines().count() == 1 && !instances.contains("10.9.9.9"), "{instances}");
}

#[test]
fn the_chains_are_in_order_also_through_v1_one_unit_per_request() {
    let lab = Lab::cluster(1);
    lab.units_of("sidekick");
    lab.units_of("ambassador");
    let url = |name: &str| format!("http://fleet/fleet/v1/units/{name}");
    let curl = ["curl", "-sS", "--unix-socket", "/run/fleet.sock", "-o", "/dev/null", "-w", "%{http_code}"];
    for name in [CONSUMER, BACKEND].concat() {
        let text = lab.run("n1", &["cat", &format!("/root/{}", name.replace("@1", "@"))]).ok();
        let options = flotilla::model::file::UnitFile::parse(text.as_bytes()).unwrap().options().to_vec();
        let body = serde_json::json!({"name": name, "desiredState": "launched", "options": options}).to_string();
        let rest = ["-X", "PUT", "-H", "Content-Type: application/json", "-d", &body, &url(name)];
        assert_eq!(lab.run("n1", &[&curl[..], &rest].concat()).ok(), "201", "{name}");
    }
    for unit in [BACKEND, CONSUMER].concat() {
        lab.until_active(unit, Duration::from_secs(30));
    }
    lab.in_order("n1", "Started", &["web@1.service", "web-announce@1.service"]);
    lab.in_order("n1", "Started", &["web-ambassador.service", "shop.service"]);
    for name in [BACKEND, CONSUMER].concat() {
        assert_eq!(lab.run("n1", &[&curl[..], &["-X", "DELETE", &url(name)]].concat()).ok(), "204", "{name}");
    }
    eventually(Duration::from_secs(20), "all forgotten", || {
        let files = lab.sh("n1", "ls /run/fleet/units").ok();
        if files.is_empty() { Ok(()) } else { Err(files) }
    });
    lab.in_order("n1", "Stopped", &["web-announce@1.service", "web@1.service"]);
    lab.in_order("n1", "Stopped", &["shop.service", "web-ambassador.service"]);
}

#[test]
fn a_chain_comes_up_in_order_after_a_reboot() {
    let lab = Lab::cluster(1);
    lab.units_of("sidekick");
    lab.units_of("ambassador");
    lab.fleetctl(&[&["start"][..], &CONSUMER, &BACKEND].concat()).ok();
    lab.lab(&["reboot", "n1"]).ok();
    for unit in [BACKEND, CONSUMER].concat() {
        lab.until_active(unit, Duration::from_secs(30));
    }
    lab.in_order("n1", "Started", &["web@1.service", "web-announce@1.service"]);
    lab.in_order("n1", "Started", &["web-ambassador.service", "shop.service"]);
}

#[test]
fn a_graceful_move_fails_no_request() {
    let lab = Lab::cluster(3);
    lab.tell("n2", "web", "here");
    let (shop, web) = shop(&lab, "MachineMetadata=web=here");
    assert_eq!(web, "n2");
    let pid = lab.main_pid(&shop, "shop.service");

    let load = Load::start(&format!("{}:8081", lab.ip(&shop)), "shop", RATE);
    let began = Instant::now();
    std::thread::sleep(Duration::from_secs(2));
    let other = "n3";
    lab.tell(other, "web", "here");
    lab.tell(&web, "web", "elsewhere");
    eventually(Duration::from_secs(30), "web@1 on the other host", || match lab.active_on("n1", "web@1.service") {
        Ok(on) if on == other => Ok(()),
        seen => Err(format!("{seen:?}")),
    });
    std::thread::sleep(Duration::from_secs(3));
    let shots = load.stop();
    let failed = failures(&shots, began);
    assert!(failed.is_empty(), "{} of {}: {:?}", failed.len(), shots.len(), &failed[..failed.len().min(20)]);
    let last = shots.last().unwrap().answer.as_ref().unwrap();
    assert!(last.ends_with(&format!("web@1 on {other}")), "{last}");
    assert!(shots.len() as u32 > RATE * 3, "{} requests are no load", shots.len());
    assert_eq!(lab.main_pid(&shop, "shop.service"), pid, "the application was restarted");
}

#[test]
fn requests_fail_for_a_ttl_when_the_backends_host_dies_and_then_no_more() {
    let lab = Lab::cluster(3);
    let (shop, web) = shop(&lab, AWAY);
    let pid = lab.main_pid(&shop, "shop.service");
    let load = Load::start(&format!("{}:8081", lab.ip(&shop)), "shop", RATE);
    std::thread::sleep(Duration::from_secs(2));
    let killed = Instant::now();
    lab.lab(&["kill", &web]).ok();
    eventually(Duration::from_secs(40), "web@1 elsewhere", || match lab.active_on("n1", "web@1.service") {
        Ok(on) if on != web => Ok(()),
        seen => Err(format!("{seen:?}")),
    });
    // From then on no request may fail, which takes some requests to show.
    let calm = killed + TTL + Duration::from_secs(3);
    let end = calm.max(Instant::now()) + Duration::from_secs(3);
    std::thread::sleep(end.saturating_duration_since(Instant::now()));
    let shots = load.stop();
    let late: Vec<_> = shots.iter().filter(|shot| shot.at > calm).collect();
    let failed = failures(&shots, killed);
    assert!(
        late.iter().all(|shot| shot.answer.is_ok()),
        "{} failed of {}: {:?}",
        failed.len(),
        shots.len(),
        &failed[failed.len().saturating_sub(20)..]
    );
    assert!(late.len() as u32 > RATE, "{} requests after the TTL are no proof", late.len());
    assert!(shots.iter().filter(|shot| shot.at < killed).all(|shot| shot.answer.is_ok()), "{failed:?}");
    assert_eq!(lab.main_pid(&shop, "shop.service"), pid, "the application was restarted");
}

#[test]
fn open_connections_and_the_last_list_outlive_thirty_seconds_without_etcd() {
    let lab = Lab::cluster(2);
    let (shop, _) = shop(&lab, AWAY);
    let load = Load::start(&format!("{}:8081", lab.ip(&shop)), "shop", 20);
    let began = Instant::now();
    // One connection stays open, and is used when etcd is back.
    let open = "exec 3<>/dev/tcp/127.0.0.1/7000; sleep 35; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3";
    let held = std::thread::scope(|scope| {
        let held = scope.spawn(|| lab.run(&shop, &["bash", "-c", open]));
        lab.lab(&["etcd", "stop"]).ok();
        std::thread::sleep(Duration::from_secs(30));
        lab.lab(&["etcd", "start"]).ok();
        held.join().unwrap()
    });
    assert!(held.stdout.contains(" 200 ") && held.stdout.contains("web@1 on "), "{held:?}");
    std::thread::sleep(Duration::from_secs(10));
    let shots = load.stop();
    let failed = failures(&shots, began);
    assert!(failed.is_empty(), "{} of {}: {:?}", failed.len(), shots.len(), &failed[..failed.len().min(20)]);
    eventually(Duration::from_secs(10), "web is announced", || {
        let listed = lab.fleetctl(&["list-services", "--no-legend"]).ok();
        if listed.starts_with("web\t") { Ok(()) } else { Err(listed) }
    });
}

const SITE: [&str; 4] = ["site-announce.service", "site.service", "site-network.service", "site-image.service"];

#[test]
fn a_chain_of_containers_pulls_connects_runs_and_announces() {
    let lab = Lab::cluster(2);
    lab.units_of("containers");
    lab.fleetctl(&[&["start", "--no-block"][..], &SITE].concat()).ok();
    // While there is no registry, the chain waits for its first unit.
    eventually(Duration::from_secs(30), "a pull has failed", || {
        let listed = lab.sh("n1", "fleetctl list-units site-image.service --no-legend --fields=hostname").stdout;
        let host = listed.trim();
        // The command did not wait until it was placed.
        if host.is_empty() {
            return Err("it is on no host yet".into());
        }
        let log = lab.run(host, &["journalctl", "-u", "site-image.service", "-o", "cat"]).ok();
        if log.contains("trying again") { Ok(()) } else { Err(log) }
    });
    lab.lab(&["registry"]).ok();
    let host = lab.host_of("site-announce.service");
    lab.in_order(&host, "Started", &["site.service", "site-announce.service"]);
    for first in ["site-image.service", "site-network.service"] {
        lab.in_order(&host, "Started", &[first, "site.service"]);
    }
    eventually(Duration::from_secs(10), "the container answers", || lab.asks(&host, 8083, "site"));
    let listed = lab.fleetctl(&["service", "site", "--no-legend"]).ok();
    assert!(listed.contains("8083"), "{listed}");
    lab.fleetctl(&[&["stop"][..], &SITE].concat()).ok();
    lab.in_order(&host, "Stopped", &["site-announce.service", "site.service"]);
    for last in ["site-image.service", "site-network.service"] {
        lab.in_order(&host, "Stopped", &["site.service", last]);
    }
    assert_eq!(lab.run(&host, &["podman", "ps", "-aq"]).ok(), "", "a container is left");
}

#[test]
fn a_timer_and_a_socket_start_their_services() {
    let lab = Lab::cluster(2);
    lab.units_of("timer");
    lab.units_of("socket");
    // The timer elapses every second.
    lab.sh("n1", "sed -i 's/^OnCalendar=.*/OnCalendar=*:*:*/' /root/report.timer").ok();
    lab.fleetctl(&["load", "report.service", "greeter.service"]).ok();
    lab.fleetctl(&["start", "report.timer", "greeter.socket"]).ok();
    let host = lab.host_of("report.timer");
    eventually(Duration::from_secs(20), "a report was written", || {
        let ran = lab.sh(&host, "cat /var/lib/report/last");
        if ran.code == 0 { Ok(()) } else { Err(format!("{ran:?}")) }
    });
    let host = lab.host_of("greeter.socket");
    assert_eq!(lab.run(&host, &["systemctl", "is-active", "greeter.service"]).stdout.trim(), "inactive");
    assert_eq!(lab.asks(&host, 8082, "greeter").unwrap(), format!("greetings on {host}"));
    assert_eq!(lab.run(&host, &["systemctl", "is-active", "greeter.service"]).stdout.trim(), "active");
}

const LEDGER: [&str; 5] = [
    "ledger-announce@.service",
    "ledger@.service",
    "ledger-db-ambassador@.service",
    "ledger-db-announce.service",
    "ledger-db.service",
];

#[test]
fn three_tiers_and_a_new_version_behind_the_balancer_without_a_failed_request() {
    let lab = Lab::cluster(3);
    lab.units_of("three-tier");
    lab.units_of("balancer");
    lab.fleetctl(&[&["start", "balancer.service", "balancer-config.service"][..], &LEDGER].concat()).ok();
    let front = "n1";
    let answer = eventually(Duration::from_secs(20), "the balancer knows both", || {
        let seen: Vec<_> = (0..4).map(|_| lab.asks(front, 80, "ledger.example")).collect();
        let all: Vec<&String> = seen.iter().flatten().collect();
        let both = ["ledger@1", "ledger@2"].iter().all(|name| all.iter().any(|answer| answer.contains(name)));
        if both && all.len() == seen.len() { Ok(all[0].clone()) } else { Err(format!("{seen:?}")) }
    });
    assert!(answer.contains("database on "), "{answer}");

    // A new version, one instance after the other: each has been announced for a while before the next one is replaced.
    // Three programs for each request: on a slow machine, more of them would delay the balancer's own checks, and it
    // takes an instance that doesn't answer these for a second for a dead one.
    let load = Load::start(&format!("{}:80", lab.ip(front)), "ledger.example", RATE / 4);
    let began = Instant::now();
    lab.sh("n1", "sed -i 's/--say ledger@%i/--say new-ledger@%i/' /root/ledger@.service").ok();
    lab.fleetctl(&["start", "--replace", "ledger@.service"]).ok();
    eventually(Duration::from_secs(10), "only the new version answers", || {
        let seen: Vec<_> = (0..4).map(|_| lab.asks(front, 80, "ledger.example")).collect();
        let new = seen.iter().all(|answer| answer.as_ref().is_ok_and(|answer| answer.starts_with("new-ledger")));
        if new { Ok(()) } else { Err(format!("{seen:?}")) }
    });
    std::thread::sleep(Duration::from_secs(1));
    let shots = load.stop();
    let failed = failures(&shots, began);
    assert!(failed.is_empty(), "{} of {}: {:?}", failed.len(), shots.len(), &failed[..failed.len().min(20)]);
    lab.fleetctl(&[&["stop"][..], &LEDGER].concat()).ok();
}
