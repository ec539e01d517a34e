//! `[X-Health]`: how a host finds out whether a unit is ready, and whether it still works. Owns the syntax and the
//! bounds of the options, and how many results of a probe in a row count. `plan::health` decides what follows from
//! them.

use std::time::Duration;

use super::file::UnitFile;
use super::name::UnitName;
use super::probe::{HOW, Probe};
use super::section::{Problem, Section};
use super::span;

/// The section's name.
pub const SECTION: &str = "X-Health";

/// Its options.
const OPTIONS: Section = Section {
    name: SECTION,
    options: &["Ready", "Live", "IntervalSec", "TimeoutSec", "Rise", "Fall", "GraceSec"],
    legacy: &[],
    specifiers: true,
    plain: &[],
};

/// The most probes that each of `Ready=` and `Live=` may have.
const MAX_PROBES: usize = 8;

/// The bounds of `IntervalSec=`.
const INTERVAL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3600));

/// The least value of `TimeoutSec=`.
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(10);

/// The greatest value of `Rise=` and `Fall=`.
const MAX_COUNT: u32 = 100;

/// The probes of a unit, without specifiers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// `Ready=`: all must pass for the unit to be ready.
    pub ready: Vec<Probe>,
    /// `Live=`: a unit is ended as by a watchdog when one of them fails.
    pub live: Vec<Probe>,
    /// `IntervalSec=`: the time between two runs of a probe.
    pub interval: Duration,
    /// `TimeoutSec=`: how long a run may take; at most `interval`.
    pub timeout: Duration,
    /// `Rise=`: the passes in a row until a unit is ready.
    pub rise: u32,
    /// `Fall=`: the failures in a row until a unit isn't ready any more, or no longer works.
    pub fall: u32,
    /// `GraceSec=`: how long after a start a failure of `Live=` doesn't count, unless it has passed before.
    pub grace: Duration,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            ready: Vec::new(),
            live: Vec::new(),
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(1),
            rise: 1,
            fall: 3,
            grace: Duration::from_secs(60),
        }
    }
}

impl Health {
    /// The `[X-Health]` section of `file`, the file of unit `name`, with its specifiers replaced; `None` if there is
    /// none. Of a template, as its instance `1` would have it.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(file: &UnitFile, name: &UnitName) -> Result<Option<Self>, Vec<Problem>> {
        let Some(first) = file.section(SECTION).next() else { return Ok(None) };
        if name.kind() != "service" {
            let what = format!("[{SECTION}] in {name}: probes are for services");
            return Err(vec![Problem { line: first.line, what }]);
        }
        let instance = name.is_template().then(|| name.numbered(1).ok()).flatten();
        let name = instance.as_ref().unwrap_or(name);
        let (mut health, mut timeout) = (Self::default(), None);
        let mut problems = OPTIONS.read(file, |option, value| {
            let wrong = |why: String| format!("`{option}={value}`: {why}");
            match option {
                "Ready" => add(&mut health.ready, &name.expand(value)).map_err(wrong),
                "Live" => add(&mut health.live, &name.expand(value)).map_err(wrong),
                "GraceSec" => time(value).map(|grace| health.grace = grace).map_err(wrong),
                "Rise" => count(value).map(|rise| health.rise = rise).map_err(wrong),
                "Fall" => count(value).map(|fall| health.fall = fall).map_err(wrong),
                "IntervalSec" => interval(value).map(|interval| health.interval = interval).map_err(wrong),
                _ => time(value).map(|time| timeout = Some(time)).map_err(wrong),
            }
        });
        health.timeout = timeout.unwrap_or_else(|| health.timeout.min(health.interval));
        if problems.is_empty() {
            problems = health.contradictions(file);
        }
        if problems.is_empty() { Ok(Some(health)) } else { Err(problems) }
    }

    /// All probes: those of `Ready=`, then those of `Live=`.
    pub fn probes(&self) -> impl Iterator<Item = &Probe> {
        self.ready.iter().chain(&self.live)
    }

    /// What is wrong with options that are valid one by one.
    fn contradictions(&self, file: &UnitFile) -> Vec<Problem> {
        let has = |name: &str| file.section(SECTION).filter(|option| option.name == name).last();
        let mut problems = Vec::new();
        if self.probes().next().is_none() {
            let line = file.section(SECTION).next().map_or(0, |option| option.line);
            problems.push(Problem { line, what: format!("[{SECTION}] has neither `Ready=` nor `Live=`") });
        }
        if let Some(option) = has("GraceSec").filter(|_| self.live.is_empty()) {
            let what = format!("`GraceSec={}`: it is about `Live=`, which is missing", option.value);
            problems.push(Problem { line: option.line, what });
        }
        if let Some(option) = has("TimeoutSec") {
            let wrong = if self.timeout > self.interval {
                Some(format!("longer than the interval of {}", span::shown(self.interval)))
            } else {
                (self.timeout < SHORTEST_TIMEOUT).then(|| "must be at least 10ms".into())
            };
            let problem =
                |why: String| Problem { line: option.line, what: format!("`TimeoutSec={}`: {why}", option.value) };
            problems.extend(wrong.map(problem));
        }
        problems
    }
}

