//! What can be typed. Owns clap's definitions and their help; does nothing with what was typed.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};

use crate::api::wire::services::{TTL, WEIGHT};
use crate::cli_docs;
use crate::model::name::UnitName;
use crate::model::probe::Probe;
use crate::model::service::{InstanceName, MAX_WEIGHT, ServiceName};

/// Sidecars that run beside a unit and connect the services of a cluster; all but `wait` are meant to be the
/// ExecStart= of a unit with Type=notify
#[derive(Debug, Parser)]
#[command(name = "fleet-sidecar", version, max_term_width = 100)]
pub struct Arguments {
    /// The endpoints of this host's fleetd, separated by commas; the first that can be reached is used
    #[arg(long, global = true, env = "FLEETCTL_ENDPOINT", value_name = "URL")]
    #[arg(default_value = "unix:///run/fleet.sock,unix:///run/fleet-sidecar.sock")]
    pub(super) endpoint: String,
    #[command(flatten)]
    pub(super) trust: Trust,
    /// Log more
    #[arg(long, short = 'v', global = true)]
    verbose: bool,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// For https:// endpoints.
#[derive(Debug, Args)]
pub(super) struct Trust {
    /// Trust these authorities for https:// endpoints [default: the system's]
    #[arg(long, global = true, env = "FLEETCTL_CA_FILE", hide_env = true, value_name = "FILE")]
    pub(super) ca_file: Option<PathBuf>,
    /// Present this certificate to https:// endpoints
    #[arg(long, global = true, env = "FLEETCTL_CERT_FILE", hide_env = true, value_name = "FILE")]
    pub(super) cert_file: Option<PathBuf>,
    /// The certificate's private key
    #[arg(long, global = true, env = "FLEETCTL_KEY_FILE", hide_env = true, value_name = "FILE")]
    pub(super) key_file: Option<PathBuf>,
}

impl Arguments {
    /// How much to log.
    #[must_use]
    pub fn verbosity(&self) -> u8 {
        self.verbose.into()
    }

    /// What is to be printed instead of doing anything: completions, or manual pages.
    ///
    /// # Errors
    /// See [`cli_docs::Error`].
    #[must_use]
    pub fn printed(&self) -> Option<Result<String, cli_docs::Error>> {
        match &self.command {
            Command::Manual(asked) => Some(asked.answer(Self::command())),
            _ => None,
        }
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Announce an instance of a service, as long as its unit is active and its check passes
    Announce(Announce),
    /// Forward connections from this host to the instances of a service
    Ambassador(Ambassador),
    /// Write a file from a template and the announced services, and update it when they change
    Render(Render),
    /// Wait until enough instances of a service are announced, for an ExecStartPre= or a unit with Type=oneshot
    Wait(Wait),
    #[command(flatten)]
    Manual(cli_docs::Asked),
}

/// `announce`.
#[derive(Debug, Args)]
pub(super) struct Announce {
    /// The service
    #[arg(value_name = "NAME")]
    pub(super) service: ServiceName,
    /// The port of the instance
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) port: u16,
    /// The unit of the instance, which is announced only while this unit is active on this host
    #[arg(long, value_name = "UNIT")]
    pub(super) unit: Option<UnitName>,
    /// The address of the instance [default: this host's]
    #[arg(long, value_name = "ADDRESS")]
    pub(super) address: Option<String>,
    /// The name of the instance, unique in the service [default: derived from unit and host]
    #[arg(long, value_name = "NAME")]
    pub(super) instance: Option<InstanceName>,
    /// The share of new connections relative to other instances; 0 for none
    #[arg(long, value_name = "N", default_value_t = WEIGHT)]
    #[arg(value_parser = clap::value_parser!(u16).range(..=i64::from(MAX_WEIGHT)))]
    pub(super) weight: u16,
    /// Metadata for consumers, such as host=shop.example; may be given several times
    #[arg(long = "meta", value_name = "KEY=VALUE", value_parser = pair)]
    pub(super) metadata: Vec<(String, String)>,
    /// Seconds after which the announcement expires if this host is dead
    #[arg(long, value_name = "SECONDS", default_value_t = TTL)]
    #[arg(value_parser = clap::value_parser!(u32).range(2..=3600))]
    pub(super) ttl: u32,
    /// Announce the instance only while this check passes: `tcp`, `http://[HOST][:PORT]/PATH` (an answer below 400;
    /// without a host, from the announced address), `exec:COMMAND` (exit status 0) or `cmd COMMAND` (the same, by a
    /// shell)
    #[arg(long, value_name = "CHECK")]
    pub(super) check: Option<Probe>,
    /// Seconds between two checks
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    pub(super) interval: Duration,
    /// The timeout of a check, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub(super) timeout: Duration,
    /// The number of consecutive checks that must pass before the instance is announced
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) rise: u32,
    /// The number of consecutive checks that must fail before it is withdrawn
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) fall: u32,
    /// When stopped, wait this many seconds after the announcement was withdrawn, so that consumers notice and finish
    /// their requests before the unit is stopped
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = seconds_or_none)]
    pub(super) drain: Duration,
}

