//! Tests each rule with small trees that violate it, in every spelling that a text search would miss, and with one that
//! doesn't.

use std::collections::BTreeMap;

use crate::rules::{self, Owned, Purity, Room};
use crate::scan::Tree;

const ROOMS: [Room; 5] = [
    Room { name: "model", modules: &["model"], may_use: &[] },
    Room { name: "wire", modules: &["api::wire"], may_use: &["model"] },
    Room { name: "server", modules: &["api::server"], may_use: &["wire", "model"] },
    Room { name: "api", modules: &["api"], may_use: &[] },
    Room { name: "cli", modules: &["cli"], may_use: &["wire"] },
];

/// Adds `extra` to a tree of two libraries, or replaces one of its files.
fn tree(extra: &[(&str, &str)]) -> Tree {
    let base = [
        ("src/lib.rs", "//! Lib.\npub mod api;\npub mod cli;\npub use flotilla_core::model;\n"),
        ("src/core/lib.rs", "//! Core.\npub mod model;\n"),
        ("src/api.rs", "//! Api.\npub mod server;\npub mod wire;\n"),
        ("src/api/server.rs", "//! Server.\npub fn serve() {}\npub use std::env as surroundings;\n"),
        ("src/api/wire.rs", "//! Wire.\npub struct View;\n"),
        ("src/core/model.rs", "//! Model.\npub struct Name;\n"),
        ("src/cli.rs", "//! Cli.\n"),
    ];
    let files: BTreeMap<_, _> = base.iter().chain(extra).map(|(path, text)| ((*path).into(), (*text).into())).collect();
    Tree::new(&files, &["tokio".into(), "redb".into(), "serde".into()])
}

fn cli(text: &str) -> Tree {
    tree(&[("src/cli.rs", text)])
}

/// `broken` has one line, which begins with `at` and contains `why`.
fn assert_seen(broken: &[String], at: &str, why: &str, text: &str) {
    let is_it = matches!(broken, [only] if only.starts_with(at) && only.contains(why));
    assert!(is_it, "{text}\nwanted {at} … {why}, got {broken:#?}");
}

#[test]
fn an_arrow_that_points_outwards() {
    let spellings = [
        ("use crate::api::server;", 1),
        ("use crate::{\n  model as _,\n  api::{wire, server::serve},\n};", 3),
        ("use super::api::server::*;", 1),
        ("use crate::api as a;\nfn f() { a::server::serve() }", 2),
        ("use crate::api::*;\nfn f() { server::serve() }", 2),
        ("fn f() { println!(\"{}\", crate::api::server::serve()) }", 1),
        ("fn f() { tokio::select! { x = crate::api::{server}::serve() => x } }", 1),
        ("fn f() { use crate::api; { api::server::serve() } }", 1),
        ("mod inner { fn f() { super::super::api::server::serve() } }", 1),
        ("fn f() -> impl Fn(crate::api::server::X) {}", 1),
        ("#[cfg(test)]\nmod tests {}\nuse crate::api::server;", 3),
        ("#[cfg(test)] const A: u8 = 1;\nfn f(#[cfg(test)] a: u8) { crate::api::server::serve() }", 2),
        ("#[serde(with = \"x\", bound(crate::api::server::X))] struct S;", 1),
        ("fn f() { flotilla::api::server::serve() }", 1),
        ("fn f() { flotilla_core::api::server::serve() }", 1),
    ];
    for (text, line) in spellings {
        let broken: Vec<_> = rules::arrows(&cli(text), &ROOMS);
        let broken: Vec<_> = broken.into_iter().filter(|line| !line.contains("`model`")).collect();
        assert_seen(&broken, &format!("src/cli.rs:{line}:"), "`cli` must not use `server`", text);
    }
    assert_eq!(
        rules::arrows(&cli("use crate::api::wire::View;\n#[cfg(test)]\nuse crate::api::server;"), &ROOMS),
        [""; 0]
    );
    // To and from a room of the other library.
    for text in ["use crate::model::Name;", "use flotilla_core::model::Name;", "use crate::*;\nuse model::Name;"] {
        let line = text.lines().count();
        let broken = rules::arrows(&cli(text), &ROOMS);
        assert_seen(&broken, &format!("src/cli.rs:{line}:"), "`cli` must not use `model`", text);
    }
    let outwards = tree(&[("src/core/model.rs", "use flotilla::cli;")]);
    assert_seen(&rules::arrows(&outwards, &ROOMS), "src/core/model.rs:1:", "`model` must not use `cli`", "");
}

