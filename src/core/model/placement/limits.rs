//! How many patterns a unit may have, and of which form. Every leader compares every pattern with the name of every
//! unit: without a limit, one file could keep the scheduler of a whole cluster busy. Owns what is refused when a unit
//! is submitted; files that are already stored are read without these limits.

use super::condition::Word;
use super::{Constraints, SECTION, words};
use crate::model::file::UnitFile;
use crate::model::name::UnitName;
use crate::model::section::Problem;

/// Patterns of `Conflicts=`, `Replaces=` and `Avoids=` together, in one file.
pub const MAX_PATTERNS: usize = 256;

/// Bytes of one pattern; no name that it could match is longer.
pub const MAX_PATTERN_LEN: usize = 255;

/// Stars in one pattern.
pub const MAX_STARS: usize = 8;

/// The patterns with which a stored file is still planned. The scheduler leaves units with more out, so that a record
/// that no limit was applied to harms its own unit only.
pub const MAX_PLANNED_PATTERNS: usize = 4 * MAX_PATTERNS;

/// As [`Constraints::parse`], for a file that is submitted.
///
/// # Errors
/// Everything that is wrong; if nothing else is, what exceeds a limit.
pub fn parse(file: &UnitFile) -> Result<Constraints, Vec<Problem>> {
    let constraints = Constraints::parse(file)?;
    let problems: Vec<Problem> = excesses(file).into_iter().chain(doubts(file)).collect();
    if problems.is_empty() { Ok(constraints) } else { Err(problems) }
}

/// What is wrong with `Replicas=` in the file of unit `name`: only a template, or an instance that has the file of its
/// template, can have it, and it can't name this template.
#[must_use]
pub fn misplaced_replicas(file: &UnitFile, name: &UnitName) -> Option<Problem> {
    let mut options = file.section(SECTION).filter(|option| option.name == "Replicas");
    if name.instance().is_some() {
        let own = options.find(|option| name.is_template() && option.value == name.as_str())?;
        let what = format!("`Replicas={name}` names the template itself: it must be a number, or another template");
        return Some(Problem { line: own.line, what });
    }
    misplaced(file, (SECTION, "Replicas"), name)
}

/// That the file of unit `name` has an option of a section that only a template, or an instance that has the file of
/// its template, can have.
#[must_use]
pub fn misplaced(file: &UnitFile, (section, option): (&str, &str), name: &UnitName) -> Option<Problem> {
    if name.instance().is_some() {
        return None;
    }
    let line = file.section(section).find(|found| found.name == option)?.line;
    let what = match format!("{}@.{}", name.stem(), name.kind()).parse::<UnitName>() {
        Ok(template) => format!("`{option}=` is for templates: call the file {template}"),
        Err(_) => format!("`{option}=` is for templates, and a .{} unit can't be one", name.kind()),
    };
    Some(Problem { line, what })
}

/// Everything in `file` that exceeds a limit.
fn excesses(file: &UnitFile) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut patterns = 0;
    for option in file.section(SECTION).filter(|option| is_patterns(&option.name)) {
        // A value that can't be split is a problem of its own, found by `Constraints::parse`.
        for pattern in words(&option.name, &option.value).unwrap_or_default() {
            patterns += 1;
            if patterns == MAX_PATTERNS + 1 {
                let what = format!("more than {MAX_PATTERNS} patterns in `Conflicts=`, `Replaces=` and `Avoids=`");
                problems.push(Problem { line: option.line, what });
            }
            if let Some(what) = excess(&pattern) {
                problems.push(Problem { line: option.line, what: format!("`{}=`: {what}", option.name) });
            }
        }
    }
    problems
}

/// What is wrong with the words of `MachineMetadata=` and `MachinePrefers=`, and with those of `Spread=`.
fn doubts(file: &UnitFile) -> Vec<Problem> {
    let is_asked = |option: &str| option.ends_with("MachineMetadata") || matches!(option, "MachinePrefers" | "Spread");
    let options = file.section(SECTION).filter(|option| is_asked(&option.name));
    let doubts = options.flat_map(|option| {
        let words = words(&option.name, &option.value).unwrap_or_default();
        let (asked, patterns) = words.split_at(if option.name == "Spread" { words.len().min(1) } else { words.len() });
        let doubt = |word: &String| {
            let word = Word::parse(word).ok()?;
            word.doubt().or_else(|| excess(word.pattern()?.as_str()))
        };
        let patterns = patterns.iter().filter_map(|pattern| excess(pattern));
        let doubts = asked.iter().filter_map(doubt).chain(patterns).collect::<Vec<_>>();
        doubts.into_iter().map(|what| Problem { line: option.line, what: format!("`{}=`: {what}", option.name) })
    });
    doubts.collect()
}

fn is_patterns(option: &str) -> bool {
    matches!(option, "Conflicts" | "X-Conflicts" | "Replaces" | "Avoids")
}

fn excess(pattern: &str) -> Option<String> {
    if pattern.len() > MAX_PATTERN_LEN {
        return Some(format!("a pattern of {} bytes; at most {MAX_PATTERN_LEN} are possible", pattern.len()));
    }
    let stars = pattern.matches('*').count();
    if stars > MAX_STARS {
        return Some(format!("`{pattern}` has {stars} stars; at most {MAX_STARS} are possible"));
    }
    is_bound(pattern).then(|| {
        format!("`{pattern}`: a specifier can't follow a backslash or be in brackets, since its value may be empty")
    })
}

