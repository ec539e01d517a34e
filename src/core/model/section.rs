//! The sections of a unit file that are for the cluster, such as `[X-Fleet]`. Owns how their options are read, and how
//! an unknown option or an unknown specifier is reported; what an option means belongs to the file of its section.

use super::file::UnitFile;

/// The section with a unit's constraints on its host.
pub const FLEET: &str = "X-Fleet";

/// How many characters of an unknown option may differ from the one that is suggested.
const NEAR: usize = 3;

/// A section and the names of its options.
#[derive(Debug, Clone, Copy)]
pub(super) struct Section {
    /// Its name, without brackets.
    pub(super) name: &'static str,
    /// The options that are written today.
    pub(super) options: &'static [&'static str],
    /// Older spellings, which are read and never suggested.
    pub(super) legacy: &'static [&'static str],
    /// Whether values can have specifiers; otherwise `%` means itself.
    pub(super) specifiers: bool,
    /// The options in whose values `%` means itself in any case.
    pub(super) plain: &'static [&'static str],
}

/// An error in one line of a section.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Problem {
    /// The line, from 1; 0 if it concerns the whole section, or options without line numbers.
    pub line: usize,
    /// The error, and what to write instead.
    pub what: String,
}

impl Section {
    /// Pass the name and the value of each option in `file` to `take`. Returns what is wrong with them: unknown options
    /// and specifiers, and the errors of `take`.
    pub(super) fn read(&self, file: &UnitFile, mut take: impl FnMut(&str, &str) -> Result<(), String>) -> Vec<Problem> {
        let mut problems = Vec::new();
        for option in file.section(self.name) {
            let known = self.check(&option.name, &option.value);
            if let Err(what) = known.and_then(|()| take(&option.name, &option.value)) {
                problems.push(Problem { line: option.line, what });
            }
        }
        problems
    }

    fn check(&self, option: &str, value: &str) -> Result<(), String> {
        if !self.options.contains(&option) && !self.legacy.contains(&option) {
            let hint = self.nearest(option).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
            return Err(format!("unknown option `{option}` in [{}]{hint}", self.name));
        }
        let has_specifiers = self.specifiers && !self.plain.contains(&option);
        let mut chars = if has_specifiers { value.chars() } else { "".chars() };
        while let Some(c) = chars.next() {
            if c == '%' && !matches!(chars.next(), Some('n' | 'N' | 'p' | 'i' | '%')) {
                return Err(format!(
                    "`{option}={value}`: only the specifiers %n, %N, %p, %i and %% are known in [{}]",
                    self.name
                ));
            }
        }
        Ok(())
    }

    /// The option most similar to a misspelt one, if it is similar enough.
    fn nearest(&self, option: &str) -> Option<&'static str> {
        let distances = self.options.iter().map(|known| (distance(option, known), *known));
        distances.filter(|(distance, _)| *distance <= NEAR).min().map(|(_, known)| known)
    }
}

/// The Levenshtein distance, ignoring case.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.to_ascii_lowercase().into_bytes(), b.to_ascii_lowercase().into_bytes());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let change = diagonal + usize::from(x != y);
            let next = change.min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], next);
        }
    }
    row[b.len()]
}

/// The booleans of `systemd.syntax(7)`, and fleet's.
pub(super) fn boolean(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "1" | "yes" | "y" | "true" | "t" | "on" => Some(true),
        "0" | "no" | "n" | "false" | "f" | "off" => Some(false),
        _ => None,
    }
}
