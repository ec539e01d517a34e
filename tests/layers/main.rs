//! Checks the rules of the architecture: which room may use which, which module owns a foreign crate, which modules may
//! read the environment, print, exit or read the time, what the pure core may use, that no files import each other, and
//! how long a file, a function and a line may be. See `docs/architecture.md`.
//!
//! `scan` parses all production code, `rules` checks it against the tables here, and `planted` shows that each rule can
//! fail.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod names;
mod numbers;
mod planted;
mod rules;
mod scan;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rules::{Exception, Owned, Purity, Room};
use scan::Tree;

/// Production lines of one file.
const FILE: usize = 500;
/// A binary parses, runs and turns the result into an exit code.
const BINARY: usize = 55;
/// Lines of one function, from its signature to its closing brace.
const FUNCTION: usize = 60;

/// Characters in one line, of code and of pages.
const COLUMNS: usize = 120;

/// Each room, and the other rooms that it may use.
const ROOMS: &[Room] = &[
    Room { name: "model", modules: &["model"], may_use: &[] },
    Room { name: "metrics", modules: &["metrics"], may_use: &[] },
    Room { name: "cli_docs", modules: &["cli_docs"], may_use: &[] },
    Room { name: "plan", modules: &["plan"], may_use: &["model"] },
    Room { name: "store", modules: &["store"], may_use: &["model", "metrics"] },
    Room { name: "systemd", modules: &["systemd"], may_use: &["model", "metrics", "clock"] },
    Room { name: "clock", modules: &["clock"], may_use: &[] },
    Room { name: "probe", modules: &["probe"], may_use: &["model"] },
    Room { name: "reconcile", modules: &["reconcile"], may_use: &["clock"] },
    Room { name: "registry", modules: &["registry"], may_use: &["model", "plan", "store", "clock"] },
    Room {
        name: "engine",
        modules: &["engine"],
        may_use: &["model", "metrics", "plan", "store", "registry", "clock", "reconcile"],
    },
    Room {
        name: "agent",
        modules: &["agent"],
        may_use: &["model", "metrics", "plan", "store", "systemd", "registry", "clock", "reconcile", "probe"],
    },
    Room {
        name: "reboot",
        modules: &["reboot"],
        may_use: &["model", "plan", "store", "systemd", "registry", "clock", "reconcile", "metrics"],
    },
    Room { name: "api/wire", modules: &["api::wire"], may_use: &["model"] },
    Room { name: "api/client", modules: &["api::client"], may_use: &["api/wire", "model", "plan"] },
    Room {
        name: "api/server",
        modules: &["api::server"],
        may_use: &["api/wire", "model", "metrics", "plan", "store", "registry", "clock"],
    },
    // Declares the three rooms and has no other content.
    Room { name: "api", modules: &["api"], may_use: &[] },
    Room { name: "config", modules: &["config"], may_use: &["model", "cli_docs"] },
    Room { name: "telemetry", modules: &["telemetry"], may_use: &["model"] },
    Room {
        name: "daemon",
        modules: &["daemon"],
        may_use: &[
            "model",
            "metrics",
            "store",
            "systemd",
            "engine",
            "agent",
            "reboot",
            "api/server",
            "clock",
            "config",
            "reconcile",
            "telemetry",
        ],
    },
    Room { name: "ssh", modules: &["ssh"], may_use: &[] },
    Room { name: "remote", modules: &["remote"], may_use: &["model", "api/wire", "api/client", "ssh"] },
    Room { name: "journal", modules: &["journal"], may_use: &["model", "api/wire", "api/client", "clock", "remote"] },
    Room {
        name: "cli",
        modules: &["cli"],
        may_use: &["model", "cli_docs", "api/wire", "api/client", "clock", "ssh", "remote", "journal", "telemetry"],
    },
    Room {
        name: "sidecar",
        modules: &["sidecar"],
        may_use: &["model", "cli_docs", "api/wire", "api/client", "reconcile", "probe"],
    },
];

