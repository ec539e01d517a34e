//! `fleet.conf` and its environment: settings are within their limits, and a configuration is no change of itself. The
//! input is a file; a line `%` ends it, and `NAME=value` lines of an environment may follow.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use flotilla::config::{Changes, Settings, StoreSettings, settings};

pub fn target(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (file, environment) = text.split_once("\n%\n").unwrap_or((text, ""));
    let pair = |line: &str| line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    let environment: BTreeMap<String, String> = environment.lines().filter_map(pair).collect();
    for standalone in [false, true] {
        match settings("fleet.conf", file, &environment, standalone) {
            Ok(settings) => is_sound(&settings, standalone, text.len()),
            Err(refused) => {
                assert!(!refused.problems.is_empty());
                for problem in &refused.problems {
                    assert!(!problem.is_empty() && problem.len() <= 1000 + 8 * text.len(), "{problem}");
                }
            }
        }
    }
}

fn is_sound(settings: &Settings, standalone: bool, input: usize) {
    assert_eq!(Changes::between(settings, settings), Changes::default());
    assert_eq!(settings.clone().taken_up_by(settings), *settings);
    assert!((Duration::from_secs(3)..=Duration::from_secs(24 * 3600)).contains(&settings.agent_ttl));
    assert!(settings.token_limit > 0);
    assert!(settings.units_directory.is_absolute() && settings.runtime_directory.is_absolute());
    assert!(settings.metadata.keys().all(|key| !key.is_empty()));
    assert!(settings.warnings.iter().all(|warning| warning.len() <= 1000 + input));
    assert!(settings.public_ip.as_ref().is_none_or(|address| address.parse::<IpAddr>().is_ok()));
    match &settings.store {
        StoreSettings::Standalone { directory } => assert!(directory.is_absolute()),
        StoreSettings::Etcd(etcd) => {
            assert!(!standalone && !etcd.endpoints.is_empty());
            assert!(etcd.request_timeout < settings.agent_ttl);
            assert!(etcd.prefix.starts_with('/') && etcd.prefix.ends_with('/') && etcd.prefix.len() > 2);
        }
    }
}
