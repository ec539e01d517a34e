//! A page of `docs` as a session: the files that the reader writes, the commands that the reader types, and the output
//! that the page shows. Owns the form of such a page, and how an output is compared with what the page shows. Runs
//! nothing.
//!
//! A block of `ini` whose first line is `# NAME` is the file NAME, written in the folder where commands are typed. In a
//! block of `console`, `n1# COMMAND` is typed on that host, and `$ COMMAND` on the machine of the lab, in the checkout;
//! a backslash at the end of a line continues the command. The other lines are its output. There, `…` stands for any
//! text, and a line of `…` for any lines.

/// A page, split at its headings.
#[derive(Debug)]
pub(crate) struct Page {
    /// The sections, in the page's order. The first one has no title if text comes before the first heading.
    pub(crate) sections: Vec<Section>,
}

/// What follows one heading.
#[derive(Debug, Default)]
pub(crate) struct Section {
    /// The heading.
    pub(crate) title: String,
    /// What the reader does, in order.
    pub(crate) items: Vec<Item>,
}

/// A step of the session.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Item {
    /// Write a file.
    File {
        /// Its name.
        name: String,
        /// Its text.
        text: String,
    },
    /// Type a command.
    Command {
        /// The line of the page.
        line: usize,
        /// The host; `None` for the machine of the lab.
        host: Option<String>,
        /// The command.
        command: String,
        /// The lines that the page shows of its output.
        shown: Vec<String>,
    },
}

/// The hosts of a lab.
const HOSTS: [&str; 3] = ["n1", "n2", "n3"];

impl Page {
    /// The session on the page `text`.
    ///
    /// # Panics
    /// If a block doesn't have the form described above.
    #[must_use]
    pub(crate) fn parse(text: &str) -> Self {
        let mut sections = vec![Section::default()];
        let mut lines = text.lines().zip(1..);
        while let Some((line, number)) = lines.next() {
            if let Some(title) = line.strip_prefix("#") {
                let title = title.trim_start_matches('#').trim().to_owned();
                sections.push(Section { title, items: Vec::new() });
            } else if let Some(kind) = line.strip_prefix("```") {
                let block: Vec<(&str, usize)> = lines.by_ref().take_while(|(line, _)| *line != "```").collect();
                let items = &mut sections.last_mut().unwrap().items;
                match kind {
                    "console" => session(&block, items),
                    "ini" => items.extend(file(&block)),
                    _ => assert!(!kind.is_empty(), "line {number}: a block needs a language, such as ```console"),
                }
            }
        }
        Self { sections }
    }

    /// All items, in order.
    pub(crate) fn items(&self) -> impl Iterator<Item = &Item> {
        self.sections.iter().flat_map(|section| &section.items)
    }

    /// The section under the heading `title`.
    ///
    /// # Panics
    /// If the page has none.
    #[must_use]
    pub(crate) fn section(&self, title: &str) -> &Section {
        let known = || self.sections.iter().map(|section| &section.title).collect::<Vec<_>>();
        let found = self.sections.iter().find(|section| section.title == title);
        found.unwrap_or_else(|| panic!("the page has no heading `{title}`; it has {:?}", known()))
    }
}

/// The file in a block; `None` if the block is only an excerpt, without a name.
fn file(block: &[(&str, usize)]) -> Option<Item> {
    let name = block.first()?.0.strip_prefix("# ")?;
    if name.contains(' ') || !name.contains('.') {
        return None;
    }
    let text: String = block.iter().flat_map(|(line, _)| [line, "\n"]).collect();
    Some(Item::File { name: name.into(), text })
}

fn session(block: &[(&str, usize)], items: &mut Vec<Item>) {
    let mut continues = false;
    for (at, (text, line)) in block.iter().enumerate() {
        if continues {
            let Some(Item::Command { command, .. }) = items.last_mut() else { unreachable!() };
            command.push('\n');
            command.push_str(text);
        } else if let Some((host, command)) = prompt(text) {
            items.push(Item::Command { line: *line, host, command: command.into(), shown: Vec::new() });
        } else {
            assert!(at > 0, "line {line}: a session begins with a command, not with `{text}`");
            let Some(Item::Command { shown, .. }) = items.last_mut() else { unreachable!() };
            shown.push((*text).into());
            continue;
        }
        continues = text.ends_with('\\');
    }
}

/// The host and the command of a line that begins with a prompt.
fn prompt(line: &str) -> Option<(Option<String>, &str)> {
    if let Some(command) = line.strip_prefix("$ ") {
        return Some((None, command));
    }
    let (host, command) = line.split_once("# ")?;
    HOSTS.contains(&host).then(|| (Some(host.into()), command))
}

/// Whether `seen` is the output that the page shows. Blanks, the order of lines, times and durations, process ids and
/// the lab's network are not compared, nor what a command says on a slow machine while it waits.
#[must_use]
pub(crate) fn is_as_shown(shown: &[String], seen: &str) -> bool {
    let mut shown: Vec<String> = shown.iter().map(|line| mask(line)).collect();
    let mut seen: Vec<String> = seen.lines().map(mask).collect();
    seen.retain(|line| shown.contains(line) || !tells_what_is_waited_for(line));
    if !shown.iter().any(|line| line == "…") {
        shown.sort();
        seen.sort();
    }
    lines_match(&shown, &seen)
}

/// How a note begins of what is waited for.
const WAITS: [&str; 6] = ["waiting for ", "start job on ", "starting on ", "stop job on ", "stopping on ", "on n"];

