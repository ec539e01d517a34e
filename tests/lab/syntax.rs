//! The syntax cases of unit files, compared with how a real systemd reads them.

use crate::cases::CASES;
use crate::harness::Lab;

#[test]
fn systemd_reads_the_cases_as_they_say() {
    let lab = Lab::boot(1, &["--standalone"]);
    let mut wrong = Vec::new();
    for (name, text, _) in CASES {
        let path = format!("/run/systemd/system/{name}.service");
        let service = if text.contains("ExecStart") { "" } else { "[Service]\nExecStart=/bin/true\n" };
        // After the case, so that a missing section, a byte-order mark or a final backslash keep their effect.
        let whole = if text.ends_with('\\') { text.to_owned() } else { format!("{text}{service}") };
        let octal: String = whole.bytes().map(|byte| format!("\\0{byte:o}")).collect();
        lab.sh("n1", &format!("printf '%b' '{octal}' > {path}")).ok();
    }
    lab.run("n1", &["systemctl", "daemon-reload"]).ok();
    for (name, _, expected) in CASES {
        let unit = format!("{name}.service");
        let show = |property: &str| lab.run("n1", &["systemctl", "show", "--value", "-p", property, &unit]).ok();
        let load = show("LoadState");
        // Without a description, systemd shows the name. The shell removes blanks at the ends.
        let description = show("Description").trim_end_matches('\n').to_owned();
        let found = match load.trim() {
            "loaded" if description == unit => Some(""),
            "loaded" => Some(&*description),
            _ => None,
        };
        if found != expected {
            wrong.push(format!("{name}: systemd says {load:?} {description:?}, the case {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
