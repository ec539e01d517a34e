//! Texts for people. Owns what is removed from the texts of others. The files through which texts leave a program use
//! it, and no others: `tests/layers` has their list.

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
