//! `[X-Rollout]`: how a new file gets through to the members of a set, or to a unit. Owns the options, their bounds and
//! their defaults. `plan::pace` carries a policy out.

use std::time::Duration;

use crate::model::file::{UnitFile, UnitOption};
use crate::model::name::UnitName;
use crate::model::section::{Problem, Section, boolean};
use crate::model::span;

/// The section's name.
pub const SECTION: &str = "X-Rollout";

/// Its options.
const OPTIONS: Section = Section {
    name: SECTION,
    options: &[
        "Parallel",
        "Spare",
        "Canary",
        "Preview",
        "Promote",
        "HealthySec",
        "DeadlineSec",
        "OnFailure",
        "Before",
        "After",
    ],
    legacy: &[],
    specifiers: false,
    plain: &[],
};

/// The shortest deadline: a member that doesn't run by then has never had a chance.
const SHORTEST_DEADLINE: Duration = Duration::from_secs(1);

/// How many units `Before=` can name, and `After=`.
const MAX_HOOKS: usize = 20;

/// How a rollout goes on from member to member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// `Parallel=`: how many members may be unavailable at a time because of the rollout. At least 1.
    pub parallel: Amount,
    /// `Spare=`: how many extra members start first with the new file, and stay until the rollout has ended.
    pub spare: Amount,
    /// `Canary=`: how many members get the new file first.
    pub canary: Amount,
    /// `Preview=`: whether the canaries get no new connections until they are promoted.
    pub preview: bool,
    /// `Promote=`: when the others follow the canaries.
    pub promote: Promote,
    /// `HealthySec=`: how long a member must be healthy without a break.
    pub healthy: Duration,
    /// `DeadlineSec=`: how long after its start a member may take until it has been healthy for so long.
    /// [`Duration::MAX`]: for ever.
    pub deadline: Duration,
    /// `OnFailure=`: what follows if a member fails.
    pub on_failure: OnFailure,
    /// `Before=`: the units that run once before a member gets the new file, in their order.
    pub before: Vec<UnitName>,
    /// `After=`: the units that run once when all members have it.
    pub after: Vec<UnitName>,
}

/// A number of members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// So many.
    Number(u32),
    /// So many of a hundred, at most 100.
    Percent(u32),
}

impl Amount {
    /// How many that are of `all` members, at least 1; fractions are rounded down.
    #[must_use]
    pub fn at_least_one_of(self, all: usize) -> usize {
        let amount = match self {
            Self::Number(number) => number as usize,
            Self::Percent(percent) => all.saturating_mul(percent as usize) / 100,
        };
        amount.max(1)
    }

    /// How many that are of `all` members, at most all; fractions are rounded up.
    #[must_use]
    pub fn at_most_all_of(self, all: usize) -> usize {
        match self {
            Self::Number(number) => all.min(number as usize),
            Self::Percent(percent) => all.saturating_mul(percent as usize).div_ceil(100),
        }
    }
}

/// When a rollout goes on beyond its canaries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promote {
    /// When somebody asks for it.
    Manual,
    /// When they have been healthy for `HealthySec=`, and for so long after that; zero is `auto`.
    After(Duration),
}

/// What follows if a member fails with the new file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// The members that have the new file go back to the one before.
    Revert,
    /// Nobody else gets the new file until somebody decides.
    Pause,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            parallel: Amount::Number(1),
            spare: Amount::Number(0),
            canary: Amount::Number(0),
            preview: false,
            promote: Promote::Manual,
            healthy: Duration::from_secs(10),
            deadline: Duration::from_secs(600),
            on_failure: OnFailure::Revert,
            before: Vec::new(),
            after: Vec::new(),
        }
    }
}

