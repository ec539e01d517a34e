//! `MoveAfterSec=`: how long a host may be gone before a unit of it is placed elsewhere. Owns the option's values;
//! `plan::schedule` decides what follows.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::span;

/// The option's name.
pub(super) const OPTION: &str = "MoveAfterSec";

/// How long a host may be gone before a unit of it is placed elsewhere, in whole milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct MoveAfter(Duration);

impl MoveAfter {
    /// The unit is placed elsewhere as soon as its host is gone.
    pub const AT_ONCE: Self = Self(Duration::ZERO);

    /// The unit belongs to the host on which it was placed first.
    pub const NEVER: Self = Self(Duration::MAX);

    /// The moment from which the unit may be placed elsewhere, if its host is gone since `since`; both in ms since the
    /// epoch. `None` if it never is.
    #[must_use]
    pub fn ends(self, since: u64) -> Option<u64> {
        let ms = || u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        (self != Self::NEVER).then(|| since.saturating_add(ms()))
    }
}

impl FromStr for MoveAfter {
    type Err = String;
    fn from_str(value: &str) -> Result<Self, String> {
        let whole = |time: Duration| time - Duration::from_nanos((time.subsec_nanos() % 1_000_000).into());
        let time = span::parse(value).map(|time| Self(if time == Duration::MAX { time } else { whole(time) }));
        time.ok_or_else(|| format!("`{OPTION}={value}`: must be a time such as 10min, or infinity"))
    }
}

impl fmt::Display for MoveAfter {
    /// As it may be written in a unit file: `600 s`, `infinity`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::NEVER { f.write_str("infinity") } else { f.write_str(&span::shown(self.0)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_ends_and_infinity_does_not() {
        for (text, ends, shown) in [
            ("0", Some(1000), "0 s"),
            ("10min", Some(601_000), "600 s"),
            ("1.0025", Some(2002), "1002 ms"),
            ("infinity", None, "infinity"),
            ("1 h 30 min", Some(5_401_000), "5400 s"),
        ] {
            let after: MoveAfter = text.parse().unwrap();
            assert_eq!((after.ends(1000), after.to_string().as_str()), (ends, shown), "{text}");
        }
        let error = "`MoveAfterSec=soon`: must be a time such as 10min, or infinity";
        assert_eq!("soon".parse::<MoveAfter>(), Err(error.into()));
        assert_eq!((MoveAfter::default(), MoveAfter::AT_ONCE.ends(7)), (MoveAfter::AT_ONCE, Some(7)));
    }
}
