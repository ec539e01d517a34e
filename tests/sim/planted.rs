//! Bugs that `contrib/simulate --mutants` plants in a copy of the sources, as data in `mutants/`. Owns how these files
//! are read and how `docs/testing.md` lists them; the command shows what finds each bug.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

const FOLDER: &str = "tests/sim/mutants";
const PAGE: &str = "docs/testing.md";
const BEGIN: &str = "<!-- planted bugs -->\n";
const END: &str = "<!-- end of the planted bugs -->\n";
const COLUMNS: usize = 120;

/// A bug: a text in a source file, and its replacement.
struct Planted {
    name: String,
    /// What it breaks, as a sentence.
    breaks: String,
    /// The invariant that finds it, as the page names it.
    invariant: String,
    /// The test binary that finds it.
    suite: String,
    source: String,
    find: String,
}

/// A mutant's file: `key: value` lines, then the text to find, then its replacement.
fn read(path: &Path) -> Planted {
    let name = path.file_stem().unwrap().to_string_lossy().into_owned();
    let text = fs::read_to_string(path).unwrap();
    let (head, rest) = text.split_once("--- find\n").unwrap_or_else(|| panic!("{name}: no text to find"));
    let (find, replacement) = rest.split_once("\n--- replace\n").unwrap_or_else(|| panic!("{name}: no replacement"));
    assert_ne!(find, replacement.trim_end_matches('\n'), "{name} changes nothing");
    let field = |key: &str| {
        let line = head.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
        line.unwrap_or_else(|| panic!("{name}: no line {key}:")).to_owned()
    };
    assert!(!field("seen by").is_empty(), "{name}");
    Planted {
        breaks: field("breaks"),
        invariant: field("invariant"),
        suite: field("suite"),
        source: field("source"),
        find: find.to_owned(),
        name,
    }
}

/// Compare the files with the sources, and the page with the files; with `bless`, write the page.
pub(crate) fn hold(top: &Path, bless: bool) {
    let mut all: Vec<Planted> =
        fs::read_dir(top.join(FOLDER)).unwrap().map(|entry| read(&entry.unwrap().path())).collect();
    all.sort_by(|one, other| one.name.cmp(&other.name));
    for bug in &all {
        let source = fs::read_to_string(top.join(&bug.source)).unwrap_or_default();
        assert_eq!(source.matches(&bug.find).count(), 1, "the text of {} in {}", bug.name, bug.source);
        let suites = ["simulation", "scripts", "plan", "kill_points", "failover"];
        assert!(suites.contains(&bug.suite.as_str()), "{}: which suite?", bug.name);
    }
    let page = fs::read_to_string(top.join(PAGE)).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (list, after) = rest.split_once(END).unwrap();
    let invariants = invariants(before);
    let planted: BTreeSet<&str> = all.iter().map(|bug| bug.invariant.as_str()).collect();
    let named: BTreeSet<&str> = invariants.iter().copied().collect();
    let unknown: Vec<&&str> = planted.difference(&named).collect();
    assert!(unknown.is_empty(), "{PAGE} has no such invariants: {unknown:?}");
    // An invariant that no planted bug violates may not be checked at all.
    let unproven: Vec<&&str> = named.difference(&planted).collect();
    assert!(unproven.is_empty(), "{FOLDER} has no bug that violates {unproven:?}");
    let wanted = show(&invariants, &all);
    if bless {
        fs::write(top.join(PAGE), format!("{before}{BEGIN}{wanted}{END}{after}")).unwrap();
    } else {
        assert_eq!(list, wanted, "{PAGE} is out of date: FLOTILLA_BLESS=1 cargo test --test simulation planted");
    }
}

/// The invariants that the page describes, in the order of the page.
fn invariants(page: &str) -> Vec<&str> {
    let (_, section) = page.split_once("\n## Simulation\n").unwrap();
    section.lines().filter_map(|line| Some(line.strip_prefix("* **")?.split_once("**")?.0)).collect()
}

/// The page's list.
fn show(invariants: &[&str], all: &[Planted]) -> String {
    let mut by_invariant: BTreeMap<&str, Vec<&Planted>> = BTreeMap::new();
    for bug in all {
        by_invariant.entry(&bug.invariant).or_default().push(bug);
    }
    let mut list = String::new();
    for invariant in invariants {
        writeln!(list, "* **{invariant}**").unwrap();
        for bug in by_invariant.get(*invariant).into_iter().flatten() {
            let by = match bug.suite.as_str() {
                "simulation" => String::new(),
                "scripts" => " Found by a scenario.".to_owned(),
                suite => format!(" Found by `tests/{suite}.rs`."),
            };
            wrapped(&mut list, &format!("`{}`: {}{by}", bug.name, bug.breaks));
        }
    }
    list
}

/// An item of an inner list.
fn wrapped(list: &mut String, text: &str) {
    let mut line = "  -".to_owned();
    for word in text.split(' ') {
        if line.len() + 1 + word.len() > COLUMNS {
            writeln!(list, "{line}").unwrap();
            line = "   ".to_owned();
        }
        write!(line, " {word}").unwrap();
    }
    writeln!(list, "{line}").unwrap();
}