impl Policy {
    /// The `[X-Rollout]` section of `file`; `None` if there is none.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(file: &UnitFile) -> Result<Option<Self>, Vec<Problem>> {
        let (policy, mut problems) = Self::read(file);
        if problems.is_empty() {
            let contradictions = |policy: &Self| [policy.never_passes(file), policy.previews_nothing(file)];
            problems.extend(policy.iter().flat_map(contradictions).flatten());
        }
        if problems.is_empty() { Ok(policy) } else { Err(problems) }
    }

    /// The section of a file that is in the store; `None` if there is none. An option that this version can't use has
    /// its default: the file may be from a later version, or was stored by one that ignored the section.
    #[must_use]
    pub fn stored(file: &UnitFile) -> Option<Self> {
        Self::read(file).0
    }

    /// The same, without `Before=` and `After=`.
    #[must_use]
    pub fn without_hooks(self) -> Self {
        Self { before: Vec::new(), after: Vec::new(), ..self }
    }

    fn read(file: &UnitFile) -> (Option<Self>, Vec<Problem>) {
        let mut policy = Self::default();
        let problems = OPTIONS.read(file, |option, value| {
            let taken = match option {
                "Parallel" => parallel(value).map(|parallel| policy.parallel = parallel),
                "Spare" => some(value).map(|spare| policy.spare = spare),
                "Canary" => some(value).map(|canary| policy.canary = canary),
                "Preview" => yes_or_no(value).map(|preview| policy.preview = preview),
                "Promote" => promote(value).map(|promote| policy.promote = promote),
                "HealthySec" => healthy(value).map(|healthy| policy.healthy = healthy),
                "DeadlineSec" => deadline(value).map(|deadline| policy.deadline = deadline),
                "Before" => hooks(value).and_then(|units| add(&mut policy.before, units)),
                "After" => hooks(value).and_then(|units| add(&mut policy.after, units)),
                _ => on_failure(value).map(|on_failure| policy.on_failure = on_failure),
            };
            taken.map_err(|why| format!("`{option}={value}`: {why}"))
        });
        (file.section(SECTION).next().map(|_| policy), problems)
    }

    /// That a member can't be healthy for as long as it must before its deadline.
    fn never_passes(&self, file: &UnitFile) -> Option<Problem> {
        let last = |name: &str| file.section(SECTION).filter(|option| option.name == name).last();
        let at = last("HealthySec").or_else(|| last("DeadlineSec")).filter(|_| self.healthy > self.deadline)?;
        let written = |name: &str, default: &str| last(name).map_or(default, |option| &option.value).to_owned();
        let (healthy, deadline) = (written("HealthySec", "10"), written("DeadlineSec", "10min"));
        let what =
            format!("`HealthySec={healthy}` is longer than `DeadlineSec={deadline}`: no member could ever be in time");
        Some(Problem { line: at.line, what })
    }

    /// That there are no canaries to preview.
    fn previews_nothing(&self, file: &UnitFile) -> Option<Problem> {
        let is_none = matches!(self.canary, Amount::Number(0) | Amount::Percent(0));
        let at = file.section(SECTION).filter(|option| option.name == "Preview").last()?;
        let what = format!("`Preview={}` without `Canary=`: there is nothing to preview", at.value);
        (self.preview && is_none).then_some(Problem { line: at.line, what })
    }
}

fn amount(value: &str) -> Option<Amount> {
    let digits = |text: &str| Some(text).filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?.parse::<u32>().ok();
    match value.strip_suffix('%') {
        Some(percent) => digits(percent).filter(|percent| *percent <= 100).map(Amount::Percent),
        None => digits(value).map(Amount::Number),
    }
}

fn parallel(value: &str) -> Result<Amount, String> {
    match amount(value) {
        Some(Amount::Number(0) | Amount::Percent(0)) => Err("must be at least 1".into()),
        parsed => parsed.ok_or_else(|| "must be a number such as 2, or a share of the members such as 25%".into()),
    }
}

/// Possibly none.
fn some(value: &str) -> Result<Amount, String> {
    amount(value).ok_or_else(|| "must be a number such as 1, or a share of the members such as 10%".into())
}

fn yes_or_no(value: &str) -> Result<bool, String> {
    boolean(value).ok_or_else(|| "must be yes or no".into())
}

fn promote(value: &str) -> Result<Promote, String> {
    match value {
        "manual" => Ok(Promote::Manual),
        "auto" => Ok(Promote::After(Duration::ZERO)),
        _ => finite(value).map(Promote::After).ok_or_else(|| "must be manual, auto, or a time such as 10min".into()),
    }
}

fn healthy(value: &str) -> Result<Duration, String> {
    finite(value).ok_or_else(|| "must be a time like 5, 500ms or 1min 30s".into())
}

fn deadline(value: &str) -> Result<Duration, String> {
    let time = span::parse(value).ok_or("must be a time like 5min or 1h 30min, or infinity")?;
    if time < SHORTEST_DEADLINE { Err("must be at least 1s".into()) } else { Ok(time) }
}

