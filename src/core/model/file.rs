//! Unit file syntax, as in systemd (`systemd.syntax(7)`, compared with systemd 252 in `tests/unit_syntax.rs`). Owns the
//! conversion of text to options and back, the canonical text and its hash. Knows nothing about the meaning of options.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};
use sha1::{Digest, Sha1};

use super::name::UnitHash;

/// The largest unit file in bytes: several fit into one commit of the store.
pub const MAX_LEN: usize = 256 * 1024;

/// systemd's white space. Other white space of Unicode is text to systemd, and thus part of a name or value.
pub const WHITESPACE: [char; 4] = [' ', '\t', '\n', '\r'];

/// One `name=value` line, continuations joined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "testing", derive(schemars::JsonSchema))]
pub struct UnitOption {
    /// What stands before the first `=`.
    pub name: String,
    /// The section it stands in.
    pub section: String,
    /// What stands after it, trimmed, continuation lines joined as systemd joins them.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub value: String,
    /// The same as CoreOS fleet had it, if that is something else: continuation lines with their backslashes and line
    /// ends.
    #[serde(skip)]
    pub written: Option<String>,
    /// The line it begins on, from 1; 0 when it was made from options, not from text.
    #[serde(skip)]
    pub line: usize,
}

impl UnitOption {
    /// The value in CoreOS fleet's form.
    #[must_use]
    pub fn written(&self) -> &str {
        self.written.as_deref().unwrap_or(&self.value)
    }
}

/// A unit file: its original text, and its options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitFile {
    text: String,
    options: Vec<UnitOption>,
    warnings: Vec<Warning>,
    /// Computed once, since it is used often.
    hash: UnitHash,
}

/// A line that systemd ignores; reported to the user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}, ignored")]
pub struct Warning {
    /// The line, from 1.
    pub line: usize,
    /// Why it is ignored.
    pub what: String,
}

/// Why a text isn't a unit file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileError {
    /// Longer than [`MAX_LEN`].
    TooLong(usize),
    /// Not a text file.
    Binary(usize, u8),
    /// A section header that isn't closed, or continues after its `]`.
    Header(usize, String),
    /// There is no option.
    Empty,
}

impl FileError {
    /// The line that is wrong, from 1, if it is one line of a text.
    #[must_use]
    pub fn line(&self) -> Option<usize> {
        match self {
            Self::Binary(line, _) | Self::Header(line, _) if *line > 0 => Some(*line),
            _ => None,
        }
    }

    /// What is wrong, without its line.
    #[must_use]
    pub fn what(&self) -> String {
        match self {
            Self::TooLong(bytes) => format!("unit file is {bytes} bytes long; at most {MAX_LEN} are possible"),
            Self::Binary(_, byte) => format!("not a text file (byte {byte:#04x})"),
            Self::Header(_, text) => format!("bad section header {text:?}: it must be [Name], alone on its line"),
            Self::Empty => "no options in it: not a unit file".into(),
        }
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.line().map_or(Ok(()), |line| write!(f, "line {line}: "))?;
        f.write_str(&self.what())
    }
}

impl std::error::Error for FileError {}

