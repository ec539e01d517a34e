//! Options about reaching the cluster from elsewhere: SSH, and certificates for HTTPS.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::BoolishValueParser;

use crate::cli::error::Error;
use crate::cli::output;
use crate::remote::{Hosts, JumpHost};
use crate::ssh::{self, Settings};

/// How to get to the API and to the hosts.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Reaching the cluster")]
pub(in crate::cli) struct Connection {
    /// Go through this host, over SSH: to the endpoint, and on to the other hosts; of several, comma-separated or with
    /// the option repeated, the first that can be reached
    #[arg(long, global = true, env = "FLEETCTL_TUNNEL", hide_env = true, value_name = "[USER@]HOST[:PORT]")]
    #[arg(value_delimiter = ',')]
    pub(in crate::cli) tunnel: Vec<String>,
    /// Log in on hosts as this user [default: that of ~/.ssh/config, else yours, else core where the host refuses
    /// yours]
    #[arg(long, global = true, env = "FLEETCTL_SSH_USERNAME", hide_env = true, value_name = "USER")]
    pub(in crate::cli) ssh_username: Option<String>,
    /// A private key to log in with, before the agent's and ~/.ssh/id_*; can be given several times
    #[arg(
        long,
        global = true,
        env = "FLEETCTL_SSH_IDENTITY",
        hide_env = true,
        value_name = "FILE",
        value_delimiter = ','
    )]
    pub(in crate::cli) ssh_identity: Vec<PathBuf>,
    /// The hosts' SSH port [default: that of ~/.ssh/config, or 22]
    #[arg(long, global = true, env = "FLEETCTL_SSH_PORT", hide_env = true, value_name = "PORT")]
    #[arg(value_parser = super::port)]
    pub(in crate::cli) ssh_port: Option<u16>,
    /// The timeout in seconds for connecting to a host, and for each answer while logging in
    #[arg(long, global = true, env = "FLEETCTL_SSH_TIMEOUT", hide_env = true, value_name = "SECONDS")]
    #[arg(default_value = "10.0", value_parser = super::seconds)]
    pub(in crate::cli) ssh_timeout: Duration,
    /// The file of known hosts' keys [default: that of ~/.ssh/config, or ~/.fleetctl/known_hosts]
    #[arg(long, global = true, env = "FLEETCTL_KNOWN_HOSTS_FILE", hide_env = true, value_name = "FILE")]
    pub(in crate::cli) known_hosts_file: Option<PathBuf>,
    /// Whether to connect to known hosts only; with `false`, new ones are trusted, and changed ones cause a warning
    #[arg(long, global = true, env = "FLEETCTL_STRICT_HOST_KEY_CHECKING", hide_env = true, value_name = "true|false")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_parser = BoolishValueParser::new())]
    pub(in crate::cli) strict_host_key_checking: Option<bool>,
    /// Trust these authorities for https:// endpoints [default: the system's]
    #[arg(long, global = true, env = "FLEETCTL_CA_FILE", hide_env = true, value_name = "FILE")]
    pub(in crate::cli) ca_file: Option<PathBuf>,
    /// Present this certificate to https:// endpoints
    #[arg(long, global = true, env = "FLEETCTL_CERT_FILE", hide_env = true, value_name = "FILE")]
    pub(in crate::cli) cert_file: Option<PathBuf>,
    /// The certificate's private key
    #[arg(long, global = true, env = "FLEETCTL_KEY_FILE", hide_env = true, value_name = "FILE")]
    pub(in crate::cli) key_file: Option<PathBuf>,
}

impl Connection {
    /// The cluster's hosts, reached as these options say.
    ///
    /// # Errors
    /// A tunnel through what is no host.
    pub(in crate::cli) fn hosts(&self) -> Result<Hosts, Error> {
        let jumps: Result<Vec<JumpHost>, String> = self.tunnel.iter().map(|host| host.trim().parse()).collect();
        let jumps = jumps.map_err(|why| Error::usage(why, "`--tunnel core@n1:22`, or FLEETCTL_TUNNEL"))?;
        let settings = Settings {
            user: self.ssh_username.clone(),
            me: me(),
            port: self.ssh_port,
            identities: self.ssh_identity.clone(),
            timeout: self.ssh_timeout,
            known_hosts: self.known_hosts_file.clone(),
            strict: self.strict_host_key_checking,
            agent: std::env::var_os("SSH_AUTH_SOCK").filter(|path| !path.is_empty()).map(Into::into),
            home: std::env::home_dir().unwrap_or_else(|| "/".into()),
        };
        Ok(Hosts::new(settings, jumps, output::warn))
    }
}

/// The name of the user who runs this. One without an entry, as in a container, is called as the environment says.
fn me() -> String {
    let called = || std::env::var_os("USER").and_then(|name| name.into_string().ok());
    ssh::me().or_else(called).unwrap_or_else(|| "root".into())
}
