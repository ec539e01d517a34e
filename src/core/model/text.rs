//! Texts for people. Owns what is removed from the texts of others, how much of them a report may hold, and how a word
//! is typed in a shell. The files through which texts leave a program use `without_os_error`, and no others:
//! `tests/layers` has their list.

use std::borrow::Cow;

/// `text` without ` (os error 28)`, which Rust appends to the text of an error of the operating system: the number says
/// nothing to people, and the words are in front of it.
#[must_use]
pub fn without_os_error(text: &str) -> Cow<'_, str> {
    const BEGIN: &str = " (os error ";
    let mut rest = text;
    let mut kept: Option<String> = None;
    while let Some((before, after)) = rest.split_once(BEGIN) {
        let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
        let out = kept.get_or_insert_default();
        out.push_str(before);
        rest = match after[digits..].strip_prefix(')') {
            Some(after) if digits > 0 => after,
            _ => {
                out.push_str(BEGIN);
                after
            }
        };
    }
    match kept {
        Some(kept) => Cow::Owned(kept + rest),
        None => Cow::Borrowed(text),
    }
}

/// The most bytes of a unit's own status text in a report.
const MAX_STATUS: usize = 200;

/// A unit's own status text (`STATUS=`) as it is reported: one line, bounded, and nothing that speaks to a terminal.
/// `None` if nothing is left of it.
#[must_use]
pub fn status(text: &str) -> Option<String> {
    let text = cut(&escaped(text.trim()), MAX_STATUS);
    (!text.is_empty()).then_some(text)
}

/// `word` as a shell reads it as one word: in quotes unless none are needed.
#[must_use]
pub fn shell_word(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.,:=/@+%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// `text` with its control characters as `\x1b`.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t' => out.push(' '),
            c if c.is_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

/// The beginning of `text`, of at most `most` bytes.
pub(super) fn cut(text: &str, most: usize) -> String {
    const MARK: &str = "…";
    if text.len() <= most {
        return text.to_owned();
    }
    let Some(room) = most.checked_sub(MARK.len()) else { return String::new() };
    let end = (0..=room).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}{MARK}", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_a_shell_if_they_need_it() {
        for (word, typed) in [
            ("--unit=web@1.service", "--unit=web@1.service"),
            ("", "''"),
            ("a b", "'a b'"),
            ("web@*", "'web@*'"),
            ("it's", r"'it'\''s'"),
        ] {
            assert_eq!(shell_word(word), typed);
        }
    }

    #[test]
    fn numbers_of_errors_are_removed_and_nothing_else() {
        let cases = [
            (
                "cannot write /run/x: No space left on device (os error 28)",
                "cannot write /run/x: No space left on device",
            ),
            ("a (os error 2); b (os error 13): c", "a; b: c"),
            ("a (os error ) b (os error x) (os error 1", "a (os error ) b (os error x) (os error 1"),
            ("nothing of it", "nothing of it"),
        ];
        for (text, expected) in cases {
            assert_eq!(without_os_error(text), expected);
        }
        let real = std::io::Error::from_raw_os_error(28).to_string();
        assert_eq!(without_os_error(&real), "No space left on device", "{real}");
    }

    #[test]
    fn a_status_is_one_harmless_line_of_bounded_length() {
        assert_eq!(status(" loading 1 of 3\n"), Some("loading 1 of 3".into()));
        assert_eq!(status("a\u{1b}[2J\tb\nc"), Some("a\\x1b[2J b\\x0ac".into()));
        assert_eq!((status(""), status(" \n")), (None, None));
        let long = status(&"ü".repeat(300)).unwrap();
        assert!(long.len() <= 200 && long.ends_with('…'), "{long}");
        assert_eq!(status(&long), Some(long.clone()), "bounds are met");
    }
}
