//! `Reschedule=`, `RescheduleSec=`, `RescheduleMaxDelaySec=`: what becomes of a unit that its host's systemd has given
//! up. Owns the options' values, and how the delay grows; `plan::reschedule` decides what follows.

use std::time::Duration;

use super::span;

/// The options' names. The first one turns it on.
pub(super) const OPTIONS: [&str; 3] = ["Reschedule", "RescheduleSec", "RescheduleMaxDelaySec"];

/// On so many hosts a unit fails before the fault is taken to be its own: then it isn't moved any more.
pub const MAX_HOSTS: usize = 3;

/// What a file says of its unit after a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reschedule {
    /// `Reschedule=on-failure`: otherwise it stays failed.
    pub on_failure: bool,
    /// `RescheduleSec=`: the delay before the first try.
    delay: Duration,
    /// `RescheduleMaxDelaySec=`: the longest one.
    max: Duration,
}

impl Default for Reschedule {
    fn default() -> Self {
        Self { on_failure: false, delay: Duration::from_secs(30), max: Duration::from_secs(3600) }
    }
}

impl Reschedule {
    /// How long after a failure it is tried again, in ms, if that was done so many `times` before, and it has failed on
    /// so many `hosts`.
    #[must_use]
    pub fn delay_ms(&self, times: u32, hosts: usize) -> u64 {
        let doubled = self.delay.saturating_mul(1_u32.checked_shl(times).unwrap_or(u32::MAX));
        let delay = if hosts >= MAX_HOSTS { self.max } else { doubled.min(self.max) };
        u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn take(&mut self, option: &str, value: &str) -> Result<(), String> {
        if option == OPTIONS[0] {
            self.on_failure = match value {
                "on-failure" => true,
                "no" => false,
                _ => return Err(format!("`{option}={value}`: must be no or on-failure")),
            };
            return Ok(());
        }
        let time = span::parse(value).filter(|time| !time.is_zero() && *time < Duration::MAX);
        let time = time.ok_or_else(|| format!("`{option}={value}`: must be a time such as 30s, and not 0"))?;
        *(if option == OPTIONS[1] { &mut self.delay } else { &mut self.max }) = time;
        Ok(())
    }

    /// What can't be combined with it, each with the option that is wrong: the file is of a global unit, or of one that
    /// moves with `peer`, or that belongs to its host.
    pub(super) fn contradictions(
        &self,
        global: bool,
        peer: Option<&String>,
        bound: bool,
    ) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        if self.on_failure {
            let mut wrong = |what: String| found.push((OPTIONS[0], format!("Reschedule cannot be used with {what}")));
            if global {
                wrong("Global: it is on every host".into());
            }
            if let Some(peer) = peer {
                wrong(format!("MachineOf: it moves with {peer}"));
            }
            if bound {
                wrong("MoveAfterSec=infinity: it belongs to its host".into());
            }
        }
        if self.delay > self.max {
            let (delay, max) = (span::shown(self.delay), span::shown(self.max));
            found.push((OPTIONS[1], format!("RescheduleSec={delay} is longer than RescheduleMaxDelaySec={max}")));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[(&str, &str)]) -> Result<Reschedule, String> {
        let mut read = Reschedule::default();
        lines.iter().try_for_each(|(option, value)| read.take(option, value))?;
        Ok(read)
    }

    #[test]
    fn the_delay_doubles_up_to_the_longest_one() {
        let default = Reschedule::default();
        let delays = |of: &Reschedule, hosts| [0, 1, 2, 6, 7, 31, 32, u32::MAX].map(|times| of.delay_ms(times, hosts));
        let hour = 3_600_000;
        assert_eq!(delays(&default, 2), [30_000, 60_000, 120_000, 1_920_000, hour, hour, hour, hour]);
        assert_eq!(delays(&default, 3), [hour; 8], "on three hosts");
        let short = read(&[("RescheduleSec", "500ms"), ("RescheduleMaxDelaySec", "2")]).unwrap();
        assert_eq!(delays(&short, 1), [500, 1000, 2000, 2000, 2000, 2000, 2000, 2000]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert!(read(&[("Reschedule", "on-failure")]).unwrap().on_failure);
        assert!(!read(&[("Reschedule", "on-failure"), ("Reschedule", "no")]).unwrap().on_failure);
        for (option, value, what) in [
            ("Reschedule", "yes", "must be no or on-failure"),
            ("RescheduleSec", "0", "must be a time such as 30s, and not 0"),
            ("RescheduleMaxDelaySec", "infinity", "must be a time such as 30s, and not 0"),
        ] {
            assert_eq!(read(&[(option, value)]), Err(format!("`{option}={value}`: {what}")));
        }
        let said = |lines: &[(&str, &str)], global, peer: Option<&str>, bound| -> Vec<String> {
            let peer = peer.map(str::to_owned);
            let found = read(lines).unwrap().contradictions(global, peer.as_ref(), bound);
            found.into_iter().map(|(option, what)| format!("{option}: {what}")).collect()
        };
        let on = [("Reschedule", "on-failure")];
        assert_eq!(said(&on, false, None, false), [""; 0]);
        assert_eq!(said(&[("Reschedule", "no")], true, Some("db.service"), true), [""; 0]);
        assert_eq!(
            said(&on, true, Some("db.service"), true),
            [
                "Reschedule: Reschedule cannot be used with Global: it is on every host",
                "Reschedule: Reschedule cannot be used with MachineOf: it moves with db.service",
                "Reschedule: Reschedule cannot be used with MoveAfterSec=infinity: it belongs to its host",
            ]
        );
        assert_eq!(
            said(&[("RescheduleMaxDelaySec", "10")], false, None, false),
            ["RescheduleSec: RescheduleSec=30 s is longer than RescheduleMaxDelaySec=10 s"]
        );
    }
}
