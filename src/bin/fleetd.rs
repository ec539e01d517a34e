//! `fleetd`: the daemon, one on every host.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use flotilla::config::{self, Overrides};
use flotilla::{daemon, telemetry};
use tokio::signal::unix::{SignalKind, signal};

/// Flotilla's daemon: runs this host's share of the cluster's units through systemd
#[derive(Parser)]
#[command(version, after_help = "Every key of the file can be given as FLEET_<KEY> in the environment, which wins.")]
struct Arguments {
    /// Read this configuration instead of /etc/fleet/fleet.conf
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Be the whole cluster: keep the state on this host, without etcd
    #[arg(long)]
    standalone: bool,
}

#[expect(clippy::print_stderr, reason = "the last word of a daemon that could not start")]
fn main() -> ExitCode {
    let Arguments { config, standalone } = Arguments::parse();
    match run(&Overrides { file: config, standalone }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fleetd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// One thread: nothing here computes for long, and a daemon on every host should be small.
#[tokio::main(flavor = "current_thread")]
async fn run(overrides: &Overrides) -> anyhow::Result<()> {
    let settings = config::load(overrides)?;
    telemetry::init(settings.verbosity);
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    daemon::run(settings, async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
    })
    .await
}
