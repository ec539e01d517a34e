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
