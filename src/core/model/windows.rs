//! The windows of time in which programs may reboot hosts: `Sat,Sun 01:00/2h; Wed 03:30/30min Europe/Berlin`. Owns
//! how they are written, and when one is open. Pure but for the time zones, which the host's database knows.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::civil::{Date, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan as _, Zoned};
use serde::{Deserialize, Serialize};

use super::span;

/// What stands for no windows.
const ALWAYS: &str = "always";

/// The longest window, in days.
const LONGEST: i64 = 7;

/// The days of the week in their order, as they are written.
const DAYS: [(Weekday, &str); 7] = [
    (Weekday::Monday, "Mon"),
    (Weekday::Tuesday, "Tue"),
    (Weekday::Wednesday, "Wed"),
    (Weekday::Thursday, "Thu"),
    (Weekday::Friday, "Fri"),
    (Weekday::Saturday, "Sat"),
    (Weekday::Sunday, "Sun"),
];

/// Windows; without any, it is always open.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Windows(Vec<Window>);

/// One of them, each week anew.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Window {
    /// The days on which it begins; empty for all.
    days: Vec<Weekday>,
    begins: Time,
    length: Duration,
    /// The name of a time zone, which this host may not know; `None` for UTC.
    zone: Option<String>,
}

impl Windows {
    /// Until when it is closed, in words; `None` if it is open. `now` is in ms since the epoch.
    #[must_use]
    pub fn closed(&self, now: u64) -> Option<String> {
        if self.0.is_empty() {
            return None;
        }
        let now = Timestamp::from_millisecond(i64::try_from(now).unwrap_or(i64::MAX)).unwrap_or(Timestamp::MAX);
        let (mut next, mut unknown): (Option<Zoned>, _) = (None, None);
        for window in &self.0 {
            let Ok(zone) = window.zone() else {
                unknown = window.zone.clone();
                continue;
            };
            for opens in window.openings(&now.to_zoned(zone)) {
                if opens.timestamp() > now {
                    next = next.into_iter().chain([opens]).min_by_key(Zoned::timestamp);
                } else if opens.timestamp() + window.length() > now {
                    return None;
                }
            }
        }
        Some(match (next, unknown) {
            (Some(next), _) => format!("the next window begins {}", next.strftime("%a %Y-%m-%d %H:%M %Z")),
            (None, Some(zone)) => format!("this host doesn't know the time zone {zone}"),
            (None, None) => "no window begins within a week".into(),
        })
    }

    /// The time zones are known here.
    ///
    /// # Errors
    /// Which one isn't.
    pub fn check_zones(&self) -> Result<(), String> {
        self.0.iter().try_for_each(|window| window.zone().map(drop))
    }
}

impl Window {
    fn zone(&self) -> Result<TimeZone, String> {
        let Some(name) = &self.zone else { return Ok(TimeZone::UTC) };
        TimeZone::get(name).map_err(|_| format!("there is no time zone `{name}`; write one such as Europe/Berlin"))
    }

    fn length(&self) -> SignedDuration {
        SignedDuration::try_from(self.length).unwrap_or_default()
    }

    /// When it begins in the week before and after `now`, in order. A time that the day doesn't have, because the
    /// clocks go forward, is as long after the jump as it would have been after it.
    fn openings(&self, now: &Zoned) -> impl Iterator<Item = Zoned> {
        let day = |offset: i64| now.date().checked_add(offset.days()).ok();
        let is_meant = |day: &Date| self.days.is_empty() || self.days.contains(&day.weekday());
        let days = (-LONGEST - 1..=LONGEST + 1).filter_map(day).filter(is_meant);
        days.filter_map(|day| day.to_datetime(self.begins).to_zoned(now.time_zone().clone()).ok())
    }
}

impl FromStr for Windows {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim() == ALWAYS {
            return Ok(Self::default());
        }
        text.split(';').map(str::parse).collect::<Result<_, _>>().map(Self)
    }
}

