//! The architecture's rules, held by a test: which module may use which, who owns a foreign crate, who may read the
//! environment, print, exit or ask the time, how long a file may be. See `docs/architecture.md`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Production lines of one file: everything before its `#[cfg(test)]`.
const CEILING: usize = 500;

/// Each module, and what of ours it may use besides itself.
const MAY_USE: [(&str, &[&str]); 20] = [
    ("model", &[]),
    ("metrics", &[]),
    ("manual", &[]),
    ("plan", &["model"]),
    ("store", &["model", "metrics"]),
    ("systemd", &["model", "metrics"]),
    ("clock", &[]),
    ("reconcile", &["clock"]),
    ("registry", &["model", "store", "clock"]),
    ("engine", &["model", "metrics", "plan", "store", "registry", "clock", "reconcile"]),
    ("agent", &["model", "metrics", "plan", "store", "systemd", "registry", "clock", "reconcile"]),
    ("api", &["model", "metrics", "plan", "store", "registry", "clock"]),
    ("config", &["model", "manual"]),
    ("telemetry", &[]),
    (
        "daemon",
        &[
            "model",
            "metrics",
            "store",
            "systemd",
            "engine",
            "agent",
            "api",
            "clock",
            "config",
            "reconcile",
            "telemetry",
        ],
    ),
    ("ssh", &[]),
    ("remote", &["model", "api", "ssh"]),
    ("journal", &["model", "api", "clock", "remote"]),
    ("cli", &["model", "manual", "api", "clock", "ssh", "remote", "journal", "telemetry"]),
    ("sidecar", &["model", "manual", "api", "reconcile"]),
];

/// Foreign crates with one owner.
const OWNERS: [(&str, &[&str]); 17] = [
    ("etcd_client", &["src/store/etcd"]),
    ("tonic", &["src/store/etcd"]),
    ("redb", &["src/store/embedded"]),
    ("zbus", &["src/systemd/dbus"]),
    ("axum", &["src/api"]),
    ("prometheus_client", &["src/metrics"]),
    ("ini", &["src/config"]),
    ("strsim", &["src/cli/argv", "src/cli/select"]),
    ("jiff", &["src/journal"]),
    ("clap", &["src/cli", "src/sidecar/args", "src/bin", "src/config/arguments", "src/manual"]),
    ("clap_complete", &["src/manual"]),
    ("clap_mangen", &["src/manual"]),
    ("minijinja", &["src/sidecar/render"]),
    ("tracing_subscriber", &["src/telemetry"]),
    ("ssh2", &["src/ssh"]),
    ("tokio_rustls", &["src/api/client/connect"]),
    ("rustls_native_certs", &["src/api/client/connect"]),
];

/// Words that only one place may say.
const WORDS: [(&str, &[&str]); 9] = [
    ("std::env::var", &["src/config"]),
    ("std::env::vars", &["src/config"]),
    // clap reads FLEETCTL_*; the terminal says what it can do in TERM; SSH_AUTH_SOCK and SHELL belong to the person.
    // The API's description is a test, which is blessed.
    (
        "std::env::var_os",
        &["src/config", "src/cli/args", "src/cli/output", "src/remote", "src/api/openapi.rs", "src/telemetry.rs"],
    ),
    ("process::exit", &["src/bin"]),
    ("println!", &["src/cli/output", "src/bin/fleetd.rs"]),
    ("eprintln!", &["src/cli/output", "src/bin/fleetd.rs", "src/bin/fleet-sidecar.rs"]),
    ("SystemTime::now", &["src/clock.rs"]),
    ("std::time::Instant", &["src/clock.rs"]),
    ("thread_rng", &[]),
];

struct Source {
    path: String,
    /// Without tests and comments.
    code: String,
    lines: usize,
    first: String,
}

fn sources() -> Vec<Source> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { walk(&path, found) } else { found.push(path) }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    walk(&root.join("src"), &mut paths);
    paths.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let production = text.split("\n#[cfg(test)]").next().unwrap_or_default();
        let code =
            production.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
        Source {
            path: path.strip_prefix(root).unwrap().display().to_string(),
            code,
            lines: production.lines().count(),
            first: text.lines().next().unwrap_or_default().into(),
        }
    };
    paths.into_iter().filter(|path| path.extension().is_some_and(|e| e == "rs")).map(read).collect()
}

