//! How names, numbers and times are put for people. Pure; decides nothing.

use std::cmp::Ordering;
use std::time::Duration;

/// The natural order of names: `batch@2` before `batch@10`.
pub(in crate::cli) fn natural(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a, b);
    loop {
        let (first, second) = (part(left), part(right));
        let order = match (number(first), number(second)) {
            // Of the same number, the one with fewer digits is first.
            (Some(x), Some(y)) => x.len().cmp(&y.len()).then(x.cmp(y)).then(first.len().cmp(&second.len())),
            _ => first.cmp(second),
        };
        if order != Ordering::Equal || first.is_empty() {
            return order;
        }
        (left, right) = (&left[first.len()..], &right[second.len()..]);
    }
}

/// The digits, or the text without digits, at the beginning of `text`.
fn part(text: &str) -> &str {
    let digits = text.starts_with(|c: char| c.is_ascii_digit());
    let end = text.find(|c: char| c.is_ascii_digit() != digits).unwrap_or(text.len());
    &text[..end]
}

/// The digits without leading zeros.
fn number(part: &str) -> Option<&str> {
    part.starts_with(|c: char| c.is_ascii_digit()).then(|| part.trim_start_matches('0'))
}

/// How long ago `since` was, in one unit: `4 min`. Both are in ms since the epoch; 0 is unknown.
pub(in crate::cli) fn ago(since: u64, now: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3600, "h"), (60, "min"), (1, "s")];
    if since == 0 {
        return "-".into();
    }
    // Hosts' clocks may be ahead of this one.
    let seconds = now.saturating_sub(since) / 1000;
    let unit = UNITS.iter().find(|(length, _)| seconds >= *length);
    unit.map_or_else(|| "0 s".into(), |(length, name)| format!("{} {name}", seconds / length))
}

/// A time of whole seconds: `90 s`.
pub(in crate::cli) fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs())
}

/// `1 unit`, `3 units`.
pub(in crate::cli) fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_names_are_ordered_as_numbers() {
        let mut names = ["b@10", "b@2", "a", "b@1", "b", "b@02", "b@2x", "b@", "10", "9", "ü1"];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(names, ["9", "10", "a", "b", "b@", "b@1", "b@2", "b@2x", "b@02", "b@10", "ü1"]);
    }

    #[test]
    fn times_have_one_unit() {
        let now = 1_000_000_000_000;
        for (seconds, text) in
            [(0, "0 s"), (59, "59 s"), (60, "1 min"), (3599, "59 min"), (7300, "2 h"), (200_000, "2 d")]
        {
            assert_eq!(ago(now - seconds * 1000, now), text);
        }
        assert_eq!((ago(now + 5000, now), ago(0, now)), ("0 s".into(), "-".into()));
        assert_eq!((count(1, "unit"), count(0, "unit")), ("1 unit".into(), "0 units".into()));
    }
}
