//! The command lines of journalctl on a host. Pure. Owns every option that is passed; runs nothing.

use std::ops::RangeInclusive;

use super::entry::FIELDS;

/// Marks the line with the host's time, which precedes its entries.
pub(super) const NOW: &str = "ns now";

/// Which entries to show, and how. Independent of units.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// Continue with new entries as they are logged.
    pub follow: bool,
    /// The number of last entries, of all units together; `None` for all.
    pub lines: Option<usize>,
    /// Only entries from this time on, in journalctl's format.
    pub since: Option<String>,
    /// Only entries up to this time.
    pub until: Option<String>,
    /// A level and all that are more severe, or a range: `warning`, `err..alert`.
    pub priority: Option<String>,
    /// Only entries whose message matches this regular expression.
    pub grep: Option<String>,
    /// The output format.
    pub format: Format,
    /// Run journalctl with sudo.
    pub sudo: bool,
}

/// journalctl's output formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Lines for people.
    #[default]
    Short,
    /// With microseconds.
    ShortPrecise,
    /// With ISO 8601 times.
    ShortIso,
    /// With ISO 8601 times and microseconds.
    ShortIsoPrecise,
    /// With weekday, year and time zone.
    ShortFull,
    /// With the seconds since the host's boot.
    ShortMonotonic,
    /// With the seconds since the epoch.
    ShortUnix,
    /// Messages only.
    Cat,
    /// A JSON object on one line for each entry.
    Json,
    /// All fields.
    Verbose,
    /// For systemd-journal-remote.
    Export,
    /// JSON on several lines.
    JsonPretty,
    /// JSON as server-sent events.
    JsonSse,
    /// JSON as a text sequence (RFC 7464).
    JsonSeq,
    /// With the unit's name.
    WithUnit,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::Short,
        Self::ShortPrecise,
        Self::ShortIso,
        Self::ShortIsoPrecise,
        Self::ShortFull,
        Self::ShortMonotonic,
        Self::ShortUnix,
        Self::Cat,
        Self::Json,
        Self::Verbose,
        Self::Export,
        Self::JsonPretty,
        Self::JsonSse,
        Self::JsonSeq,
        Self::WithUnit,
    ];

    /// journalctl's name for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Short => "short",
            Self::ShortPrecise => "short-precise",
            Self::ShortIso => "short-iso",
            Self::ShortIsoPrecise => "short-iso-precise",
            Self::ShortFull => "short-full",
            Self::ShortMonotonic => "short-monotonic",
            Self::ShortUnix => "short-unix",
            Self::Cat => "cat",
            Self::Json => "json",
            Self::Verbose => "verbose",
            Self::Export => "export",
            Self::JsonPretty => "json-pretty",
            Self::JsonSse => "json-sse",
            Self::JsonSeq => "json-seq",
            Self::WithUnit => "with-unit",
        }
    }

    /// Whether only journalctl itself can produce it.
    #[must_use]
    pub fn is_journalctls(self) -> bool {
        matches!(self, Self::Verbose | Self::Export | Self::JsonPretty | Self::JsonSse | Self::JsonSeq | Self::WithUnit)
    }
}

/// Where to begin in a host's journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start<'a> {
    /// As the user requested.
    AsAsked,
    /// At the entry with this cursor. Not after it: with `--after-cursor=` journalctl skips one entry, which may be the
    /// wrong one if the entry was deleted or belongs to another unit.
    At(&'a str),
    /// At this time, in µs since the epoch by the host's clock.
    Since(u64),
}

impl Query {
    /// Whether a time span is requested.
    pub(super) fn is_timed(&self) -> bool {
        self.since.is_some() || self.until.is_some()
    }

    /// Whether the lines of entries are printed themselves.
    pub(super) fn is_raw(&self) -> bool {
        self.format == Format::Json
    }

