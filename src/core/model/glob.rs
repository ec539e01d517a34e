//! Patterns of unit names, as in Go's `path.Match`, which CoreOS fleet used for `Conflicts=`. `*` matches any sequence
//! without `/`, `?` one character, `[a-z]` a class (`[^a-z]` its complement), `\` escapes the next character. A pattern
//! must match the whole name.

use std::fmt;
use std::str::FromStr;

/// A well-formed pattern.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Glob {
    text: Box<str>,
    /// Everything before the first special character.
    literal: Box<str>,
    /// Everything after the last special character; empty if there is none.
    tail: Box<str>,
    parts: Box<[Part]>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Part {
    Literal(char),
    Any,
    Run,
    Class { negated: bool, ranges: Box<[(char, char)]> },
}

/// A pattern that is not well-formed: an unclosed or empty class, or a `\` at the end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no valid pattern: unclosed or empty [class], or a final backslash")]
pub struct GlobError(String);

impl Glob {
    /// The original pattern.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The literal prefix of every match.
    #[must_use]
    pub fn literal_prefix(&self) -> &str {
        &self.literal
    }

    /// Whether the pattern has no special character, so that it matches only one name, its [`Glob::literal_prefix`].
    #[must_use]
    pub fn is_literal(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Literal(_)))
    }

    /// Whether the whole of `name` matches.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        // The ends are compared first: they exclude nearly every name at once.
        name.len() >= self.literal.len() + self.tail.len()
            && name.starts_with(&*self.literal)
            && name.ends_with(&*self.tail)
            && matches(&self.parts, name)
    }

    /// `text` with all special characters escaped: a pattern that matches only `text`.
    #[must_use]
    pub fn escape(text: &str) -> String {
        text.chars().fold(String::new(), |mut escaped, c| {
            if matches!(c, '*' | '?' | '[' | '\\') {
                escaped.push('\\');
            }
            escaped.push(c);
            escaped
        })
    }
}

/// Greedy with a single point of backtracking: never exponential, and linear for patterns with few stars.
fn matches(parts: &[Part], name: &str) -> bool {
    let (mut part, mut rest) = (0, name);
    let mut retry: Option<(usize, &str)> = None;
    loop {
        let mut chars = rest.chars();
        let next = chars.next();
        let step = match (parts.get(part), next) {
            (None, None) => return true,
            (Some(Part::Run), _) => {
                retry = Some((part, rest));
                part += 1;
                continue;
            }
            (Some(Part::Literal(want)), Some(c)) => *want == c,
            (Some(Part::Any), Some(c)) => c != '/',
            (Some(Part::Class { negated, ranges }), Some(c)) => {
                c != '/' && ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != *negated
            }
            (None, Some(_)) | (Some(_), None) => false,
        };
        if step {
            part += 1;
            rest = chars.as_str();
            continue;
        }
        // Let the last `*` match one more character.
        let Some((run, from)) = retry else { return false };
        let mut chars = from.chars();
        match chars.next() {
            None | Some('/') => return false,
            Some(_) => {
                retry = Some((run, chars.as_str()));
                part = run + 1;
                rest = chars.as_str();
            }
        }
    }
}

impl FromStr for Glob {
    type Err = GlobError;

    fn from_str(text: &str) -> Result<Self, GlobError> {
        let bad = || GlobError(text.into());
        let mut parts = Vec::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            parts.push(match c {
                '*' => Part::Run,
                '?' => Part::Any,
                '\\' => Part::Literal(chars.next().ok_or_else(bad)?),
                '[' => class(&mut chars).ok_or_else(bad)?,
                c => Part::Literal(c),
            });
        }
        let char = |part: &Part| if let Part::Literal(c) = part { Some(*c) } else { None };
        let literal: String = parts.iter().map_while(char).collect();
        let special = parts.iter().rposition(|part| char(part).is_none());
        let tail = special.map_or(String::new(), |at| parts[at..].iter().filter_map(char).collect());
        Ok(Self { text: text.into(), literal: literal.into(), tail: tail.into(), parts: parts.into() })
    }
}

fn class(chars: &mut std::str::Chars<'_>) -> Option<Part> {
    let negated = chars.as_str().starts_with('^');
    if negated {
        chars.next();
    }
    let mut ranges = Vec::new();
    loop {
        let low = match chars.next()? {
            ']' if ranges.is_empty() => return None,
            ']' => return Some(Part::Class { negated, ranges: ranges.into() }),
            '-' => return None,
            '\\' => chars.next()?,
            c => c,
        };
        let mut high = low;
        if chars.as_str().starts_with('-') {
            chars.next();
            high = match chars.next()? {
                ']' | '-' => return None,
                '\\' => chars.next()?,
                c => c,
            };
        }
        ranges.push((low, high));
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_as_go_does() {
        let cases = [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "ab/c", false),
            ("a*/b", "abc/b", true),
            ("a*b*c*d*e*", "axbxcxdxexxx", true),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[e-g]", "abc", false),
            ("ab[^c]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a/b", false),
            ("[\\]a]", "]", true),
            ("web@*", "web@1.service", true),
            ("web@?.service", "web@10.service", false),
            ("{a,b}", "a", false),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("*-db.service", "x-db.service", true),
            ("*-db.service", "x-web.service", false),
            ("[ab]c", "bc", true),
            ("[ab]c", "c", false),
            ("\\*b", "*b", true),
        ];
        for (pattern, name, expected) in cases {
            assert_eq!(pattern.parse::<Glob>().unwrap().matches(name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn malformed_patterns_are_refused() {
        for pattern in ["[", "[]", "[]a]", "[^]", "[a-", "[-x]", "[a-]", "a\\", "[a"] {
            assert!(pattern.parse::<Glob>().is_err(), "{pattern}");
        }
    }

    #[test]
    fn literal_prefix_stops_at_the_first_special() {
        let glob: Glob = "web@\\*x*".parse().unwrap();
        assert_eq!((glob.literal_prefix(), glob.is_literal()), ("web@*x", false));
        assert!("web@1.service".parse::<Glob>().unwrap().is_literal());
        assert!(Glob::escape("a\\x2d[*").parse::<Glob>().unwrap().matches("a\\x2d[*"));
    }
}
