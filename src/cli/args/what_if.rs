//! The options of `what-if`.

use std::collections::BTreeMap;

use clap::{ArgGroup, Args};

use super::OutputFormat;
use crate::api::wire::AddedHosts;
use crate::model::machine::check_key;

/// The options of which at least one is needed.
const SUPPOSED: [&str; 5] = ["lose", "add", "start", "each_host", "each"];

/// `what-if`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("supposed").args(SUPPOSED).multiple(true).required(true))]
pub(in crate::cli) struct WhatIf {
    /// This host is lost: its name, address, id or the beginning of its id; or all hosts with this metadata: zone=a.
    /// May be given several times
    #[arg(long, value_name = "HOST|KEY=VALUE")]
    pub(in crate::cli) lose: Vec<String>,
    /// So many hosts are added, with this metadata, and with the hardware that most hosts have. May be given several
    /// times
    #[arg(long, value_name = "N[:KEY=VALUE,...]", value_parser = added)]
    pub(in crate::cli) add: Vec<AddedHosts>,
    /// These units are started, as `fleetctl start` would; nothing is stored
    #[arg(long, value_name = "FILE|UNIT", num_args = 1..)]
    pub(in crate::cli) start: Vec<String>,
    /// Look at the loss of each host, one after another: exit status 3 if one would leave a unit without a host
    #[arg(long, conflicts_with = "each")]
    pub(in crate::cli) each_host: bool,
    /// The same of all hosts together that have the same value of this metadata: zone
    #[arg(long, value_name = "KEY")]
    pub(in crate::cli) each: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) output: OutputFormat,
}

/// `2`, `2:zone=c,disk=ssd`.
fn added(text: &str) -> Result<AddedHosts, String> {
    let (count, pairs) = text.split_once(':').map_or((text, None), |(count, pairs)| (count, Some(pairs)));
    let count = count.parse().ok().filter(|count| *count > 0);
    let count = count.ok_or("it must be a number of hosts, as in 2 or 2:zone=c,disk=ssd")?;
    let mut metadata = BTreeMap::new();
    for pair in pairs.into_iter().flat_map(|pairs| pairs.split(',')) {
        let (key, value) = pair
            .split_once('=')
            .filter(|(_, value)| !value.is_empty())
            .ok_or_else(|| format!("`{pair}` must be key=value, as in 2:zone=c,disk=ssd"))?;
        check_key(key)?;
        if metadata.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(format!("{key} is there twice"));
        }
    }
    Ok(AddedHosts { count, metadata })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_to_add_are_a_number_and_metadata() {
        for (text, count, pairs) in
            [("1", 1, &[][..]), ("2:zone=c", 2, &[("zone", "c")]), ("3:a=b,c=d=e", 3, &[("a", "b"), ("c", "d=e")])]
        {
            let metadata = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            assert_eq!(added(text), Ok(AddedHosts { count, metadata }), "{text}");
        }
        for (text, wrong) in [
            ("", "it must be a number"),
            ("0", "it must be a number"),
            ("-1", "it must be a number"),
            ("n1", "it must be a number"),
            ("1:", "`` must be key=value"),
            ("1:zone", "`zone` must be key=value"),
            ("1:zone=", "`zone=` must be key=value"),
            ("1:a=b,a=c", "a is there twice"),
            ("1:@arch=arm64", "`@arch` can't be set"),
        ] {
            let error = added(text).unwrap_err();
            assert!(error.starts_with(wrong), "{text}: {error}");
        }
    }
}
