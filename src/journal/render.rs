//! The text that is printed of an entry. Pure. Owns the format of entries, as lines of several hosts or as journalctl's
//! own; prints nothing.

use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::entry::JournalEntry;
use super::query::Format;

/// Colours that are readable on dark and on light backgrounds, and aren't used for a priority.
const COLOURS: [u8; 10] = [32, 34, 35, 36, 92, 94, 95, 96, 90, 33];

/// How entries are formatted.
#[derive(Debug)]
pub struct Style {
    /// journalctl's name for it.
    pub format: Format,
    /// As journalctl would on a single host; otherwise each line has its host and unit.
    pub alone: bool,
    /// Whether to use colours.
    pub colours: bool,
    /// The user's time zone.
    pub zone: TimeZone,
    /// When today began there, in µs since the epoch; other days are named.
    pub today: u64,
    /// The widths of the columns.
    pub widths: Widths,
}

/// The widths of the columns, in characters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Widths {
    /// The width of hosts' names.
    pub host: usize,
    /// The width of units' labels.
    pub unit: usize,
}

/// When the day of `now` began in `zone`, in µs since the epoch.
pub fn day(now: u64, zone: &TimeZone) -> u64 {
    let start = zoned(now, zone).start_of_day().map(|day| day.timestamp().as_microsecond());
    start.ok().and_then(|start| u64::try_from(start).ok()).unwrap_or(0)
}

/// `10:05:07`, from ms since the epoch.
pub fn clock(now_ms: u64, zone: &TimeZone) -> String {
    zoned(now_ms * 1000, zone).strftime("%H:%M:%S").to_string()
}

/// A unit's name in lines: services without their type.
pub fn label(unit: &str) -> &str {
    unit.strip_suffix(".service").unwrap_or(unit)
}

impl Style {
    /// Append `entry` of `host` to `text`, with its newline.
    pub fn render(&self, host: &str, entry: &JournalEntry, text: &mut String) {
        match self.format {
            Format::Json => self.json(host, entry, text),
            Format::Cat => lines(&entry.message).for_each(|line| {
                text.push_str(&line);
                text.push('\n');
            }),
            _ if self.alone => self.as_journalctl(entry, text),
            _ => self.with_host(host, entry, text),
        }
    }

    fn json(&self, host: &str, entry: &JournalEntry, text: &mut String) {
        let raw = entry.raw.as_deref().unwrap_or("{}");
        if self.alone {
            text.push_str(raw);
        } else {
            // journald's field names are in capitals, so these two can't collide.
            let (host, unit) = (serde_json::json!(host), serde_json::json!(entry.unit));
            let rest = raw.trim_start().strip_prefix('{').unwrap_or("}");
            let comma = if rest.trim_start().starts_with('}') { "" } else { "," };
            _ = write!(text, "{{\"host\":{host},\"unit\":{unit}{comma}{rest}");
        }
        text.push('\n');
    }

    /// `n2 web@1  10:05:01.201  GET / 200 3 ms`. Each line of a message is complete, for `grep`.
    fn with_host(&self, host: &str, entry: &JournalEntry, text: &mut String) {
        let (host, unit) = (harmless(host), label(&entry.unit));
        let Widths { host: host_width, unit: unit_width } = self.widths;
        let time = self.time(entry, entry.place.realtime);
        for line in lines(&entry.message) {
            let start = text.len();
            _ = write!(text, "{host:host_width$} {unit:unit_width$}  {time}  ");
            if !self.colours {
                text.push_str(&line);
            } else {
                _ = write!(text, "{}", paint(priority_colour(entry.priority), &line));
                let columns = format!("{host:host_width$} {unit:unit_width$}");
                text.replace_range(start..start + columns.len(), &paint(colour(&entry.unit), &columns));
            }
            text.push('\n');
        }
    }

