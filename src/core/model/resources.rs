//! `Memory=` and `CPU=`: what a unit takes of its host, and how such amounts are written. Owns their syntax, and where
//! `auto` finds them. Whether a host has so much left, `plan::fit` decides.

use serde::{Deserialize, Serialize};

use super::file::UnitFile;
use super::section::{FLEET, Problem};

/// The options.
pub const OPTIONS: [&str; 2] = ["Memory", "CPU"];

/// The value that stands for what systemd's own options say.
const AUTO: &str = "auto";

/// The units of memory, from the largest, as systemd has them.
const UNITS: [(char, &str, u32); 6] =
    [('E', "EiB", 60), ('P', "PiB", 50), ('T', "TiB", 40), ('G', "GiB", 30), ('M', "MiB", 20), ('K', "KiB", 10)];

/// What can be taken of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// In bytes.
    Memory,
    /// In percent of one core.
    Cpu,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Memory, Self::Cpu];

    /// Its name in sentences.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "CPU",
        }
    }

    /// Its name for programs.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
        }
    }

    /// An amount of it, for people: `512 MiB`, `150%`.
    #[must_use]
    pub fn shown(self, amount: u64) -> String {
        match self {
            Self::Memory => size(amount),
            Self::Cpu => format!("{amount}%"),
        }
    }
}

/// An amount of each; 0 of what isn't said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "testing", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Resources {
    /// Memory, in bytes.
    #[serde(skip_serializing_if = "super::unit::is_zero")]
    pub memory: u64,
    /// CPU, in percent of one core.
    #[serde(skip_serializing_if = "super::unit::is_zero")]
    pub cpu: u64,
}

impl Resources {
    /// Whether it is nothing.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// How much of it is of one kind.
    #[must_use]
    pub fn of(&self, kind: Kind) -> u64 {
        match kind {
            Kind::Memory => self.memory,
            Kind::Cpu => self.cpu,
        }
    }

    /// Both together.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        let (memory, cpu) = (self.memory.saturating_add(other.memory), self.cpu.saturating_add(other.cpu));
        Self { memory, cpu }
    }

    /// What is left without the other one.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        let (memory, cpu) = (self.memory.saturating_sub(other.memory), self.cpu.saturating_sub(other.cpu));
        Self { memory, cpu }
    }

    /// The larger amount of each kind.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self { memory: self.memory.max(other.memory), cpu: self.cpu.max(other.cpu) }
    }
}

/// Reads the options of a file.
#[derive(Debug, Default)]
pub(super) struct Reader {
    found: Resources,
    /// Which of the options have `auto`, by the order of [`OPTIONS`].
    auto: [bool; 2],
}

impl Reader {
    /// Take a value of one of the options. The last one counts.
    pub(super) fn take(&mut self, option: &str, value: &str) -> Result<(), String> {
        let at = usize::from(option == OPTIONS[1]);
        self.auto[at] = value == AUTO;
        if self.auto[at] {
            return Ok(());
        }
        let bad = |must: &str| format!("`{option}={value}`: must be {must}, or auto");
        if at == 0 {
            let must = "a number of bytes, with K, M, G or T behind it for other units";
            self.found.memory = bytes(value).filter(|bytes| *bytes > 0).ok_or_else(|| bad(must))?;
        } else {
            let whole = |percent: &u64| *percent > 0 && !value.contains('.');
            self.found.cpu =
                percent(value).filter(whole).ok_or_else(|| bad("a percentage of one core, such as 50%"))?;
        }
        Ok(())
    }

    /// What the file says, with what `auto` stands for in it; and the options whose `auto` stands for nothing.
    pub(super) fn finish(mut self, file: &UnitFile) -> (Resources, Vec<Problem>) {
        let service = |option: &str| file.value("Service", option);
        let mut problems = Vec::new();
        let mut missing = |option: &str, what: &str| {
            let line = file.section(FLEET).filter(|found| found.name == option).last().map_or(0, |found| found.line);
            problems.push(Problem { line, what: format!("`{option}=auto`: [Service] has {what}") });
        };
        if self.auto[0] {
            let limit = ["MemoryMax", "MemoryHigh"].into_iter().find_map(|option| bytes(service(option)?));
            self.found.memory = limit.unwrap_or_default();
            if self.found.memory == 0 {
                missing(OPTIONS[0], "neither MemoryMax= nor MemoryHigh= with a number of bytes");
            }
        }
        if self.auto[1] {
            self.found.cpu = service("CPUQuota").and_then(percent).unwrap_or_default();
            if self.found.cpu == 0 {
                missing(OPTIONS[1], "no CPUQuota= with a percentage");
            }
        }
        (self.found, problems)
    }
}