    /// Entries of `units` up to now.
    pub(super) fn read<'a>(&self, start: Start<'_>, units: impl Iterator<Item = &'a str>) -> Vec<String> {
        let mut argv = self.program();
        argv.extend(self.options(start, units));
        argv
    }

    /// All entries from `start` on, without end. The reader filters them ([`Query::admits`]).
    ///
    /// journalctl could filter by unit and priority, but then loses entries occasionally: it searches the index of each
    /// filter in turn, and if an entry is added to an index it has searched already, and a later one to an index it
    /// hasn't, it continues after the later one. Without a filter there is only one index. (With systemd 252, seven
    /// units with 100 lines/s each on an overloaded machine, journalctl with filters showed 27,866 of 28,000 lines, and
    /// without filters all.)
    pub(super) fn follow(&self, start: Start<'_>) -> Vec<String> {
        let mut argv = self.program();
        argv.extend(self.position(start));
        argv.extend(["--follow".into(), "--no-tail".into(), "--quiet".into()]);
        argv
    }

    /// Whether an entry of this priority is wanted.
    pub(super) fn admits(&self, priority: u8) -> bool {
        self.priority.as_deref().and_then(levels).is_none_or(|wanted| wanted.contains(&priority))
    }

    /// The journal's last entry, of any unit; then the host's time; then the entries of `units`, if there are any.
    pub(super) fn open<'a>(&self, start: Start<'_>, units: impl Iterator<Item = &'a str>) -> Vec<String> {
        let journalctl = self.program().join(" ");
        let mut units = units.peekable();
        let read = if units.peek().is_some() { format!("exec {journalctl} \"$@\"") } else { ":".into() };
        let last = "--quiet --no-pager --output=json --output-fields=PRIORITY --lines=1";
        let script = format!("{journalctl} {last}; date '+%s%N {NOW}'; {read}");
        let mut argv = vec!["sh".into(), "-c".into(), script, "journalctl".into()];
        argv.extend(self.options(start, units));
        argv
    }

    /// Whether `code` means that nothing matched the pattern: journalctl then prints nothing, as grep(1).
    pub(super) fn is_no_match(&self, code: u8, silent: bool) -> bool {
        self.grep.is_some() && code == 1 && silent
    }

    /// The command line for journalctl to show one unit by itself. Its output is passed on unchanged.
    pub(super) fn alone(&self, unit: &str) -> Vec<String> {
        let mut argv = self.program();
        argv.extend(["--no-pager".into(), format!("--unit={unit}")]);
        argv.push(self.lines.map_or("--lines=all".into(), |lines| format!("--lines={lines}")));
        argv.push(format!("--output={}", self.format.as_str()));
        for (option, value) in
            [("since", &self.since), ("until", &self.until), ("priority", &self.priority), ("grep", &self.grep)]
        {
            argv.extend(value.as_ref().map(|value| format!("--{option}={value}")));
        }
        argv
    }

    fn program(&self) -> Vec<String> {
        let words: &[&str] = if self.sudo { &["sudo", "journalctl"] } else { &["journalctl"] };
        words.iter().map(ToString::to_string).collect()
    }

    fn options<'a>(&self, start: Start<'_>, units: impl Iterator<Item = &'a str>) -> Vec<String> {
        let mut options = self.position(start);
        options.extend(self.priority.as_ref().map(|priority| format!("--priority={priority}")));
        options.extend(units.map(|unit| format!("--unit={unit}")));
        options
    }

    fn position(&self, start: Start<'_>) -> Vec<String> {
        let mut options: Vec<String> = ["--no-pager", "--output=json", "--all"].map(Into::into).into();
        if !self.is_raw() {
            options.push(format!("--output-fields={FIELDS}"));
        }
        match start {
            Start::AsAsked => {
                options.extend(self.since.as_ref().map(|since| format!("--since={since}")));
                // With a pattern, journalctl selects the last lines before it applies the pattern, or reverses them.
                // With a time, before systemd 254, it selects the first lines after --since, or searches for the last
                // ones after --until.
                let lines = self.lines.filter(|_| self.grep.is_none() && !self.is_timed());
                options.push(lines.map_or("--lines=all".into(), |lines| format!("--lines={lines}")));
            }
            Start::At(cursor) => options.extend([format!("--cursor={cursor}"), "--lines=all".into()]),
            Start::Since(at) => {
                options.extend([format!("--since=@{}.{:06}", at / 1_000_000, at % 1_000_000), "--lines=all".into()]);
            }
        }
        // Also after a reconnect.
        for (option, value) in [("until", &self.until), ("grep", &self.grep)] {
            options.extend(value.as_ref().map(|value| format!("--{option}={value}")));
        }
        options
    }
}

