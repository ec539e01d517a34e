//! Reads a unit file and finds all its errors and warnings before anything is sent. Owns their wording; `model` owns
//! the rules of syntax and placement. Sends nothing and prints nothing.

use std::io::Read as _;
use std::path::Path;

use crate::cli::error::problem_line;
use crate::model::file::{MAX_LEN, UnitFile, WHITESPACE};
use crate::model::health;
use crate::model::name::UnitName;
use crate::model::placement::SECTION;
use crate::model::reserved;
use crate::model::rollout::policy;
use crate::model::section::Problem;
use crate::model::submitted;

/// Sections that are valid in every unit file.
const COMMON: [&str; 5] = ["Unit", "Install", SECTION, health::SECTION, policy::SECTION];

/// A unit file that was checked.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Checked {
    /// The file.
    pub(in crate::cli) file: UnitFile,
    /// What systemd will ignore, or what was probably not meant.
    pub(in crate::cli) warnings: Vec<Remark>,
}

/// What is wrong in a unit file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Remark {
    /// The line, from 1; `None` if it concerns the whole file.
    pub(in crate::cli) line: Option<usize>,
    /// What is wrong with it.
    pub(in crate::cli) what: String,
}

impl Remark {
    fn new(line: usize, what: impl Into<String>) -> Self {
        Self { line: (line > 0).then_some(line), what: what.into() }
    }

    /// As it is printed for the file `label`.
    pub(in crate::cli) fn of(&self, label: &str) -> String {
        problem_line(label, self.line, &self.what)
    }
}

/// Read and check the file at `path` for the unit `name`.
///
/// # Errors
/// All errors of the file.
pub(in crate::cli) fn file(path: &Path, name: &UnitName) -> Result<Checked, Vec<Remark>> {
    let bytes = read(path).map_err(|what| vec![Remark::new(0, what)])?;
    text(&bytes, name)
}

/// Read at most one byte more than allowed, so that `fleetctl start disk.img` fails at once.
fn read(path: &Path) -> Result<Vec<u8>, String> {
    // Checked before opening: opening a FIFO would wait for its other end.
    let about = std::fs::metadata(path).map_err(|error| in_words(&error))?;
    if about.is_dir() {
        return Err("a directory, not a unit file".into());
    }
    // The shell's `<(…)` is a pipe under /dev/fd whose other end is open.
    if !about.is_file() && !path.starts_with("/dev/fd") {
        return Err("not a regular file".into());
    }
    if about.len() > MAX_LEN as u64 {
        return Err(format!("unit file is {} bytes long; at most {MAX_LEN} are possible", about.len()));
    }
    let file = std::fs::File::open(path).map_err(|error| in_words(&error))?;
    let mut bytes = Vec::new();
    file.take(MAX_LEN as u64 + 1).read_to_end(&mut bytes).map_err(|error| in_words(&error))?;
    Ok(bytes)
}

fn in_words(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => "can't read it: permission denied".into(),
        std::io::ErrorKind::NotFound => "no such file".into(),
        _ => format!("can't read it: {error}"),
    }
}

/// Check the text `bytes` for the unit `name`.
///
/// # Errors
/// All errors of the file.
pub(in crate::cli) fn text(bytes: &[u8], name: &UnitName) -> Result<Checked, Vec<Remark>> {
    if let Some(why) = reserved::why(name) {
        return Err(vec![Remark::new(0, why)]);
    }
    let file = UnitFile::parse(bytes).map_err(|error| vec![Remark { line: error.line(), what: error.what() }])?;
    let remarks = |found: Vec<Problem>| found.into_iter().map(|found| Remark::new(found.line, found.what));
    let odd = submitted::check(name, &file).map_err(|problems| remarks(problems).collect::<Vec<_>>())?;
    let ignored = file.warnings().iter().map(|warning| Remark::new(warning.line, format!("{}, ignored", warning.what)));
    let warnings = ignored.chain(remarks(odd)).chain(sections(&file, name)).collect();
    Ok(Checked { file, warnings })
}

/// Warnings about sections that systemd will ignore, and about misspelt ones of the cluster.
fn sections(file: &UnitFile, name: &UnitName) -> Vec<Remark> {
    let own = own_section(name.kind());
    let mut seen: Vec<&str> = Vec::new();
    let mut remarks = Vec::new();
    for section in file.options().iter().map(|option| option.section.as_str()) {
        if seen.contains(&section) {
            continue;
        }
        seen.push(section);
        if COMMON.contains(&section) || Some(section) == own {
            continue;
        }
        let what = if let Some(ours) = nearly(section) {
            format!("section [{section}] means nothing, ignored; did you mean [{ours}]?")
        } else if section.starts_with("X-") {
            continue;
        } else {
            format!("section [{section}] means nothing in a .{} unit, ignored by systemd", name.kind())
        };
        remarks.push(Remark::new(line_of(file.text(), section), what));
    }
    remarks
}

/// The section of the cluster that is probably meant: `[X-fleet]`, `[Fleet]`, `[X_Fleet]`, `[xfleet]`, `[X-Flet]`.
fn nearly(section: &str) -> Option<&'static str> {
    let plain: String = section.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    match plain.strip_prefix('x').unwrap_or(&plain) {
        "fleet" | "flet" | "fleeet" | "flete" | "feet" | "flotilla" => Some(SECTION),
        "health" | "heath" | "helth" | "healht" | "healt" | "healthcheck" | "probe" | "probes" => Some(health::SECTION),
        "rollout" | "rollouts" | "rolout" | "rollot" | "rollut" | "roleout" => Some(policy::SECTION),
        _ => None,
    }
}