impl UnitFile {
    /// Parse `bytes` as systemd would.
    ///
    /// # Errors
    /// A file that systemd refuses to load, or that can't be a unit file: see [`FileError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, FileError> {
        if bytes.len() > MAX_LEN {
            return Err(FileError::TooLong(bytes.len()));
        }
        let line_of = |at: usize| bytes[..at].iter().filter(|b| **b == b'\n').count() + 1;
        let text = std::str::from_utf8(bytes)
            .map_err(|error| FileError::Binary(line_of(error.valid_up_to()), bytes[error.valid_up_to()]))?;
        let control = |b: &u8| b.is_ascii_control() && !matches!(b, b'\n' | b'\r' | b'\t');
        if let Some(at) = bytes.iter().position(control) {
            return Err(FileError::Binary(line_of(at), bytes[at]));
        }
        let mut reader = Reader::default();
        for line in logical_lines(text) {
            reader.take(&line)?;
        }
        if reader.options.is_empty() {
            return Err(FileError::Empty);
        }
        let hash = hash(&reader.options);
        Ok(Self { text: text.into(), options: reader.options, warnings: reader.warnings, hash })
    }

    /// A file from a list of options, as sent by clients of the v1 API. Its text is canonical.
    ///
    /// # Errors
    /// As [`UnitFile::parse`] for the resulting text, and [`FileError::Header`] for a section, name or value that would
    /// change when it is written to a file and parsed again.
    pub fn from_options(options: &[UnitOption]) -> Result<Self, FileError> {
        let text = canonical(options);
        let file = Self::parse(text.as_bytes())?;
        let stripped = |o: &UnitOption| (o.section.clone(), strip(&o.name), o.value.clone());
        let mut wanted: Vec<_> = grouped(options)
            .into_iter()
            .flat_map(|(_, o)| o)
            .map(|o| {
                let (section, name, value) = stripped(o);
                (section, name, fold(&value))
            })
            .collect();
        let mut found: Vec<_> = file.options.iter().map(stripped).collect();
        wanted.sort();
        found.sort();
        if wanted == found {
            return Ok(file);
        }
        let odd = wanted.iter().zip(&found).find(|(a, b)| a != b).map(|(a, _)| a.clone()).unwrap_or_default();
        Err(FileError::Header(0, format!("[{}] {}={}", odd.0, odd.1, odd.2)))
    }

    /// The original text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// All options, in file order.
    #[must_use]
    pub fn options(&self) -> &[UnitOption] {
        &self.options
    }

    /// All options in the form of the v1 API: original values, including continuation lines.
    #[must_use]
    pub fn written_options(&self) -> Vec<UnitOption> {
        let written = |option: &UnitOption| UnitOption { value: option.written().into(), ..option.clone() };
        self.options.iter().map(written).collect()
    }

    /// The lines that systemd ignores.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// The options of one section, in file order.
    pub fn section<'a>(&'a self, section: &'a str) -> impl Iterator<Item = &'a UnitOption> {
        self.options.iter().filter(move |option| option.section == section)
    }

    /// The last value of a single-valued option such as `Description=`.
    #[must_use]
    pub fn value(&self, section: &str, name: &str) -> Option<&str> {
        self.options.iter().rfind(|o| o.section == section && o.name == name).map(|o| o.value.as_str())
    }

    /// Whether it is meant to end by itself, and is inactive then: `Type=oneshot` without `RemainAfterExit=`.
    #[must_use]
    pub fn ends_by_itself(&self) -> bool {
        self.value("Service", "Type") == Some("oneshot") && !self.is_set("Service", "RemainAfterExit")
    }

    /// Whether a boolean option is true.
    #[must_use]
    pub fn is_set(&self, section: &str, name: &str) -> bool {
        let value = self.value(section, name).unwrap_or_default().to_ascii_lowercase();
        matches!(&*value, "1" | "yes" | "y" | "true" | "t" | "on")
    }

    /// Whether systemd accepts messages of it, such as `STATUS=`: `Type=notify`, or `NotifyAccess=`.
    #[must_use]
    pub fn may_notify(&self) -> bool {
        let kind = self.value("Service", "Type").unwrap_or_default();
        let access = self.value("Service", "NotifyAccess").unwrap_or_default();
        matches!(kind, "notify" | "notify-reload") || !matches!(access, "" | "none")
    }

    /// Whether systemd can enable it: it has an `[Install]` section.
    #[must_use]
    pub fn has_install(&self) -> bool {
        self.section("Install").next().is_some()
    }

    /// CoreOS fleet's canonical text: see [`canonical`].
    #[must_use]
    pub fn canonical(&self) -> String {
        canonical(&self.options)
    }

    /// Identifies the text as it was submitted, comments included: the SHA-1 of `text`, a zero byte and the text. It is
    /// no file's [`UnitFile::hash`], because no canonical text has a zero byte.
    #[must_use]
    pub fn text_hash(&self) -> UnitHash {
        digest(&[b"text\0", self.text.as_bytes()])
    }

    /// The SHA-1 of the canonical text. Files with the same hash are equal, as in CoreOS fleet.
    #[must_use]
    pub fn hash(&self) -> UnitHash {
        self.hash.clone()
    }
}

fn hash(options: &[UnitOption]) -> UnitHash {
    digest(&[canonical(options).as_bytes()])
}

/// The SHA-1 of all `parts`, one after another.
pub(super) fn sha1(parts: &[&[u8]]) -> [u8; 20] {
    let mut sha = Sha1::new();
    parts.iter().for_each(|part| sha.update(part));
    sha.finalize().into()
}

/// The same as a hash.
fn digest(parts: &[&[u8]]) -> UnitHash {
    UnitHash::new(&sha1(parts).iter().fold(String::with_capacity(40), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    }))
}

#[derive(Default)]
struct Reader {
    section: Option<String>,
    options: Vec<UnitOption>,
    warnings: Vec<Warning>,
}

impl Reader {
    fn take(&mut self, line: &Line) -> Result<(), FileError> {
        let Line { first: line, joined, written } = line;
        let (line, content) = (*line, joined.trim_matches(WHITESPACE));
        if content.is_empty() {
            return Ok(());
        }
        if let Some(header) = content.strip_prefix('[') {
            let section = header.strip_suffix(']').ok_or_else(|| FileError::Header(line, clip(content)))?;
            self.section = Some(section.into());
            return Ok(());
        }
        let problem = match (content.split_once('='), &self.section) {
            (Some((name, _)), _) if name.trim_matches(WHITESPACE).is_empty() => "no name before `=`".into(),
            (Some((name, value)), Some(section)) => {
                let (name, value) = (strip(name), strip(value));
                let written = written.split_once('=').map(|(_, written)| as_written(written));
                let written = written.filter(|written| *written != value);
                self.options.push(UnitOption { section: section.clone(), name, value, written, line });
                return Ok(());
            }
            (Some(_), None) => format!("{:?} stands before any [section]", clip(content)),
            (None, _) => format!("{:?} has no `=`", clip(content)),
        };
        self.warnings.push(Warning { line, what: problem });
        Ok(())
    }
}

