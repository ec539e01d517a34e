//! Entries of a journal, as a host's journalctl writes them: what is printed of them doesn't control the terminal. The
//! input is two lines.

use flotilla::journal::Format;
use flotilla::journal::entry::{JournalEntry, Place};
use flotilla::journal::render::{Style, Widths};
use flotilla::model::name::UnitName;
use jiff::tz::TimeZone;
use serde_json::Value;

use super::halves;

/// All formats that are printed here; journalctl prints the others itself.
const FORMATS: [Format; 9] = [
    Format::Short,
    Format::ShortPrecise,
    Format::ShortIso,
    Format::ShortIsoPrecise,
    Format::ShortFull,
    Format::ShortMonotonic,
    Format::ShortUnix,
    Format::Cat,
    Format::Json,
];

pub fn target(data: &[u8]) {
    let (first, second) = halves(data);
    if let (Some(a), Some(b)) = (Place::parse(first), Place::parse(second)) {
        assert_eq!(a.order(&b), b.order(&a).reverse(), "{a:?} {b:?}");
        assert!(a.order(&a).is_eq(), "{a:?}");
    }
    match JournalEntry::parse(first, true, |unit| unit.parse::<UnitName>().is_ok()) {
        Ok((place, entry)) => {
            assert_eq!(Place::parse(first), Some(place));
            entry.iter().for_each(is_harmless);
        }
        Err(refused) => assert!(refused.to_string().len() <= 1000 + first.len(), "{refused}"),
    }
}

fn is_harmless(entry: &JournalEntry) {
    for format in FORMATS {
        for alone in [false, true] {
            let widths = Widths { host: 4, unit: 12 };
            let style =
                Style { format, alone, colours: false, zone: TimeZone::UTC, today: 1_795_219_200_000_000, widths };
            let mut text = String::new();
            style.render("n1", entry, &mut text);
            let lines = text.strip_suffix('\n').expect("an entry ends with its line");
            assert!(!lines.contains(|c: char| c.is_control() && c != '\n'), "{format:?}: {lines:?}");
            if format == Format::Json {
                is_object(lines, alone, entry);
            }
        }
    }
}

/// journald's field names are in capitals; a host that sends others may hide its own name.
fn is_object(line: &str, alone: bool, entry: &JournalEntry) {
    assert!(!line.contains('\n'), "{line:?}");
    let object = |line: &str| match serde_json::from_str(line) {
        Ok(Value::Object(fields)) => fields,
        _ => panic!("no object: {line:?}"),
    };
    let (mut fields, said) = (object(line), object(entry.raw.as_deref().expect("the line was asked for")));
    if !alone && !said.contains_key("host") && !said.contains_key("unit") {
        assert_eq!(fields.remove("host"), Some("n1".into()));
        assert_eq!(fields.remove("unit"), Some(entry.unit.as_str().into()));
    }
    assert!(said.iter().all(|(key, value)| fields.get(key) == Some(value) || key == "host" || key == "unit"));
}
