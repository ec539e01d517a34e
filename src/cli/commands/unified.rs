//! The difference of two texts, as `diff -u` prints it. Pure.

use similar::TextDiff;

/// Lines around each difference.
const CONTEXT: usize = 3;

/// The lines that differ, as `diff -u` prints them; nothing if none does.
pub(super) fn unified(old: &str, new: &str, from: &str, to: &str) -> String {
    TextDiff::from_lines(old, new).unified_diff().context_radius(CONTEXT).header(from, to).to_string()
}

/// The same in `git diff`'s colours.
pub(super) fn painted(lines: &str, colours: bool) -> String {
    if !colours {
        return lines.into();
    }
    let paint = |line: &str| {
        let colour = match line.as_bytes().first() {
            Some(b'+') => "32",
            Some(b'-') => "31",
            Some(b'@') => "36",
            _ => return format!("{line}\n"),
        };
        format!("\u{1b}[{colour}m{line}\u{1b}[0m\n")
    };
    lines.lines().map(paint).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_printed_as_diff_does() {
        assert_eq!(unified("a\nb\n", "a\nb\n", "x", "y"), "");
        let lines = unified("a\nb\n", "a\nc", "x", "y");
        assert_eq!(lines, "--- x\n+++ y\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n\\ No newline at end of file\n");
        assert_eq!(painted(&lines, false), lines);
        assert!(painted(&lines, true).contains("\n\u{1b}[31m-b\u{1b}[0m\n"));
    }
}
