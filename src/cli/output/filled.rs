//! Sentences for people, filled up to a width. Pure. A command in backquotes is never broken, so that it can be copied.

/// What follows a line that was too long is this much further in.
const FURTHER: usize = 2;

/// The lines of `text`, each after `indent` blanks and ending in a newline; those after the first are a little further
/// in. All have fewer characters than `width`, as far as words allow. Control characters become blanks.
pub(in crate::cli) fn filled(text: &str, indent: usize, width: usize) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let (mut filled, mut at) = (" ".repeat(indent), indent);
    for (number, word) in words(&text).enumerate() {
        let length = word.chars().count();
        let is_full = at + 1 + length >= width && at > indent + FURTHER;
        if number > 0 && is_full {
            filled.push('\n');
            filled.push_str(&" ".repeat(indent + FURTHER));
            at = indent + FURTHER;
        } else if number > 0 {
            filled.push(' ');
            at += 1;
        }
        filled.push_str(word);
        at += length;
    }
    filled.push('\n');
    filled
}

/// What is between blanks; blanks within backquotes are none.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |c| {
        quoted ^= c == '`';
        c == ' ' && !quoted
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_filled_and_commands_are_never_broken() {
        for (text, wanted) in [
            ("", "  \n"),
            ("one two", "  one two\n"),
            ("one two three four five", "  one two three\n    four five\n"),
            ("a-word-that-is-longer-than-the-line b", "  a-word-that-is-longer-than-the-line\n    b\n"),
            ("type `fleetctl start a`; then wait", "  type\n    `fleetctl start a`;\n    then wait\n"),
            ("a\tb\nc", "  a b c\n"),
        ] {
            assert_eq!(filled(text, 2, 20), wanted, "{text}");
        }
    }
}
