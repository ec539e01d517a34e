//! Compares pages that name tests with the tests: `docs/conformance.md` with the conformance cases (each name on the
//! page exists, and each case is on the page), and the table of failures in `docs/operating.md`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The least number of cases.
const CASES: usize = 60;

/// The least number of items on the page.
const ITEMS: usize = 170;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(dir: &str) -> Vec<String> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { walk(&path, found) } else { found.push(path) }
        }
    }
    let mut paths = Vec::new();
    walk(&root().join(dir), &mut paths);
    let rust = paths.into_iter().filter(|path| path.extension().is_some_and(|end| end == "rs"));
    rust.map(|path| fs::read_to_string(path).unwrap()).collect()
}

/// The names in every `cases![…]`.
fn cases() -> Vec<String> {
    let texts = sources("tests/lab/conformance");
    let lists = texts.iter().filter_map(|text| text.split("super::cases![").nth(1)?.split(']').next());
    lists.flat_map(|list| list.split(',')).map(str::trim).filter(|name| !name.is_empty()).map(Into::into).collect()
}

/// An item of the page: what fleet did, what Flotilla does, and the tests that show it.
struct Item {
    fleet: String,
    here: String,
    shown_by: String,
}

/// The page's items: `* fleet`, `  - here: …`, `  - shown by: …`. The last may be missing.
fn items() -> Vec<Item> {
    let page = fs::read_to_string(root().join("docs/conformance.md")).unwrap();
    let whole = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let blocks = page.split("\n* ").skip(1).map(|block| block.split("\n\n").next().unwrap_or_default());
    let item = |block: &str| {
        let (fleet, rest) = block.split_once("\n  - here: ").unwrap_or((block, ""));
        let (here, shown_by) = rest.split_once("\n  - shown by: ").unwrap_or((rest, ""));
        Item { fleet: whole(fleet), here: whole(here), shown_by: whole(shown_by) }
    };
    blocks.map(item).collect()
}

/// The functions that run as tests: those with `#[test]` or a similar attribute, and the cases, but no helpers.
fn tests() -> BTreeSet<String> {
    let mut found: BTreeSet<String> = cases().into_iter().collect();
    for text in ["src", "tests"].iter().flat_map(|dir| sources(dir)) {
        let mut marked = false;
        for line in text.lines().map(str::trim_start) {
            if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
                marked = true;
            } else if let Some((before, rest)) = line.split_once("fn ")
                && ["", "async "].contains(&before)
                && std::mem::take(&mut marked)
            {
                found.extend(rest.split('(').next().map(Into::into));
            }
        }
    }
    found
}

/// The texts between backticks.
fn named(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

#[test]
fn there_are_enough_cases_and_no_two_of_a_name() {
    let all = cases();
    let distinct: BTreeSet<&String> = all.iter().collect();
    assert_eq!(distinct.len(), all.len());
    assert!(all.len() >= CASES, "{} cases, at least {CASES}", all.len());
}

#[test]
fn every_item_has_a_test_or_a_reason_and_every_test_exists() {
    let known = tests();
    let mut wrong = Vec::new();
    let items = items();
    assert!(items.len() >= ITEMS, "{} items, at least {ITEMS}", items.len());
    for Item { fleet: what, here, shown_by } in &items {
        let names = named(shown_by);
        if here.is_empty() {
            wrong.push(format!("{what}: doesn't say what is done here"));
        }
        let reason = here.starts_with("not carried over: ");
        if names.is_empty() && !reason {
            wrong.push(format!("{what}: no test, and no reason"));
        }
        wrong.extend(
            names
                .iter()
                .filter(|name| !known.contains(**name))
                .map(|name| format!("{what}: there is no test `{name}`")),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_case_is_on_the_page() {
    let items = items();
    let on_page: BTreeSet<&str> = items.iter().flat_map(|item| named(&item.shown_by)).collect();
    let all = cases();
    let missing: Vec<&String> = all.iter().filter(|case| !on_page.contains(case.as_str())).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_transcript_is_a_cases() {
    let all: BTreeSet<String> = cases().into_iter().collect();
    for entry in fs::read_dir(root().join("tests/lab/conformance/transcripts")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        assert!(all.contains(&name), "{}: no case of this name", path.display());
    }
}

/// The least number of failures in the table.
const FAILURES: usize = 19;

#[test]
fn every_failure_of_the_operating_page_is_shown_by_tests() {
    let page = fs::read_to_string(root().join("docs/operating.md")).unwrap();
    let (_, after) = page.split_once("\n## What fails, and what to do\n").unwrap();
    let section = after.split("\n## ").next().unwrap();
    // The first row has the headings.
    let rows: Vec<Vec<&str>> =
        section.lines().filter_map(|line| Some(line.strip_prefix("| ")?.split(" | ").collect())).skip(1).collect();
    assert!(rows.len() >= FAILURES && rows.iter().all(|row| row.len() == 4), "{rows:#?}");
    let shown: Vec<(&str, Vec<&str>)> = section
        .split("\n* ")
        .skip(1)
        .map(|item| item.split_once(':').unwrap())
        .map(|(failure, tests)| (failure, named(tests)))
        .collect();
    let failures: Vec<&str> = rows.iter().map(|row| row[0]).collect();
    assert_eq!(shown.iter().map(|(failure, _)| *failure).collect::<Vec<_>>(), failures, "each row has its tests below");
    let known = tests();
    for (failure, names) in shown {
        let missing: Vec<&&str> = names.iter().filter(|name| !known.contains(**name)).collect();
        assert!(!names.is_empty() && missing.is_empty(), "{failure}: no test, or none of this name: {missing:?}");
    }
}
