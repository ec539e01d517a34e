//! Manual pages from the pages of `docs`, so that each has one source. Owns which Markdown is supported, which is what
//! these pages use: headings, paragraphs, lists, blocks of code, links, emphasis.

use clap_mangen::roff::{Inline, Roff, bold, italic, roman};

/// A manual page in roff. `name` is the page's, `section` its number, `about` the rest of its NAME section; `text` is
/// Markdown, whose first heading and whose sections titled as one of `omitted` are left out.
#[must_use]
pub fn manual(name: &str, section: &str, about: &str, text: &str, omitted: &[&str]) -> String {
    let mut page = Roff::new();
    page.control("TH", [name, section]);
    page.control("SH", ["NAME"]).text([roman(format!("{name} - {about}"))]);
    page.control("SH", ["DESCRIPTION"]);
    let mut lines = text.lines().skip_while(|line| line.starts_with("# ")).peekable();
    let mut depth = 0;
    while let Some(line) = lines.next() {
        if let Some(title) = line.strip_prefix("## ") {
            indent(&mut page, &mut depth, 0);
            if omitted.contains(&title) {
                while lines.next_if(|line| !line.starts_with("## ")).is_some() {}
            } else {
                page.control("SH", [&*title.replace('`', "").to_uppercase()]);
            }
        } else if let Some(title) = line.strip_prefix("### ") {
            indent(&mut page, &mut depth, 0);
            page.control("SS", [&*title.replace('`', "")]);
        } else if line.trim_start().starts_with("```") {
            page.control("PP", []).control("RS", ["4"]).control("nf", []);
            for line in lines.by_ref().take_while(|line| !line.trim_start().starts_with("```")) {
                page.text([roman(line)]);
            }
            page.control("fi", []).control("RE", []);
        } else if !line.trim().is_empty() {
            let (level, mut paragraph) = match item(line) {
                Some((level, text)) => (Some(level), text.to_owned()),
                None => (None, line.trim().to_owned()),
            };
            while let Some(more) = lines.next_if(|line| continues(line)) {
                paragraph.push(' ');
                paragraph.push_str(more.trim());
            }
            match level {
                Some(level) => {
                    indent(&mut page, &mut depth, level);
                    page.control("IP", ["\u{2022}", "2"]);
                }
                None => {
                    indent(&mut page, &mut depth, 0);
                    page.control("PP", []);
                }
            }
            page.text(inlines(&paragraph));
        }
    }
    page.to_roff()
}

/// Go from the indentation `depth` to that of a list within `level` others.
fn indent(page: &mut Roff, depth: &mut usize, level: usize) {
    while *depth < level {
        page.control("RS", ["2"]);
        *depth += 1;
    }
    while *depth > level {
        page.control("RE", []);
        *depth -= 1;
    }
}

/// The level and the text of the first line of a list's item.
fn item(line: &str) -> Option<(usize, &str)> {
    let text = line.trim_start();
    let text = text.strip_prefix("* ").or_else(|| text.strip_prefix("- "))?;
    Some(((line.len() - line.trim_start().len()) / 2, text))
}

/// Whether a line belongs to the paragraph before it.
fn continues(line: &str) -> bool {
    !line.trim().is_empty() && item(line).is_none() && !line.starts_with('#') && !line.trim_start().starts_with("```")
}

/// Code and strong words are bold, emphasized ones italic; of a link its text is left.
fn inlines(text: &str) -> Vec<Inline> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['`', '*', '[']) {
        let (before, marked) = rest.split_at(at);
        parts.push(roman(before));
        let (inline, after) = marked_up(marked).unwrap_or_else(|| (roman(&marked[..1]), &marked[1..]));
        parts.push(inline);
        rest = after;
    }
    parts.push(roman(rest));
    parts
}

/// The marked words at the beginning of `text`, and what follows them.
fn marked_up(text: &str) -> Option<(Inline, &str)> {
    let between = |mark: &str| text.strip_prefix(mark)?.split_once(mark);
    if let Some((code, after)) = between("``").or_else(|| between("`")) {
        return Some((bold(code.trim()), after));
    }
    if let Some((strong, after)) = between("**") {
        return Some((bold(strong), after));
    }
    if let Some((emphasized, after)) = between("*") {
        return Some((italic(emphasized), after));
    }
    let (words, link) = text.strip_prefix('[')?.split_once("](")?;
    let (_, after) = link.split_once(')')?;
    Some((roman(words.replace('`', "")), after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_markdown_of_the_pages_is_understood() {
        let text = "# Title\n\nA `code`, *so*\nand [a `link`](x.md).\n\n## Part `b`\n\n* one\n  more\n  - two\n\n\
                    End.\n\n```\n.x -y\n```\n\n## Left out\n\nNothing.\n\n### Sub\n\n## Last\n\n**Strong.**\n";
        let page = manual("x.conf", "5", "the file", text, &["Left out"]);
        let lines: Vec<&str> = page.lines().skip_while(|line| !line.starts_with(".TH")).collect();
        let wanted = [
            ".TH x.conf 5",
            ".SH NAME",
            "x.conf \\- the file",
            ".SH DESCRIPTION",
            ".PP",
            "A \\fBcode\\fR, \\fIso\\fR and a link.",
            ".SH \"PART B\"",
            ".IP • 2",
            "one more",
            ".RS 2",
            ".IP • 2",
            "two",
            ".RE",
            ".PP",
            "End.",
            ".PP",
            ".RS 4",
            ".nf",
            "\\&.x \\-y",
            ".fi",
            ".RE",
            ".SH LAST",
            ".PP",
            "\\fBStrong.\\fR",
        ];
        assert_eq!(lines, wanted);
    }
}