fn on_failure(value: &str) -> Result<OnFailure, String> {
    match value {
        "revert" => Ok(OnFailure::Revert),
        "pause" => Ok(OnFailure::Pause),
        _ => Err("must be revert or pause".into()),
    }
}

/// The units that the section of `file` names as hooks, each with its option.
pub fn hooks_of(file: &UnitFile) -> impl Iterator<Item = (&UnitOption, UnitName)> {
    let options = file.section(SECTION).filter(|option| matches!(&*option.name, "Before" | "After"));
    options.flat_map(|option| {
        let units = option.value.split_ascii_whitespace().filter_map(|unit| unit.parse().ok());
        units.map(move |unit| (option, unit))
    })
}

/// Units, separated by blanks.
fn hooks(value: &str) -> Result<Vec<UnitName>, String> {
    let units: Result<Vec<UnitName>, String> = value.split_ascii_whitespace().map(hook).collect();
    units.and_then(|units| if units.is_empty() { Err("must name a unit".into()) } else { Ok(units) })
}

fn add(hooks: &mut Vec<UnitName>, units: Vec<UnitName>) -> Result<(), String> {
    hooks.extend(units);
    if hooks.len() > MAX_HOOKS { Err(format!("at most {MAX_HOOKS} units can be named")) } else { Ok(()) }
}

fn hook(text: &str) -> Result<UnitName, String> {
    let name: UnitName = text.parse().map_err(|error| format!("{error}"))?;
    match name.kind() {
        _ if name.is_template() => Err(format!("{name} is a template; name an instance")),
        "service" => Ok(name),
        _ => Err(format!("{name} is no service")),
    }
}

