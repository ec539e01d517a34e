//! Patterns of host names in `ssh_config(5)` and `sshd(8)`: `*`, `?`, and lists with `!`. No other character is
//! special.

/// Whether `text` matches `pattern`. Case-insensitive for ASCII, as host names are.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // Where to continue if the last `*` must match one more byte.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(byte) if *byte == b'?' || byte.eq_ignore_ascii_case(&text[t]) => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    p = at + 1;
                    t = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// Whether `text` matches one of `patterns` and none that begins with `!`.
pub(super) fn any<'a>(patterns: impl IntoIterator<Item = &'a str>, text: &str) -> bool {
    let mut found = false;
    for pattern in patterns {
        match pattern.strip_prefix('!') {
            Some(never) if matches(never, text) => return false,
            Some(_) => {}
            None => found |= matches(pattern, text),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks() {
        let cases = [
            ("*", "", true),
            ("10.88.0.*", "10.88.0.11", true),
            ("10.88.?.11", "10.88.0.11", true),
            ("*.example.com", "a.b.example.com", true),
            ("*.example.com", "example.com", false),
            ("a*b*c", "aXbXbXc", true),
            ("a*b*c", "aXbXbX", false),
            ("N1", "n1", true),
            ("[n1]:2222", "[n1]:2222", true),
            ("[n1]:2222", "n", false),
            ("n1", "n11", false),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_negation_wins_wherever_it_stands() {
        assert!(any(["*.com", "!bad.com"], "good.com"));
        assert!(!any(["!bad.com", "*.com"], "bad.com"));
        assert!(!any(["!bad.com"], "good.com"), "a negation alone matches nothing");
    }
}
