//! How much the services in `units/` may do, by `systemd-analyze security`: those that run for a whole host stay below
//! a bound, and docs/security.md says how much each of them may do; for everything else there is a reason why it has
//! none.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::text;

/// The highest exposure, in tenths.
const BOUND: u32 = 20;

/// Services with the bound, the drop-in that they are rated with, and their names in the table of docs/security.md.
const BOUND_FOR: [(&str, Option<&str>, &str); 3] = [
    ("fleetd.service", Some("fleetd.service.d/unprivileged.conf"), "`fleetd.service`, without root"),
    ("balancer/balancer-config.service", None, "`balancer-config.service`"),
    ("balancer/balancer.service", None, "`balancer.service`"),
];

/// Everything else, by what its path begins with, and why it has no bound.
const EXCEPTIONS: [(&str, &str); 10] = [
    ("ambassador/", EXAMPLE),
    ("chains/", EXAMPLE),
    ("containers/", EXAMPLE),
    ("deploy/", EXAMPLE),
    ("examples/", EXAMPLE),
    ("sidekick/", EXAMPLE),
    ("socket/", EXAMPLE),
    ("three-tier/", EXAMPLE),
    ("timer/", EXAMPLE),
    ("fleetd.service", "as root, it is rated on a real host: tests/lab/citizen.rs"),
];

const EXAMPLE: &str = "an example of one pattern, short enough to read; sidecars in it have a user without rights";

/// The paths of all services below `folder`, relative to `root`.
fn services(root: &Path, folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(services(root, &path));
        } else if path.extension().is_some_and(|extension| extension == "service") {
            found.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
        }
    }
    found
}

#[test]
fn our_services_may_do_little() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let units = top.join("units");
    for service in services(&units, &units) {
        let excepted = EXCEPTIONS.iter().any(|(beginning, _)| service.starts_with(beginning));
        let bound = BOUND_FOR.iter().any(|(name, ..)| *name == service);
        assert!(bound || excepted, "{service} has neither a bound nor a reason for having none");
    }
    let table = fs::read_to_string(top.join("docs/security.md")).unwrap();
    for (service, dropin, shown) in BOUND_FOR {
        // Alone in a folder, without what else is installed on this machine.
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(Path::new(service).file_name().unwrap());
        fs::copy(units.join(service), &file).unwrap();
        if let Some(dropin) = dropin {
            let copy = folder.path().join(dropin);
            fs::create_dir(copy.parent().unwrap()).unwrap();
            fs::copy(units.join(dropin), copy).unwrap();
        }
        let rated = Command::new("systemd-analyze")
            .args(["security", "--no-pager", "--offline=yes", &format!("--threshold={BOUND}")])
            .arg(&file)
            .output()
            .unwrap();
        let (stdout, stderr) = text(&rated);
        let overall = stdout.lines().rfind(|line| line.contains("Overall exposure level"));
        let overall = overall.unwrap_or_else(|| panic!("{service}: {stdout}{stderr}"));
        assert!(rated.status.success(), "{service}: {stdout}{stderr}");
        let figure = overall.rsplit(": ").next().unwrap().split(' ').next().unwrap();
        assert!(table.contains(&format!("\n| {shown} | {figure} |")), "docs/security.md: {overall}");
    }
}