/// `model` for `src/model/name.rs` and `src/model.rs`; nothing for `src/lib.rs` and `src/bin`.
fn module(path: &str) -> Option<&str> {
    let inner = path.strip_prefix("src/")?;
    let name = inner.split(['/', '.']).next()?;
    (name != "lib" && name != "bin").then_some(name)
}

/// The modules of ours that `code` names: `crate::x`, `use crate::{x, y}`.
fn used(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let group = group.split('}').next().unwrap_or_default();
            found.extend(group.split(',').map(|part| part.trim().split("::").next().unwrap_or_default().to_owned()));
        } else {
            found.push(rest.split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap_or_default().into());
        }
    }
    found
}

fn names_word(code: &str, word: &str) -> bool {
    let boundary = |c: Option<char>| c.is_none_or(|c| !(c.is_alphanumeric() || c == '_'));
    code.match_indices(word).any(|(at, _)| {
        boundary(code[..at].chars().next_back())
            && (word.ends_with([':', '!']) || boundary(code[at + word.len()..].chars().next()))
    })
}

#[test]
fn arrows_point_inwards() {
    let rules: BTreeMap<&str, &[&str]> = MAY_USE.into_iter().collect();
    let mut broken = Vec::new();
    for source in sources() {
        let Some(module) = module(&source.path) else { continue };
        let Some(allowed) = rules.get(module) else {
            broken.push(format!("{}: module `{module}` is in no layer; name it in MAY_USE", source.path));
            continue;
        };
        for other in used(&source.code) {
            if other != module && rules.contains_key(other.as_str()) && !allowed.contains(&other.as_str()) {
                broken.push(format!("{}: `{module}` must not use `{other}`", source.path));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn the_command_line_sees_only_the_wire() {
    let hidden =
        ["api::server", "api::state", "api::v1", "api::v2", "api::listen", "api::health", "api::join", "api::error"];
    let sources = sources();
    let outside = |s: &&Source| {
        matches!(module(&s.path), Some("cli" | "journal" | "remote" | "sidecar"))
            || s.path.starts_with("src/api/client")
    };
    let cli = sources.iter().filter(outside);
    for source in cli {
        for name in hidden {
            assert!(!names_word(&source.code, name), "{}: {name} is the server's", source.path);
        }
    }
}

#[test]
fn foreign_crates_have_one_owner() {
    let mut broken = Vec::new();
    for source in sources() {
        for (name, owners) in OWNERS {
            let named = names_word(&source.code, &format!("{name}::")) || source.code.contains(&format!("use {name};"));
            if named && !owners.iter().any(|owner| source.path.starts_with(owner)) {
                broken.push(format!("{}: {name} belongs to {owners:?}", source.path));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn some_words_are_said_in_one_place_only() {
    let mut broken = Vec::new();
    for source in sources() {
        for (word, places) in WORDS {
            if names_word(&source.code, word) && !places.iter().any(|place| source.path.starts_with(place)) {
                broken.push(format!("{}: `{word}` is only for {places:?}", source.path));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// Chance has no part in decisions, and neither has the order of a hash map.
#[test]
fn decisions_are_ordered() {
    for source in sources() {
        if matches!(module(&source.path), Some("model" | "plan" | "engine" | "agent")) {
            assert!(!source.code.contains("HashMap") && !source.code.contains("HashSet"), "{}", source.path);
        }
    }
}

#[test]
fn files_are_small_and_say_what_they_own() {
    let mut broken = Vec::new();
    for source in sources() {
        if source.lines > CEILING {
            broken.push(format!("{}: {} production lines, at most {CEILING}", source.path, source.lines));
        }
        if !source.first.starts_with("//!") {
            broken.push(format!("{}: doesn't begin by saying what it owns", source.path));
        }
        if source.path.ends_with("mod.rs") {
            broken.push(format!("{}: modules are `name.rs` beside `name/`", source.path));
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn binaries_are_thin() {
    for source in sources().iter().filter(|source| source.path.starts_with("src/bin/")) {
        assert!(source.lines <= 55, "{}: {} lines; parse, run, exit code", source.path, source.lines);
    }
}

/// The rules themselves can fail.
#[test]
fn the_scan_sees_what_it_should() {
    assert_eq!(used("use crate::store::Store;\nuse crate::{agent, engine::X};"), ["store", "agent", "engine"]);
    assert!(names_word("x = std::env::var(\"A\")", "std::env::var") && !names_word("eprintln!(1)", "println!"));
    assert_eq!(
        (module("src/model/name.rs"), module("src/lib.rs"), module("src/bin/x.rs")),
        (Some("model"), None, None)
    );
}
