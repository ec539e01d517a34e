//! The order of versions, as systemd has it (`systemd-analyze compare-versions`). Numbers are compared by their value,
//! so that `6.10` is newer than `6.9`, and `64` than `7`.

use std::cmp::Ordering;

/// Compare two versions. Characters that don't belong to a version are passed over.
#[must_use]
pub fn compare(one: &str, other: &str) -> Ordering {
    let (mut a, mut b) = (one.as_bytes(), other.as_bytes());
    loop {
        (a, b) = (after(a, |c| !is_part(c)), after(b, |c| !is_part(c)));
        // What a `~` follows is older, even than its end: 257~rc1 comes before 257.
        if let Some(order) = separated(&mut a, &mut b, b'~') {
            return order;
        }
        if a.is_empty() || b.is_empty() {
            return a.len().cmp(&b.len());
        }
        for separator in [b'-', b'^', b'.'] {
            if let Some(order) = separated(&mut a, &mut b, separator) {
                return order;
            }
        }
        let is_number = [a, b].iter().any(|rest| rest.first().is_some_and(u8::is_ascii_digit));
        let kind = if is_number { u8::is_ascii_digit } else { u8::is_ascii_alphabetic };
        let (ours, theirs);
        (ours, a) = a.split_at(a.len() - after(a, |c| kind(&c)).len());
        (theirs, b) = b.split_at(b.len() - after(b, |c| kind(&c)).len());
        let order = if is_number { numbers(ours, theirs) } else { ours.cmp(theirs) };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// If one of the two begins with `separator`, it is the older one; if both do, it is removed.
fn separated(a: &mut &[u8], b: &mut &[u8], separator: u8) -> Option<Ordering> {
    let rest = |text: &[u8]| text.first() == Some(&separator);
    match (rest(a), rest(b)) {
        (false, false) => None,
        (true, true) => {
            (*a, *b) = (&a[1..], &b[1..]);
            None
        }
        (true, false) => Some(Ordering::Less),
        (false, true) => Some(Ordering::Greater),
    }
}

/// Digits by their value; no digits at all are older than any.
fn numbers(ours: &[u8], theirs: &[u8]) -> Ordering {
    let (a, b) = (after(ours, |c| c == b'0'), after(theirs, |c| c == b'0'));
    let is_empty = ours.is_empty().cmp(&theirs.is_empty()).reverse();
    is_empty.then(a.len().cmp(&b.len())).then_with(|| a.cmp(b))
}

fn is_part(c: u8) -> bool {
    c.is_ascii_alphanumeric() || b"~-^.".contains(&c)
}

/// What follows the characters at the beginning that are `skipped`.
fn after(text: &[u8], skipped: impl Fn(u8) -> bool) -> &[u8] {
    let count = text.iter().take_while(|c| skipped(**c)).count();
    &text[count..]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of the UAPI group's version format specification, which systemd follows, and some more.
    #[test]
    fn versions_are_ordered_as_by_systemd() {
        let cases = [
            ("11", "11", '='),
            ("systemd-123", "systemd-123", '='),
            ("bar-123", "foo-123", '<'),
            ("123a", "123", '>'),
            ("123.a", "123", '>'),
            ("123.a", "123.b", '<'),
            ("123a", "123.a", '>'),
            ("11α", "11β", '='),
            ("A", "a", '<'),
            ("", "0", '<'),
            ("0.", "0", '>'),
            ("0.0", "0", '>'),
            ("0", "~", '>'),
            ("", "~", '>'),
            ("1_", "1", '='),
            ("_1", "1", '='),
            ("1_", "1.2", '<'),
            ("1_2_3", "1.3.3", '>'),
            ("1+", "1", '='),
            ("6.10", "6.9", '>'),
            ("64", "7", '>'),
            ("007", "7", '='),
            ("257~rc1", "257", '<'),
            ("123-3", "123.1-1", '<'),
            ("123^patch", "123", '>'),
            ("123^patch", "123.1", '<'),
            ("6.12.9-amd64", "6.12", '>'),
            ("64G", "64", '>'),
            ("ssd", "7", '<'),
        ];
        for (one, other, order) in cases {
            let expected = match order {
                '<' => Ordering::Less,
                '=' => Ordering::Equal,
                _ => Ordering::Greater,
            };
            assert_eq!(compare(one, other), expected, "{one} {order} {other}");
            assert_eq!(compare(other, one), expected.reverse(), "{other} and {one}");
        }
    }
}
