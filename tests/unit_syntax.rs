//! The parser reads unit files as systemd does, case by case. `tests/lab/syntax.rs` checks the cases with systemd.

#[path = "syntax/cases.rs"]
mod cases;

use flotilla::model::file::{FileError, UnitFile};
use proptest::prelude::*;

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

/// CoreOS fleet's clients send files as canonical text, option by option, which must not change the meaning of any
/// file.
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

/// Pieces of a unit file, with every character that could be mistaken for a blank or a line end.
fn pieces() -> impl Strategy<Value = String> {
    let piece = proptest::sample::select(vec![
        "[Unit]\n",
        "[Service]\n",
        "A",
        "B",
        "=",
        "\\",
        "\n",
        "\r",
        "\t",
        " ",
        "#",
        ";",
        "[",
        "]",
        "\u{85}",
        "\u{a0}",
        "\u{1680}",
        "\u{2003}",
        "\u{2028}",
        "\u{2029}",
        "\u{3000}",
        "\u{feff}",
        "ä",
    ]);
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| format!("[Unit]\nA=1\n{}", pieces.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    /// For any file, the canonical text and the list of options have the same meaning and the same hash.
    #[test]
    fn a_hash_survives_every_way_of_writing_a_file(text in pieces()) {
        let Ok(file) = UnitFile::parse(text.as_bytes()) else { return Ok(()) };
        let again = UnitFile::parse(file.canonical().as_bytes()).expect("canonical text");
        prop_assert_eq!(again.hash(), file.hash(), "canonical text {:?}", file.canonical());
        let sent = UnitFile::from_options(&file.written_options());
        prop_assert_eq!(sent.map(|sent| sent.hash()), Ok(file.hash()), "options {:?}", file.written_options());
    }

    /// Two files with the same hash are the same to systemd: the same values in the same sections.
    #[test]
    fn one_hash_is_one_meaning(
        text in pieces(),
        wide in proptest::sample::select(vec!['\u{85}', '\u{2028}', '\u{a0}']),
    ) {
        let Ok(file) = UnitFile::parse(text.as_bytes()) else { return Ok(()) };
        for at in (0..text.len()).filter(|at| text.is_char_boundary(*at)) {
            let mut other = text.clone();
            other.insert(at, wide);
            let Ok(other) = UnitFile::parse(other.as_bytes()) else { continue };
            let values = |file: &UnitFile| {
                file.options().iter().map(|o| (o.section.clone(), o.name.clone(), o.value.clone())).collect::<Vec<_>>()
            };
            prop_assert_eq!(other.hash() == file.hash(), values(&other) == values(&file), "{:?}", other.text());
        }
    }
}
