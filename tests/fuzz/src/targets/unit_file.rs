//! Unit files: what is read is written and read again without a change, and the hash is that of the canonical text.

use flotilla::model::file::{MAX_LEN, UnitFile, UnitOption};

use super::assert_refusal;

pub fn target(data: &[u8]) {
    let file = match UnitFile::parse(data) {
        Ok(file) => file,
        Err(error) => return assert_refusal(&error, data.len()),
    };
    assert_eq!(file.text().as_bytes(), data, "the text is kept");
    let lines = data.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count() + 1;
    for warning in file.warnings() {
        assert_refusal(warning, data.len());
        assert!((1..=lines).contains(&warning.line), "{warning}");
    }
    let canonical = file.canonical();
    // Lines between sections may make it too long.
    if canonical.len() > MAX_LEN {
        return;
    }
    let again = UnitFile::parse(canonical.as_bytes()).expect("a canonical text is a unit file");
    assert_eq!(again.canonical(), canonical, "a canonical text is its own");
    assert_eq!(again.hash(), file.hash());
    // In fleet's form, a backslash at the end of a value and a continuation by an empty line are the same.
    if !file.options().iter().any(|option| ends_open(&option.value)) {
        assert_eq!(meaning(again.options()), meaning(file.options()), "the canonical text means the same");
    }
    let written = file.written_options();
    let handed = UnitFile::from_options(&written).expect("its own options make a file");
    assert_eq!(handed.hash(), file.hash());
    let json = serde_json::to_vec(&written).expect("options are JSON");
    let read: Vec<UnitOption> = serde_json::from_slice(&json).expect("and are read from it");
    assert_eq!(meaning(&read), meaning(&written));
}

/// The options by section, which the canonical text gathers.
fn meaning(options: &[UnitOption]) -> Vec<(&str, &str, &str)> {
    let mut options: Vec<_> = options.iter().map(|o| (o.section.as_str(), o.name.as_str(), o.value.as_str())).collect();
    options.sort_by_key(|(section, ..)| *section);
    options
}

/// Whether a value would be joined with the line after it.
fn ends_open(value: &str) -> bool {
    value.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}