impl FromStr for Window {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shape = || format!("`{}` isn't [DAYS] HH:MM/LENGTH [ZONE], such as `Sat,Sun 01:00/2h`", text.trim());
        let words: Vec<&str> = text.split_whitespace().collect();
        let at = words.iter().position(|word| word.starts_with(|c: char| c.is_ascii_digit())).ok_or_else(shape)?;
        let (days, zone) = (&words[..at], &words[at + 1..]);
        let (begins, length) = words[at].split_once('/').ok_or_else(shape)?;
        if days.len() > 1 || zone.len() > 1 {
            return Err(shape());
        }
        let zone = zone.first().map(|zone| (*zone).to_owned()).filter(|zone| zone != "UTC");
        let days = days.first().map(|days| weekdays(days)).transpose()?.unwrap_or_default();
        Ok(Self { days, begins: time(begins).ok_or_else(shape)??, length: length_of(length)?, zone })
    }
}

/// `Sat,Sun`, `Mon..Fri`, in the order of the week.
fn weekdays(text: &str) -> Result<Vec<Weekday>, String> {
    let number = |name: &str| {
        let found = DAYS.iter().position(|(_, known)| known.eq_ignore_ascii_case(name));
        found.ok_or_else(|| format!("`{name}` is no day: Mon Tue Wed Thu Fri Sat Sun"))
    };
    let mut meant = [false; DAYS.len()];
    for part in text.split(',') {
        let (first, last) = part.split_once("..").unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        // `Fri..Mon` goes over the end of the week.
        let count = (last + DAYS.len() - first) % DAYS.len();
        (first..=first + count).for_each(|day| meant[day % DAYS.len()] = true);
    }
    Ok(DAYS.iter().zip(meant).filter(|(_, meant)| *meant).map(|((day, _), _)| *day).collect())
}

/// `HH:MM`; `None` if it is nothing of the kind.
fn time(text: &str) -> Option<Result<Time, String>> {
    let number = |text: &str| -> Option<i8> {
        let is_number = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|_| is_number)
    };
    let (hour, minute) = text.split_once(':')?;
    let (hour, minute) = (number(hour)?, number(minute)?);
    Some(match Time::new(hour, minute, 0, 0) {
        Ok(time) => Ok(time),
        Err(_) if hour > 23 => Err("hours are 00 to 23".into()),
        Err(_) => Err("minutes are 00 to 59".into()),
    })
}

fn length_of(text: &str) -> Result<Duration, String> {
    let week = Duration::from_secs(LONGEST.unsigned_abs() * 24 * 60 * 60);
    let fits = |length: &Duration| (Duration::from_secs(60)..=week).contains(length);
    let length = span::parse(text).filter(|length| !text.is_empty() && length.subsec_nanos() == 0 && fits(length));
    length.ok_or_else(|| format!("`{text}`: a window is 1min to {LONGEST}d long, such as 2h"))
}

impl fmt::Display for Windows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str(ALWAYS);
        }
        for (index, window) in self.0.iter().enumerate() {
            write!(f, "{}{window}", if index == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |day: &Weekday| DAYS.iter().find(|(known, _)| known == day).map_or("", |(_, name)| name);
        let days: Vec<&str> = self.days.iter().map(name).collect();
        if !days.is_empty() {
            write!(f, "{} ", days.join(","))?;
        }
        let minutes = self.length.as_secs() / 60;
        write!(f, "{:02}:{:02}/", self.begins.hour(), self.begins.minute())?;
        match (self.length.as_secs() % 60, minutes % 60) {
            (0, 0) => write!(f, "{}h", minutes / 60)?,
            (0, _) => write!(f, "{minutes}min")?,
            _ => write!(f, "{}s", self.length.as_secs())?,
        }
        self.zone.as_ref().map_or(Ok(()), |zone| write!(f, " {zone}"))
    }
}