/// A line with its continuations.
struct Line {
    /// The number of its first line, from 1.
    first: usize,
    /// As systemd reads it.
    joined: String,
    /// With backslashes and line ends.
    written: String,
}

/// Lines with continuations joined and without comments.
fn logical_lines(text: &str) -> Vec<Line> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = Vec::new();
    let mut open: Option<Line> = None;
    for (index, raw) in physical_lines(text).enumerate() {
        // A comment inside a continuation is skipped, and the continuation continues.
        if raw.trim_start_matches(WHITESPACE).starts_with(['#', ';']) {
            continue;
        }
        let mut line = match open.take() {
            Some(before) => {
                Line { joined: before.joined + raw, written: before.written + "\n" + raw, first: before.first }
            }
            None => Line { first: index + 1, joined: raw.to_owned(), written: raw.to_owned() },
        };
        // Only an odd number of backslashes at the end continues the line.
        if line.joined.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1 {
            line.joined.pop();
            line.joined.push(' ');
            open = Some(line);
        } else {
            lines.push(line);
        }
    }
    lines.extend(open);
    lines
}

/// Lines as in systemd: they end at a newline, at a carriage return, or at one of each in either order.
fn physical_lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(at) = text.find(['\n', '\r']) else { return rest.take() };
        let (line, end) = text.split_at(at);
        let length = if end.starts_with("\r\n") || end.starts_with("\n\r") { 2 } else { 1 };
        rest = Some(&end[length..]);
        Some(line)
    })
}

fn strip(text: &str) -> String {
    text.trim_matches(WHITESPACE).to_owned()
}

fn grouped<'a>(options: impl IntoIterator<Item = &'a UnitOption>) -> Vec<(&'a str, Vec<&'a UnitOption>)> {
    let mut sections: Vec<(&str, Vec<&UnitOption>)> = Vec::new();
    // Keeps this linear for files with many sections.
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    for option in options {
        let place = *places.entry(&option.section).or_insert_with(|| {
            sections.push((&option.section, Vec::new()));
            sections.len() - 1
        });
        sections[place].1.push(option);
    }
    sections
}

/// CoreOS fleet's canonical text: sections in order of first occurrence, repeated ones merged, `Name=Value`, a blank
/// line between sections. fleet wrote this text to its hosts, and hashed it.
#[must_use]
pub fn canonical(options: &[UnitOption]) -> String {
    canonical_of(options)
}

/// The canonical text of some options.
pub(super) fn canonical_of<'a>(options: impl IntoIterator<Item = &'a UnitOption>) -> String {
    let mut text = String::new();
    for (section, members) in grouped(options) {
        if !text.is_empty() {
            text.push('\n');
        }
        let _ = writeln!(text, "[{section}]");
        for option in members {
            let _ = writeln!(text, "{}={}", option.name, option.written());
        }
    }
    text
}

/// A value with its continuation lines. If it ends with a backslash it keeps the following line end, as in fleet:
/// otherwise it would be joined with the next line of the canonical text.
fn as_written(value: &str) -> String {
    let mut value = strip(value);
    if value.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1 {
        value.push('\n');
    }
    value
}

/// The result of writing and parsing a value that contains continuation lines (fleet's clients keep them).
fn fold(value: &str) -> String {
    let line = format!("x={value}");
    logical_lines(&line)
        .first()
        .and_then(|line| line.joined.split_once('='))
        .map_or(String::new(), |(_, value)| strip(value))
}

