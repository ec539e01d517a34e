//! The options of the commands that change units: `submit`, `load`, `start`, `restart`, `reset-failed`, `stop`,
//! `unload`, `destroy`, `scale` and `rollback`.

use std::time::Duration;

use clap::Args;

use super::OutputFormat;
use crate::cli::wait::Until;
use crate::model::placement::MAX_REPLICAS;

/// `submit`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Submit {
    #[command(flatten)]
    pub(in crate::cli) create: Create,
    /// With --replace of a template: also replace the file of its instances, where they run
    #[arg(long, requires = "replace")]
    pub(in crate::cli) instances: bool,
}

/// `start`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Start {
    #[command(flatten)]
    pub(in crate::cli) create: Create,
    /// Once they run, watch them for this long, and fail if one fails or is started again by systemd: 10s, 2m
    #[arg(long, value_name = "TIME", value_parser = time, conflicts_with = "no_block")]
    pub(in crate::cli) watch: Option<Duration>,
}

/// A time of whole seconds or minutes: `10s`, `2m`, `10`.
pub(super) fn time(text: &str) -> Result<Duration, String> {
    let (number, factor) = match text.strip_suffix('m') {
        Some(minutes) => (minutes, 60),
        None => (text.strip_suffix('s').unwrap_or(text), 1),
    };
    let seconds = number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
    seconds.filter(|seconds| *seconds > 0).map(Duration::from_secs).ok_or("must be a time such as 10s or 2m".into())
}

/// `load` and `start`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Create {
    /// Unit files, names of units, instances whose template the cluster has, or quoted patterns of names: 'web@*'
    #[arg(value_name = "UNIT", required = true)]
    pub(in crate::cli) units: Vec<String>,
    /// Replace units whose file differs from the one here
    #[arg(long)]
    pub(in crate::cli) replace: bool,
    /// Exit with 1 if a file differs from the cluster's and wasn't stored
    #[arg(long)]
    pub(in crate::cli) strict: bool,
    /// With --replace: replace running units together, not one after another
    #[arg(long, requires = "replace")]
    pub(in crate::cli) at_once: bool,
    /// Ignored: there are no signed units any more
    #[arg(long, hide = true)]
    pub(in crate::cli) sign: bool,
    #[command(flatten)]
    pub(in crate::cli) plan: PlanOnly,
    #[command(flatten)]
    pub(in crate::cli) block: Block,
    #[command(flatten)]
    pub(in crate::cli) output: OutputFormat,
}

/// `restart`, `reset-failed`, `stop` and `unload`; `destroy` has more.
#[derive(Debug, Args)]
pub(in crate::cli) struct Change {
    /// Names of units, or quoted patterns of names: 'web@*'
    #[arg(value_name = "UNIT", required = true)]
    pub(in crate::cli) units: Vec<String>,
    #[command(flatten)]
    pub(in crate::cli) plan: PlanOnly,
    #[command(flatten)]
    pub(in crate::cli) block: Block,
    #[command(flatten)]
    pub(in crate::cli) output: OutputFormat,
}

/// `destroy`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Destroy {
    #[command(flatten)]
    pub(in crate::cli) change: Change,
    /// Don't ask before a pattern destroys several units; without a terminal, nothing is asked
    #[arg(long)]
    pub(in crate::cli) yes: bool,
}

/// `rollback`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Rollback {
    /// The unit, or the template of a set, whose members go back with it
    #[arg(value_name = "UNIT")]
    pub(in crate::cli) unit: String,
    /// The number of the text in `fleetctl history`; otherwise the last one that differs from the present one
    #[arg(value_name = "N")]
    pub(in crate::cli) revision: Option<u64>,
    /// Leave other units as they are, although their files were replaced in the same batch
    #[arg(long)]
    pub(in crate::cli) only: bool,
    /// Run the hooks of the files that they go back to: the units of Before= and After= in [X-Rollout]
    #[arg(long)]
    pub(in crate::cli) hooks: bool,
    /// Replace all running members of a set together, not one after another
    #[arg(long)]
    pub(in crate::cli) at_once: bool,
    #[command(flatten)]
    pub(in crate::cli) plan: PlanOnly,
    #[command(flatten)]
    pub(in crate::cli) block: Block,
    #[command(flatten)]
    pub(in crate::cli) output: OutputFormat,
}