fn add(probes: &mut Vec<Probe>, value: &str) -> Result<(), String> {
    let probe = match value.parse() {
        Ok(Probe::Tcp(target)) if target.port.is_none() => return Err("a port is missing".into()),
        Ok(Probe::Shell(_)) => return Err(HOW.into()),
        parsed => parsed?,
    };
    if probes.len() == MAX_PROBES {
        return Err(format!("at most {MAX_PROBES} are possible"));
    }
    probes.push(probe);
    Ok(())
}

fn count(value: &str) -> Result<u32, String> {
    let count = Some(value).filter(|value| value.bytes().all(|b| b.is_ascii_digit())).and_then(|v| v.parse().ok());
    let count = count.filter(|count| (1..=MAX_COUNT).contains(count));
    count.ok_or_else(|| format!("must be a number from 1 to {MAX_COUNT}"))
}

fn time(value: &str) -> Result<Duration, String> {
    span::parse(value).ok_or_else(|| "must be a time like 5, 500ms or 1min 30s".into())
}

fn interval(value: &str) -> Result<Duration, String> {
    let time = time(value)?;
    if time < INTERVAL.0 || time > INTERVAL.1 { Err("must be from 1s to 1h".into()) } else { Ok(time) }
}

/// What the results of one probe amount to: some in a row change the verdict, a single one may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the probe counts as passing.
    pub up: bool,
    /// The number of results in a row that contradict that.
    against: u32,
}

impl Verdict {
    /// A verdict that no result contradicts.
    #[must_use]
    pub fn new(up: bool) -> Self {
        Self { up, against: 0 }
    }

