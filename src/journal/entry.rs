//! An entry of a host's journal in the format of `journalctl --output=json`: one JSON object on each line
//! (`systemd.journal-fields(7)`, "Journal JSON Format"). Pure. Owns which fields are used, and the order of entries
//! within one journal.

use std::cmp::Ordering;
use std::fmt::Write as _;

use serde_json::{Map, Value};

/// The requested fields if no others are shown. The cursor and the times are always included.
pub(super) const FIELDS: &str = "_SOURCE_REALTIME_TIMESTAMP,MESSAGE,PRIORITY,SYSLOG_IDENTIFIER,SYSLOG_PID,_COMM,_PID,\
    _UID,_HOSTNAME,_SYSTEMD_UNIT,MESSAGE_ID,UNIT,OBJECT_SYSTEMD_UNIT,COREDUMP_UNIT";

/// Replaces a message that is too long for journald, or isn't text.
const NO_TEXT: &str = "[blob data]";

/// The ids of systemd's messages about a unit that is down: stopped, exited successfully, failed (`sd-messages.h`).
const DOWN: [&str; 3] =
    ["9d1aaa27d60140bd96365438aad20286", "7ad2d189f7e94e70a38c781354912448", "d9b373ed55a64feb8242e02dbe79a49c"];

/// A journal entry.
#[derive(Debug, Clone, PartialEq)]
pub struct JournalEntry {
    /// Its position.
    pub place: Place,
    /// The requested unit that it is about.
    pub unit: String,
    /// When it was logged, in µs since the epoch: by its sender, or else when journald received it.
    pub said: u64,
    /// The message. Invalid UTF-8 is replaced.
    pub message: String,
    /// syslog's priority: 0 is the most severe, 7 is debugging. 6 if missing.
    pub priority: u8,
    /// The sender's identifier: `systemd`, `nginx`.
    pub identifier: Option<String>,
    /// The sender's process id.
    pub pid: Option<String>,
    /// The host's own name.
    pub hostname: Option<String>,
    /// systemd reports that the unit is down now.
    pub down: bool,
    /// The line itself, if it must be printed.
    pub raw: Option<String>,
}

/// The position of an entry in its host's journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The argument for `--after-cursor=`.
    pub cursor: String,
    /// µs since the epoch, by that host's clock.
    pub realtime: u64,
    /// µs since that host's boot.
    pub monotonic: u64,
}

/// A line that isn't an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("can't understand what journalctl wrote: {0}")]
pub struct NoEntry(String);

impl JournalEntry {
    /// Parse `line` into its position and its entry, which includes the line if `raw`. The entry is `None` if `wanted`
    /// is false for its unit.
    ///
    /// # Errors
    /// [`NoEntry`] if the line isn't an entry.
    pub fn parse(line: &[u8], raw: bool, wanted: impl Fn(&str) -> bool) -> Result<(Place, Option<Self>), NoEntry> {
        let no = |why: String| NoEntry(format!("{why}: {}", String::from_utf8_lossy(&line[..line.len().min(200)])));
        let fields: Map<String, Value> = serde_json::from_slice(line).map_err(|error| no(error.to_string()))?;
        let place = Place::of(&fields).ok_or_else(|| no("no __CURSOR or __REALTIME_TIMESTAMP".into()))?;
        let Some(unit) = unit(&fields, wanted) else { return Ok((place, None)) };
        let (realtime, field) = (place.realtime, |key: &str| fields.get(key).and_then(text));
        let entry = Self {
            place: place.clone(),
            unit,
            said: field("_SOURCE_REALTIME_TIMESTAMP").and_then(|text| text.parse().ok()).unwrap_or(realtime),
            message: match fields.get("MESSAGE") {
                None => String::new(),
                Some(value) => text(value).unwrap_or_else(|| NO_TEXT.into()),
            },
            priority: field("PRIORITY").and_then(|text| text.parse().ok()).unwrap_or(6),
            identifier: field("SYSLOG_IDENTIFIER").or_else(|| field("_COMM")),
            // As in journalctl: the value that journald verified, then the one that the sender claimed.
            pid: field("_PID").or_else(|| field("SYSLOG_PID")),
            hostname: field("_HOSTNAME"),
            down: field("MESSAGE_ID").is_some_and(|id| DOWN.contains(&id.as_str())),
            raw: raw.then(|| harmless(&String::from_utf8_lossy(line))),
        };
        Ok((place, Some(entry)))
    }
}

impl Place {
    /// The position of the entry in `line`, whatever unit it is about.
    pub fn parse(line: &[u8]) -> Option<Self> {
        Self::of(&serde_json::from_slice(line).ok()?)
    }

    fn of(fields: &Map<String, Value>) -> Option<Self> {
        let number = |key: &str| fields.get(key).and_then(text)?.parse::<u64>().ok();
        Some(Self {
            cursor: fields.get("__CURSOR").and_then(text)?,
            realtime: number("__REALTIME_TIMESTAMP")?,
            monotonic: number("__MONOTONIC_TIMESTAMP").unwrap_or(0),
        })
    }

