//! What is asked of journalctl on a host: its command lines. Pure. Owns every option that is passed; runs nothing.

use std::ops::RangeInclusive;

use super::entry::FIELDS;
use crate::cli::args::{Journal, JournalFormat};

/// Ends the line that tells the host's time, before its entries.
pub(super) const NOW: &str = "ns now";

/// Which entries, of which units soever.
#[derive(Debug, Clone)]
pub(super) struct Query {
    /// The last so many; `None` for all.
    pub(super) lines: Option<usize>,
    since: Option<String>,
    /// What goes with every request, also after a connection has dropped.
    always: Vec<String>,
    priority: Option<String>,
    /// Only entries that match a pattern.
    pub(super) grep: bool,
    /// A span of time is asked for.
    timed: bool,
    sudo: bool,
    /// The lines of the entries are printed.
    pub(super) raw: bool,
}

/// Where in a host's journal to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start<'a> {
    /// Where the user said.
    AsAsked,
    /// At the entry with this cursor. Not after it: journalctl then skips an entry, and if the one meant is gone, or
    /// another unit's, that is one too many.
    At(&'a str),
    /// At this time, µs since the epoch by the host's clock.
    Since(u64),
}

impl Query {
    /// What the command line says. Without a number of lines the last 10, or all from a time on.
    pub(super) fn new(args: &Journal) -> Self {
        let mut always = Vec::new();
        for (option, value) in [("until", &args.until), ("grep", &args.grep)] {
            always.extend(value.as_ref().map(|value| format!("--{option}={value}")));
        }
        Self {
            lines: args.lines(),
            since: args.since.clone(),
            always,
            priority: args.priority.clone(),
            grep: args.grep.is_some(),
            timed: args.since.is_some() || args.until.is_some(),
            sudo: args.sudo,
            raw: args.output == JournalFormat::Json,
        }
    }

    /// Entries of `units` up to now.
    pub(super) fn read<'a>(&self, start: Start<'_>, units: impl Iterator<Item = &'a str>) -> Vec<String> {
        let mut argv = self.program();
        argv.extend(self.options(start, units));
        argv
    }

    /// All entries from `start` on, for ever; which of them are wanted is for whoever reads them to say
    /// ([`Query::admits`]).
    ///
    /// journalctl can pick units and priorities itself, and then loses entries now and then: it looks through the
    /// indexes of what it was asked for one after the other, and where an entry is added to one that it has already
    /// seen and a later entry to one that it hasn't, it goes on behind the later one. All entries are one index.
    /// (systemd 252, seven units with 100 lines a second each, on a machine with more to do than processors: of 28,000
    /// lines one that picked showed 27,866, one that didn't all.)
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

    /// The journal's last entry, whoever's it is; then the host's time; then, if there are `units`, their entries.
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

    /// Whether `code` is how journalctl says that nothing matches the pattern: silently, as grep(1) does.
    pub(super) fn is_no_match(&self, code: u8, silent: bool) -> bool {
        self.grep && code == 1 && silent
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
        if !self.raw {
            options.push(format!("--output-fields={FIELDS}"));
        }
        match start {
            Start::AsAsked => {
                options.extend(self.since.as_ref().map(|since| format!("--since={since}")));
                // With a pattern, journalctl takes the last lines before it looks for the pattern, or turns them round.
                // With a time, before systemd 254, it takes the first lines after --since, or looks for the last ones
                // after --until.
                let lines = self.lines.filter(|_| !self.grep && !self.timed);
                options.push(lines.map_or("--lines=all".into(), |lines| format!("--lines={lines}")));
            }
            Start::At(cursor) => options.extend([format!("--cursor={cursor}"), "--lines=all".into()]),
            Start::Since(at) => {
                options.extend([format!("--since=@{}.{:06}", at / 1_000_000, at % 1_000_000), "--lines=all".into()]);
            }
        }
        options.extend(self.always.iter().cloned());
        options
    }
}

/// What `--priority` means: a level and all that are worse, or all from one to another. `None` for what journalctl
/// refuses.
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

/// What journalctl itself is to print, of one unit: `fleetctl` only passes it on.
pub(super) fn alone(args: &Journal, unit: &str) -> Vec<String> {
    let mut argv: Vec<String> = if args.sudo { vec!["sudo".into()] } else { vec![] };
    argv.extend(["journalctl".into(), "--no-pager".into(), format!("--unit={unit}")]);
    argv.push(args.lines().map_or("--lines=all".into(), |lines| format!("--lines={lines}")));
    argv.push(format!("--output={}", args.output.as_str()));
    for (option, value) in
        [("since", &args.since), ("until", &args.until), ("priority", &args.priority), ("grep", &args.grep)]
    {
        argv.extend(value.as_ref().map(|value| format!("--{option}={value}")));
    }
    argv
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(options: &str) -> Journal {
        crate::cli::args::journal(options)
    }

    fn shown(argv: &[String]) -> String {
        argv.join(" ").replace(&format!("--no-pager --output=json --all --output-fields={FIELDS}"), "…")
    }

    #[test]
    fn what_selects_is_asked_each_time_and_where_to_begin_once() {
        let query = Query::new(&args("--since -1h --until -5m --priority err --grep x --lines 5 a"));
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
        assert_eq!(query.lines, Some(5));
        for timed in ["--since -1h -n 5 a", "--until -5m -n 5 a"] {
            let argv = shown(&Query::new(&args(timed)).read(Start::AsAsked, units()));
            assert!(argv.contains("--lines=all"), "the last 5 are counted here, of all hosts: {argv}");
        }
    }

    #[test]
    fn the_first_request_asks_where_and_when_it_is() {
        let query = Query::new(&args("--sudo a"));
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
            let query = Query::new(&args(&format!("--priority {priority} a")));
            (0..8).filter(|level| query.admits(*level)).collect::<Vec<u8>>()
        };
        assert_eq!((admitted("err"), admitted("3")), (vec![0, 1, 2, 3], vec![0, 1, 2, 3]));
        assert_eq!((admitted("warning..crit"), admitted("1..2")), (vec![2, 3, 4], vec![1, 2]));
        assert!((0..8).all(|level| Query::new(&args("a")).admits(level)));
    }

    #[test]
    fn ten_lines_or_all_of_a_time() {
        let lines = |options: &str| Query::new(&args(options)).lines;
        assert_eq!((lines("a"), lines("--lines 3 a"), lines("--lines all a")), (Some(10), Some(3), None));
        assert_eq!(
            (lines("--since -1h a"), lines("--since -1h --lines 2 a"), lines("--until -1h a")),
            (None, Some(2), None)
        );
    }

    #[test]
    fn one_unit_is_journalctls_affair() {
        assert_eq!(
            alone(&args("--output verbose --grep x -n 3 --sudo a"), "a.service").join(" "),
            "sudo journalctl --no-pager --unit=a.service --lines=3 --output=verbose --grep=x"
        );
    }
}