fn own_section(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "service" => "Service",
        "socket" => "Socket",
        "mount" => "Mount",
        "automount" => "Automount",
        "swap" => "Swap",
        "timer" => "Timer",
        "path" => "Path",
        "slice" => "Slice",
        _ => return None,
    })
}

fn line_of(text: &str, section: &str) -> usize {
    let header = format!("[{section}]");
    text.lines().position(|line| line.trim_matches(WHITESPACE) == header).map_or(1, |index| index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, content: &str) -> Result<Vec<String>, Vec<String>> {
        let printed = |remarks: &[Remark]| remarks.iter().map(|remark| remark.of(name)).collect::<Vec<_>>();
        let checked = text(content.as_bytes(), &name.parse().unwrap());
        checked.map(|checked| printed(&checked.warnings)).map_err(|problems| printed(&problems))
    }

    #[test]
    fn a_reserved_name_is_refused_before_its_file_is_read() {
        let refused = check("dbus.service", "no unit file").unwrap_err();
        assert!(refused[0].starts_with("dbus.service: the name belongs to one of systemd's own units"), "{refused:?}");
        assert!(check(".x.service", "[Service]\nExecStart=/bin/true\n").unwrap_err()[0].contains("begin with a dot"));
    }

    #[test]
    fn problems_have_file_and_line() {
        let fine = "[Service]\nExecStart=/bin/true\n";
        assert_eq!(check("db.service", fine), Ok(vec![]));
        assert_eq!(
            check("db.service", &format!("{fine}[X-Fleet]\nMachineMetdata=a=b\nGlobal=perhaps\n")).unwrap_err(),
            [
                "db.service:4: unknown option `MachineMetdata` in [X-Fleet]; did you mean `MachineMetadata`?",
                "db.service:5: `Global=perhaps`: must be true or false"
            ]
        );
        assert_eq!(
            check("db.service", &format!("{fine}[X-Fleet]\nGlobal=true\nMachineOf=a.service\n")).unwrap_err(),
            ["db.service: Global cannot be used with Peers"]
        );
        assert_eq!(check("db.service", "").unwrap_err(), ["db.service: no options in it: not a unit file"]);
        assert!(check("db.service", "[Unit\nx=1").unwrap_err()[0].starts_with("db.service:1: bad section header"));
        assert!(check("db.service", "[Unit]\nx=\u{7}").unwrap_err()[0].starts_with("db.service:2: not a text file"));
    }

    #[test]
    fn the_sections_for_the_cluster_are_all_checked() {
        let file = "[Service]\nExecStart=/bin/true\n[X-Fleet]\nReplicas=3\n[X-Rollout]\n";
        let canaries = "web@.service:6: `Canary=4`: web@.service has 3 instances, so all of them are canaries";
        assert_eq!(check("web@.service", &format!("{file}Canary=4\n")).unwrap(), [canaries]);
        let unknown = "web@.service:6: unknown option `Paralel` in [X-Rollout]; did you mean `Parallel`?";
        assert_eq!(check("web@.service", &format!("{file}Paralel=4\n")).unwrap_err(), [unknown]);
        let odd = check("db.service", "[Service]\nExecStart=/bin/true\n[Rollout]\nParallel=1\n").unwrap();
        assert_eq!(odd, ["db.service:3: section [Rollout] means nothing, ignored; did you mean [X-Rollout]?"]);
    }

    #[test]
    fn what_systemd_ignores_is_said_once() {
        let odd = "early=1\n[Unit]\nAfter=a\n[X-Own]\na=b\n[X-fleet]\nGlobal=true\n[Timer]\nOnCalendar=daily\n\
            Persistent=yes\n";
        assert_eq!(
            check("db.service", odd).unwrap(),
            [
                "db.service:1: \"early=1\" stands before any [section], ignored",
                "db.service:6: section [X-fleet] means nothing, ignored; did you mean [X-Fleet]?",
                "db.service:8: section [Timer] means nothing in a .service unit, ignored by systemd"
            ]
        );
        assert_eq!(check("db.timer", "[Timer]\nOnCalendar=daily\n"), Ok(vec![]));
    }

    #[test]
    fn what_cant_be_a_unit_file_is_said_in_a_sentence() {
        let name = "x.service".parse().unwrap();
        let said = |path: &str| file(Path::new(path), &name).unwrap_err()[0].of(path);
        assert_eq!(said("/"), "/: a directory, not a unit file");
        assert_eq!(said("/nonexistent/x.service"), "/nonexistent/x.service: no such file");
        assert_eq!(said("/dev/zero"), "/dev/zero: not a regular file");
        let dir = tempfile::tempdir().unwrap();
        let big = dir.path().join("x.service");
        std::fs::write(&big, vec![b'x'; 10 << 20]).unwrap();
        assert!(
            file(&big, &name).unwrap_err()[0]
                .what
                .ends_with("unit file is 10485760 bytes long; at most 262144 are possible")
        );
    }
}