/// Foreign crates with one owner.
const OWNERS: &[Owned] = &[
    ("etcd_client", &["src/store/etcd"]),
    ("tonic", &["src/store/etcd"]),
    ("redb", &["src/store/embedded"]),
    ("zbus", &["src/systemd/dbus"]),
    ("axum", &["src/api"]),
    ("prometheus_client", &["src/metrics"]),
    ("ini", &["src/config"]),
    ("strsim", &["src/cli/input/select", "src/cli/input/words"]),
    ("similar", &["src/cli/commands/unified"]),
    ("jiff", &["src/journal", "src/core/model/windows"]),
    ("clap", &["src/cli", "src/sidecar/args", "src/bin", "src/config/arguments", "src/cli_docs"]),
    ("clap_complete", &["src/cli_docs", "src/config/arguments"]),
    ("clap_mangen", &["src/cli_docs"]),
    ("minijinja", &["src/sidecar/render"]),
    ("tracing_subscriber", &["src/telemetry"]),
    ("ssh2", &["src/ssh"]),
    ("tokio_rustls", &["src/api/client/connect"]),
    ("rustls_native_certs", &["src/api/client/connect"]),
    ("nix", &["src/api/server/peer", "src/ssh"]),
    ("sd_notify", &["src/daemon", "src/api", "src/sidecar"]),
];

/// The files through which texts reach people: what they print, log, send to systemd, answer and report. Each removes
/// the numbers of errors of the operating system, so that no other file needs to.
const EXITS: &[&str] = &[
    "src/bin/fleet-sidecar.rs",
    "src/bin/fleetd.rs",
    "src/telemetry.rs",
    "src/cli/output/printer.rs",
    "src/daemon/notify.rs",
    "src/sidecar/notify.rs",
    "src/api/server/error.rs",
    "src/api/server/fleetlock.rs",
    "src/api/server/v2/store.rs",
    "src/core/plan/host/health.rs",
    "src/core/plan/host/outcome.rs",
];

const CLEANER: &str = "crate::model::text::without_os_error";

/// Names that only some files may use.
const WORDS: &[Owned] = &[
    ("std::env::var", &["src/config"]),
    ("std::env::vars", &["src/config"]),
    ("std::env::vars_os", &["src/config"]),
    // clap reads FLEETCTL_*; TERM describes the terminal; SSH_AUTH_SOCK and SHELL belong to the user.
    ("std::env::var_os", &["src/config", "src/cli/args", "src/cli/output", "src/remote", "src/telemetry"]),
    ("std::process::exit", &["src/bin"]),
    ("std::process::abort", &[]),
    ("println!", &["src/cli/output", "src/bin/fleetd"]),
    ("print!", &["src/cli/output"]),
    ("eprintln!", &["src/cli/output", "src/bin/fleetd", "src/bin/fleet-sidecar"]),
    ("eprint!", &["src/cli/output", "src/bin/fleetd"]),
    ("dbg!", &[]),
    ("sd_notify::notify", &["src/daemon/notify", "src/sidecar/notify"]),
    (CLEANER, EXITS),
    ("std::time::SystemTime::now", &["src/clock"]),
    ("std::time::Instant", &["src/clock"]),
    // The name of a temporary file.
    ("std::hash::RandomState", &["src/sidecar/file"]),
];

const CORE: Purity = Purity {
    rooms: &["model", "plan"],
    // `jiff` is for the calendar, of which the time zones are data of the host. `OWNERS` says where it may be used.
    crates: &["std", "jiff", "serde", "serde_json", "sha1", "thiserror"],
    never: &[
        "std::env",
        "std::fs",
        "std::io",
        "std::net::TcpStream",
        "std::net::UdpSocket",
        "std::os",
        "std::process",
        "std::sync::Mutex",
        "std::sync::RwLock",
        "std::sync::atomic",
        "std::sync::mpsc",
        "std::thread",
        "std::time::Instant",
        "std::time::SystemTime",
    ],
};

/// Rooms whose decisions must not depend on the order of a hash map.
const DECIDING: &[&str] = &["model", "plan", "engine", "agent", "reboot"];

/// What the core uses although it isn't pure, with the reason.
const IMPURE: &[Exception] = &[(
    "src/core/model/intern.rs: the pure core must not use `std::sync::Mutex`",
    "equal texts share memory, nothing else",
)];
/// What decides although it isn't ordered, with the reason.
const UNORDERED: &[Exception] = &[(
    "src/core/model/intern.rs: decisions need an ordered map",
    "the table is never gone through, except to forget texts",
)];