    /// Apply a result: `rise` passes in a row make it up, `fall` failures in a row make it down. Returns whether the
    /// verdict changes.
    pub fn take(&mut self, passed: bool, rise: u32, fall: u32) -> bool {
        self.against = if passed == self.up { 0 } else { self.against + 1 };
        let changes = self.against >= if self.up { fall } else { rise };
        if changes {
            *self = Self::new(!self.up);
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::super::probe::Target;
    use super::*;

    fn parse(name: &str, section: &str) -> Result<Option<Health>, Vec<Problem>> {
        let text = format!("[Service]\nExecStart=/bin/true\n[X-Health]\n{section}\n");
        Health::parse(&UnitFile::parse(text.as_bytes()).unwrap(), &name.parse().unwrap())
    }

    /// However results alternate: from one time that a unit becomes ready to the next, there are `Fall=` and `Rise=`
    /// intervals.
    #[test]
    fn a_unit_that_flaps_is_announced_at_a_bounded_rate() {
        for (rise, fall) in [(1, 3), (2, 3), (1, 1), (3, 2)] {
            for pattern in 0_u32..1 << 14 {
                let (mut verdict, mut last) = (Verdict::new(false), None::<u32>);
                for at in 0..14 {
                    if verdict.take(pattern >> at & 1 == 1, rise, fall) && verdict.up {
                        assert!(last.is_none_or(|last| at - last >= rise + fall), "{pattern:b} {rise} {fall}");
                        last = Some(at);
                    }
                }
            }
        }
    }

    fn problems(name: &str, section: &str) -> String {
        let problems = parse(name, section).unwrap_err();
        problems.iter().map(|problem| format!("{}: {problem}", problem.line)).collect::<Vec<_>>().join("; ")
    }

    fn tcp(port: u16) -> Probe {
        Probe::Tcp(Target { host: None, port: Some(port) })
    }

    #[test]
    fn options_are_read_and_have_defaults() {
        assert_eq!(parse("a.service", ""), Ok(None));
        let least = Health { ready: vec![tcp(80)], ..Health::default() };
        assert_eq!(parse("a.service", "Ready=tcp:80"), Ok(Some(least)));
        let only_live = Health { live: vec![tcp(80)], ..Health::default() };
        assert_eq!(parse("a.service", "Live=tcp:80"), Ok(Some(only_live)));
        let section = "Ready=tcp:80\nReady=tcp:81\nLive=tcp:82\nIntervalSec=1min\nTimeoutSec=500ms\nRise=2\nFall=100\n\
                       GraceSec=10min";
        let all = Health {
            ready: vec![tcp(80), tcp(81)],
            live: vec![tcp(82)],
            interval: Duration::from_secs(60),
            timeout: Duration::from_millis(500),
            rise: 2,
            fall: 100,
            grace: Duration::from_secs(600),
        };
        assert_eq!(parse("a.service", section), Ok(Some(all)));
        let once = parse("a.service", "Ready=tcp:1\nTimeoutSec=3\nTimeoutSec=2").unwrap().unwrap();
        assert_eq!(once.timeout, Duration::from_secs(2), "the last counts");
    }

    #[test]
    fn specifiers_are_those_of_the_unit() {
        let ready = |name: &str, value: &str| parse(name, &format!("Ready={value}")).unwrap().unwrap().ready[0].clone();
        assert_eq!(ready("web@2.service", "tcp:808%i"), tcp(8082));
        assert_eq!(ready("web@.service", "tcp:808%i"), tcp(8081), "as the first instance");
        assert_eq!(ready("web.service", "http://:80/%p/%N?%n").to_string(), "http://:80/web/web?web.service");
        assert_eq!(ready("web.service", "http://:80/a%%20b").to_string(), "http://:80/a%20b");
        assert_eq!(ready("web@2.service", "exec:/bin/%p -n '%i'"), Probe::Exec("/bin/web -n '2'".into()));
        assert_eq!(problems("web@x.service", "Ready=tcp:808%i"), "4: `Ready=tcp:808%i`: `808x` is no port");
    }

    #[test]
    fn every_problem_is_named_with_its_line() {
        let time = "must be a time like 5, 500ms or 1min 30s";
        for (section, expected) in [
            ("Ready=8080", format!("4: `Ready=8080`: {HOW}")),
            ("Ready=", format!("4: `Ready=`: {HOW}")),
            ("Ready=tcp", "4: `Ready=tcp`: a port is missing".into()),
            ("Ready=cmd true", format!("4: `Ready=cmd true`: {HOW}")),
            ("Ready=exec:alive", "4: `Ready=exec:alive`: write an absolute path".into()),
            ("Ready=exec:%p/alive", "4: `Ready=exec:%p/alive`: write an absolute path".into()),
            ("Ready=exec:", "4: `Ready=exec:`: write an absolute path".into()),
            ("Ready=exec:/a 'b", "4: `Ready=exec:/a 'b`: a quotation mark is missing".into()),
            ("Redy=tcp:1", "4: unknown option `Redy` in [X-Health]; did you mean `Ready`?".into()),
            (
                "Ready=tcp:%H",
                "4: `Ready=tcp:%H`: only the specifiers %n, %N, %p, %i and %% are known in [X-Health]".into(),
            ),
            ("Rise=1", "4: [X-Health] has neither `Ready=` nor `Live=`".into()),
            ("Live=8080", format!("4: `Live=8080`: {HOW}")),
            ("Ready=tcp:1\nGraceSec=5", "5: `GraceSec=5`: it is about `Live=`, which is missing".into()),
            ("Live=tcp:1\nGraceSec=soon", format!("5: `GraceSec=soon`: {time}")),
            ("Ready=tcp:1\nRise=0", "5: `Rise=0`: must be a number from 1 to 100".into()),
            ("Ready=tcp:1\nFall=+3", "5: `Fall=+3`: must be a number from 1 to 100".into()),
            ("Ready=tcp:1\nFall=101", "5: `Fall=101`: must be a number from 1 to 100".into()),
            ("Ready=tcp:1\nTimeoutSec=1.5.", format!("5: `TimeoutSec=1.5.`: {time}")),
            ("Ready=tcp:1\nTimeoutSec=10", "5: `TimeoutSec=10`: longer than the interval of 5 s".into()),
            ("Ready=tcp:1\nTimeoutSec=1ms", "5: `TimeoutSec=1ms`: must be at least 10ms".into()),
            ("Ready=tcp:1\nIntervalSec=500ms", "5: `IntervalSec=500ms`: must be from 1s to 1h".into()),
            ("Ready=tcp:1\nIntervalSec=infinity", "5: `IntervalSec=infinity`: must be from 1s to 1h".into()),
        ] {
            assert_eq!(problems("a.service", section), expected, "{section}");
        }
        assert_eq!(problems("a.service", &"Ready=tcp:1\n".repeat(9)), "12: `Ready=tcp:1`: at most 8 are possible");
        assert_eq!(problems("web.timer", "Ready=tcp:1"), "4: [X-Health] in web.timer: probes are for services");
    }

    #[test]
    fn results_count_in_a_row() {
        let mut verdict = Verdict::new(false);
        let changes = [1, 0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 1, 1].map(|passed| verdict.take(passed == 1, 2, 3));
        let changed: Vec<usize> = (0..changes.len()).filter(|at| changes[*at]).collect();
        assert_eq!((changed, verdict.up), (vec![3, 9, 12], true));
    }
}
