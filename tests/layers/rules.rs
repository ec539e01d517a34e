//! Owns the rules: each takes the scanned code and its table, and returns one line for each violation.
//!
//! An exception is listed with its reason, and is a violation itself when it is no longer needed. This file must never
//! use the tables of the real tree: these are in `main`, so that `planted` can test each rule with a small tree.

use std::collections::{BTreeMap, BTreeSet};

use crate::names::Path;
use crate::scan::{Kind, Mention, Source, Tree};

/// Modules that belong together, and the rooms that they may use besides their own.
pub(crate) struct Room {
    pub(crate) name: &'static str,
    /// From the crate's root, `api::server` for instance; a longer path goes before a shorter one.
    pub(crate) modules: &'static [&'static str],
    pub(crate) may_use: &'static [&'static str],
}

/// A foreign crate, or a name of the standard library (`std::env::var`, `println!`), and the paths that may use it.
pub(crate) type Owned = (&'static str, &'static [&'static str]);

/// An allowed violation of a rule, with the reason.
pub(crate) type Exception = (&'static str, &'static str);

/// The restrictions of the pure core.
pub(crate) struct Purity {
    pub(crate) rooms: &'static [&'static str],
    /// The only foreign crates that it may use.
    pub(crate) crates: &'static [&'static str],
    /// The paths in these that it must not use, such as `std::fs`.
    pub(crate) never: &'static [&'static str],
}

/// Which room may use which. A module in no room is a violation.
pub(crate) fn arrows(tree: &Tree, rooms: &[Room]) -> Vec<String> {
    let mut broken = BTreeSet::new();
    for source in &tree.sources {
        let Some(module) = ours(&source.module) else { continue };
        let Some(room) = room(rooms, module) else {
            broken.insert(format!("{}: `{}` is in no room; name it in ROOMS", source.path, module.join("::")));
            continue;
        };
        for mention in &source.mentions {
            let Some(path) = ours(&mention.written).filter(|path| !only_holds_rooms(rooms, path)) else { continue };
            let Some(other) = self::room(rooms, path) else { continue };
            if other.name != room.name && !room.may_use.contains(&other.name) {
                broken.insert(at(source, mention.line, &format!("`{}` must not use `{}`", room.name, other.name)));
            }
        }
    }
    broken.into_iter().collect()
}

/// The path after `crate`, unless it is the root of the crate itself.
fn ours(path: &[String]) -> Option<&[String]> {
    match path.split_first() {
        Some((head, rest)) if head == "crate" && !rest.is_empty() => Some(rest),
        _ => None,
    }
}

fn room<'a>(rooms: &'a [Room], path: &[String]) -> Option<&'a Room> {
    let depth = |module: &str| {
        let module: Vec<&str> = module.split("::").collect();
        (path.len() >= module.len() && module.iter().zip(path).all(|(a, b)| a == b)).then_some(module.len())
    };
    let found = rooms.iter().filter_map(|room| {
        let depth = room.modules.iter().filter_map(|module| depth(module)).max()?;
        Some((depth, room))
    });
    found.max_by_key(|(depth, _)| *depth).map(|(_, room)| room)
}

/// `crate::api` itself, whose children are rooms of their own.
fn only_holds_rooms(rooms: &[Room], path: &[String]) -> bool {
    let above = format!("{}::", path.join("::"));
    rooms.iter().flat_map(|room| room.modules).any(|module| module.starts_with(&above))
}

/// Foreign crates with one owner, and names that only some files may use.
pub(crate) fn owned(tree: &Tree, table: &[Owned]) -> Vec<String> {
    let mut broken = BTreeSet::new();
    for source in &tree.sources {
        for (word, places) in table {
            let may = places.iter().any(|place| is_in(&source.path, place));
            for mention in source.mentions.iter().filter(|mention| !may && says(mention, word)) {
                broken.insert(at(source, mention.line, &format!("`{word}` is only for {places:?}")));
            }
        }
    }
    broken.into_iter().collect()
}

/// `src/config` holds `src/config.rs` and all of `src/config/`.
fn is_in(path: &str, place: &str) -> bool {
    path.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest == ".rs" || rest.starts_with('/'))
}