    /// Whether this is before or after `other` in the same host's journal. journald numbers its entries (`i`) within a
    /// sequence (`s`); a new journal has another sequence, and is compared by boot and clock.
    pub fn order(&self, other: &Self) -> Ordering {
        let part = |of: &Self, key| cursor_part(&of.cursor, key).map(str::to_owned);
        let same = |key| part(self, key).is_some() && part(self, key) == part(other, key);
        let number = |of: &Self| cursor_part(&of.cursor, "i").and_then(|i| u64::from_str_radix(i, 16).ok());
        match (number(self), number(other)) {
            (Some(mine), Some(theirs)) if same("s") => mine.cmp(&theirs),
            _ if same("b") => self.monotonic.cmp(&other.monotonic),
            _ => self.realtime.cmp(&other.realtime),
        }
    }
}

/// `json` without control characters, which in it are white space or parts of strings. journalctl writes none, but
/// a host may send anything.
fn harmless(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '\t' | '\r' | '\n' => text.push(' '),
            c if c.is_control() => {
                _ = write!(text, "\\u{:04x}", u32::from(c));
            }
            c => text.push(c),
        }
    }
    text
}

/// `s=…;i=…;b=…;m=…;t=…;x=…`; all but `s`, `b` and `x` are hexadecimal numbers.
fn cursor_part<'a>(cursor: &'a str, key: &str) -> Option<&'a str> {
    cursor.split(';').find_map(|part| part.strip_prefix(key)?.strip_prefix('='))
}

/// The unit that an entry is about, by the rules of `journalctl --unit=`: systemd (`UNIT`), daemons
/// (`OBJECT_SYSTEMD_UNIT`) and systemd-coredump name another unit; otherwise journald knows the unit itself. Any sender
/// can set the first three fields, so they count only from trusted senders.
fn unit(fields: &Map<String, Value>, wanted: impl Fn(&str) -> bool) -> Option<String> {
    const SYSTEMD: Option<(&str, &str)> = Some(("_PID", "1"));
    const ROOT: Option<(&str, &str)> = Some(("_UID", "0"));
    let by = |(key, value): (&str, &str)| fields.get(key).and_then(text).as_deref() == Some(value);
    let ways = [("UNIT", SYSTEMD), ("OBJECT_SYSTEMD_UNIT", ROOT), ("COREDUMP_UNIT", ROOT), ("_SYSTEMD_UNIT", None)];
    ways.into_iter().filter(|(_, who)| who.is_none_or(by)).find_map(|(key, _)| {
        match fields.get(key) {
            // A field may occur several times.
            Some(Value::Array(values)) if !values.iter().all(Value::is_u64) => {
                values.iter().filter_map(text).find(|name| wanted(name))
            }
            Some(value) => text(value).filter(|name| wanted(name)),
            None => None,
        }
    })
}

