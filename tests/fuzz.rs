//! The corpora of the fuzzer, without it: every input that was worth keeping is given to its target again. What finds
//! new ones is `contrib/fuzz`.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "a test ends where it fails")]

#[path = "fuzz/src/lib.rs"]
mod harness;

use std::collections::BTreeSet;
use std::fs;
use std::panic;
use std::path::{Path, PathBuf};
use std::process::Command;

use flotilla::ssh::config::within;
use harness::TARGETS;

/// The most bytes of one target's corpus: it is in the tree, and played by every run of the tests.
const MOST: usize = 128 * 1024;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz")
}

/// The inputs of a target, by their files.
fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let files = fs::read_dir(folder().join("corpus").join(target)).unwrap();
    let mut paths: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

#[test]
fn every_input_that_was_kept_has_the_properties_of_its_target() {
    let mut failed = Vec::new();
    for (name, target) in TARGETS {
        for (path, input) in corpus(name) {
            // The message of the panic is printed as well.
            if panic::catch_unwind(|| target(&input)).is_err() {
                failed.push(path.display().to_string());
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

/// OpenSSH is the reference, where both accept a file. Files that include others or run commands are left out.
#[test]
fn openssh_reads_the_same_from_the_kept_configurations() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config");
    let mut compared = 0;
    for (path, input) in corpus("ssh_config") {
        let Ok(text) = String::from_utf8(input) else { continue };
        let lower = text.to_ascii_lowercase();
        if ["include", "match", "command"].iter().any(|word| lower.contains(word)) {
            continue;
        }
        fs::write(&file, &text).unwrap();
        for name in ["n1", "10.88.0.11", "gate.lab"] {
            let Ok((host, _)) = within(&text, &file, Path::new("/home/me"), name, true) else { continue };
            let asked = Command::new("ssh").arg("-G").arg("-F").arg(&file).arg(name).output().unwrap();
            if !asked.status.success() {
                continue;
            }
            let stdout = String::from_utf8_lossy(&asked.stdout);
            let values = |key: &str| -> Vec<&str> {
                stdout.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix(' ')).collect()
            };
            let shown = format!("{} for {name}: {text}", path.display());
            assert_eq!(values("port"), [host.port.unwrap_or(22).to_string()], "{shown}");
            for (key, value) in [("user", &host.user), ("hostname", &host.host_name)] {
                assert!(value.as_ref().is_none_or(|value| values(key) == [value]), "{key} {value:?} in {shown}");
            }
            assert!(host.identities.is_empty() || values("identityfile") == host.identities, "{shown}");
            compared += 1;
        }
    }
    assert!(compared >= 25, "only {compared} could be compared");
}

#[test]
fn every_target_has_a_corpus_and_a_program() {
    let names: BTreeSet<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    let manifest = fs::read_to_string(folder().join("Cargo.toml")).unwrap();
    let programs: BTreeSet<&str> =
        manifest.split("[[bin]]\nname = \"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert_eq!(programs, names);
    let folders = fs::read_dir(folder().join("corpus")).unwrap();
    let folders: BTreeSet<String> = folders.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(folders.iter().map(String::as_str).collect::<BTreeSet<_>>(), names);
    for name in names {
        let bytes: usize = corpus(name).iter().map(|(_, input)| input.len()).sum();
        assert!((1..=MOST).contains(&bytes), "the corpus of {name} has {bytes} bytes");
    }
}