fn clip(text: &str) -> String {
    const SHOWN: usize = 60;
    if text.chars().count() <= SHOWN { text.into() } else { text.chars().take(SHOWN).chain("…".chars()).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> Vec<(String, String, String)> {
        let file = UnitFile::parse(text.as_bytes()).unwrap();
        file.options.into_iter().map(|o| (o.section, o.name, o.value)).collect()
    }

    #[test]
    fn texts_with_the_same_hash_are_told_apart() {
        let file = |text: &str| UnitFile::parse(text.as_bytes()).unwrap();
        let (plain, explained) = (file("[Service]\nExecStart=/a\n"), file("# why\n[Service]\nExecStart = /a\n\n"));
        assert_eq!(plain.hash(), explained.hash());
        assert_ne!(plain.text_hash(), explained.text_hash());
        assert_ne!(plain.text_hash(), plain.hash(), "also for a canonical text, whose SHA-1 is its hash");
    }

    #[test]
    fn hash_is_fleets() {
        let text = "[Service]\nExecStart=/bin/bash -c \"while true; do echo Hello, World!; sleep 1; done\"\n";
        let file = UnitFile::parse(text.as_bytes()).unwrap();
        assert_eq!(file.canonical(), text);
        assert_eq!(file.hash().as_str(), "3750b3e9f3962a56c7582929426e9abb012754cf");
        // Comments, spacing and repeated sections don't change the hash.
        let other = text.replace("ExecStart=", "# comment\n  ExecStart = ");
        assert_eq!(UnitFile::parse(other.as_bytes()).unwrap().hash(), file.hash());
    }

    /// fleet kept backslashes and line ends in values, hashed them, and returned them to its clients.
    #[test]
    fn continued_lines_keep_fleets_hash() {
        let text = "[Service]\nExecStart=/usr/bin/docker run \\\n  --name web \\\n  nginx\nRestart=always\n";
        let file = UnitFile::parse(text.as_bytes()).unwrap();
        assert_eq!(file.canonical(), text);
        // Computed with sha1sum.
        assert_eq!(file.hash().as_str(), "24ce13a7dc02323f908adcfc005e772f86bf89c9");
        assert_eq!(file.value("Service", "ExecStart"), Some("/usr/bin/docker run    --name web    nginx"));
        let wire = file.written_options();
        assert_eq!(wire[0].value, "/usr/bin/docker run \\\n  --name web \\\n  nginx");
        assert_eq!(UnitFile::from_options(&wire).unwrap().hash(), file.hash());
    }

    #[test]
    fn sections_merge_in_canonical_text() {
        let file = UnitFile::parse(b"[A]\nx=1\n[B]\ny=2\n[A]\nz=3\n").unwrap();
        assert_eq!(file.canonical(), "[A]\nx=1\nz=3\n\n[B]\ny=2\n");
    }

    /// A file of the largest size with sections only must not take longer to parse than others.
    #[test]
    fn many_sections_are_no_trouble() {
        let text: String = (0..25_000).map(|n| format!("[{n:x}]\na=\n")).collect();
        assert!(text.len() <= MAX_LEN, "{}", text.len());
        let begun = std::time::Instant::now();
        let file = UnitFile::parse(text.as_bytes()).unwrap();
        let hashes: Vec<_> = (0..100).map(|_| file.hash()).collect();
        assert!(hashes.iter().all(|hash| *hash == hashes[0]) && file.options().len() == 25_000);
        // Comparing each section with all previous ones took a hundred times as long.
        assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
    }

    #[test]
    fn lines_that_systemd_ignores_are_warnings() {
        let file = UnitFile::parse(b"early=1\n[Unit]\nnonsense\n=x\nDescription=d\n").unwrap();
        let lines: Vec<_> = file.warnings().iter().map(|w| w.line).collect();
        assert_eq!((lines, options("[U]\na=b")), (vec![1, 3, 4], vec![("U".into(), "a".into(), "b".into())]));
    }

    #[test]
    fn what_is_no_unit_file_is_refused() {
        assert_eq!(UnitFile::parse(b"\n\n[Unit\nx=1"), Err(FileError::Header(3, "[Unit".into())));
        assert_eq!(UnitFile::parse(b"[Unit] x\nx=1"), Err(FileError::Header(1, "[Unit] x".into())));
        assert_eq!(UnitFile::parse(b"\x7fELF\x02"), Err(FileError::Binary(1, 0x7f)));
        assert_eq!(UnitFile::parse(b"[Unit]\nx=\xff"), Err(FileError::Binary(2, 0xff)));
        assert_eq!(UnitFile::parse(b"hello world\n"), Err(FileError::Empty));
        assert_eq!(UnitFile::parse(&vec![b'x'; MAX_LEN + 1]), Err(FileError::TooLong(MAX_LEN + 1)));
    }

    #[test]
    fn options_make_a_file_and_come_back() {
        let option = |section: &str, name: &str, value: &str| UnitOption {
            section: section.into(),
            name: name.into(),
            value: value.into(),
            written: None,
            line: 0,
        };
        let file =
            UnitFile::from_options(&[option("Service", "ExecStart", "/bin/a \\\n b"), option("Unit", "After", "x")])
                .unwrap();
        assert_eq!(file.value("Service", "ExecStart"), Some("/bin/a   b"));
        for bad in
            [option("S", "A", "x\nB=y"), option("S]\n[T", "A", "x"), option("S", "A=B", "x"), option("S", "#A", "x")]
        {
            assert!(UnitFile::from_options(std::slice::from_ref(&bad)).is_err(), "{bad:?}");
        }
    }
}
