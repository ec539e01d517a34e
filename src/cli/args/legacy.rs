//! Options that mean nothing any more: CoreOS fleet's scripts have them, and must go on working. Hidden from help.
//! Owns what is said about them; they change nothing.

use clap::Args;

/// What fleet said of signed units, which went away before fleet did.
pub(in crate::cli) const SIGNED: &str = "WARNING: The signed/verified units feature is DEPRECATED and cannot be used.";

/// fleet's way to go to etcd without asking `fleetd`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Legacy {
    /// `API`: fleetd is asked
    #[arg(long, global = true, env = "FLEETCTL_DRIVER", hide_env = true, hide = true, value_name = "API")]
    driver: Option<String>,
    /// Nothing
    #[arg(long, global = true, env = "FLEETCTL_ETCD_KEY_PREFIX", hide_env = true, hide = true, value_name = "PREFIX")]
    etcd_key_prefix: Option<String>,
    /// Nothing
    #[arg(long, global = true, env = "FLEETCTL_ETCD_KEYFILE", hide_env = true, hide = true, value_name = "FILE")]
    etcd_keyfile: Option<String>,
    /// Nothing
    #[arg(long, global = true, env = "FLEETCTL_ETCD_CERTFILE", hide_env = true, hide = true, value_name = "FILE")]
    etcd_certfile: Option<String>,
    /// Nothing
    #[arg(long, global = true, env = "FLEETCTL_ETCD_CAFILE", hide_env = true, hide = true, value_name = "FILE")]
    etcd_cafile: Option<String>,
    /// Nothing
    #[arg(long, global = true, env = "FLEETCTL_EXPERIMENTAL_API", hide_env = true, hide = true)]
    #[arg(value_parser = clap::builder::BoolishValueParser::new())]
    experimental_api: bool,
}

/// Whether `arg` is one of these options.
pub(super) fn is(arg: &clap::Arg) -> bool {
    Legacy::augment_args(clap::Command::new("")).get_arguments().any(|legacy| legacy.get_id() == arg.get_id())
}

impl Legacy {
    /// Lines about what was given and does nothing.
    ///
    /// # Errors
    /// A driver other than the API, and what to do instead.
    pub(in crate::cli) fn warnings(&self) -> Result<Vec<String>, String> {
        match &self.driver {
            Some(driver) if !driver.eq_ignore_ascii_case("api") => {
                return Err(format!("there is no driver `{driver}`: fleetctl always asks fleetd, and never its store"));
            }
            _ => {}
        }
        let given = [
            ("--etcd-key-prefix", self.etcd_key_prefix.is_some()),
            ("--etcd-keyfile", self.etcd_keyfile.is_some()),
            ("--etcd-certfile", self.etcd_certfile.is_some()),
            ("--etcd-cafile", self.etcd_cafile.is_some()),
            ("--experimental-api", self.experimental_api),
        ];
        let lines = given.iter().filter(|(_, given)| *given).map(|(option, _)| {
            let instead = match *option {
                "--etcd-keyfile" | "--etcd-certfile" | "--etcd-cafile" => {
                    let own = option.trim_start_matches("--etcd-").trim_end_matches("file");
                    format!("; for a fleetd behind https, there is `--{own}-file`")
                }
                _ => String::new(),
            };
            format!("{option} does nothing any more: only fleetd talks to etcd{instead}")
        });
        Ok(lines.collect())
    }
}
