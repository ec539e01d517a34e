//! The corpora of the fuzzer, without it: every input that was worth keeping is given to its target again. What finds
//! new ones is `contrib/fuzz`.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "a test ends where it fails")]

#[path = "fuzz/src/lib.rs"]
mod harness;

use std::collections::BTreeSet;
use std::fs;
use std::panic;
use std::path::{Path, PathBuf};

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