    /// `Nov 21 10:05:01 n2 nginx[12]: GET / 200 3 ms`, as `output_short` of systemd 252: without fields that aren't
    /// printable, since any service can set the identifier and the process id of its entries.
    fn as_journalctl(&self, entry: &JournalEntry, text: &mut String) {
        let start = text.len();
        text.push_str(&self.time(entry, entry.said));
        if let Some(hostname) = printable(entry.hostname.as_deref()) {
            _ = write!(text, " {hostname}");
        }
        _ = write!(text, " {}", printable(entry.identifier.as_deref()).unwrap_or("unknown"));
        if let Some(pid) = printable(entry.pid.as_deref()) {
            _ = write!(text, "[{pid}]");
        }
        text.push_str(": ");
        let indent = text[start..].chars().count();
        for (index, line) in lines(&entry.message).enumerate() {
            if index > 0 {
                _ = write!(text, "{:indent$}", "");
            }
            text.push_str(&line);
            text.push('\n');
        }
    }

    fn time(&self, entry: &JournalEntry, at: u64) -> String {
        let shown = |form: &str| zoned(at, &self.zone).strftime(form).to_string();
        match self.format {
            Format::Short if self.alone => shown("%b %d %H:%M:%S"),
            Format::Short if at >= self.today && at - self.today < 86_400_000_000 => shown("%H:%M:%S.%3f"),
            Format::Short => shown("%b %d %H:%M:%S.%3f"),
            Format::ShortPrecise => shown("%b %d %H:%M:%S.%6f"),
            Format::ShortIso => shown("%Y-%m-%dT%H:%M:%S%z"),
            Format::ShortIsoPrecise => shown("%Y-%m-%dT%H:%M:%S.%6f%z"),
            Format::ShortFull => shown("%a %Y-%m-%d %H:%M:%S %Z"),
            Format::ShortMonotonic => {
                format!("[{:5}.{:06}]", entry.place.monotonic / 1_000_000, entry.place.monotonic % 1_000_000)
            }
            _ => format!("{:10}.{:06}", at / 1_000_000, at % 1_000_000),
        }
    }
}

fn zoned(at: u64, zone: &TimeZone) -> jiff::Zoned {
    let at = i64::try_from(at).ok().and_then(|at| Timestamp::from_microsecond(at).ok()).unwrap_or_default();
    at.to_zoned(zone.clone())
}

/// A field, unless it contains control characters.
fn printable(field: Option<&str>) -> Option<&str> {
    field.filter(|text| !text.chars().any(char::is_control))
}

