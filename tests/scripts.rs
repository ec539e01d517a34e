//! Scenarios: each `tests/scripts/*.txt` is played on the simulated cluster, and its output is compared with its `.out`
//! file. `FLOTILLA_BLESS=1` writes the `.out` files again; read the difference before you commit it. The language is
//! described in `sim/script.rs`.

#[allow(dead_code, reason = "shared with the simulation, which uses other parts")]
#[expect(clippy::unwrap_used, reason = "a test's helpers may")]
mod sim;

use std::fs;
use std::path::PathBuf;

use sim::marks::{By, Reached};

#[test]
fn scenarios_go_as_written() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut scripts: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    scripts.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    scripts.sort();
    assert!(!scripts.is_empty());
    let (mut failures, mut reached) = (Vec::new(), Reached::default());
    for script in scripts {
        let name = script.file_name().unwrap().to_string_lossy().into_owned();
        let expected = script.with_extension("out");
        match sim::script::run(&fs::read_to_string(&script).unwrap()) {
            Err(error) => failures.push(format!("{name}: {error}")),
            Ok((transcript, marks)) => {
                reached.extend(&marks);
                if std::env::var_os("FLOTILLA_BLESS").is_some() {
                    fs::write(&expected, transcript).unwrap();
                } else {
                    let wanted = fs::read_to_string(&expected).unwrap_or_default();
                    failures.extend(difference(&name, &transcript, &wanted));
                }
            }
        }
    }
    failures.extend(reached.missed(By::Scenarios).into_iter().map(|mark| format!("no scenario has reached: {mark}")));
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

/// The first line that differs, with the lines before it, and the violations that the script didn't have.
fn difference(name: &str, transcript: &str, expected: &str) -> Option<String> {
    if transcript == expected {
        return None;
    }
    let (got, wanted): (Vec<&str>, Vec<&str>) = (transcript.lines().collect(), expected.lines().collect());
    let at = got.iter().zip(&wanted).position(|(got, wanted)| got != wanted).unwrap_or(got.len().min(wanted.len()));
    let before = got[at.saturating_sub(5)..at].join("\n");
    let line = |lines: &[&str]| lines.get(at).map_or_else(|| "(the end)".to_owned(), |line| (*line).to_owned());
    let mut told = format!("{name}: line {} differs\n{before}\n- {}\n+ {}", at + 1, line(&wanted), line(&got));
    for violation in got.iter().filter(|line| line.contains("VIOLATION") && !wanted.contains(line)) {
        told += &format!("\n{violation}");
    }
    Some(told)
}