/// Whether `pattern` has a specifier whose value would be read as part of an escape or of a class: for some units, the
/// pattern would be malformed, and be ignored.
fn is_bound(pattern: &str) -> bool {
    let (mut chars, mut in_class) = (pattern.chars(), false);
    while let Some(c) = chars.next() {
        let is_bound = match c {
            '\\' => chars.next() == Some('%') && chars.next() != Some('%'),
            '%' => chars.next() != Some('%') && in_class,
            _ => false,
        };
        if is_bound {
            return true;
        }
        in_class = c == '[' || in_class && c != ']';
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(section: &str) -> Vec<String> {
        let file = UnitFile::parse(format!("[X-Fleet]\n{section}").as_bytes()).unwrap();
        assert!(Constraints::parse(&file).is_ok(), "stored files are read whatever they hold");
        let problems = parse(&file).err().unwrap_or_default();
        problems.iter().map(|problem| format!("{}: {problem}", problem.line)).collect()
    }

    #[test]
    fn only_templates_have_members() {
        let file = UnitFile::parse(b"[Service]\nExecStart=/a\n[X-Fleet]\nReplicas=3\n").unwrap();
        for (name, expected) in [
            ("web@.service", None),
            ("web@1.service", None),
            ("web.service", Some("4: `Replicas=` is for templates: call the file web@.service")),
            ("web.timer", Some("4: `Replicas=` is for templates: call the file web@.timer")),
            ("srv.mount", Some("4: `Replicas=` is for templates, and a .mount unit can't be one")),
        ] {
            let problem = misplaced_replicas(&file, &name.parse().unwrap());
            assert_eq!(problem.map(|p| format!("{}: {p}", p.line)).as_deref(), expected, "{name}");
        }
        let rider = UnitFile::parse(b"[X-Fleet]\nReplicas=web@.service\n").unwrap();
        let own = "`Replicas=web@.service` names the template itself: it must be a number, or another template";
        for (name, expected) in [("web-log@.service", None), ("web@1.service", None), ("web@.service", Some(own))] {
            let problem = misplaced_replicas(&rider, &name.parse().unwrap());
            assert_eq!(problem.map(|problem| (problem.line, problem.what)), expected.map(|what| (2, what.into())));
        }
        let plain = UnitFile::parse(b"[Service]\nExecStart=/a\n").unwrap();
        assert_eq!(misplaced_replicas(&plain, &"web.service".parse().unwrap()), None);
    }

    #[test]
    fn what_a_file_may_hold() {
        let lines =
            |option: &str, count: usize| (0..count).map(|at| format!("{option}=u{at}-*.service\n")).collect::<String>();
        let too_many = |line| format!("{line}: more than 256 patterns in `Conflicts=`, `Replaces=` and `Avoids=`");
        let bound = |pattern: &str| {
            let why = "a specifier can't follow a backslash or be in brackets, since its value may be empty";
            vec![format!("2: `Conflicts=`: `{pattern}`: {why}")]
        };
        let cases: [(String, Vec<String>); 15] = [
            (lines("Conflicts", MAX_PATTERNS), vec![]),
            (lines("X-Conflicts", MAX_PATTERNS + 5), vec![too_many(258)]),
            (format!("Replaces={}", "a ".repeat(MAX_PATTERNS + 1)), vec![too_many(2)]),
            (format!("Conflicts={}*", "a".repeat(254)), vec![]),
            (
                format!("Conflicts={}*", "a".repeat(255)),
                vec!["2: `Conflicts=`: a pattern of 256 bytes; at most 255 are possible".into()],
            ),
            (format!("Replaces={}b", "*a".repeat(8)), vec![]),
            (
                format!("Global=true\nConflicts={}b", "*a".repeat(9)),
                vec!["3: `Conflicts=`: `*a*a*a*a*a*a*a*a*ab` has 9 stars; at most 8 are possible".into()],
            ),
            (
                "MachineMetadata=zone~*b*c*d*e*f*g*h*i*j".into(),
                vec!["2: `MachineMetadata=`: `*b*c*d*e*f*g*h*i*j` has 9 stars; at most 8 are possible".into()],
            ),
            (
                "MachineMetadata=a=b !zone=a".into(),
                vec!["2: `MachineMetadata=`: `!zone=a`: did you mean `zone!=a`?".into()],
            ),
            (r"Conflicts=a\%i".into(), bound(r"a\%i")),
            ("Conflicts=b* a[^x%p]*".into(), bound("a[^x%p]*")),
            (r"Conflicts=[\]%n]".into(), bound(r"[\]%n]")),
            // An escaped backslash, the end of a class, and a percent sign end what a specifier would be part of.
            (r"Conflicts=a\\%i".into(), vec![]),
            ("Conflicts=[a-c]%i".into(), vec![]),
            (r"Conflicts=a\%%i[%%]".into(), vec![]),
        ];
        for (section, expected) in cases {
            assert_eq!(problems(&section), expected);
        }
    }
}