impl TryFrom<String> for Windows {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Windows> for String {
    fn from(windows: Windows) -> Self {
        windows.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> u64 {
        text.parse::<Timestamp>().unwrap().as_millisecond().try_into().unwrap()
    }

    #[test]
    fn windows_are_read_and_written() {
        for (text, written) in [
            ("always", "always"),
            ("01:00/2h", "01:00/2h"),
            ("Sat,Sun 01:00/2h", "Sat,Sun 01:00/2h"),
            (" sun,SAT  01:00/120min UTC ", "Sat,Sun 01:00/2h"),
            ("Mon..Wed,Fri 23:30/90min Europe/Berlin", "Mon,Tue,Wed,Fri 23:30/90min Europe/Berlin"),
            ("Sat..Mon 00:00/1d; Wed 12:05/90s", "Mon,Sat,Sun 00:00/24h; Wed 12:05/90s"),
        ] {
            let windows: Windows = text.parse().unwrap();
            assert_eq!(windows.to_string(), written);
            assert_eq!(written.parse(), Ok(windows.clone()));
            let stored = serde_json::to_string(&windows).unwrap();
            assert_eq!(serde_json::from_str::<Windows>(&stored).unwrap(), windows);
        }
        for (text, why) in [
            ("Sat 25:00/1h", "hours are 00 to 23"),
            ("Sat 01:60/1h", "minutes are 00 to 59"),
            ("Sam 01:00/1h", "`Sam` is no day: Mon Tue Wed Thu Fri Sat Sun"),
            ("Sat.. 01:00/1h", "`` is no day: Mon Tue Wed Thu Fri Sat Sun"),
            ("01:00/0s", "`0s`: a window is 1min to 7d long, such as 2h"),
            ("01:00/8d", "`8d`: a window is 1min to 7d long, such as 2h"),
            ("01:00/", "``: a window is 1min to 7d long, such as 2h"),
            ("01:00/infinity", "`infinity`: a window is 1min to 7d long, such as 2h"),
        ] {
            assert_eq!(text.parse::<Windows>().unwrap_err(), why, "{text}");
        }
        for bad in ["", "Sat", "1:00/1h", "01:00", "Sat 01/1h", "Sat Sun 01:00/1h", "01:00/1h A B", "01:00/1h;", "é"] {
            let refusal = bad.parse::<Windows>().unwrap_err();
            assert!(
                refusal.ends_with("isn't [DAYS] HH:MM/LENGTH [ZONE], such as `Sat,Sun 01:00/2h`"),
                "{bad}: {refusal}"
            );
        }
    }

    /// 2026-11-28 is a Saturday. In Berlin, the clocks go back on 2026-10-25 and forward on 2027-03-28.
    #[test]
    fn a_window_is_open_from_its_beginning_to_its_end() {
        let saturday = "the next window begins Sat 2026-11-28 01:00 UTC";
        let sunday = "the next window begins Sun 2026-11-29 01:00 UTC";
        for (windows, now, expected) in [
            ("always", "2026-11-28T00:59:59Z", None),
            ("Sat,Sun 01:00/2h", "2026-11-28T00:59:59Z", Some(saturday)),
            ("Sat,Sun 01:00/2h", "2026-11-28T01:00:00Z", None),
            ("Sat,Sun 01:00/2h", "2026-11-28T02:59:59Z", None),
            ("Sat,Sun 01:00/2h", "2026-11-28T03:00:00Z", Some(sunday)),
            ("Sun 01:00/2h; Sat 01:00/2h", "2026-11-27T12:00:00Z", Some(saturday)),
            // Over midnight, over the end of the week, and for the whole of it.
            ("Sun 23:00/2h", "2026-11-30T00:59:00Z", None),
            ("Sat 01:00/7d", "2026-11-28T00:59:59Z", None),
            ("23:00/1h America/New_York", "2026-11-28T04:30:00Z", None),
            // 02:30 is there twice, and means the first one; on the other Sunday it isn't there at all.
            ("02:30/30min Europe/Berlin", "2026-10-25T00:45:00Z", None),
            (
                "02:30/30min Europe/Berlin",
                "2026-10-25T01:45:00Z",
                Some("the next window begins Mon 2026-10-26 02:30 CET"),
            ),
            ("Sun 02:30/30min Europe/Berlin", "2027-03-28T01:45:00Z", None),
            (
                "01:00/1h Atlantis/Center",
                "2026-11-28T01:30:00Z",
                Some("this host doesn't know the time zone Atlantis/Center"),
            ),
            ("01:00/1h Atlantis/Center; 01:00/1h", "2026-11-28T01:30:00Z", None),
        ] {
            let found = windows.parse::<Windows>().unwrap().closed(at(now));
            assert_eq!(found.as_deref(), expected, "{windows} at {now}");
        }
        let unknown = "01:00/1h Atlantis/Center".parse::<Windows>().unwrap().check_zones().unwrap_err();
        assert_eq!(unknown, "there is no time zone `Atlantis/Center`; write one such as Europe/Berlin");
    }
}
