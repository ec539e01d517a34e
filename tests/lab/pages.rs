//! The pages of `docs` that show a session: what they have the reader type does what they show.

use std::process::Command;
use std::time::Duration;

use crate::harness::{Lab, eventually};
use crate::page::{Item, Page, is_as_shown};

/// How long an answer may take to become what the page shows.
const LIMIT: Duration = Duration::from_secs(40);

/// Commands that only ask. Others are typed once.
const QUESTIONS: [&str; 8] =
    ["fleetctl list-", "fleetctl service", "fleetctl status", "fleetctl journal", "systemctl s", "cat", "curl", "for "];

fn page(name: &str) -> Page {
    let path = format!("{}/docs/{name}.md", env!("CARGO_MANIFEST_DIR"));
    Page::parse(&std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}")))
}

/// Do what the page has the reader do, and compare.
fn play<'a>(lab: &Lab, items: impl IntoIterator<Item = &'a Item>) {
    let mut typed = 0;
    for item in items {
        match item {
            Item::File { name, text } => lab.file(name, text),
            Item::Command { line, host, command, shown } => {
                typed += 1;
                let look = || {
                    let seen = answer(lab, host.as_deref(), command);
                    if is_as_shown(shown, &seen) { Ok(()) } else { Err(format!("\n{seen}\n")) }
                };
                let what = format!("line {line}: `{command}` answers as shown:\n{}\n", shown.join("\n"));
                let asks = QUESTIONS.iter().any(|question| command.starts_with(question));
                eventually(if asks { LIMIT } else { Duration::ZERO }, &what, look);
            }
        }
    }
    assert!(typed > 0, "there is something to type");
}

/// What is printed, stdout and stderr together.
fn answer(lab: &Lab, host: Option<&str>, command: &str) -> String {
    let shell = format!("exec 2>&1; {command}");
    if let Some(host) = host {
        return lab.run(host, &["env", "-C", "/root", "bash", "-c", &shell]).stdout;
    }
    // The hosts end with this test, even if it is killed, and get the programs that belong to it.
    let owned = format!("up --fresh --owner {}", std::process::id());
    let shell = shell.replace("up 3", &format!("{owned} 3")).replace("target/debug", &Lab::binaries());
    let output = Command::new("bash").current_dir(env!("CARGO_MANIFEST_DIR")).args(["-c", &shell]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_tutorial_shows_what_happens() {
    let lab = Lab::named("tutorial");
    play(&lab, page("tutorial").items());
}

#[test]
fn the_page_on_data_shows_what_happens() {
    let lab = Lab::named("tutorial");
    lab.up(3, 1, &[]);
    lab.start_fleet(3);
    play(&lab, page("data").items());
}