/// `ambassador`.
#[derive(Debug, Args)]
pub(super) struct Ambassador {
    /// The service
    #[arg(value_name = "NAME")]
    pub(super) service: ServiceName,
    /// Listen on this port of 127.0.0.1, or on ADDRESS:PORT; may be given several times [default: the sockets that
    /// systemd passes]
    #[arg(long, value_name = "ADDRESS", value_parser = listen)]
    pub(super) listen: Vec<SocketAddr>,
    /// Which instance gets a new connection
    #[arg(long, value_name = "HOW", value_enum, default_value_t = Balance::RoundRobin)]
    pub(super) balance: Balance,
    /// While no instance is up, hold new connections for this many seconds
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds_or_none)]
    pub(super) hold: Duration,
    /// The maximum number of connections that are held
    #[arg(long, value_name = "N", default_value_t = 1024)]
    pub(super) hold_max: usize,
    /// The timeout of connecting to an instance, in seconds, after which the next one is tried
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub(super) connect_timeout: Duration,
    /// The maximum number of open connections; further ones wait [default: what the limit of open files allows]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) max_connections: Option<u32>,
    /// Write the address as NAME_HOST= and NAME_PORT= to this file, for EnvironmentFile=
    #[arg(long, value_name = "FILE")]
    pub(super) env: Option<PathBuf>,
    /// When stopped, let open connections finish for this many seconds
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds_or_none)]
    pub(super) drain: Duration,
}

/// Which instance gets a new connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Balance {
    /// One after the other, in proportion to the weights
    RoundRobin,
    /// The one with the fewest connections relative to its weight
    LeastConnections,
}

/// `render`.
#[derive(Debug, Args)]
pub(super) struct Render {
    /// The template, in Jinja's language
    #[arg(value_name = "TEMPLATE")]
    pub(super) template: PathBuf,
    /// The file to write
    #[arg(value_name = "OUT")]
    pub(super) out: PathBuf,
    /// A service that the template uses; may be given several times [default: all]
    #[arg(long, value_name = "NAME")]
    pub(super) service: Vec<ServiceName>,
    /// A command that checks the file, with {} for its path; if it fails, the last good file is kept
    #[arg(long, value_name = "COMMAND")]
    pub(super) check: Option<String>,
    /// A command to run when the file has changed, and once after every start
    #[arg(long, value_name = "COMMAND")]
    pub(super) reload: Option<String>,
    /// The timeout of check and reload, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub(super) timeout: Duration,
    /// Wait this many seconds for further changes before writing
    #[arg(long, value_name = "SECONDS", default_value = "0.2", value_parser = seconds_or_none)]
    pub(super) debounce: Duration,
    /// The file's permissions
    #[arg(long, value_name = "MODE", default_value = "644", value_parser = mode)]
    pub(super) mode: u32,
    /// Write the file once and exit
    #[arg(long)]
    pub(super) once: bool,
}

/// `wait`.
#[derive(Debug, Args)]
pub(super) struct Wait {
    /// The service
    #[arg(value_name = "NAME")]
    pub(super) service: ServiceName,
    /// How many instances must be announced with a weight above 0
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) min: u32,
    /// Wait no longer than this many seconds, and end with exit status 1 then [default: wait as long as it takes]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(super) timeout: Option<Duration>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write it as KEY=VALUE")?;
    Ok((key.into(), value.into()))
}

fn seconds_or_none(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "it must be a number of seconds, such as 5 or 0.5".to_owned())?;
    if (0.0..=86_400.0).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err("it must be from 0 to 86400".into())
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    match seconds_or_none(text)? {
        Duration::ZERO => Err("it must be more than 0".into()),
        some => Ok(some),
    }
}

fn listen(text: &str) -> Result<SocketAddr, String> {
    let port = text.strip_prefix(':').unwrap_or(text).parse::<u16>();
    match port {
        Ok(port) => Ok((Ipv4Addr::LOCALHOST, port).into()),
        Err(_) => text.parse().map_err(|_| "write a port, 127.0.0.1:PORT or [::1]:PORT".into()),
    }
}

fn mode(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777).ok_or("write it in octal, such as 644".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_hold_together() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn values_are_read() {
        assert_eq!(listen("80").map(|a| a.to_string()), Ok("127.0.0.1:80".into()));
        assert_eq!(listen(":80").map(|a| a.to_string()), Ok("127.0.0.1:80".into()));
        assert_eq!(listen("[::1]:80").map(|a| a.to_string()), Ok("[::1]:80".into()));
        assert!(listen("localhost:80").is_err() && listen("70000").is_err() && listen("").is_err());
        assert_eq!((mode("640"), mode("999").is_err(), mode("1777").is_err()), (Ok(0o640), true, true));
        assert!(
            seconds("0").is_err() && seconds("-1").is_err() && seconds("NaN").is_err() && seconds_or_none("0").is_ok()
        );
        assert_eq!(pair("a=b=c"), Ok(("a".into(), "b=c".into())));
    }
}
