//! What systemd has of a unit's file. Owns which changes of a file leave a running unit as it is. Knows nothing about
//! the meaning of options, except that `OnDisconnect=stop` gives systemd a drop-in for the unit.

use super::disconnect::ends_with_lease;
use super::file::{UnitFile, canonical_of, sha1};

/// What a section's name begins with that systemd skips without a word.
pub const SKIPPED: &str = "X-";

/// Identifies what systemd has of a file: the SHA-1 of its canonical text without the sections that systemd skips, and
/// of whether it ends with the host's lease. A unit that runs with one file runs as well with another of the same body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BodyHash([u8; 20]);

impl BodyHash {
    /// The body of `file`.
    #[must_use]
    pub fn of(file: &UnitFile) -> Self {
        let read = canonical_of(file.options().iter().filter(|option| !option.section.starts_with(SKIPPED)));
        let bound: &[u8] = if ends_with_lease(file) { b"\0lease" } else { b"" };
        Self(sha1(&[read.as_bytes(), bound]))
    }

    /// The body of the file with this text; `None` if it isn't a unit file.
    #[must_use]
    pub fn of_text(text: &str) -> Option<Self> {
        UnitFile::parse(text.as_bytes()).ok().map(|file| Self::of(&file))
    }
}

/// Whether systemd reads the same from two texts: they differ at most in comments, in white space, and in sections
/// whose names begin with `X-`.
#[must_use]
pub fn is_same_to_systemd(one: &str, other: &str) -> bool {
    let body = BodyHash::of_text(one);
    body.is_some() && body == BodyHash::of_text(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEB: &str = "[Unit]\nDescription=web\n[Service]\nExecStart=/bin/web\n";

    #[test]
    fn sections_that_systemd_skips_are_no_part_of_the_body() {
        let same = [
            "[X-Fleet]\nGlobal=true\n",
            "[X-Fleet]\nMachineMetadata=a=b\nConflicts=web@*\n",
            "[X-Fleet]\nOnDisconnect=keep\n",
            "[X-Rollout]\nParallel=2\n",
            "[X-Health]\nReady=tcp:80\n",
            "[X-Anything]\nA=1\n",
            "# why\n\n[X-]\nA=1\n",
            "\n; white space and comments\n",
        ];
        for more in same {
            assert!(is_same_to_systemd(WEB, &format!("{WEB}{more}")), "{more}");
            assert!(is_same_to_systemd(WEB, &format!("{more}{WEB}")), "{more}");
        }
        let split = "[Unit]\nDescription=web\n[X-Fleet]\nGlobal=true\n[Service]\nExecStart=/bin/web\n";
        assert!(is_same_to_systemd(WEB, split));
    }

    #[test]
    fn everything_else_is() {
        let others = [
            "[Service]\nNice=1\n",
            "[Install]\nWantedBy=multi-user.target\n",
            "[Unit]\nAfter=a.service\n",
            "[x-fleet]\nGlobal=true\n",
            "[Fleet-X-]\nA=1\n",
            // systemd gets a drop-in for it.
            "[X-Fleet]\nOnDisconnect=stop\n",
        ];
        for more in others {
            assert!(!is_same_to_systemd(WEB, &format!("{WEB}{more}")), "{more}");
        }
        let stops = format!("{WEB}[X-Fleet]\nOnDisconnect=stop\n");
        assert!(is_same_to_systemd(&stops, &format!("{stops}Conflicts=a.service\n")));
        assert!(!is_same_to_systemd("[Unit", "[Unit"), "what isn't a unit file has no body");
    }
}