fn says(mention: &Mention, word: &str) -> bool {
    if let Some(name) = word.strip_suffix('!') {
        return mention.kind == Kind::Macro && mention.declared.last().is_some_and(|last| last == name);
    }
    let word: Vec<&str> = word.split("::").collect();
    let common = word.iter().zip(&mention.declared).take_while(|(a, b)| a == b).count();
    // A glob imports everything below it.
    common == word.len() || mention.kind == Kind::Glob && common == mention.declared.len()
}

/// The files through which texts leave a program, which must use `helper`.
pub(crate) fn exits(tree: &Tree, exits: &[&str], helper: &str) -> Vec<String> {
    let mut broken = Vec::new();
    for exit in exits {
        match tree.sources.iter().find(|source| source.path == *exit) {
            None => broken.push(format!("{exit}: is no file")),
            Some(source) if source.mentions.iter().any(|mention| says(mention, helper)) => {}
            Some(_) => broken.push(format!("{exit}: what leaves here must pass through `{helper}`")),
        }
    }
    broken
}

/// No async, no I/O, no clock, no log: values in, values out.
pub(crate) fn purity(tree: &Tree, rooms: &[Room], rule: &Purity) -> Vec<String> {
    let mut broken = BTreeSet::new();
    for source in &tree.sources {
        let room = ours(&source.module).and_then(|module| room(rooms, module));
        if !room.is_some_and(|room| rule.rooms.contains(&room.name)) {
            continue;
        }
        for line in &source.asynchronous {
            broken.insert(at(source, *line, "no async in the pure core"));
        }
        for mention in &source.mentions {
            let head = mention.declared.first().map_or("", String::as_str);
            let is_foreign = head != "crate" && tree.names.foreign.contains(head);
            if is_foreign && !rule.crates.contains(&head) {
                broken.insert(at(source, mention.line, &format!("the pure core must not use `{head}`")));
            }
            for word in rule.never.iter().filter(|word| says(mention, word)) {
                broken.insert(at(source, mention.line, &format!("the pure core must not use `{word}`")));
            }
        }
    }
    broken.into_iter().collect()
}

/// Decisions must not depend on the order of a hash map. `rooms` are the rooms that decide.
pub(crate) fn determinism(tree: &Tree, rooms: &[Room], deciding: &[&str]) -> Vec<String> {
    const UNORDERED: [&str; 3] = ["HashMap", "HashSet", "RandomState"];
    let mut broken = BTreeSet::new();
    for source in &tree.sources {
        let room = ours(&source.module).and_then(|module| room(rooms, module));
        if !room.is_some_and(|room| deciding.contains(&room.name)) {
            continue;
        }
        for mention in &source.mentions {
            let glob = mention.kind == Kind::Glob && says(mention, "std::collections::HashMap");
            if glob || mention.declared.iter().any(|segment| UNORDERED.contains(&segment.as_str())) {
                broken.insert(at(source, mention.line, "decisions need an ordered map"));
            }
        }
    }
    broken.into_iter().collect()
}

/// Sibling modules that use each other, in groups: `room: a b`, with the places where they do.
///
/// A path from `agent/units/order` to `agent/publish` is an arrow from `agent/units` to `agent/publish`. A module and
/// its own children may use each other: a child is a part of its parent in a separate file.
pub(crate) fn circles(tree: &Tree) -> Vec<Circle> {
    let mut rooms: BTreeMap<Path, Arrows> = BTreeMap::new();
    for source in &tree.sources {
        for mention in &source.mentions {
            let Some(target) = tree.names.module_of(&mention.declared) else { continue };
            let common = target.iter().zip(&source.module).take_while(|(a, b)| a == b).count();
            let (Some(from), Some(to)) = (source.module.get(common), target.get(common)) else { continue };
            let arrows = rooms.entry(target[..common].to_vec()).or_default();
            let evidence = arrows.entry(from.clone()).or_default().entry(to.clone()).or_default();
            evidence.push(at(source, mention.line, &mention.declared.join("::")));
        }
    }
    rooms.iter().flat_map(|(room, arrows)| circles_of(room, arrows)).collect()
}

/// From, to, and the places that cause the arrow.
type Arrows = BTreeMap<String, BTreeMap<String, Vec<String>>>;

pub(crate) struct Circle {
    /// `agent: unit units`.
    pub(crate) name: String,
    pub(crate) evidence: Vec<String>,
}

