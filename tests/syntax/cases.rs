//! Unit files whose reading by systemd isn't obvious. `tests/unit_syntax.rs` holds the parser to what is written here;
//! `tests/lab/syntax.rs` asks a real systemd about every one of them.

/// A case: its name, its text, and what `Description=` comes to. `None` for a file that systemd refuses to load, an
/// empty string for one that says nothing.
pub(crate) type Case = (&'static str, &'static str, Option<&'static str>);

pub(crate) const CASES: [Case; 31] = [
    ("plain", "[Unit]\nDescription=one\n", Some("one")),
    ("continued", "[Unit]\nDescription=one \\\n  two\nthree\n", Some("one    two")),
    ("comment-within", "[Unit]\nDescription=one \\\n# not this\n; nor this\n two\n", Some("one   two")),
    ("blank-ends-it", "[Unit]\nDescription=one \\\n\nDescription=two\n", Some("two")),
    ("blank-ends-it-alone", "[Unit]\nDescription=one \\\n\nDocumentation=man:a\n", Some("one")),
    ("two-backslashes", "[Unit]\nDescription=one\\\\\nDocumentation=man:a\n", Some("one\\\\")),
    ("backslash-at-the-end", "[Service]\nExecStart=/bin/true\n[Unit]\nDescription=one\\", Some("one")),
    ("blanks-around", "[Unit]\nDescription  =  one # two ; three \t\n", Some("one # two ; three")),
    (
        "last-counts",
        "[Unit]\nDescription=one\nDescription=two\n[Service]\nType=exec\n[Unit]\nDescription=three\n",
        Some("three"),
    ),
    ("byte-order-mark", "\u{feff}[Unit]\r\nDescription=one\r\n", Some("one")),
    ("carriage-returns", "[Unit]\r\nDescription=one \\\r\n two\r\n", Some("one   two")),
    ("no-equals", "[Unit]\nNothing\nDescription=one\n", Some("one")),
    ("open-header", "[Unit\nDescription=one\n", None),
    ("more-after-header", "[Unit] x\nDescription=one\n", None),
    ("blank-after-header", "[Unit] \nDescription=one\n", Some("one")),
    ("indented", "  [Unit]\n\tDescription=one\n", Some("one")),
    ("quotes", "[Unit]\nDescription=\"one\" 'two'\n", Some("\"one\" 'two'")),
    ("lower-case", "[Unit]\ndescription=one\n", Some("")),
    ("equals-within", "[Unit]\nDescription=a=b=c\n", Some("a=b=c")),
    ("before-sections", "Description=one\n[Unit]\nDocumentation=man:a\n", Some("")),
    ("colon", "[Unit]\nDescription:one\n", Some("")),
    ("escapes", "[Unit]\nDescription=a\\x20b\\tc\n", Some("a\\x20b\\tc")),
    ("ours", "[X-Fleet]\nMachineOf=a.service\n[Unit]\nDescription=one\n", Some("one")),
    ("emptied", "[Unit]\nDescription=one\nDescription=\n", Some("")),
    // Only space, tab, carriage return and newline are blanks to systemd: Unicode's are text.
    ("wide-blanks-around", "[Unit]\nDescription=\u{a0}one\u{2028}\n", Some("\u{a0}one\u{2028}")),
    ("next-line-before-a-name", "[Unit]\n\u{85}Description=one\nDocumentation=man:a\n", Some("")),
    ("wide-blank-after-header", "[Unit]\u{2003}\nDescription=one\n", None),
    ("wide-blank-before-comment", "[Unit]\nDescription=one \\\n\u{2003}# two\n", Some("one  \u{2003}# two")),
    // A carriage return ends a line too; one of each, in either order, is a single end.
    ("return-within", "[Unit]\nDescription=one\rDescription=two\n", Some("two")),
    ("newline-and-return", "[Unit]\nDescription=one \\\n\r two\n", Some("one   two")),
    ("two-returns", "[Unit]\nDescription=one \\\r\r two\n", Some("one")),
];