#[test]
fn a_module_in_no_room() {
    let here = tree(&[("src/lib.rs", "//! Lib.\nmod api; mod cli; mod new;"), ("src/new.rs", "//! New.")]);
    assert_seen(&rules::arrows(&here, &ROOMS), "src/new.rs:", "in no room", "");
    let there = [("src/core/lib.rs", "//! Core.\nmod model; mod new;"), ("src/core/new.rs", "//! New.")];
    assert_seen(&rules::arrows(&tree(&there), &ROOMS), "src/core/new.rs:", "in no room", "");
}

#[test]
fn a_word_that_belongs_to_another() {
    const WORDS: [Owned; 5] = [
        ("std::env::var", &["src/api"]),
        ("std::time::Instant", &[]),
        ("std::process::exit", &["src/bin"]),
        ("println!", &[]),
        ("redb", &["src/api"]),
    ];
    let spellings = [
        ("use std::env;\nfn f() { env::var(\"A\"); }", 2, "env::var"),
        ("use std::{env::var as read, fs};", 1, "env::var"),
        ("use std::env::*;", 1, "env::var"),
        ("use crate::api::server::surroundings;\nfn f() { surroundings::var(\"A\"); }", 2, "env::var"),
        ("use std::time::{Duration, Instant};", 1, "Instant"),
        ("use std::time as t;\nfn f(at: t::Instant) {}", 2, "Instant"),
        ("use ::std::process;\nfn f() { process::exit(1) }", 2, "exit"),
        ("fn f() { vec![std::process::exit(1)]; }", 1, "exit"),
        ("fn f() { matches!(x, y if { println!(); true }); }", 1, "println!"),
        ("fn f() { std::println!(); }", 1, "println!"),
        ("use redb;", 1, "redb"),
        ("use redb::{Database};", 1, "redb"),
        ("fn f() { redb::open() }", 1, "redb"),
    ];
    for (text, line, why) in spellings {
        assert_seen(&rules::owned(&cli(text), &WORDS), &format!("src/cli.rs:{line}:"), why, text);
    }
    // Variables and types of the same names, longer names, comments and strings.
    let harmless = "use std::env; use std::time::Duration;\n// println!() std::process::exit(1)\n\
                    fn f(redb: u8) -> &'static str { env::var_os(\"A\"); redb.env::<Instant>(); \"std::env::var\" }";
    assert_eq!(rules::owned(&cli(harmless), &WORDS), [""; 0]);
    let in_place = tree(&[("src/api/wire.rs", "//! Wire.\nuse redb::X;")]);
    assert_eq!(rules::owned(&in_place, &WORDS), [""; 0]);
}

#[test]
fn a_core_that_is_not_pure() {
    const CORE: Purity =
        Purity { rooms: &["model"], crates: &["std", "serde"], never: &["std::fs", "std::time::Instant"] };
    let spellings = [
        ("async fn f() {}", "async"),
        ("trait T { async fn f(); }", "async"),
        ("fn f() { drop(async {}) }", "async"),
        ("fn f() { drop(async || ()) }", "async"),
        ("fn f() { vec![async {}]; }", "async"),
        ("use tokio::time;", "tokio"),
        ("fn f() { tokio::spawn(()); }", "tokio"),
        ("#[tokio::main] fn f() {}", "tokio"),
        ("use std::fs;", "std::fs"),
        ("use std::{time::Instant};", "Instant"),
    ];
    for (text, why) in spellings {
        let planted = tree(&[("src/core/model.rs", text)]);
        assert_seen(&rules::purity(&planted, &ROOMS, &CORE), "src/core/model.rs:1:", why, text);
        assert_eq!(rules::purity(&cli(text), &ROOMS, &CORE), [""; 0]);
    }
    let pure = "use serde::Serialize; use std::time::Duration;\n#[cfg(test)] mod tests { use tokio::time; }";
    assert_eq!(rules::purity(&tree(&[("src/core/model.rs", pure)]), &ROOMS, &CORE), [""; 0]);
}

#[test]
fn a_decision_from_a_hash_map() {
    for text in [
        "use std::collections::HashMap;",
        "use std::collections::{BTreeMap, HashSet as Set};",
        "use std::collections::*;",
        "fn f() { std::collections::hash_map::HashMap::new(); }",
    ] {
        let planted = tree(&[("src/core/model.rs", text)]);
        assert_seen(&rules::determinism(&planted, &ROOMS, &["model"]), "src/core/model.rs:1:", "ordered", text);
        assert_eq!(rules::determinism(&cli(text), &ROOMS, &["model"]), [""; 0]);
    }
}