/// A number of bytes as systemd writes it: `512M`, `1.5G`, `1048576`.
#[must_use]
pub fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let shift = |text: &str| UNITS.iter().find(|(letter, ..)| text.ends_with(*letter)).map(|(.., shift)| *shift);
    let (number, shift) = match shift(text) {
        Some(shift) => (&text[..text.len() - 1], shift),
        None => (text.strip_suffix('B').unwrap_or(text), 0),
    };
    let (whole, (part, scale)) = decimal(number.trim_end())?;
    let value = (u128::from(whole) << shift) + ((u128::from(part) << shift) / u128::from(scale));
    u64::try_from(value).ok()
}

/// A percentage, rounded up to a whole one: `50%`, `12.5%`.
#[must_use]
pub fn percent(text: &str) -> Option<u64> {
    let (whole, (part, _)) = decimal(text.trim().strip_suffix('%')?)?;
    whole.checked_add(u64::from(part > 0)).filter(|percent| *percent <= u64::from(u32::MAX))
}

/// The whole number, and the part behind the point with its scale.
fn decimal(text: &str) -> Option<(u64, (u64, u64))> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    if !digits(whole) || !digits(part) || part.len() > 6 {
        return None;
    }
    Some((whole.parse().ok()?, (part.parse().ok()?, 10_u64.pow(u32::try_from(part.len()).ok()?))))
}

/// `512 MiB`, `7.7 GiB`, rounded down.
fn size(bytes: u64) -> String {
    let Some((_, unit, shift)) = UNITS.iter().find(|(.., shift)| bytes >> shift > 0) else {
        return format!("{bytes} bytes");
    };
    let tenths = (u128::from(bytes) * 10) >> shift;
    match (tenths / 10, tenths % 10) {
        (whole, part) if part > 0 && whole < 10 => format!("{whole}.{part} {unit}"),
        (whole, _) => format!("{whole} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::placement::Constraints;

    fn parse(text: &str) -> Result<Resources, String> {
        let file = UnitFile::parse(text.as_bytes()).unwrap();
        let all = Constraints::parse(&file).map(|constraints| constraints.resources);
        all.map_err(|all| all.iter().map(|p| format!("{}: {p}", p.line)).collect::<Vec<_>>().join("; "))
    }

    #[test]
    fn all_forms_are_read() {
        for (options, memory, cpu) in [
            ("Memory=512M", 512 << 20, 0),
            ("Memory=1.5G\nCPU=250%", 3 << 29, 250),
            ("Memory=4096\nMemory=1K", 1024, 0),
            ("CPU=1%", 0, 1),
            ("Global=no", 0, 0),
        ] {
            let found = parse(&format!("[X-Fleet]\n{options}\n"));
            assert_eq!(found, Ok(Resources { memory, cpu }), "{options}");
        }
        for (service, memory, cpu) in [
            ("MemoryMax=1G\nMemoryHigh=1M\nCPUQuota=12.5%", 1 << 30, 13),
            ("MemoryMax=infinity\nMemoryHigh=2T\nCPUQuota=5%\nCPUQuota=200%", 2 << 40, 200),
        ] {
            let found = parse(&format!("[Service]\n{service}\n[X-Fleet]\nMemory=auto\nCPU=auto\n"));
            assert_eq!(found, Ok(Resources { memory, cpu }), "{service}");
        }
    }

    #[test]
    fn every_problem_is_named_with_its_line() {
        for bad in ["lots", "", "0", "-1", "1.G", ".5G", "1GB", "5%", "99999999999T", "infinity"] {
            let must = "must be a number of bytes, with K, M, G or T behind it for other units, or auto";
            assert_eq!(parse(&format!("[X-Fleet]\nMemory={bad}\n")), Err(format!("2: `Memory={bad}`: {must}")));
        }
        for bad in ["0.5", "", "0%", "50", "%", "1.5%", "-1%", "50 %i", "99999999999%"] {
            let must = "must be a percentage of one core, such as 50%, or auto";
            assert_eq!(parse(&format!("[X-Fleet]\nCPU={bad}\n")), Err(format!("2: `CPU={bad}`: {must}")));
        }
        let problems = "4: `Memory=auto`: [Service] has neither MemoryMax= nor MemoryHigh= with a number of bytes; \
                        5: `CPU=auto`: [Service] has no CPUQuota= with a percentage";
        for service in ["Type=simple", "MemoryMax=50%", "MemoryMax=infinity"] {
            let text = format!("[Service]\n{service}\n[X-Fleet]\nMemory=auto\nCPU=auto\n");
            assert_eq!(parse(&text).unwrap_err(), problems);
        }
    }

    #[test]
    fn amounts_are_written_for_people() {
        for (bytes, shown) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (512 << 20, "512 MiB"),
            ((512 << 20) - 1, "511 MiB"),
            (8_268_000_000, "7.7 GiB"),
            (u64::MAX, "15 EiB"),
        ] {
            assert_eq!(Kind::Memory.shown(bytes), shown);
        }
        assert_eq!(Kind::Cpu.shown(150), "150%");
    }
}