/// The priorities that `--priority` selects: a level and all that are more severe, or a range. `None` if journalctl
/// refuses it.
fn levels(text: &str) -> Option<RangeInclusive<u8>> {
    const NAMES: [&str; 8] = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];
    let level = |text: &str| {
        let number = NAMES.iter().position(|name| *name == text).or_else(|| text.parse().ok())?;
        u8::try_from(number).ok().filter(|number| usize::from(*number) < NAMES.len())
    };
    match text.split_once("..") {
        None => Some(0..=level(text)?),
        Some((from, to)) => {
            let (from, to) = (level(from)?, level(to)?);
            Some(from.min(to)..=from.max(to))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Option<String> {
        Some(text.into())
    }

    fn shown(argv: &[String]) -> String {
        argv.join(" ").replace(&format!("--no-pager --output=json --all --output-fields={FIELDS}"), "…")
    }

    #[test]
    fn what_selects_is_asked_each_time_and_where_to_begin_once() {
        let query = Query {
            since: text("-1h"),
            until: text("-5m"),
            priority: text("err"),
            grep: text("x"),
            lines: Some(5),
            ..Query::default()
        };
        let units = || ["a.service", "b.service"].into_iter();
        let always = "--until=-5m --grep=x --priority=err --unit=a.service --unit=b.service";
        assert_eq!(
            shown(&query.read(Start::AsAsked, units())),
            format!("journalctl … --since=-1h --lines=all {always}")
        );
        assert_eq!(
            shown(&query.follow(Start::At("s=1;i=2"))),
            "journalctl … --cursor=s=1;i=2 --lines=all --until=-5m --grep=x --follow --no-tail --quiet",
            "a journalctl that follows and picks units or priorities loses entries"
        );
        assert_eq!(
            shown(&query.read(Start::Since(1_000_002), units())),
            format!("journalctl … --since=@1.000002 --lines=all {always}")
        );
        for (since, until) in [(text("-1h"), None), (None, text("-5m"))] {
            let timed = Query { since, until, lines: Some(5), ..Query::default() };
            let argv = shown(&timed.read(Start::AsAsked, units()));
            assert!(argv.contains("--lines=all"), "the last 5 are counted here, of all hosts: {argv}");
        }
    }

    #[test]
    fn the_first_request_asks_where_and_when_it_is() {
        let query = Query { sudo: true, lines: Some(10), ..Query::default() };
        let argv = query.open(Start::AsAsked, ["a.service"].into_iter());
        assert_eq!(argv[..2], ["sh", "-c"]);
        assert!(
            argv[2].starts_with("sudo journalctl ") && argv[2].ends_with("exec sudo journalctl \"$@\""),
            "{argv:?}"
        );
        assert_eq!(shown(&argv[3..]), "journalctl … --lines=10 --unit=a.service");
        assert!(query.open(Start::AsAsked, [].into_iter())[2].ends_with("; :"));
    }

    #[test]
    fn priorities_are_journalctls() {
        let admitted = |priority: &str| {
            let query = Query { priority: text(priority), ..Query::default() };
            (0..8).filter(|level| query.admits(*level)).collect::<Vec<u8>>()
        };
        assert_eq!((admitted("err"), admitted("3")), (vec![0, 1, 2, 3], vec![0, 1, 2, 3]));
        assert_eq!((admitted("warning..crit"), admitted("1..2")), (vec![2, 3, 4], vec![1, 2]));
        assert!((0..8).all(|level| Query::default().admits(level)));
    }

    #[test]
    fn one_unit_is_journalctls_affair() {
        let query = Query { format: Format::Verbose, grep: text("x"), lines: Some(3), sudo: true, ..Query::default() };
        assert_eq!(
            query.alone("a.service").join(" "),
            "sudo journalctl --no-pager --unit=a.service --lines=3 --output=verbose --grep=x"
        );
    }
}
