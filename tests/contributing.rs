//! The worked examples of `docs/contributing.md`: each block of Rust on that page stands here word for word, so that it
//! is compiled and run, and nothing here is missing there. Also that pages lead to what exists.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "cli/fake.rs"]
#[allow(dead_code, reason = "the other tests of the command line use the rest")]
mod fake;
#[path = "support/page.rs"]
mod page;

mod a_rule {
    use flotilla::model::cluster::Cluster;
    use flotilla::model::file::UnitFile;
    use flotilla::model::machine::Machine;
    use flotilla::model::name::{MachineId, UnitName};
    use flotilla::model::placement::Constraints;
    use flotilla::model::rule::Rule;
    use flotilla::plan::fit::{Misfit, Question, Stance, fit};

    fn host(id: &str, zone: &str) -> Machine {
        let metadata = [("zone".to_owned(), zone.to_owned())].into();
        Machine { metadata, ..Machine::new(id.parse().unwrap(), "n1") }
    }

    #[test]
    fn a_host_in_another_zone_is_a_misfit_that_names_both() {
        let n1: MachineId = "3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a".parse().unwrap();
        let mut cluster = Cluster::default();
        cluster.machines.insert(n1.clone(), host(n1.as_str(), "b"));

        let file = UnitFile::parse(b"[Service]\nExecStart=/a\n[X-Fleet]\nMachineMetadata=zone=a\n").unwrap();
        let constraints = Constraints::parse(&file).unwrap();
        let unit: UnitName = "web.service".parse().unwrap();
        let question =
            Question { unit: &unit, constraints: &constraints, host: &n1, stance: Stance::Arrive, with: &[] };

        let misfits = fit(&cluster, &question).unwrap_err();
        assert!(matches!(&misfits[..], [Misfit::Metadata { key, .. }] if key == "zone"));
        assert_eq!(misfits[0].rule(), Rule::Metadata);
        assert_eq!(misfits[0].to_string(), "metadata zone is b, wanted a");
    }
}

mod a_key_family {
    use flotilla::model::machine::Machine;
    use flotilla::registry::keys::Key;

    #[test]
    fn a_key_reads_back_and_a_record_of_an_older_daemon_is_understood() {
        let key = Key::Machine("3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a".parse().unwrap());
        assert_eq!(key.to_string(), "machine/3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a");
        assert_eq!(Key::parse(&key.to_string()), Ok(key));

        // Before `metadata` and `since` were added.
        let old = r#"{"id":"3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a","ip":"10.0.0.1","hostname":"n1",
                      "version":"0.1.0","boot_id":"b"}"#;
        let machine: Machine = serde_json::from_str(old).unwrap();
        assert_eq!((machine.metadata.len(), machine.since), (0, 0));
    }
}

mod a_command {
    use serde_json::json;

    use super::fake::{Fake, Script};

    #[test]
    fn what_a_command_prints_where_and_with_which_status() {
        let machines = vec![json!({
            "id": "a2d7e4a6000000000000000000000001", "ip": "10.88.0.11", "hostname": "n1",
            "metadata": { "zone": "a" }, "version": "0.1.0",
        })];
        let fleetd = Fake::new(Script { machines, ..Script::default() });
        let table = "MACHINE\t\tIP\t\tMETADATA\na2d7e4a6...\t10.88.0.11\tzone=a\n";
        fleetd.expect("list-machines", 0, table, "");
        assert_eq!(fleetd.asked(), ["GET /fleet/v2/machines"]);
    }
}

mod an_invariant {
    use flotilla::model::cluster::{Cluster, Versioned};
    use flotilla::model::name::{MachineId, UnitName};
    use flotilla::model::revision::Revision;
    use flotilla::model::unit::Placement;
    use flotilla::plan::check::{Violation, When, always};