/// Longer functions, with the reason.
const LONG_FUNCTIONS: &[Exception] = &[
    ("src/metrics/series.rs Series::new", "a list of series, each with its help text"),
    ("src/store/embedded/disk.rs Disk::load", "one record after another, in the order of the file"),
];

/// Modules that use each other, `room: a b`, with the reason.
const CIRCLES: &[Exception] = &[];

/// The tree to check: this one, or the checkout in `FLOTILLA_TREE`, to compare its numbers.
fn root() -> PathBuf {
    std::env::var_os("FLOTILLA_TREE").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from)
}

/// Files under `folder` whose names end in `.extension`, by their path from the root.
fn files(folder: &str, extension: &str) -> BTreeMap<String, String> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { walk(&path, found) } else { found.push(path) }
        }
    }
    let root = root();
    let mut paths = Vec::new();
    walk(&root.join(folder), &mut paths);
    paths.retain(|path| path.extension().is_some_and(|found| found == extension));
    let name = |path: &PathBuf| path.strip_prefix(&root).unwrap().display().to_string();
    paths.iter().map(|path| (name(path), fs::read_to_string(path).unwrap())).collect()
}

/// The manifests of both crates.
fn manifests() -> BTreeMap<String, String> {
    let mut texts = files("src", "toml");
    texts.insert("Cargo.toml".into(), fs::read_to_string(root().join("Cargo.toml")).unwrap());
    texts
}

/// The names of all dependencies, as they are spelled in code.
fn dependencies() -> Vec<String> {
    let names = |manifest: &String| -> Vec<String> {
        let section = manifest.split("\n[dependencies]\n").nth(1).and_then(|rest| rest.split("\n[").next());
        let names = section.unwrap().lines().filter_map(|line| line.split_once(" = "));
        names.map(|(name, _)| name.replace('-', "_")).collect()
    };
    manifests().values().flat_map(names).collect()
}

fn tree() -> Tree {
    Tree::new(&files("src", "rs"), &dependencies())
}

/// All rules in one test, because parsing the tree takes a second. Prints statistics of the tree.
#[test]
fn the_code_keeps_the_architecture() {
    let tree = tree();
    println!("{}", numbers::report(&tree, &code(), &pages()));
    let circles = rules::circles(&tree);
    let is_new = |circle: &&rules::Circle| !CIRCLES.iter().any(|(name, _)| *name == circle.name);
    let names: Vec<String> = circles.iter().map(|circle| circle.name.clone()).collect();
    let evidence = circles.iter().filter(is_new).flat_map(|circle| circle.evidence.clone());
    let rules = [
        ("arrows point inwards", rules::arrows(&tree, ROOMS)),
        ("foreign crates have one owner", rules::owned(&tree, OWNERS)),
        ("some words are said in one place only", rules::owned(&tree, WORDS)),
        ("texts leave without numbers of errors", rules::exits(&tree, EXITS, CLEANER)),
        ("the core is pure", rules::excepted_on_any_line(&rules::purity(&tree, ROOMS, &CORE), IMPURE)),
        ("decisions are ordered", rules::excepted_on_any_line(&rules::determinism(&tree, ROOMS, DECIDING), UNORDERED)),
        ("files are small and say what they own", rules::files(&tree, FILE, BINARY)),
        ("functions are short", rules::excepted(&rules::long_functions(&tree, FUNCTION), LONG_FUNCTIONS)),
        ("no modules use each other", rules::excepted(&names, CIRCLES).into_iter().chain(evidence).collect()),
    ];
    let broken: Vec<String> = rules
        .into_iter()
        .filter(|(_, broken)| !broken.is_empty())
        .map(|(rule, broken)| format!("{rule}:\n  {}", broken.join("\n  ")))
        .collect();
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

/// All code, including tests.
fn code() -> BTreeMap<String, String> {
    let mut texts = files("src", "rs");
    texts.extend(files("tests", "rs"));
    texts
}

fn pages() -> BTreeMap<String, String> {
    let mut texts = files("docs", "md");
    texts.insert("README.md".into(), fs::read_to_string(root().join("README.md")).unwrap());
    texts
}

#[test]
fn lines_are_narrow() {
    let mut texts = code();
    texts.extend(pages());
    texts.extend(manifests());
    let broken = rules::columns(&texts, COLUMNS);
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}