/// A name with `?` for control characters, of the same width.
fn harmless(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// The lines of a message as journalctl shows them: without escape sequences and control characters.
fn lines(message: &str) -> impl Iterator<Item = String> {
    let plain = without_escapes(message).replace('\t', "        ");
    let plain = if plain.chars().any(|c| c.is_control() && c != '\n') {
        format!("[{} blob data]", bytes(message.len()))
    } else {
        plain
    };
    let lines: Vec<String> = plain.strip_suffix('\n').unwrap_or(&plain).split('\n').map(str::to_owned).collect();
    lines.into_iter()
}

/// `message` without escape sequences of terminals: colours (`ESC [ … letter`) and links (`ESC ] … BEL`).
fn without_escapes(message: &str) -> String {
    if !message.contains('\u{1b}') {
        return message.into();
    }
    let mut plain = String::with_capacity(message.len());
    let mut rest = message;
    while let Some(at) = rest.find('\u{1b}') {
        plain.push_str(&rest[..at]);
        let sequence = &rest[at + 1..];
        let end = match sequence.chars().next() {
            Some('[') => sequence[1..].find(|c: char| !(c.is_ascii_digit() || ";?:".contains(c))).map(|end| end + 1),
            Some(']') => {
                sequence.find(['\u{7}', '\u{1b}']).map(|end| end + usize::from(sequence[end..].starts_with('\u{1b}')))
            }
            _ => None,
        };
        match end.and_then(|end| sequence[end..].chars().next().map(|last| end + last.len_utf8())) {
            Some(end) => rest = &sequence[end..],
            None => {
                plain.push('\u{1b}');
                rest = sequence;
            }
        }
    }
    plain + rest
}

/// `12B`, `1.5K`.
fn bytes(count: usize) -> String {
    match count {
        0..1024 => format!("{count}B"),
        1024..1_048_576 => format!("{}.{}K", count / 1024, count * 10 / 1024 % 10),
        _ => format!("{}.{}M", count / 1_048_576, count * 10 / 1_048_576 % 10),
    }
}

/// The colour of a unit, the same in every run (FNV-1a).
fn colour(unit: &str) -> u8 {
    let hash = unit.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    COLOURS[hash as usize % COLOURS.len()]
}

fn priority_colour(priority: u8) -> u8 {
    match priority {
        0..=3 => 31,
        4 => 33,
        7.. => 90,
        _ => 0,
    }
}

fn paint(colour: u8, text: &str) -> String {
    if colour == 0 { text.into() } else { format!("\u{1b}[{colour}m{text}\u{1b}[0m") }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-21 10:05:01.201345 UTC.
    const AT: u64 = 1_795_255_501_201_345;

    fn entry(message: &str) -> JournalEntry {
        let line = serde_json::json!({
            "__CURSOR": "s=a;i=1", "__REALTIME_TIMESTAMP": AT.to_string(), "__MONOTONIC_TIMESTAMP": "5134123456",
            "_SYSTEMD_UNIT": "web@1.service", "MESSAGE": message, "_PID": "12", "SYSLOG_IDENTIFIER": "nginx",
            "_HOSTNAME": "n2", "_SOURCE_REALTIME_TIMESTAMP": (AT - 1_000_000).to_string(),
        });
        JournalEntry::parse(line.to_string().as_bytes(), true, |_| true).unwrap().1.unwrap()
    }

    fn shown(format: Format, alone: bool, message: &str) -> String {
        let widths = Widths { host: 2, unit: 6 };
        let today = day(AT, &TimeZone::UTC);
        let style = Style { format, alone, colours: false, zone: TimeZone::UTC, today, widths };
        let mut text = String::new();
        style.render("n2", &entry(message), &mut text);
        text
    }

    #[test]
    fn lines_of_many_name_their_host_and_unit() {
        use Format::{Cat, Short, ShortFull, ShortIso, ShortIsoPrecise, ShortMonotonic, ShortPrecise, ShortUnix};
        let cases = [
            (Short, "n2 web@1   10:05:01.201  GET /\n"),
            (ShortPrecise, "n2 web@1   Nov 21 10:05:01.201345  GET /\n"),
            (ShortIso, "n2 web@1   2026-11-21T10:05:01+0000  GET /\n"),
            (ShortIsoPrecise, "n2 web@1   2026-11-21T10:05:01.201345+0000  GET /\n"),
            (ShortFull, "n2 web@1   Sat 2026-11-21 10:05:01 UTC  GET /\n"),
            (ShortUnix, "n2 web@1   1795255501.201345  GET /\n"),
            (ShortMonotonic, "n2 web@1   [ 5134.123456]  GET /\n"),
            (Cat, "GET /\n"),
        ];
        for (format, line) in cases {
            assert_eq!(shown(format, false, "GET /"), line, "{format:?}");
        }
        assert_eq!(shown(Short, false, "one\ntwo\n"), "n2 web@1   10:05:01.201  one\nn2 web@1   10:05:01.201  two\n");
    }

    #[test]
    fn alone_it_is_journalctls_line() {
        assert_eq!(shown(Format::Short, true, "GET /"), "Nov 21 10:05:00 n2 nginx[12]: GET /\n");
        assert_eq!(
            shown(Format::ShortUnix, true, "one\ntwo"),
            "1795255500.201345 n2 nginx[12]: one\n                                two\n"
        );
    }

    #[test]
    fn other_days_are_named() {
        let style = Style {
            format: Format::Short,
            alone: false,
            colours: false,
            zone: TimeZone::UTC,
            today: day(AT + 86_400_000_000, &TimeZone::UTC),
            widths: Widths::default(),
        };
        let mut text = String::new();
        style.render("n2", &entry("x"), &mut text);
        assert_eq!(text, "n2 web@1  Nov 21 10:05:01.201  x\n");
    }

    #[test]
    fn json_has_the_entry_and_where_it_is_from() {
        let merged: serde_json::Value = serde_json::from_str(&shown(Format::Json, false, "a\"b\n")).unwrap();
        assert_eq!((&merged["host"], &merged["unit"]), (&"n2".into(), &"web@1.service".into()));
        assert_eq!((&merged["MESSAGE"], &merged["_PID"]), (&"a\"b\n".into(), &"12".into()));
        let alone: serde_json::Value = serde_json::from_str(&shown(Format::Json, true, "x")).unwrap();
        assert_eq!((alone.get("host"), &alone["MESSAGE"]), (None, &"x".into()));
    }

    #[test]
    fn messages_cant_talk_to_the_terminal() {
        let line = |message: &str| lines(message).collect::<Vec<_>>().join("|");
        let cases = [
            ("plain ünïcode", "plain ünïcode"),
            ("\u{1b}[31;1mred\u{1b}[0m", "red"),
            ("\u{1b}]8;;http://x\u{7}link", "link"),
            ("a\tb", "a        b"),
            ("bell\u{7}", "[5B blob data]"),
            ("half\u{1b}", "[5B blob data]"),
            ("half\u{1b}[3", "[7B blob data]"),
            ("\u{1b}[31é", ""),
            ("one\n\ntwo\n", "one||two"),
            ("", ""),
        ];
        for (message, shown) in cases {
            assert_eq!(line(message), shown, "{message:?}");
        }
        assert_eq!(line(&"\u{1}".repeat(1600)), "[1.5K blob data]");
    }

    #[test]
    fn no_field_can_talk_to_the_terminal() {
        let evil = "\u{1b}]0;owned\u{7}\u{9b}2J";
        let shown = |format, alone, host| {
            let entry = JournalEntry {
                identifier: Some(evil.into()),
                pid: Some(evil.into()),
                hostname: Some(evil.into()),
                ..entry("GET /")
            };
            let today = day(AT, &TimeZone::UTC);
            let style = Style { format, alone, colours: false, zone: TimeZone::UTC, today, widths: Widths::default() };
            let mut text = String::new();
            style.render(host, &entry, &mut text);
            text
        };
        assert_eq!(shown(Format::Short, true, "n2"), "Nov 21 10:05:00 unknown: GET /\n");
        assert_eq!(shown(Format::Short, false, evil), "?]0;owned??2J web@1  10:05:01.201  GET /\n");
        assert_eq!(shown(Format::Cat, true, evil), "GET /\n");
    }

    #[test]
    fn colours_are_a_units_own_and_only_for_eyes() {
        assert_eq!(colour("web@1.service"), colour("web@1.service"));
        let used: std::collections::BTreeSet<u8> = (0..50).map(|i| colour(&format!("web@{i}.service"))).collect();
        assert!(used.len() > 5, "{used:?}");
        let style = Style {
            format: Format::Short,
            alone: false,
            colours: true,
            zone: TimeZone::UTC,
            today: day(AT, &TimeZone::UTC),
            widths: Widths { host: 3, unit: 0 },
        };
        let mut text = "before\n".to_owned();
        style.render("n2", &entry("x"), &mut text);
        let number = colour("web@1.service");
        assert_eq!(text, format!("before\n\u{1b}[{number}mn2  web@1\u{1b}[0m  10:05:01.201  x\n"));
    }
}