/// Whether the line is the note of a command that has waited for a second, such as `a.service: start job on n1`.
fn tells_what_is_waited_for(line: &str) -> bool {
    let unit = line.split_once(": ").filter(|(unit, _)| !unit.contains(' ') && unit.contains('.'));
    unit.is_some_and(|(_, what)| WAITS.iter().any(|note| what.starts_with(note)))
}

fn lines_match(shown: &[String], seen: &[String]) -> bool {
    match shown.split_first() {
        None => seen.is_empty(),
        Some((line, rest)) if line == "…" => (0..=seen.len()).any(|skipped| lines_match(rest, &seen[skipped..])),
        Some((line, rest)) => {
            seen.split_first().is_some_and(|(first, others)| line_matches(line, first) && lines_match(rest, others))
        }
    }
}

/// Whether the line `seen` matches `shown`, where each `…` stands for any text.
fn line_matches(shown: &str, seen: &str) -> bool {
    match shown.split_once('…') {
        None => shown == seen,
        Some((before, after)) => seen.strip_prefix(before).is_some_and(|rest| {
            rest.char_indices().map(|(at, _)| at).chain([rest.len()]).any(|at| line_matches(after, &rest[at..]))
        }),
    }
}

/// A line without the parts that differ from run to run.
fn mask(line: &str) -> String {
    const CALENDAR: &str = "Mon Tue Wed Thu Fri Sat Sun Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec";
    const UNITS: [&str; 4] = ["ms", "s", "min", "h"];
    let words: Vec<&str> = line.split_whitespace().collect();
    let is_number = |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_digit() || c == '.');
    let masked = words.iter().enumerate().map(|(at, word)| {
        let core = word.trim_matches(['(', ')', ',', ';']);
        let after_month = at > 0 && CALENDAR.split(' ').skip(7).any(|month| month == words[at - 1]);
        let next = words.get(at + 1).map_or("", |next| next.trim_matches(['(', ')', ',', ';', ':']));
        let varies = CALENDAR.split(' ').any(|name| name == core)
            || is_number(core) && (after_month || UNITS.contains(&next))
            || UNITS.iter().any(|unit| core.strip_suffix(unit).is_some_and(is_number))
            || core.len() > 4 && core.contains(':') && core.chars().all(|c| c.is_ascii_digit() || ":.".contains(c))
            || core.len() == 10 && core.matches('-').count() == 2 && is_number(&core.replace('-', ""));
        if varies { word.replace(core, "*") } else { without_ids(word) }
    });
    masked.collect::<Vec<_>>().join(" ")
}

/// `systemd[123]:` and `10.88.69.12`, without the numbers that differ.
fn without_ids(word: &str) -> String {
    let mut text = String::new();
    let mut rest = word;
    while let Some(at) = rest.find(['[', '.']) {
        let (before, after) = rest.split_at(at + 1);
        text.push_str(before);
        let digits = after.len() - after.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let is_id = before.ends_with('[') && after[digits..].starts_with(']') || text.ends_with("10.88.");
        if digits > 0 && is_id {
            text.push('*');
        } else {
            text.push_str(&after[..digits]);
        }
        rest = &after[digits..];
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        text.lines().map(Into::into).collect()
    }

    #[test]
    fn what_differs_from_run_to_run_is_not_compared_and_all_else_is() {
        for (page, output, same) in [
            ("a.service\t01aba1c8.../10.88.69.12\tactive", "a.service   01aba1c8.../10.88.7.12 active", true),
            ("a.service 01aba1c8.../10.88.69.12 active", "a.service 01aba1c8.../10.88.69.13 active", false),
            ("Nov 21 10:02:11 n2 systemd[1]: failed", "Dec 1 23:59:59 n2 systemd[17]: failed", true),
            ("Nov 21 10:02:11 n2 systemd[1]: failed", "Nov 21 10:02:11 n3 systemd[1]: failed", false),
            ("since Thu 2026-11-26 11:26:39 UTC; 466ms ago", "since Mon 2027-01-01 01:02:03 UTC; 2s ago", true),
            ("3 hosts up after 1.1 s", "3 hosts up after 12 s", true),
            ("3 hosts up after 1.1 s", "2 hosts up after 1.1 s", false),
            ("b\na", "a\nb", true),
            ("a\n…", "a\nb\nc", true),
            ("…\nb", "a\nb\nc", false),
            ("a … d", "a b c d", true),
            ("a … d", "a b c", false),
            ("", "anything", false),
            ("Unit a.service launched", "a.service: starting on n1: loading\nUnit a.service launched", true),
            ("a.service: start job on n1", "a.service: start job on n1", true),
            ("a.service: start job on n1", "", false),
            ("Unit a.service launched", "a.service: failed on n1\nUnit a.service launched", false),
        ] {
            assert_eq!(is_as_shown(&shown(page), output), same, "{page} | {output}");
        }
    }

    #[test]
    fn files_commands_and_outputs_are_found() {
        let file = "# A page\n\n```ini\n# a.service\n[Service]\n```\n";
        let session = "## Part\n```console\nn2# echo \\\n  b\nb\n$ true\n```\n";
        let page = Page::parse(&format!("{file}{session}"));
        let command = |line, host: Option<&str>, command: &str, shown: &str| Item::Command {
            line,
            host: host.map(Into::into),
            command: command.into(),
            shown: shown.lines().map(Into::into).collect(),
        };
        let file = Item::File { name: "a.service".into(), text: "# a.service\n[Service]\n".into() };
        let [first, second] = [command(9, Some("n2"), "echo \\\n  b", "b"), command(12, None, "true", "")];
        assert_eq!(page.items().collect::<Vec<_>>(), [&file, &first, &second]);
        assert_eq!(page.section("Part").items, [first, second]);
    }
}