fn reachable<'a>(arrows: &'a Arrows, from: &'a String) -> BTreeSet<&'a String> {
    let mut found = BTreeSet::new();
    let mut open = vec![from];
    while let Some(at) = open.pop() {
        open.extend(arrows.get(at).into_iter().flat_map(BTreeMap::keys).filter(|next| found.insert(*next)));
    }
    found
}

fn circles_of(room: &[String], arrows: &Arrows) -> Vec<Circle> {
    let reach: BTreeMap<&String, BTreeSet<&String>> =
        arrows.keys().map(|from| (from, reachable(arrows, from))).collect();
    let with = |from: &&String| -> Vec<&String> {
        let back = |to: &&String| reach.get(to).is_some_and(|reach| reach.contains(from));
        reach[from].iter().copied().filter(back).collect()
    };
    let groups: BTreeSet<Vec<&String>> = reach.keys().map(with).filter(|group| group.len() > 1).collect();
    let circle = |group: Vec<&String>| {
        let names = group.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(" ");
        let name = format!("{}: {names}", room.join("::"));
        let inner =
            |from: &String| arrows[from].iter().filter(|(to, _)| group.contains(to)).flat_map(|(_, at)| at.clone());
        Circle { name, evidence: group.iter().flat_map(|from| inner(from)).collect() }
    };
    groups.into_iter().map(circle).collect()
}

/// Functions of more than `ceiling` lines: `path name`.
pub(crate) fn long_functions(tree: &Tree, ceiling: usize) -> Vec<String> {
    let mut found = Vec::new();
    for source in &tree.sources {
        let long = source.functions.iter().filter(|function| function.lines > ceiling);
        found.extend(long.map(|function| format!("{} {}", source.path, function.name)));
    }
    found
}

/// `found` must be exactly what `exceptions` list.
pub(crate) fn excepted(found: &[String], exceptions: &[Exception]) -> Vec<String> {
    excepted_by(found, String::clone, exceptions)
}

/// The same for what `at` wrote. An exception names no line.
pub(crate) fn excepted_on_any_line(found: &[String], exceptions: &[Exception]) -> Vec<String> {
    let unnumbered = |what: &String| {
        let (path, rest) = what.split_once(':').unwrap_or((what, ""));
        format!("{path}:{}", rest.split_once(':').map_or(rest, |(_, why)| why))
    };
    excepted_by(found, unnumbered, exceptions)
}

fn excepted_by(found: &[String], name: impl Fn(&String) -> String, exceptions: &[Exception]) -> Vec<String> {
    let is_named = |what: &&String| exceptions.iter().any(|(known, _)| *known == name(what));
    let is_stale = |known: &str| !found.iter().any(|what| name(what) == known);
    let new = found.iter().filter(|what| !is_named(what)).cloned();
    let stale = exceptions.iter().filter(|(known, _)| is_stale(known));
    new.chain(stale.map(|(known, _)| format!("{known}: the exception isn't needed any more; delete it"))).collect()
}

/// A file's size, its first line and its place.
pub(crate) fn files(tree: &Tree, ceiling: usize, ceiling_of_binaries: usize) -> Vec<String> {
    let mut broken: Vec<String> =
        tree.strays.iter().map(|path| format!("{path}: no `mod` declaration leads to it")).collect();
    for source in &tree.sources {
        let (path, lines) = (&source.path, source.production_lines());
        let most = if path.starts_with("src/bin/") { ceiling_of_binaries } else { ceiling };
        if lines > most {
            broken.push(format!("{path}: {lines} production lines, at most {most}"));
        }
        if !source.text.starts_with("//! ") {
            broken.push(format!("{path}: doesn't begin with `//!` and what it owns"));
        }
        if path.ends_with("/mod.rs") {
            broken.push(format!("{path}: modules are `name.rs` beside `name/`"));
        }
    }
    broken
}

/// Lines wider than `ceiling` characters.
pub(crate) fn columns(texts: &BTreeMap<String, String>, ceiling: usize) -> Vec<String> {
    let mut broken = Vec::new();
    for (path, text) in texts {
        for (number, line) in text.lines().enumerate() {
            let width = line.chars().count();
            if width > ceiling {
                broken.push(format!("{path}:{}: {width} columns, at most {ceiling}", number + 1));
            }
        }
    }
    broken
}

fn at(source: &Source, line: usize, what: &str) -> String {
    format!("{}:{line}: {what}", source.path)
}
