//! Values of `fleet.conf`: parses the text of each key, or explains what it must be. Pure.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::model::listen::{Listen, is_loopback};
use crate::model::machine::{BUILT_IN, Metadata};
use crate::model::resources::{bytes, percent};

/// Shorter leases would expire whenever a machine is busy for a moment (etcd itself grants at least 2 s).
const SHORTEST_TTL: Duration = Duration::from_secs(3);

/// With a longer TTL, operators would notice a dead host before the cluster does. It also keeps sums of times from
/// overflowing.
const LONGEST_TTL: Duration = Duration::from_secs(24 * 3600);

/// fleet's lists: separated by commas, or `["a", "b"]`.
fn list(text: &str) -> impl Iterator<Item = &str> {
    let text = text.trim();
    let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    inner.split(',').map(|item| item.trim_matches([' ', '"', '\''])).filter(|item| !item.is_empty())
}

pub(super) fn memory(text: &str) -> Result<u64, String> {
    bytes(text).ok_or_else(|| "must be a number of bytes, with K, M, G or T behind it for other units".into())
}

pub(super) fn cpu(text: &str) -> Result<u64, String> {
    let whole = percent(text).filter(|_| !text.contains('.'));
    whole.ok_or_else(|| "must be a percentage of one core, such as 50%".into())
}

pub(super) fn listen(text: &str) -> Result<Vec<Listen>, String> {
    list(text).map(|item| item.parse().map_err(|what| format!("{item}: {what}"))).collect()
}

pub(super) fn endpoints(text: &str) -> Result<Vec<String>, String> {
    let endpoints: Vec<&str> = list(text).collect();
    let valid = |url: &&str| {
        let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
        rest.is_some_and(|host| !host.trim_end_matches('/').is_empty())
    };
    if endpoints.is_empty() || !endpoints.iter().all(valid) {
        return Err("must be URLs like http://10.0.0.1:2379, separated by commas".into());
    }
    Ok(endpoints.into_iter().map(|url| url.trim_end_matches('/').to_owned()).collect())
}

pub(super) fn metadata(text: &str) -> Result<Metadata, String> {
    let text = text.trim().trim_matches('"');
    let pair = |pair: &str| match pair.split_once('=') {
        Some((key, _)) if key.trim().starts_with(BUILT_IN) => {
            Err(format!("`{}`: each host reports what begins with {BUILT_IN} by itself", key.trim()))
        }
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.trim().to_owned())),
        _ => Err(format!("`{}` must be key=value; pairs are separated by commas", pair.trim())),
    };
    text.split(',').filter(|part| !part.trim().is_empty()).map(pair).collect()
}

pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "t" | "true" | "yes" | "on" => Ok(true),
        "0" | "f" | "false" | "no" | "off" => Ok(false),
        _ => Err("must be true or false".into()),
    }
}

pub(super) fn number(text: &str) -> Result<u8, String> {
    text.parse().map_err(|_| "must be a small number, 0 or more".into())
}

pub(super) fn page(text: &str) -> Result<u16, String> {
    text.parse().ok().filter(|limit| *limit > 0).ok_or_else(|| "must be a number from 1 to 65535".into())
}

pub(super) fn text(text: &str) -> Result<String, String> {
    Ok(text.into())
}

pub(super) fn address(text: &str) -> Result<String, String> {
    text.parse::<IpAddr>().map(|ip| ip.to_string()).map_err(|_| "must be an IP address".into())
}

pub(super) fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address = text.parse().ok().filter(is_loopback);
    address.ok_or_else(|| "must be a loopback address with a port, such as 127.0.0.1:7979".into())
}

pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_absolute() { Ok(path) } else { Err("must be an absolute path".into()) }
}

pub(super) fn prefix(text: &str) -> Result<String, String> {
    if !text.starts_with('/') || text.trim_matches('/').is_empty() {
        return Err("must be a path like /flotilla/".into());
    }
    Ok(format!("{}/", text.trim_end_matches('/')))
}

/// Seconds with an optional fraction, such as fleet's `etcd_request_timeout=1.0`.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: Option<f64> = text.parse().ok().filter(|seconds| (0.1..=60.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "must be seconds, from 0.1 to 60".into())
}

pub(super) fn ttl(text: &str) -> Result<Duration, String> {
    let ttl = duration(text).ok_or("must be a time like 10s or 1m30s")?;
    if ttl < SHORTEST_TTL {
        return Err(format!(
            "must be at least {} s: a busy moment would look like a dead host",
            SHORTEST_TTL.as_secs()
        ));
    }
    if ttl > LONGEST_TTL {
        return Err("must be at most 24h: until then, the units of a dead host run nowhere".into());
    }
    Ok(ttl)
}

pub(super) fn percentage(text: &str) -> Result<u8, String> {
    text.parse().ok().filter(|share| *share <= 100).ok_or_else(|| "must be a percentage, from 0 to 100".into())
}

pub(super) fn grace(text: &str) -> Result<Duration, String> {
    let grace = duration(text).ok_or("must be a time like 5m, or 0")?;
    if grace > LONGEST_TTL {
        return Err("must be at most 24h: until then, the units of hosts that are really gone run nowhere".into());
    }
    Ok(grace)
}

/// Go's durations, as far as they are useful here: `10s`, `1m30s`, `500ms`, `2h`; a bare number is in seconds.
fn duration(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.parse::<u32>() {
        return Some(Duration::from_secs(seconds.into()));
    }
    let (mut total, mut rest) = (Duration::ZERO, text);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let amount: f64 = rest[..digits].parse().ok()?;
        let unit = &rest[digits..];
        let length = unit.find(|c: char| c.is_ascii_digit()).unwrap_or(unit.len());
        let seconds = match &unit[..length] {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        total = total.checked_add(Duration::try_from_secs_f64(amount * seconds).ok()?)?;
        rest = &unit[length..];
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        let cases =
            [("10s", 10_000), ("1m30s", 90_000), ("500ms", 500), ("2h", 7_200_000), ("1.5s", 1500), ("7", 7000)];
        for (text, ms) in cases {
            assert_eq!(duration(text), Some(Duration::from_millis(ms)), "{text}");
        }
        // The last two exceed a `Duration`, each by itself or together.
        let twice = "10000000000000000000s10000000000000000000s";
        for bad in ["s", "ten", "10x", "1..2s", "-1s", "100000000000000000000s", twice] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_ttl_has_two_ends() {
        assert_eq!((ttl("3s"), ttl("24h")), (Ok(SHORTEST_TTL), Ok(LONGEST_TTL)));
        assert!(ttl("2.9s").unwrap_err().contains("at least 3 s"));
        for long in ["24h1s", "4294967295", "10000000000000000000s"] {
            assert!(ttl(long).unwrap_err().contains("at most 24h"), "{long}");
        }
    }
}