#[test]
fn modules_that_use_each_other() {
    let circles = |extra: &[(&str, &str)]| -> Vec<String> {
        rules::circles(&tree(extra)).into_iter().map(|circle| circle.name).collect()
    };
    let (wire, server) = ("src/api/wire.rs", "src/api/server.rs");
    assert_eq!(
        circles(&[(wire, "use super::server::serve;"), (server, "use super::wire::View;")]),
        ["crate::api: server wire"]
    );
    // Through a child, and through a re-export of the parent.
    let parent = ("src/api.rs", "pub mod server; pub mod wire; pub use wire::View;");
    let child = ("src/api/server/inner.rs", "use crate::api::View;");
    let found = circles(&[parent, (server, "mod inner;"), child, (wire, "fn f() { super::server::serve() }")]);
    assert_eq!(found, ["crate::api: server wire"]);
    // A module and its own child that use each other are not a circle.
    let inner = ("src/api/server/inner.rs", "use super::serve; pub struct X;");
    assert_eq!(circles(&[(server, "mod inner; use inner::X; pub fn serve() {}"), inner]), [""; 0]);
    assert_eq!(circles(&[(server, "use super::wire::View;")]), [""; 0]);
}

#[test]
fn a_text_that_leaves_as_it_is() {
    let helper = "crate::model::clean";
    let broken = rules::exits(&cli("//! Cli.\nfn say(text: &str) {}"), &["src/cli.rs"], helper);
    assert_seen(&broken, "src/cli.rs:", helper, "");
    assert_seen(&rules::exits(&cli("//! Cli."), &["src/gone.rs"], helper), "src/gone.rs:", "no file", "");
    let clean = cli("use crate::model::clean;\nfn say(text: &str) { clean(text) }");
    assert_eq!(rules::exits(&clean, &["src/cli.rs"], helper), [""; 0]);
}

#[test]
fn a_function_that_is_too_long() {
    let text = "impl X {\n  fn short() {}\n  #[inline]\n  fn long(\n    a: u8,\n  ) {\n    // why\n\n  }\n}\n\
                #[cfg(test)]\nmod tests {\n  fn f() {\n\n\n\n\n\n\n  }\n}";
    assert_eq!(rules::long_functions(&cli(text), 5), ["src/cli.rs X::long"]);
    assert_eq!(rules::long_functions(&cli(text), 6), [""; 0]);
}

#[test]
fn an_exception_that_is_missing_or_stale() {
    let found = ["a".to_owned(), "b".to_owned()];
    assert_eq!(rules::excepted(&found, &[("a", "why"), ("b", "why")]), [""; 0]);
    assert_eq!(rules::excepted(&found, &[("a", "why")]), ["b"]);
    assert_seen(&rules::excepted(&found[..1], &[("a", "why"), ("b", "why")]), "b:", "isn't needed", "");

    let found = ["src/a.rs:3: is x".to_owned(), "src/a.rs:9: is x".to_owned(), "src/b.rs:3: is x".to_owned()];
    assert_eq!(rules::excepted_on_any_line(&found, &[("src/a.rs: is x", "why")]), ["src/b.rs:3: is x"]);
    let both = [("src/a.rs: is x", "why"), ("src/b.rs: is x", "why")];
    assert_eq!(rules::excepted_on_any_line(&found, &both), [""; 0]);
    assert_seen(&rules::excepted_on_any_line(&found[..2], &both), "src/b.rs: is x:", "isn't needed", "");
}

#[test]
fn a_file_that_is_too_long_or_out_of_place() {
    let long = format!("//! Cli.\n{}#[cfg(test)]\nmod tests {{\n\n\n}}\nfn last() {{}}\n", "fn f() {}\n".repeat(8));
    assert_seen(&rules::files(&cli(&long), 9, 9), "src/cli.rs:", "10 production lines", "");
    assert_eq!(rules::files(&cli(&long), 10, 9), [""; 0]);
    assert_seen(&rules::files(&cli("fn f() {}"), 9, 9), "src/cli.rs:", "what it owns", "");
    let stray = tree(&[("src/cli/stray.rs", "//! Stray.")]);
    assert_seen(&rules::files(&stray, 9, 9), "src/cli/stray.rs:", "no `mod`", "");
    let stray = tree(&[("src/core/stray.rs", "//! Stray.")]);
    assert_seen(&rules::files(&stray, 9, 9), "src/core/stray.rs:", "no `mod`", "");
    let binary = tree(&[("src/bin/x.rs", "//! X.\n\n\n\nfn main() {}\n")]);
    assert_seen(&rules::files(&binary, 9, 4), "src/bin/x.rs:", "at most 4", "");
    let tests = [("src/cli.rs", "//! Cli.\n#[cfg(test)]\nmod tests;"), ("src/cli/tests.rs", "fn f() {}")];
    assert_eq!(rules::files(&tree(&tests), 9, 9), [""; 0]);
}

#[test]
fn a_line_that_is_too_wide() {
    let texts = BTreeMap::from([("a.md".to_owned(), "| 1234 |\n| é123 |\n| 12345 |".to_owned())]);
    let broken = rules::columns(&texts, 8);
    assert_eq!(broken, ["a.md:3: 9 columns, at most 8"]);
}
