//! Patterns of unit names, compared with a plain implementation of Go's `path.Match`: a table of which parts of the
//! pattern match which characters of the name. The input is a pattern and a name, on two lines.

use flotilla::model::glob::Glob;

use super::halves;

pub fn target(data: &[u8]) {
    let (pattern, name) = halves(data);
    let (Ok(pattern), Ok(name)) = (std::str::from_utf8(pattern), std::str::from_utf8(name)) else { return };
    let reference = read(&pattern.chars().collect::<Vec<_>>());
    let (glob, parts) = match (pattern.parse::<Glob>(), reference) {
        (Ok(glob), Some(parts)) => (glob, parts),
        (Err(_), None) => return,
        (glob, reference) => panic!("{pattern:?} is {glob:?}, but should be {reference:?}"),
    };
    let matches = glob.matches(name);
    assert_eq!(matches, is_match(&parts, &name.chars().collect::<Vec<_>>()), "{pattern:?} {name:?}");
    assert_eq!((glob.as_str(), glob.to_string().as_str()), (pattern, pattern));
    assert!(!matches || name.starts_with(glob.literal_prefix()), "{pattern:?} {name:?}");
    assert!(!glob.is_literal() || matches == (name == glob.literal_prefix()), "{pattern:?} {name:?}");
    let escaped: Glob = Glob::escape(name).parse().expect("an escaped name is a pattern");
    assert!(escaped.is_literal() && escaped.literal_prefix() == name && escaped.matches(name));
}

#[derive(Debug)]
enum Part {
    Star,
    Character(char),
    /// Any character but a slash that is, or isn't, in one of the ranges.
    Class(bool, Vec<(char, char)>),
}

/// The parts of a pattern; `None` if it is malformed.
fn read(mut pattern: &[char]) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    while let [first, rest @ ..] = pattern {
        pattern = rest;
        parts.push(match first {
            '*' => Part::Star,
            '?' => Part::Class(false, Vec::new()),
            '\\' => Part::Character(take(&mut pattern)?),
            '[' => class(&mut pattern)?,
            c => Part::Character(*c),
        });
    }
    Some(parts)
}

/// A class, after its `[`.
fn class(pattern: &mut &[char]) -> Option<Part> {
    let negated = pattern.first() == Some(&'^');
    if negated {
        take(pattern);
    }
    let mut ranges = Vec::new();
    while pattern.first() != Some(&']') || ranges.is_empty() {
        let low = end(pattern)?;
        let is_range = pattern.first() == Some(&'-');
        if is_range {
            take(pattern);
        }
        ranges.push((low, if is_range { end(pattern)? } else { low }));
    }
    take(pattern);
    Some(Part::Class(!negated, ranges))
}

/// One end of a range: Go's `getEsc`.
fn end(pattern: &mut &[char]) -> Option<char> {
    match take(pattern)? {
        ']' | '-' => None,
        '\\' => take(pattern),
        c => Some(c),
    }
}

fn take(pattern: &mut &[char]) -> Option<char> {
    let (first, rest) = pattern.split_first()?;
    *pattern = rest;
    Some(*first)
}

fn is_match(parts: &[Part], name: &[char]) -> bool {
    // Whether the parts so far match the first so many characters.
    let mut row = vec![false; name.len() + 1];
    row[0] = true;
    for part in parts {
        let mut next = vec![false; name.len() + 1];
        for at in 0..=name.len() {
            let before = at.checked_sub(1).map(|at| name[at]);
            next[at] = match (part, before) {
                (Part::Star, Some(c)) => row[at] || next[at - 1] && c != '/',
                (Part::Star, None) => row[at],
                (_, None) => false,
                (Part::Character(wanted), Some(c)) => row[at - 1] && *wanted == c,
                (Part::Class(inside, ranges), Some(c)) => {
                    row[at - 1] && c != '/' && ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) == *inside
                }
            };
        }
        row = next;
    }
    row[name.len()]
}