/// `scale`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Scale {
    /// The set's template: web@, web@.service
    #[arg(value_name = "NAME")]
    pub(in crate::cli) name: String,
    /// How many members it should have, 0 to 1000; +N or -N: so many more or fewer than now
    #[arg(value_name = "COUNT", value_parser = number, allow_hyphen_values = true)]
    pub(in crate::cli) count: Count,
    #[command(flatten)]
    pub(in crate::cli) plan: PlanOnly,
    #[command(flatten)]
    pub(in crate::cli) block: Block,
    #[command(flatten)]
    pub(in crate::cli) output: OutputFormat,
}

/// How many members a set should have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Count {
    /// So many.
    To(u32),
    /// So many more than now.
    More(u32),
    /// So many fewer than now.
    Fewer(u32),
}

fn number(text: &str) -> Result<Count, String> {
    let (count, digits): (fn(u32) -> Count, &str) = match (text.strip_prefix('+'), text.strip_prefix('-')) {
        (Some(more), _) => (Count::More, more),
        (_, Some(fewer)) => (Count::Fewer, fewer),
        _ => (Count::To, text),
    };
    let number = Some(digits).filter(|digits| digits.bytes().all(|b| b.is_ascii_digit())).and_then(|d| d.parse().ok());
    let number = number.filter(|number| *number <= MAX_REPLICAS);
    number.map(count).ok_or_else(|| format!("it must be a number from 0 to {MAX_REPLICAS}, or such as +2 or -1"))
}

/// Whether the command is carried out.
#[derive(Debug, Clone, Copy, Args)]
pub(in crate::cli) struct PlanOnly {
    /// Only print what would happen; the exit status is 3 if anything would
    #[arg(long)]
    pub(in crate::cli) plan: bool,
}

/// How long to wait until it is done.
#[derive(Debug, Args)]
pub(in crate::cli) struct Block {
    /// Don't wait until it is done
    #[arg(long)]
    pub(in crate::cli) no_block: bool,
    /// Wait at most N times 2 seconds; 0 waits without limit
    #[arg(long, value_name = "N", default_value = "0", value_parser = super::count)]
    pub(in crate::cli) block_attempts: u32,
    /// Wait at most this long in all, such as 60s or 5m
    #[arg(long, value_name = "TIME", value_parser = time, conflicts_with_all = ["no_block", "block_attempts"])]
    pub(in crate::cli) timeout: Option<Duration>,
    /// When a unit with [X-Health] counts as started: when it is ready, or only active
    #[arg(long, value_name = "STATE", value_enum, default_value_t = Until::Ready, hide_short_help = true)]
    pub(in crate::cli) wait: Until,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_a_number_or_a_difference() {
        for (text, expected) in [
            ("0", Some(Count::To(0))),
            ("1000", Some(Count::To(1000))),
            ("+2", Some(Count::More(2))),
            ("-1", Some(Count::Fewer(1))),
        ] {
            assert_eq!(number(text).ok(), expected, "{text}");
        }
        for wrong in ["", "+", "-", "--1", "+-1", "1001", "1.5", "many", "99999999999"] {
            assert!(number(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_are_seconds_or_minutes() {
        for (text, expected) in [("10s", Some(10)), ("2m", Some(120)), ("7", Some(7))] {
            assert_eq!(time(text).ok(), expected.map(Duration::from_secs), "{text}");
        }
        for wrong in ["", "s", "0", "0s", "-1", "1h", "1.5s", "99999999999999999999", "999999999999999999m"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }
}