fn finite(value: &str) -> Option<Duration> {
    span::parse(value).filter(|time| *time < Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(section: &str) -> UnitFile {
        UnitFile::parse(format!("[Service]\nExecStart=/bin/true\n[X-Rollout]\n{section}\n").as_bytes()).unwrap()
    }

    fn problems(section: &str) -> String {
        let problems = Policy::parse(&file(section)).unwrap_err();
        problems.iter().map(|problem| format!("{}: {problem}", problem.line)).collect::<Vec<_>>().join("; ")
    }

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn options_are_read_and_have_defaults() {
        assert_eq!(Policy::parse(&file("")), Ok(None));
        let of = |section: &str| Policy::parse(&file(section)).unwrap().unwrap();
        assert_eq!(of("OnFailure=revert"), Policy::default());
        let all = "Parallel=3\nParallel=25%\nSpare=50%\nCanary=1\nPreview=yes\nPromote=1h 30min\nHealthySec=0\n\
                   DeadlineSec=infinity\nOnFailure=pause\nBefore=web-a.service\nBefore=web-b@1.service\n\
                   After=web-c.service";
        let expected = Policy {
            parallel: Amount::Percent(25),
            spare: Amount::Percent(50),
            canary: Amount::Number(1),
            preview: true,
            promote: Promote::After(secs(5400)),
            healthy: Duration::ZERO,
            deadline: Duration::MAX,
            on_failure: OnFailure::Pause,
            before: vec!["web-a.service".parse().unwrap(), "web-b@1.service".parse().unwrap()],
            after: vec!["web-c.service".parse().unwrap()],
        };
        assert_eq!(of(all), expected);
        assert_eq!(of("Promote=manual").promote, Promote::Manual);
        assert_eq!(of("Promote=auto").promote, Promote::After(Duration::ZERO));
        assert_eq!(of("Canary=100%\nParallel=100%").canary, Amount::Percent(100));
        let equal = of("HealthySec=1min\nDeadlineSec=60");
        assert_eq!((equal.healthy, equal.deadline), (secs(60), secs(60)));
    }

    #[test]
    fn every_problem_is_named_with_its_line() {
        let share = "must be a number such as 2, or a share of the members such as 25%";
        let first = "must be a number such as 1, or a share of the members such as 10%";
        let no_type = "it must end in .service, .socket, .timer or another of systemd's unit types";
        let never = |written: &str| format!("{written}: no member could ever be in time");
        for (section, expected) in [
            ("Parallel=0", "4: `Parallel=0`: must be at least 1".into()),
            ("Parallel=0%", "4: `Parallel=0%`: must be at least 1".into()),
            ("Parallel=-1", format!("4: `Parallel=-1`: {share}")),
            ("Parallel=", format!("4: `Parallel=`: {share}")),
            ("Parallel=%", format!("4: `Parallel=%`: {share}")),
            ("Parallel=1.5", format!("4: `Parallel=1.5`: {share}")),
            ("Parallel=101%", format!("4: `Parallel=101%`: {share}")),
            ("Parallel=99999999999", format!("4: `Parallel=99999999999`: {share}")),
            ("Canary=one", format!("4: `Canary=one`: {first}")),
            ("Promote=soon", "4: `Promote=soon`: must be manual, auto, or a time such as 10min".into()),
            ("Promote=infinity", "4: `Promote=infinity`: must be manual, auto, or a time such as 10min".into()),
            ("HealthySec=infinity", "4: `HealthySec=infinity`: must be a time like 5, 500ms or 1min 30s".into()),
            ("DeadlineSec=0", "4: `DeadlineSec=0`: must be at least 1s".into()),
            ("DeadlineSec=never", "4: `DeadlineSec=never`: must be a time like 5min or 1h 30min, or infinity".into()),
            ("OnFailure=Revert", "4: `OnFailure=Revert`: must be revert or pause".into()),
            ("HealthySec=20min", never("4: `HealthySec=20min` is longer than `DeadlineSec=10min`")),
            ("DeadlineSec=5", never("4: `HealthySec=10` is longer than `DeadlineSec=5`")),
            ("DeadlineSec=5\nHealthySec=6", never("5: `HealthySec=6` is longer than `DeadlineSec=5`")),
            ("Paralel=1", "4: unknown option `Paralel` in [X-Rollout]; did you mean `Parallel`?".into()),
            ("Before=", "4: `Before=`: must name a unit".into()),
            ("After=a b.service", format!("4: `After=a b.service`: unit name `a` has no type: {no_type}")),
            ("Before=m@.service", "4: `Before=m@.service`: m@.service is a template; name an instance".into()),
            ("After=m.timer", "4: `After=m.timer`: m.timer is no service".into()),
            ("Spare=-1", format!("4: `Spare=-1`: {first}")),
            ("Spare=101%", format!("4: `Spare=101%`: {first}")),
            ("Someday=1\nCanary=x", format!("4: unknown option `Someday` in [X-Rollout]; 5: `Canary=x`: {first}")),
            ("Preview=maybe\nCanary=1", "4: `Preview=maybe`: must be yes or no".into()),
            ("Preview=yes", "4: `Preview=yes` without `Canary=`: there is nothing to preview".into()),
            ("Canary=0%\nPreview=on", "5: `Preview=on` without `Canary=`: there is nothing to preview".into()),
        ] {
            assert_eq!(problems(section), expected, "{section}");
        }
    }

    #[test]
    fn a_stored_file_is_read_as_far_as_this_version_can() {
        assert_eq!(Policy::stored(&file("")), None);
        let section = "Later=1\nParallel=none\nCanary=2\nHealthySec=20min";
        let read = Policy::stored(&file(section)).unwrap();
        let expected = Policy { canary: Amount::Number(2), healthy: secs(1200), ..Policy::default() };
        assert_eq!(read, expected);
    }

    #[test]
    fn shares_are_of_the_members() {
        let parallel = |amount: Amount, all| amount.at_least_one_of(all);
        let (quarter, all) = (Amount::Percent(25), Amount::Percent(100));
        assert_eq!([0, 3, 4, 7, 8].map(|members| parallel(quarter, members)), [1, 1, 1, 1, 2]);
        assert_eq!([0, 1, 3].map(|members| parallel(all, members)), [1, 1, 3]);
        assert_eq!([1, 9].map(|members| parallel(Amount::Number(4), members)), [4, 4]);
        let canary = |amount: Amount, all| amount.at_most_all_of(all);
        assert_eq!([0, 3, 4, 5].map(|members| canary(quarter, members)), [0, 1, 1, 2]);
        assert_eq!([0, 3].map(|members| canary(all, members)), [0, 3]);
        assert_eq!([0, 3, 9].map(|members| canary(Amount::Number(4), members)), [0, 3, 4]);
        assert_eq!(canary(Amount::Percent(0), 9), 0);
    }
}