    #[test]
    fn a_placement_without_an_assignment_is_seen_at_once() {
        let host: MachineId = "3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a".parse().unwrap();
        let unit: UnitName = "web.service".parse().unwrap();
        let mut cluster = Cluster::default();
        assert_eq!(always(&cluster), []);

        let value = Placement::On { host: host.clone(), since: 0, from: None, tried: None, moved: None };
        cluster.placements.insert(unit.clone(), Versioned { value, revision: Revision(1) });
        let violation = Violation::NoAssignment(unit, host);
        assert_eq!(violation.when(), When::Always);
        assert_eq!(always(&cluster), [violation]);
    }
}

/// The page's blocks of Rust, and whether this file has each, by its lines without indentation.
#[test]
fn the_page_shows_what_runs_here() {
    let squeeze = |text: &str| -> String { text.lines().map(str::trim).collect::<Vec<_>>().join("\n") };
    let page = include_str!("../docs/contributing.md");
    let here = squeeze(include_str!("contributing.rs"));
    let blocks: Vec<&str> =
        page.split("```rust\n").skip(1).map(|rest| rest.split("\n```").next().unwrap_or_default()).collect();
    for block in &blocks {
        assert!(here.contains(&squeeze(block)), "tests/contributing.rs has no such lines:\n{block}");
    }
    let shown = squeeze(&blocks.join("\n"));
    let tests = here.lines().filter(|line| line.starts_with("fn a_") || line.starts_with("fn what_"));
    let missing: Vec<&str> = tests.filter(|line| !shown.contains(line)).collect();
    assert!(missing.is_empty(), "docs/contributing.md doesn't show {missing:?}");
    assert_eq!(blocks.len(), 4);
}

/// Paths between backticks on the pages for contributors exist: a page that sends its reader nowhere is worse than
/// none.
#[test]
fn the_pages_name_files_that_exist() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut missing = Vec::new();
    for page in ["contributing.md", "architecture.md", "testing.md", "glossary.md"] {
        let text = std::fs::read_to_string(root.join("docs").join(page)).unwrap();
        for path in text.split('`').skip(1).step_by(2) {
            let is_path = ["src/", "tests/", "docs/", "contrib/", "units/"].iter().any(|top| path.starts_with(top));
            let path = path.split([' ', ':', '#']).next().unwrap_or_default();
            let exists = root.join(path).exists() || root.join(format!("{path}.rs")).exists();
            if is_path && !path.contains(['*', '<', '…', '{']) && !exists {
                missing.push(format!("docs/{page}: {path}"));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

/// Every link between pages names a file and a heading that exist.
#[test]
fn the_pages_link_to_what_exists() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = ["", "docs", "docs/decisions"].iter().flat_map(|folder| root.join(folder).read_dir().unwrap());
    let files = files.map(|entry| entry.unwrap().path());
    let mut broken = Vec::new();
    for page in files.filter(|path| path.extension().is_some_and(|it| it == "md")) {
        let text = std::fs::read_to_string(&page).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            let leads = file.contains("://")
                || target.exists() && (heading.is_empty() || headings(&target).iter().any(|it| it == heading));
            if !leads {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// The headings of a page as they are written in links to them.
fn headings(page: &std::path::Path) -> Vec<String> {
    let text = std::fs::read_to_string(page).unwrap();
    let titles = text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let slug = |title: &str| {
        let kept = title.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.collect::<String>().to_lowercase().replace(' ', "-")
    };
    titles.map(slug).collect()
}

/// The pages that the lab plays can be read as sessions.
#[test]
fn the_sessions_on_the_pages_can_be_read() {
    for name in ["tutorial", "data", "runbook"] {
        let path = format!("{}/docs/{name}.md", env!("CARGO_MANIFEST_DIR"));
        let page = page::Page::parse(&std::fs::read_to_string(path).unwrap());
        let commands = page.items().filter(|item| matches!(item, page::Item::Command { .. })).count();
        assert!(commands > 10, "docs/{name}.md shows {commands} commands");
    }
}
