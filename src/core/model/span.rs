//! Times as systemd writes them (`systemd.time(7)`): `10`, `500ms`, `1.5s`, `1min 30s`, `infinity`. Owns which units
//! there are.

use std::time::Duration;

/// The units that a cluster's options use, and their lengths in milliseconds.
const UNITS: [(&str, u64); 16] = [
    ("ms", 1),
    ("msec", 1),
    ("", 1000),
    ("s", 1000),
    ("sec", 1000),
    ("second", 1000),
    ("seconds", 1000),
    ("m", 60_000),
    ("min", 60_000),
    ("minute", 60_000),
    ("minutes", 60_000),
    ("h", 3_600_000),
    ("hr", 3_600_000),
    ("hour", 3_600_000),
    ("hours", 3_600_000),
    ("d", 86_400_000),
];

/// The time that `text` says; a number without a unit is in seconds. `infinity` is [`Duration::MAX`]. `None` if it
/// isn't a time. Fractions of a unit count down to the microsecond.
#[must_use]
pub fn parse(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    if rest == "infinity" {
        return Some(Duration::MAX);
    }
    let mut total: Option<u64> = None;
    while !rest.is_empty() {
        let (number, mut after) = split(rest, |c| c.is_ascii_digit());
        let mut fraction = "0";
        if let Some(behind) = after.strip_prefix('.') {
            (fraction, after) = split(behind, |c| c.is_ascii_digit());
        }
        let (unit, after) = split(after.trim_start(), |c| c.is_ascii_alphabetic());
        let micros = UNITS.iter().find(|(name, _)| *name == unit)?.1 * 1000;
        let whole = number.parse::<u64>().ok()?.checked_mul(micros)?;
        // More digits than these say nothing more.
        let fraction = &fraction[..fraction.len().min(9)];
        let scale = 10_u64.pow(u32::try_from(fraction.len()).ok()?);
        let part = fraction.parse::<u64>().ok()?.checked_mul(micros)? / scale;
        total = Some(total.unwrap_or_default().checked_add(whole)?.checked_add(part)?);
        rest = after.trim_start();
    }
    total.map(Duration::from_micros)
}

/// The beginning of `text` whose characters are all `of` a kind, and the rest.
fn split(text: &str, of: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !of(c)).unwrap_or(text.len()))
}

/// `5 s`, `500 ms`.
#[must_use]
pub fn shown(time: Duration) -> String {
    let ms = time.as_millis();
    if ms.is_multiple_of(1000) { format!("{} s", ms / 1000) } else { format!("{ms} ms") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_systemds() {
        for (text, ms) in [
            ("0", 0),
            ("10", 10_000),
            ("10s", 10_000),
            ("10 s", 10_000),
            ("500ms", 500),
            ("5min", 300_000),
            ("1min 30s", 90_000),
            ("1h30min", 5_400_000),
            (" 2 hours 1 ", 7_201_000),
            ("1d", 86_400_000),
            ("1.5s", 1500),
            ("0.05", 50),
            ("2.25min 1.000000000001s", 136_000),
        ] {
            assert_eq!(parse(text), Some(Duration::from_millis(ms)), "{text}");
        }
        assert_eq!(parse("infinity"), Some(Duration::MAX));
        for wrong in [
            "",
            " ",
            "s",
            "-1",
            "1.s",
            ".5s",
            "1.5.5s",
            "5x",
            "1 s s",
            "never",
            "10 Infinity",
            "99999999999999999999",
            "+1",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
        assert_eq!([5000, 250, 1500].map(|ms| shown(Duration::from_millis(ms))), ["5 s", "250 ms", "1500 ms"]);
    }
}
