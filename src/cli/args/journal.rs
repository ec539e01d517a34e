//! The options of `journal`, which are journalctl's.

use clap::builder::PossibleValue;
use clap::{Args, ValueEnum};

use crate::journal::{Format, Query};

/// `journal`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "For one unit on one host this is journalctl's own output. Otherwise the entries of all hosts are \
        merged in the order of their times, each line with its host and unit, and --output=json adds `host` and `unit` \
        to each entry."
)]
pub(in crate::cli) struct Journal {
    /// Names of units, templates (web@.service is all its instances), or quoted patterns of names: 'web@*'
    #[arg(value_name = "UNIT", required_unless_present = "also")]
    units: Vec<String>,
    /// The same, as journalctl has it
    #[arg(long = "unit", short = 'u', value_name = "UNIT", hide = true)]
    also: Vec<String>,
    /// Follow new entries, wherever the units move, until Ctrl-C
    #[arg(long, short = 'f')]
    pub(in crate::cli) follow: bool,
    /// The last N entries, of all units together; `all` for all of them. 10, or all with --since or --until
    #[arg(long, short = 'n', value_name = "N", value_parser = lines)]
    pub(in crate::cli) lines: Option<Lines>,
    /// Only entries from this time on, as journalctl understands it: -1h, today, '2026-11-21 10:00'
    #[arg(long, short = 'S', value_name = "TIME", allow_hyphen_values = true)]
    pub(in crate::cli) since: Option<String>,
    /// Only entries up to this time
    #[arg(long, short = 'U', value_name = "TIME", allow_hyphen_values = true)]
    pub(in crate::cli) until: Option<String>,
    /// Only entries of this priority or higher, or of this range: warning, err..alert
    #[arg(long, short = 'p', value_name = "PRIORITY")]
    pub(in crate::cli) priority: Option<String>,
    /// Only entries whose message matches this regular expression
    #[arg(long, short = 'g', value_name = "PATTERN", allow_hyphen_values = true)]
    pub(in crate::cli) grep: Option<String>,
    /// How to print entries
    #[arg(long, short = 'o', value_name = "FORMAT", value_enum, default_value_t = Format::Short)]
    pub(in crate::cli) output: Format,
    /// Run journalctl with sudo on the hosts
    #[arg(long)]
    pub(in crate::cli) sudo: bool,
}

impl ValueEnum for Format {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let help = match self {
            Self::Short => "Lines for people",
            Self::ShortPrecise => "With microseconds",
            Self::ShortIso => "With ISO 8601 times",
            Self::ShortIsoPrecise => "With ISO 8601 times and microseconds",
            Self::ShortFull => "With weekday, year and time zone",
            Self::ShortMonotonic => "With the seconds since each host's boot",
            Self::ShortUnix => "With the seconds since 1970",
            Self::Cat => "Messages only",
            Self::Json => "A JSON object for each entry, one a line",
            Self::Verbose => "All fields; of one unit, without --follow, as all that follow",
            Self::Export => "For systemd-journal-remote",
            Self::JsonPretty => "JSON on several lines",
            Self::JsonSse => "JSON as server-sent events",
            Self::JsonSeq => "JSON as a text sequence (RFC 7464)",
            Self::WithUnit => "With the unit's name",
        };
        Some(PossibleValue::new(self.as_str()).help(help))
    }
}

/// How many entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) struct Lines(Option<usize>);

fn lines(text: &str) -> Result<Lines, String> {
    match text {
        "all" => Ok(Lines(None)),
        text => text.parse().map(|lines| Lines(Some(lines))).map_err(|_| "it must be a number, or `all`".into()),
    }
}

impl Journal {
    /// The units that are named.
    pub(in crate::cli) fn units(&self) -> Vec<String> {
        self.units.iter().chain(&self.also).cloned().collect()
    }

    /// What these options ask of the journals.
    pub(in crate::cli) fn query(&self) -> Query {
        Query {
            follow: self.follow,
            lines: self.lines(),
            since: self.since.clone(),
            until: self.until.clone(),
            priority: self.priority.clone(),
            grep: self.grep.clone(),
            format: self.output,
            sudo: self.sudo,
        }
    }

    /// The number of entries to begin with; `None` for all.
    fn lines(&self) -> Option<usize> {
        match self.lines {
            Some(Lines(lines)) => lines,
            None if self.since.is_some() || self.until.is_some() => None,
            None => Some(10),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use crate::cli::args::{Cli, Command};

    #[test]
    fn units_are_named_as_with_journalctl_too() {
        for line in ["a b", "-u a -u b", "a --unit=b"] {
            let words = ["fleetctl", "journal"].into_iter().chain(line.split(' '));
            match Cli::parse_from(words).command {
                Some(Command::Journal(journal)) => assert_eq!(journal.units(), ["a", "b"], "{line}"),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn ten_lines_or_all_of_a_time() {
        let lines = |options: &str| {
            let words = ["fleetctl", "journal"].into_iter().chain(options.split_whitespace());
            match Cli::parse_from(words).command {
                Some(Command::Journal(journal)) => journal.query().lines,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!((lines("a"), lines("--lines 3 a"), lines("--lines all a")), (Some(10), Some(3), None));
        assert_eq!(
            (lines("--since -1h a"), lines("--since -1h --lines 2 a"), lines("--until -1h a")),
            (None, Some(2), None)
        );
    }
}
