//! The built-in metadata of this host: what `MachineMetadata=` can ask of every host, although nobody has set it. Owns
//! their names and where each comes from; systemd's version is the agent's, which asks systemd anyway.

use std::collections::BTreeMap;
use std::fs;

use crate::model::machine::{CPUS, MEMORY, Metadata};

use super::first_line;

/// Every fact that can be read. One that can't is left out, as if the host had no such metadata.
pub(super) fn of_this_host() -> Metadata {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let os = os_release(&[read("/etc/os-release"), read("/usr/lib/os-release")].join("\n"));
    let facts = [
        ("@arch", Some(architecture(std::env::consts::ARCH).to_owned())),
        ("@os", os.get("ID").cloned()),
        ("@os-version", os.get("VERSION_ID").cloned()),
        ("@kernel", first_line("/proc/sys/kernel/osrelease").ok()),
        (CPUS, cpus(&read("/sys/devices/system/cpu/online")).map(|count| count.to_string())),
        (MEMORY, memory(&read("/proc/meminfo")).map(|size| size.to_string())),
    ];
    let known = |(name, fact): (&str, Option<String>)| Some((name.to_owned(), fact.filter(|fact| !fact.is_empty())?));
    facts.into_iter().filter_map(known).collect()
}

/// An architecture as systemd spells it (`ConditionArchitecture=`).
fn architecture(ours: &str) -> &str {
    match ours {
        "x86_64" => "x86-64",
        "aarch64" => "arm64",
        "powerpc64" if cfg!(target_endian = "little") => "ppc64-le",
        other => other,
    }
}

/// The assignments of os-release(5); the first one of a name counts.
fn os_release(text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for (name, value) in text.lines().filter_map(|line| line.trim().split_once('=')) {
        found.entry(name.to_owned()).or_insert_with(|| value.trim_matches(['"', '\'']).to_owned());
    }
    found
}

/// How many CPUs a list such as `0-3,8` names.
fn cpus(list: &str) -> Option<u32> {
    let count = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        last.parse::<u32>().ok()?.checked_sub(first.parse().ok()?)?.checked_add(1)
    };
    list.trim().split(',').map(count).sum()
}

/// `MemTotal` in MiB.
fn memory(meminfo: &str) -> Option<u64> {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(total.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_read_from_what_the_kernel_and_the_distribution_say() {
        let os = os_release("# comment\nID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME='A = B'\nID=other\n");
        assert_eq!((&*os["ID"], &*os["VERSION_ID"], &*os["PRETTY_NAME"]), ("debian", "12", "A = B"));
        for (list, count) in [("0-3\n", Some(4)), ("0", Some(1)), ("0-1,4,6-7", Some(5)), ("", None), ("3-1", None)] {
            assert_eq!(cpus(list), count, "{list:?}");
        }
        assert_eq!(memory("MemTotal:       65831148 kB\nMemFree: 1 kB\n"), Some(64288));
        assert_eq!((memory(""), memory("MemTotal: many\n")), (None, None));
        assert_eq!((architecture("aarch64"), architecture("riscv64")), ("arm64", "riscv64"));
    }

    #[test]
    fn this_host_has_its_facts() {
        let facts = of_this_host();
        for name in ["@arch", "@kernel", "@cpus", "@memory"] {
            assert!(facts.contains_key(name), "{name}: {facts:?}");
        }
        assert!(facts.keys().all(|name| crate::model::machine::check_key(name).is_err()));
    }
}