/// A field as text: a string; bytes, if it isn't UTF-8 or contains control characters; the first of several values.
/// `None` if journalctl omitted it because of its size.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Array(values) => {
            let bytes: Option<Vec<u8>> =
                values.iter().map(|value| value.as_u64().and_then(|byte| u8::try_from(byte).ok())).collect();
            match bytes {
                Some(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
                None => values.iter().find_map(text),
            }
        }
        _ => None,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An entry in journalctl's format.
    pub(in crate::journal) fn line(unit: &str, number: u64, realtime: u64, message: &str) -> String {
        serde_json::json!({
            "__CURSOR": format!("s=a;i={number:x};b=b;m={number:x};t={realtime:x};x=0"),
            "__REALTIME_TIMESTAMP": realtime.to_string(), "__MONOTONIC_TIMESTAMP": number.to_string(),
            "_SYSTEMD_UNIT": unit, "MESSAGE": message,
        })
        .to_string()
    }

    fn parsed(fields: &str) -> Option<JournalEntry> {
        let line = format!(r#"{{"__CURSOR":"s=a;i=1","__REALTIME_TIMESTAMP":"7",{fields}}}"#);
        JournalEntry::parse(line.as_bytes(), false, |unit| ["a.service", "b.service"].contains(&unit)).unwrap().1
    }

    #[test]
    fn an_entry_is_about_the_unit_that_journalctl_shows_it_for() {
        let cases = [
            (r#""_SYSTEMD_UNIT":"a.service""#, Some("a.service")),
            (r#""_SYSTEMD_UNIT":"init.scope","UNIT":"a.service","_PID":"1""#, Some("a.service")),
            (r#""_SYSTEMD_UNIT":"b.service","OBJECT_SYSTEMD_UNIT":"a.service","_UID":"0""#, Some("a.service")),
            (
                r#""_SYSTEMD_UNIT":"systemd-coredump@0.service","COREDUMP_UNIT":"a.service","_UID":"0""#,
                Some("a.service"),
            ),
            (r#""_SYSTEMD_UNIT":"a.service","UNIT":"c.service","_PID":"1""#, Some("a.service")),
            // Any sender can write this into an entry.
            (r#""_SYSTEMD_UNIT":"b.service","UNIT":"a.service","_PID":"12""#, Some("b.service")),
            (r#""_SYSTEMD_UNIT":"c.service","OBJECT_SYSTEMD_UNIT":"a.service","_UID":"1000""#, None),
            (r#""_SYSTEMD_UNIT":["c.service","b.service"]"#, Some("b.service")),
            (r#""_SYSTEMD_UNIT":"c.service""#, None),
            (r#""MESSAGE":"of nobody""#, None),
        ];
        for (fields, unit) in cases {
            assert_eq!(parsed(fields).map(|entry| entry.unit).as_deref(), unit, "{fields}");
        }
    }

    #[test]
    fn fields_come_in_many_shapes() {
        let message =
            |value: &str| parsed(&format!(r#""_SYSTEMD_UNIT":"a.service","MESSAGE":{value}"#)).unwrap().message;
        assert_eq!(message(r#""text""#), "text");
        assert_eq!(message("[104,105,27]"), "hi\u{1b}");
        assert_eq!(message("[255,104]"), "\u{fffd}h");
        assert_eq!(message("[]"), "");
        assert_eq!(message("null"), NO_TEXT);
        assert_eq!(message(r#"["first","second"]"#), "first");
        assert_eq!(message(r#"[[104,105],"second"]"#), "hi");
        let entry = parsed(r#""_SYSTEMD_UNIT":"a.service","_PID":"12","PRIORITY":"3","_COMM":"sh""#).unwrap();
        assert_eq!((entry.priority, entry.pid.as_deref(), entry.identifier.as_deref()), (3, Some("12"), Some("sh")));
        assert_eq!((entry.message.as_str(), entry.raw, entry.down), ("", None, false));
        let stopped = r#""UNIT":"a.service","_PID":"1","MESSAGE_ID":"9d1aaa27d60140bd96365438aad20286""#;
        assert!(parsed(stopped).unwrap().down);
    }

    #[test]
    fn what_is_no_entry_is_an_error() {
        for bad in [
            "",
            "-- No entries --",
            "{}",
            r#"{"__CURSOR":"x"}"#,
            "[1]",
            r#"{"__CURSOR":"x","__REALTIME_TIMESTAMP":"y"}"#,
        ] {
            assert!(JournalEntry::parse(bad.as_bytes(), false, |_| true).is_err(), "{bad}");
        }
    }

    #[test]
    fn places_are_ordered_within_a_journal_and_across_a_reboot() {
        let place = |cursor: &str, realtime, monotonic| Place { cursor: cursor.into(), realtime, monotonic };
        use Ordering::{Equal, Greater, Less};
        let cases = [
            // Numbers decide, even if a clock was set back.
            (place("s=a;i=9;b=1", 5, 5), place("s=a;i=a;b=1", 4, 4), Less),
            (place("s=a;i=10;b=1", 5, 5), place("s=a;i=f;b=2", 5, 5), Greater),
            (place("s=a;i=1;b=1", 5, 5), place("s=a;i=1;b=1", 5, 5), Equal),
            // Another journal of the same boot is compared by the boot's clock.
            (place("s=a;i=9;b=1", 5, 7), place("s=b;i=1;b=1", 4, 8), Less),
            // Another boot is compared by the wall clock.
            (place("s=a;i=9;b=1", 5, 900), place("s=b;i=1;b=2", 6, 1), Less),
            (place("odd", 5, 9), place("s=b;i=1;b=2", 5, 1), Equal),
        ];
        for (a, b, order) in cases {
            assert_eq!((a.order(&b), b.order(&a)), (order, order.reverse()), "{a:?} {b:?}");
        }
    }

    #[test]
    fn the_line_itself_has_no_control_characters() {
        let line = "\t{\"__CURSOR\":\"s=a;i=1\",\r\"__REALTIME_TIMESTAMP\":\"7\",\"_SYSTEMD_UNIT\":\"a.service\",\
            \"MESSAGE\":\"\u{9b}2J\u{7f}\"}";
        let entry = JournalEntry::parse(line.as_bytes(), true, |_| true).unwrap().1.unwrap();
        let raw = entry.raw.unwrap();
        assert!(raw.ends_with(r#""MESSAGE":"\u009b2J\u007f"}"#) && !raw.contains(char::is_control), "{raw}");
        let [before, after]: [Value; 2] = [line, &raw].map(|line| serde_json::from_str(line).unwrap());
        assert_eq!(before, after);
    }

    #[test]
    fn a_place_needs_no_unit() {
        assert_eq!(Place::parse(br#"{"__CURSOR":"c","__REALTIME_TIMESTAMP":"7"}"#).map(|p| p.realtime), Some(7));
        assert_eq!(Place::parse(b"no"), None);
    }
}
