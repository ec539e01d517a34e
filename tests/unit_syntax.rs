//! The parser reads unit files as systemd does: case by case. `tests/lab/syntax.rs` proves the cases themselves.

#[path = "syntax/cases.rs"]
mod cases;

use flotilla::model::file::{FileError, UnitFile};

#[test]
fn files_are_read_as_systemd_reads_them() {
    for (name, text, expected) in cases::CASES {
        let read = UnitFile::parse(text.as_bytes());
        let found = match &read {
            Ok(file) => Some(file.value("Unit", "Description").unwrap_or_default()),
            Err(FileError::Empty) => Some(""),
            Err(_) => None,
        };
        assert_eq!(found, expected, "{name}: {read:?}");
    }
}

/// CoreOS fleet's clients send files as canonical text, option by option: nothing may come to mean something else by
/// that.
#[test]
fn canonical_text_says_the_same() {
    for (name, text, _) in cases::CASES {
        let Ok(file) = UnitFile::parse(text.as_bytes()) else { continue };
        let again = UnitFile::parse(file.canonical().as_bytes()).expect(name);
        let sorted = |file: &UnitFile| {
            let mut all: Vec<_> =
                file.options().iter().map(|o| (o.section.clone(), o.name.clone(), o.value.clone())).collect();
            all.sort();
            all
        };
        assert_eq!((sorted(&again), again.hash()), (sorted(&file), file.hash()), "{name}: {:?}", file.canonical());
        let sent = UnitFile::from_options(&file.written_options()).expect(name);
        assert_eq!(sent.hash(), file.hash(), "{name}");
    }
}
